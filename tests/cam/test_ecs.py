"""ECS at inference: erasing, adding, and a loop of one class at a time."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from wsss.cam.cam import LinearHeadCam, LinearHeadCamSettings
from wsss.cam.ecs import ErasedCam, ErasedCamSettings, add_erased, erase, gaussian_blur
from wsss.models.classifier import Classifier

ROWS = torch.tensor([0, 0, 2, 2, 2])
COLUMNS = torch.tensor([0, 2, 1, 2, 3])


def maps_of(model: Classifier, images: torch.Tensor, **changes: object) -> torch.Tensor:
    with torch.inference_mode():
        return ErasedCam(ErasedCamSettings(**changes))(model, images, ROWS, COLUMNS)[0]


def cams_of(model: Classifier, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return LinearHeadCam(LinearHeadCamSettings())(model, images, ROWS, COLUMNS)[0]


@pytest.mark.parametrize("compat", [False, True])
def test_one_image_and_class_at_a_time(
    classifier: Callable[[str], Classifier], compat: bool
) -> None:
    # Catches an erased image of another class or of another image of the batch.
    model = classifier("cnn")
    torch.manual_seed(1)
    images = torch.randn(3, 3, 64, 96)
    found = maps_of(model, images, theta=0.3, sigma=5, compat_overwrite=compat)
    changed = 0
    for map_, row, column in zip(found, ROWS, COLUMNS, strict=True):
        image = images[row : row + 1]
        with torch.inference_mode():
            raw = model(image).maps[0, column].relu()
            share = raw / raw.max()
            high = torch.nn.functional.interpolate(share[None, None], (64, 96), mode="bilinear")
            picture = torch.where(high > 0.5, gaussian_blur(image, 5), image)
            after = model(picture).maps[0, column].relu()
            after = after / after.max()
        wanted = share.clone()
        for y in range(4):
            for x in range(6):
                if after[y, x] > 0.3 and share[y, x] <= 0.5:
                    wanted[y, x] = after[y, x] if compat else max(after[y, x], share[y, x])
        changed += int((wanted != share).sum())
        torch.testing.assert_close(map_, wanted * raw.max(), rtol=1e-3, atol=1e-4)
    assert changed > 5  # the case is not an empty one


def test_nothing_erased_is_the_cam_exactly(classifier: Callable[[str], Classifier]) -> None:
    model = classifier("cnn")
    images = torch.randn(3, 3, 64, 96)
    for delta in (1.0, 2.0):
        assert (maps_of(model, images, delta=delta, theta=0) == cams_of(model, images)).all()


def test_maps_only_grow_and_what_was_erased_keeps_its_score(
    classifier: Callable[[str], Classifier],
) -> None:
    model = classifier("cnn")
    images = torch.randn(3, 3, 64, 96)
    cams, found = cams_of(model, images), maps_of(model, images, theta=0)
    highest = cams.amax(dim=(1, 2), keepdim=True)
    assert (found >= cams * (1 - 1e-6)).all() and (found <= highest * (1 + 1e-6)).all()
    erased = cams > 0.5 * highest
    torch.testing.assert_close(found[erased], cams[erased])


def test_an_empty_map_stays_empty(classifier: Callable[[str], Classifier]) -> None:
    model = classifier("cnn")  # its last activation is a ReLU's
    model.head.weight.data = -model.head.weight.data.abs()
    images = torch.randn(3, 3, 64, 96)
    for compat in (False, True):
        assert (maps_of(model, images, theta=0, compat_overwrite=compat) == 0).all()


def test_erased_pixels_alone_change() -> None:
    torch.manual_seed(0)
    images, cams = torch.randn(2, 3, 40, 56), torch.rand(2, 5, 7)
    pictures = erase(images, images + 100, cams, 0.6)
    assert set((pictures - images).round().unique().tolist()) == {0, 100}
    outside = (pictures - images).amax(dim=1) < 50
    for channel in range(3):
        assert (pictures[:, channel][outside] == images[:, channel][outside]).all()
    # The middle of a cell far above or below the threshold is erased or not.
    cells = outside[:, 4::8, 4::8]
    assert (~cells[cams > 0.85]).all() and cells[cams < 0.35].all()


@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    sigma=st.floats(0.5, 20),
    seed=st.integers(0, 9),
)
@settings(max_examples=25)
def test_the_blur_is_a_gaussian_of_the_pixels_that_there_are(
    size: tuple[int, int], sigma: float, seed: int
) -> None:
    image = torch.randn(*size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    found = gaussian_blur(image[None, None], sigma)[0, 0]
    options = {"sigma": sigma, "mode": "constant", "truncate": 100 / sigma}
    sums = ndimage.gaussian_filter(image.numpy(), **options)
    wanted = torch.from_numpy(
        sums / ndimage.gaussian_filter(torch.ones(size).double().numpy(), **options)
    )
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
    constant = gaussian_blur(torch.full((1, 1, *size), 3.0), sigma)
    torch.testing.assert_close(constant, torch.full((1, 1, *size), 3.0))


def test_scores_at_the_thresholds() -> None:
    cams, erased = torch.tensor([[[0.5, 0.5, 0.6]]]), torch.tensor([[[0.8, 0.9, 1.0]]])
    found = add_erased(cams, erased, delta=0.5, theta=0.8)
    assert found.tolist() == torch.tensor([[[0.5, 0.9, 0.6]]]).tolist()
