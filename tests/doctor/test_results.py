"""`wsss doctor run` as a whole: what is looked at, what warnings mean, and the page."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from wsss.artifacts import write_json
from wsss.cli.app import app
from wsss.config.params import load_params, parse_params
from wsss.doctor.results import check_results
from wsss.pipeline.in_order import is_there
from wsss.pipeline.stage import setting_at
from wsss.stages import find_stages
from wsss.stages.findings.finding import Change, Shown
from wsss.stages.findings.warned import IMPLIED, KINDS, settings_named

ROOT = Path(__file__).parents[2]


def test_a_healthy_run_has_no_finding(run: Any) -> None:
    found = run.check()
    assert found.findings == ()
    assert {"train_classifier", "predict_masks", "evaluate_segmenter"} <= set(found.looked_at)
    assert found.missing == ("prepare_data", "refine_cams@none", "refine_cams@other")


def test_the_run_of_this_project_has_no_finding() -> None:
    """Its reports alone are committed."""
    found = check_results(ROOT, load_params(ROOT / "params.yaml"))
    assert found.findings == () and found.missing == ()


def test_only_the_stages_that_are_named_are_looked_at(run: Any) -> None:
    run.write_classifier({"sheep": 0.45})
    run.fill_masks()
    assert {item.name for item in run.check().findings} >= {"weak_classes", "no_background"}
    assert run.check().findings[0].severity == "fault"
    assert {item.about for item in run.check("train_classifier").findings} == {"train_classifier"}
    assert run.check("evaluate_refined").looked_at == (
        "evaluate_refined@none",
        "evaluate_refined@other",
    )
    with pytest.raises(ValueError, match=r"no stage is named 'refine'; did you mean 'refine_cams'"):
        run.check("refine")


def test_results_of_other_settings_are_named_as_such(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.fill_masks()
    pipeline, name = find_stages(), "make_pseudo_masks"
    target = pipeline.target(name, run.params)
    assert is_there(pipeline, target, run.params, run.root, made=lambda: [name])
    assert run.check().outdated == {}
    run.tree[name]["threshold"] = 0.7
    assert run.check().outdated.keys() == {name}
    assert run.check("train_classifier").outdated == {}
    (run.root / "params.yaml").write_text(yaml.safe_dump(run.tree))
    monkeypatch.chdir(run.root)
    said = CliRunner().invoke(app, ["doctor", "run", name, "--out", "page"]).output
    reason = run.check(name).outdated[name]
    assert f"results of other settings: {name}, as {reason}" in said.splitlines()
    assert said.splitlines()[0].endswith(" (results of other settings)")
    assert reason in (run.root / "page/index.html").read_text(encoding="utf-8")
    told = json.loads(CliRunner().invoke(app, ["doctor", "run", name, "--json"]).output)
    assert told["outdated"] == {name: reason}


def test_a_project_in_which_nothing_was_run(tmp_path: Path) -> None:
    found = check_results(tmp_path, parse_params({}))
    assert found.findings == found.looked_at == () and "train_classifier" in found.missing
    assert "make_proposals" not in found.missing  # there are none to make


def test_a_warning_of_another_wording_is_told_as_it_stands(run: Any) -> None:
    text = "3 of 9 things are odd; raise train_segmenter.epochs"
    run.change_report("train_segmenter", lambda report: report.update(warnings=[text]))
    (found,) = run.check("train_segmenter").findings
    assert (found.name, found.text, found.severity) == ("warned", text, "warning")
    assert found.changes == (Change("train_segmenter.epochs", "raise"),)
    assert found.numbers == {"bad": 3, "of": 9}


def test_the_warnings_of_every_evaluation_are_shown_by_what_it_scored(run: Any) -> None:
    run.tree["make_pseudo_masks"]["chain"] = "per_class"
    scored = {
        "evaluate_cams": ("scores", "data/cams"),
        "evaluate_refined@none": ("scores", "data/refined/none"),
        "evaluate_refined@other": ("scores", "data/refined/other"),
        "evaluate_refined_per_class": ("scores", "data/refined/per_class"),
        "evaluate_pseudo_masks": ("mask", "data/pseudo_masks"),
        "evaluate_segmenter": ("mask", "data/predictions/val"),
    }
    targets = find_stages().targets(run.params)
    assert scored.keys() == {target.name for target in targets if target.stage.evaluates}
    for name, (kind, folder) in scored.items():
        text = "the IoU of 'boat' is 0 on val"
        write_json(run.paths.report(name.replace("@", "_")), {"warnings": [text]})
        (found,) = (item for item in run.check(name).findings if item.text == text)
        assert found.shown == Shown(kind, run.root / folder)
        assert found.images and all(1 in run.sample(image).class_ids for image in found.images)


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("see train_classifier.epochs", {}),
        (
            "lower make_pseudo_masks.ignore_margin, ignore_below, ignore_below_prob or "
            "min_area_share",
            dict.fromkeys(
                (
                    "make_pseudo_masks.ignore_margin",
                    "make_pseudo_masks.ignore_below",
                    "make_pseudo_masks.ignore_below_prob",
                    "make_pseudo_masks.min_area_share",
                ),
                "lower",
            ),
        ),
        (
            "raise train_classifier.epochs, take pretrained train_classifier.backbone.weights",
            {"train_classifier.epochs": "raise", "train_classifier.backbone.weights": "change"},
        ),
        ("change refine.chains.crf, and refine.chains.gone", {"refine.chains.crf": "change"}),
        (
            "lower make_pseudo_masks.threshold. Then chain it",
            {"make_pseudo_masks.threshold": "lower"},
        ),
    ],
)
def test_the_settings_that_a_warning_names_are_read(text: str, changes: dict[str, str]) -> None:
    found = settings_named(text, parse_params({}))
    assert {change.key: change.how for change in found} == changes


def test_every_warning_of_a_stage_is_of_one_kind() -> None:
    """A wording that a stage no longer has is no kind; one that it has, in the code, is found."""
    words = " ".join(
        file.read_text(encoding="utf-8")
        for file in sorted((ROOT / "src/wsss/stages").rglob("*.py"))
        if file.parent.name != "findings"  # which look for the wordings
    )
    plain = re.sub(r"\s+", " ", re.sub(r'"\s*f?"', "", words))
    plain += plain.replace("{meaning}", "empty") + plain.replace("{meaning}", "the same")
    for kind in KINDS:
        parts = [part for part in re.split(r"'?\.\*'?", kind.wording) if part]
        assert all(part.strip() in plain for part in parts), kind.name
    for words, changes in IMPLIED.items():
        assert words in plain
        assert all(setting_at(parse_params({}), change.key) for change in changes)


def test_no_more_images_are_read_than_asked(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are spread over all, so that no split is left out."""
    run.fill_masks()
    (found,) = run.check("make_pseudo_masks", images=22).findings
    assert found.numbers["of"] <= 22 and len(found.images) <= 22
    assert {name.rstrip("0123456789") for name in found.images} == {"train", "selection", "val"}


