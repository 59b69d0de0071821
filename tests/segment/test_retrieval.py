"""Regions, their features, the votes of the nearest, and what is painted, by slower ways."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from wsss.artifacts import TOUCHING, Proposals
from wsss.config.params import parse_params
from wsss.segment.retrieval.index import RegionIndex, Votes, read_index, write_index
from wsss.segment.retrieval.predictor import painted, suppressed
from wsss.segment.retrieval.regions import pooled_features, regions_of
from wsss.settings import ConfigError


def index_of(features: np.ndarray, ids: list[int]) -> RegionIndex:
    names = np.array([f"image{number}" for number in range(len(ids))])
    boxes = np.tile(np.array([0, 0, 1, 1], np.int32), (len(ids), 1))
    return RegionIndex(features.astype(np.float32), np.array(ids, np.uint8), names, boxes)


def signs(rng: np.random.Generator, count: int) -> np.ndarray:
    """Features of length 1 whose products are exact, so that there are many ties."""
    features = np.zeros((count, 6), np.float32)
    for row in features:
        row[rng.choice(6, 4, replace=False)] = rng.choice([-0.5, 0.5], 4)
    return features


@pytest.mark.parametrize("k", [1, 3, 7, 100])
def test_votes_by_brute_force(k: int) -> None:
    rng = np.random.default_rng(k)
    stored, asked = signs(rng, 40), signs(rng, 15)
    ids = rng.integers(0, 4, 40).tolist()
    votes = index_of(stored, ids).vote(asked, k)
    for number, feature in enumerate(asked):
        products = [float(sum(a * b for a, b in zip(feature, row, strict=True))) for row in stored]
        nearest = sorted(range(40), key=lambda row: (-products[row], row))[:k]
        assert votes.rows[number].tolist() == nearest
        assert votes.similarities[number].tolist() == [products[row] for row in nearest]
        counts = {c: [products[row] for row in nearest if ids[row] == c] for c in range(4)}
        winner = max(range(4), key=lambda c: (len(counts[c]), sum(counts[c]), -c))
        assert votes.class_ids[number] == winner
        assert votes.scores[number] == pytest.approx(sum(counts[winner]) / len(nearest))


def test_a_tie_of_votes_goes_to_the_larger_sum() -> None:
    features = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1]])
    votes = index_of(features, [2, 1, 1, 2]).vote(np.array([[1, 0], [0, 1]], np.float32), 4)
    assert votes.class_ids.tolist() == [1, 1]  # 1.4 against 1 on both sides
    votes = index_of(features, [1, 2, 2, 3]).vote(np.array([[1, 0]], np.float32), 2)
    assert votes.class_ids.tolist() == [1]  # 1 against 0.8


def test_classes_that_are_left_out_have_no_vote() -> None:
    features = np.array([[1, 0], [0.8, 0.6], [0, 1]])
    index, asked = index_of(features, [2, 1, 0]), np.array([[1, 0]], np.float32)
    for allowed, winner in (([1, 1, 1], 2), ([1, 1, 0], 1), ([1, 0, 0], 0)):
        votes = index.vote(asked, 1, np.array(allowed, bool))
        assert votes.class_ids.tolist() == [winner]
    none = index.vote(asked, 1, np.zeros(3, bool))
    assert none.class_ids.tolist() == [0] and none.rows.shape == (1, 0)


def test_the_farthest_quarter_of_each_class_goes() -> None:
    angles = np.array([0, 0.1, 0.2, 2.0, 1.0, 1.1, 1.2])
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    trimmed = index_of(features, [1, 1, 1, 1, 2, 2, 2]).trimmed(0.25)
    assert trimmed.images.tolist() == ["image0", "image1", "image2", "image4", "image5", "image6"]


def test_a_new_class_is_added_without_touching_the_rest() -> None:
    rng = np.random.default_rng(0)
    old, new = index_of(signs(rng, 20), [0, 1] * 10), index_of(signs(rng, 8), [2] * 8)
    before = old.trimmed(0.25)
    grown = RegionIndex.join([before, new.trimmed(0.25)])
    at_once = RegionIndex.join([old, new]).trimmed(0.25)
    for name, value in vars(grown).items():
        assert np.array_equal(value, vars(at_once)[name])
        assert np.array_equal(value[: len(before)], vars(before)[name])
    found = grown.vote(new.features[:1], 1)
    assert found.class_ids.tolist() == [2]
    asked = signs(rng, 30)
    without = np.array([True, True, False])
    assert np.array_equal(grown.vote(asked, 5, without).rows, before.vote(asked, 5).rows)


@pytest.mark.parametrize("size", [(64, 48), (33, 70), (128, 128)])
def test_regions_by_repeated_erosion(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    coarse = rng.choice([0, 0, 1, 2, 255], (-(-size[0] // 11), -(-size[1] // 11)))
    mask = np.kron(coarse, np.ones((11, 11), int))[: size[0], : size[1]].astype(np.uint8)
    scale = max(size) / 512
    found, ids, boxes = regions_of(mask, erosions=round(2 / scale), min_area=40 / scale**2)
    expected = []
    for class_id in (0, 1, 2):
        inner = ndimage.binary_erosion(mask == class_id, TOUCHING, 2, border_value=1)
        parts, count = ndimage.label(inner, TOUCHING)
        of_class = [parts == number for number in range(1, count + 1)]
        expected += [(class_id, part) for part in of_class if part.sum() >= 40]
    assert ids.tolist() == [class_id for class_id, _ in expected] and len(ids) > 2
    dense = found.matrix().toarray().reshape(-1, *size) > 0
    for part, (_, wanted), (top, left, bottom, right) in zip(dense, expected, boxes, strict=True):
        assert np.array_equal(part, wanted)
        rows, columns = wanted.nonzero()
        corner = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
        assert corner == (top, left, bottom, right)


def test_regions_of_a_larger_image_are_larger() -> None:
    mask = np.zeros((256, 512), np.uint8)
    mask[50:150, 100:300] = 1
    mask[200:240, 10:50] = 2  # nothing is left of 40 pixels
    small, ids, boxes = regions_of(mask, erosions=20, min_area=300)
    large, large_ids, large_boxes = regions_of(
        mask.repeat(2, axis=0).repeat(2, axis=1), erosions=20, min_area=300
    )
    assert ids.tolist() == large_ids.tolist() == [0, 1]
    assert np.array_equal(2 * boxes, large_boxes)
    assert boxes[1].tolist() == [70, 120, 130, 280]
    assert np.array_equal(4 * small.areas(), large.areas())


def test_features_are_means_over_pixels() -> None:
    rng = np.random.default_rng(2)
    features = rng.normal(size=(5, 4, 6)).astype(np.float32)
    masks = rng.random((7, 32, 36)) < 0.3
    masks[3] = False
    # the grid has a row of padding: 3 of its 4 rows are the image, hence 32 pixels in 3 rows
    centres = (np.arange(32) + 0.5) * 3 / 32
    large = features[:, centres.astype(int)].repeat(6, axis=2)  # (5, 32, 36)
    found = pooled_features(Proposals.from_masks(masks), features, (0.75, 1))
    for mask, feature in zip(masks, found, strict=True):
        if mask.any():
            mean = large[:, mask].mean(axis=1)
            np.testing.assert_allclose(feature, mean / np.linalg.norm(mean), rtol=1e-4, atol=1e-5)
    assert not found[3].any()
    none = pooled_features(Proposals.from_masks(masks[:0]), features, (1, 1))
    assert none.shape == (0, 5)


def votes_of(class_ids: list[int], scores: list[float]) -> Votes:
    none = np.zeros((len(scores), 0))
    return Votes(np.array(class_ids, np.uint8), np.array(scores, np.float32), none, none)


def test_overlapping_proposals_of_a_class_are_left_out_and_better_ones_lie_on_top() -> None:
    masks = np.zeros((5, 1, 10), bool)
    masks[0, 0, :6] = True
    masks[1, 0, :5] = True  # 5 of 6 pixels of the first
    masks[2, 0, 4:8] = True  # 2 of 8 shared with the first
    masks[3, 0, :6] = True  # of another class
    masks[4, 0, 8:] = True
    proposals = Proposals.from_masks(masks)
    votes = votes_of([1, 1, 1, 2, 0], [0.9, 0.8, 0.7, 0.5, 1.0])
    kept = suppressed(proposals, np.arange(4), votes, 0.4)
    assert kept.tolist() == [0, 2, 3]
    assert suppressed(proposals, np.arange(4), votes, 1.0).tolist() == [0, 1, 2, 3]
    assert suppressed(proposals, np.arange(4), votes, 0.2).tolist() == [0, 3]
    shown = painted(proposals, np.array([3, 2]), votes.class_ids)
    assert shown.tolist() == [[2, 2, 2, 2, 1, 1, 1, 1, 0, 0]]


def test_an_index_is_read_as_it_was_written(tmp_path: Path) -> None:
    index = index_of(signs(np.random.default_rng(0), 5), [0, 1, 2, 2, 1])
    write_index(tmp_path / "a.npz", index)
    write_index(tmp_path / "b.npz", read_index(tmp_path / "a.npz"))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    (tmp_path / "c.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"c\.npz does not hold an index .*; rerun train_segm"):
        read_index(tmp_path / "c.npz")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"train_segmenter": {"retrieval": {"proposals": "sma"}}, "make_proposals": {"sam": {}}},
            "train_segmenter.retrieval.proposals names 'sma', which make_proposals does not have; "
            "did you mean 'sam'?",
        ),
        (
            {"train_segmenter": {"retrieval": {"neighbors": 5}}},
            "train_segmenter.retrieval has no key 'neighbors'; did you mean 'neighbours'?",
        ),
        (
            {"train_segmenter": {"retrieval": {"backbone": {"modelname": "x"}}}},
            "train_segmenter.retrieval.backbone has no key 'modelname'",
        ),
        (
            {
                "train_segmenter": {"retrieval": {"proposals": "slic"}},
                "make_proposals": {"slic": {"name": "superpixels"}},
                "predict_masks": {"crf": {}},
            },
            "predict_masks.crf smooths probabilities",
        ),
    ],
)
def test_settings_that_can_not_be_are_refused(values: dict[str, Any], message: str) -> None:
    for sources in values.get("make_proposals", {}).values():
        sources.setdefault("name", "superpixels")
    with pytest.raises(ConfigError) as caught:
        parse_params(values)
    assert message in str(caught.value)
