"""`wsss audit` from the draw to the report, and what it says where something is missing."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from wsss.artifacts import Audits, ExpectedPixels, Manifest, Paths, Sample, write_label_png
from wsss.cli.app import app
from wsss.pipeline.lock import is_report

SIZE, NAMES = (12, 16), ("cat", "dog")
PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """60 images of val, half of a cat and half of a dog, with masks and predictions."""
    rng, samples = np.random.default_rng(0), []
    for number in range(60):
        name, label = f"{number:02}", number % 2 + 1
        gt, mask = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
        height = int(rng.integers(3, 11))
        gt[:height, 2:12] = label
        mask[int(rng.integers(0, 3)) : height, 2:12] = label
        pixels = np.bincount(mask.ravel(), minlength=3)
        write_label_png(tmp_path / f"true/{name}.png", gt)
        expected = ExpectedPixels.of(pixels, pixels * 0.8)
        write_label_png(tmp_path / f"data/predictions/val/{name}.png", mask, expected)
        write_label_png(tmp_path / f"other/{name}.png", gt if number % 3 else mask, expected)
        samples.append(Sample(name, f"{name}.png", SIZE, (label,)))
    splits = {"train": (), "selection": (), "val": tuple(samples)}
    Manifest(NAMES, splits).write(Paths(tmp_path).splits)
    shutil.copy(PARAMS, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["audit", *arguments])


def correct(project: Path, number: int) -> None:
    """A person corrects so many of the drawn images, in their order."""
    for name in (project / "audits/predictions-val.txt").read_text().split()[:number]:
        (project / "corrected").mkdir(exist_ok=True)
        shutil.copy(project / f"true/{name}.png", project / "corrected")


def test_from_a_draw_to_the_report(project: Path) -> None:
    done = run("draw", "--images", "20")
    assert done.exit_code == 0, done.output
    assert "predictions-val: 20 of 60 images are drawn" in done.output
    assert "audits/predictions-val.txt in that order" in done.output.replace("\\", "/")
    correct(project, 20)
    done = run("score", "--masks", "corrected")
    assert done.exit_code == 0, done.output
    assert "20 of 60 images corrected" in done.output and "over 3 classes" in done.output
    (entry,) = json.loads((project / "reports/audit.json").read_text())["audits"]
    assert entry["of"] == "predictions" and entry["split"] == "val"
    assert (entry["images"], entry["audited"]) == (60, 20)
    assert {*entry["classes"]} == {"background", "cat", "dog"}
    for found in (entry["mean_iou"], *entry["classes"].values()):
        assert 0 <= found["low"] < found["value"] < found["high"] <= 1
    further = entry["next_20"]
    assert entry["mean_iou"]["low"] < further["low"] < further["high"] < entry["mean_iou"]["high"]
    done = run("draw", "--images", "30")
    assert "30 of 60 images are drawn, 10 of them new" in done.output


def test_without_a_draw_and_without_corrections_there_is_no_interval(project: Path) -> None:
    done = run("score")
    assert done.exit_code == 1 and "no audit is drawn" in done.output
    assert not (project / "reports/audit.json").exists()
    run("draw", "--images", "20")
    done = run("score")
    assert done.exit_code == 0
    assert "no interval: 0 of 20 drawn images are corrected" in done.output
    report = json.loads((project / "reports/audit.json").read_text())
    assert report["audits"] == []
    (entry,) = report["without_interval"]
    assert "comes next" in entry["reason"]


def test_scoring_one_audit_keeps_what_another_has_found(project: Path) -> None:
    run("draw", "--images", "20")
    correct(project, 20)
    run("score", "--masks", "corrected")
    run("draw", "--images", "20", "--name", "cats", "--class", "cat")
    done = run("score", "cats")
    assert done.exit_code == 0, done.output
    report = json.loads((project / "reports/audit.json").read_text())
    assert [entry["name"] for entry in report["audits"]] == ["predictions-val"]
    assert [entry["name"] for entry in report["without_interval"]] == ["cats"]


def test_an_audit_that_has_ended_keeps_no_other_from_telling(project: Path) -> None:
    run("draw", "--images", "20")
    correct(project, 20)
    run("draw", "--images", "30", "--name", "ended")
    record = project / "audits/ended.jsonl"
    record.write_text(record.read_text().replace('"00"', '"gone"'))
    done = run("score", "--masks", "corrected")
    assert done.exit_code == 0, done.output
    assert "20 of 60 images corrected" in done.output
    assert "ended: no interval: the images of 'val' are not those" in done.output
    report = json.loads((project / "reports/audit.json").read_text())
    assert [entry["name"] for entry in report["audits"]] == ["predictions-val"]
    assert [entry["name"] for entry in report["without_interval"]] == ["ended"]
    done = run("score", "ended", "--masks", "corrected")
    assert done.exit_code == 1 and "draw anew under another name" in done.output


def test_the_interval_is_of_the_masks_that_were_audited(project: Path) -> None:
    run("draw", "--images", "20")
    correct(project, 20)
    run("score", "--masks", "corrected")
    assert len(Audits.read(Paths(project)).standing) == 1
    write_label_png(project / "data/predictions/val/59.png", np.zeros(SIZE, np.uint8))
    found = Audits.read(Paths(project))
    assert not found.standing and "others by now" in found.without["predictions-val"]
    run("score", "--masks", "corrected")
    assert len(Audits.read(Paths(project)).standing) == 1


def test_comparing_two_folders(project: Path) -> None:
    run("draw", "--images", "40")
    correct(project, 40)
    folders = ("data/predictions/val", "other", "--name", "predictions-val")
    done = run("compare", *folders, "--masks", "corrected")
    assert done.exit_code == 0, done.output
    assert "other is better" in done.output and "difference +" in done.output
    done = run("compare", *folders, "--masks", "corrected", "--json")
    assert json.loads(done.output)["verdict"] == "better"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("draw", "--of", "prediction"), "--of must be one of predictions, pseudo_masks; did you"),
        (("draw", "--images", "61"), "61 images cannot be drawn from a set of 60"),
        (("draw", "--class", "cow"), "there is no class 'cow'"),
        (("draw", "--name", "a/b"), "'a/b' cannot be the name of a file"),
        (("draw", "--split", "vall"), "there is no split 'vall'; did you mean 'val'?"),
        (("draw", "--of", "pseudo_masks"), "the split 'train' has no images to audit"),
        (("score", "mine"), "no audit is drawn"),
        (("compare", "a", "b", "--name", "c"), "no audit is called 'c'; draw images with"),
    ],
)
def test_what_cannot_be_done_is_one_message(
    project: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = run(*arguments)
    assert done.exit_code == 1
    assert message in done.output
    assert not (project / "audits").exists()


def test_a_draw_that_is_there_is_not_made_another(project: Path) -> None:
    run("draw", "--images", "20")
    before = (project / "audits/predictions-val.jsonl").read_bytes()
    for arguments, message in (
        (("--images", "10"), "a draw only grows"),
        (("--class", "cat"), "was drawn for the classes background, cat, dog"),
    ):
        done = run("draw", *arguments)
        assert done.exit_code == 1 and message in done.output
    assert (project / "audits/predictions-val.jsonl").read_bytes() == before


def test_the_report_is_none_of_a_stage() -> None:
    assert not is_report("reports/audit.json")
    assert is_report("reports/audit_of_mine.json")
