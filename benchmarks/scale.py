"""Time and memory of the stages on many images, whose files are packed.

    python benchmarks/scale.py [--images 20000 200000] [--folder scale] [--until STAGE]

Of each number of images a clone of this repository is made in a new folder, and small images of two
classes are drawn beside it, one in ten with a mask. Then `dvc repro make_pseudo_masks`, or another
stage, runs all stages up to there, as a user would; one image in ten is trained on, for one epoch.
Shown are for each stage its time, that of its cores, the images a second, and the most memory that
its process and, at one time, all its processes together had (Linux: resident, where pages that
several share count once for each); then a `dvc repro` with nothing to do, `dvc push` to a remote on
the same disk, and how many files data/ has. Settings are those that were committed, and the code is
that of the installed package.
"""

import argparse
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

REPOSITORY = Path(__file__).parents[1]
CLASSES = ("circle", "square")
COLOURS = ((220, 60, 40), (40, 90, 220))
SIDE = 32  # pixels
DIFFERENT = 2000  # images
POLL = 0.2  # seconds
SETTINGS = {
    "machine.accelerator": "cpu",
    "prepare_data.dataset": "{name: folder, root: ../raw, masks: masks, val: val.txt}",
    "prepare_data.pack_above": "1000",
    "train_classifier.backbone.model_name": "resnet10t",
    "train_classifier.backbone.last_stage": "2",
    "train_classifier.backbone.output_stride": "8",
    "train_classifier.augment.crop_size": "32",
    "train_classifier.augment.long_side": "[32, 40]",
    "train_classifier.eval_long_side": "32",
    "train_classifier.batch_size": "64",
    "train_classifier.epochs": "1",
    "generate_cams.scales": "[1.0]",
    "generate_cams.flip": "false",
    "generate_cams.batch_size": "64",
    "refine.chains": "{crf: [{name: dense_crf, n_iters: 3}]}",
    "make_pseudo_masks.threshold": "0.3",
}


@dataclass
class Watch:
    """What the processes of each stage took, looked at now and then while DVC runs."""

    root: int
    seconds: dict[str, float] = field(default_factory=dict)
    used: dict[str, dict[int, float]] = field(default_factory=dict)
    own: dict[str, int] = field(default_factory=dict)
    together: dict[str, int] = field(default_factory=dict)
    ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.ended.wait(POLL):
            at, found = time.perf_counter(), {}
            for pid in self._below(self.root):
                try:
                    command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
                    status = Path(f"/proc/{pid}/status").read_text()
                    stat = Path(f"/proc/{pid}/stat").read_text()
                except OSError:
                    continue
                if "wsss.stages" in command[:4]:
                    name = "@".join(filter(None, command[command.index("wsss.stages") + 1 :]))
                elif pid == self.root:
                    name = "dvc"
                else:
                    continue
                held = {line.split(":")[0]: line.split() for line in status.splitlines()}
                if "VmRSS" not in held:
                    continue
                ticks = stat.rpartition(")")[2].split()[11:13]
                used = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
                self.used.setdefault(name, {})[pid] = used
                found[name] = found.get(name, 0) + int(held["VmRSS"][1])
                self.own[name] = max(self.own.get(name, 0), int(held["VmHWM"][1]))
            for name, total in found.items():
                self.together[name] = max(self.together.get(name, 0), total)
                self.seconds[name] = self.seconds.get(name, 0) + POLL
            late = time.perf_counter() - at
            for name in found:
                self.seconds[name] += late

    def _below(self, pid: int) -> list[int]:
        found = [pid]
        for at in found:
            try:
                for task in Path(f"/proc/{at}/task").iterdir():
                    found += map(int, (task / "children").read_text().split())
            except OSError:
                continue
        return found


