"""The classifier's head reads as a CAM, and its files bring back the same network."""

from pathlib import Path

import torch

from wsss.config.sections import BackboneSettings
from wsss.loading.normalisation import Normalisation
from wsss.models.classifier import Classifier, load_classifier, save_classifier
from wsss.models.timm_backbone import TimmBackbone

SETTINGS = BackboneSettings(model_name="resnet10t", mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))


def test_logits_are_the_head_on_pooled_features() -> None:
    model = Classifier(TimmBackbone(SETTINGS), ("a", "b")).eval()
    output = model(torch.randn(2, 3, 64, 96))
    pooled = output.features.mean(dim=(2, 3)) @ model.head.weight[:, :, 0, 0].T
    torch.testing.assert_close(output.logits, pooled, atol=1e-5, rtol=1e-4)


def test_round_trip(tmp_path: Path) -> None:
    model = Classifier(TimmBackbone(SETTINGS), ("a", "b")).eval()
    save_classifier(model, SETTINGS, "single_label", tmp_path)
    loaded, loss = load_classifier(tmp_path)
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(images).logits, model(images).logits)
    assert (loss, loaded.class_names) == ("single_label", ("a", "b"))
    assert loaded.backbone.normalisation == Normalisation(SETTINGS.mean, SETTINGS.std)
