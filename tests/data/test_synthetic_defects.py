"""The painted set of defects: reproducible, tagged as its masks say, with the areas it promises."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from wsss.data._flaws import FLAWS, LARGEST, SMALLEST, draw_flaw
from wsss.data._surfaces import SURFACES, paint_surface
from wsss.data.synthetic_defects import (
    SyntheticDefects,
    SyntheticDefectsSettings,
    paint_defects,
)
from wsss.seeding import generator

SMALL = SyntheticDefectsSettings(num_train=10, num_val=4, image_size=(96, 112))


def _bytes(folder: Path) -> dict[Path, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): hashlib.sha256(path.read_bytes()).digest() for path in files}


def test_same_seed_same_bytes_and_more_images_keep_the_first_ones(tmp_path: Path) -> None:
    more = SMALL.model_copy(update={"num_train": 12})
    for name, settings, rng_seed in (("a", SMALL, 1), ("b", more, 1), ("c", SMALL, 2)):
        SyntheticDefects(settings).collect(tmp_path / name, rng_seed)
    assert _bytes(tmp_path / "a").items() < _bytes(tmp_path / "b").items()
    assert not _bytes(tmp_path / "a").items() & {
        (path, text) for path, text in _bytes(tmp_path / "c").items() if "images" in str(path)
    }


def test_tags_are_the_classes_in_the_mask_and_the_share_of_good_images_is_exact(
    tmp_path: Path,
) -> None:
    raw = SyntheticDefects(SMALL.model_copy(update={"good_share": 0.4})).collect(tmp_path, 3)
    assert raw.class_names == FLAWS
    assert [sum(not item.class_ids for item in part) for part in raw.splits.values()] == [4, 1]
    for sample in raw.splits["train"]:
        mask, image = (np.asarray(Image.open(path)) for path in (sample.mask, sample.image))
        assert (image.shape, mask.shape) == ((96, 112, 3), (96, 112))
        assert tuple(np.unique(mask[mask > 0])) == sample.class_ids


@pytest.mark.parametrize("size", [(96, 160), (192, 128)])
@pytest.mark.parametrize("kind", FLAWS)
def test_defects_cover_what_they_promise_and_change_no_other_pixel_much(
    kind: str, size: tuple[int, int]
) -> None:
    for at in range(6):
        flaw = draw_flaw(kind, generator(5, kind, at), size, 1.0)
        assert SMALLEST <= flaw.mask.mean() <= LARGEST
        change = np.abs(flaw.change).max(axis=2)
        # a soft edge apart, what is changed is the mask: it is exact
        rim = ndimage.binary_dilation(flaw.mask, iterations=3)
        assert change[~rim].max(initial=0) < 2
        assert np.median(change[flaw.mask]) > 10


def test_several_kinds_stay_apart_and_one_class_takes_them_all() -> None:
    settings = SyntheticDefectsSettings(image_size=(160, 160), several_share=1)
    several = 0
    for at in range(6):
        _, mask = paint_defects(settings, generator(1, at), good=False)
        image, one_class = paint_defects(
            settings.model_copy(update={"single_class": True, "grey": True}),
            generator(1, at),
            good=False,
        )
        assert ((mask > 0) == (one_class == 1)).all() and set(np.unique(one_class)) == {0, 1}
        assert (image[..., 0] == image[..., 2]).all()
        several += len(np.unique(mask)) > 2
        areas, count = ndimage.label(mask > 0, np.ones((3, 3)))
        assert all(len(np.unique(mask[areas == number])) == 1 for number in range(1, count + 1))
    assert several >= 4


@pytest.mark.parametrize("name", SURFACES)
def test_a_good_surface_has_clutter_fainter_than_clear_defects(name: str) -> None:
    rng_plain, rng = generator(2, name), generator(2, name)
    plain = paint_surface(name, rng_plain, (128, 128), clutter=False)
    cluttered = paint_surface(name, rng, (128, 128), clutter=True)
    assert plain.shape == cluttered.shape == (128, 128, 3)
    for levels in (plain, cluttered):
        assert levels.min() > 0 and levels.max() < 330 and levels[..., 1].std() > 2


def test_sizes_vary_when_told_and_settings_are_checked() -> None:
    settings = SyntheticDefectsSettings(image_size=(128, 128), size_spread=0.25)
    shapes = {paint_defects(settings, generator(1, at), good=True)[1].shape for at in range(4)}
    assert len(shapes) == 4 and all(96 <= side <= 160 for shape in shapes for side in shape)
    with pytest.raises(ValueError, match=r"96\.\.2048 pixels, but has 40"):
        SyntheticDefects(SyntheticDefectsSettings(image_size=(40, 128)))
    with pytest.raises(ValueError, match="faintest and the clearest"):
        SyntheticDefects(SyntheticDefectsSettings(contrast=(1.0, 0.5)))