# The page


def test_the_page_shows_every_finding_with_its_pictures(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.write_classifier({"sheep": 0.45})
    run.fill_masks()
    monkeypatch.chdir(run.root)
    (run.root / "params.yaml").write_text(yaml.safe_dump(run.tree))
    result = CliRunner().invoke(app, ["doctor", "run", "--out", "reports/doctor"])
    assert result.exit_code == 1
    assert result.output.splitlines()[0].startswith("fault    make_pseudo_masks: ")
    assert "settings: raise make_pseudo_masks.threshold" in result.output
    page = (run.root / "reports/doctor/index.html").read_text(encoding="utf-8")
    assert page.count("<article") == page.count("found without masks of annotators") == 2
    assert page.count("<img") == 16 and "weak classes" in page
    with Image.open(run.root / "reports/doctor/findings.png") as sheet:
        assert sheet.size[0] > 1000 and len(sheet.getcolors(10**6) or ()) > 100
    before = (run.root / "reports/doctor/findings.png").read_bytes()
    result = CliRunner().invoke(
        app, ["doctor", "run", "train_classifier", "make_pseudo_masks", "--json"]
    )
    found = json.loads(result.output)
    assert [item["name"] for item in found["findings"]] == ["no_background", "weak_classes"]
    CliRunner().invoke(app, ["doctor", "run", "--out", "reports/doctor"])
    assert (run.root / "reports/doctor/findings.png").read_bytes() == before
    run.write_classifier()
    run.write_masks()
    result = CliRunner().invoke(app, ["doctor", "run", "--out", "reports/doctor"])
    assert result.exit_code == 0 and "nothing is wrong" in result.output
    assert not (run.root / "reports/doctor/findings.png").exists()
