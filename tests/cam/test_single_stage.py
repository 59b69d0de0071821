"""Masks of the single-stage network as score maps: their decision must be the network's own."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from wsss.artifacts import ScoreMap
from wsss.cam.cam import LinearHeadCam, LinearHeadCamSettings
from wsss.cam.comparable import ComparableCamMethod
from wsss.cam.multiscale import multiscale_cams
from wsss.cam.single_stage import SingleStageMasks, SingleStageMasksSettings
from wsss.config.sections import BackboneSettings
from wsss.config.segmentation import PseudoMaskSettings
from wsss.models.classifier import Classifier
from wsss.models.segmentation_head import SegmentationHeadSettings
from wsss.models.timm_backbone import TimmBackbone
from wsss.refine.dense_crf import DenseCrfSettings, unary_probs
from wsss.segment.pseudo_masks import pseudo_mask

METHOD = SingleStageMasks(SingleStageMasksSettings())
TAGS = [(1, 2, 4), (3,)]
ROWS, COLUMNS = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 3, 2])


def make(background: bool = True, *, parts: bool = True) -> Classifier:
    """A network whose masks differ from cell to cell."""
    torch.manual_seed(0)
    settings = SegmentationHeadSettings(channels=16, rates=(1, 2), background=background)
    backbone = TimmBackbone(BackboneSettings(model_name="resnet10t"))
    names = ("a", "b", "c", "d")
    model = Classifier(backbone, names, num_extra=1, parts=[settings] * parts).eval()
    if parts:  # every class is the likeliest somewhere
        last = model.parts["segmentation_head"].last[2]
        torch.nn.init.normal_(last.weight)
        with torch.inference_mode():
            logits = model.parts["segmentation_head"](*model.backbone.with_stages(images()))
        spread, mean = logits.std(dim=(0, 2, 3)), logits.mean(dim=(0, 2, 3))
        last.weight.data /= spread[:, None, None, None]
        last.bias.data = 1 + (last.bias.data - mean) / spread
    return model


def images() -> Tensor:
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def found(model: Classifier) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, the scores of the images, and the logits of pixels."""
    with torch.inference_mode():
        maps, scores = METHOD(model, images(), ROWS, COLUMNS)
        logits = model.parts["segmentation_head"](*model.backbone.with_stages(images()))
    return maps, scores, logits


def own_masks(logits: Tensor, tags: tuple[int, ...], background: bool) -> Tensor:
    """(1 + P, h, w): the softmax over the tags and the background, which is 0 if there is none."""
    chosen = logits[[tag - 1 for tag in tags]]
    if not background:
        return torch.cat([torch.zeros_like(chosen[:1]), chosen.softmax(dim=0)])
    return torch.cat([torch.ones_like(chosen[:1]), chosen]).softmax(dim=0)


def as_score_map(maps: Tensor, tags: tuple[int, ...]) -> ScoreMap:
    height, width = maps.shape[1:]
    ids = np.array(tags, np.uint8)
    return ScoreMap(ids, maps.numpy(), (height, width), np.ones(len(ids), np.float32))


RULES: list[tuple[dict[str, Any], float]] = [
    ({"background": "power", "alpha": 1, "ignore_margin": 0}, 0),
    ({"background": "constant", "ignore_margin": 0}, 0.5),
]


@pytest.mark.parametrize(("rule", "threshold"), RULES)
@pytest.mark.parametrize("background", [True, False])
def test_pseudo_masks_are_what_the_network_decides(
    background: bool, rule: dict[str, Any], threshold: float
) -> None:
    maps, _, logits = found(make(background))
    taken = set()
    for image, (tags, own) in enumerate(zip(TAGS, (maps[:3], maps[3:]), strict=True)):
        masks = own_masks(logits[image], tags, background)
        decided = np.array([0, *tags])[masks.argmax(dim=0).numpy()]
        mask = pseudo_mask(as_score_map(own, tags), PseudoMaskSettings(**rule), threshold)
        np.testing.assert_array_equal(mask, decided)
        taken |= set(decided.ravel().tolist())
    assert taken == ({0, 1, 2, 3, 4} if background else {1, 2, 3, 4})


def test_a_dense_crf_starts_from_the_masks() -> None:
    maps, _, logits = found(make())
    settings = DenseCrfSettings(background="power", alpha=1)
    for image, (tags, own) in enumerate(zip(TAGS, (maps[:3], maps[3:]), strict=True)):
        expected = own_masks(logits[image], tags, True)
        np.testing.assert_allclose(unary_probs(own.numpy(), settings), expected, atol=1e-5)


def test_of_one_tag_the_map_is_the_mask() -> None:
    maps, _, logits = found(make())
    torch.testing.assert_close(maps[3], own_masks(logits[1], (3,), True)[1])


def test_scores_of_images_do_not_depend_on_their_tags() -> None:
    model = make()
    _, scores, logits = found(model)
    masks = torch.cat([torch.ones_like(logits[:, :1]), logits], dim=1).softmax(dim=1)[:, 1:]
    mean = masks.mean(dim=(2, 3))
    expected = (masks * logits).mean(dim=(2, 3)) / mean + (1 - mean) ** 3 * (0.01 + mean).log()
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("background", [True, False])
def test_scales_and_flips_are_averaged(background: bool) -> None:
    model = make(background)
    with torch.inference_mode():
        cams, _ = multiscale_cams(
            model, METHOD, images(), TAGS, grid=(16, 24), scales=(0.5, 1.0, 1.5), flip=True,
            align_corners=True, stretch=False,
        )  # fmt: skip
    for tags, maps in zip(TAGS, cams, strict=True):
        as_score_map(maps, tags)  # in [0, 1], whatever rounding adds
    assert float(cams[1].max()) == pytest.approx(1) if not background else cams[1].max() < 1


def test_they_are_never_stretched() -> None:
    assert isinstance(METHOD, ComparableCamMethod)
    assert not isinstance(LinearHeadCam(LinearHeadCamSettings()), ComparableCamMethod)


def test_a_classifier_without_the_part_is_named() -> None:
    with pytest.raises(ValueError, match=r"method: single_stage needs .* 'segmentation_head'"):
        METHOD(make(parts=False), images(), ROWS, COLUMNS)
