import numpy as np

from wsss.artifacts import Sample, ScoreMap
from wsss.report import choose_samples
from wsss.report.overlays import overlay_mask, overlay_scores


def sample(name: str, *class_ids: int) -> Sample:
    return Sample(name, f"{name}.png", (40, 60), class_ids, f"{name}.png")


def test_choice_shows_all_classes_first() -> None:
    rows = [sample("a", 1), sample("b", 1), sample("c", 2), sample("d", 1), sample("e", 3)]
    assert [chosen.name for chosen in choose_samples(rows, 3)] == ["a", "c", "e"]
    assert [chosen.name for chosen in choose_samples(rows, 4)] == ["a", "b", "c", "e"]
    assert choose_samples(rows, 9) == rows
    assert choose_samples([], 3) == []


def test_background_keeps_its_brightness_and_scores_fade_with_their_height() -> None:
    image = np.full((1, 4, 3), 100, np.uint8)
    shown = overlay_mask(image, np.array([[0, 1, 2, 255]], np.uint8))
    assert shown[0, 0].tolist() == [100, 100, 100]
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) == 4
    scores = np.array([[[0, 0.3, 0.6, 1]], [[0, 0, 0.7, 0]]], np.float32)
    score_map = ScoreMap(np.array([1, 2], np.uint8), scores, (1, 4), np.ones(2, np.float32))
    red, green, blue = overlay_scores(image, score_map)[0].T.astype(int)
    assert (red[0], green[0], blue[0]) == (100, 100, 100)
    assert green[0] > green[1] > green[3]  # class 1 is dark red
    assert green[2] > red[2]  # class 2 is dark green and wins there
