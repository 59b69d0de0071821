"""The walk among features against a plain loop, and what the network is fed and gives."""

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from wsss.artifacts import ScoreMap
from wsss.config.params import parse_params
from wsss.refine import Context, vit_affinity
from wsss.refine.vit_affinity import VitAffinity, VitAffinitySettings, propagate
from wsss.settings import ConfigError


def of(**values: Any) -> VitAffinitySettings:
    tiny = {"model_name": "test_vit", "output_stride": 16, "long_side": 64}
    return VitAffinitySettings.model_validate(tiny | values)


def one_map(scores: np.ndarray, size: tuple[int, int]) -> ScoreMap:
    count = len(scores)
    ids = np.arange(1, count + 1, dtype=np.uint8)
    return ScoreMap(ids, scores.astype(np.float32), size, np.ones(count, np.float32))


def noise(*size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def plain_loop(features: torch.Tensor, maps: torch.Tensor, how: VitAffinitySettings) -> np.ndarray:
    """One pair of cells at a time, in double precision."""
    cells = features.T.double().numpy()
    values = maps.double().numpy()
    for _ in range(how.n_iters):
        result = np.zeros_like(values)
        for i, cell in enumerate(cells):
            weights = []
            for j, other in enumerate(cells):
                lengths = math.sqrt(float(cell @ cell)) * math.sqrt(float(other @ other))
                cosine = 1.0 if i == j else float(cell @ other) / lengths
                if how.softmax == "related" and cosine <= how.delta:
                    weights.append(0.0)
                else:
                    weights.append(math.exp(max(0.0, cosine - how.delta) / how.tau))
            for row in range(len(values)):
                result[row, i] = np.dot(weights, values[row]) / sum(weights)
        values = result
    return values


@pytest.mark.parametrize("softmax", ["related", "all"])
@pytest.mark.parametrize("block", [2**22, 30, 1])
@pytest.mark.parametrize(("delta", "tau", "n_iters"), [(0.1, 0.3, 1), (-0.2, 0.1, 3), (0.9, 1, 2)])
def test_equals_a_plain_loop(
    softmax: str,
    block: int,
    delta: float,
    tau: float,
    n_iters: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vit_affinity, "BLOCK", block)  # rows together: all, 2 of 13, 1
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.normal(size=(5, 13)).astype(np.float32))
    maps = torch.from_numpy(rng.random((3, 13)).astype(np.float32))
    how = of(softmax=softmax, delta=delta, tau=tau, n_iters=n_iters)
    np.testing.assert_allclose(
        propagate(features, maps, how), plain_loop(features, maps, how), atol=2e-6
    )


