"""What is on the list: the most gain per minute that fits, by settings and a measured curve."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from wsss.artifacts import Annotations, Manifest, Paths, Sample, ScoreMap, write_score_map
from wsss.cli.app import app
from wsss.config.params import Params, parse_params
from wsss.config.shipped import recipe_files
from wsss.settings import ConfigError
from wsss.suggest import listing
from wsss.suggest.curve import read_curve, rising_ever_less
from wsss.suggest.features import Features
from wsss.suggest.listing import Item, suggest, within
from wsss.suggest.writing import COLUMNS, lines, write_list

NAMES = ("cat", "dog")
CURVE = """\
study: made
size: full
score: all
baseline: tags
points:
- {row: tags, masks: 0.0, boxes: 0.0, score: 0.6}
- {row: some, masks: 0.5, boxes: 0.0, score: 0.7, spread: 0.01}
- {row: masks, masks: 1.0, boxes: 0.0, score: 0.75}
- {row: boxes, masks: 0.0, boxes: 1.0, score: 0.64}
"""


def params(**suggest: Any) -> Params:
    seconds = {"tag": 2, "box": 10, "mask": 100}
    own = {"seconds": seconds, "curve": "made", "fewest_tags": 3, "boxes_per_tag": 2}
    return parse_params(
        {"suggest": own | suggest, "make_pseudo_masks": {"chain": "crf", "threshold": 0.5}}
    )


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """20 images, of which image 3 says 'dog' and looks as the cats do."""
    samples = [Sample(f"i{at:02}", f"i{at:02}.png", (4, 4), (1 + at % 2,)) for at in range(20)]
    Manifest(NAMES, {"train": tuple(samples[:16]), "selection": tuple(samples[16:]), "val": ()}
             ).write(tmp_path / "data/splits")  # fmt: skip
    annotations = Paths(tmp_path).annotations
    (annotations / "masks").mkdir(parents=True)
    for name in ("i00", "i01"):  # what a person has drawn is not asked for again
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(annotations / f"masks/{name}.png")
    (tmp_path / "recipes/curves").mkdir(parents=True)
    (tmp_path / "recipes/curves/made.yaml").write_text(CURVE)
    rng = np.random.default_rng(0)
    parts = rng.normal(0, 0.1, (20, 16, 6))
    for at in range(20):
        parts[at, :, 0 if at == 3 else at % 2] += 1
    features = Features(parts.astype(np.float16), "made", False)
    monkeypatch.setattr(listing, "features_of", lambda *_: features)
    return tmp_path


def test_annotations_of_the_project_are_as_prepare_data_leaves_them(project: Path) -> None:
    assert Annotations.read(Paths(project).annotations).masks == {"i00", "i01"}


def test_the_wrong_tag_comes_first(project: Path) -> None:
    found = suggest(project, params(), 1)
    first = found.items[0]
    assert (first.do, first.image, first.class_name, first.tagged) in {
        ("tag", "i03", "dog", True),
        ("tag", "i03", "cat", False),
    }
    tags = [item for item in found.items if item.do == "tag"]
    assert {item.image for item in tags[:2]} == {"i03"}
    assert all(item.chance is not None and item.chance >= 0.1 for item in tags)
    # a mask adds (0.7 - 0.6) / 0.5 of the share that one of 20 images is
    assert first.chance is not None and first.gain == pytest.approx(first.chance * 0.2 / 20)
    assert any("not measured" in note for note in found.notes)


def test_masks_and_boxes_by_the_curve(project: Path) -> None:
    quick = params(seconds={"tag": 2, "box": 10, "mask": 40})
    found = suggest(project, quick, 3)
    masks = [item for item in found.items if item.do == "mask"]
    boxes = [item for item in found.items if item.do == "box"]
    assert not {item.image for item in masks + boxes} & {"i00", "i01"}
    assert not {item.image for item in masks} & {item.image for item in boxes}
    assert len(masks) == 18  # all others: 0.0075 a minute at least, where boxes add 0.006
    # two have a mask: eight more reach half of the images, behind which the curve is flatter
    gains = [item.gain for item in masks]
    assert gains[:8] == pytest.approx([0.2 / 20] * 8) and gains[8:] == pytest.approx(
        [0.1 / 20] * 10
    )
    alone = suggest(project, params(), 0.1, ["box"]).items
    assert {item.do for item in alone} == {"box"}
    assert len(alone) == 18 and sum(item.seconds for item in alone) == 18 * 20
    assert alone[0].gain == pytest.approx(0.04 / 20)  # a tag each


def test_costs_decide(project: Path) -> None:
    kinds = ["box", "mask"]
    dear = {"seconds": {"tag": 2, "box": 10, "mask": 10000}}
    assert {item.do for item in suggest(project, params(**dear), 1, kinds).items} == {"box"}


def test_boxes_of_classes_with_undecided_maps_first(project: Path) -> None:
    folder = Paths(project).refined("crf")
    folder.mkdir(parents=True)
    for at in range(20):
        score = 0.6 if at % 2 else 1.0
        ids, probs = np.array([1 + at % 2], np.uint8), np.ones(1, np.float32)
        maps = np.full((1, 4, 4), score, np.float32)
        write_score_map(folder / f"i{at:02}.npz", ScoreMap(ids, maps, (4, 4), probs))
    found = suggest(project, params(), 0.05, ["box"])
    assert {item.class_name for item in found.items} == {"dog"}
    assert not any("no refined maps" in note for note in found.notes)


def test_random_unless_told_otherwise(project: Path) -> None:
    drawn = suggest(project, params(), 0.1, ["mask"])
    chosen = suggest(project, params(masks="chosen"), 0.1, ["mask"])
    assert len(drawn.items) == len(chosen.items) == 3
    assert any("drawn at random" in note for note in drawn.notes)
    assert any("not measured" in note for note in chosen.notes)
    assert {item.why for item in drawn.items} == {"drawn at random"}


def item(**changes: Any) -> Item:
    return replace(Item("mask", "a", "", None, None, 60, 0.1, ""), **changes)


def test_within_a_time() -> None:
    long, short = item(image="long", seconds=90, gain=0.9), item(image="short", seconds=30)
    nothing = item(image="nothing", gain=0, seconds=1)
    assert [x.image for x in within([short, nothing, long], 100)] == ["long"]
    assert [x.image for x in within([short, nothing, long], 120)] == ["long", "short"]
    assert [x.image for x in within([short, nothing, long], 89)] == ["short"]
    boxes, tag = item(do="box", gain=0.05), item(do="tag", gain=0.01, chance=0.6)
    assert [x.do for x in within([tag, boxes, item()], 1000)] == ["mask", "tag"]
    two = [item(do="box", class_name=name) for name in NAMES]
    assert len([*within(two, 1000)]) == 2


def test_files_and_text(project: Path) -> None:
    found = suggest(project, params(), 1)
    table, tree = write_list(found, project / "out/list.csv")
    rows = [*csv.DictReader(table.open(encoding="utf-8"))]
    assert [*rows[0]] == [*COLUMNS] and len(rows) == len(found.items)
    known = {sample.name for sample in Manifest.read(project / "data/splits").all_samples()}
    assert {row["image"] for row in rows} <= known
    written = json.loads(tree.read_text())
    assert [row["image"] for row in written["items"]] == [row["image"] for row in rows]
    assert written["seconds"] <= 3600 and written["notes"] == [*found.notes]
    before = table.read_bytes(), tree.read_bytes()
    write_list(suggest(project, params(), 1), project / "out/list.csv")
    assert (table.read_bytes(), tree.read_bytes()) == before
    text = "\n".join(lines(found))
    assert "tags to check" in text and "i03" in text and "note: " in text


def test_nothing_fits(project: Path) -> None:
    found = suggest(project, params(), 0.0001)
    assert not found.items and "nothing that gains anything fits" in next(lines(found))


def test_the_curve_that_ships() -> None:
    curve = read_curve(Path("nowhere"), "annotations")
    assert "annotations" in recipe_files(Path("nowhere"), "curves")
    assert curve.masks[0] == (0.0, curve.tags) and curve.masks[-1][0] == 1
    assert curve.slope("masks", 0) > curve.slope("masks", 0.5) > 0


@pytest.mark.parametrize("seed", range(20))
def test_the_line_is_the_lowest_over_the_points_that_rises_ever_less(seed: int) -> None:
    draw = np.random.default_rng(seed)
    shares = np.array([0.0, *np.sort(draw.choice(np.arange(1, 100) / 100, 6, replace=False)), 1.0])
    scores = draw.random(8).round(2)
    corners = rising_ever_less(zip(shares.tolist(), scores.tolist(), strict=True))
    line = np.interp(shares, *np.array(corners).T)
    rises = np.diff(line) / np.diff(shares)
    assert (line >= scores - 1e-12).all()
    assert (rises > -1e-12).all() and (np.diff(rises) < 1e-9).all()
    # the definition: at a share, the least of what any two points, or the best, would give
    reached = np.maximum.accumulate(scores)
    for at, share in enumerate(shares):
        chords = [
            np.interp(share, shares[[a, b]], reached[[a, b]])
            for a in range(at + 1)
            for b in range(max(at, a + 1), 8)
        ]
        assert line[at] == pytest.approx(max([reached[at], *chords]))


@pytest.mark.parametrize(("without", "left"), [("boxes", {"tag", "mask"}), ("masks", {"box"})])
def test_what_the_study_has_no_row_of_is_left_out_and_said(
    project: Path, without: str, left: set[str]
) -> None:
    path = project / "recipes/curves/made.yaml"
    head, *rows = path.read_text().split("- ")
    path.write_text("- ".join([head, *(row for row in rows if f"{without}: 0.0" in row)]))
    found = suggest(project, params(), 1)
    assert {item.do for item in found.items} == left
    assert any(without in note and "left out" in note for note in found.notes)


def test_refusals(project: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"suggest\.curve is 'mad', .* did you mean 'made'"):
        suggest(project, params(curve="mad"), 1)
    with pytest.raises(ValueError, match="hours must be above 0"):
        suggest(project, params(), 0)
    with pytest.raises(ValueError, match="holds no data yet; run `wsss run prepare_data`"):
        suggest(tmp_path / "empty", params(), 1)


def test_the_list_is_written_before_it_is_shown(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`wsss suggest | head` ends the command in the middle of what it says."""
    monkeypatch.chdir(project)
    monkeypatch.setattr("wsss.config.params.load_params", lambda _: params())

    def ends(_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("wsss.suggest.writing.lines", ends)
    result = CliRunner().invoke(app, ["suggest"])
    assert result.exit_code == 1
    assert Path("reports/suggest.csv").is_file() and Path("reports/suggest.json").is_file()
