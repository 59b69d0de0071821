"""The head for sub-categories: its blocks, and that it is saved with the classifier."""

from pathlib import Path

import pytest
import torch

from wsss.config.sections import BackboneSettings
from wsss.models.classifier import Classifier, load_classifier, save_classifier
from wsss.models.sub_categories import SubCategoryHead, SubCategoryHeadSettings
from wsss.models.timm_backbone import TimmBackbone

COUNTS = (2, 0, 3, 1)
BACKBONE = BackboneSettings(model_name="resnet10t")


def make_model(counts: tuple[int, ...] = COUNTS) -> Classifier:
    torch.manual_seed(0)
    parts = [SubCategoryHeadSettings(counts=counts)]
    names = ("a", "b", "c")
    return Classifier(TimmBackbone(BACKBONE), names, num_extra=1, parts=parts).eval()


def test_a_class_has_the_highest_map_of_its_block() -> None:
    part: SubCategoryHead = make_model().parts["sub_categories"]
    features = torch.randn(2, part.head.in_channels, 3, 5)
    with torch.no_grad():
        maps, found = part(features), part.class_maps(features)
    assert maps.shape == (2, 6, 3, 5) and found.shape == (2, 4, 3, 5)
    blocks = [[0, 1], [], [2, 3, 4], [5]]
    for row in range(2):
        for column, block in enumerate(blocks):
            for y in range(3):
                for x in range(5):
                    of_block = [maps[row, k, y, x].item() for k in block]
                    assert found[row, column, y, x].item() == max(of_block, default=0)
    weight = part.head.weight[4, :, 0, 0]
    torch.testing.assert_close(maps[1, 4, 2, 3], weight @ features[1, :, 2, 3])


def test_it_comes_back_from_files(tmp_path: Path) -> None:
    model = make_model()
    save_classifier(model, BACKBONE, "multi_label", tmp_path)
    again, _ = load_classifier(tmp_path)
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        before, after = (
            item.parts["sub_categories"].class_maps(item(images).features)
            for item in (model, again)
        )
    torch.testing.assert_close(after, before)
    assert again.parts["sub_categories"].counts == COUNTS


@pytest.mark.parametrize("counts", [(2, 1), (1, 1, 1, 1, 1), (0, 0, 0, 0)])
def test_there_is_a_block_for_each_class(counts: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"for each of 4 classes, not all of them 0, but has \("):
        make_model(counts)