@settings(max_examples=40)
@given(
    st.integers(1, 12),
    st.sampled_from(["related", "all"]),
    st.floats(-1, 0.999),
    st.floats(1e-3, 10),
    st.integers(0, 2**31),
)
def test_rows_sum_to_one_and_the_range_is_kept(
    count: int, softmax: str, delta: float, tau: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    features = torch.from_numpy(rng.normal(size=(4, count)).astype(np.float32))
    features[:, rng.random(count) < 0.3] = 0  # have no direction
    how = of(softmax=softmax, delta=delta, tau=tau)
    rows = propagate(features, torch.eye(count), how).T
    assert rows.min() >= 0
    np.testing.assert_allclose(rows.sum(dim=1), 1, atol=1e-5)
    maps = torch.from_numpy(rng.random((2, count)).astype(np.float32))
    result = propagate(features, maps, how)
    assert (result >= maps.amin(dim=1, keepdim=True) - 1e-6).all()
    assert (result <= maps.amax(dim=1, keepdim=True) + 1e-6).all()


def test_a_small_object_among_a_thousand_cells() -> None:
    """The formula as written gives the 990 others 64 % of its weight; see `propagate`."""
    features = torch.zeros(2, 1000)
    features[0, :10] = 1
    features[1, 10:] = 1
    maps = (torch.arange(1000) < 10).float()[None]
    kept = propagate(features, maps, of(delta=0.6, tau=0.1))
    torch.testing.assert_close(kept, maps)
    sunk = propagate(features, maps, of(delta=0.6, tau=0.1, softmax="all"))
    share = 10 * math.exp(4) / (10 * math.exp(4) + 990)
    assert 1 - share == pytest.approx(0.64, abs=0.005)
    torch.testing.assert_close(sunk[0, :10], torch.full((10,), share))


def test_cells_without_features_keep_their_scores() -> None:
    maps = torch.tensor([[0.1, 0.9, 0.4]])
    assert torch.equal(propagate(torch.zeros(4, 3), maps, of(delta=0)), maps)


def test_the_order_of_cells_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    features = torch.from_numpy(rng.normal(size=(4, 9)).astype(np.float32))
    maps = torch.from_numpy(rng.random((2, 9)).astype(np.float32))
    order = torch.from_numpy(rng.permutation(9))
    torch.testing.assert_close(
        propagate(features[:, order], maps[:, order], of(n_iters=2)),
        propagate(features, maps, of(n_iters=2))[:, order],
    )


def test_mirrored_features_and_scores_give_the_mirrored_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refine = VitAffinity(of(), Context())
    rng = np.random.default_rng(2)
    features = torch.from_numpy(rng.normal(size=(1, 6, 3, 4)).astype(np.float32))
    scores = rng.random((2, 7, 11))
    results = []
    for mirrored in (False, True):
        given_features = features.flip(-1) if mirrored else features
        monkeypatch.setattr(refine, "features", lambda *_, found=given_features: found)
        cam = one_map(scores[:, :, ::-1] if mirrored else scores, (30, 40))
        results += refine([noise(30, 40)], [cam], ["a"])
    assert results[0].scores.shape == (2, 3, 4)
    np.testing.assert_allclose(results[1].scores[:, :, ::-1], results[0].scores, atol=1e-6)


def scene() -> tuple[np.ndarray, np.ndarray, ScoreMap]:
    """Red on grey, its mask, and scores that reach two cells of 8 pixels past its left edge."""
    mask = np.zeros((96, 128), bool)
    mask[24:72, 48:112] = True
    rng = np.random.default_rng(3)
    colours = np.where(mask[..., None], [200, 60, 40], [120, 120, 120])
    image = np.clip(colours + rng.normal(0, 4, colours.shape), 0, 255).astype(np.uint8)
    scores = np.full((1, 12, 16), 0.1)
    scores[0, 3:9, 4:11] = 0.9
    return image, mask, one_map(scores, (96, 128))


@pytest.mark.parametrize(
    "values",
    [
        {"long_side": 256},
        {"model_name": "resnet10t", "stage": 1, "delta": 0.8, "long_side": 128},
        {
            "model_name": "swin_tiny_patch4_window7_224",
            "output_stride": 32,
            "stage": 1,
            "long_side": 128,
            "timm_kwargs": {"embed_dim": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]},
        },
    ],
    ids=["vit", "cnn", "swin"],
)
def test_scores_move_to_where_it_looks_alike(values: dict[str, Any]) -> None:
    """Colours are enough for that, and random weights see them."""
    image, mask, before = scene()
    (after,) = VitAffinity(of(**values), Context())([image], [before], ["a"])

    def errors(cam: ScoreMap) -> int:
        full = cam.full_scores()[0]
        return int(min((mask != (full > theta)).sum() for theta in np.arange(0.05, 1, 0.05)))

    assert errors(after) < 0.7 * errors(before)


@pytest.mark.parametrize(
    ("values", "size", "grid"),
    [
        ({}, (48, 64), (3, 4)),
        ({}, (300, 1), (4, 1)),
        ({}, (1, 1), (4, 4)),
        ({"long_side": 8}, (60, 40), (1, 1)),
        ({"long_side": 100}, (90, 60), (6, 4)),
        ({"model_name": "resnet10t", "stage": 1}, (48, 64), (12, 16)),
        ({"model_name": "resnet10t", "stage": 4}, (48, 64), (3, 4)),
    ],
)
def test_the_result_has_the_grid_of_the_features(
    values: dict[str, Any], size: tuple[int, int], grid: tuple[int, int]
) -> None:
    cam = one_map(np.random.default_rng(4).random((2, 5, 6)), size)
    (after,) = VitAffinity(of(**values), Context())([noise(*size)], [cam], ["a"])
    assert after.scores.shape == (2, *grid)
    assert after.scores.dtype == np.float32
    assert after.size == size


