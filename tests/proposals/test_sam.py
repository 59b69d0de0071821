"""SAM, by small networks of random weights: no checkpoint is needed."""

import inspect
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from segment_anything import SamAutomaticMaskGenerator, SamPredictor, sam_model_registry
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from torch import nn

from wsss.artifacts import Proposals
from wsss.proposals import _point_grid
from wsss.proposals import sam as module
from wsss.proposals._mobile_sam import mobile_sam, renamed
from wsss.proposals._point_grid import PointGridSettings
from wsss.proposals.sam import SamSettings, model_type_of

OPTIONS: dict[str, Any] = {
    "points_per_side": 4,
    "points_per_batch": 7,
    "pred_iou_thresh": 0.0,
    "stability_score_thresh": 0.75,
    "stability_score_offset": 0.1,
    "box_nms_thresh": 1.0,
}
"""With these about half of the masks of a network of random weights pass."""


def small_sam() -> Sam:
    """SAM for images of 64 pixels, 16 channels wide, of random weights."""
    torch.manual_seed(0)
    encoder = ImageEncoderViT(
        img_size=64, patch_size=16, embed_dim=16, depth=2, num_heads=2, out_chans=16,
        norm_layer=partial(nn.LayerNorm, eps=1e-6), use_rel_pos=True, window_size=2,
        global_attn_indexes=(1,),
    )  # fmt: skip
    transformer = TwoWayTransformer(depth=1, embedding_dim=16, num_heads=2, mlp_dim=16)
    decoder = MaskDecoder(
        transformer_dim=16, transformer=transformer, iou_head_depth=2, iou_head_hidden_dim=16
    )
    prompts = PromptEncoder(16, (4, 4), (64, 64), mask_in_chans=4)
    with torch.no_grad():
        for parameter in [*decoder.parameters(), *prompts.parameters()]:
            if parameter.ndim > 1:
                parameter *= 2.5  # masks that change from pixel to pixel and point to point
    return Sam(encoder, prompts, decoder).eval()


