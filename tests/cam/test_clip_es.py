"""CLIP-ES: its formulas by hand, and the whole by open_clip's own modules and plain matrices."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors.torch import save_file
from torch.nn import functional

from wsss.cam._clip import Clip, ClipSettings, on_one_scale, stretched
from wsss.cam.clip_es import (
    ClipEs,
    ClipEsSettings,
    in_boxes,
    log_odds,
    sinkhorn,
    spread_in_boxes,
)
from wsss.cam.grad_cam import grad_cam_maps
from wsss.loading.normalisation import Normalisation
from wsss.models.classifier import Classifier

Make = Callable[[str], Classifier]
NAMES = ("a", "b", "c", "d")
ROWS, COLUMNS = torch.tensor([0, 0, 2, 2, 2]), torch.tensor([0, 2, 1, 2, 3])


def clip_es(tiny_clip: dict[str, str], **values: Any) -> ClipEs:
    return ClipEs(ClipEsSettings(**(tiny_clip | {"attention_layers": 2} | values)))


@pytest.mark.parametrize(
    ("rounds", "wanted"),
    [
        (1, [[9 / 13, 4 / 13], [3 / 11, 8 / 11]]),
        (3, [[0.70956, 0.29044], [0.28935, 0.71065]]),
        (4, [[0.71001, 0.28999], [0.28980, 0.71020]]),
    ],
)
def test_sinkhorn_of_two_patches(rounds: int, wanted: list[list[float]]) -> None:
    found = sinkhorn(torch.tensor([[0.6, 0.4], [0.2, 0.8]]), rounds)
    torch.testing.assert_close(found, torch.tensor(wanted), rtol=0, atol=1e-5)


def test_sinkhorn_ends_with_sums_of_one() -> None:
    generator = torch.Generator().manual_seed(0)
    found = sinkhorn(torch.rand(2, 5, 5, generator=generator), rounds=50)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2, 5))
    torch.testing.assert_close(found.sum(dim=2), torch.ones(2, 5))


def test_log_odds_point_where_the_softmax_does() -> None:
    # d p_c / d z_k = p_c (1[k = c] - p_k), over texts that are present
    scores = torch.tensor([[1.0, -0.5, 2.0, 0.3], [0.1, 0.2, 0.3, 5.0]], dtype=torch.float64)
    present = torch.tensor([[True, True, False, True], [True, False, True, True]])
    probs = scores.masked_fill(~present, -torch.inf).softmax(dim=1)
    for row, column in present.nonzero().tolist():
        leaf = scores.clone().requires_grad_()
        odds = log_odds(leaf, present)[row, column]
        (gradient,) = torch.autograd.grad(odds, leaf)
        p = probs[row, column]
        torch.testing.assert_close(odds.detach().sigmoid(), p)
        wanted = torch.zeros_like(scores)
        wanted[row] = p * ((torch.arange(4) == column).double() - probs[row])
        torch.testing.assert_close(gradient * p * (1 - p), wanted)


def test_softmax_grad_cam_in_closed_form() -> None:
    # f = mean of A W, z = T f: the map is ReLU(sum_k p_c (1[k = c] - p_k) A W T_k) / cells
    generator = torch.Generator().manual_seed(1)
    cells = torch.randn(1, 6, 2, 3, generator=generator)
    weights, texts = torch.randn(6, 4, generator=generator), torch.randn(5, 4, generator=generator)
    present = torch.tensor([[True, True, False, True, True]])
    leaf = cells.clone().requires_grad_()
    scores = leaf.mean(dim=(2, 3)) @ weights @ texts.T
    (gradient,) = torch.autograd.grad(log_odds(scores, present)[0, 1], leaf)
    found = grad_cam_maps(cells, gradient)[0]
    per_text = torch.einsum("dhw,de,ke->khw", cells[0], weights, texts)
    probs = scores.detach()[0].masked_fill(~present[0], -torch.inf).softmax(dim=0)
    wanted = (probs[1] * (per_text[1] - (probs[:, None, None] * per_text).sum(dim=0))).relu()
    assert wanted.max() > 0
    torch.testing.assert_close(stretched(found[None]), stretched(wanted[None]))


def test_a_sure_class_keeps_its_own_evidence() -> None:
    scores = torch.tensor([[40.0, 0.0, -1.0]], requires_grad=True)
    (flat,) = torch.autograd.grad(scores.softmax(dim=1)[0, 0], scores)
    (steep,) = torch.autograd.grad(log_odds(scores, torch.ones(1, 3).bool())[0, 0], scores)
    assert flat[0, 0] == 0
    torch.testing.assert_close(steep, torch.tensor([[1.0, -0.7311, -0.2689]]), rtol=0, atol=1e-4)


def boxes_by_flooding(wanted: np.ndarray) -> np.ndarray:
    """Boxes of regions found by walking to the eight neighbours."""
    seen, inside = np.zeros_like(wanted), np.zeros_like(wanted)
    for start in zip(*wanted.nonzero(), strict=True):
        region, todo = [], [start]
        while todo:
            y, x = todo.pop()
            if (
                0 <= y < wanted.shape[0]
                and 0 <= x < wanted.shape[1]
                and wanted[y, x]
                and not seen[y, x]
            ):
                seen[y, x] = True
                region.append((y, x))
                todo += [(y + a, x + b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
        if region:
            (top, left), (bottom, right) = np.min(region, axis=0), np.max(region, axis=0)
            inside[top : bottom + 1, left : right + 1] = True
    return inside


@settings(max_examples=60)
@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 2**31), st.floats(0.1, 0.9))
def test_boxes_around_regions(height: int, width: int, seed: int, share: float) -> None:
    maps = torch.rand(2, height, width, generator=torch.Generator().manual_seed(seed))
    found = in_boxes(maps, share)
    for map_, boxes in zip(maps, found, strict=True):
        np.testing.assert_array_equal(boxes, boxes_by_flooding((map_ > share).numpy()))


def test_the_published_boxes_stop_before_the_last_patch() -> None:
    maps = torch.zeros(2, 3, 4)
    maps[0, 1:, 2:] = maps[1, 0, 0] = 1
    found = in_boxes(maps, 0.4, compat_boxes=True)
    assert found[0].nonzero().tolist() == [[1, 2]]
    assert found[1].nonzero().tolist() == [[0, 0]]


def test_spreading_is_the_product_of_whole_matrices() -> None:
    generator = torch.Generator().manual_seed(2)
    attended, maps = (torch.rand(*n, generator=generator) for n in ((6, 6), (2, 2, 3)))
    inside = torch.rand(2, 2, 3, generator=generator) > 0.5
    whole = attended.numpy()
    for _ in range(3):
        whole = whole / whole.sum(axis=0, keepdims=True)
        whole = whole / whole.sum(axis=1, keepdims=True)
    whole = (whole + whole.T) / 2
    whole = whole @ whole
    found = spread_in_boxes(attended, maps, inside)
    for map_, box, spread in zip(maps, inside, found, strict=True):
        columns = whole * box.numpy().reshape(1, 6)
        np.testing.assert_allclose(spread.flatten(), columns @ map_.numpy().ravel(), rtol=1e-5)


def test_an_unlikely_window_counts_little_and_a_class_that_never_wins_is_kept() -> None:
    maps = torch.ones(3, 1, 1)
    found = on_one_scale(maps, torch.tensor([0.9, 0.02, 1e-9]))
    torch.testing.assert_close(found.flatten(), torch.tensor([0.9, 0.02, 0.01]))


def by_open_clip(
    clip: Clip, image: torch.Tensor, present: list[int], column: int, *, affinity: bool
) -> np.ndarray:
    """The published procedure for one image of the native size, with open_clip's own forward."""
    net, kept, attended = clip.net, {}, []
    blocks = net.visual.transformer.resblocks

    def keep(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        kept["activation"] = output.detach().requires_grad_()
        return kept["activation"]

    def watch(module: Any, inputs: Any) -> None:
        with torch.no_grad():
            normed = module.ln_1(inputs[0])
            attended.append(module.attn(normed, normed, normed, need_weights=True)[1][0, 1:, 1:])

    handles = [block.register_forward_pre_hook(watch) for block in blocks]
    pixels = clip.normalisation.from_unit(image)
    net.visual.output_tokens = True
    try:
        net.visual(pixels)
        handles.append(blocks[-1].ln_1.register_forward_hook(keep))
        _, patches = net.visual(pixels)
    finally:
        net.visual.output_tokens = False
        for handle in handles:
            handle.remove()
    feature = functional.normalize((patches @ net.visual.proj).mean(dim=1), dim=1)
    texts = clip.texts(NAMES)
    rivals = torch.cat([texts[present], texts[len(NAMES) :]])
    probs = (feature @ rivals.T * net.logit_scale.exp()).softmax(dim=1)
    score = probs[0, present.index(column)]
    (gradient,) = torch.autograd.grad(score, kept["activation"])
    weights = gradient[0, 1:].mean(dim=0)
    found = (kept["activation"].detach()[0, 1:] @ weights).relu().numpy()
    found = (found - found.min()) / (found - found.min()).max()
    if affinity:
        box = boxes_by_flooding(found.reshape(4, 4) > 0.4).reshape(1, 16)
        whole = torch.stack(attended[:3][-2:]).mean(dim=0).numpy()
        for _ in range(3):
            whole = whole / whole.sum(axis=0, keepdims=True)
            whole = whole / whole.sum(axis=1, keepdims=True)
        whole = (whole + whole.T) / 2
        found = (whole @ whole * box) @ found
        found = (found - found.min()) / (found - found.min()).max()
    return found.reshape(4, 4) * float(score.detach().clamp_min(0.01))


@pytest.mark.parametrize("affinity", [False, True])
def test_maps_are_those_of_the_published_procedure(
    classifier: Make, tiny_clip: dict[str, str], affinity: bool
) -> None:
    model, method = classifier("cnn"), clip_es(tiny_clip, affinity=affinity)
    pixels = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    mean, std = (
        torch.tensor(values)[:, None, None]
        for values in vars(model.backbone.normalisation).values()
    )
    found, logits = method(model, (pixels - mean) / std, ROWS, COLUMNS)
    for map_, row, column in zip(found, ROWS.tolist(), COLUMNS.tolist(), strict=True):
        present = COLUMNS[row == ROWS].tolist()
        wanted = by_open_clip(
            method.clip, pixels[row : row + 1], present, column, affinity=affinity
        )
        assert wanted.max() > 0
        np.testing.assert_allclose(map_, wanted, rtol=1e-3, atol=1e-4 * wanted.max())
    with torch.no_grad():
        torch.testing.assert_close(logits, model((pixels - mean) / std).logits)


def test_other_tags_of_the_same_image_compete_and_those_of_another_do_not(
    classifier: Make, tiny_clip: dict[str, str]
) -> None:
    model, method = classifier("cnn"), clip_es(tiny_clip)
    images = torch.randn(3, 3, 32, 48, generator=torch.Generator().manual_seed(4))
    maps, _ = method(model, images, ROWS, COLUMNS)
    for row in (0, 2):
        at = (row == ROWS).nonzero().squeeze(1)
        alone, _ = method(model, images[row : row + 1], torch.zeros_like(at), COLUMNS[at])
        torch.testing.assert_close(alone, maps[at], rtol=1e-3, atol=1e-5)
    single, _ = method(model, images[:1], torch.tensor([0]), torch.tensor([0]))
    assert (single[0] / single[0].max() - maps[0] / maps[0].max()).abs().max() > 1e-3


def test_the_classifiers_normalisation_does_not_matter(
    classifier: Make, tiny_clip: dict[str, str]
) -> None:
    method, pixels = clip_es(tiny_clip), torch.rand(1, 3, 32, 48)
    found = []
    for mean, std in (((0.5, 0.4, 0.3), (0.2, 0.3, 0.1)), ((0, 0, 0), (1, 1, 1))):
        model = classifier("cnn")
        model.backbone.normalisation = Normalisation(mean, std)
        images = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
        found.append(method(model, images, torch.tensor([0]), torch.tensor([1]))[0])
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4)


