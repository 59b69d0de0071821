"""Aerial images in the layouts of Vaihingen and of Potsdam, and what goes wrong with them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from wsss.artifacts import read_label_png
from wsss.data import RawDataset
from wsss.data.isprs import CLASS_NAMES, COLOURS, Isprs, IsprsSettings, cut_tiles
from wsss.data.synthetic_aerial import SyntheticAerial, SyntheticAerialSettings, paint_areas
from wsss.settings import ConfigError

SIZE = (70, 90)
VAIHINGEN = [f"top_mosaic_09cm_area{number}" for number in (1, 2, 3, 4, 5, 6)]


def labels(size: tuple[int, int], seed: int) -> np.ndarray:
    """(H, W, 3) uint8: blocks of the known colours."""
    rng = np.random.default_rng(seed)
    palette = np.array(list(COLOURS)[:6], np.uint8)
    blocks = rng.integers(0, 6, (-(-size[0] // 20), -(-size[1] // 20)))
    return palette[blocks.repeat(20, 0).repeat(20, 1)[: size[0], : size[1]]]


def vaihingen(root: Path, names: list[str] = VAIHINGEN) -> Path:
    for folder in ("top", "gts_for_participants"):
        (root / folder).mkdir(parents=True)
    for seed, name in enumerate(names):
        rng = np.random.default_rng(seed)
        image = Image.fromarray(rng.integers(0, 256, (*SIZE, 3), np.uint8))
        image.save(root / f"top/{name}.tif", compression="tiff_lzw")
        Image.fromarray(labels(SIZE, seed)).save(root / f"gts_for_participants/{name}.tif")
    return root


def read(root: Path, scratch: Path, **settings: object) -> RawDataset:
    values = {"num_masks": 1, "num_val": 2, "tile": 40, **settings}
    return Isprs(IsprsSettings(root=str(root), **values)).collect(scratch, 0)


def test_vaihingen_in_three_parts(tmp_path: Path) -> None:
    raw = read(vaihingen(tmp_path / "data"), tmp_path / "scratch")
    assert raw.class_names == CLASS_NAMES and not raw.has_background and raw.tags_from_masks
    areas = {split: {s.name.split("/")[0] for s in found} for split, found in raw.splits.items()}
    assert [len(areas[split]) for split in ("train", "val")] == [4, 2]
    assert areas["train"] | areas["val"] == set(VAIHINGEN)
    assert raw.given is not None and len({name.split("/")[0] for name in raw.given}) == 1
    assert raw.given <= {sample.name for sample in raw.splits["train"]}
    again = read(tmp_path / "data", tmp_path / "again")
    assert again.given == raw.given
    other = read(tmp_path / "data", tmp_path / "other", split_seed=7)
    assert {s.name for s in other.splits["val"]} != {s.name for s in raw.splits["val"]}


def test_tags_are_the_classes_of_at_least_the_share(tmp_path: Path) -> None:
    root = vaihingen(tmp_path / "data")
    raw = read(root, tmp_path / "scratch", min_share=0.3)
    ids = {colour: at for colour, at in COLOURS.items() if at <= len(CLASS_NAMES)}
    for sample in (*raw.splits["train"], *raw.splits["val"]):
        area, _, place = sample.name.partition("/")
        top, left = map(int, place.split("_"))
        with Image.open(sample.image) as tile:
            size = tile.height, tile.width
        whole = np.asarray(Image.open(root / f"gts_for_participants/{area}.tif"))
        own = whole[top : top + size[0], left : left + size[1]]
        shares = {at: (own == colour).all(2).mean() for colour, at in ids.items()}
        assert sample.class_ids == tuple(sorted(at for at, n in shares.items() if n >= 0.3))


def test_tiles_for_validation_put_together_are_the_image(tmp_path: Path) -> None:
    root = vaihingen(tmp_path / "data")
    raw = read(root, tmp_path / "scratch")
    whole: dict[str, np.ndarray] = {}
    for sample in raw.splits["val"]:
        area, _, place = sample.name.partition("/")
        top, left = map(int, place.split("_"))
        tile = read_label_png(Path(str(sample.mask)))
        canvas = whole.setdefault(area, np.full(SIZE, 254, np.uint8))
        part = canvas[top : top + tile.shape[0], left : left + tile.shape[1]]
        assert (part == 254).all()  # no pixel is counted twice
        part[:] = tile
    table = dict(COLOURS)
    for area, canvas in whole.items():
        colours = np.asarray(Image.open(root / f"gts_for_participants/{area}.tif")).reshape(-1, 3)
        assert canvas.ravel().tolist() == [table[tuple(c)] for c in colours.tolist()]


sides = st.integers(1, 60)


@given(sides, sides, sides, st.sampled_from([None, 0, 0.3, 0.5, 0.9]))
def test_every_pixel_is_in_a_tile_and_in_one_of_a_partition(
    height: int, width: int, tile: int, overlap: float | None
) -> None:
    times = np.zeros((height, width), int)
    boxes = cut_tiles((height, width), tile, overlap)
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= width and 0 <= top < bottom <= height
        times[top:bottom, left:right] += 1
    assert times.min() == 1
    if overlap is None:
        assert times.max() == 1
    else:
        assert {(b - t, r - a) for a, t, r, b in boxes} == {(min(tile, height), min(tile, width))}


def test_potsdam_by_the_names_of_its_files(tmp_path: Path) -> None:
    images, gts = tmp_path / "2_Ortho_RGB", tmp_path / "5_Labels_all_noBoundary"
    for folder in (images, gts):
        folder.mkdir()
    for seed, area in enumerate(("2_10", "2_11", "3_10", "7_12")):
        pixels = np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)
        Image.fromarray(pixels).save(images / f"top_potsdam_{area}_RGB.tif")
        colours = labels(SIZE, seed)
        colours[0] = 0  # eroded borders
        Image.fromarray(colours).save(gts / f"top_potsdam_{area}_label_noBoundary.tif")
    (images / "top_potsdam_2_10_RGB.tfw").write_text("0.05\n")
    raw = read(
        tmp_path, tmp_path / "scratch", images=images.name, labels=gts.name,
        val=["7_12"], masks=["top_potsdam_2_11"],
    )  # fmt: skip
    assert {s.name.split("/")[0] for s in raw.splits["val"]} == {"top_potsdam_7_12"}
    assert {name.split("/")[0] for name in raw.given or ()} == {"top_potsdam_2_11"}
    first = next(s for s in raw.splits["val"] if s.name.endswith("00000_00000"))
    assert (read_label_png(Path(str(first.mask)))[0] == 255).all()


def test_whole_images_for_validation_have_the_tags_of_their_tiles(tmp_path: Path) -> None:
    root = vaihingen(tmp_path / "data")
    tiles = read(root, tmp_path / "scratch", min_share=0.3)
    whole = read(root, tmp_path / "whole", min_share=0.3, tile_val=False)
    for sample in whole.splits["val"]:
        own = [s.class_ids for s in tiles.splits["val"] if s.name.startswith(f"{sample.name}/")]
        assert set(sample.class_ids) == {tag for ids in own for tag in ids}


def test_an_unknown_colour_is_named_with_its_place(tmp_path: Path) -> None:
    root = vaihingen(tmp_path / "data")
    path = root / f"gts_for_participants/{VAIHINGEN[2]}.tif"
    colours = labels(SIZE, 2)
    colours[7, 11] = (1, 255, 255)
    colours[30, 2] = (255, 0, 255)
    Image.fromarray(colours).save(path)
    with pytest.raises(ValueError, match=r"area3\.tif has the colour #01ffff at x 11, y 7, and 2 "):
        read(root, tmp_path / "scratch")


def test_labels_of_another_size_are_refused_before_anything_is_cut(tmp_path: Path) -> None:
    root = vaihingen(tmp_path / "data")
    path = root / f"gts_for_participants/{VAIHINGEN[5]}.tif"
    Image.fromarray(labels((60, 90), 2)).save(path)
    with pytest.raises(ValueError, match=r"has 60 x 90 pixels \(height x width\), but .* 70 x 90"):
        read(root, tmp_path / "scratch")
    assert not (tmp_path / "scratch").exists()


def test_an_image_without_labels_is_left_out_and_said(tmp_path: Path) -> None:
    root = vaihingen(tmp_path / "data")
    (root / f"gts_for_participants/{VAIHINGEN[0]}.tif").unlink()
    raw = read(root, tmp_path / "scratch")
    assert [problem.name for problem in raw.problems] == [VAIHINGEN[0]]
    assert "no labels" in raw.problems[0].reason


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_val": 6}, r"num_val is 6, but there are only 6 images"),
        ({"num_masks": 5}, r"num_masks is 5, but beside 2 for validation .* only 4"),
        ({"val": ["area9"]}, r"val names 'area9', which is no image; known: "),
        ({"labels": "gts"}, r"dataset\.labels: .*gts is not a folder"),
    ],
)
def test_parts_that_cannot_be_drawn(tmp_path: Path, settings: dict, message: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=message):
        read(vaihingen(tmp_path / "data"), tmp_path / "scratch", **settings)


def test_masks_that_miss_a_class_are_a_warning(tmp_path: Path) -> None:
    root = vaihingen(tmp_path / "data")
    only = np.full((*SIZE, 3), 255, np.uint8)
    for name in VAIHINGEN:
        Image.fromarray(only).save(root / f"gts_for_participants/{name}.tif")
    raw = read(root, tmp_path / "scratch")
    assert "none of the masks to learn from shows building" in raw.warnings[0]


def test_a_painted_town_is_read_as_the_benchmark_is(tmp_path: Path) -> None:
    settings = SyntheticAerialSettings(
        num_images=5, image_size=(96, 128), tile=64, num_masks=1, num_val=1, car=8
    )
    raw = SyntheticAerial(settings).collect(tmp_path / "a", 3)
    again = SyntheticAerial(settings).collect(tmp_path / "b", 3)
    for split, samples in raw.splits.items():
        for first, second in zip(samples, again.splits[split], strict=True):
            assert first.image.read_bytes() == second.image.read_bytes()
            assert Path(str(first.mask)).read_bytes() == Path(str(second.mask)).read_bytes()
            assert 0 not in read_label_png(Path(str(first.mask)))
    paint_areas(tmp_path / "c", 2, (96, 128), 8, 3)
    assert read(tmp_path / "c", tmp_path / "d", num_val=1).class_names == CLASS_NAMES


@pytest.mark.parametrize("sides", [(96, 5000), (32, 96)])
def test_sizes_of_towns_are_limited(sides: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"must lie in 64\.\.4096"):
        SyntheticAerial(SyntheticAerialSettings(image_size=sides))
