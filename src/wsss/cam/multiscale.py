"""Test-time scales and flips, summed into one normalised map per present class."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from wsss.cam.scaled_image import ScaledImage
from wsss.checks import check_image, check_range

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.cam._base import CamMethod
    from wsss.cam.sliding_window import SlidingWindow
    from wsss.models.classifier import Classifier

__all__ = ["multiscale_cams", "shared_cams", "whole_cells", "windowed_cams"]


def whole_cells(
    size: tuple[int, int], scale: float, stride: int, align_corners: bool
) -> tuple[int, int]:
    """The (height, width) of a rescaled image, in pixels, that fills whole cells of the map.

    A map is stretched back over the image, so the image must cover its cells exactly: a
    multiple of the stride, or one pixel more where the corner cells sit on the corner pixels.

    Example:
        >>> whole_cells((213, 320), 1.0, 16, align_corners=False)
        (208, 320)
        >>> whole_cells((213, 320), 1.0, 16, align_corners=True)
        (209, 321)
    """
    extra = 1 if align_corners else 0
    height, width = (
        max(1, round((length * scale - extra) / stride)) * stride + extra for length in size
    )
    return height, width


def multiscale_cams(
    model: "Classifier",
    method: "CamMethod",
    images: "Tensor",
    class_ids: Sequence[Sequence[int]],
    *,
    grid: tuple[int, int],
    scales: Sequence[float],
    flip: bool,
    align_corners: bool,
    stretch: bool = True,
    max_pixels: int | None = None,
) -> "tuple[list[Tensor], Tensor]":
    """CAMs of a batch of equally sized images: summed over scales, then divided by their maxima.

    Args:
        model: in eval mode, on the images' device.
        method: raw maps at one scale.
        images: (B, 3, H, W) float32, normalised.
        class_ids: per image the tags, values in 1..K; only their maps are resized and kept.
        grid: (h, w) of the result.
        scales: of the image sides.
        flip: add the mirrored image's maps, mirrored back.
        align_corners: of every resize.
        stretch: divide each map by its maximum; if not, average over scales and flips instead,
            which is for maps that mean the same in every image.
        max_pixels: of the images that run together; the rest waits. On a CPU a few run
            faster than many, as their features stay in its cache. None runs all at once.

    Returns:
        Per image (P, h, w) float32 in [0, 1], each class divided by its maximum if told so; and
        (B, K) float32 logits, the mean over scales and flips.

    Raises:
        ValueError: a tag is not in 1..K.
    """
    (made,) = shared_cams(
        [(model, method)],
        images,
        class_ids,
        grid=grid,
        scales=[scales],
        flip=flip,
        align_corners=align_corners,
        stretch=[stretch],
        max_pixels=max_pixels,
    )
    return made


def shared_cams(
    asked: "Sequence[tuple[Classifier, CamMethod]]",
    images: "Tensor",
    class_ids: Sequence[Sequence[int]],
    *,
    grid: tuple[int, int],
    scales: Sequence[Sequence[float]],
    flip: bool,
    align_corners: bool,
    stretch: Sequence[bool],
    max_pixels: int | None = None,
) -> "list[tuple[list[Tensor], Tensor]]":
    """The same by several methods, which share a forward pass where they ask for the same.

    Args:
        asked: of each kind of maps the model and the method, as of `multiscale_cams`. Methods that
            ask one model are each an `OutputCamMethod`; several models are of one stride.
        images: as of `multiscale_cams`.
        class_ids: as of `multiscale_cams`.
        grid: as of `multiscale_cams`.
        scales: of each kind; where there are several, each in ascending order.
        flip: as of `multiscale_cams`.
        align_corners: as of `multiscale_cams`.
        stretch: of each kind, as of `multiscale_cams`.
        max_pixels: as of `multiscale_cams`.

    Returns:
        What `multiscale_cams` gives for each kind, byte for byte.

    Raises:
        ValueError: a tag is not in 1..K.
    """
    import torch
    from torch.nn import functional

    n_classes = min(len(model.class_names) for model, _ in asked)
    for number in chain(*class_ids):
        check_range("class_ids", number, 1, n_classes)
    rows = torch.tensor([row for row, ids in enumerate(class_ids) for _ in ids])
    columns = torch.tensor([number - 1 for ids in class_ids for number in ids])
    rows, columns = rows.long().to(images.device), columns.long().to(images.device)
    if flip:
        rows, columns = torch.cat([rows, rows + len(images)]), torch.cat([columns, columns])

    kinds = _sharing(asked)
    aligned_to = tuple(images.shape[2:]) if align_corners else None
    sums = [
        _Sum(len(own), len(images), grid, flip, aligned_to, each)
        for own, each in zip(scales, stretch, strict=True)
    ]
    height, width = images.shape[2:]
    stride = asked[0][0].backbone.output_stride
    for scale in scales[0] if len(asked) == 1 else sorted({*chain(*scales)}):
        wanted = [at for at, own in enumerate(scales) if scale in own]
        size = whole_cells((height, width), scale, stride, align_corners)
        scaled = images
        if size != (height, width):
            scaled = functional.interpolate(
                images, size, mode="bilinear", align_corners=align_corners, antialias=scale < 1
            )
        if flip:
            scaled = torch.cat([scaled, scaled.flip(-1)])
        batch_size = max(1, (max_pixels or scaled[:, 0].numel()) // (size[0] * size[1]))
        parts: dict[int, list[tuple[Tensor, Tensor]]] = {at: [] for at in wanted}
        for begin in range(0, len(scaled), batch_size):
            part = scaled[begin : begin + batch_size].contiguous(memory_format=torch.channels_last)
            inside = (rows >= begin) & (rows < begin + batch_size)
            for at, made in parts.items():
                model, method = kinds[at]
                made.append(method(model, part, rows[inside] - begin, columns[inside]))
        for at, made in parts.items():
            sums[at].add(*(torch.cat(part) for part in zip(*made, strict=True)))
    counts = [len(ids) for ids in class_ids]
    return [(list(torch.split(summed.maps(), counts)), summed.logits) for summed in sums]


def _sharing(asked: "Sequence[tuple[Classifier, CamMethod]]") -> list[tuple[Any, Any]]:
    """The models and methods, where a model that several methods ask answers them together."""
    times = Counter(id(model) for model, _ in asked)
    together = {id(model): _OneForward(model) for model, _ in asked if times[id(model)] > 1}
    return [(together.get(id(model), model), method) for model, method in asked]


class _OneForward:
    """A classifier that several methods ask one after the other about the same images."""

    def __init__(self, model: "Classifier") -> None:
        self._model: Any = model
        self._asked: tuple[Any, Any] = None, None

    def __call__(self, images: "Tensor", **how: Any) -> Any:
        if how:
            return self._model(images, **how)
        if self._asked[0] is not images:
            self._asked = images, self._model(images)
        return self._asked[1]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def windowed_cams(
    model: "Classifier",
    method: "SlidingWindow",
    image: np.ndarray,
    class_ids: Sequence[int],
    *,
    normalise: "Callable[[Tensor], Tensor]",
    grid: tuple[int, int],
    scales: Sequence[float],
    flip: bool,
    align_corners: bool,
    stretch: bool = True,
) -> "tuple[Tensor, Tensor]":
    """The same of one image that is too large to be resized whole.

    Windows are cut from its pixels at each scale (`ScaledImage`). Memory that grows with the image
    is its 3 bytes per pixel, and maps: a few on `grid`, and those of one scale on the network's
    cells.

    Args:
        model: in eval mode.
        method: raw maps of windows.
        image: (H, W, 3) uint8.
        class_ids: as of `multiscale_cams`, of one image.
        normalise: (1, 3, h, w) uint8 on the CPU to float32 on the model's device.
        grid: as of `multiscale_cams`.
        scales: as of `multiscale_cams`.
        flip: as of `multiscale_cams`.
        align_corners: as of `multiscale_cams`.
        stretch: as of `multiscale_cams`.

    Returns:
        (P, h, w) float32 in [0, 1], and (K,) float32 logits.

    Raises:
        ValueError: the image is no such array, or a tag is not in 1..K.
    """
    import torch

    check_image("image", image)
    for number in class_ids:
        check_range("class_ids", number, 1, len(model.class_names))

    device = next(model.parameters()).device
    columns = torch.tensor(class_ids, dtype=torch.long, device=device) - 1

    def run(size: tuple[int, int], scale: float) -> "tuple[Tensor, Tensor]":
        parts = []
        for mirrored in (False, True) if flip else (False,):
            scaled = ScaledImage(
                image, normalise, size,
                align_corners=align_corners, antialias=scale < 1, mirrored=mirrored,
            )  # fmt: skip
            rows = torch.zeros_like(columns)
            parts.append(method.blended(model, size, scaled.window, rows, columns))
        maps, scores = (torch.cat(part) for part in zip(*parts, strict=True))
        return maps, scores

    height, width = image.shape[:2]
    stride = model.backbone.output_stride
    summed = _Sum(len(scales), 1, grid, flip, (height, width) if align_corners else None, stretch)
    for scale in scales:
        size = whole_cells((height, width), scale, stride, align_corners)
        summed.add(*run(size, scale))
    return summed.maps(), summed.logits[0]


class _Sum:
    """Maps of all scales on one grid, stretched or averaged, and the mean of the logits.

    Args:
        n_scales: how many scales there are.
        count: of images.
        grid: as of `multiscale_cams`.
        flip: as of `multiscale_cams`.
        aligned_to: height and width of the images whose corner pixels those of the maps lie on;
            None where it is their corners, as in the grid.
        stretch: as of `multiscale_cams`.

    Attributes:
        logits: (count, K) float32, once all scales were added.
    """

    def __init__(
        self,
        n_scales: int,
        count: int,
        grid: tuple[int, int],
        flip: bool,
        aligned_to: tuple[int, ...] | None,
        stretch: bool,
    ) -> None:
        import torch

        self._n_scales, self._count, self._grid = n_scales, count, grid
        self._flip, self._stretch = flip, stretch
        self._places = None if aligned_to is None else _centres(grid, aligned_to)
        self._maps = self.logits = torch.zeros(())

    def add(self, maps: "Tensor", scores: "Tensor") -> None:
        """Add what one scale gives.

        Args:
            maps: (P, h, w); with `flip` those of the mirrored images come after the others, twice
                as many in all.
            scores: (count, K) logits; with `flip` twice as many.
        """
        import torch
        from torch.nn import functional

        n_maps = len(maps) // (1 + self._flip)
        if not self._maps.ndim:
            self._maps = torch.zeros(n_maps, 1, *self._grid, device=maps.device)
        kept = maps[:n_maps].float()  # (sum P, h', w')
        if self._flip:
            kept = kept + maps[n_maps:].float().flip(-1)
        if n_maps:
            kept = kept[:, None]
            if self._places is None:
                on_grid = functional.interpolate(
                    kept, self._grid, mode="bilinear", align_corners=False
                )
            else:
                places = self._places.to(kept.device).expand(n_maps, -1, -1, -1)
                on_grid = functional.grid_sample(
                    kept, places, padding_mode="border", align_corners=True
                )
            self._maps += on_grid
        views = scores.float().view(-1, self._count, scores.shape[1])  # (1 or 2, B, K)
        self.logits = self.logits + views.mean(dim=0) / self._n_scales

    def maps(self) -> "Tensor":
        """(P, h, w) float32 in [0, 1], of all scales."""
        from wsss.models.pooling import peaks

        cams = self._maps[:, 0]
        if self._stretch:
            return cams / peaks(cams)
        views = self._n_scales * (1 + self._flip)
        return (cams / views).clamp_(max=1)  # rounding may leave a bit more


def _centres(grid: tuple[int, ...], size: tuple[int, ...]) -> "Tensor":
    """(1, h, w, 2) float32: x and y of a grid's cells, from -1 to 1 at an image's corner pixels.

    Example:
        >>> _centres((1, 2), (1, 5))[0, 0, :, 0].tolist()
        [-0.625, 0.625]
    """
    import torch

    axes = []
    for cells, pixels in zip(grid, size, strict=True):
        centres = (torch.arange(cells, dtype=torch.float64) + 0.5) * (pixels / cells) - 0.5
        axes.append(centres * (2 / max(1, pixels - 1)) - 1)
    y, x = torch.meshgrid(*axes, indexing="ij")
    return torch.stack([x, y], dim=-1).float()[None]
