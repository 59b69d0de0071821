"""The champion: both scored here, a worse one refused, other classes, no masks."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from wsss.artifacts import Manifest, Paths
from wsss.config.params import load_params
from wsss.prediction.store import ModelStore
from wsss.serving.promoting import candidate_of, compare_with_champion, promote
from wsss.serving.registering import register_segmenter

Train = Callable[[Path, int], None]


def aliases(root: Path) -> dict[str, tuple[str, ...]]:
    return {version.label: version.aliases for version in ModelStore(root).versions()}


@pytest.fixture
def both(project: Path, train: Train) -> Path:
    """A good first version, the champion, and a bad second one."""
    params = load_params()
    register_segmenter(project, params, "wsss")
    first = compare_with_champion(project, params, candidate_of(project, "", "wsss"), "champion")
    assert first.champion is None and first.differences == ()
    assert "wsss/1 is the first with this alias (mean IoU 0." in first.verdict
    assert "on 4 images of val" in first.verdict
    promote(project, first, "champion")
    train(project, 5)
    register_segmenter(project, params, "wsss")
    assert aliases(project) == {"wsss/1": ("champion",), "wsss/2": ()}
    return project


def test_a_worse_one_is_refused_with_the_numbers_unless_forced(both: Path) -> None:
    candidate = candidate_of(both, "", "wsss")
    assert candidate.label == "wsss/2"
    found = compare_with_champion(both, load_params(), candidate, "champion")
    assert found.champion is not None and found.champion.label == "wsss/1"
    whole = found.differences[0]
    # what evaluate_segmenter found of each, when it was the project's
    for version, value in ((found.champion, whole.before), (candidate, whole.after)):
        assert value == pytest.approx(float(version.tags["val/mean_iou"]), abs=1e-6)
    assert [item.name for item in found.differences] == ["mean_iou", "background", "x", "y"]
    assert whole.gain < -0.2 and whole.images == 4
    points = f"{-100 * whole.gain:.2f} points of mean IoU worse than wsss/1 on 4 images of val"
    with pytest.raises(ValueError, match=rf"{points}.*stays where it is.*--force"):
        promote(both, found, "champion")
    assert aliases(both)["wsss/1"] == ("champion",)
    promote(both, found, "champion", force=True)
    assert aliases(both) == {"wsss/1": (), "wsss/2": ("champion",)}
    tags = ModelStore(both).versions()[1].tags
    assert points in tags["promoted"] and tags["promoted.data"] == found.data
    back = compare_with_champion(both, load_params(), candidate_of(both, "wsss/1", ""), "champion")
    assert back.differences[0].gain == -whole.gain
    reverse = [-x for x in whole.interval[::-1]]  # not known, of so few images
    assert np.allclose(back.differences[0].interval, reverse, equal_nan=True)
    promote(both, back, "champion")
    assert aliases(both)["wsss/1"] == ("champion",)


def test_another_alias_is_another_place(both: Path) -> None:
    candidate = candidate_of(both, "wsss/2", "")
    found = compare_with_champion(both, load_params(), candidate, "trial")
    assert found.champion is None
    promote(both, found, "trial")
    assert aliases(both) == {"wsss/1": ("champion",), "wsss/2": ("trial",)}
    assert candidate_of(both, "wsss@trial", "") == ModelStore(both).versions()[1]


def test_models_of_other_classes_are_refused(both: Path) -> None:
    paths = Paths(both)
    manifest = Manifest.read(paths.splits)
    Manifest(("x", "z"), manifest.splits).write(paths.splits)
    candidate = candidate_of(both, "", "wsss")
    with pytest.raises(ValueError, match=r"wsss/1 knows the classes x, y, but .* has x, z.*--name"):
        compare_with_champion(both, load_params(), candidate, "champion")
    Manifest(("x", "y"), manifest.splits, has_background=False).write(paths.splits)
    with pytest.raises(ValueError, match=r"background has one, and .* this project has none"):
        compare_with_champion(both, load_params(), candidate, "champion")


def test_without_masks_nothing_is_compared(both: Path) -> None:
    paths = Paths(both)
    manifest = Manifest.read(paths.splits)
    bare = tuple(
        type(sample)(sample.name, sample.image, sample.size, sample.class_ids)
        for sample in manifest.splits["val"]
    )
    Manifest(manifest.class_names, {**manifest.splits, "val": bare}).write(paths.splits)
    shutil.rmtree(paths.masks)
    candidate = candidate_of(both, "", "wsss")
    with pytest.raises(ValueError, match=r"no image of val has a mask.*--force"):
        compare_with_champion(both, load_params(), candidate, "champion")
    found = compare_with_champion(both, load_params(), candidate, "champion", unscored=True)
    assert found.verdict == "not compared with wsss/1: no image of val has a mask"
    promote(both, found, "champion", force=True)
    assert aliases(both)["wsss/2"] == ("champion",)
