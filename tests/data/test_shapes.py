"""Shapes to pixels: counted by hand, by invariants, and beside pycocotools where there is one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsss.data._run_lengths import filled_runs, packed_alpha, unpacked_counts
from wsss.data._shapes import Brush, Line, Polygons, Runs, Shape, ellipse, turned_rectangle

SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))


def covered(shape: Shape, size: tuple[int, int]) -> np.ndarray:
    """The pixels of a shape on its whole image."""
    whole = np.zeros(size, bool)
    at, inside = shape.pixels(size)
    assert inside.shape == whole[at].shape
    whole[at] = inside
    return whole


def polygon(*points: tuple[float, float]) -> Polygons:
    return Polygons((np.array(points, float),))


def star(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Corners around the middle of an image."""
    angles = np.sort(rng.random(rng.integers(3, 12))) * 2 * np.pi
    radii = rng.random(len(angles)) / 2 + 0.4
    half = np.array(size[::-1]) / 2
    return half + half * 0.95 * np.stack([np.cos(angles) * radii, np.sin(angles) * radii], 1)


def packed(values: np.ndarray, sizes: tuple[int, ...] = (3, 4, 8, 16)) -> list[int]:
    """Label Studio's bytes of a mask, (H, W) bool: opaque red where it is true."""
    flat = np.zeros((values.size, 4), np.uint8)
    flat[values.ravel()] = (255, 0, 0, 255)
    stream = flat.ravel().tolist()
    bits = f"{len(stream):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in sizes)
    at = 0
    while at < len(stream):
        run = 1
        while at + run < len(stream) and stream[at + run] == stream[at] and run < 2**16:
            run += 1
        fit = next(n for n, size in enumerate(sizes) if run <= 2**size)
        if run > 1:
            bits += f"1{fit:02b}{run - 1:0{sizes[fit]}b}{stream[at]:08b}"
        else:
            run = min(3, len(stream) - at)
            bits += f"000{run - 1:0{sizes[0]}b}" + "".join(
                f"{value:08b}" for value in stream[at : at + run]
            )
        at += run
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


def text_of(counts: list[int]) -> str:
    """Run lengths as COCO packs them."""
    text = ""
    for at, count in enumerate(counts):
        value = count - counts[at - 2] if at > 2 else count
        more = True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + (bits | 32 * more))
    return text


def runs_of(flat: np.ndarray) -> list[int]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat, [not flat[-1]]])))
    return np.diff(np.concatenate([[0], edges])).tolist()


def distance(points: np.ndarray, point: np.ndarray) -> float:
    """How far a point is from the outline of a polygon."""
    edges = np.roll(points, -1, axis=0) - points
    shares = ((point - points) * edges).sum(1) / (edges**2).sum(1)
    feet = points + shares.clip(0, 1)[:, None] * edges
    return float(np.linalg.norm(feet - point, axis=1).min())


def test_a_polygon_on_the_borders_of_pixels_covers_them_exactly():
    inside = covered(polygon((1, 2), (5, 2), (5, 6), (1, 6)), (8, 9))
    expected = np.zeros((8, 9), bool)
    expected[2:6, 1:5] = True
    np.testing.assert_array_equal(inside, expected)


def test_a_pixel_belongs_to_the_polygon_that_holds_its_centre():
    triangle = covered(polygon((0, 0), (4, 0), (0, 4.1)), (4, 4))
    assert triangle.astype(int).tolist() == [
        [1, 1, 1, 1],
        [1, 1, 1, 0],
        [1, 1, 0, 0],
        [1, 0, 0, 0],
    ]
    assert not covered(polygon((0.6, 0.6), (1.4, 0.6), (1.4, 1.4)), (4, 4)).any()


@given(SIZES, st.integers(0, 2**32 - 1))
def test_polygons_are_those_of_a_point_in_polygon_test(size, seed):
    points = star(size, np.random.default_rng(seed))
    inside = covered(Polygons((points,)), size)
    for row, column in np.ndindex(size):
        x, y, crossings = column + 0.5, row + 0.5, 0
        for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
            if (y0 <= y) != (y1 <= y):
                crossings += x0 + (y - y0) * (x1 - x0) / (y1 - y0) < x
        assert inside[row, column] == crossings % 2


def test_parts_of_an_object_are_taken_together_and_do_not_cut_holes():
    parts = [np.array([(0, 0), (4, 0), (4, 4), (0, 4)]), np.array([(2, 2), (6, 2), (6, 6), (2, 6)])]
    inside = covered(Polygons(tuple(part.astype(float) for part in parts)), (6, 6))
    assert inside[3, 3]
    assert inside.sum() == 16 + 16 - 4


@pytest.mark.parametrize("points", [[(-2, 0), (3, 0), (3, 3)], [(0, 0), (3, 0), (3, 9.1)]])
def test_a_polygon_outside_of_its_image_is_refused_and_one_pixel_is_rounding(points):
    with pytest.raises(ValueError, match=r"lies outside of its image of 6 x 8 pixels"):
        polygon(*points).pixels((8, 6))
    assert covered(polygon((-1, -1), (7, -1), (7, 9), (-1, 9)), (8, 6)).all()


def test_an_ellipse_has_its_area_and_turns():
    flat = covered(ellipse(50, 40, (30, 10)), (80, 100))
    assert abs(flat.sum() - np.pi * 30 * 10) < 0.01 * np.pi * 300 + 3
    assert flat[40, 22]
    assert not flat[20, 50]
    upright = covered(ellipse(50, 40, (30, 10), degrees=90), (80, 100))
    assert upright[15, 50]
    assert not upright[40, 25]


