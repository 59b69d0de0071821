"""The notebooks run as they stand, and what they show is stored in them."""

import base64
import importlib.util
import io
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.timeout(1800)  # of a machine with much else to do

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("examples_run", ROOT / "examples/run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def outputs(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return [output for cell in cells for output in cell["outputs"]]


def pictures(notebook: dict[str, Any]) -> list[Image.Image]:
    found = [
        output["data"]["image/png"]
        for output in outputs(notebook)
        if "image/png" in output.get("data", {})
    ]
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in found]


def test_there_are_two() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["maps_to_masks", "own_folder"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_stored_with_what_it_shows(path: Path) -> None:
    notebook = runner().read(path)
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert all(cell["outputs"] or "=" in "".join(cell["source"]) for cell in code)
    assert path.stat().st_size < 1_000_000
    assert len(pictures(notebook)) >= 3
    assert all(min(picture.size) > 60 for picture in pictures(notebook))
    text = json.dumps([output for output in outputs(notebook) if "text" in output])
    assert not re.search(r"/(tmp|home|root|Users|work)/|Traceback|warning", text, re.IGNORECASE)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and a machine without a network."""
    monkeypatch.chdir(tmp_path)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("HF_HUB_OFFLINE", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def test_maps_become_masks_of_the_things(here: Path) -> None:
    """Maps, and masks still more, lie in the coarse boxes that no training has seen."""
    run = runner()
    names = run.run(run.read(ROOT / "examples/maps_to_masks.ipynb"))
    inside = {}
    for name, mask in zip(names["names"], names["masks"], strict=True):
        left, top, right, bottom = names["boxes"][name]
        height, width = mask.labels.shape
        there = mask[name]
        rows, columns = (
            slice(int(top * height), int(bottom * height)),
            slice(int(left * width), int(right * width)),
        )
        inside[name] = there[rows, columns].sum() / max(1, there.sum())
        assert there.mean() > 0.01, f"nothing of the {name} was found"
    assert min(inside.values()) > 0.5, inside
    shares = [np.mean(mask.labels > 0) for mask in names["masks"]]
    assert shares[1] < shares[0] and shares[1] < shares[2]  # the rocket is thin


def test_a_folder_becomes_a_segmenter(here: Path) -> None:
    run = runner()
    notebook = run.read(ROOT / "examples/own_folder.ipynb")
    names = run.run(notebook)
    assert names["scores"].mean_iou > 0.4  # a guess of background alone has a third of some 0.7
    assert set(names["found"].tags) <= {"ball", "tile"} and names["found"].tags
    printed = "".join("".join(output.get("text", ())) for output in outputs(notebook))
    scores = [float(text) for text in re.findall(r"mean IoU (\d\.\d\d)", printed)]
    assert len(scores) == 4 and min(scores[:3]) > 0.4


def test_a_cell_that_fails_says_which(here: Path) -> None:
    run = runner()
    cells = [
        {"cell_type": "code", "source": [text], "outputs": []} for text in ("x = 1", "!exit 3")
    ]
    with pytest.raises(RuntimeError, match="exit 3 ended with exit code 3") as told:
        run.run({"cells": cells})
    assert "code cell 2" in told.value.__notes__[0]


def test_what_a_cell_shows_is_its_last_line_and_what_it_prints(here: Path) -> None:
    run = runner()
    source = ["print('a')\n", "!echo b\n", "import numpy as np\n", "1 + 1"]
    notebook = {"cells": [{"cell_type": "code", "source": source, "outputs": []}]}
    run.run(notebook)
    printed, value = notebook["cells"][0]["outputs"]
    assert printed["text"] == ["a\n", "b\n"] and value["data"] == {"text/plain": ["2"]}
