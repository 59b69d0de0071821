"""Images to training batches: augmented crops, with tags and perhaps masks.

What a sample becomes is decided by rng_seed and its `Draw` alone. The sampler hands that to the
workers, so neither their number nor their age matters.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms import v2

from wsss.artifacts import IGNORE_INDEX, Sample, open_image, read_label_png
from wsss.checks import full_key
from wsss.config.sections import AugmentSettings
from wsss.loading.normalisation import Normalisation
from wsss.loading.order import Draw, Mixture, epoch_draws, part_of_batch
from wsss.loading.same_size import with_long_side
from wsss.seeding import derive_seed, generator
from wsss.stopping import leave_signals

__all__ = [
    "Crop",
    "TrainDataset",
    "TrainLoader",
    "cut_crop",
    "draw_crop",
]


@dataclass(frozen=True)
class Crop:
    """A square crop of a resized image; what lies outside the image is padding.

    Attributes:
        size: (height, width) of the image after resizing, in pixels.
        top, left: the crop's corner on the resized image; negative is padding.
        side: height and width of the crop.
        flip: whether the crop is mirrored at the end.
    """

    size: tuple[int, int]
    top: int
    left: int
    side: int
    flip: bool


def draw_crop(
    size: tuple[int, int],
    settings: AugmentSettings,
    rng: np.random.Generator,
    within: tuple[int, int] | None = None,
) -> Crop:
    """Draw a crop of an image.

    Args:
        size: (height, width) of the image.
        settings: sizes and flip.
        rng: to draw from.
        within: (row, column) of a pixel of the image that the crop must show.
    """
    low, high = settings.long_side
    target = with_long_side(size, int(rng.integers(low, high + 1)))
    corner = []
    for axis, length in enumerate(target):
        room = length - settings.crop_size
        first, last = min(0, room), max(0, room)
        if within is not None:
            position = (2 * within[axis] + 1) * length // (2 * size[axis])
            first = max(first, position - settings.crop_size + 1)
            last = min(last, position)
        corner.append(int(rng.integers(first, last + 1)))
    top, left = corner
    flip = settings.flip and bool(rng.random() < 0.5)
    return Crop(target, top, left, settings.crop_size, flip)


def cut_crop(
    image: Image.Image, crop: Crop, resample: Image.Resampling
) -> tuple[np.ndarray, tuple[slice, slice]]:
    """Resize and crop in one step, reading only the pixels that are needed.

    Returns:
        The visible part, (h, w) or (h, w, 3) uint8, mirrored if the crop says so; and where
        it lies within the crop.
    """
    (height, width), side = crop.size, crop.side
    top, bottom = max(0, crop.top), min(height, crop.top + side)
    left, right = max(0, crop.left), min(width, crop.left + side)
    scale_x, scale_y = image.width / width, image.height / height
    box = (left * scale_x, top * scale_y, right * scale_x, bottom * scale_y)
    part = np.asarray(image.resize((right - left, bottom - top), resample, box))
    first = left - crop.left
    columns = slice(first, first + right - left)
    if crop.flip:
        part = part[:, ::-1]
        columns = slice(side - columns.stop, side - columns.start)
    rows = slice(top - crop.top, bottom - crop.top)
    return part, (rows, columns)


def _open_rgb(path: Path, size: tuple[int, int]) -> Image.Image:
    """Decode an image that will be reduced to about `size`; JPEGs skip detail not needed."""
    with open_image(path) as image:
        image.draft("RGB", (size[1], size[0]))
        return image.convert("RGB")


class TrainDataset(Dataset[dict[str, Any]]):
    """Augmented crops. Items are asked for as `Draw`.

    Args:
        samples: N samples.
        images: the folder they lie in.
        augment: sizes, flip and colour jitter.
        normalisation: of the network.
        num_fg_classes: K.
        rng_seed: of the augmentation.
        label_maps: a file per sample, (H, W) uint8 of the image's size, or None where no pixel has
            a label; None for training on tags.
        given: of each sample, whether its label map is the mask of an annotator; with label maps.

    An item holds name (str), image ((3, S, S) float32, 0 where padded) and labels ((K,) float32,
    `Sample.targets`); with `label_maps` also mask ((S, S) int64, 255 where padded), inside ((S, S)
    bool, False where padded) and given (bool).
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        images: Path,
        augment: AugmentSettings,
        *,
        normalisation: Normalisation,
        num_fg_classes: int,
        rng_seed: int,
        label_maps: Sequence[Path | None] | None = None,
        given: Sequence[bool] | None = None,
    ) -> None:
        self.samples, self.images, self.augment = samples, images, augment
        self.normalisation, self.num_fg_classes = normalisation, num_fg_classes
        self.rng_seed, self.label_maps, self.given = rng_seed, label_maps, given
        brightness, contrast, saturation, hue = augment.jitter
        self.jitter = (
            v2.ColorJitter(brightness, contrast, saturation, hue) if any(augment.jitter) else None
        )

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        sample = self.samples[draw.sample]
        # a sample that comes once in an epoch needs no number, and has the crop it always had
        key = (draw.epoch, draw.sample, *[draw.repeat] * bool(draw.repeat))
        rng = generator(self.rng_seed, "augment", *key)
        mask = None if self.label_maps is None else self._label_map(draw.sample)
        within = None if mask is None else _pixel_of(mask, draw.class_id, rng)
        crop = draw_crop(sample.size, self.augment, rng, within)
        image = _open_rgb(self.images / sample.image, crop.size)
        part, (rows, columns) = cut_crop(image, crop, Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.ascontiguousarray(part.transpose(2, 0, 1)))  # (3, h, w)
        if self.jitter is not None:
            pixels = self._jittered(pixels, derive_seed(self.rng_seed, "jitter", *key))
        padded = torch.zeros(3, crop.side, crop.side)
        padded[:, rows, columns] = self.normalisation(pixels[None])[0]
        labels = torch.from_numpy(sample.targets(self.num_fg_classes))
        item: dict[str, Any] = {"name": sample.name, "image": padded, "labels": labels}
        if mask is not None:
            labelled = np.full((crop.side, crop.side), IGNORE_INDEX, np.int64)
            labelled[rows, columns], _ = cut_crop(
                Image.fromarray(mask), crop, Image.Resampling.NEAREST
            )
            inside = torch.zeros(crop.side, crop.side, dtype=torch.bool)
            inside[rows, columns] = True
            given = self.given is not None and self.given[draw.sample]
            item |= {"mask": torch.from_numpy(labelled), "inside": inside, "given": given}
        return item

    def _label_map(self, index: int) -> np.ndarray:
        assert self.label_maps is not None
        path, size = self.label_maps[index], tuple(self.samples[index].size)
        if path is None:
            return np.full(size, IGNORE_INDEX, np.uint8)
        mask = read_label_png(path)
        if mask.shape != size:
            raise ValueError(
                f"{path} has shape {mask.shape}, but its image has {size}; rerun the stage that "
                "writes it"
            )
        return mask

    def _jittered(self, pixels: Tensor, seed: int) -> Tensor:
        assert self.jitter is not None
        with torch.random.fork_rng(devices=[]):  # ColorJitter draws from the global generator
            torch.manual_seed(seed)
            return self.jitter(pixels)  # type: ignore[no-any-return]


