"""An index of regions through both stages: what it holds, what it predicts, what it shows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from wsss.artifacts import (
    Manifest,
    Paths,
    Proposals,
    Sample,
    read_json,
    read_label_png,
    write_label_png,
    write_proposals,
)
from wsss.config.params import Params, parse_params
from wsss.config.sections import BackboneSettings
from wsss.models.classifier import Classifier, save_classifier
from wsss.models.timm_backbone import TimmBackbone
from wsss.pipeline import Job
from wsss.segment.retrieval.index import read_index
from wsss.stages import run_stage

SIZE = (64, 96)
VIT = {
    "model_name": "vit_tiny_patch16_224",
    "output_stride": 16,
    "timm_kwargs": {"depth": 1, "embed_dim": 24, "num_heads": 2},
}


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """Images with a left part in red or green, cut into three proposals; one shows nothing."""
    monkeypatch.setattr(Job, "panel", lambda *_, **__: None)
    paths, rng = Paths(tmp_path), np.random.default_rng(0)
    for folder in (paths.images, paths.splits, paths.classifier):
        folder.mkdir(parents=True)
    samples = []
    for index in range(9):
        class_id, edge = index % 3, 32 + 16 * (index % 2)
        image = rng.integers(100, 140, (*SIZE, 3)).astype(np.uint8)
        mask = np.zeros(SIZE, np.uint8)
        if class_id:
            image[:, :edge, class_id - 1] = 255
            mask[:, :edge] = class_id
        name = f"image{index}"
        Image.fromarray(image).save(paths.images / f"{name}.png")
        write_label_png(paths.pseudo_masks / f"{name}.png", mask)
        pieces = np.zeros(SIZE, int)
        pieces[:, edge:] = 1
        pieces[32:, edge:] = 2
        write_proposals(paths.proposals / f"halves/{name}.npz", Proposals.from_labels(pieces))
        tags = (class_id,) if class_id else ()
        samples.append(Sample(name, f"{name}.png", SIZE, tags))
    splits = {"train": tuple(samples[:6]), "selection": (), "val": tuple(samples[6:])}
    Manifest(("red", "green"), splits).write(paths.splits)
    torch.manual_seed(0)
    settings = BackboneSettings(model_name="resnet10t")
    model = Classifier(TimmBackbone(settings), ("red", "green"))
    save_classifier(model, settings, "multi_label", paths.classifier)
    return paths


def params_of(retrieval: dict[str, Any], **predict: Any) -> Params:
    small = {"erosions": 40, "min_area": 300, "neighbours": 3, "long_side": 96}
    return parse_params(
        {
            "machine": {"num_workers": 0, "accelerator": "cpu"},
            "make_proposals": {"halves": {"name": "superpixels"}},
            "train_segmenter": {"retrieval": {"proposals": "halves"} | small | retrieval},
            "predict_masks": predict,
        }
    )


@pytest.mark.parametrize("backbone", ["classifier", VIT])
@pytest.mark.parametrize("window", [0, 64])
def test_regions_are_found_again(paths: Paths, backbone: Any, window: int) -> None:
    params = params_of({"backbone": backbone, "trim_share": 0}, window=window)
    run_stage("train_segmenter", params, paths)
    index = read_index(paths.segmenter / "index.npz")
    assert index.class_ids.tolist() == [0, 0, 1, 0, 2, 0, 0, 1, 0, 2]
    assert index.boxes[2].tolist() == [0, 0, 64, 40]  # 48 columns less 8: 40 x 96 / 512 is 7.5
    assert index.images[2] == "image1"
    report = read_json(paths.report("train_segmenter"))
    assert report == {
        "num_regions": 10,
        "num_regions/background": 6,
        "num_regions/green": 2,
        "num_regions/red": 2,
    }
    run_stage("predict_masks", params, paths)
    for index_, class_id, edge in ((6, 0, 0), (7, 1, 48), (8, 2, 32)):
        expected = np.zeros(SIZE, np.uint8)
        expected[:, :edge] = class_id
        found = read_label_png(paths.predictions / f"val/image{index_}.png")
        assert np.array_equal(found, expected)


def test_neighbours_are_shown(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    from wsss.report import neighbours

    seen: list[Any] = []
    draw = neighbours.draw_neighbours

    def noted(out: Path, rows: Any) -> None:
        seen.extend(rows)
        draw(out, rows)

    monkeypatch.setattr(neighbours, "draw_neighbours", noted)
    params = params_of({})
    run_stage("train_segmenter", params, paths)
    run_stage("predict_masks", params, paths)
    assert [(row.image, row.class_name) for row in seen] == [("image7", "red"), ("image8", "green")]
    for row in seen:
        nearest = row.neighbours[0]
        assert nearest.class_name == row.class_name
        colour = 0 if row.class_name == "red" else 1
        assert (nearest.picture[..., colour] == 255).all()
        assert (row.picture[..., colour] == 255).all()
        similarities = [found.similarity for found in row.neighbours]
        assert len(similarities) == 3 and similarities == sorted(similarities, reverse=True)
    out = paths.report("predict_masks/neighbours", ".png")
    first = out.read_bytes()
    with Image.open(out) as picture:
        assert picture.size[0] > 5 * 80 and picture.size[1] > 2 * 80
    draw(out, seen)
    assert out.read_bytes() == first
    draw(out, [])
    assert out.read_bytes() != first


def test_the_classifier_may_leave_out_classes(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wsss.segment.filtering import ClassFilter

    params = params_of({}, filter_recall=0.99)
    run_stage("train_segmenter", params, paths)
    monkeypatch.setattr(
        ClassFilter,
        "present",
        lambda _, samples, wanted: {
            sample.name: np.array([True, False, True]) for sample in samples
        },
    )
    run_stage("predict_masks", params, paths)
    shown = [np.unique(read_label_png(paths.predictions / f"val/image{i}.png")) for i in (7, 8)]
    assert 1 not in shown[0] and 2 in shown[1]


def test_nothing_to_index_is_said_with_the_way_out(paths: Paths) -> None:
    wanted = "lower train_segmenter.retrieval.erosions or train_segmenter.retrieval.min_area"
    with pytest.raises(ValueError, match=f"no region of the pseudo masks .*{wanted}"):
        run_stage("train_segmenter", params_of({"min_area": 100_000_000}), paths)
    run_stage("train_segmenter", params_of({"erosions": 300}), paths)
    warned = read_json(paths.report("train_segmenter"))["warnings"]
    assert warned[0].startswith("no region of red, green is in the index, so that none is ever")
