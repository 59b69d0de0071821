"""`wsss segment`: one command from tags to masks, which goes on where it was stopped."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from wsss.artifacts import read_label_png
from wsss.cli.app import app
from wsss.config.params import Params, load_params
from wsss.project import whole
from wsss.project.duration import Rates, estimate, in_words


def wsss(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


@pytest.mark.timeout(1800)  # half a minute, on a machine that does nothing else
def test_masks_of_all_images_come_of_one_command(
    layouts: dict[str, Callable[[Path], Any]],
    tiny: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    made = layouts["a table of tags"](tmp_path / "data")
    Image.open(made.root / "images/00.jpg").resize((1000, 600)).save(made.root / "images/00.jpg")
    command = ("segment", "data", "--tags", "data/tags.csv", "--out", "mine")
    chain = ("--set", "refine.chains={none: []}", "--set", "make_pseudo_masks.chain=none")
    planned = wsss(*command, "--weights", "none", "--dry-run", *tiny, *chain)
    assert "in all less than a minute" in planned and not Path("mine/data").exists()
    monkeypatch.chdir(tmp_path)
    told = wsss(*command)
    assert "24 masks" in told
    assert "0 background, 1 cat, 2 dog" in told
    assert "nothing is scored, as there are no masks" in told
    masks = tmp_path / "mine/masks"
    assert read_label_png(masks / "00.png").shape == (600, 1000)  # training had 512 x 307
    for at in range(24):
        found = set(np.unique(read_label_png(masks / f"{at:02}.png")))
        assert found <= {0, (1, 2, 0)[at % 3]}
    monkeypatch.chdir(tmp_path)
    ran: list[str] = []
    monkeypatch.setattr("wsss.pipeline.in_order.run_target", lambda _, target, *rest: ran.append(1))
    wsss(*command)
    assert ran == []


def test_what_a_project_that_is_there_does_not_take_is_refused(
    layouts: dict[str, Callable[[Path], Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No option and no file that came later is described and passed over."""
    monkeypatch.chdir(tmp_path)
    made = layouts["a table of tags"](tmp_path / "data")
    layouts["a table of tags"](tmp_path / "other")
    command = ("segment", "data", "--out", "my masks", "--dry-run")
    settings = tmp_path / "my masks/params.yaml"

    def again(*arguments: object, code: int = 0) -> str:
        monkeypatch.chdir(tmp_path)
        return " ".join(wsss(*command, *arguments, code=code).split())

    first = again("--weights", "none")
    before = settings.read_text()
    assert "no masks" in first and "no masks" in again() and "by the reader folder" in again()
    assert "no masks" in again("--weights", "none", "--tags", "data/tags.csv")
    assert "cd 'my masks' && wsss set" in again("--set", "machine.devices=1", code=1)
    assert "the weights none, which --weights does not" in again("--weights", "hub", code=1)
    made.write("../wolves.csv", (made.root / "tags.csv").read_text().replace("dog", "wolf"))
    assert "its tags from tags.csv, which --tags" in again("--tags", "wolves.csv", code=1)
    monkeypatch.chdir(tmp_path)
    assert "give another --out" in wsss("segment", "other", "--out", "my masks", code=1)
    for at in range(24):
        made.add(
            f"images/{at:02}.jpg", ("cat", "dog", "")[at % 3], f"masks/{at:02}.png", at % 3 + 1
        )
    told = again(code=1)
    assert settings.read_text() == before
    take, leave = re.findall(r"wsss set (\S+?)[,;]", told)
    assert (take, leave) == ("prepare_data.dataset.masks=masks", "prepare_data.dataset.masks=null")
    for setting, seen in ((leave, "no masks"), (take, "24 masks")):
        monkeypatch.chdir(settings.parent)
        wsss("set", setting)
        assert seen in again()


def test_what_is_wrong_with_the_data_stops_it_before_anything_is_learned(
    layouts: dict[str, Callable[[Path], Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = layouts["a table of tags"](tmp_path / "data")
    for at in range(8):
        made.write(f"images/{at:02}.jpg", "no image")
    told = wsss("segment", "data", "--out", "mine", "--weights", "none", code=1)
    assert "error: images: 8" in told
    assert not Path("mine/models").exists()


def test_an_estimate_grows_with_what_there_is_to_do() -> None:
    params, rates = Params(), Rates(1e-6, 4e-7)
    few = estimate(params, rates, 100, 200, (240, 320))
    many = estimate(params, rates, 200, 400, (240, 320))
    for stage, seconds in few.items():
        assert many[stage] == pytest.approx(2 * seconds)
    # 100 images x 6 epochs x 112^2 pixels at a microsecond
    assert estimate(load_params(), rates, 100, 200, (240, 320))["train_classifier"] == (
        pytest.approx(7.5264)
    )
    slow = estimate(params, Rates(2e-6, 8e-7), 100, 200, (240, 320))
    assert slow["train_classifier"] == pytest.approx(2 * few["train_classifier"])
    assert slow["refine_cams"] == few["refine_cams"]  # which the network has no part in
    assert in_words(3 * 3600) == "1 to 6 hours"


@pytest.mark.parametrize(("held", "wanted"), [(3, 9), (9, 3), (7, 7), (1, 5), (512, 1000)])
def test_enlarged_masks_keep_their_places(held: int, wanted: int) -> None:
    """As Pillow has it, which is somebody else's."""
    row = np.arange(held, dtype=np.int32)[None]
    theirs = np.asarray(Image.fromarray(row).resize((wanted, 1), Image.Resampling.NEAREST))[0]
    assert whole._nearest(held, wanted) == theirs.tolist()