def _pixel_of(mask: np.ndarray, class_id: int, rng: np.random.Generator) -> tuple[int, int] | None:
    """A pixel of a class, drawn among all of it; None for no class, or where there is none."""
    pixels = np.flatnonzero(mask == class_id) if class_id else ()
    if not len(pixels):
        return None
    row, column = divmod(int(pixels[rng.integers(len(pixels))]), mask.shape[1])
    return row, column


class _EpochBatches(Sampler[list[Draw]]):
    """A process's part of the batches of an epoch; see `epoch_draws`.

    The attributes are set, and there is no set_epoch: Fabric would call that with a count of
    its own, which starts at 0 again in a resumed run.
    """

    def __init__(
        self,
        count: int,
        mixture: Mixture,
        rng_seed: int,
        batch_size: int,
        rank: int,
        world_size: int,
    ) -> None:
        self.count, self.mixture, self.rng_seed = count, mixture, rng_seed
        self.rank, self.world_size = rank, world_size
        length = mixture.images_per_epoch or count
        self.batch_size = min(batch_size, length)
        self.steps = length // self.batch_size
        self.epoch = self.first_step = 0

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[Draw]]:
        draws = epoch_draws(self.count, self.mixture, rng_seed=self.rng_seed, epoch=self.epoch)
        for step in range(self.first_step, self.steps):
            start = step * self.batch_size
            batch = draws[start : start + self.batch_size]
            yield [*part_of_batch(batch, self.rank, self.world_size)]


class TrainLoader:
    """Shuffled batches of a `TrainDataset`; the same for any number of workers and processes.

    Args:
        dataset: what to load.
        batch_size: of all processes together. A last, smaller batch is left out, unless it is the
            only one.
        workers: processes that load; 0 loads in this one.
        mixture: what an epoch is made of; None is one pass over all samples.
        rank: of this training process, which sees its part of each batch.
        world_size: how many of them there are.

    Attributes:
        images_per_step: of all processes together.

    Raises:
        ValueError: there are no samples, or fewer in a batch than processes.
    """

    def __init__(
        self,
        dataset: TrainDataset,
        batch_size: int,
        workers: int = 0,
        *,
        mixture: Mixture | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not len(dataset):
            raise ValueError("there is no image to train on; look at reports/prepare_data.json")
        self._batches = _EpochBatches(
            len(dataset), mixture or Mixture(), dataset.rng_seed, batch_size, rank, world_size
        )
        self.images_per_step = self._batches.batch_size
        if self.images_per_step < world_size:
            raise ValueError(
                f"a batch of {self.images_per_step} cannot be shared by {world_size} processes; "
                f"set {full_key('batch_size')} to {world_size} or more, with as many images to "
                "train on, or lower machine.devices"
            )
        self._loader: DataLoader[dict[str, Any]] = DataLoader(
            dataset,
            batch_sampler=self._batches,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            # a generator of its own, so that loading does not draw from the global one
            generator=torch.Generator().manual_seed(dataset.rng_seed),
            worker_init_fn=leave_signals,
        )

    def set_epoch(self, epoch: int, first_step: int = 0) -> None:
        """Choose the order and augmentation of the next pass, and the step that it starts with."""
        self._batches.epoch, self._batches.first_step = epoch, first_step

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._loader)
