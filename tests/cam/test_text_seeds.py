"""Text seeds: redundancy by elementwise products, and the changed blocks by loops over heads."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from wsss.cam.multiscale import multiscale_cams
from wsss.cam.text_seeds import TextSeeds, TextSeedsSettings, without_redundancy
from wsss.models.classifier import Classifier

Make = Callable[[str], Classifier]
NAMES = ("a", "b", "c", "d")


def text_seeds(tiny_clip: dict[str, str], **values: Any) -> TextSeeds:
    return TextSeeds(TextSeedsSettings(**(tiny_clip | {"layers": 2} | values)))


def test_redundancy_by_elementwise_products() -> None:
    generator = torch.Generator().manual_seed(0)
    patches, texts, image = (
        functional.normalize(torch.randn(n, 8, generator=generator), dim=1) for n in (5, 4, 1)
    )
    found = without_redundancy((patches @ texts.T)[None], image @ texts.T)[0]
    raw = np.exp(2 * (image @ texts.T).numpy()[0])
    weights = raw / raw.mean()
    for p in range(5):
        products = [weights[t] * patches[p].numpy() * texts[t].numpy() for t in range(4)]
        for t in range(4):
            wanted = (products[t] - np.mean(products, axis=0)).sum()
            assert float(found[p, t]) == pytest.approx(wanted, abs=1e-6)


def test_what_all_texts_share_leaves_no_map() -> None:
    cosines = torch.linspace(0, 1, 6)[None, :, None].expand(1, 6, 3)
    found = without_redundancy(cosines, torch.full((1, 3), 0.2))
    torch.testing.assert_close(found, torch.zeros(1, 6, 3))


def features_by_loops(net: Any, images: torch.Tensor, changed: int) -> tuple[Any, Any]:
    """Features of patches and of the image; single heads, weights as they lie in the file."""
    visual = net.visual
    tokens = visual._embeds(images)
    alike = None
    blocks = list(visual.transformer.resblocks)
    for index, block in enumerate(blocks):
        x, attn = block.ln_1(tokens), block.attn
        width = attn.embed_dim // attn.num_heads
        if index == len(blocks) - changed:
            alike = tokens.clone()
        if alike is not None:
            heads = []
            for head in range(attn.num_heads):
                parts = []
                for part in range(3):
                    begin = part * attn.embed_dim + head * width
                    rows = slice(begin, begin + width)
                    parts.append(x @ attn.in_proj_weight[rows].T + attn.in_proj_bias[rows])
                total = sum(
                    torch.softmax(vectors @ vectors.transpose(1, 2) / width**0.5, dim=2)
                    for vectors in parts
                )
                heads.append(total / 3 @ parts[2])
            alike = alike + attn.out_proj(torch.cat(heads, dim=2))
        tokens = block(tokens)
    return tuple(visual.ln_post(kept) @ visual.proj for kept in (alike[:, 1:], tokens[:, 0]))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_maps_by_loops(classifier: Make, tiny_clip: dict[str, str], layers: int) -> None:
    model, method = classifier("cnn"), text_seeds(tiny_clip, layers=layers)
    model.backbone.normalisation = method.clip.normalisation
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    rows, columns = torch.tensor([0, 0, 1]), torch.tensor([1, 3, 2])
    with torch.inference_mode():
        found, logits = method(model, images, rows, columns)
        torch.testing.assert_close(logits, model(images).logits)
        patches, image = features_by_loops(method.clip.net, images, layers)
        torch.testing.assert_close(image, method.clip.net.encode_image(images))
        texts = method.clip.texts(NAMES)
        cosines = functional.normalize(image, dim=1) @ texts.T
        seeds = without_redundancy(functional.normalize(patches, dim=2) @ texts.T, cosines)
        probs = (cosines * method.clip.net.logit_scale.exp()).softmax(dim=1)
    for map_, row, column in zip(found, rows, columns, strict=True):
        wanted = seeds[row, :, column].reshape(4, 4)
        wanted = (wanted - wanted.min()) / (wanted.max() - wanted.min())
        wanted = wanted * probs[row, column].clamp_min(0.01)
        torch.testing.assert_close(map_, wanted, rtol=1e-4, atol=1e-5)


def test_the_classifier_gives_the_logits_alone(classifier: Make, tiny_clip: dict[str, str]) -> None:
    method, images = text_seeds(tiny_clip), torch.randn(1, 3, 32, 48)
    model = classifier("cnn")
    found = []
    for scale in (1, -3):
        model.head.weight.data *= scale
        with torch.inference_mode():
            found.append(method(model, images, torch.tensor([0]), torch.tensor([2])))
    torch.testing.assert_close(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1] * -3, found[1][1])


def test_words_choose_the_map(classifier: Make, tiny_clip: dict[str, str]) -> None:
    """A class with another's words has the other's map, at one scale after normalisation."""
    model, images = classifier("cnn"), torch.randn(1, 3, 32, 48)
    found = []
    for texts, ids in (({"a": "cat", "b": "dog"}, (1,)), ({"a": "dog", "b": "cat"}, (2,))):
        method = text_seeds(tiny_clip, class_texts=texts)
        with torch.inference_mode():
            maps, _ = multiscale_cams(
                model, method, images, [ids], grid=(8, 12), scales=(1.0,), flip=False,
                align_corners=False,
            )  # fmt: skip
        found.append(maps[0])
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4)
    assert found[0].max() > 0.99  # whatever its probability


def test_more_layers_than_there_are(tiny_clip: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"method\.layers is 4, but tiny has 3 blocks"):
        text_seeds(tiny_clip, layers=4)
