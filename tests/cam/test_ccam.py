"""The maps of CCAM against the part's own logits."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from wsss.cam.ccam import CcamMaps, CcamMapsSettings
from wsss.cam.multiscale import multiscale_cams
from wsss.config.sections import BackboneSettings
from wsss.models.classifier import Classifier
from wsss.models.disentangler import DisentanglerSettings
from wsss.models.timm_backbone import TimmBackbone

IMAGES = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
ROWS, COLUMNS = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 2, 1, 2])


def make(class_specific: bool = False, stride: int = 16) -> Classifier:
    torch.manual_seed(0)
    settings = BackboneSettings(model_name="resnet10t", output_stride=stride)  # type: ignore[arg-type]
    parts = [DisentanglerSettings(class_specific=class_specific)]
    model = Classifier(TimmBackbone(settings), ("a", "b", "c"), parts=parts).eval()
    torch.nn.init.normal_(model.head.weight)
    return model


def maps_of(model: Classifier, **values: Any) -> torch.Tensor:
    with torch.inference_mode():
        maps, logits = CcamMaps(CcamMapsSettings(**values))(model, IMAGES, ROWS, COLUMNS)
        assert torch.equal(logits, model(IMAGES).logits)
    return maps


def logits_of(model: Classifier) -> torch.Tensor:
    with torch.inference_mode():
        part = model.parts["disentangler"]
        logits: torch.Tensor = part(part.join(model(IMAGES, with_stages=True).stages))
    return logits


def test_one_map_for_all_tags() -> None:
    model = make()
    wanted = logits_of(model).sigmoid()[ROWS, 0]
    torch.testing.assert_close(maps_of(model), wanted)


def test_each_class_has_its_channel_and_its_side() -> None:
    model = make(class_specific=True)
    model.parts["disentangler"].inverted[2] = True
    probs = logits_of(model).sigmoid()
    wanted = torch.stack([probs[0, 0], 1 - probs[0, 2], probs[1, 1], 1 - probs[1, 2]])
    torch.testing.assert_close(maps_of(model), wanted)


@pytest.mark.parametrize("inverted", [False, True])
def test_the_published_form(inverted: bool) -> None:
    model = make()
    model.parts["disentangler"].inverted[:] = inverted
    logits = logits_of(model)[ROWS, 0]
    wanted = (1 - logits if inverted else logits).clamp(min=0)
    torch.testing.assert_close(maps_of(model, compat_logits=True), wanted)


@pytest.mark.parametrize("stride", [16, 32])
def test_class_maps_tell_tags_apart(stride: int) -> None:
    model = make(stride=stride)
    probs = logits_of(model).sigmoid()
    found = maps_of(model, with_class_maps=True)
    with torch.inference_mode():
        cams = model(IMAGES).maps.relu()
    for map_, row, column in zip(found, ROWS, COLUMNS, strict=True):
        cam = cams[row, column] / cams[row, column].max()
        if stride == 32:
            cam = torch.nn.functional.interpolate(cam[None, None], (4, 6), mode="bilinear")[0, 0]
        torch.testing.assert_close(map_.square(), probs[row, 0] * cam, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(found[0], found[1])


def test_scales_and_mirrors_add_up() -> None:
    model = make(class_specific=True)
    method = CcamMaps(CcamMapsSettings())
    settings: dict[str, Any] = {"grid": (4, 6), "scales": (1.0,), "align_corners": False}
    with torch.inference_mode():
        cams, _ = multiscale_cams(model, method, IMAGES, [(1, 3), (2,)], flip=True, **settings)
        plain = method(model, IMAGES, ROWS[:3], COLUMNS[:3])[0]
        mirrored = method(model, IMAGES.flip(-1), ROWS[:3], COLUMNS[:3])[0].flip(-1)
    wanted = (plain + mirrored) / 2
    wanted = wanted / wanted.amax(dim=(1, 2), keepdim=True)
    torch.testing.assert_close(torch.cat(cams), wanted, rtol=1e-4, atol=1e-4)


def test_another_classifier_is_refused(classifier: Callable[[str], Classifier]) -> None:
    with pytest.raises(ValueError, match=r"method: ccam needs .* 'disentangler'"):
        CcamMaps(CcamMapsSettings())(classifier("cnn"), IMAGES, ROWS, COLUMNS)
