"""Every stage beside the least that it could take on this machine.

    python benchmarks/floors.py [--data photographs painted] [--images 64] [--repeats 3]
        [--stages generate_cams refine_cams@best ...]

A project is made, and each stage runs in a process of its own, as with DVC, and once more with its
floating-point operations counted. The floor of an image is the time of the network's operations at
the rate at which this machine multiplies matrices around then, and that of its files: reading what
the stage reads of an image and writing what it writes, with the functions that stages use, shared
by all cores. What a refiner computes has no part in it; `benchmarks/refine.py` has floors of these.

Shown are for each stage the time of an image (while images are worked on, warming up included), its
floor, of which the network is a part, how much of the time the floor is, the share of the time that
was spent waiting for images to be loaded, the seconds from the start of the process to the first
image and from the last one to its end, and the most memory that the process had. Medians of
--repeats runs.

Photographs are brought to 500 x 375, from $WSSS_SHARED, with the recipe voc_animals_best; the
painted ones are those of params.yaml.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from PIL import Image

from wsss.artifacts import (
    Manifest,
    read_image,
    read_label_png,
    read_score_map,
    write_label_png,
    write_score_map,
)
from wsss.config.params import Params, load_params
from wsss.cores import usable_cores
from wsss.pipeline.graph import Target
from wsss.stages import find_stages

VOC = "data/voc_animals/VOCdevkit/VOC2012"
SIZE = (500, 375)
LISTS = "ImageSets/Segmentation"
SETTINGS = {
    "photographs": {
        "train_teachers.ccam.epochs": "1",
        "train_classifier.epochs": "1",
        "train_segmenter.epochs": "1",
        "train_segmenter.images_per_epoch": "{images}",
        "predict_masks.splits": "[train, selection, val]",
    },
    "painted": {
        "prepare_data.dataset.num_train": "{images}",
        "prepare_data.dataset.num_val": "{val}",
        "train_classifier.epochs": "1",
        "train_segmenter.epochs": "1",
        "predict_masks.splits": "[train, selection, val]",
    },
}
RECIPES = {"photographs": "voc_animals_best", "painted": "synthetic_cam"}
COLUMNS = ("ms", "floor", "network", "share", "waits", "start, s", "end, s", "MB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", nargs="+", choices=sorted(RECIPES), default=sorted(RECIPES)[::-1])
    parser.add_argument("--images", type=int, default=64, help="of train; a quarter as many of val")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--stages", nargs="+", help="all by default; what they need runs as well")
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)  # a stage, here, and its note
    arguments = parser.parse_args()
    if arguments.run:
        run_noted(arguments.run[0], Path(arguments.run[1]), count=arguments.run[2] == "count")
        return
    print(f"{usable_cores()} cores\n")
    for data in arguments.data:
        if data == "photographs" and not (shared() / VOC).is_dir():
            print("photographs: $WSSS_SHARED names none, so that they were not measured\n")
            continue
        with tempfile.TemporaryDirectory() as name:
            root = project(Path(name), data, arguments.images)
            rates = table(root, data, arguments.repeats, arguments.stages)
        low, high = min(rates) / 1e9, max(rates) / 1e9
        print(f"matrix products of float32 ran at {low:.0f} to {high:.0f} GFLOP/s\n")


def shared() -> Path:
    return Path(os.environ.get("WSSS_SHARED", "/nowhere"))


def matrix_rate() -> float:
    """Operations a second of this machine's matrix products."""
    import torch

    side = 1536
    a, b = torch.rand(2, side, side)
    times = []
    for _ in range(7):
        began = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - began)
    return 2 * side**3 / min(times)


