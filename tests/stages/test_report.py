"""The page: its numbers against those of evaluation, what it says where something is not there."""

import html
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsss.artifacts import Manifest, Paths, hash_of_masks, read_json, write_json
from wsss.config.params import Params
from wsss.config.segmentation import PseudoMaskSettings
from wsss.evaluate.failures import KINDS as FAILURES
from wsss.pipeline import Job
from wsss.pipeline.stage import setting_at
from wsss.runs.experiment import experiment_scores
from wsss.stages import find_stages, run_stage
from wsss.stages._report.findings import advice
from wsss.tracking import NullTracker

from .report_project import KINDS, NUMBER, paint, parameters

AUDIT = {
    "name": "mine",
    "of": "predictions",
    "split": "val",
    "images": 12,
    "drawn": 8,
    "audited": 5,
    "mean_iou": {"value": 0.7, "low": 0.611, "high": 0.789},
    "classes": {"cat": {"value": 0.71, "low": 0.6, "high": 0.8}, "<dog>": None},
    "next_20": {"low": 0.66, "high": 0.74},
}


@pytest.fixture(scope="module")
def params() -> Params:
    return parameters()


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory, params: Params) -> Paths:
    paths = paint(tmp_path_factory.mktemp("painted"), params)
    run_stage("report", params, paths)
    return paths


def page(paths: Paths) -> str:
    return (paths.root / "data/report/report.html").read_text(encoding="utf-8")


def data(paths: Paths) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page(paths))
    assert found
    return dict(json.loads(found[1]))


def words(text: str) -> str:
    """What a reader sees."""
    body = re.sub(r"<(script|style).*?</\1>", " ", text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body)))


def again(painted: Paths, params: Params, root: Path, **files: object) -> Paths:
    """The same project elsewhere, with further reports."""
    for name in ("data", "reports"):
        (root / name).mkdir()
        for item in (painted.root / name).iterdir():
            if item.name not in ("report", *files):
                (root / name / item.name).symlink_to(item)
    for name, value in files.items():
        write_json(root / "reports" / f"{name}.json", value)
    run_stage("report", params, Paths(root))
    return Paths(root)


