"""Graphs give what the pipeline does, before any file is written."""

import copy
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame

from wsss.cam.cam import LinearHeadCam, LinearHeadCamSettings
from wsss.cam.multiscale import multiscale_cams, whole_cells
from wsss.config.sections import BackboneSettings
from wsss.export.graphs import ClassifierGraph, SegmenterGraph, trace, whole_side
from wsss.models.classifier import Classifier, load_classifier
from wsss.models.timm_backbone import TimmBackbone
from wsss.segment.network import load_segmenter
from wsss.segment.predict import predict_probs

VIEWS = [((1.0,), False), ((0.75, 1.0, 1.25), True), ((0.5,), True)]


@pytest.mark.parametrize(("scales", "flip"), VIEWS)
def test_a_segmenter_is_predict_probs(
    scales: tuple[float, ...],
    flip: bool,
    segmenter: Callable[[str], Path],
    batches: list[np.ndarray],
) -> None:
    model = load_segmenter(segmenter("unet_small"))
    graph = SegmenterGraph(model, scales, flip)
    draw = np.random.default_rng(0)
    for images in batches:
        present = draw.random((len(images), 3)) > 0.4
        present[:, 0] = True
        pixels = torch.from_numpy(images)
        with torch.inference_mode():
            found = graph(pixels, torch.from_numpy(present))
            normal = model.normalisation(pixels.permute(0, 3, 1, 2))
            expected = predict_probs(
                model, normal, scales=scales, flip=flip, present=torch.from_numpy(present)
            )
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("scales", "flip"), VIEWS)
@pytest.mark.parametrize("align_corners", [False, True])
def test_a_classifier_gives_the_maps_of_generate_cams(
    scales: tuple[float, ...],
    flip: bool,
    align_corners: bool,
    classifier: Path,
    batches: list[np.ndarray],
) -> None:
    model, loss = load_classifier(classifier)
    graph = ClassifierGraph(model, loss, scales, flip, align_corners)
    single = ClassifierGraph(model, "single_label", scales, flip, align_corners)
    method = LinearHeadCam(LinearHeadCamSettings())
    for images in batches[:4]:
        pixels = torch.from_numpy(images)
        with torch.inference_mode():
            probs, cams = graph(pixels)
            maps, logits = multiscale_cams(
                model,
                method,
                model.backbone.normalisation(pixels.permute(0, 3, 1, 2)),
                [[1, 2]] * len(images),
                grid=images.shape[1:3],
                scales=scales,
                flip=flip,
                align_corners=align_corners,
            )
            one_of_them = single(pixels)[0]
        torch.testing.assert_close(cams, torch.stack(maps), atol=1e-4, rtol=0)
        torch.testing.assert_close(probs, logits[:, :2].sigmoid(), atol=1e-5, rtol=0)
        torch.testing.assert_close(one_of_them, logits[:, :2].softmax(dim=1), atol=1e-5, rtol=0)
        assert cams.shape == (len(images), 2, *images.shape[1:3])


@pytest.mark.parametrize("align_corners", [False, True])
def test_padding_by_the_size_of_the_input_is_fixed(align_corners: bool) -> None:
    """TensorFlow pads by what the size is; in a graph of any size that is a formula of formulas."""
    torch.manual_seed(0)
    settings = BackboneSettings(
        model_name="mobilenetv2_050", output_stride=16, timm_kwargs={"pad_type": "same"}
    )
    model = Classifier(TimmBackbone(settings, load_weights=False), ("a", "b")).eval()
    assert any(isinstance(module, Conv2dSame) for module in model.modules())
    plain = copy.deepcopy(model)
    graph = ClassifierGraph(model, "multi_label", (1.0,), False, align_corners)
    for cells in ((1, 2), (3, 4), (5, 2), (7, 9)):
        images = torch.randn(1, 3, *(16 * side + align_corners for side in cells))
        with torch.inference_mode():
            torch.testing.assert_close(graph.model(images).maps, plain(images).maps)
    before = time.process_time()
    trace(graph)
    assert time.process_time() - before < 60


def test_sides_are_rounded_as_the_pipeline_does() -> None:
    for scale in (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 1 / 3, 0.7, 1.1):
        for side in range(1, 700):
            assert whole_side(side, scale, 32) == max(1, round(side * scale / 32)) * 32
            for corners in (False, True):
                expected = whole_cells((side, side), scale, 16, corners)[0]
                assert whole_side(side, scale, 16, int(corners)) == expected
