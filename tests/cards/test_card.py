"""A card has every licence that is known, says what is unknown, and is the same read back."""

import json
from pathlib import Path
from typing import Any

import pytest

from wsss.artifacts import Manifest, Sample, hash_of_masks, write_json
from wsss.cards.card import Card, as_json, check_page, write_card
from wsss.cards.making import card_of_package, card_of_project
from wsss.cards.weights import weights_of
from wsss.config.params import parse_params

KEY = "train_classifier.backbone.weights"


def card(weights: str = "hub", licence: str = "cc-by-4.0", **more: Any) -> Card:
    backbone = {"model_name": "resnet18", "weights": weights}
    found = tuple(weights_of({"train_classifier": {"backbone": backbone}}))
    data = {"set": "folder (photos)", "licence": licence}
    return Card("segmenter", "mine", ("cat", "dog"), True, found, data, {}, **more)


def test_all_licences_are_on_the_page() -> None:
    page = card().markdown()
    assert "apache-2.0" in page and "cc-by-4.0" in page and "UNKNOWN" not in page
    check_page(card(), page, "card.md")


@pytest.mark.parametrize("left_out", ["apache-2.0", "cc-by-4.0"])
def test_a_page_without_a_known_licence_is_refused(left_out: str) -> None:
    page = card().markdown().replace(left_out, "free")
    with pytest.raises(ValueError, match=f"leaves out 1 licences that are known: {left_out}"):
        check_page(card(), page, "card.md")


def test_an_unknown_licence_is_loud_until_it_is_named() -> None:
    own = card("w/mine.pth", "")
    page = own.markdown()
    assert page.count("**UNKNOWN LICENCE**") == 3  # above, of the weights, of the images
    assert own.unknown == [KEY, "the training images"]
    assert sum("licence of" in line and "unknown" in line for line in own.must_not) == 2
    with pytest.raises(ValueError, match="does not say UNKNOWN LICENCE"):
        check_page(own, page.replace("UNKNOWN LICENCE", "no licence"), "card.md")
    named = card_named("w/mine.pth")
    assert not named.unknown and "UNKNOWN" not in named.markdown()


def card_named(weights: str) -> Card:
    from dataclasses import replace

    from wsss.cards.weights import with_licences

    own = card(weights)
    assert own.weights is not None
    return replace(own, weights=tuple(with_licences([*own.weights], {KEY: "mit"})))


def test_scores_and_intervals() -> None:
    scores = {"val": {"images": 7, "mean_iou": 0.61234, "iou": {"background": 0.9, "cat": 0.4}}}
    audit = {
        "of": "predictions",
        "split": "train",
        "images": 100,
        "audited": 12,
        "mean_iou": {"value": 0.7, "low": 0.6, "high": 0.8},
        "classes": {
            "cat": {"value": 0.45, "low": 0.3, "high": 0.6},
            "dog": None,
            "mean": {"value": 0.8, "low": 0.7, "high": 0.9},
        },
    }
    own = card(scores=scores, audits=(audit,))
    page = own.markdown()
    assert "| mean | 0.612 |" in page and "| mean | 0.700 | 0.600 | 0.800 |" in page
    assert "| mean | 0.800 | 0.700 | 0.900 |" in page  # a class may be called so
    assert "| dog | not known | not known | not known |" in page
    assert "Counting or measuring cat: an IoU is below 0.5." in own.must_not
    assert not any("no scores" in line for line in own.must_not)
    assert any("no scores" in line for line in card().must_not)


def test_the_same_read_back(tmp_path: Path) -> None:
    own = card("w/mine.pth", "")
    page, tree = write_card(own, tmp_path / "card.md")
    assert page.read_text() == own.markdown() and tree.read_text() == as_json(own)
    assert Card.read(json.loads(tree.read_text()), "card.json") == own
    with pytest.raises(ValueError, match=r"card\.json is not what `wsss card` writes"):
        Card.read({"of": "x"}, "card.json")


def test_a_network_alone_has_weights_that_nobody_knows(tmp_path: Path) -> None:
    write_json(tmp_path / "model.json", {"arch": "unet", "class_names": ["cat"]})
    found = card_of_package(tmp_path)
    assert found.weights is None and found.of == "segmenter"
    assert "the weights, which nobody knows" in found.unknown
    assert "UNKNOWN LICENCE" in found.markdown()


