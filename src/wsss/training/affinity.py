"""Training a network that says which cells belong together, on labels made from CAMs."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional

from wsss.artifacts import Manifest, read_image, read_score_map, write_label_png
from wsss.config.sections import AffinitySettings, MachineSettings
from wsss.models.affinity_net import AffinityNet
from wsss.models.irn import Irn
from wsss.progress import track
from wsss.refine._affinity_labels import PairMasks, affinity_labels, affinity_loss, pair_labels
from wsss.refine._random_walk import cells_with_partner, moved, pair_offsets, path_affinities
from wsss.refine.affinity_net import pair_affinities
from wsss.registry import AFFINITIES
from wsss.seeding import Step
from wsss.training.loading import num_workers, training_batches
from wsss.training.loop import Fitted, Recorder, fit

__all__ = ["AffinityTask", "displacement_loss", "fit_affinity", "make_labels"]

log = logging.getLogger(__name__)

BATCH_SIZE = 16  # images whose full-resolution scores are in memory together


@dataclass(frozen=True)
class AffinityTask:
    """What to learn from and with; see the stage train_affinities.

    Attributes:
        manifest: splits and tags; the training split alone is used.
        images: the folder of the images.
        cams: the folder of their score maps.
        machine: devices and workers.
        rng_seed: the one source of randomness.
        fabric: launched.
        work: a folder for labels and checkpoints, from which a killed run goes on.
        tracker: gets losses once an epoch.
        prefix: of their names there.
    """

    manifest: Manifest
    images: Path
    cams: Path
    machine: MachineSettings
    rng_seed: int
    fabric: Fabric
    work: Path
    tracker: Recorder
    prefix: str = ""


def fit_affinity(
    settings: AffinitySettings, task: AffinityTask
) -> tuple[AffinityNet | Irn, Fitted]:
    """Train one network; the last epoch is kept, as PSA and IRN do.

    Args:
        settings: of this network.
        task: the data, the machine and the folder for work that outlives a kill.

    Returns:
        The network, on the CPU in eval mode, and its fit.

    Raises:
        ValueError: no training image has a tag, the backbone does not fit, or a loss is not
            finite.
    """
    samples = task.manifest.splits["train"]
    if not any(one.class_ids for one in samples):
        raise ValueError("no training image has a tag, so there is nothing to learn; add tags")
    torch.manual_seed(task.rng_seed)
    method: Any = settings.method
    model = AFFINITIES.build(method, settings.backbone)
    labels = make_labels(settings, task)
    fitted = fit(
        task.fabric,
        _Learner(model, pair_offsets(method.radius)),
        model.new_modules,
        training_batches(
            samples,
            task.images,
            settings.augment,
            mean=model.backbone.mean,
            std=model.backbone.std,
            num_fg_classes=task.manifest.num_fg_classes,
            masks=labels,
            batch_size=settings.batch_size,
            rng_seed=task.rng_seed,
            workers=num_workers(task.machine),
            rank=task.fabric.global_rank,
            world_size=task.fabric.world_size,
        ),
        _losses,
        lambda _: {},
        metric=None,
        settings=settings,
        rng_seed=task.rng_seed,
        checkpoint=task.work / ".work.last.pt",
        tracker=_Prefixed(task.tracker, task.prefix),
    )
    return model.cpu().eval(), fitted


def make_labels(settings: AffinitySettings, task: AffinityTask) -> Path:
    """Write the labels of all training images that have none yet.

    Returns:
        The folder of <name>.png: (H, W) uint8, 0 background, class ids, 255 uncertain.
    """
    folder = task.work / ".work.labels"
    method: Any = settings.method
    samples = task.manifest.splits["train"]
    missing = [one for one in samples if not (folder / f"{one.name}.png").exists()]
    batches = [missing[at : at + BATCH_SIZE] for at in range(0, len(missing), BATCH_SIZE)]
    for batch in track(batches, f"{method.name} labels", len(missing), BATCH_SIZE):
        images = [read_image(task.images / one.image) for one in batch]
        cams = [read_score_map(task.cams / f"{one.name}.npz") for one in batch]
        labels = affinity_labels(images, cams, method)
        for sample, label in zip(batch, labels, strict=True):
            write_label_png(folder / f"{sample.name}.png", label)
    return folder


def displacement_loss(displacement: Tensor, masks: PairMasks, offsets: np.ndarray) -> Tensor:
    """IRN's loss of displacements: cells of one object point to the same centre.

    Then D_i - D_j is the offset from i to j. It is 0 between cells of the background, which have no
    centre.

    Args:
        displacement: (B, 2, h, w): rows and columns.
        masks: see `pair_labels`.
        offsets: (K, 2) of (dy, dx), as `pair_offsets` has them.

    Returns:
        Half the mean of |D_i - D_j - offset| over pairs of classes, which are taken as one object,
        and half that of |D_i - D_j| over pairs of background, each over both axes; 0 without pairs.

    References:
        Ahn, Cho & Kwak, CVPR 2019.

    Example:
        >>> field = torch.tensor([[[[0.0, 0.0]], [[3.0, 1.5]]]])
        >>> some, none = torch.tensor([[[[True, False]]]]), torch.zeros(1, 1, 1, 2) > 0
        >>> loss = displacement_loss(field, PairMasks(some, none, none), np.array([[0, 1]]))
        >>> round(loss.item(), 4)
        0.125
    """
    height, width = displacement.shape[2:]
    wrong_fg, wrong_bg = displacement.new_zeros(2)
    for index, (dy, dx) in enumerate(offsets.tolist()):
        cells = cells_with_partner(dy, dx, height, width)
        difference = displacement[..., *cells] - displacement[..., *moved(cells, dy, dx)]
        offset = difference.new_tensor([dy, dx])[:, None, None]
        fg, bg = (mask[:, None, index, *cells] for mask in (masks.fg, masks.bg))
        wrong_fg = wrong_fg + ((difference - offset).abs() * fg).sum()
        wrong_bg = wrong_bg + (difference.abs() * bg).sum()
    axes = 2
    mean_fg: Tensor = wrong_fg / (axes * masks.fg.sum() + 1e-5)
    mean_bg: Tensor = wrong_bg / (axes * masks.bg.sum() + 1e-5)
    return (mean_fg + mean_bg) / 2


class _Learner(nn.Module):
    """A network with its losses inside, so that precision and processes wrap them both."""

    def __init__(self, model: AffinityNet | Irn, offsets: np.ndarray) -> None:
        super().__init__()
        self.model, self.offsets = model, offsets

    def forward(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Losses by name.

        Args:
            images: (B, 3, H, W) normalised.
            labels: (B, H, W) int64: 0 background, class ids, 255 for neither.
        """
        found = self.model(images)
        with torch.autocast(images.device.type, enabled=False):  # logarithms are delicate
            if isinstance(self.model, AffinityNet):
                masks = pair_labels(_on_grid(labels, found.shape[2:]), self.offsets)
                return {"loss": affinity_loss(pair_affinities(found, self.offsets), masks)}
            edges, displacement = found
            masks = pair_labels(_on_grid(labels, edges.shape[1:]), self.offsets)
            affinities = path_affinities(edges.sigmoid(), self.offsets)
            affinity = affinity_loss(affinities, masks)
            centres = displacement_loss(displacement, masks, self.offsets)
        return {"loss": affinity + centres, "affinity": affinity, "displacement": centres}


def _on_grid(labels: Tensor, grid: Any) -> Tensor:
    """(B, H, W) labels to (B, h, w): each cell takes the label at its centre."""
    nearest = functional.interpolate(labels[:, None].float(), tuple(grid), mode="nearest-exact")
    return nearest[:, 0].to(labels.dtype)


class _Prefixed:
    """A recorder that puts a prefix before every name."""

    def __init__(self, tracker: Recorder, prefix: str) -> None:
        self.tracker, self.prefix = tracker, prefix

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        named = {f"{self.prefix}{key}": value for key, value in values.items()}
        self.tracker.metrics(named, step=step)

    def flush(self) -> None:
        self.tracker.flush()


def _losses(model: nn.Module, batch: Mapping[str, Any], step: Step) -> dict[str, Tensor]:
    return model(batch["image"], batch["mask"])  # type: ignore[no-any-return]