def image_of(height: int, width: int) -> np.ndarray:
    image = np.random.default_rng(0).integers(0, 60, (height, width, 3)).astype(np.uint8)
    image[height // 4 : height // 2 + 1, width // 3 :] += 150
    return image


def cpu() -> torch.device:
    return torch.device("cpu")


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file of the small SAM, which then is what vit_b means."""
    monkeypatch.setitem(sam_model_registry, "vit_b", small_sam)
    monkeypatch.setattr(module, "_ENCODERS", {(16, 2): "vit_b"})
    network = small_sam()
    torch.save(network.state_dict(), tmp_path / "sam.pth")
    yield tmp_path / "sam.pth"


def source(checkpoint: Path, **options: Any) -> module.Sam:
    return module.Sam(SamSettings(checkpoint=str(checkpoint), **{**OPTIONS, **options}), cpu)


def masks_of(proposals: Proposals) -> np.ndarray:
    found: np.ndarray = proposals.matrix().toarray().reshape(-1, *proposals.size) > 0
    return found


def test_the_settings_are_those_of_the_generator() -> None:
    ours = {name: field.default for name, field in PointGridSettings.model_fields.items()}
    theirs = inspect.signature(SamAutomaticMaskGenerator).parameters
    left = {"model", "point_grids", "output_mode"}
    assert ours.keys() - {"name", "checkpoint"} == theirs.keys() - left
    assert {name: theirs[name].default for name in ours if name in theirs}.items() <= ours.items()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"points_per_side": 6, "box_nms_thresh": 0.9},
        {"stability_score_offset": 0.2, "stability_score_thresh": 0.6},
        {"pred_iou_thresh": 1.0},
        {"min_mask_region_area": 40},
        {
            "crop_n_layers": 1, "crop_nms_thresh": 0.9, "crop_overlap_ratio": 0.5,
            "crop_n_points_downscale_factor": 2,
        },
    ],
)  # fmt: skip
def test_masks_and_their_quality_are_the_generators(
    checkpoint: Path, options: dict[str, Any]
) -> None:
    image = image_of(90, 123)
    found = source(checkpoint, **options)(image)
    theirs = SamAutomaticMaskGenerator(small_sam(), **{**OPTIONS, **options}).generate(image)
    theirs = [record for record in theirs if record["area"]]
    assert theirs
    np.testing.assert_array_equal(masks_of(found), [record["segmentation"] for record in theirs])
    quality = np.array([record["predicted_iou"] for record in theirs], np.float32)
    np.testing.assert_array_equal(found.quality, quality)


def test_a_mask_is_what_its_point_asks_for(checkpoint: Path) -> None:
    """One point in the middle, every filter open: the masks of that prompt, best first."""
    image = image_of(40, 60)
    found = source(
        checkpoint, points_per_side=1, stability_score_thresh=0.0, box_nms_thresh=1.0
    )(image)  # fmt: skip
    predictor = SamPredictor(small_sam())
    predictor.set_image(image)
    masks, quality, _ = predictor.predict(np.array([[30.0, 20.0]]), np.array([1]))
    order = np.argsort(-quality)
    order = order[masks[order].any(axis=(1, 2))]
    np.testing.assert_array_equal(masks_of(found), masks[order])
    np.testing.assert_allclose(found.quality, quality[order], rtol=1e-6)


@pytest.mark.parametrize("size", [(40, 60), (8, 8), (1, 9), (9, 1), (1, 1), (1, 300), (300, 1)])
@pytest.mark.parametrize("crop_n_layers", [0, 1])
def test_images_of_any_size(checkpoint: Path, size: tuple[int, int], crop_n_layers: int) -> None:
    sam = source(checkpoint, crop_n_layers=crop_n_layers)
    found, again = sam(image_of(*size)), sam(image_of(*size))
    assert found.size == size
    assert (found.areas() > 0).all()
    np.testing.assert_array_equal(masks_of(found), masks_of(again))
    np.testing.assert_array_equal(found.quality, again.quality)


@pytest.mark.parametrize("crop_n_layers", [0, 1])
def test_an_image_in_which_no_mask_passes(checkpoint: Path, crop_n_layers: int) -> None:
    # The generator alone breaks off where no crop has a mask.
    strict = {"stability_score_thresh": 0.5, "stability_score_offset": 1e9}
    found = source(checkpoint, crop_n_layers=crop_n_layers, **strict)(image_of(40, 60))
    assert (len(found), found.size) == (0, (40, 60))


def weights_like(encoder: nn.Module) -> dict[str, torch.Tensor]:
    """A state dict of the same names and shapes that takes no room."""
    return {
        f"image_encoder.{name}": torch.zeros(1).expand(tensor.shape)
        for name, tensor in encoder.state_dict().items()
    }


@pytest.fixture(scope="module")
def encoders() -> dict[str, dict[str, torch.Tensor]]:
    """Weights of the image encoders as the packages define them."""
    found = {}
    with torch.device("meta"):
        for name, (width, depth, heads) in {
            "vit_b": (768, 12, 12), "vit_l": (1024, 24, 16), "vit_h": (1280, 32, 16)
        }.items():  # fmt: skip
            encoder = ImageEncoderViT(img_size=1024, embed_dim=width, depth=depth, num_heads=heads)
            found[name] = weights_like(encoder)
    found["vit_t"] = dict.fromkeys(PUBLISHED, torch.zeros(1))
    return found


@pytest.mark.parametrize("held", ["vit_b", "vit_l", "vit_h", "vit_t"])
def test_a_checkpoint_of_another_type_says_which_it_is(
    encoders: dict[str, dict[str, torch.Tensor]], tmp_path: Path, held: str
) -> None:
    assert model_type_of(encoders[held]) == held
    wanted = "vit_h" if held == "vit_b" else "vit_b"
    torch.save(encoders[held], tmp_path / "sam.pth")
    settings = SamSettings(checkpoint=str(tmp_path / "sam.pth"), model_type=wanted)
    message = rf"sam\.pth is of model_type {held}, but model_type is {wanted}; set it to {held}"
    with pytest.raises(ValueError, match=message):
        module.Sam(settings, cpu)


def test_a_checkpoint_of_something_else_says_which_types_fit(tmp_path: Path) -> None:
    torch.save({"image_encoder.pos_embed": torch.zeros(1, 4, 4, 384)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"fit: vit_b, vit_l and vit_h .* vit_t"):
        source(tmp_path / "other.pth")


def test_a_checkpoint_with_a_part_missing_is_refused(checkpoint: Path) -> None:
    weights = torch.load(checkpoint, weights_only=True)
    del weights["mask_decoder.mask_tokens.weight"]
    torch.save(weights, checkpoint)
    with pytest.raises(ValueError, match=r"1 of \d+ tensors .* mask_decoder.mask_tokens.weight"):
        source(checkpoint)


def test_the_path_may_hold_variables(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAM_FOLDER", str(checkpoint.parent))
    assert len(source(Path("$SAM_FOLDER/sam.pth"))(image_of(20, 30)))


def test_opencv_is_asked_for_before_the_checkpoint_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_point_grid, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"min_mask_region_area is 20.*opencv-python-headless"):
        source(tmp_path / "none.pth", min_mask_region_area=20)


def test_crops_need_points() -> None:
    fine = {"points_per_side": 8, "crop_n_layers": 3, "crop_n_points_downscale_factor": 2}
    SamSettings(checkpoint="", **fine)
    with pytest.raises(ValidationError, match="leaves no point"):
        SamSettings(checkpoint="", **{**fine, "points_per_side": 7})


def published_names() -> Iterator[str]:
    """Names of the image encoder's tensors in mobile_sam.pt, as its code makes them."""

    def norm(name: str) -> Iterator[str]:
        yield from (f"{name}.{suffix}" for suffix in ("weight", "bias"))

    def conv(name: str) -> Iterator[str]:
        yield f"{name}.c.weight"
        yield from norm(f"{name}.bn")
        yield from (f"{name}.bn.{suffix}" for suffix in ("running_mean", "running_var"))

    for at in (0, 2):
        yield from conv(f"patch_embed.seq.{at}")
    for layer, depth in enumerate((2, 2, 6, 2)):
        for block in (f"layers.{layer}.blocks.{at}" for at in range(depth)):
            if layer == 0:
                for at in (1, 2, 3):
                    yield from conv(f"{block}.conv{at}")
                continue
            yield f"{block}.attn.attention_biases"
            for part in ("attn.norm", "attn.qkv", "attn.proj", "mlp.norm", "mlp.fc1", "mlp.fc2"):
                yield from norm(f"{block}.{part}")
            yield from conv(f"{block}.local_conv")
        if layer < 3:
            for at in (1, 2, 3):
                yield from conv(f"layers.{layer}.downsample.conv{at}")
    yield from (f"neck.{at}.weight" for at in (0, 2))
    for at in (1, 3):
        yield from norm(f"neck.{at}")
    yield from norm("norm_head")
    yield from norm("head")


PUBLISHED = [f"image_encoder.{name}" for name in published_names()]


def test_names_of_mobile_sam_are_found() -> None:
    ours = {
        name
        for name in mobile_sam().state_dict()
        if name.startswith("image_encoder.") and not name.endswith("num_batches_tracked")
    }
    found = renamed(dict.fromkeys(PUBLISHED, torch.zeros(1)))
    assert len(found) == len(PUBLISHED)
    unused = {name for name in PUBLISHED if re.search(r"\.(norm_)?head\.", name)}
    assert found.keys() - unused == ours
    assert set(renamed({"mask_decoder.iou_token.weight": torch.zeros(1)})) == {
        "mask_decoder.iou_token.weight"
    }


def test_mobile_sam_makes_features_at_stride_16() -> None:
    network = mobile_sam()
    with torch.inference_mode():
        features = network.image_encoder(torch.rand(1, 3, 128, 96))
    assert features.shape == (1, 256, 8, 6)
    assert features[0, 0].std() > 0
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert parameters == pytest.approx(9.66e6 + 0.5e6, rel=0.1)
