"""A project of photographs outside of the repository, from its start to its masks, with DVC.

Its wsss is a copy, which is changed afterwards as another version would be.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wsss
from wsss.artifacts import Manifest, Paths, read_json, read_label_png
from wsss.densecrf import _native

# what an editable installation adds would be found before PYTHONPATH
FIRST = """\
import sys
sys.meta_path[:] = [item for item in sys.meta_path if "Redirecting" not in type(item).__name__]
"""


class Project:
    def __init__(self, root: Path) -> None:
        self.code, self.root, self.data = root / "code", root / "mine", root / "data"
        package = self.code / "wsss"
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(Path(wsss.__file__).parent, package, ignore=ignored)
        shutil.copy(_native.__file__, package / "densecrf")
        repository = Path(__file__).parents[2]
        shutil.copytree(repository / "recipes", package / "recipes", dirs_exist_ok=True)
        shutil.copytree(repository / "csrc", package / "csrc", dirs_exist_ok=True)
        (self.code / "sitecustomize.py").write_text(FIRST)

    def run(self, *arguments: str, at: Path | None = None, code: int = 0) -> str:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        binaries = str(Path(sys.executable).parent)
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=at or self.root,
            env={
                **kept,
                "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
                "PYTHONPATH": str(self.code),
                "MLFLOW_DISABLE_TELEMETRY": "true",
                "DVC_NO_ANALYTICS": "1",
            },
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def ran(self) -> list[str]:
        """The stages that `dvc repro` runs now, but for those that look around each time."""
        told = self.run("dvc", "repro")
        names = re.findall("Running stage '(.+)'", told)
        return [name for name in names if name not in ("list_sources", "record_runs")]

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.code / "wsss" / file
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")


ONE_CHAIN = ["--set", "refine.chains={none: []}", "--set", "make_pseudo_masks.chain=none"]


@pytest.mark.timeout(1800)  # a minute, on a machine that does nothing else
def test_a_project_elsewhere(
    layouts: dict[str, Callable[[Path], Any]], tiny: list[str], tmp_path: Path
) -> None:
    project = Project(tmp_path)
    layouts["a sub-folder per class"](project.data)
    project.run(
        *("wsss", "init", str(project.root), "--from", str(project.data), "--weights", "none"),
        *("--no-git", *tiny, *ONE_CHAIN),
        at=tmp_path,
    )
    assert project.ran()[-1] == "report"
    paths = Paths(project.root)
    manifest = Manifest.read(paths.splits)
    for split, samples in manifest.splits.items():
        for sample in samples:
            mask = read_label_png(paths.predictions / split / f"{sample.name}.png")
            assert mask.shape == sample.size == (48, 56)
    assert 0 <= read_json(paths.report("evaluate_segmenter"))["val"]["mean_iou"] <= 1
    assert project.ran() == []
    assert "evaluate_segmenter/val/mean_iou" in project.run("wsss", "compare", "workspace")

    docstring = '"""Class activation maps of every image, for the classes it is tagged with.'
    project.edit("stages/generate_cams.py", docstring, '"""Maps, and where they come from.')
    assert "no stage runs again" in project.run("wsss", "doctor", "upgrade", "--write")
    assert project.ran() == []

    project.edit("stages/generate_cams.py", "\nSTAGE = ", "\nCHANGED = 1\nSTAGE = ")
    told = project.run("wsss", "doctor", "upgrade")
    assert re.findall(r"  (\w+) runs again: the code of (\S+) is another", told) == [
        ("generate_cams", "stages/generate_cams.py")
    ]
    assert project.ran() == []  # nobody has gone over to it
    refused = project.run("wsss.stages", "generate_cams", code=1)
    assert "wsss doctor upgrade --write" in refused.replace("\n", " ")
    project.run("wsss", "doctor", "upgrade", "--write")
    assert "CHANGED" not in project.run("wsss", "compare", "workspace")
    assert project.ran() == ["generate_cams"]  # with the same maps, so that nothing follows
