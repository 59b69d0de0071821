"""What is said of the numbers of a data set."""

import pytest

from wsss.artifacts import Manifest, Sample
from wsss.config.params import Params, parse_params
from wsss.stages._data_findings import (
    classes_together,
    large_warnings,
    same_tags_warnings,
    size_facts,
    small_warnings,
)


def manifest(*tags: tuple[int, ...], num_classes: int = 3) -> Manifest:
    """Training images with these tags."""
    samples = [Sample(f"{at}", "", (40, 60), ids) for at, ids in enumerate(tags)]
    names = tuple("abcdefg"[:num_classes])
    return Manifest(names, {"train": tuple(samples), "selection": (), "val": ()})


@pytest.mark.parametrize(
    ("tags", "together"),
    [
        ([(1, 2), (1, 2), (3,)], ["'a', 'b'"]),
        ([(1, 2), (1, 2), ()], ["'a', 'b'"]),
        ([(1, 2), (1,), (3,)], []),
        ([(1, 2), (1, 2), (1, 2, 3)], []),  # each is on all images, which is said elsewhere
        ([(3,), (3,), ()], []),  # neither a nor b is on any
        ([(1, 2, 3), ()], ["'a', 'b', 'c'"]),
    ],
)
def test_classes_that_nothing_tells_apart(tags, together):
    said = same_tags_warnings(manifest(*tags))
    assert [text.removeprefix("the classes ").partition(" are")[0] for text in said] == together


def test_pairs_are_counted_once_with_most_first():
    assert classes_together(manifest((1, 2), (1, 2, 3), (2, 3), (2, 3), (1,))) == [
        ("b", "c", 3),
        ("a", "b", 2),
        ("a", "c", 1),
    ]


def test_sizes_are_sorted_by_area():
    sizes = [(10, 100), (20, 40), (30, 90)]  # height, width
    facts = size_facts([Sample(str(size), "", size, ()) for size in sizes])
    assert facts["smallest"] == {"width": 40, "height": 20, "name": "(20, 40)"}
    assert facts["largest"] == {"width": 90, "height": 30, "name": "(30, 90)"}
    assert facts["median"] == {"width": 90, "height": 20}
    assert size_facts([]) == {}


def test_an_image_is_too_small_below_two_cells_of_the_largest_scale():
    params = parse_params({"generate_cams": {"scales": [1.0, 2.0]}})  # a cell is 16 pixels
    said = {short: small_warnings([Sample("a", "", (99, short), ())], params) for short in (15, 16)}
    assert said[16] == [] and len(said[15]) == 1
    shrunk = parse_params(
        {"generate_cams": {"scales": [1.0]}, "prepare_data": {"long_side_max": 100}}
    )
    (text,) = small_warnings([Sample("a", "", (1000, 300), ())], shrunk)
    assert "raise prepare_data.long_side_max" in text


def test_large_images_need_windows_or_shrinking():
    large = [Sample("a", "", (100, 2001), ()), Sample("b", "", (2000, 2000), ())]
    (text,) = large_warnings(large, Params())
    assert text.startswith("1 images") and "'a' with 2001 x 100" in text
    sections = ("generate_cams", "refine", "predict_masks")
    windows = {section: {"window": 1024} for section in sections}
    assert large_warnings(large, parse_params(windows)) == []
    (text,) = large_warnings(large, parse_params(windows | {"refine": {}}))
    assert "set refine.window to 1024" in text
    assert large_warnings(large, parse_params({"prepare_data": {"long_side_max": 800}})) == []