def test_images_that_run_together_keep_their_places(monkeypatch: pytest.MonkeyPatch) -> None:
    refine = VitAffinity(of(), Context())
    sizes = [(48, 64), (64, 48), (48, 64), (24, 32), (50, 66), (48, 64)]
    images = [noise(*size, seed=index) for index, size in enumerate(sizes)]
    rng = np.random.default_rng(5)
    maps = [one_map(rng.random((index % 3, 6, 8)), size) for index, size in enumerate(sizes)]
    alone = [refine([image], [cam], ["a"])[0] for image, cam in zip(images, maps, strict=True)]
    monkeypatch.setitem(vit_affinity.BATCH_SIZES, "cpu", 2)
    found = refine(images, maps, ["a"] * 6)
    for refined, expected in zip(found, alone, strict=True):
        assert refined.size == expected.size
        np.testing.assert_allclose(refined.scores, expected.scores, atol=1e-5)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(7)
    path = tmp_path_factory.mktemp("weights") / "vit.safetensors"
    save_file(timm.create_model("test_vit").state_dict(), path)
    return path


def test_features_are_those_of_the_network_that_the_file_holds(weights: Path) -> None:
    refine = VitAffinity(of(weights=str(weights)), Context())
    image = noise(48, 64)
    torch.manual_seed(7)
    net = timm.create_model("test_vit", dynamic_img_size=True).eval()
    mean, std = (torch.tensor(net.pretrained_cfg[key]) for key in ("mean", "std"))
    pixels = (torch.from_numpy(image) / 255 - mean) / std
    with torch.inference_mode():
        tokens = net.forward_features(pixels.permute(2, 0, 1)[None])[0, 1:]
        found = refine.features([image], (48, 64))[0]
    torch.testing.assert_close(found[:, 1, 2], tokens[1 * 4 + 2], atol=1e-4, rtol=1e-4)


def test_the_image_is_resized_before_the_network_sees_it(weights: Path) -> None:
    refine = VitAffinity(of(weights=str(weights)), Context())
    cam = one_map(np.random.default_rng(6).random((1, 3, 4)), (96, 128))
    image = np.asarray(Image.fromarray(noise(3, 4)).resize((128, 96), Image.Resampling.NEAREST))
    small = np.asarray(Image.fromarray(image).resize((64, 48), Image.Resampling.BILINEAR))
    (after,) = refine([image], [cam], ["a"])
    (other,) = refine([small], [one_map(cam.scores, (48, 64))], ["a"])
    np.testing.assert_array_equal(after.scores, other.scores)


def test_random_weights_are_always_the_same_and_said_to_be_random(
    caplog: pytest.LogCaptureFixture, weights: Path
) -> None:
    first = VitAffinity(of(), Context()).backbone.state_dict()
    assert "random weights" in caplog.text
    torch.manual_seed(1)
    state = torch.get_rng_state()
    second = VitAffinity(of(), Context()).backbone.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert torch.equal(torch.get_rng_state(), state)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        VitAffinity(of(weights=str(weights)), Context())
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"weights": "nowhere.pth"}, r"vit_affinity: weights file nowhere.pth does not exist"),
        ({"weights": "$WSSS_UNSET/a.pth"}, "environment variable WSSS_UNSET is not set"),
        ({"model_name": "test_vit9"}, r"no timm model; did you mean 'test_vit"),
        ({"output_stride": 14}, "gives stride 16; set it to 16"),
        ({"timm_kwargs": {"depth": 2}, "stage": 3}, "stage is 3, but test_vit has 2; choose"),
    ],
)
def test_what_does_not_fit_is_said_when_it_is_built(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VitAffinity(of(**values), Context())


def test_weights_of_another_network_are_refused(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(ValueError, match=r"vit_affinity: weights file .* does not fit ResNet"):
        VitAffinity(of(model_name="resnet10t", weights=str(weights)), Context())
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"vit_affinity: .*broken.* is not a safetensors file"):
        VitAffinity(of(weights=str(broken)), Context())


def test_params_yaml_names_its_mistakes() -> None:
    chain = [{"name": "vit_affinity", "delta": 1}]
    with pytest.raises(ConfigError, match="delta must be less than 1, but is 1"):
        parse_params({"refine": {"chains": {"walk": chain}}})
