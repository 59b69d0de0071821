from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.extra import numpy as hnp
from PIL import Image

from wsss.artifacts import palette, read_label_png, write_label_png


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20)))
def test_round_trip(tmp_path: Path, mask: np.ndarray) -> None:
    path = tmp_path / "mask.png"
    write_label_png(path, mask)
    found = read_label_png(path)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, mask)


def test_viewers_show_the_voc_colours(tmp_path: Path) -> None:
    write_label_png(tmp_path / "mask.png", np.array([[0, 1, 15, 20, 255]], np.uint8))
    shown = np.asarray(Image.open(tmp_path / "mask.png").convert("RGB"))[0].tolist()
    assert shown == [[0, 0, 0], [128, 0, 0], [192, 128, 128], [0, 64, 128], [224, 224, 192]]
    assert len(np.unique(palette(), axis=0)) == 256


def test_the_same_mask_gives_the_same_bytes(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).integers(0, 5, (33, 21)).astype(np.uint8)
    write_label_png(tmp_path / "a.png", mask)
    write_label_png(tmp_path / "b.png", mask.copy(order="F"))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_grey_and_one_bit_masks_are_read(tmp_path: Path, mode: str) -> None:
    Image.fromarray(np.array([[0, 255, 0]], np.uint8)).convert(mode).save(tmp_path / "m.png")
    expected = {"L": [0, 255, 0], "1": [0, 1, 0]}.get(mode)
    found = read_label_png(tmp_path / "m.png")[0].tolist()
    assert found == (expected or [0, 255, 0])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "I;16", "LA"])
def test_colours_and_wide_values_are_refused(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (2, 2)).save(tmp_path / "m.png")
    with pytest.raises(ValueError, match=r"m\.png has mode .* palette or grey PNG"):
        read_label_png(tmp_path / "m.png")


def test_any_damage_is_a_value_error_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    rng = np.random.default_rng(1)
    write_label_png(path, rng.integers(0, 200, (12, 12)).astype(np.uint8))
    whole = path.read_bytes()
    refused = 0
    for cut in range(0, len(whole), 7):
        for damaged in (whole[:cut], whole[:cut] + bytes([whole[cut] ^ 0x55]) + whole[cut + 1 :]):
            path.write_bytes(damaged)
            try:
                read_label_png(path)
            except ValueError as error:
                assert "mask.png" in str(error)
                refused += 1
    assert refused > 100


def test_only_flat_uint8_masks_are_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="uint8, but is int64"):
        write_label_png(tmp_path / "m.png", np.zeros((2, 2), np.int64))
    with pytest.raises(ValueError, match=r"shape \(H, W\)"):
        write_label_png(tmp_path / "m.png", np.zeros((2, 2, 1), np.uint8))
    assert not list(tmp_path.iterdir())
