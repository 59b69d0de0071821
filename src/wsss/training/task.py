"""What every training has: data, a machine, a place for its work and for its scores."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from lightning_fabric import Fabric
from torch import Tensor

from wsss.artifacts import Manifest, Sample
from wsss.config.sections import MachineSettings, TrainSettings
from wsss.cores import rank, share, world_size
from wsss.loading.crops import TrainDataset, TrainLoader
from wsss.loading.devices import num_workers
from wsss.loading.normalisation import Normalisation
from wsss.loading.order import Mixture
from wsss.loading.same_size import same_size_batches, with_long_side

__all__ = ["EpochLog", "Task"]


class EpochLog(Protocol):
    """Where losses and scores go: a tracker, of which training need not know more."""

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None: ...
    def flush(self) -> None: ...


@dataclass(frozen=True)
class Task:
    """What to learn from and with.

    Attributes:
        manifest: classes, splits, tags.
        images: the folder of the images.
        machine: devices and workers.
        rng_seed: the one source of randomness.
        fabric: launched.
        work: a folder for checkpoints, from which a killed run resumes.
        tracker: gets losses and scores once an epoch.
        prefix: of their names there.
    """

    manifest: Manifest
    images: Path
    machine: MachineSettings
    rng_seed: int
    fabric: Fabric
    work: Path
    tracker: EpochLog
    prefix: str = ""

    def crops(
        self,
        samples: Sequence[Sample],
        settings: TrainSettings,
        normalisation: Normalisation,
        *,
        num_fg_classes: int | None = None,
        label_maps: Sequence[Path | None] | None = None,
        given: Sequence[bool] | None = None,
        mixture: Mixture | None = None,
    ) -> TrainLoader:
        """Shuffled, augmented crops of this process; see `TrainDataset` and `TrainLoader`.

        Args:
            samples: N samples.
            settings: batch size and augmentation.
            normalisation: of the network.
            num_fg_classes: of the labels; the manifest's by default.
            label_maps: a file per sample, or None.
            given: of each sample, whether that is the mask of an annotator.
            mixture: what an epoch is made of.
        """
        dataset = TrainDataset(
            samples,
            self.images,
            settings.augment,
            normalisation=normalisation,
            num_fg_classes=num_fg_classes or self.manifest.num_fg_classes,
            rng_seed=self.rng_seed,
            label_maps=label_maps,
            given=given,
        )
        return TrainLoader(
            dataset,
            settings.batch_size,
            num_workers(self.machine),
            mixture=mixture,
            rank=rank(),
            world_size=world_size(),
        )

    def whole_images(
        self,
        samples: Sequence[Sample],
        normalisation: Normalisation,
        *,
        batch_size: int,
        long_side: int,
        description: str,
    ) -> Iterator[tuple[list[Sample], Tensor]]:
        """Yield samples and their (B, 3, H, W) images, normalised and on the device.

        Processes that run a stage together have every n-th batch each; see `gather_shares`.

        Args:
            samples: in any order.
            normalisation: of the network.
            batch_size: at most so many images of one size.
            long_side: that images are resized to, in pixels.
            description: beside a progress bar, which goes when all is done.
        """
        for batch, pixels in same_size_batches(
            samples,
            self.images,
            batch_size=batch_size,
            num_workers=num_workers(self.machine),
            size_for=partial(with_long_side, long_side=long_side),
            dealt=share,
            description=description,
            stays=False,
        ):
            yield batch, normalisation(self.fabric.to_device(pixels))

    def log(self, epochs_before: int = 0) -> EpochLog:
        """The tracker with the prefix before every name, and epochs that go on from earlier ones.

        Args:
            epochs_before: that the tracker has seen already.
        """
        return _Renamed(self.tracker, self.prefix, epochs_before)


@dataclass(frozen=True)
class _Renamed:
    """A log of epochs with a prefix before every name, whose epochs go on from earlier ones."""

    log: EpochLog
    prefix: str
    epochs_before: int

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        named = {f"{self.prefix}{key}": value for key, value in values.items()}
        self.log.metrics(named, step=step + self.epochs_before)

    def flush(self) -> None:
        self.log.flush()