def draw(root: Path, count: int) -> None:
    """Noise with a circle or a square, in a folder for each class; the same again and again."""
    drawn: list[tuple[bytes, bytes]] = []
    scored = []
    for at in range(count):
        if at < DIFFERENT:
            drawn.append(drawing(at))
        image, mask = drawn[at % DIFFERENT]
        name = f"{CLASSES[at % len(CLASSES)]}/{at // 1000:04}_{at:07}.png"
        for folder, data in (("images", image), ("masks", mask)):
            if folder == "images" or at % 20 < len(CLASSES):  # of each class
                path = root / folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        if at % 20 not in (2, 3):  # one of each class is trained on
            scored.append(name)
    (root / "val.txt").write_text("\n".join(scored), encoding="utf-8")


def drawing(at: int) -> tuple[bytes, bytes]:
    """An image and its mask, as PNGs."""
    rng = np.random.default_rng(at)
    image = Image.fromarray(rng.integers(90, 160, (SIDE, SIDE, 3), np.uint8))
    mask = Image.new("L", (SIDE, SIDE))
    left, top = rng.integers(2, SIDE - 14, 2).tolist()
    kind = at % len(CLASSES)
    files = []
    for canvas, fill in ((image, COLOURS[kind]), (mask, kind + 1)):
        shape = ImageDraw.Draw(canvas)
        (shape.ellipse, shape.rectangle)[kind]((left, top, left + 11, top + 11), fill=fill)
        file = BytesIO()
        canvas.save(file, "PNG", compress_level=1)
        files.append(file.getvalue())
    return files[0], files[1]


def project(folder: Path) -> Path:
    """A clone with settings for small images, and a remote beside it."""
    place = folder / "project"
    subprocess.run(
        ["git", "clone", "-q", "--depth", "1", f"file://{REPOSITORY}", place], check=True
    )
    changes = [f"{key}={value}" for key, value in SETTINGS.items()]
    subprocess.run(
        [Path(sys.executable).with_name("wsss"), "set", *changes],
        cwd=place,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    dvc(place, "remote", "add", "-q", "-d", "local", str(folder / "remote"))
    return place


def dvc(place: Path, *arguments: str) -> Watch:
    """Run DVC in a project, and watch what it starts."""
    command = [sys.executable, "-m", "dvc", *arguments]
    with (place.parent / "log.txt").open("a") as log:
        process = subprocess.Popen(command, cwd=place, stdout=log, stderr=log)
        watch = Watch(process.pid)
        thread = threading.Thread(target=watch.run)
        started = time.perf_counter()
        thread.start()
        code = process.wait()
        watch.seconds["all"] = time.perf_counter() - started
        watch.ended.set()
        thread.join()
    if code:
        sys.exit(f"dvc {' '.join(arguments)} failed; see {place.parent / 'log.txt'}")
    return watch


def measure(folder: Path, count: int, until: str) -> None:
    """Print what one number of images takes."""
    started = time.perf_counter()
    draw(folder / "raw", count)
    print(f"{count} images, drawn in {time.perf_counter() - started:.0f} s", flush=True)
    place = project(folder)
    watch = dvc(place, "repro", "-q", until)
    print(f"{'':28}{'s':>8}{'CPU s':>8}{'images/s':>10}{'MB':>8}{'MB, all':>9}")
    for name, peak in watch.own.items():
        seconds = watch.seconds["all"] if name == "dvc" else watch.seconds[name]
        rate, together = count / seconds, watch.together[name]
        used = sum(watch.used[name].values())
        memory = f"{peak / 1024:8.0f}{together / 1024:9.0f}"
        print(f"{name:28}{seconds:8.1f}{used:8.1f}{rate:10.0f}{memory}", flush=True)
    for title, arguments in (
        ("repro, nothing to do", ("repro", "-q", until)),
        ("push", ("push", "-q")),
    ):
        print(f"{title:28}{dvc(place, *arguments).seconds['all']:8.1f}", flush=True)
    files = sum(len(names) for _, _, names in os.walk(place / "data"))
    print(f"{'files below data/':28}{files:8}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument(
        "--folder", type=Path, default=Path("scale"), help="which is made, and kept"
    )
    parser.add_argument("--until", default="make_pseudo_masks", help="the last stage that runs")
    arguments = parser.parse_args()
    for count in arguments.images:
        folder = arguments.folder.absolute() / str(count)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        measure(folder, count, arguments.until)


if __name__ == "__main__":
    main()
