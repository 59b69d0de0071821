"""docs/python.md runs as it stands, from its first line on."""

import re
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import wsss
from wsss.artifacts import read_label_png
from wsss.outside import GROUP
from wsss.registry import REFINERS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGE = (ROOT / "docs/python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def folder(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project, with two photographs and the mask of one; the current folder."""
    root = tmp_path / "project"
    for name in ("models", "reports", "data/splits"):
        shutil.copytree(project / name, root / name)
    shutil.copy(project / "params.yaml", root)
    for name, known in (("cat", "first"), ("dog", "third")):
        image = Image.open(project / f"data/images/{known}.png")
        image.save(root / f"{name}.jpg")
    (root / "truth").mkdir()
    shutil.copy(project / "data/masks/first.png", root / "truth/cat.png")
    monkeypatch.chdir(root)
    monkeypatch.setattr(REFINERS, "_entries", dict(REFINERS._load()))
    return root


def test_the_first_five_lines(folder: Path) -> None:
    readme = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert readme[0] == BLOCKS[0]
    for block in readme[1:]:
        exec(block, {})
    lines = [line for line in BLOCKS[0].splitlines() if line]
    assert len(lines) == 5
    exec(BLOCKS[0], {})
    mask = read_label_png(folder / "cat.png")
    assert mask.shape == (48, 64) and set(np.unique(mask)) <= {0, 1}


def test_every_block_runs_after_those_before_it(folder: Path) -> None:
    names: dict[str, object] = {"__name__": "page"}
    for block in BLOCKS:
        exec(block, names)
    assert (folder / "dog.npz").exists()
    own, sharp = names["own"], names["sharp"]
    assert isinstance(own, wsss.Maps) and isinstance(sharp, wsss.Maps)
    plain = wsss.refine("dog.jpg", own, "pamr")
    np.testing.assert_allclose(sharp.scores.scores, plain.scores.scores**3, rtol=1e-5)


def test_the_distribution_on_the_page_is_one() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    project = tomllib.loads(text)["project"]
    assert list(project["entry-points"]) == [GROUP]


@pytest.mark.parametrize("name", [name for name in wsss.__all__ if name.islower()])
def test_each_function_is_in_the_table(name: str) -> None:
    assert len(re.findall(rf"^\| `{name}\(", PAGE, re.MULTILINE)) == 1
