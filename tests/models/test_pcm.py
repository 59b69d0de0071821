"""The pixel correlation module against loops, and what a weighted mean cannot do."""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import wsss.models.pcm as module
from wsss.config.sections import BackboneSettings
from wsss.models.classifier import Classifier, load_classifier, save_classifier
from wsss.models.pcm import PixelCorrelationSettings, normalised, with_background
from wsss.models.timm_backbone import TimmBackbone

THESIS = PixelCorrelationSettings(channels=(5, 6), embedding=7, relu=False)
SMALL = PixelCorrelationSettings(channels=(5, 6), embedding=7)
CNN = BackboneSettings(model_name="resnet10t")


def make(
    settings: PixelCorrelationSettings = SMALL, backbone: BackboneSettings = CNN
) -> Classifier:
    torch.manual_seed(0)
    return Classifier(TimmBackbone(backbone), ("a", "b"), parts=[settings]).eval()


def images(seed: int = 0) -> Tensor:
    """(2, 3, 64, 96), of which stage 3 and 4 have (4, 6) cells and stage 2 has (8, 12)."""
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(seed))


def refined(model: Classifier, maps: Tensor, pictures: Tensor | None = None) -> Tensor:
    pictures = images() if pictures is None else pictures
    with torch.no_grad():
        found: Tensor = model.parts["pcm"](pictures, model(pictures, with_stages=True).stages, maps)
    return found


@pytest.mark.parametrize("settings", [SMALL, THESIS, SMALL.model_copy(update={"stages": (2, 4)})])
def test_against_a_loop_over_pairs_of_cells(settings: PixelCorrelationSettings) -> None:
    model, maps = make(settings), torch.randn(2, 3, 4, 6)
    part, stages = model.parts["pcm"], model(images(), with_stages=True).stages
    expected = torch.zeros(2, 3, 4, 6)
    corners: dict[str, Any] = {"mode": "bilinear", "align_corners": True}
    picture = functional.interpolate(images(), (4, 6), **corners)
    cells = list(product(range(4), range(6)))
    with torch.no_grad():
        for b in range(2):
            vectors = {}
            for y, x in cells:
                parts = [picture[b, :, y, x]]
                for stage, conv in zip(settings.stages, part.reduce, strict=True):
                    features = functional.interpolate(stages[stage - 1], (4, 6), **corners)
                    reduced = conv.weight[:, :, 0, 0] @ features[b, :, y, x]
                    parts.append(reduced.clamp(min=0) if settings.relu else reduced)
                vector = part.embed.weight[:, :, 0, 0] @ torch.cat(parts)
                vectors[y, x] = vector / vector.norm()
            for to in cells:
                weights = {cell: max(0.0, float(vectors[cell] @ vectors[to])) for cell in cells}
                for (y, x), weight in weights.items():
                    share = weight / sum(weights.values())
                    expected[b, :, to[0], to[1]] += share * maps[b, :, y, x]
    torch.testing.assert_close(refined(model, maps), expected)


def test_columns_sum_to_one() -> None:
    """The affinity itself comes out where maps are one-hot, a channel per cell."""
    one_hot = torch.eye(24).view(1, 24, 4, 6).expand(2, -1, -1, -1)
    affinity = refined(make(), one_hot).flatten(2)  # (B, from, to)
    torch.testing.assert_close(affinity.sum(dim=1), torch.ones(2, 24))
    assert affinity.min() >= 0
    # nothing resembles a cell more than itself
    assert torch.equal(affinity.argmax(dim=1), torch.arange(24).expand(2, 24))
    assert not torch.allclose(affinity, affinity.transpose(1, 2))


def test_a_constant_map_stays_and_no_value_leaves_the_range() -> None:
    model = make()
    constant = torch.full((2, 1, 4, 6), -3.0)
    torch.testing.assert_close(refined(model, constant), constant)
    maps = torch.randn(2, 3, 4, 6)
    found = refined(model, maps)
    assert (found.amax(dim=(2, 3)) < maps.amax(dim=(2, 3))).all()
    assert (found.amin(dim=(2, 3)) > maps.amin(dim=(2, 3))).all()


@pytest.mark.parametrize("align_corners", [True, False])
def test_mirrored_input_gives_the_mirrored_map(align_corners: bool) -> None:
    part = make(SMALL.model_copy(update={"align_corners": align_corners})).parts["pcm"]
    stages = tuple(torch.randn(2, width, 8, 12) for width in (64, 128, 256, 512))
    maps = torch.randn(2, 3, 4, 6)
    found = part(images(), stages, maps)
    other = part(images().flip(-1), tuple(stage.flip(-1) for stage in stages), maps.flip(-1))
    torch.testing.assert_close(other.flip(-1), found)


