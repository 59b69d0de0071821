"""SAM 2 and the points of SAM 3, by small networks of transformers of random weights."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from wsss.artifacts import Proposals
from wsss.loading.normalisation import Normalisation
from wsss.proposals._point_predictor import PointPredictor
from wsss.proposals.sam2 import Sam2, Sam2Settings
from wsss.proposals.sam3 import Sam3, Sam3Settings

SOURCES: dict[str, Any] = {"sam2": (Sam2, Sam2Settings), "sam3": (Sam3, Sam3Settings)}
MIDDLE = {
    "points_per_side": 1, "pred_iou_thresh": 0, "stability_score_thresh": 0, "box_nms_thresh": 1
}  # fmt: skip
"""One point in the middle of the image, and every filter open."""


def cpu() -> torch.device:
    return torch.device("cpu")


def image_of(height: int, width: int) -> np.ndarray:
    image = np.random.default_rng(0).integers(0, 60, (height, width, 3)).astype(np.uint8)
    image[height // 4 : height // 2 + 1, width // 3 :] += 150
    return image


def prompts(patch_size: int) -> dict[str, Any]:
    return {"hidden_size": 16, "image_size": 64, "patch_size": patch_size, "mask_input_channels": 4}


DECODER = {
    "hidden_size": 16, "mlp_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "iou_head_depth": 2, "iou_head_hidden_dim": 16,
}  # fmt: skip


def sam2_parts() -> dict[str, Any]:
    """Configurations of the parts of a SAM 2 for images of 64 pixels."""
    backbone = {
        "model_type": "sam2_hiera_det_model", "hidden_size": 8, "image_size": [64, 64],
        "window_positional_embedding_background_size": [4, 4], "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64], "num_attention_heads_per_stage": [1, 1, 2, 2],
        "window_size_per_stage": [4, 2, 2, 2], "global_attention_blocks": [3],
    }  # fmt: skip
    vision = {
        "model_type": "sam2_vision_model", "backbone_config": backbone,
        "backbone_channel_list": [64, 32, 16, 8], "fpn_hidden_size": 16,
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
    }  # fmt: skip
    return {
        "vision_config": vision, "prompt_encoder_config": prompts(16),
        "mask_decoder_config": DECODER,
    }  # fmt: skip


def sam3_vision() -> dict[str, Any]:
    """The configuration of the image encoder of a SAM 3 for images of 64 pixels."""
    backbone = {
        "model_type": "sam3_vit_model", "hidden_size": 16, "intermediate_size": 16,
        "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64, "patch_size": 8,
        "window_size": 4, "global_attn_indexes": [1], "pretrain_image_size": 32,
    }  # fmt: skip
    return {
        "model_type": "sam3_vision_model", "backbone_config": backbone, "fpn_hidden_size": 16,
        "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
    }  # fmt: skip


def network_of(name: str) -> Any:
    transformers = pytest.importorskip("transformers", reason="SAM 2 and 3 need transformers")
    torch.manual_seed(0)
    if name == "sam2":
        network = transformers.Sam2Model(transformers.Sam2Config(**sam2_parts()))
    else:
        config = transformers.Sam3TrackerConfig(
            vision_config=sam3_vision(), prompt_encoder_config=prompts(8),
            mask_decoder_config=DECODER,
        )  # fmt: skip
        network = transformers.Sam3TrackerModel(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.3)  # masks that change from pixel to pixel
    return network.eval()


@pytest.fixture(params=SOURCES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(name: str, tmp_path: Path) -> Path:
    network_of(name).save_pretrained(tmp_path / "sam")
    return tmp_path / "sam"


def source(name: str, folder: Path, **options: Any) -> Any:
    build, settings = SOURCES[name]
    return build(settings(checkpoint=str(folder), **options), cpu)


def masks_of(proposals: Proposals) -> np.ndarray:
    found: np.ndarray = proposals.matrix().toarray().reshape(-1, *proposals.size) > 0
    return found


def by_its_own_processor(
    name: str, network: Any, image: np.ndarray, point: tuple[float, float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (3, H, W) and predicted IoU (3,) of one point, all by transformers."""
    import transformers

    size = {"height": 64, "width": 64}
    if name == "sam2":
        processor = transformers.Sam2Processor(transformers.Sam2ImageProcessor(size=size))
    else:
        processor = transformers.Sam3TrackerProcessor(transformers.Sam3ImageProcessor(size=size))
    inputs = processor(
        images=image, input_points=[[[list(point)]]], input_labels=[[[1]]], return_tensors="pt"
    )
    with torch.no_grad():
        output = network(**inputs)
    masks = processor.post_process_masks(
        output.pred_masks, inputs["original_sizes"], binarize=False
    )
    return masks[0][0], output.iou_scores[0, 0]


