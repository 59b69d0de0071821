"""Maps of the head for sub-categories: the highest of a class's block."""

import pytest
import torch
from torch import nn

from wsss.cam.cam import LinearHeadCam, LinearHeadCamSettings
from wsss.cam.multiscale import multiscale_cams
from wsss.config.sections import BackboneSettings
from wsss.models.classifier import Classifier
from wsss.models.sub_categories import SubCategoryHeadSettings
from wsss.models.timm_backbone import TimmBackbone

ROWS, COLUMNS = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 2, 1, 2])


def make_model(*counts: int) -> Classifier:
    """Three classes of the data and that of background images."""
    torch.manual_seed(0)
    parts = [SubCategoryHeadSettings(counts=counts)] if counts else []
    backbone = TimmBackbone(BackboneSettings(model_name="resnet10t"))
    model = Classifier(backbone, ("a", "b", "c"), num_extra=1, parts=parts).eval()
    nn.init.normal_(model.head.weight)
    return model


def cam(head: str) -> LinearHeadCam:
    return LinearHeadCam(LinearHeadCamSettings.model_validate({"head": head}))


@torch.no_grad()
def test_one_sub_category_of_the_same_weights_is_the_cam() -> None:
    model = make_model(1, 1, 1, 1)
    model.parts["sub_categories"].head.load_state_dict(model.head.state_dict())
    images = torch.randn(2, 3, 64, 96)
    expected, logits = cam("classes")(model, images, ROWS, COLUMNS)
    found, scores = cam("sub_categories")(model, images, ROWS, COLUMNS)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(scores, logits)


@torch.no_grad()
def test_the_highest_of_a_block_is_taken_where_it_is_above_zero() -> None:
    model = make_model(2, 0, 3, 1)
    weight = nn.init.normal_(model.parts["sub_categories"].head.weight)[:, :, 0, 0]
    images = torch.randn(2, 3, 64, 96)
    features = model(images).features
    found, _ = cam("sub_categories")(model, images, ROWS, COLUMNS)
    for at, (row, block) in enumerate([(0, [0, 1]), (0, [2, 3, 4]), (1, []), (1, [2, 3, 4])]):
        expected = torch.zeros(features.shape[2:])
        for k in block:
            expected = torch.maximum(expected, torch.einsum("d,dhw->hw", weight[k], features[row]))
        torch.testing.assert_close(found[at], expected, rtol=1e-4, atol=1e-4)
    assert found[0].max() > 0 and found[2].max() == 0


@torch.no_grad()
def test_multiscale_maps_of_the_head() -> None:
    model = make_model(4, 4, 4, 1)
    nn.init.normal_(model.parts["sub_categories"].head.weight)
    images = torch.randn(2, 3, 64, 96)

    def maps(images: torch.Tensor) -> list[torch.Tensor]:
        return multiscale_cams(
            model, cam("sub_categories"), images, [(1, 3), (2,)], grid=(16, 24),
            scales=(0.5, 1.0), flip=True, align_corners=False,
        )[0]  # fmt: skip

    found = maps(images)
    assert [cams.shape for cams in found] == [(2, 16, 24), (1, 16, 24)]
    assert all(0.99 < cams.max() <= 1 and cams.min() >= 0 for cams in found)
    for cams, other in zip(found, maps(images.flip(-1)), strict=True):
        torch.testing.assert_close(other.flip(-1), cams, rtol=1e-3, atol=1e-4)


def test_a_classifier_without_the_head_is_an_error() -> None:
    message = "method.head: sub_categories needs a classifier with the part"
    with pytest.raises(ValueError, match=message):
        cam("sub_categories")(make_model(), torch.randn(2, 3, 32, 32), ROWS, COLUMNS)
