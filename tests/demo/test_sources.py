"""What a place brings: chains that can run, thresholds, images, a segmenter."""

import shutil
from pathlib import Path

import pytest

from wsss.demo.sources import open_sources


def test_of_a_project(project: Path) -> None:
    found = open_sources(str(project))
    assert found.segmenter is not None
    assert list(found.chains) == ["none", "crf", "regions"]
    assert "fusion goes with maps of other classifiers" in found.left_out["elsewhere"]
    assert found.masks.chain == "crf" and found.masks.ignore_margin == 0.1
    # set for its chain; chosen by evaluation; the usual one
    assert [found.threshold(name) for name in found.chains] == [0.4, 0.4, 0.45]
    assert list(found.images) == ["first", "second"]
    item = found.images["first"]
    assert item.split == "val" and item.pixels().shape == (96, 128, 3)
    assert set(item.tags) <= set(found.classifier.class_names) and item.tags


def test_of_a_classifier_alone(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project / "models/classifier", tmp_path / "mine")
    found = open_sources(str(tmp_path / "mine"))
    assert found.segmenter is None and found.images == {} and found.project is None
    assert list(found.chains) == ["none", "crf", "pamr", "regions"]
    assert [found.threshold(name) for name in found.chains] == [0.4, 0.5, 0.4, 0.4]
    inside = open_sources(str(project / "models/classifier"))
    assert inside.segmenter is not None and "regions" in inside.chains


def test_a_place_without_a_classifier(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no such folder"):
        open_sources(str(tmp_path / "nowhere"))