def test_tokens_are_open_clips_own(classifier: Make, tiny_clip: dict[str, str]) -> None:
    clip, model = Clip(ClipSettings(**tiny_clip)), classifier("cnn")
    model.backbone.normalisation = clip.normalisation
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(clip.embed(model, images), clip.net.visual._embeds(images))


def test_positions_of_another_size_are_the_right_way_round(
    classifier: Make, tiny_clip: dict[str, str]
) -> None:
    clip, model = Clip(ClipSettings(**tiny_clip)), classifier("cnn")
    visual = clip.net.visual
    visual.conv1.weight.zero_()
    visual.class_embedding.zero_()
    visual.ln_pre = torch.nn.Identity()
    visual.positional_embedding.zero_()
    ramp = torch.arange(4.0)
    visual.positional_embedding[1:, 0] = ramp.repeat(4)  # left to right
    visual.positional_embedding[1:, 1] = ramp.repeat_interleave(4)  # down
    visual.positional_embedding[0, 2] = 7
    images = torch.randn(1, 3, 30, 63)  # 4 x 8 patches, rounded up
    assert clip.grid(images) == (4, 8)
    tokens = clip.embed(model, images)[0]
    assert tokens[0, :3].tolist() == [0, 0, 7]
    along, down = tokens[1:, 0].reshape(4, 8), tokens[1:, 1].reshape(4, 8)
    torch.testing.assert_close(along, along[:1].expand(4, 8), rtol=0, atol=1e-5)
    assert (along[0].diff() > 0).all()
    torch.testing.assert_close(down, ramp[:, None].expand(4, 8), rtol=0, atol=1e-5)


