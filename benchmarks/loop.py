"""The loop from tags to better masks, with ground truth in the place of the person who corrects.

    python benchmarks/loop.py FOLDER [--recipe voc_animals_best] [--set KEY=VALUE ...]
        [--audit 40] [--correct 100]

A project is made in FOLDER, and everything is done by the commands of the README: the stages; an
audit of the predictions on val; corrections of the pseudo masks that `wsss suggest` names; the
stages again; the same images of val, corrected once more, audit the new predictions. A run that was
stopped goes on where it was.

Masks of the data set play the person: they are written over the masks of an export, which is then
imported. The tables tell what the audit says beside the score on all images of val, and what it
cost: minutes of computing, and those that a person takes by the settings of `suggest`.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image

from wsss.artifacts import Manifest, Paths, read_json, read_label_png, write_json
from wsss.config.params import load_params

PERSON = "ground truth"


class Loop:
    """A project, and what has been done there."""

    def __init__(self, root: Path, recipe: str, settings: list[str]) -> None:
        self.root, self.paths, self.notes = root, Paths(root), root / "loop.json"
        if not (root / "params.yaml").exists():
            self._wsss("init", str(root), "--no-git", "--no-dvc", at=Path())
            changes = [part for text in settings for part in ("--set", text)]
            self._wsss("recipe", "apply", recipe, *changes)
        self.done: dict[str, Any] = read_json(self.notes) if self.notes.exists() else {}

    def step(self, name: str, run: Any) -> Any:
        """Do what is not done, and note what it gave and how many minutes it took."""
        if name not in self.done:
            began = time.perf_counter()
            gave = run()
            minutes = (time.perf_counter() - began) / 60
            self.done[name] = {"gave": gave, "minutes": minutes}
            write_json(self.notes, self.done)
        return self.done[name]["gave"]

    def stages(self) -> dict[str, float]:
        """Run what there is to run; the IoU of each class on all of val."""
        self._wsss("run")
        found: dict[str, float] = read_json(self.paths.report("evaluate_segmenter"))["val"]["iou"]
        return found

    def correct(self, of: str, names: list[str], export: str) -> int:
        """Export masks, draw the true ones over them, and import these."""
        folder = self.root / export
        shutil.rmtree(folder, ignore_errors=True)
        listed = self.root / f"{export}.txt"
        listed.write_text("\n".join(names) + "\n", encoding="utf-8")
        common = ("--to", "voc_png", "--of", of, "--images", listed.name)
        self._wsss("annotations", "export", export, *common)
        for file in (folder / "SegmentationClass").rglob("*.png"):
            name = file.relative_to(folder / "SegmentationClass").with_suffix("").as_posix()
            true = Image.fromarray(read_label_png(self.paths.masks / f"{name}.png"))
            with Image.open(file) as drawn:
                true.putpalette(drawn.getpalette() or [])
            true.save(file)
        self._wsss("annotations", "import", export, "--accept", "--who", PERSON)
        return len(names)

    def audited(self) -> dict[str, Any]:
        """What the audit says."""
        self._wsss("audit", "score")
        found: dict[str, Any] = read_json(self.root / "reports/audit.json")["audits"][0]
        return found

    def drawn(self, count: int) -> list[str]:
        """The images of val to correct."""
        self._wsss("audit", "draw", "--images", str(count))
        return (
            (self.root / "audits/predictions-val.txt").read_text(encoding="utf-8").split("\n")[:-1]
        )

    def suggested(self, count: int) -> list[str]:
        """Images whose pseudo masks to correct first."""
        hours = (count + 1) * self.seconds / 3600
        self._wsss("suggest", "--hours", f"{hours:.3f}", "--only", "mask")
        rows = json.loads((self.root / "reports/suggest.json").read_text(encoding="utf-8"))
        return [row["image"] for row in rows["items"]][:count]

    @property
    def seconds(self) -> float:
        """That a mask takes."""
        return load_params(self.root / "params.yaml").suggest.seconds.mask

    def _wsss(self, *arguments: str, at: Path | None = None) -> None:
        print("wsss", *arguments, flush=True)
        command = [sys.executable, "-m", "wsss", *arguments]
        subprocess.run(command, cwd=self.root if at is None else at, check=True)


def main() -> None:
    """Go once around and print what it gave."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--recipe", default="voc_animals_best")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--audit", type=int, default=40)
    parser.add_argument("--correct", type=int, default=100)
    options = parser.parse_args()
    loop = Loop(options.folder.absolute(), options.recipe, options.set)
    before = loop.step("stages", loop.stages)
    to_audit = loop.step("draw", lambda: loop.drawn(options.audit))
    loop.step("audit", lambda: loop.correct("predictions", to_audit, "to_audit"))
    first = loop.step("score", loop.audited)
    to_correct = loop.step("suggest", lambda: loop.suggested(options.correct))
    loop.step("correct", lambda: loop.correct("pseudo_masks", to_correct, "to_correct"))
    after = loop.step("stages again", loop.stages)
    second = loop.step("score again", loop.audited)

    images = sum(map(len, Manifest.read(loop.paths.splits).splits.values()))
    print(f"\n{options.recipe}, {images} images\n")
    print("| predictions on val | audit of | says | 95 % interval | over all of val | within |")
    print("|---|---:|---:|---|---:|---|")
    for name, scores, audit in (("before", before, first), ("after", after, second)):
        held, truth = audit["mean_iou"], [scores[one] for one in audit["mean_over"]]
        true = sum(truth) / len(truth)
        low, high = held["low"], held["high"]
        within = "yes" if low <= true <= high else "no"
        print(
            f"| {name} {options.correct} corrections | {audit['audited']} images "
            f"| {held['value']:.3f} | {low:.3f} to {high:.3f} | {true:.3f} | {within} |"
        )
    print("\n| step | minutes |\n|---|---:|")
    for name, note in loop.done.items():
        print(f"| {name} | {note['minutes']:.1f} |")
    masks = len(to_audit) + len(to_correct)
    print(f"| a person, {masks} masks of {loop.seconds:g} s | {masks * loop.seconds / 60:.0f} |")


if __name__ == "__main__":
    main()
