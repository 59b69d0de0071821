"""Training a network that says which cells belong together, on labels made from CAMs."""

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from wsss.artifacts import (
    IGNORE_INDEX,
    Filling,
    has_file,
    read_image,
    read_label_png,
    read_score_map,
    write_label_png,
)
from wsss.config.sections import AffinitySettings
from wsss.loading.devices import barrier
from wsss.models.affinity_net import AffinityNet
from wsss.models.dilated_depthwise import quick_dilated_depthwise
from wsss.models.frozen_batchnorm import folded_batchnorm
from wsss.models.irn import Irn
from wsss.progress import track
from wsss.refine.affinity_labels import PairMasks, affinity_labels, affinity_loss, pair_labels
from wsss.refine.affinity_net import pair_affinities
from wsss.refine.random_walk import cells_with_partner, moved, pair_offsets, path_affinities
from wsss.registry import AFFINITIES
from wsss.seeding import Step
from wsss.training.loop import Fitted, fit
from wsss.training.task import Task

__all__ = ["affinity_losses", "displacement_loss", "fit_affinity", "seed_shares", "write_seeds"]

log = logging.getLogger(__name__)

BATCH_SIZE = 16  # images whose full-resolution scores are in memory together


def fit_affinity(
    settings: AffinitySettings, task: Task, cams: Path
) -> tuple[AffinityNet | Irn, Fitted]:
    """Train one network; the last epoch is kept, as PSA and IRN do.

    Args:
        settings: of this network.
        task: the data, of which the training split alone is used, and the folder for seeds and
            checkpoints.
        cams: the folder of the images' score maps.

    Returns:
        The network, on the CPU in eval mode, and its fit.

    Raises:
        ValueError: no training image has a tag, the backbone does not fit, or a loss is not
            finite.
    """
    samples = task.manifest.splits["train"]
    if not any(sample.class_ids for sample in samples):
        raise ValueError("no training image has a tag, so there is nothing to learn; add tags")
    torch.manual_seed(task.rng_seed)
    method: Any = settings.method
    model = AFFINITIES.build(method, settings.backbone)
    seeds = write_seeds(settings, task, cams)
    with quick_dilated_depthwise(model), folded_batchnorm(model.backbone):
        fitted = fit(
            task,
            model,
            model.new_modules,
            task.crops(
                samples,
                settings,
                model.backbone.normalisation,
                label_maps=[seeds / f"{sample.name}.png" for sample in samples],
            ),
            partial(affinity_losses, pair_offsets(method.radius)),
            lambda _: {},
            metric=None,
            settings=settings,
            checkpoint="last",
        )
    return model.cpu().eval(), fitted


def write_seeds(settings: AffinitySettings, task: Task, cams: Path) -> Path:
    """Write what all training images without one yet have to learn from, and give its folder.

    Returns:
        The folder of <name>.png: (H, W) uint8, 0 background, class ids, 255 uncertain.
    """
    folder = _seeds(task)
    method: Any = settings.method
    samples = task.manifest.splits["train"]
    filling = Filling(folder, len(samples), packed=task.manifest.packed)
    for part in filling.parts(
        samples, lambda sample: f"{sample.name}.png", f"{method.name} labels"
    ):
        missing = [
            sample for sample in filling.share(part) if not has_file(folder / f"{sample.name}.png")
        ]
        batches = [missing[at : at + BATCH_SIZE] for at in range(0, len(missing), BATCH_SIZE)]
        for batch in track(batches, f"{method.name} labels", len(missing), len):
            images = [read_image(task.images / sample.image) for sample in batch]
            maps = [read_score_map(cams / f"{sample.name}.npz") for sample in batch]
            for sample, seeds in zip(batch, affinity_labels(images, maps, method), strict=True):
                write_label_png(folder / f"{sample.name}.png", seeds)
    barrier()
    return folder


def seed_shares(task: Task) -> dict[str, float]:
    """What `write_seeds` gave to learn from, as shares of all pixels of the training images.

    Returns:
        foreground, background and ignored, which sum to 1.
    """
    found = np.zeros(3, np.int64)
    for sample in task.manifest.splits["train"]:
        seeds = read_label_png(_seeds(task) / f"{sample.name}.png")
        ignored, background = (np.count_nonzero(seeds == value) for value in (IGNORE_INDEX, 0))
        found += (seeds.size - background - ignored, background, ignored)
    shares = (found / max(1, found.sum())).tolist()
    return dict(zip(("foreground", "background", "ignored"), shares, strict=True))


def _seeds(task: Task) -> Path:
    return task.work / ".work.seeds"


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


def affinity_losses(
    offsets: np.ndarray, model: nn.Module, batch: Mapping[str, Any], step: Step
) -> dict[str, Tensor]:
    """The losses of a batch by name.

    Args:
        offsets: (K, 2) of (dy, dx), as `pair_offsets` has them.
        model: an `AffinityNet` or an `Irn`.
        batch: with "image" (B, 3, H, W), normalised, and "mask" (B, H, W) int64: 0 background,
            class ids, 255 for neither.
        step: not used.
    """
    del step
    seeds, found = batch["mask"], model(batch["image"])
    with torch.autocast(seeds.device.type, enabled=False):  # logarithms are delicate
        if isinstance(model, AffinityNet):
            masks = pair_labels(_on_grid(seeds, found.shape[2:]), offsets)
            return {"loss": affinity_loss(pair_affinities(found, offsets), masks)}
        edges, displacement = found
        masks = pair_labels(_on_grid(seeds, edges.shape[1:]), offsets)
        affinities = path_affinities(edges.sigmoid(), offsets)
        affinity = affinity_loss(affinities, masks)
        centres = displacement_loss(displacement, masks, offsets)
    return {"loss": affinity + centres, "affinity": affinity, "displacement": centres}


def _on_grid(seeds: Tensor, grid: Any) -> Tensor:
    """(B, H, W) class ids to (B, h, w): each cell takes that at its centre."""
    nearest = functional.interpolate(seeds[:, None].float(), tuple(grid), mode="nearest-exact")
    return nearest[:, 0].to(seeds.dtype)
