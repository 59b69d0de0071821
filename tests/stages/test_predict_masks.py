"""The stage on a large and a small image: what it writes, and that windows reach the large one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from wsss.artifacts import Manifest, Paths, Sample, read_label_png
from wsss.config.params import parse_params
from wsss.config.sections import BackboneSettings
from wsss.config.segmentation import SegmenterSettings
from wsss.models.classifier import Classifier, save_classifier
from wsss.models.timm_backbone import TimmBackbone
from wsss.pipeline import Job
from wsss.segment.filtering import ClassFilter
from wsss.segment.network import make_segmenter, save_segmenter
from wsss.stages import run_stage

BACKBONE = BackboneSettings(model_name="resnet10t")
SIZES = {"a": (96, 160), "b": (40, 64)}


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A random segmenter of two classes; without the panel, which shows other stages' files."""
    monkeypatch.setattr(Job, "panel", lambda *_, **__: None)
    paths = Paths(tmp_path)
    for folder in (paths.images, paths.splits, paths.classifier, paths.segmenter):
        folder.mkdir(parents=True)
    rng, samples = np.random.default_rng(0), []
    for name, size in SIZES.items():
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(paths.images / f"{name}.png")
        samples.append(Sample(name, f"{name}.png", size, (1,)))
    Manifest(("x", "y"), {"train": (), "selection": (), "val": tuple(samples)}).write(paths.splits)
    torch.manual_seed(0)
    classifier = Classifier(TimmBackbone(BACKBONE), ("x", "y"))
    save_classifier(classifier, BACKBONE, "multi_label", paths.classifier)
    settings = SegmenterSettings(arch="unet", arch_kwargs={"decoder_channels": [8] * 5})
    segmenter = make_segmenter(settings, paths.classifier)
    torch.nn.init.normal_(segmenter.net.segmentation_head[0].weight)  # more than one class
    save_segmenter(segmenter, paths.segmenter)
    return paths


def masks_of(paths: Paths, **settings: Any) -> dict[str, np.ndarray]:
    changes = {"predict_masks": {"scales": [0.5, 1.0]} | settings}
    params = parse_params({"machine": {"num_workers": 0, "accelerator": "cpu"}} | changes)
    run_stage("predict_masks", params, paths)
    return {name: read_label_png(paths.predictions / "val" / f"{name}.png") for name in SIZES}


def test_windows_for_larger_images_alone(paths: Paths) -> None:
    whole, same = masks_of(paths), masks_of(paths, window=160)
    windows = masks_of(paths, window=64, batch_size=2)
    assert {name: tensor.shape for name, tensor in windows.items()} == SIZES
    for name in SIZES:
        assert np.array_equal(whole[name], same[name])
    assert np.array_equal(whole["b"], windows["b"])
    assert all(len(np.unique(item)) > 1 for item in whole.values())
    changed = (whole["a"] != windows["a"]).mean()
    assert 0 < changed < 0.5  # the network sees less, but the same image


def test_a_filter_of_recall_leaves_out_classes_that_the_classifier_denies(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whole images and in windows; without selection images there is no threshold."""
    plain = masks_of(paths)
    (left_out,) = {*np.unique(plain["a"])} - {0}
    kept = masks_of(paths, filter_recall=0.99)
    assert all(np.array_equal(plain[name], kept[name]) for name in SIZES)
    manifest = Manifest.read(paths.splits)
    known = Sample("c", "c.png", (40, 64), (1, 2))
    Image.fromarray(np.full((40, 64, 3), 255, np.uint8)).save(paths.images / "c.png")
    Manifest(("x", "y"), manifest.splits | {"selection": (known,)}).write(paths.splits)
    seen: list[np.ndarray] = []
    find = ClassFilter.present

    def noted(self: ClassFilter, samples: Any, wanted: Any) -> dict[str, np.ndarray]:
        assert (self.thresholds > 0).all()
        self.thresholds = np.zeros(2)
        self.thresholds[left_out - 1] = 1.1  # out of reach
        seen.extend(find(self, samples, wanted).values())
        return find(self, samples, wanted)

    monkeypatch.setattr(ClassFilter, "present", noted)
    for window in (0, 64):
        filtered = masks_of(paths, filter_recall=0.99, window=window)
        assert all(left_out not in mask for mask in filtered.values())
    assert all(row[0] and row.sum() == 2 for row in seen) and len(seen) == 4


def test_a_crf_smooths_predictions_whole_and_in_windows(paths: Paths) -> None:
    """Random images have no edges to follow, so that small regions go."""

    def borders(masks: dict[str, np.ndarray]) -> int:
        return sum(int((np.diff(mask.astype(int)) != 0).sum()) for mask in masks.values())

    crf = {"n_iters": 5, "sigma_gaussian": 3, "compat_gaussian": 10, "compat_bilateral": 0}
    assert borders(masks_of(paths, crf=crf)) < borders(masks_of(paths))
    assert borders(masks_of(paths, crf=crf, window=64)) < borders(masks_of(paths, window=64))