def test_words_of_classes_and_background(tiny_clip: dict[str, str]) -> None:
    values = {"class_texts": {"b": "bird avian"}, "background": ("sky", "Traffic light", "b")}
    clip = Clip(ClipSettings(**tiny_clip, **values))
    assert clip.words(("a", "b")) == ["a", "bird avian", "sky", "Traffic light"]
    assert clip.words(("traffic_light", "b"))[2:] == ["sky"]
    with pytest.raises(ValueError, match="class_texts names 'b', which is no class"):
        clip.words(("a", "c"))
    clip = Clip(ClipSettings(**tiny_clip, background=("sky",)))
    with pytest.raises(ValueError, match=r"every word of .* stands for a class"):
        clip.words(("sky", "a"))


def test_a_text_is_the_mean_of_its_prompts(tiny_clip: dict[str, str]) -> None:
    import open_clip

    prompts = ("a photo of a {}.", "the {}")
    clip = Clip(ClipSettings(**tiny_clip, prompts=prompts, class_texts={"a": "horse"}))
    tokenizer = open_clip.get_tokenizer("tiny")
    with torch.no_grad():
        made = clip.net.encode_text(tokenizer(["a photo of a horse.", "the horse"]))
    mean = functional.normalize(made, dim=1).mean(dim=0)
    torch.testing.assert_close(clip.texts(("a",))[0], mean / mean.norm())
    assert len(clip.texts(("a",))) == 1 + len(clip.settings.background)