def test_a_package_keeps_its_card_and_its_licences(tmp_path: Path) -> None:
    write_card(card_named("w/mine.pth"), tmp_path / "card.md")
    found = card_of_package(tmp_path)
    assert [item.licence for item in found.weights or ()] == ["mit"]
    for key in ("mine.pth", "data"):
        with pytest.raises(ValueError, match="a licence that is known is not left out"):
            card_of_package(tmp_path, {key: "gpl-3.0"})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    samples = tuple(Sample(f"i{at}", f"i{at}.png", (4, 4), (1,) if at else ()) for at in range(3))
    manifest = Manifest(("cat", "dog"), {"train": samples, "selection": samples[:1], "val": ()})
    manifest.write(tmp_path / "data/splits")
    write_json(tmp_path / "data/pseudo_masks/x.json", {})
    annotations = {"masks": {"train": {"images": 2}, "selection": {"images": 1}}}
    prepared = {"splits": {"selection": {"with_mask": 1}}, "annotations": annotations}
    write_json(tmp_path / "reports/prepare_data.json", prepared)
    write_json(tmp_path / "reports/evaluate_pseudo_masks.json", {"val": {"mean_iou": 0.9}})
    other = {
        **{"of": "predictions", "split": "train", "audited": 1, "images": 3, "name": "p"},
        **{"masks": hash_of_masks(tmp_path / "data/predictions/train", ()), "classes": {}},
        "mean_iou": {"value": 0.8, "low": 0.7, "high": 0.9},
    }
    own = {**other, "of": "pseudo_masks", "mean_iou": {"value": 0.5, "low": 0.4, "high": 0.6}}
    stale = {**own, "masks": "", "mean_iou": {"value": 0.1, "low": 0.1, "high": 0.1}}
    write_json(
        tmp_path / "reports/audit.json", {"audits": [other, own, stale], "without_interval": []}
    )
    return tmp_path


def test_the_card_of_a_project(project: Path) -> None:
    dataset = {"name": "folder", "root": "/home/me/photos"}
    backbone = {"model_name": "resnet18", "weights": "/home/me/mine.pth"}
    params = parse_params(
        {"prepare_data": {"dataset": dataset}, "train_classifier": {"backbone": backbone}}
    )
    found = card_of_project(project, params, "data/pseudo_masks", {"data": "cc0-1.0"})
    assert found.pixels == {"masks": 3} and found.data["selection_masks"] == 1
    assert found.data["splits"]["train"] == {
        "images": 3,
        "images_per_class": {"cat": 2, "dog": 0},
        "without_tag": 1,
    }
    assert not found.scores and "is of something else" in found.unscored  # dvc.lock knows nothing
    assert [audit["of"] for audit in found.audits] == ["pseudo_masks"]
    page = found.markdown()
    assert "/home/me" not in page + as_json(found)
    assert "cc0-1.0" in page and "| mean | 0.500 | 0.400 | 0.600 |" in page
    assert found.unknown == [KEY]
    assert any("tags alone" in line for line in found.must_not)
    with pytest.raises(ValueError, match="holds nothing; `wsss run train_segmenter` makes it"):
        card_of_project(project, params)
    with pytest.raises(ValueError, match="a licence that is known is not left out"):
        card_of_project(project, params, "data/pseudo_masks", {"data": "mit"}, "cc-by-sa-4.0")


def test_masks_that_people_corrected_are_told(project: Path) -> None:
    """They are learned from; an image that was drawn and corrected counts once."""
    file = project / "reports/prepare_data.json"
    prepared = json.loads(file.read_text())
    corrections = {"train": 5, "selection": 1, "drawn": 2, "by": {"Ada": 6}}
    params = parse_params({})
    write_json(file, prepared | {"corrections": corrections})
    found = card_of_project(project, params, "data/pseudo_masks")
    assert found.pixels == {"masks": 3 + 4}
    write_json(file, {"splits": prepared["splits"], "corrections": corrections | {"drawn": 0}})
    found = card_of_project(project, params, "data/pseudo_masks")
    assert found.pixels == {"masks": 6}
    assert "people gave masks of 6 images to learn from" in found.markdown()


def test_masks_choose_a_threshold_only_where_there_is_one(project: Path) -> None:
    def chosen(**settings: object) -> int:
        params = parse_params({"make_pseudo_masks": settings})
        data = card_of_project(project, params, "data/pseudo_masks").data
        return int(data["selection_masks"])

    assert chosen() == 1
    assert chosen(threshold=0.5) == chosen(background="power") == 0
    assert chosen(chain="per_class", per_class={"chosen_on": "given"}) == 0
