"""Segmentation networks: encoders filled from the classifier or a file, files, errors."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from wsss.artifacts import read_json, write_json
from wsss.config.recipes import BASE_RECIPE, Recipe, recipe_params
from wsss.config.sections import BackboneSettings
from wsss.config.segmentation import SegmenterSettings
from wsss.models.classifier import Classifier, load_classifier, save_classifier
from wsss.models.timm_backbone import TimmBackbone
from wsss.segment.network import (
    check_segmenter,
    load_segmenter,
    make_segmenter,
    save_segmenter,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", params=["resnet10t", "mobilenetv2_050", "convnext_atto"])
def classifier(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("classifier")
    settings = BackboneSettings(model_name=request.param)
    save_classifier(Classifier(TimmBackbone(settings), ("a", "b")), settings, "multi_label", folder)
    return folder


def test_encoder_holds_the_classifiers_weights(classifier: Path) -> None:
    """Every tensor of the encoder, module names flattened or not, comes from the classifier."""
    segmenter = make_segmenter(SegmenterSettings(arch="unet"), classifier)
    model, _ = load_classifier(classifier)
    trained = model.backbone.net.state_dict()
    for name, tensor in segmenter.net.encoder.model.state_dict().items():
        plain = re.sub(r"^(stem|stages)_(\d)", r"\1.\2", name)
        assert torch.equal(tensor, trained[plain]), name


def test_round_trip(classifier: Path, tmp_path: Path) -> None:
    arch = "unet" if "convnext" in (classifier / "model.json").read_text() else "deeplabv3plus"
    segmenter = make_segmenter(SegmenterSettings(arch=arch), classifier).eval()
    save_segmenter(segmenter, tmp_path)
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        logits = load_segmenter(tmp_path)(images)
        torch.testing.assert_close(logits, segmenter(images), atol=1e-5, rtol=1e-4)
    assert logits.shape == (1, 3, 64, 64)


def test_unknown_architecture(classifier: Path) -> None:
    with pytest.raises(ValueError, match=r"deeplabv4plus.*did you mean 'deeplabv3plus'"):
        make_segmenter(SegmenterSettings(arch="deeplabv4plus"), classifier)


def test_weights_of_another_encoder(classifier: Path, tmp_path: Path) -> None:
    other = BackboneSettings(model_name="resnet14t")
    torch.save(TimmBackbone(other).net.state_dict(), tmp_path / "other.pth")
    settings = SegmenterSettings(arch="unet", encoder_weights=str(tmp_path / "other.pth"))
    with pytest.raises(ValueError, match=r"other\.pth does not fit"):
        make_segmenter(settings, classifier)


def test_frozen_batchnorm_keeps_its_statistics(classifier: Path) -> None:
    settings = SegmenterSettings(arch="unet", freeze_batchnorm=True)
    segmenter = make_segmenter(settings, classifier).train()
    before = {name: value.clone() for name, value in segmenter.net.encoder.named_buffers()}
    segmenter(torch.randn(2, 3, 64, 64))
    for name, value in segmenter.net.encoder.named_buffers():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_frozen_stages_learn_nothing_and_cost_no_backward_pass(
    classifier: Path, stages: int
) -> None:
    settings = SegmenterSettings(arch="unet", frozen_stages=stages)
    segmenter = make_segmenter(settings, classifier).train()
    encoder = segmenter.net.encoder
    images = torch.randn(2, 3, 64, 64)
    maps = encoder(images)[1:]
    assert not any(stage.requires_grad for stage in maps[:stages])
    assert all(stage.requires_grad for stage in maps[stages:])
    frozen = {name for name, weights in encoder.named_parameters() if not weights.requires_grad}
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    optimizer = torch.optim.SGD(segmenter.parameters(), lr=0.1)
    segmenter(images).square().mean().backward()
    optimizer.step()
    kept = {
        name for name, value in encoder.state_dict().items() if torch.equal(before[name], value)
    }
    assert frozen <= kept
    norms = {name.rpartition(".")[0] for name in frozen}
    statistics = [name for name in before if name.endswith("running_mean")]
    assert all((name in kept) == (name.rpartition(".")[0] in norms) for name in statistics)


def test_data_without_a_background_never_get_it(classifier: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = make_segmenter(SegmenterSettings(arch="unet"), classifier, has_background=False).eval()
    save_segmenter(made, tmp_path)
    model = load_segmenter(tmp_path)
    images = torch.randn(2, 3, 64, 64)
    logits = model(images)
    assert (logits.softmax(dim=1)[:, 0] == 0).all()
    with torch.no_grad():
        model.net.segmentation_head[0].bias[0] += 50  # whatever it has learned
    assert torch.equal(model(images), logits)
    logits[:, 1:].logsumexp(dim=1).sum().backward()
    assert not model.net.segmentation_head[0].weight.grad[0].any()


def test_files_of_before_there_were_own_networks_are_read(classifier: Path, tmp_path: Path) -> None:
    made = make_segmenter(SegmenterSettings(arch="unet"), classifier).eval()
    save_segmenter(made, tmp_path)
    spec = read_json(tmp_path / "model.json")
    del spec["backbones"], spec["has_background"]
    write_json(tmp_path / "model.json", spec)
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        logits = load_segmenter(tmp_path)(images)
        torch.testing.assert_close(logits, made(images), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 0.5),
        ({"encoder_weights": "backbone"}, 0.5),
        ({"encoder": "tu-resnet10t", "encoder_weights": "none"}, 0.485),
        ({"encoder": "resnet18", "encoder_weights": "none"}, 0.485),
        ({"arch": "deeplabv2", "encoder": "resnet10t", "encoder_weights": "none"}, 0.485),
    ],
)
def test_images_are_normalised_as_the_weights_of_the_encoder_expect(
    settings: dict[str, str], expected: float, tmp_path: Path
) -> None:
    backbone = BackboneSettings(model_name="resnet10t", mean=(0.5,) * 3, std=(0.5,) * 3)
    model = Classifier(TimmBackbone(backbone), ("a", "b"))
    save_classifier(model, backbone, "multi_label", tmp_path)
    segmenter = make_segmenter(SegmenterSettings(arch="unet", **settings) if "arch" not in settings
                               else SegmenterSettings(**settings), tmp_path)  # fmt: skip
    assert segmenter.normalisation.mean[0] == pytest.approx(expected)


def test_an_encoder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    backbone = BackboneSettings(model_name="vgg11_bn")
    model = Classifier(TimmBackbone(backbone), ("a", "b"))
    save_classifier(model, backbone, "multi_label", tmp_path)
    said = r"cannot make deeplabv3plus with encoder tu-vgg11_bn.*set model\.arch to .* as unet"
    with pytest.raises(ValueError, match=said):
        make_segmenter(SegmenterSettings(), tmp_path)
    with pytest.raises(ValueError, match=said):
        check_segmenter(SegmenterSettings(), backbone)
    check_segmenter(SegmenterSettings(arch="unet"), backbone)
    make_segmenter(SegmenterSettings(arch="unet"), tmp_path)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"encoder": "resnet18"}, r"the classifier, resnet10t, does not fit"),
        ({"encoder": "resnet5O", "encoder_weights": "none"}, r"Wrong encoder name .resnet5O"),
        ({"arch": "deeplab3"}, r"deeplab3.*deeplabv3"),
        ({"encoder_weights": "not/there.pth"}, r"not/there\.pth does not exist"),
        ({"frozen_stages": 9}, r"frozen_stages is 9, but the encoder has 5"),
        (
            {"arch": "unet", "arch_kwargs": {"depth": 3}},
            r"multiple values for keyword argument 'depth'",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_made_is_known_before_there_is_a_classifier(
    values: dict[str, Any], said: str, tmp_path: Path
) -> None:
    settings = SegmenterSettings.model_validate(values)
    backbone = BackboneSettings(model_name="resnet10t")
    with pytest.raises(ValueError, match=said):
        check_segmenter(settings, backbone)
    save_classifier(Classifier(TimmBackbone(backbone), ("a",)), backbone, "multi_label", tmp_path)
    with pytest.raises(ValueError, match=said.replace("the classifier, resnet10t,", ".*")):
        make_segmenter(settings, tmp_path)


def test_crops_that_a_network_cannot_take_are_known_likewise() -> None:
    backbone = BackboneSettings(model_name="resnet10t")
    check_segmenter(SegmenterSettings(), backbone, 256)
    check_segmenter(SegmenterSettings(arch="unet_small", encoder_weights="none"), backbone, 250)
    said = "crop_size is 250, but DeepLabV3Plus takes multiples of 16; set it to 256"
    with pytest.raises(ValueError, match=said):
        check_segmenter(SegmenterSettings(), backbone, 250)


def test_the_network_of_every_recipe_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSSS_SHARED", "nowhere")
    folder = ROOT / "recipes"
    base = Recipe.read(folder, BASE_RECIPE)
    for path in sorted(folder.glob("*.yaml")):
        params = recipe_params({}, Recipe.read(folder, path.stem), base)
        settings = params.train_segmenter.model
        if settings.encoder_weights == "backbone":  # a file that need not be here
            settings = settings.model_copy(update={"encoder_weights": "none"})
        crop_size = params.train_segmenter.augment.crop_size
        check_segmenter(settings, params.train_classifier.backbone, crop_size)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"])
def test_a_swin_segments_images_of_other_sizes(name: str, tmp_path: Path) -> None:
    """As the classifier does that it is of."""
    backbone = BackboneSettings(model_name=name, output_stride=32)
    model = Classifier(TimmBackbone(backbone), ("a", "b"))
    save_classifier(model, backbone, "multi_label", tmp_path)
    segmenter = make_segmenter(SegmenterSettings(arch="unet"), tmp_path).eval()
    with torch.inference_mode():
        assert segmenter(torch.zeros(1, 3, 64, 96)).shape == (1, 3, 64, 96)