class Outside(HTMLParser):
    """Gathers what a page would fetch, and ids."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.ids: list[str] = []
        self.wanted: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "srcset", "data", "poster", "action") or (
                name == "href" and tag != "a"
            ):
                self.fetched.append(str(value))
            if name == "id":
                self.ids.append(str(value))
            if name in ("for", "aria-labelledby") or (name == "href" and tag == "a"):
                self.wanted.append(str(value).removeprefix("#"))


def test_it_has_the_scores_of_evaluation_by_the_names_of_mlflow(
    painted: Paths, params: Params
) -> None:
    pipeline = find_stages()
    jobs = [
        Job(pipeline, target, params, painted, NullTracker()) for target in pipeline.targets(params)
        if (painted.root / target.stage.report_path(target.entry)).exists()
    ]  # fmt: skip
    recorded = experiment_scores(jobs)
    assert set(recorded) == {
        f"{name}.val_mean_iou" for name in ("cam", "none", "crf", "pseudo", "segmenter")
    }
    assert read_json(painted.root / "data/report/report.json")["scores"] == recorded
    shown = words(page(painted))
    for name, value in recorded.items():
        assert name in shown
        assert f"{value:.3f}" in shown
    per_class = read_json(painted.report("evaluate_segmenter"))["val"]["iou"]
    for name, value in per_class.items():
        assert re.search(rf"{re.escape(name)} (?:\d\.\d+ )*{value:.3f}", shown), name


def test_the_confusion_is_that_which_was_scored(painted: Paths) -> None:
    report = read_json(painted.report("evaluate_segmenter"))["val"]
    section = page(painted).partition('id="confusion"')[2].partition("</section>")[0]
    cells = [int(text) for text in re.findall(r'title="(\d+) pixels"', section)]
    matrix = np.array(cells).reshape(3, 3)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - matrix.diagonal()
    expected = [report["iou"][name] for name in ("background", "cat", "<dog>")]
    assert np.allclose(matrix.diagonal() / union, expected, atol=1e-6)


def test_images_stand_in_the_groups_of_their_failures(painted: Paths) -> None:
    found = read_json(painted.root / "data/report/report.json")
    for kind in ("missed", "merged", "leak", "context"):
        names = {f"val_{at:03}" for at in range(NUMBER) if KINDS[at % len(KINDS)] == kind}
        assert set(found["groups"][kind]) <= names, kind
        assert found["groups"][kind], kind
        assert found["failures"][kind] == len(names)
    best, worst = found["groups"]["best"], found["groups"]["worst"]
    assert KINDS[int(best[0][-3:]) % len(KINDS)] == "right"
    assert KINDS[int(worst[0][-3:]) % len(KINDS)] in ("other", "missed", "leak")
    assert len(found["groups"]["all"]) == 10


def test_each_image_has_a_layer_of_every_stage(painted: Paths) -> None:
    held = data(painted)
    titles = [stage["title"] for stage in held["stages"]]
    assert titles == [
        *("image", "CAM", "refined: none", "refined: crf", "pseudo mask", "prediction"),
        "ground truth",
    ]
    keys = {stage["key"] for stage in held["stages"]} - {"image"} | {"outline"}
    assert all(set(image["layers"]) == keys for image in held["images"])
    for group in held["groups"].values():
        assert all(0 <= at < len(held["images"]) for at in group["images"])


def test_it_needs_nothing_from_outside_and_its_links_lead_somewhere(painted: Paths) -> None:
    found = Outside()
    found.feed(page(painted))
    assert found.fetched
    assert all(value.startswith("data:") for value in found.fetched)
    assert "http" not in re.sub(r"data:[^\"']*", "", page(painted))
    assert len(set(found.ids)) == len(found.ids)
    assert set(found.wanted) <= set(found.ids)


def test_names_are_no_html(painted: Paths) -> None:
    assert "<dog>" not in page(painted)
    assert "&lt;dog&gt;" in page(painted)


def test_it_is_the_same_wherever_it_is_made(painted: Paths, params: Params, tmp_path: Path) -> None:
    other = again(painted, params, tmp_path)
    for name in ("report.html", "report.json"):
        file = Path("data/report") / name
        assert (other.root / file).read_bytes() == (painted.root / file).read_bytes()
    assert not re.search(r"\b20\d\d-\d\d-\d\d", page(painted))


def test_without_an_audit_there_is_no_interval_and_it_says_why(painted: Paths) -> None:
    shown = words(page(painted))
    assert "No interval" in shown
    assert "nobody has audited any mask, as reports/audit.json is not there" in shown
    assert "between" not in shown.partition("What it is worth")[2].partition("What to do next")[0]


def audited(paths: Paths, **changes: Any) -> dict[str, Any]:
    """What an audit of the predictions that are there writes."""
    names = [sample.name for sample in Manifest.read(paths.splits).splits["val"]]
    masks = hash_of_masks(paths.predictions / "val", names)
    return {"audits": [AUDIT | {"masks": masks} | changes], "without_interval": []}


def test_an_audit_is_told(painted: Paths, params: Params, tmp_path: Path) -> None:
    held = audited(painted)
    shown = words(page(again(painted, params, tmp_path, audit=held)))
    assert "No interval" not in shown
    assert "Correct the other 3 images of audits/mine.txt in their order" in shown
    assert "0.700" in shown
    assert "between 0.611 and 0.789" in shown
    assert "<dog> not among what was looked at" in shown
    assert "20 more images it would lie between about 0.660 and 0.740" in shown


def test_an_audit_of_masks_that_are_gone_is_not_told(
    painted: Paths, params: Params, tmp_path: Path
) -> None:
    held = audited(painted, masks="of others")
    held["without_interval"] = [{"name": "cats", "reason": "1 of 8 images are corrected"}]
    shown = words(page(again(painted, params, tmp_path, audit=held)))
    assert "between 0.611 and 0.789" not in shown and "0.611" not in shown
    assert "mine: the predictions of val are others by now than those that were audited" in shown
    assert "cats: 1 of 8 images are corrected" in shown and "is not there" not in shown


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"drawn": 5}, "draw --name mine --of predictions --split val --images 12"),
        ({"drawn": 5, "images": 60}, "Audit 20 images more: wsss audit draw --name mine"),
        ({"drawn": 12, "audited": 12, "next_20": None}, ""),
    ],
)
def test_advice_on_a_further_audit_works(
    painted: Paths, params: Params, tmp_path: Path, counts: dict[str, Any], said: str
) -> None:
    shown = words(page(again(painted, params, tmp_path, audit=audited(painted, **counts))))
    assert said in shown and ("audit draw" in shown) == bool(said)


def test_what_is_no_audit_is_refused(painted: Paths, params: Params, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"audit\.json is not as an audit writes it \(KeyError"):
        again(painted, params, tmp_path, audit={"mean_iou": 0.5})


def test_without_ground_truth_it_says_so_and_shows_what_there_is(
    params: Params, tmp_path: Path
) -> None:
    paths = paint(tmp_path, params, masks=False)
    run_stage("report", params, paths)
    shown = words(page(paths))
    assert shown.count("No image has a mask of an annotator") >= 3
    assert "<table" not in page(paths).partition('id="scores"')[2].partition("</section>")[0]
    assert "Nobody knows yet" in shown
    held = data(paths)
    assert set(held["groups"]) == {"all", "uncertain"}
    assert "truth" not in {stage["key"] for stage in held["stages"]}
    assert not any("outline" in image["layers"] for image in held["images"])
    assert read_json(paths.root / "data/report/report.json")["scores"] == {}


def test_before_anything_else_has_run_it_shows_the_images(tmp_path: Path, params: Params) -> None:
    paths = paint(tmp_path, params)
    for folder in ("cams", "refined", "predictions", "pseudo_masks"):
        for file in sorted((paths.root / "data" / folder).rglob("*.*")):
            file.unlink()
    for file in paths.report("").parent.glob("*.*"):
        file.unlink()
    run_stage("report", params, paths)
    assert [stage["key"] for stage in data(paths)["stages"]] == ["image"]
    assert "no evaluation has scored anything" in words(page(paths))
    assert "No stage has left a curve" in words(page(paths))


def test_of_no_images_it_is_a_page_without_a_gallery(painted: Paths, tmp_path: Path) -> None:
    paths = again(painted, parameters(report={"images": 0}), tmp_path)
    assert 'id="gallery"' not in page(paths)
    assert "report.images is 0" in words(page(paths))


def test_its_key_knows_of_reports_and_of_no_record_of_a_run(
    painted: Paths, params: Params, tmp_path: Path
) -> None:
    def key(paths: Paths) -> str:
        pipeline = find_stages()
        return Job(pipeline, pipeline.target("report", params), params, paths, NullTracker()).key

    paths = again(painted, params, tmp_path)
    before = key(paths)
    assert before == key(painted)
    write_json(paths.root / "reports/report.run.json", {"run_id": "a"})
    (paths.root / "reports/evaluate_cams_pictures").mkdir()
    assert key(paths) == before
    write_json(paths.root / "reports/audit.json", audited(paths))
    assert key(paths) != before


def test_a_page_of_500_images_is_below_20_mb(tmp_path: Path) -> None:
    """Noise, of which JPEG makes more than of any photograph."""
    params = parameters(report={"images": 500, "long_side": 320})
    paths = paint(tmp_path, params, number=1)
    rng = np.random.default_rng(0)
    from PIL import Image

    from wsss.artifacts import Sample, write_label_png

    noise = [rng.integers(0, 256, (240, 320, 3)).astype(np.uint8) for _ in range(3)]
    mask = (np.indices((240, 320)).sum(axis=0) // 20 % 3).astype(np.uint8)
    samples = []
    for at in range(500):
        name = f"val_{at:03}"
        Image.fromarray(noise[at % 3]).save(paths.images / f"{name}.jpg", quality=95)
        for folder in (paths.masks, paths.pseudo_masks, paths.predictions / "val"):
            write_label_png(folder / f"{name}.png", mask)
        samples.append(Sample(name, f"{name}.jpg", (240, 320), (1,), f"{name}.png"))
    manifest = Manifest.read(paths.splits)
    Manifest(manifest.class_names, {**manifest.splits, "val": tuple(samples)}).write(paths.splits)
    run_stage("report", params, paths)
    assert len(data(paths)["images"]) == 500
    assert (paths.root / "data/report/report.html").stat().st_size < 20_000_000


@pytest.mark.parametrize(
    ("settings", "border"),
    [
        ({}, "lower threshold"),
        ({"background": "power"}, "raise alpha"),
        ({"background": "object", "object_source": "ccam"}, "change object_source"),
        ({"background": "none"}, "lower ignore_margin"),
        ({"chain": "per_class"}, "change chain"),
    ],
)
def test_what_mends_a_failure_are_settings_that_count(
    params: Params, settings: dict[str, str], border: str
) -> None:
    how, key = border.split()
    pseudo = PseudoMaskSettings.model_validate(settings)
    assert pseudo.towards(background=False) == (f"make_pseudo_masks.{key}", how)
    assert f"{how} `make_pseudo_masks.{key}`" in advice("missed", pseudo)
    for kind in FAILURES:
        keys = re.findall(r"`([\w.]+)`", advice(kind, pseudo))
        assert keys
        for key in keys:
            setting_at(params, key)


def test_it_needs_no_torch() -> None:
    code = "import sys, wsss.stages.report; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
