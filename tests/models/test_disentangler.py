"""The part of CCAM: which features it sees, and that it survives saving and folding."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from wsss.config.sections import BackboneSettings
from wsss.models.classifier import Classifier, load_classifier, save_classifier
from wsss.models.disentangler import Disentangler, DisentanglerSettings
from wsss.models.fusion import fuse_batchnorm
from wsss.models.timm_backbone import TimmBackbone

IMAGES = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))


def settings_for(name: str, stride: int = 32) -> BackboneSettings:
    kwargs = {"dynamic_img_size": True} if name == "test_vit" else {}
    return BackboneSettings(model_name=name, output_stride=stride, timm_kwargs=kwargs)  # type: ignore[arg-type]


def make(name: str = "resnet10t", stride: int = 32, class_specific: bool = False) -> Classifier:
    torch.manual_seed(0)
    parts = [DisentanglerSettings(class_specific=class_specific)]
    backbone = TimmBackbone(settings_for(name, stride))
    model = Classifier(backbone, ("a", "b", "c"), num_extra=1, parts=parts).eval()
    norm = model.parts["disentangler"].norm  # as after training
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    return model


def logits_of(model: Classifier) -> torch.Tensor:
    with torch.inference_mode():
        part = model.parts["disentangler"]
        logits: torch.Tensor = part(part.join(model(IMAGES, with_stages=True).stages))
    return logits


@pytest.mark.parametrize(
    ("name", "stride"),
    [("resnet10t", 32), ("resnet10t", 16), ("test_vit", 16), ("test_efficientnet", 32)],
)
def test_networks_by_hand(name: str, stride: int) -> None:
    # Catches widths of the wrong stages, and a map on the deeper stage's grid.
    model = make(name, stride)
    part = model.parts["disentangler"]
    with torch.inference_mode():
        stages = model(IMAGES, with_stages=True).stages
        deeper = functional.interpolate(stages[3], (6, 4), mode="bilinear", align_corners=False)
        features = torch.cat([stages[2], deeper], dim=1)
        scores = functional.conv2d(features, part.conv.weight, padding=1)
        wanted = (scores - part.norm.running_mean) / (part.norm.running_var + 1e-5).sqrt()
    torch.testing.assert_close(logits_of(model), wanted, rtol=1e-4, atol=1e-4)
    assert wanted.shape == (2, 1, 6, 4)


def test_a_channel_for_each_class() -> None:
    part = make(class_specific=True).parts["disentangler"]
    assert part.conv.weight.shape[0] == len(part.inverted) == 4


def test_inverted_channels_are_turned_round() -> None:
    model = make(class_specific=True)
    part = model.parts["disentangler"]
    part.inverted[1] = True
    with torch.inference_mode():
        found = part.object_logits(model(IMAGES, with_stages=True).stages)
    torch.testing.assert_close(found, logits_of(model) * torch.tensor([1, -1, 1, 1])[:, None, None])


def test_it_comes_back_from_its_file(tmp_path: Path) -> None:
    model = make(class_specific=True)
    model.parts["disentangler"].inverted[2] = True
    save_classifier(model, settings_for("resnet10t"), "multi_label", tmp_path)
    loaded, _ = load_classifier(tmp_path)
    assert loaded.parts["disentangler"].inverted.tolist() == [False, False, True, False]
    torch.testing.assert_close(logits_of(loaded), logits_of(model))


@pytest.mark.parametrize("fixed", [False, True])
def test_folding_the_batch_norm_changes_nothing(fixed: bool) -> None:
    model = make()
    if fixed:
        part = model.parts["disentangler"]
        part.norm, norm = nn.BatchNorm2d(1, affine=False).eval(), part.norm
        part.norm.running_mean, part.norm.running_var = norm.running_mean, norm.running_var
    fused = fuse_batchnorm(model, IMAGES[:1])
    assert not isinstance(fused.parts["disentangler"].norm, nn.BatchNorm2d)
    torch.testing.assert_close(logits_of(fused), logits_of(model), rtol=1e-3, atol=1e-4)


def test_a_fixed_norm_has_nothing_to_learn() -> None:
    backbone = TimmBackbone(settings_for("resnet10t"))
    part = Disentangler(DisentanglerSettings(fixed_norm=True), backbone, 3)
    assert [name for name, _ in part.named_parameters()] == ["conv.weight"]


def test_logits_are_float32_under_autocast() -> None:
    model = make()
    with torch.autocast("cpu", torch.bfloat16):
        assert logits_of(model).dtype == torch.float32


def test_a_network_with_one_stage_is_refused() -> None:
    class OneStage(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Conv2d(3, 4, 1))

        def stage_widths(self) -> list[int]:
            return [4]

    with pytest.raises(ValueError, match=r"last two stages .* Sequential has 1"):
        Disentangler(DisentanglerSettings(), OneStage(), 3)  # type: ignore[arg-type]