def test_mixed_precision_leaves_words_and_cosines_alone(tiny_clip: dict[str, str]) -> None:
    features = torch.randn(2, 5, 24)
    found = []
    for mixed in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            clip = Clip(ClipSettings(**tiny_clip))
            found.append(clip.cosines(features, clip.texts(NAMES)))
    assert torch.equal(*found)


def test_random_weights_are_the_same_each_time(tiny_clip: dict[str, str]) -> None:
    state = torch.get_rng_state()
    first, other = (Clip(ClipSettings(**tiny_clip)).net.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], other[name]) for name in first)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_of_a_file(
    tiny_clip: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    weights = {
        name: tensor.half()
        for name, tensor in Clip(ClipSettings(**tiny_clip)).net.state_dict().items()
    }
    weights["visual.proj"] = torch.full_like(weights["visual.proj"], 0.5)
    path = tmp_path / f"clip{suffix}"
    save_file(weights, path) if suffix == ".safetensors" else torch.save(weights, path)
    monkeypatch.setenv("CLIP_FOLDER", str(tmp_path))
    settings = ClipSettings(**(tiny_clip | {"weights": f"$CLIP_FOLDER/clip{suffix}"}))
    found = Clip(settings).net
    assert (found.visual.proj == 0.5).all() and found.visual.proj.dtype == torch.float32
    assert not any(parameter.requires_grad for parameter in found.parameters())


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_weights_file_that_runs_code_is_refused(
    tiny_clip: dict[str, str], tmp_path: Path
) -> None:
    path, trace = tmp_path / "bomb.pt", tmp_path / "trace"
    torch.save({"state_dict": {"visual.proj": Bomb(trace)}}, path)
    with pytest.raises(ValueError, match="be read as plain tensors"):
        Clip(ClipSettings(**(tiny_clip | {"weights": str(path)})))
    assert not trace.exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_name": "ViT-B-61"}, "'ViT-B-61' is no model of open_clip; did you mean"),
        ({"model_name": "RN50"}, "'RN50' is not two plain transformers"),
        ({"weights": "opneai"}, "'opneai' is no weights of .*did you mean 'openai'.*or a file"),
        ({"model_name": "ViT-B-16"}, "with QuickGELU, which ViT-B-16 has not.*ViT-B-16-quickgelu"),
        ({"weights": "missing.safetensors"}, r"missing\.safetensors does not exist"),
        ({"weights": "$NO_SUCH_FOLDER/clip.pt"}, "method.weights is .*not set"),
    ],
)
def test_what_can_not_be_loaded_is_named(values: dict[str, str], message: str) -> None:
    pytest.importorskip("open_clip")
    with pytest.raises(ValueError, match=message):
        Clip(ClipSettings(**values))


def test_more_layers_than_there_are(tiny_clip: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="attention_layers is 8, but tiny has 3 blocks"):
        clip_es(tiny_clip, attention_layers=8)


def test_without_open_clip_the_way_to_install_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ImportError, match="pip install open_clip_torch"):
        ClipEs(ClipEsSettings())


@pytest.mark.parametrize("prompt", ["a photo", "{} and {}"])
def test_a_prompt_has_one_gap(prompt: str) -> None:
    with pytest.raises(ValidationError, match=r"one \{\}"):
        ClipEsSettings(prompts=(prompt,))