@pytest.mark.parametrize("size", [(64, 64), (50, 90)])
def test_a_point_gives_what_transformers_itself_makes_of_it(
    name: str, size: tuple[int, int]
) -> None:
    # Catches x and y swapped, other normalisation, points off by a scale, masks transposed.
    network, image, point = network_of(name), image_of(*size), (size[1] * 0.8, size[0] * 0.3)
    mean, std = {
        "sam2": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), "sam3": ((0.5,) * 3, (0.5,) * 3)
    }[name]  # fmt: skip
    predictor = PointPredictor(network, Normalisation(mean, std))
    predictor.set_image(image)
    points = torch.from_numpy(predictor.apply_coords(np.array([point]), size))
    with torch.no_grad():
        masks, quality, _ = predictor.predict_torch(points[:, None], torch.ones(1, 1).int())
    wanted, iou = by_its_own_processor(name, network, image, point)
    exact = size == (64, 64)  # transformers rounds what it resizes to whole levels
    atol = 1e-5 if exact else 0.02 * float(wanted.std())
    torch.testing.assert_close(masks[0], wanted, rtol=1e-4, atol=atol)
    torch.testing.assert_close(quality[0], iou, rtol=0, atol=1e-5 if exact else 0.01)
    assert wanted.std() > 10 * atol


def test_a_folder_gives_the_masks_of_its_network(name: str, folder: Path) -> None:
    image = image_of(64, 64)
    found = source(name, folder, **MIDDLE)(image)
    logits, iou = by_its_own_processor(name, network_of(name), image, (32.0, 32.0))
    order = [at for at in np.argsort(-iou.numpy()) if (logits[at] > 0).any()]
    assert order
    np.testing.assert_array_equal(masks_of(found), (logits > 0).numpy()[order])
    np.testing.assert_allclose(found.quality, iou.numpy()[order], rtol=1e-5)


@pytest.mark.parametrize("size", [(33, 21), (1, 9), (9, 1), (1, 1)])
def test_images_of_any_size(name: str, folder: Path, size: tuple[int, int]) -> None:
    options = {**MIDDLE, "points_per_side": 3, "points_per_batch": 4, "crop_n_layers": 1}
    sam = source(name, folder, **options)
    found, again = sam(image_of(*size)), sam(image_of(*size))
    assert found.size == size
    assert (found.areas() > 0).all()
    np.testing.assert_array_equal(masks_of(found), masks_of(again))


def test_a_folder_of_another_kind_says_which_fit(name: str, folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "sam"}))
    fit = {"sam2": "sam2, sam2_video", "sam3": "sam3_video, sam3_tracker"}[name]
    with pytest.raises(ValueError, match=f"model of type 'sam'; types that fit are {fit}"):
        source(name, folder)


def test_a_folder_that_lacks_weights_is_refused(name: str, folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (token,) = (key for key in weights if key.endswith("mask_decoder.iou_token.weight"))
    del weights[token]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 tensors .* mask_decoder.iou_token.weight"):
        source(name, folder)


def test_a_folder_of_something_else_is_refused(name: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="SAM 2 and 3 need transformers")
    with pytest.raises(ValueError, match=r"has no config\.json"):
        source(name, tmp_path)


def test_without_transformers_the_command_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r'pip install "wsss\[sam\]"'):
        source(name, tmp_path)


def test_published_folders_hold_the_network_for_videos(tmp_path: Path) -> None:
    """The image network is taken from among the tensors of the whole."""
    transformers = pytest.importorskip("transformers", reason="SAM 2 and 3 need transformers")
    torch.manual_seed(0)
    memory = {
        "memory_attention_hidden_size": 16, "memory_attention_num_layers": 1,
        "memory_attention_feed_forward_hidden_size": 16, "memory_encoder_hidden_size": 16,
        "memory_encoder_output_channels": 8, "mask_downsampler_embed_dim": 16,
        "memory_fuser_embed_dim": 16, "memory_fuser_intermediate_dim": 16,
        "memory_fuser_num_layers": 1,
    }  # fmt: skip
    config = transformers.Sam2VideoConfig(**sam2_parts(), **memory, image_size=64)
    whole = transformers.Sam2VideoModel(config)
    whole.save_pretrained(tmp_path)
    network = source("sam2", tmp_path).generator.predictor.network
    for key, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, whole.state_dict()[key], rtol=0, atol=0)
