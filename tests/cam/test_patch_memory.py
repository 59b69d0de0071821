"""The patch memory: good images stay near 0, odd patches are found, always the same bytes."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from wsss.cam.patch_memory import PatchMemory, PatchMemorySettings, coreset, nearest_distances
from wsss.models.classifier import Classifier

ALL_STAGES = PatchMemorySettings(stages=(1, 2), size=200, candidates=2000)


def surfaces(count: int, seed: int) -> Tensor:
    """(count, 3, 96, 128): smooth noise, the same kind in each."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, 24, 32, generator=generator)
    return torch.nn.functional.interpolate(coarse, scale_factor=4, mode="bilinear")


def learned(model: Classifier, settings: PatchMemorySettings, good: Tensor) -> PatchMemory:
    method = PatchMemory(settings)
    with torch.inference_mode():
        method.learn(model, ([image[None]] for image in good), len(good), rng_seed=3)
    return method


def maps_of(method: PatchMemory, model: Classifier, images: Tensor) -> Tensor:
    rows = torch.arange(len(images))
    with torch.inference_mode():
        return method(model, images, rows, torch.zeros_like(rows))[0]


def test_good_images_stay_near_0_and_a_planted_patch_is_found(
    classifier: Callable[[str], Classifier],
) -> None:
    model = classifier("cnn")
    method = learned(model, ALL_STAGES, surfaces(16, seed=0))
    images = surfaces(6, seed=1)  # good ones that it has not seen
    good = maps_of(method, model, images)
    assert (good > 0).float().mean() < 0.05 and good.mean() < 0.01
    planted = images.clone()
    planted[:, :, 40:56, 80:96] = 5 * torch.randn(
        16, 16, generator=torch.Generator().manual_seed(2)
    )
    odd = maps_of(method, model, planted)
    assert odd.shape[1:] == (24, 32)  # the grid of stage 1
    for map_ in odd:
        row, column = (map_ == map_.max()).nonzero().float().mean(dim=0).tolist()
        assert 10 <= row <= 14 and 20 <= column <= 24
        assert map_[10:14, 20:24].mean() > 0.5 > 3 * map_.mean()
    # what is far from it is as it was: nothing is stretched to the maximum
    torch.testing.assert_close(odd[:, :, :8], good[:, :, :8], atol=0.02, rtol=0)


def test_the_same_seed_gives_the_same_bytes(classifier: Callable[[str], Classifier]) -> None:
    model, images = classifier("cnn"), surfaces(2, seed=1)
    found = [
        maps_of(learned(model, ALL_STAGES, surfaces(8, seed=0)), model, images) for _ in range(2)
    ]
    assert torch.equal(*found)


def test_views_of_an_image_are_held_out_together(classifier: Callable[[str], Classifier]) -> None:
    """A scale of an image that is compared with the memory would find itself there."""
    model = classifier("cnn")
    good = surfaces(4, seed=0)
    method = PatchMemory(ALL_STAGES.model_copy(update={"candidates": 10**6, "size": 10**6}))

    def views() -> Iterator[list[Tensor]]:
        yield from ([image[None], image[None]] for image in good)

    with torch.inference_mode():
        method.learn(model, views(), 4, rng_seed=3)
    maps = maps_of(method, model, good)
    scored = [index for index, map_ in enumerate(maps) if map_.max() > 0]
    assert len(scored) == 1  # 1 % of its patches are unusual; those remembered are at distance 0


def test_too_few_good_images_are_an_error_that_names_the_way_out(
    classifier: Callable[[str], Classifier],
) -> None:
    for count in (0, 1):
        with pytest.raises(ValueError, match=f"there are {count}; add images .*empty_tag"):
            learned(classifier("cnn"), ALL_STAGES, surfaces(2, seed=0)[:count])


def test_settings_that_cannot_be_are_named(classifier: Callable[[str], Classifier]) -> None:
    with pytest.raises(ValueError, match="must be odd"):
        PatchMemory(PatchMemorySettings(neighbourhood=2))
    settings = PatchMemorySettings(stages=(5,))
    with pytest.raises(ValueError, match="has 5, but this backbone has stages 1 to 4"):
        learned(classifier("cnn"), settings, surfaces(2, seed=0))


def test_distances_and_coreset_are_those_of_the_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    patches, memory = (torch.randn(n, 5, generator=generator) for n in (300, 40))
    expected = torch.cdist(patches, memory, compute_mode="donot_use_mm_for_euclid_dist").amin(1)
    torch.testing.assert_close(nearest_distances(patches, memory), expected, rtol=1e-4, atol=1e-4)
    rows = coreset(patches, 12).tolist()
    for count in range(1, 12):  # each is the farthest from those before it
        to_chosen = torch.cdist(patches, patches[rows[:count]]).amin(dim=1)
        assert rows[count] == int(to_chosen.argmax())
    assert coreset(patches, 300).tolist() == list(range(300))
    assert len(set(coreset(torch.zeros(9, 2), 4).tolist())) == 4  # no row twice, however alike
