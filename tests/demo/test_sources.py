"""What a place brings: chains that can run, thresholds, images, a segmenter."""

import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from wsss.cli.app import app
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


def changed(project: Path, root: Path, **sections: Any) -> Path:
    """A project with other sections of params.yaml, and the same classifier."""
    params = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8")) | sections
    (root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    shutil.copytree(project / "models/classifier", root / "models/classifier")
    return root


def test_without_a_chain_that_can_run_the_reasons_are_told(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = [{"name": "fusion", "sources": {"other": 1}}]
    refine, masks = {"chains": {"elsewhere": chain}}, {"chain": "elsewhere"}
    root = changed(project, tmp_path, refine=refine, make_pseudo_masks=masks)
    with pytest.raises(ValueError, match=r"elsewhere: fusion goes with maps of other") as told:
        _ = open_sources(str(root)).masks
    monkeypatch.chdir(root)
    command = shlex.split(str(told.value).split("`")[1])
    assert CliRunner().invoke(app, command[1:]).exit_code == 0
    assert open_sources(str(root)).masks.chain == "none"


@pytest.mark.parametrize(
    ("masks", "name"),
    [
        ({"background": "object", "object_source": "other"}, "background: object"),
        ({"chain": "per_class"}, "per_class"),
    ],
)
def test_what_is_replaced_is_told(
    project: Path, tmp_path: Path, masks: dict[str, str], name: str
) -> None:
    found = open_sources(str(changed(project, tmp_path, make_pseudo_masks=masks)))
    assert found.left_out.keys() == {"elsewhere", name}
    assert found.masks.background == "constant" and found.masks.chain in found.chains


def test_a_place_without_a_classifier(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no such folder"):
        open_sources(str(tmp_path / "nowhere"))
