"""Wrong tags are found on features that a class has; no image is foretold from its own tags."""

import numpy as np
import pytest

from wsss.suggest.features import Features
from wsss.suggest.foretelling import deal, foretell
from wsss.suggest.tags import judged_classes, suspicions

COUNT, CLASSES, WIDTH, PARTS = 240, 3, 12, 16


def made(rng: np.random.Generator) -> tuple[Features, np.ndarray]:
    """Each class adds a direction of its own to a few parts of an image."""
    tags = (rng.random((COUNT, CLASSES)) < 0.3).astype(np.float32)
    directions = np.linalg.qr(rng.normal(size=(WIDTH, CLASSES)))[0].T
    parts = rng.normal(0, 0.3, (COUNT, PARTS, WIDTH))
    for row, column in np.argwhere(tags):
        places = rng.choice(PARTS, 4, replace=False)
        parts[row, places] += 3 * directions[column]
    return Features(parts.astype(np.float16), "made", False), tags


@pytest.fixture(scope="module")
def wrong() -> tuple[Features, np.ndarray, np.ndarray]:
    """Features, tags of which one in ten is wrong, and which are."""
    rng = np.random.default_rng(1)
    features, tags = made(rng)
    flipped = np.zeros(tags.shape, bool)
    for value in (0, 1):
        places = np.argwhere(tags == value)
        drawn = places[rng.choice(len(places), 11, replace=False)]
        flipped[drawn[:, 0], drawn[:, 1]] = True
    return features, np.where(flipped, 1 - tags, tags).astype(np.float32), flipped


def test_wrong_tags_come_first(wrong: tuple[Features, np.ndarray, np.ndarray]) -> None:
    features, given, flipped = wrong
    found = foretell(features, given, 5, 7)
    names = [str(number) for number in range(COUNT)]
    ranked = suspicions(names, given, found.chances(given), found.peak, share=0.1, fewest=5)
    first = ranked[: int(flipped.sum())]
    hits = [flipped[int(item.image), item.class_id - 1] for item in first]
    assert np.mean(hits) > 0.85
    assert {item.tagged for item in first} == {True, False}
    for item in first:
        assert item.tagged == (given[int(item.image), item.class_id - 1] == 1)
    chances = [item.chance for item in ranked]
    assert chances == sorted(chances, reverse=True) and 0 <= chances[-1] <= chances[0] <= 1


def test_the_same_twice(wrong: tuple[Features, np.ndarray, np.ndarray]) -> None:
    features, given, _ = wrong
    first, second = (foretell(features, given, 4, 3) for _ in range(2))
    assert np.array_equal(first.whole, second.whole) and np.array_equal(first.peak, second.peak)


def test_an_images_own_tags_change_nothing(
    wrong: tuple[Features, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same folds, whatever an image is tagged with, it is foretold the same."""
    features, given, _ = wrong
    folds = deal(given, 5, 7)
    monkeypatch.setattr("wsss.suggest.foretelling.deal", lambda *_: folds)
    monkeypatch.setattr("wsss.suggest.foretelling.DECAYS", (0.1,))
    other = given.copy()
    own = folds == 2
    other[own] = 1 - other[own]
    first, second = foretell(features, given, 5, 7), foretell(features, other, 5, 7)
    assert np.array_equal(first.whole[own], second.whole[own])
    assert not np.array_equal(first.whole[~own], second.whole[~own])


def test_unknown_tags_teach_nothing_and_are_not_suspicious(
    wrong: tuple[Features, np.ndarray, np.ndarray],
) -> None:
    features, given, _ = wrong
    unknown = given.copy()
    unknown[:50, 0] = np.nan
    found = foretell(features, unknown, 5, 7)
    assert np.isfinite(found.whole).all()
    names = [str(number) for number in range(COUNT)]
    ranked = suspicions(names, unknown, found.chances(unknown), found.peak, share=0.1, fewest=5)
    assert not [item for item in ranked if item.class_id == 1 and int(item.image) < 50]
    assert len(ranked) == unknown.size - 50


def test_a_rare_class_is_not_judged() -> None:
    tags = np.zeros((30, 3), np.float32)
    tags[:4, 0] = 1  # few have it
    tags[:15, 1] = 1
    tags[:27, 2] = 1  # few lack it
    assert judged_classes(tags, 5).tolist() == [False, True, False]
    chances = np.full(tags.shape, 0.9, np.float32)
    names = [str(number) for number in range(30)]
    found = suspicions(names, tags, chances, chances, share=0.5, fewest=5, least=0.5)
    assert {item.class_id for item in found} == {2}
    assert {item.image for item in found} == {str(number) for number in range(15, 30)}


def test_folds_share_each_class() -> None:
    rng = np.random.default_rng(0)
    tags = (rng.random((200, 4)) < [0.5, 0.3, 0.1, 0.05]).astype(np.float32)
    folds = deal(tags, 5, 11)
    assert sorted(np.bincount(folds)) == [40] * 5
    rarest = tags.sum(axis=0).argmin()
    shares = [tags[folds == fold, rarest].sum() for fold in range(5)]
    assert max(shares) - min(shares) <= 1


def test_fewer_images_than_folds() -> None:
    features = Features(np.zeros((3, PARTS, 2), np.float16), "", False)
    with pytest.raises(ValueError, match="3 images cannot be dealt to 5 folds"):
        foretell(features, np.ones((3, 1), np.float32), 5, 0)
