"""Concepts of SAM 3 as a CAM method, by a small network of random weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from wsss.cam.multiscale import multiscale_cams
from wsss.cam.sam3 import Sam3Cam, Sam3CamSettings
from wsss.models.classifier import Classifier

transformers = pytest.importorskip("transformers", reason="SAM 3 needs transformers")

SMALL = {"hidden_size": 16, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def model(classifier: Callable[[str], Classifier]) -> Classifier:
    return classifier("cnn")


def method(folder: Path, **prompts: str) -> Sam3Cam:
    return Sam3Cam(Sam3CamSettings(checkpoint=str(folder), prompts=prompts))


def images_for(model: Classifier, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (2, 3, H, W) of whole levels in 0..255, and as the classifier takes them."""
    torch.manual_seed(1)
    levels = torch.randint(0, 256, (2, 3, *size)).float()
    mean, std = (
        torch.tensor(values).view(3, 1, 1) for values in vars(model.backbone.normalisation).values()
    )
    return levels, (levels / 255 - mean) / std


@torch.inference_mode()
def maps_of(
    sam: Sam3Cam, model: Classifier, images: torch.Tensor, rows: list[int], columns: list[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    return sam(model, images, torch.tensor(rows).long(), torch.tensor(columns).long())


def test_maps_are_the_instances_that_transformers_finds(
    sam3_folder: Path, sam3_parts: tuple[Any, Any], model: Classifier
) -> None:
    network, tokens = sam3_parts
    levels, images = images_for(model, (64, 64))
    maps, logits = maps_of(method(sam3_folder, b="x y"), model, images, [0, 0, 1], [0, 1, 3])
    with torch.inference_mode():
        torch.testing.assert_close(logits, model(images).logits)
    assert maps.shape == (3, 32, 32)
    processor = transformers.Sam3ImageProcessor(size={"height": 64, "width": 64})
    for map_, row, prompt in zip(maps, (0, 0, 1), ("a", "x y", "d"), strict=True):
        pixels = processor(levels[row].byte(), return_tensors="pt")["pixel_values"]
        words = tokens([prompt], padding="max_length", max_length=6, return_tensors="pt")
        with torch.no_grad():
            output = network(pixel_values=pixels, **words)
        wanted = torch.zeros(32, 32)
        for query in range(5):  # scores as Sam3ImageProcessor.post_process_* has them
            score = output.pred_logits[0, query].sigmoid() * output.presence_logits[0, 0].sigmoid()
            wanted = torch.maximum(wanted, score * output.pred_masks[0, query].sigmoid())
        torch.testing.assert_close(map_, wanted, rtol=1e-4, atol=1e-5)
        found = processor.post_process_instance_segmentation(output, threshold=float(score) / 2)
        assert len(found[0]["scores"])


def test_prompts_differ_and_replace_the_names_of_classes(
    sam3_folder: Path, model: Classifier
) -> None:
    _, images = images_for(model, (40, 56))
    (a, b), _ = maps_of(method(sam3_folder), model, images, [0, 0], [0, 1])
    (swapped,), _ = maps_of(method(sam3_folder, a="b"), model, images, [0], [0])
    torch.testing.assert_close(swapped, b)
    assert (a - b).abs().max() > 1e-4


def test_a_map_depends_on_its_own_image_and_class_alone(
    sam3_folder: Path, model: Classifier
) -> None:
    _, images = images_for(model, (40, 56))
    sam = method(sam3_folder)
    maps, _ = maps_of(sam, model, images, [0, 0, 1], [0, 2, 2])
    for map_, row, column in zip(maps, (0, 0, 1), (0, 2, 2), strict=True):
        (alone,), _ = maps_of(sam, model, images[row : row + 1], [0], [column])
        torch.testing.assert_close(alone, map_, rtol=0, atol=0)
    assert (maps[1] - maps[2]).abs().max() > 1e-4
    none, logits = maps_of(sam, model, images, [], [])
    assert none.shape == (0, 32, 32) and len(logits) == 2


def test_scales_and_parts_of_a_batch(sam3_folder: Path, model: Classifier) -> None:
    """An image without tags may be a part of its own."""
    _, images = images_for(model, (32, 48))
    with torch.inference_mode():
        found, _ = multiscale_cams(
            model, method(sam3_folder), images, [(1, 3), ()], grid=(8, 12), scales=(1.0, 1.5),
            flip=True, align_corners=False, max_pixels=32 * 48,
        )  # fmt: skip
    assert [tuple(cams.shape) for cams in found] == [(2, 8, 12), (0, 8, 12)]
    assert found[0].amax(dim=(1, 2)).min() > 0.99


def test_a_prompt_of_no_class_is_refused(sam3_folder: Path, model: Classifier) -> None:
    _, images = images_for(model, (32, 48))
    with pytest.raises(ValueError, match="prompts has 'cat', which is no class; known: a, b, c, d"):
        maps_of(method(sam3_folder, cat="x"), model, images, [0], [0])


def test_a_folder_of_another_kind_says_which_fit(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "sam2"}')
    with pytest.raises(ValueError, match="model of type 'sam2'; types that fit are sam3, sam3_v"):
        method(tmp_path)


def test_published_folders_hold_the_network_for_videos(
    sam3_parts: tuple[Any, Any], tmp_path: Path
) -> None:
    """Detector and tracker are taken from among the tensors of the whole."""
    from wsss.proposals.sam3 import Sam3, Sam3Settings

    detector, tokenizer = sam3_parts
    memory = {
        "memory_attention_hidden_size": 16, "memory_attention_num_layers": 1,
        "memory_attention_feed_forward_hidden_size": 16, "memory_encoder_hidden_size": 16,
        "memory_encoder_output_channels": 8, "mask_downsampler_embed_dim": 16,
        "memory_fuser_embed_dim": 16, "memory_fuser_intermediate_dim": 16,
        "memory_fuser_num_layers": 1,
    }  # fmt: skip
    config = transformers.Sam3VideoConfig(
        detector_config=detector.config.to_dict(),
        tracker_config={
            "model_type": "sam3_tracker_video", "vision_config": detector.config.vision_config,
            "prompt_encoder_config": {
                "hidden_size": 16, "image_size": 64, "patch_size": 8, "mask_input_channels": 4
            },
            "mask_decoder_config": {
                **SMALL, "mlp_dim": 16, "num_hidden_layers": 1, "iou_head_depth": 2,
                "iou_head_hidden_dim": 16,
            },
            "image_size": 64,
            **memory,
        },
    )  # fmt: skip
    whole = transformers.Sam3VideoModel(config)
    weights = {key: tensor.clone() for key, tensor in whole.state_dict().items()}
    whole.config.save_pretrained(tmp_path)  # its own save_pretrained doubles "tracker_model."
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save_pretrained(tmp_path)
    for key, tensor in method(tmp_path).network.state_dict().items():
        torch.testing.assert_close(tensor, weights[f"detector_model.{key}"], rtol=0, atol=0)
    points = Sam3(Sam3Settings(checkpoint=str(tmp_path)), lambda: torch.device("cpu"))
    for key, tensor in points.generator.predictor.network.state_dict().items():
        if key.startswith("vision_encoder.neck."):
            own = key.replace("vision_encoder.neck.", "tracker_neck.")
        elif key.startswith("vision_encoder."):
            own = f"detector_model.{key}"
        else:
            own = f"tracker_model.{key}"
        torch.testing.assert_close(tensor, weights[own], rtol=0, atol=0)
