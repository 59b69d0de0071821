"""Maps from attention: the numbers of the papers' formulas, and plain matrix products."""

from collections.abc import Callable

import pytest
import torch

from wsss.cam.attention_rollout import rollout
from wsss.models.attention import captured_attention
from wsss.models.classifier import Classifier
from wsss.models.fusion import fuse_batchnorm
from wsss.registry import CAM_METHODS

ROWS = torch.tensor([0, 0, 2, 2, 2])
COLUMNS = torch.tensor([0, 2, 1, 2, 3])


def maps_of(name: str, model: Classifier, images: torch.Tensor, **settings: object) -> torch.Tensor:
    method = CAM_METHODS.build(CAM_METHODS.settings(name)(**settings))
    with torch.inference_mode():
        return method(model, images, ROWS, COLUMNS)[0]


def attention_of(model: Classifier, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(L, B, N, N), the mean over heads of each layer, and the ReLU CAM (B, K, N')."""
    with torch.inference_mode(), captured_attention(model.backbone.net) as kept:
        maps = model(images).maps.relu().flatten(2)
    return torch.stack([attention.mean(dim=1) for attention in kept]), maps


def test_rollout_of_two_layers() -> None:
    first = torch.tensor([[[0.5, 0.5], [0.2, 0.8]]])
    last = torch.tensor([[[0.9, 0.1], [0.3, 0.7]]])
    found = rollout([first, last], torch.eye(2)[None])
    torch.testing.assert_close(found, torch.tensor([[[0.7175, 0.2825], [0.1975, 0.8025]]]))
    # Not the other order of layers, whose product differs.
    assert not torch.allclose(rollout([last, first], torch.eye(2)[None]), found)


def test_rollout_is_the_product_of_whole_matrices() -> None:
    generator = torch.Generator().manual_seed(0)
    # rows that do not sum to 1, as of attention with some of it dropped
    layers = torch.rand(4, 2, 6, 6, generator=generator)
    product = torch.eye(6).expand(2, 6, 6)
    for layer in layers:
        mixed = (layer + torch.eye(6)) / 2
        product = mixed / mixed.sum(dim=2, keepdim=True) @ product
    found = rollout(list(layers), torch.eye(6).expand(2, 6, 6))
    torch.testing.assert_close(found, product)
    torch.testing.assert_close(found.sum(dim=2), torch.ones(2, 6))


@pytest.mark.parametrize(
    ("kind", "query", "queries"),
    [
        ("vit", "class_token", slice(0, 1)),
        ("class tokens", "class_token", slice(0, 4)),
        ("vit", "patches", slice(1, None)),
    ],
)
def test_rollout_maps(
    classifier: Callable[[str], Classifier], kind: str, query: str, queries: slice
) -> None:
    model = classifier(kind)
    images = torch.randn(3, 3, 32, 48)
    layers, _ = attention_of(model, images)
    prefix = layers.shape[2] - 6
    product = torch.eye(layers.shape[2]).expand(3, -1, -1)
    for layer in layers:
        product = (layer + torch.eye(len(layer[0]))) / 2 @ product
    wanted = product[:, queries, prefix:].mean(dim=1) * 6
    found = maps_of("attention_rollout", model, images, query=query)
    torch.testing.assert_close(found, wanted[ROWS].reshape(5, 2, 3), rtol=1e-4, atol=1e-5)
    assert (found[0] == found[1]).all()  # it knows no classes


@pytest.mark.parametrize("reg_tokens", [0, 4])
def test_rollout_without_a_class_token_follows_patches(reg_tokens: int) -> None:
    from wsss.config.sections import BackboneSettings
    from wsss.models.timm_backbone import TimmBackbone

    kwargs = {"class_token": False, "global_pool": "avg", "reg_tokens": reg_tokens}
    backbone = TimmBackbone(
        BackboneSettings(model_name="test_vit", timm_kwargs=kwargs | {"dynamic_img_size": True})
    )
    model = Classifier(backbone, ("a", "b", "c", "d")).eval()
    images = torch.randn(3, 3, 32, 48)
    layers, _ = attention_of(model, images)
    queries = torch.zeros(3, 1, reg_tokens + 6)
    queries[:, :, reg_tokens:] = 1 / 6
    wanted = rollout(list(layers), queries)[:, 0, reg_tokens:] * 6
    found = maps_of("attention_rollout", model, images)
    torch.testing.assert_close(found, wanted[ROWS].reshape(5, 2, 3))


@pytest.mark.parametrize("last_layers", [0, 1, 3])
def test_trans_cam_is_the_sum_of_attention_times_the_cam(
    classifier: Callable[[str], Classifier], last_layers: int
) -> None:
    model = classifier("vit")
    images = torch.randn(3, 3, 32, 48)
    layers, cams = attention_of(model, images)
    total = layers[-last_layers:].sum(dim=0)[:, 1:, 1:]
    wanted = torch.zeros(5, 6)
    for pair, (row, column) in enumerate(zip(ROWS, COLUMNS, strict=True)):
        for i in range(6):
            wanted[pair, i] = (total[row, i] * cams[row, column]).sum()
    found = maps_of("trans_cam", model, images, last_layers=last_layers)
    torch.testing.assert_close(found, wanted.reshape(5, 2, 3), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("refine", [False, True])
@pytest.mark.parametrize("last_layers", [1, 3])
def test_class_token_attention_by_hand(
    classifier: Callable[[str], Classifier], last_layers: int, refine: bool
) -> None:
    model = classifier("class tokens")
    images = torch.randn(3, 3, 32, 48)
    layers, cams = attention_of(model, images)
    wanted = torch.zeros(5, 6)
    for pair, (row, column) in enumerate(zip(ROWS, COLUMNS, strict=True)):
        attended = torch.stack([layer[row, column, 4:] for layer in layers[-last_layers:]]).mean(
            dim=0
        )
        fused = (attended * 6 * cams[row, column]).sqrt()
        wanted[pair] = layers.mean(dim=0)[row, 4:, 4:] @ fused if refine else fused
    found = maps_of("class_token_attention", model, images, last_layers=last_layers, refine=refine)
    torch.testing.assert_close(found, wanted.reshape(5, 2, 3), rtol=1e-4, atol=1e-5)


def test_a_network_as_the_stage_runs_it(classifier: Callable[[str], Classifier]) -> None:
    # The stage runs a fused copy; its class tokens and attention must be those of the model.
    model = classifier("class tokens")
    images = torch.randn(3, 3, 32, 48)
    fused = fuse_batchnorm(model, torch.rand(1, 3, 64, 64))
    found = maps_of("class_token_attention", fused, images)
    torch.testing.assert_close(found, maps_of("class_token_attention", model, images))


def test_what_a_model_lacks_is_named(classifier: Callable[[str], Classifier]) -> None:
    images = torch.randn(3, 3, 32, 48)
    with pytest.raises(ValueError, match="train one with the method class_tokens"):
        maps_of("class_token_attention", classifier("vit"), images)
    for name in ("attention_rollout", "trans_cam"):
        with pytest.raises(ValueError, match="ResNet has no blocks of global self-attention"):
            maps_of(name, classifier("cnn"), images)
    for name, kind in (("trans_cam", "vit"), ("class_token_attention", "class tokens")):
        with pytest.raises(ValueError, match=r"last_layers is 7, but VisionTransformer has 6"):
            maps_of(name, classifier(kind), images, last_layers=7)
