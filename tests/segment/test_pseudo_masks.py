"""What a score map expects in its mask: shares that sum to the pixels which the mask keeps."""

import numpy as np
import pytest

from wsss.artifacts import ScoreMap
from wsss.config.segmentation import PseudoMaskSettings
from wsss.segment.pseudo_masks import expected_pixels, pseudo_mask

IDS = np.array([2, 5], np.uint8)


def score_map(classes: int, size: tuple[int, int] = (9, 14)) -> ScoreMap:
    rng = np.random.default_rng(classes)
    scores = rng.random((classes, 5, 7)).astype(np.float32)
    return ScoreMap(IDS[:classes], scores, size, np.ones(classes, np.float32))


def settings_of(background: str) -> PseudoMaskSettings:
    source = "ccam" if background == "object" else ""
    return PseudoMaskSettings(background=background, object_source=source)  # type: ignore[arg-type]


@pytest.mark.parametrize("background", ["constant", "power", "object", "none"])
@pytest.mark.parametrize("classes", [0, 1, 2])
def test_shares_sum_to_the_pixels_of_the_mask(background: str, classes: int) -> None:
    settings, found = settings_of(background), score_map(classes)
    objects = score_map(1) if background == "object" else None
    mask = pseudo_mask(found, settings, 0.4, objects)
    expected = expected_pixels(found, mask, settings, 0.4, objects)
    kept = int((mask != 255).sum())
    assert sum(expected.shown.values()) == pytest.approx(kept, abs=2)
    for class_id, pixels in expected.correct.items():
        own = int((mask == class_id).sum())
        # the winner has the largest share of three at most
        assert own / 3 - 1 <= pixels <= min(own, expected.shown[class_id]) + 1


def test_no_class_expects_the_background_alone() -> None:
    mask = np.zeros((9, 14), np.uint8)
    expected = expected_pixels(score_map(0), mask, settings_of("constant"), 0.4)
    assert expected.shown == expected.correct == {0: 126}


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_scores_at_the_ends_stay_finite(threshold: float) -> None:
    scores = np.array([[[0.0, 1.0]], [[1.0, 0.5]]], np.float32)
    found = ScoreMap(IDS, scores, (1, 2), np.ones(2, np.float32))
    settings = PseudoMaskSettings(ignore_margin=0)
    expected = expected_pixels(found, pseudo_mask(found, settings, threshold), settings, threshold)
    assert sum(expected.shown.values()) == 2


def test_a_surer_map_expects_more_right_pixels() -> None:
    settings = PseudoMaskSettings(ignore_margin=0)
    right = []
    for score in (0.55, 0.9):
        found = ScoreMap(IDS[:1], np.full((1, 8, 8), score, np.float32), (8, 8), np.ones(1, "f4"))
        mask = pseudo_mask(found, settings, 0.5)
        right.append(expected_pixels(found, mask, settings, 0.5).correct[2])
    assert right == [35, 58]  # 64 pixels at 0.55 and at 0.9
