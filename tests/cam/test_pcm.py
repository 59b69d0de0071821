"""Refined maps as a CAM method."""

from typing import Any

import pytest
import torch

from wsss.cam.multiscale import multiscale_cams
from wsss.cam.pcm import PcmCam, PcmCamSettings
from wsss.config.sections import BackboneSettings
from wsss.models.classifier import Classifier
from wsss.models.pcm import PixelCorrelationSettings
from wsss.models.timm_backbone import TimmBackbone

ROWS, COLUMNS = torch.tensor([0, 0, 1]), torch.tensor([0, 2, 1])


def make(*parts: PixelCorrelationSettings) -> Classifier:
    torch.manual_seed(0)
    backbone = TimmBackbone(BackboneSettings(model_name="resnet10t"))
    model = Classifier(backbone, ("a", "b", "c"), num_extra=1, parts=parts).eval()
    torch.nn.init.uniform_(model.head.weight)  # no map is empty
    return model


def images() -> torch.Tensor:
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def cams(model: Classifier, maps: Any) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.inference_mode():
        return PcmCam(PcmCamSettings(maps=maps))(model, images(), ROWS, COLUMNS)


def test_refined_maps_by_hand() -> None:
    model = make(PixelCorrelationSettings())
    found, logits = cams(model, "refined")
    with torch.no_grad():
        output = model(images(), with_stages=True)
        maps = torch.stack([map_ / map_.max() for map_ in output.maps.relu().flatten(0, 1)])
        maps = maps.view_as(output.maps)  # the extra class competes as well
        maps = maps * (maps == maps.amax(dim=1, keepdim=True))
        refined = model.parts["pcm"](images(), output.stages, maps)
    expected = torch.stack([refined[0, 0], refined[0, 2], refined[1, 1]])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(logits, output.logits)
    assert found.max() <= 1


def test_sums_by_hand() -> None:
    model = make(PixelCorrelationSettings())
    found, logits = cams(model, "sum")
    with torch.no_grad():
        output = model(images(), with_stages=True)
        total = output.maps + model.parts["pcm"](images(), output.stages, output.maps)
    torch.testing.assert_close(found, total[ROWS, COLUMNS].clamp(min=0))
    torch.testing.assert_close(logits, total.mean(dim=(2, 3)))


@pytest.mark.parametrize("maps", ["refined", "sum"])
def test_scales_and_flips(maps: Any) -> None:
    model, method = (
        make(PixelCorrelationSettings(align_corners=False)),
        PcmCam(PcmCamSettings(maps=maps)),
    )

    def run(pictures: torch.Tensor) -> list[torch.Tensor]:
        with torch.inference_mode():
            return multiscale_cams(
                model, method, pictures, [(1, 3), (2,)], grid=(16, 24), scales=(0.5, 1.0),
                flip=True, align_corners=False,
            )[0]  # fmt: skip

    for found, other in zip(run(images()), run(images().flip(-1)), strict=True):
        assert found.min() >= 0 and found.max() == pytest.approx(1, abs=1e-3)
        torch.testing.assert_close(other.flip(-1), found, rtol=1e-3, atol=1e-4)


def test_a_classifier_without_the_part_is_named() -> None:
    with pytest.raises(ValueError, match=r"method: pcm needs .* part 'pcm'"):
        cams(make(), "refined")
