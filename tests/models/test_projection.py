"""One 1x1 convolution per teacher, which a checkpoint keeps."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from wsss.config.sections import BackboneSettings
from wsss.models.classifier import Classifier, load_classifier, save_classifier
from wsss.models.projection import Projection, ProjectionSettings
from wsss.models.timm_backbone import TimmBackbone
from wsss.registry import PARTS

BACKBONE = BackboneSettings(model_name="resnet10t")


def make(*channels: int) -> Classifier:
    torch.manual_seed(0)
    parts = [ProjectionSettings(channels=channels)]
    return Classifier(TimmBackbone(BACKBONE), ("a", "b"), parts=parts)


def test_each_cell_is_a_linear_function_of_its_features() -> None:
    part = make(2, 5).parts["projection"]
    features = torch.randn(3, 512, 2, 4)
    found = part(features)
    assert [tuple(tensor.shape) for tensor in found] == [(3, 2, 2, 4), (3, 5, 2, 4)]
    for maps, conv in zip(found, part.convs, strict=True):
        by_hand = conv.weight[:, :, 0, 0] @ features[1, :, 1, 3] + conv.bias
        torch.testing.assert_close(maps[1, :, 1, 3], by_hand)


def test_it_is_registered_and_needs_a_teacher() -> None:
    built = PARTS.build(ProjectionSettings(channels=(1,)), TimmBackbone(BACKBONE), 7)
    assert isinstance(built, Projection)
    with pytest.raises(ValidationError, match="at least 1 item"):
        ProjectionSettings(channels=())


def test_a_checkpoint_keeps_it(tmp_path: Path) -> None:
    model = make(2, 2).eval()
    save_classifier(model, BACKBONE, "multi_label", tmp_path)
    loaded, _ = load_classifier(tmp_path)
    before, after = (item.parts["projection"].state_dict() for item in (model, loaded))
    assert before.keys() == after.keys() and len(before) == 4
    assert all(torch.equal(before[key], after[key]) for key in before)
