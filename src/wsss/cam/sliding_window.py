"""A CAM method in windows, for images too large to be run whole."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from wsss.checks import check_share, full_key
from wsss.windows import window_starts, window_weights

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.cam._base import CamMethod
    from wsss.models.classifier import Classifier

    Crop: TypeAlias = Callable[[int, int, int, int], Tensor]

__all__ = ["SlidingWindow"]


class SlidingWindow:
    """Another method's maps, window by window, averaged where windows overlap.

    Itself a `CamMethod`. Windows keep the scores that they have: no window is stretched to a range
    of its own, so one without the class stays empty, and the division by the greatest score is
    that of the whole image. Besides the maps that it returns, memory is that of the windows that
    run together.

    Args:
        method: run on each window.
        window: pixels of its side; an image that is no larger runs whole.
        overlap: share of a window, in [0, 1).
        batch_size: windows in one batch.
    """

    def __init__(
        self, method: "CamMethod", window: int, overlap: float, batch_size: int = 1
    ) -> None:
        check_share("overlap", overlap)
        self.method, self.window, self.overlap = method, window, overlap
        self.batch_size = batch_size
        self.needs_gradients = method.needs_gradients

    def __call__(
        self, model: "Classifier", images: "Tensor", rows: "Tensor", columns: "Tensor"
    ) -> "tuple[Tensor, Tensor]":
        """As `CamMethod`; the logits of a class are those of the window where it is surest."""
        height, width = images.shape[2:]
        if max(height, width) <= self.window:
            return self.method(model, images, rows, columns)

        def crop(top: int, left: int, high: int, wide: int) -> "Tensor":
            return images[:, :, top : top + high, left : left + wide]

        return self.blended(model, (height, width), crop, rows, columns, count=len(images))

    def blended(
        self,
        model: "Classifier",
        size: tuple[int, int],
        crop: "Crop",
        rows: "Tensor",
        columns: "Tensor",
        *,
        count: int = 1,
    ) -> "tuple[Tensor, Tensor]":
        """The same of images that nobody holds: `crop` makes their windows when they are due.

        Args:
            model: in eval mode.
            size: (H, W) of the images, in pixels.
            crop: top, left, height and width of a window to its (count, 3, height, width) pixels,
                float32 and normalised.
            rows: as of `CamMethod`.
            columns: as of `CamMethod`.
            count: how many images there are.
        """
        import torch

        stride = model.backbone.output_stride
        # Where corner cells sit on corner pixels, neighbouring windows share a pixel.
        shared = [length % stride for length in size]
        cells = [length // stride for length in size]
        sides = [
            min(have, max(1, (self.window - extra) // stride))
            for have, extra in zip(cells, shared, strict=True)
        ]
        high, wide = (n * stride + extra for n, extra in zip(sides, shared, strict=True))
        starts = [window_starts(*axis, self.overlap) for axis in zip(cells, sides, strict=True)]
        corners = [(top, left) for top in starts[0] for left in starts[1]]
        summed = total = weights = torch.zeros(())
        surest: Tensor | None = None
        batch_size = max(1, self.batch_size // count)
        for begin in range(0, len(corners), batch_size):
            batch = corners[begin : begin + batch_size]
            crops = [crop(y * stride, x * stride, high, wide) for y, x in batch]
            shift = torch.arange(len(batch), device=rows.device).repeat_interleave(len(rows))
            maps, scores = self.method(
                model,
                torch.cat(crops).contiguous(memory_format=torch.channels_last),
                rows.repeat(len(batch)) + shift * count,
                columns.repeat(len(batch)),
            )
            maps = maps.float().reshape(len(batch), len(rows), *maps.shape[1:])
            if not summed.ndim:
                finer = _cells_per_stride(maps.shape[2:], sides, shared)
                whole = [n * finer + bool(e) for n, e in zip(cells, shared, strict=True)]
                summed = maps.new_zeros(len(rows), *whole)
                total = maps.new_zeros(*whole)
                weights = torch.from_numpy(window_weights(*maps.shape[2:])).to(maps.device)
            for (y, x), part in zip(batch, maps, strict=True):
                down = slice(y * finer, y * finer + part.shape[1])
                along = slice(x * finer, x * finer + part.shape[2])
                summed[:, down, along] += part * weights
                total[down, along] += weights
            scores = scores.reshape(len(batch), count, -1).amax(dim=0)
            surest = scores if surest is None else torch.maximum(surest, scores)
        assert surest is not None
        return summed.div_(total), surest


def _cells_per_stride(size: Sequence[int], sides: list[int], shared: list[int]) -> int:
    """How many cells of a map lie along one of the backbone's: more at earlier layers."""
    finer = {(n - bool(e)) / side for n, side, e in zip(size, sides, shared, strict=True)}
    if len(finer) != 1 or not next(iter(finer)).is_integer() or 0 in finer:
        raise ValueError(
            f"maps of {size[0]} x {size[1]} cells do not fit windows of {sides[0]} x {sides[1]} "
            f"cells of the backbone; set {full_key('window')} to 0, or choose other layers"
        )
    return int(next(iter(finer)))