def project(folder: Path, data: str, images: int) -> Path:
    """A project with few images of one kind."""
    root, count = folder / "project", {"images": images, "val": max(1, images // 4)}
    settings = {key: value.format(**count) for key, value in SETTINGS[data].items()}
    if data == "photographs":
        settings["prepare_data.dataset.root"] = str(few_photographs(folder / "voc", **count))
    command = Path(sys.executable).with_name("wsss")
    quiet = {"stdout": subprocess.DEVNULL, "check": True}
    subprocess.run([command, "init", root, "--no-git", "--no-dvc"], **quiet)
    subprocess.run(
        [command, "recipe", "apply", RECIPES[data], "--set", "machine.accelerator=cpu"]
        + [part for key, value in settings.items() for part in ("--set", f"{key}={value}")],
        cwd=root,
        **quiet,
    )
    return root


def few_photographs(root: Path, images: int, val: int) -> Path:
    """A part of VOC's photographs, those of one shape, brought to one size."""
    source, wanted = (shared() / VOC).resolve(), {"train_aug": images, "val": val}
    place = root / "VOCdevkit/VOC2012"
    (place / LISTS).mkdir(parents=True)
    for item in source.iterdir():
        if item.is_file():
            shutil.copyfile(item, place / item.name)
        elif item.name != "ImageSets":
            (place / item.name).mkdir()
    for name, count in wanted.items():
        found = []
        for line in (source / LISTS / f"{name}.txt").read_text().split():
            photograph, mask = f"JPEGImages/{line}.jpg", f"SegmentationClassAug/{line}.png"
            with Image.open(source / photograph) as image:
                if image.width * SIZE[1] != image.height * SIZE[0]:
                    continue
                image.resize(SIZE, Image.Resampling.LANCZOS).save(place / photograph, quality=95)
            with Image.open(source / mask) as image:
                image.resize(SIZE, Image.Resampling.NEAREST).save(place / mask)
            found.append(line)
            if len(found) == count:
                break
        (place / LISTS / f"{name}.txt").write_text("\n".join(found) + "\n")
    return root


def table(root: Path, data: str, repeats: int, stages: list[str] | None) -> list[float]:
    """Run the stages of a project, and print what they took.

    Returns:
        The rates of matrix products, before the first stage and after each.
    """
    params, pipeline = load_params(root / "params.yaml"), find_stages()
    targets = pipeline.targets(params)
    if stages:
        wanted = [pipeline.target(name, params) for name in stages]
        needed = {item.name for one in wanted for item in pipeline.upstream(one, params)}
        targets = [item for item in targets if item.name in needed]
    print(f"{data:28}" + "".join(f"{title:>10}" for title in COLUMNS), flush=True)
    rates = [matrix_rate()]
    for target in targets:
        if target.stage.unwanted(params):
            continue
        notes = [noted(root, target, params) for _ in range(repeats)]
        rates.append(matrix_rate())  # a machine that is shared is not as fast all the time
        rate = (rates[-2] + rates[-1]) / 2
        counted = noted(root, target, params, count=True)
        if stages and target.name not in stages:
            continue
        row = {key: statistics.median(note[key] for note in notes) for key in notes[0]}
        done = row["images"]
        if not done:
            print(f"{target.name:28}{'':50}{row['start']:10.1f}{row['end']:10.1f}{row['mb']:10.0f}")
            continue
        each = 1000 * row["seconds"] / done
        network = 1000 * counted["flops"] / max(counted["images"], 1) / rate
        floor = network + 1000 * files(root, target, params) / usable_cores()
        print(
            f"{target.name:28}{each:10.1f}{floor:10.1f}{network:10.1f}{floor / each:10.0%}"
            f"{row['waited'] / row['seconds']:10.0%}{row['start']:10.1f}{row['end']:10.1f}"
            f"{row['mb']:10.0f}",
            flush=True,
        )
    return rates


def noted(root: Path, target: Target, params: Params, *, count: bool = False) -> dict[str, float]:
    """Run a stage anew in a process of its own; what it noted."""
    for out in target.outs(params):
        shutil.rmtree(root / out, ignore_errors=True)
    note, began = root / "note.json", time.time()
    done = subprocess.run(
        [sys.executable, __file__, "--run", target.name, note, "count" if count else ""],
        cwd=root,
        env=os.environ | {"BEGAN": str(began)},
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{target.name} failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(note.read_text())
    found["end"] = time.time() - found.pop("ended")
    return found


def run_noted(stage: str, note: Path, *, count: bool) -> None:
    """Run a stage here, as `python -m wsss.stages` does, and note how long its parts took.

    The images are those of the progress bar that took the most time, of all bars of its kind.
    """
    from wsss import progress
    from wsss.pipeline.execute import main as run

    began = float(os.environ["BEGAN"])
    spent: dict[str, list[float]] = {}  # by kind of bar: seconds, images, operations
    first, last, waited = time.time(), time.time(), [0.0]
    bar_of = progress._bar

    @contextmanager
    def bar_noted(description: str, *arguments: Any, **named: Any) -> Iterator[Any]:
        nonlocal first, last
        if not spent:
            first = time.time()
        if "torch" in sys.modules:
            note_waiting(waited)
        kind = spent.setdefault(re.sub(r"\d+", "", description), [0.0, 0.0, 0.0])
        entered, counted = time.time(), counter.get_total_flops() if count else 0
        with bar_of(description, *arguments, **named) as bar:
            yield bar
        last = time.time()
        kind[0] += last - entered
        kind[1] += bar.done
        kind[2] += counter.get_total_flops() - counted if count else 0

    progress._bar = bar_noted
    counter: Any = nullcontext()
    if count:
        counter = operations()
    with counter:
        run(find_stages(), stage.split("@"))
    none = "", [0.0, 0.0, 0.0]
    kind, (seconds, images, flops) = max(spent.items(), key=lambda one: one[1][0], default=none)
    if kind.startswith("epoch"):  # whose bar counts steps
        params = load_params("params.yaml")
        trained = params.train_segmenter if stage == "train_segmenter" else params.train_classifier
        images *= trained.batch_size
    if not images:
        first = time.time()
    status = Path("/proc/self/status").read_text()
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    note.write_text(
        json.dumps(
            {
                "start": first - began,
                "seconds": seconds,
                "images": images,
                "waited": waited[0],
                "flops": flops,
                "ended": last if images else time.time(),
                "mb": int(peak) / 1024,
            }
        )
    )


def operations() -> Any:
    """Counts the floating-point operations of networks, those of fused convolutions as well."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

    def fused(x: Any, w: Any, *rest: Any, out_shape: Any, **named: Any) -> int:
        return conv_flop_count(x, w, out_shape)

    def backward(given: Any, x: Any, w: Any, *rest: Any, out_shape: Any, **named: Any) -> int:
        # PyTorch's own count takes the convolutions of groups for full ones
        *_, transposed, _, _, wanted = rest
        return conv_flop_count(x, w, given, transposed) * sum(wanted[:2])

    mapping = {
        torch.ops.mkldnn._convolution_pointwise: fused,
        torch.ops.aten.convolution_backward: backward,
    }
    return FlopCounterMode(display=False, custom_mapping=mapping)


def note_waiting(waited: list[float]) -> None:
    """Add up the time in which loaders are asked for images."""
    from torch.utils.data.dataloader import _BaseDataLoaderIter

    ask = _BaseDataLoaderIter.__next__
    if ask.__name__ == "asked":
        return

    def asked(loader: Any) -> Any:
        began = time.perf_counter()
        try:
            return ask(loader)
        finally:
            waited[0] += time.perf_counter() - began

    _BaseDataLoaderIter.__next__ = asked


def files(root: Path, target: Target, params: Params) -> float:
    """Seconds of a core in which what a stage reads and writes of an image is read and written."""
    number = len(Manifest.read(root / "data/splits").all_samples())
    total = 0.0
    for folder in target.inputs(params):
        total += sum(reading(kind, path)[0] for kind, path in some(root / folder))
    for folder in target.outs(params):
        total += sum(writing(kind, path) for kind, path in some(root / folder))
    return total / number


def some(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files of images in a folder, and what they are."""
    kind = {"images": "image", "masks": "mask", "pseudo_masks": "mask", "predictions": "mask"}
    maps = ("cams", "further_cams", "refined")
    top = folder.parts[folder.parts.index("data") + 1] if "data" in folder.parts else ""
    for path in sorted(folder.rglob("*")):
        if top in kind and path.suffix in (".jpg", ".png"):
            yield kind[top], path
        elif top in maps and path.suffix == ".npz":
            yield "map", path


READ: dict[str, Callable[[Path], Any]] = {
    "image": read_image,
    "mask": read_label_png,
    "map": read_score_map,
}
WRITE: dict[str, Callable[[Path, Any], None]] = {"mask": write_label_png, "map": write_score_map}


def reading(kind: str, path: Path) -> tuple[float, Any]:
    """Seconds to read a file, and what it holds."""
    began = time.perf_counter()
    held = READ[kind](path)
    return time.perf_counter() - began, held


def writing(kind: str, path: Path) -> float:
    """Seconds to write what a file holds; prepared images keep their bytes."""
    again = path.with_name("again.tmp")
    held = None if kind == "image" else reading(kind, path)[1]
    began = time.perf_counter()
    if kind == "image":
        shutil.copyfile(path, again)
    else:
        WRITE[kind](again, held)
    wrote = time.perf_counter() - began
    again.unlink()
    return wrote


if __name__ == "__main__":
    main()