def test_a_rectangle_turned_about_a_corner_or_its_middle():
    assert turned_rectangle((10, 10, 30, 20), 0, (10, 10)) == (10, 10, 30, 20)
    # clockwise as one sees it: what pointed right points down
    assert turned_rectangle((10, 10, 30, 20), 90, (10, 10)) == (0, 10, 10, 30)
    assert turned_rectangle((10, 10, 30, 20), 90, (20, 15)) == (15, 5, 25, 25)
    side = 20 * np.sqrt(0.5)
    found = turned_rectangle((0, 0, 20, 20), 45, (10, 10))
    np.testing.assert_allclose(found, (10 - side, 10 - side, 10 + side, 10 + side), atol=1e-5)


def test_a_line_is_connected_and_holds_its_points():
    drawn = covered(Line(np.array([(0.5, 0.5), (7.5, 3.5), (7.5, 5.9)])), (6, 8))
    assert drawn[0, 0]
    assert drawn[3, 7]
    assert drawn[5, 7]
    rows, columns = np.nonzero(drawn)
    assert set(columns.tolist()) == set(range(8))
    for row, column in zip(rows, columns, strict=True):
        near = drawn[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
        assert near.sum() > 1


@given(SIZES, st.integers(0, 2**32 - 1), st.booleans())
def test_run_lengths_come_back_from_lists_and_from_text(size, seed, by_columns):
    rng = np.random.default_rng(seed)
    mask = rng.random(size) < rng.random()
    counts = runs_of(mask.ravel("F" if by_columns else "C"))
    assert unpacked_counts(text_of(counts)) == counts
    for written in (counts, text_of(counts)):
        np.testing.assert_array_equal(
            covered(Runs(written, size, by_columns=by_columns), size), mask
        )


@given(SIZES, st.integers(0, 2**32 - 1))
def test_a_brush_comes_back(size, seed):
    rng = np.random.default_rng(seed)
    mask = rng.random(size) < rng.random()
    np.testing.assert_array_equal(covered(Brush(packed(mask)), size), mask)


def test_half_opaque_paint_counts():
    """A stream of a single literal run, written by hand: alpha 127 does not count, and 128 does."""
    bits = f"{8:032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    bits += "000" + "111" + "".join(f"{v:08b}" for v in (9, 9, 9, 127, 9, 9, 9, 128))
    bits += "0" * (-len(bits) % 8)
    data = [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]
    assert packed_alpha(data, 2).tolist() == [127, 128]
    assert covered(Brush(data), (1, 2)).tolist() == [[False, True]]


@pytest.mark.parametrize(
    ("shape", "error"),
    [
        (Runs([3, 2], (2, 3)), r"add up to 5 pixels, but its size has 6"),
        (Runs([7, -1], (2, 3)), r"add up to 6"),
        (Runs([6], (3, 2)), r"are of 2 x 3 pixels at 0, 0, but its image has 3 x 2"),
        (Runs([2], (1, 2), (2, 0)), r"of 2 x 1 pixels at 2, 0"),
        (Runs("1~", (2, 3)), r"hold '~'"),
        (Runs("1P", (2, 3)), r"break off"),
        (Brush([0, 0, 0]), r"break off"),
        (Brush([0, 0, 0, 24, 0, 0, 0, 0]), r"are of 24 values of 1 bits"),
        (Brush(packed(np.ones((2, 4), bool))), r"are of 32 values of 8 bits.*6 pixels has 24"),
        (Brush(packed(np.ones((2, 3), bool))[:-2]), r"break off"),
        (Brush([300, "x"]), r"no list of bytes"),
    ],
)
def test_run_lengths_of_another_size_are_refused(shape, error):
    with pytest.raises(ValueError, match=error):
        shape.pixels((2, 3))


def test_boxes_around_shapes():
    mask = np.zeros((6, 8), bool)
    mask[2:4, 3:7] = True
    whole = Runs(runs_of(mask.ravel("F")), (6, 8), by_columns=True)
    assert whole.bounds((6, 8)) == (3, 2, 7, 4)
    assert Brush(packed(mask)).bounds((6, 8)) == (3, 2, 7, 4)
    assert Runs([1, 2], (1, 3), (4, 5)).bounds((6, 8)) == (5, 5, 7, 6)
    assert polygon((1, 2.5), (4, 2), (2, 5)).bounds((6, 8)) == (1, 2, 4, 5)
    with pytest.raises(ValueError, match="has no pixel"):
        Runs([6], (2, 3)).bounds((2, 3))


def test_all_is_as_pycocotools_has_it():
    peer = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for _ in range(50):
        size = int(rng.integers(5, 120)), int(rng.integers(5, 120))
        points = star(size, rng)
        ours = covered(Polygons((points,)), size)
        theirs = peer.decode(peer.frPyObjects([points.ravel().tolist()], *size))[..., 0] > 0
        for row, column in np.argwhere(ours != theirs):
            assert distance(points, np.array([column + 0.5, row + 0.5])) < 0.8  # of the outline
        text = peer.encode(np.asfortranarray(ours.astype(np.uint8)))["counts"].decode()
        np.testing.assert_array_equal(covered(Runs(text, size, by_columns=True), size), ours)
        assert text == text_of(runs_of(ours.ravel("F")))


def test_runs_are_whole():
    with pytest.raises(ValueError, match="add up to 0 pixels, but its size has 4"):
        filled_runs([], 4)