def test_it_is_linear_in_the_maps() -> None:
    model, first, other = make(), torch.randn(2, 3, 4, 6), torch.randn(2, 3, 4, 6)
    torch.testing.assert_close(
        refined(model, 2 * first - other), 2 * refined(model, first) - refined(model, other)
    )


def test_it_makes_no_difference_how_many_cells_are_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, maps = make(), torch.randn(2, 3, 4, 6)
    whole = refined(model, maps)
    monkeypatch.setattr(module, "COLUMNS_AT_ONCE", 5)
    torch.testing.assert_close(refined(model, maps), whole)


def test_the_maps_have_a_gradient_and_the_features_have_none() -> None:
    model = make()
    output = model(images(), with_stages=True)
    maps = torch.randn(2, 3, 4, 6, requires_grad=True)
    model.parts["pcm"](images(), output.stages, maps).square().sum().backward()
    assert maps.grad is not None and maps.grad.abs().min() > 0
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parts.parameters())


def test_mixed_precision_leaves_cosines_alone() -> None:
    model, maps = make(), torch.randn(2, 3, 4, 6)
    stages = model(images(), with_stages=True).stages
    plain = model.parts["pcm"](images(), stages, maps)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model.parts["pcm"](images(), stages, maps)
    assert mixed.dtype == torch.float32 and torch.equal(mixed, plain)


@pytest.mark.parametrize("name", ["test_vit", "convnext_atto"])
def test_other_backbones(name: str) -> None:
    model = make(backbone=BackboneSettings(model_name=name))
    maps = model(images()).maps
    assert refined(model, maps).shape == maps.shape


def test_the_sizes_of_the_thesis_and_of_seam() -> None:
    seam = make(PixelCorrelationSettings()).parts["pcm"]
    thesis = make(PixelCorrelationSettings(channels=(256, 256), embedding=512, relu=False)).parts[
        "pcm"
    ]
    assert [tuple(tensor.shape[:2]) for tensor in seam.parameters()] == [
        (64, 256), (128, 512), (192, 195),
    ]  # fmt: skip
    assert [tuple(tensor.shape[:2]) for tensor in thesis.parameters()] == [
        (256, 256), (256, 512), (512, 515),
    ]  # fmt: skip


def test_a_stage_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    three = TimmBackbone.stages(TimmBackbone(CNN))[:3]
    monkeypatch.setattr(TimmBackbone, "stages", lambda self: three)
    monkeypatch.setattr(TimmBackbone, "stage_widths", lambda self: [64, 128, 256])
    with pytest.raises(ValueError, match=r"stages \(3, 4\), but the backbone has 3"):
        make()


def test_it_comes_back_from_a_file(tmp_path: Path) -> None:
    model, maps = make(), torch.randn(2, 3, 4, 6)
    save_classifier(model, CNN, "multi_label", tmp_path)
    restored, _ = load_classifier(tmp_path)
    assert restored.part_settings == (SMALL,)
    torch.testing.assert_close(refined(restored, maps), refined(model, maps))


def test_maps_are_normalised_one_by_one() -> None:
    maps = torch.tensor([[[[-1.0, 4.0, 1.0]], [[-2.0, -1.0, 0.0]]]])
    expected = torch.tensor([[[[0.0, 1.0, 0.25]], [[0.0, 0.0, 0.0]]]])
    assert torch.equal(normalised(maps), expected)


def by_hand(maps: Tensor) -> Tensor:
    found = torch.zeros(len(maps), maps.shape[1] + 1, *maps.shape[2:])
    for b, y, x in product(range(len(maps)), range(maps.shape[2]), range(maps.shape[3])):
        scores = maps[b, :, y, x].tolist()
        kept = [score if score == max(scores) else 0.0 for score in scores]
        found[b, :, y, x] = torch.tensor([1 - max(scores), *kept])
    return found


@pytest.mark.parametrize("make_maps", [torch.zeros, torch.ones, torch.rand])
def test_classes_and_background_compete(make_maps: Callable[..., Tensor]) -> None:
    maps = make_maps(2, 3, 4, 5)
    torch.testing.assert_close(with_background(maps), by_hand(maps))
