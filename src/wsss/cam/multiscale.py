"""Test-time scales and flips, summed into one normalised map per present class."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.cam._base import CamMethod
    from wsss.models.classifier import Classifier

__all__ = ["multiscale_cams", "whole_cells"]


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
        max_pixels: of the images that run together; the rest waits. On a CPU a few run
            faster than many, as their features stay in its cache. None runs all at once.

    Returns:
        Per image (P, h, w) float32 in [0, 1], each class divided by its maximum; and (B, K)
        float32 logits, the mean over scales and flips.
    """
    import torch
    from torch.nn import functional

    height, width = images.shape[2:]
    stride = model.backbone.output_stride
    counts = [len(ids) for ids in class_ids]
    rows = torch.tensor([row for row, ids in enumerate(class_ids) for _ in ids])
    columns = torch.tensor([one - 1 for ids in class_ids for one in ids])
    rows, columns = rows.long().to(images.device), columns.long().to(images.device)
    summed = images.new_zeros(len(rows), 1, *grid)
    logits = images.new_zeros(())
    for scale in scales:
        size = whole_cells((height, width), scale, stride, align_corners)
        scaled = images
        if size != (height, width):
            scaled = functional.interpolate(
                images, size, mode="bilinear", align_corners=align_corners, antialias=scale < 1
            )
        if flip:
            scaled = torch.cat([scaled, scaled.flip(-1)])
        wanted_rows, wanted_columns = rows, columns
        if flip:
            wanted_rows = torch.cat([rows, rows + len(images)])
            wanted_columns = torch.cat([columns, columns])
        together = max(1, (max_pixels or scaled[:, 0].numel()) // (size[0] * size[1]))
        parts = []
        for begin in range(0, len(scaled), together):
            part = scaled[begin : begin + together].contiguous(memory_format=torch.channels_last)
            inside = (wanted_rows >= begin) & (wanted_rows < begin + together)
            parts.append(method(model, part, wanted_rows[inside] - begin, wanted_columns[inside]))
        maps, scores = (torch.cat(part) for part in zip(*parts, strict=True))
        kept = maps[: len(rows)].float()  # (sum P, h', w')
        if flip:
            kept = kept + maps[len(rows) :].float().flip(-1)
        if counts != [0] * len(counts):
            kept = kept[:, None]
            summed += functional.interpolate(
                kept, grid, mode="bilinear", align_corners=align_corners
            )
        views = scores.float().view(-1, len(images), scores.shape[1])  # (1 or 2, B, K)
        logits = logits + views.mean(dim=0) / len(scales)
    cams = summed[:, 0]
    cams = cams / (cams.amax(dim=(1, 2), keepdim=True) + 1e-5)  # no division by zero
    return list(torch.split(cams, counts)), logits
