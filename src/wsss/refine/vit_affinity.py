"""Scores of cells that look alike to a frozen network, averaged."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image
from pydantic import Field, PositiveFloat, PositiveInt

from wsss.artifacts import ScoreMap
from wsss.checks import full_key
from wsss.refine._base import Context, check_images
from wsss.registry import REFINERS
from wsss.settings import Named, expand_path

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["VitAffinity", "VitAffinitySettings", "propagate"]

log = logging.getLogger(__name__)

BLOCK = 2**22
"""Affinities that are in memory together, of some rows of R: 16 MiB, and three times that while
they are made. The whole R of a grid of 200 x 200 cells would be 6 GiB."""
BATCH_SIZES = {"cpu": 1, "cuda": 16}
"""Images of one size that a device runs at once. On a CPU each runs alone: that is no slower, and
to the last bit the same in any company."""


class VitAffinitySettings(Named):
    """Which network looks, and how much alike cells must be."""

    name: Literal["vit_affinity"] = "vit_affinity"
    model_name: str = "vit_small_patch14_dinov2.lvd142m"
    """Any timm model with a feature map: DINOv2, DINO, ViT, DeiT, Swin, or a convolutional one."""
    output_stride: PositiveInt = 14
    """Image pixels per cell of its last feature map, as in train_classifier.backbone."""
    weights: str = "none"
    """'hub' (timm's), a file (.safetensors, .pth), $VARS expanded, or 'none': random ones, for
    trials only, as they see little but colours."""
    timm_kwargs: dict[str, Any] = Field(default={})
    """Further arguments of timm.create_model."""
    stage: int = Field(default=0, ge=0, le=4)
    """Whose features: 0 for the network's last, after its norm; 1 to 4 for those at the end of a
    stage, shallow to deep (of a plain transformer, a fourth of its blocks)."""
    long_side: PositiveInt = 448
    """Longer side of an image as the network sees it, in pixels, then rounded to whole cells."""
    delta: float = Field(default=0.3, ge=-1, lt=1)
    """Cells are related where the cosine of their features is above this; it depends on the
    network."""
    tau: PositiveFloat = 0.2
    """Temperature: a cosine that is higher by this weighs e times as much. A cell's own is 1, so
    that a small one leaves scores as they are."""
    softmax: Literal["related", "all"] = "related"
    """Over whom the weights of a cell sum to 1; see `propagate`."""
    n_iters: PositiveInt = 1
    """How often the scores are propagated."""


def propagate(features: "Tensor", maps: "Tensor", settings: VitAffinitySettings) -> "Tensor":
    """R M with R = softmax over j of ReLU(cos(f_i, f_j) - delta) / tau, n_iters times.

    As written ('all'), a cell that has nothing in common with i weighs exp(0) = 1. There are
    many of them: for an object of 10 among 1000 cells, whose cosines exceed delta by 0.4, they
    hold 64 % of the weight at tau 0.1, so that every small object sinks into the mean of the
    image. 'related' leaves out what does not exceed delta; a cell always counts itself.

    Args:
        features: (D, N) float32 of the N cells.
        maps: (P, N) float32.
        settings: delta, tau, softmax and n_iters.

    Returns:
        (P, N): each a mean of its map, so the range is kept and a constant stays.

    Example:
        >>> import torch
        >>> features = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        >>> maps = torch.tensor([[1.0, 0.5, 0.0]])
        >>> propagate(features, maps, VitAffinitySettings())
        tensor([[0.7500, 0.7500, 0.0000]])
        >>> propagate(features, maps, VitAffinitySettings(softmax="all", delta=0.4, tau=0.6))
        tensor([[0.6335, 0.6335, 0.3179]])
    """
    import torch
    from torch.nn import functional

    directions = functional.normalize(features, dim=0)
    count = directions.shape[1]
    rows = max(1, BLOCK // count)
    for _ in range(settings.n_iters):
        parts = []
        for begin in range(0, count, rows):
            excess = directions[:, begin : begin + rows].T @ directions - settings.delta
            # of itself too where features are 0, and have no direction
            excess.diagonal(begin).fill_(1 - settings.delta)
            if settings.softmax == "related":
                excess.masked_fill_(excess <= 0, -torch.inf)
            weights = excess.clamp_(min=0) if settings.softmax == "all" else excess
            parts.append(maps @ (weights / settings.tau).softmax(dim=1).T)
        maps = torch.cat(parts, dim=1)
    return maps


@REFINERS.register(VitAffinitySettings)
class VitAffinity:
    """A map is propagated among the cells of a frozen network's features.

    The result has the network's grid: what it knows of edges is no finer. For finer ones raise
    long_side, take a shallow stage, or let a refiner of pixels follow.
    """

    windowed = True

    def __init__(self, settings: VitAffinitySettings, context: Context) -> None:
        import torch

        from wsss.config.sections import BackboneSettings  # which reads this module's settings
        from wsss.models.fusion import fuse_batchnorm
        from wsss.models.timm_backbone import TimmBackbone

        self.settings = settings
        wanted = BackboneSettings(
            model_name=settings.model_name,
            output_stride=settings.output_stride,
            weights=str(expand_path(settings.weights, "weights")),
            timm_kwargs=settings.timm_kwargs,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # random weights are always the same
            try:
                backbone = TimmBackbone(wanted)
            except ValueError as error:
                raise ValueError(f"refiner vit_affinity: {error}") from None
            found = len(backbone.stages())
            if settings.stage > found:
                raise ValueError(
                    f"{full_key('stage')} is {settings.stage}, but {settings.model_name} has "
                    f"{found}; choose at most that, or 0 for its last features"
                )
            backbone.last_stage = settings.stage
            side = 4 * settings.output_stride
            backbone = fuse_batchnorm(backbone.eval(), torch.rand(1, 3, side, side))
        if settings.weights == "none":
            log.warning(
                "vit_affinity looks with random weights, which see little but colours; set weights "
                "to hub, or to a file"
            )
        self.backbone = backbone.requires_grad_(False).to(context.device())

    def __call__(
        self,
        images: Sequence[np.ndarray],
        score_maps: Sequence[ScoreMap],
        names: Sequence[str],
    ) -> list[ScoreMap]:
        import torch

        check_images(images, score_maps)
        refined = list(score_maps)
        device = next(self.backbone.parameters()).device
        batch_size = BATCH_SIZES.get(device.type, 1)
        by_size: dict[tuple[int, int], list[int]] = {}
        for index, score_map in enumerate(score_maps):
            if len(score_map.class_ids):
                by_size.setdefault(self._seen_size(score_map.size), []).append(index)
        for size, members in by_size.items():
            for begin in range(0, len(members), batch_size):
                batch = members[begin : begin + batch_size]
                with torch.inference_mode():
                    features = self.features([images[index] for index in batch], size)
                    for index, own in zip(batch, features, strict=True):
                        refined[index] = self._refined(score_maps[index], own)
        return refined

    def features(self, images: Sequence[np.ndarray], size: tuple[int, int]) -> "Tensor":
        """(B, D, h, w) float32 of images that are resized to `size`, (height, width) in pixels."""
        import torch

        height, width = size
        resized = [
            np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
            for image in images
        ]
        pixels = torch.from_numpy(np.stack(resized)).to(next(self.backbone.parameters()).device)
        found: Tensor = self.backbone(self.backbone.normalisation(pixels.permute(0, 3, 1, 2)))
        return found

    def _seen_size(self, size: tuple[int, int]) -> tuple[int, int]:
        stride = self.backbone.output_stride
        scale = self.settings.long_side / max(size) / stride
        height, width = (max(1, round(length * scale)) * stride for length in size)
        return height, width

    def _refined(self, score_map: ScoreMap, features: "Tensor") -> ScoreMap:
        """(D, h, w) features."""
        import torch

        grid = (features.shape[1], features.shape[2])
        maps = torch.from_numpy(np.ascontiguousarray(score_map.on_grid(grid))).to(features.device)
        scores = propagate(features.flatten(1), maps.flatten(1), self.settings)
        return replace(score_map, scores=scores.clamp(0, 1).reshape(-1, *grid).cpu().numpy())
