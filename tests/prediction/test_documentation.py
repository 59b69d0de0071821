"""What docs/predict.md shows does what it says, with a network that knows colours."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from wsss.artifacts import read_label_png
from wsss.cli.app import app

PAGE = (Path(__file__).parents[2] / "docs/predict.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines()]
(CODE,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
COLOURS = np.array([[0, 0, 255], [255, 0, 0], [0, 255, 0]], np.uint8)
MADE = {
    "masks": {"a", "b", "large", "x/c"},
    "fast": {"a", "b", "large", "x/c"},
    "windows": {"large"},
    "some": {"a", "b"},
    "pattern": {"a", "b", "c", "large"},
    "listed": {"a", "b", "c", "large"},
    "bands": {"m"},
    "frames": {"clip/000000", "clip/000005", "clip/000010"},
    "tagged": {"a", "b", "large", "x/c"},
    "cats": {"a", "b", "large", "x/c"},
    "all": {"a", "b", "large", "x/c", "map"},
}
"""The masks that each command makes, by its folder."""


@pytest.fixture(scope="module")
def place(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with what the page speaks of."""
    root = tmp_path_factory.mktemp("place")
    shutil.copytree(project, root, dirs_exist_ok=True)
    spec = root / "models/segmenter/model.json"
    spec.write_text(spec.read_text().replace('"red"', '"cat"').replace('"green"', '"dog"'))
    rng = np.random.default_rng(0)
    for name, size in {"a": (32, 64), "b": (64, 32), "x/c": (32, 32), "large": (96, 160)}.items():
        path = root / f"photos/{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        mask = rng.integers(0, 3, (size[0] // 8, size[1] // 8)).repeat(8, axis=0).repeat(8, axis=1)
        Image.fromarray(COLOURS[mask]).save(path, quality=100, subsampling=0)
    (root / "tags.csv").write_text("image,tags\na.jpg,cat\nb.jpg,dog\nx/c.jpg,none\n")
    (root / "maps").mkdir()
    extra = [(33550, "d", 3, (1.0, 1.0, 0.0), True), (33922, "d", 6, (0.0,) * 6, True)]
    image = COLOURS[rng.integers(0, 3, (32, 32))]
    tifffile.imwrite(root / "maps/map.tif", image, photometric="rgb", extratags=extra)
    (root / "multispectral").mkdir()
    layers = rng.integers(0, 1001, (32, 32, 5)).astype(np.uint16)
    options: dict[str, Any] = {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(root / "multispectral/m.tif", layers, **options)
    (root / "clip.mp4").write_bytes(b"video")
    return root


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_make_the_masks_that_they_name(
    line: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr("wsss.prediction.reading.find_spec", lambda name: name)
    clip = [np.full((32, 32, 3), 20 * number, np.uint8) for number in range(12)]
    monkeypatch.setattr("imageio.v3.imiter", lambda path: iter(clip))
    before, _, command = line.rpartition(" | ")
    lines = subprocess.run(before, shell=True, capture_output=True, text=True).stdout
    # a registered model is opened in tests/serving
    words = shlex.split(command.replace("models:/wsss@champion", "models/segmenter"))
    assert words[:2] == ["wsss", "predict"]
    done = CliRunner().invoke(app, [*words[1:], "--device", "cpu"], input=lines)
    assert done.exit_code == 0, done.output
    out = Path(words[words.index("--out") + 1])
    masks = {path for path in out.rglob("*") if path.suffix in (".png", ".tif")}
    assert {path.relative_to(out).with_suffix("").as_posix() for path in masks} == MADE[out.name]
    assert f"{len(masks)} mask" in done.output


def test_every_command_is_run() -> None:
    assert {re.findall(r"--out (\w+)", line)[0] for line in COMMANDS} == MADE.keys()


def test_the_python_is_right(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    found: dict[str, Any] = {}
    exec(CODE, found)
    assert found["found"].mask.shape == (32, 64) and found["found"].probs.shape == (3, 32, 64)
    assert set(np.unique(found["found"].mask)) == {0, 1}
    CliRunner().invoke(app, ["predict", "models/segmenter", "photos/a.jpg", "--out", "by_command"])
    mask = found["model"].predict([found["image"]])[0].mask
    assert np.array_equal(read_label_png(Path("by_command/a.png")), mask)
