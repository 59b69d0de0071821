"""Maps as settings say them: of images that are resized whole, or of their windows."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wsss.cam._gradients import GradientCam, without_backward
from wsss.cam.comparable import ComparableCamMethod
from wsss.cam.learning import LearningCamMethod
from wsss.cam.multiscale import shared_cams, whole_cells, windowed_cams
from wsss.cam.output_alone import OutputCamMethod
from wsss.cam.scaled_image import ScaledImage
from wsss.cam.sliding_window import SlidingWindow
from wsss.checks import check_dtype
from wsss.loading.devices import pixels_at_once
from wsss.registry import CAM_METHODS
from wsss.windows import window_starts

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import Tensor

    from wsss.config.sections import GenerateCamsSettings
    from wsss.models.classifier import Classifier

__all__ = ["FOUND", "CamMaker", "looks_alike", "shares_pass"]

FOUND = 0.5
"""The probability from which the classifier is believed that a class is there of which nobody
knows."""


class CamMaker:
    """A classifier, a CAM method and their settings.

    Args:
        model: in eval mode, on the CPU; it stays as it is.
        settings: of the maps.
        fabric: the device and the precision.
        further: classifiers and settings of maps to be made beside these; see `shares_pass`.

    Attributes:
        method: as the settings name it; see `without_backward`.
        learned: whether the method has seen good images.
    """

    def __init__(
        self,
        model: "Classifier",
        settings: "GenerateCamsSettings",
        fabric: "Fabric",
        further: "Sequence[tuple[Classifier, GenerateCamsSettings]]" = (),
    ) -> None:
        import torch

        from wsss.models.common_start import join_starts
        from wsss.models.fusion import fuse_batchnorm

        self.method: Any = _method(model, settings)
        used = {id(one): one for one in (model, *(one for one, _ in further))}
        # a method that needs gradients may look at any layer, which has to be there
        if not self.method.needs_gradients:
            side = 4 * model.backbone.output_stride
            example = torch.rand(1, 3, side, side)
            used = {at: fuse_batchnorm(one, example) for at, one in used.items()}
            for one in list(used.values())[1:]:
                join_starts(used[id(model)], one, example)
        used = {at: fabric.to_device(one) for at, one in used.items()}
        self._model: Any = used[id(model)]
        self._further = [
            (used[id(one)], _method(one, others), others.scales) for one, others in further
        ]
        self._settings, self._fabric = settings, fabric
        self.learned = False

    @property
    def learns(self) -> bool:
        """Whether the method sees good images before its first map."""
        return isinstance(self.method, LearningCamMethod)

    def learn(self, images: Iterable[np.ndarray], count: int, rng_seed: int) -> None:
        """Show the method images without any class.

        Args:
            images: each as of `windowed_cams`.
            count: of them.
            rng_seed: of what the method draws.
        """
        import torch

        with torch.inference_mode(), self._fabric.autocast():
            self.method.learn(self._model, map(self._shown, images), count, rng_seed)
        self.learned = True

    def resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) to which `whole` expects an image to be resized, bilinearly."""
        stride = self._model.backbone.output_stride
        return whole_cells(size, 1, stride, self._settings.align_corners)

    def is_large(self, size: tuple[int, int]) -> bool:
        """Whether an image of this size runs in windows."""
        return max(size) > (self._settings.window or float("inf"))

    def whole(
        self, pixels: "Tensor", class_ids: Sequence[Sequence[int]]
    ) -> "tuple[list[Tensor], Tensor]":
        """Maps of images of one size.

        Args:
            pixels: (B, 3, H, W) uint8 on the CPU, of the size that `resized` gives.
            class_ids: as of `multiscale_cams`.

        Returns:
            As `multiscale_cams`.

        Raises:
            ValueError: pixels are not uint8.
        """
        return self.whole_each(pixels, class_ids)[0]

    def whole_each(
        self, pixels: "Tensor", class_ids: Sequence[Sequence[int]]
    ) -> "list[tuple[list[Tensor], Tensor]]":
        """What `whole` gives, and the same of each of the further settings."""
        import torch

        check_dtype("pixels", pixels.dtype, "uint8")
        # an image that is no larger than a window can be at a larger scale
        method = self._sliding() if self._settings.window else self.method
        asked = [(self._model, method), *((model, further) for model, further, _ in self._further)]
        views = self._views(*pixels.shape[2:])
        views["stretch"] = [_is_stretched(own) for _, own in asked]
        views["scales"] = [views["scales"], *(scales for *_, scales in self._further)]
        with torch.inference_mode(not method.needs_gradients), self._fabric.autocast():
            return shared_cams(
                asked,
                self._prepare(pixels),
                class_ids,
                max_pixels=pixels_at_once(self._fabric.device),
                **views,
            )

    def in_windows(self, image: np.ndarray, class_ids: Sequence[int]) -> "tuple[Tensor, Tensor]":
        """Maps of an image that is never resized whole.

        Args:
            image: as of `windowed_cams`.
            class_ids: as of `windowed_cams`.

        Returns:
            As `windowed_cams`.
        """
        import torch

        method = self._sliding()
        with torch.inference_mode(not method.needs_gradients), self._fabric.autocast():
            return windowed_cams(
                self._model,
                method,
                image,
                class_ids,
                normalise=self._prepare,
                **self._views(*image.shape[:2]),
            )

    def nothing(self, size: tuple[int, int]) -> np.ndarray:
        """(0, h, w) float32: the maps of an image without any class."""
        return np.zeros((0, *self._views(*size)["grid"]), np.float32)

    def _shown(self, image: np.ndarray) -> "Iterator[Tensor]":
        """An image at each scale, in windows where it is larger than one."""
        settings, stride = self._settings, self._model.backbone.output_stride
        for scale in settings.scales:
            size = whole_cells(image.shape[:2], scale, stride, settings.align_corners)
            scaled = ScaledImage(
                image, self._prepare, size,
                align_corners=settings.align_corners, antialias=scale < 1,
            )  # fmt: skip
            sides = [min(side, settings.window or side) for side in size]
            starts = [window_starts(*axis, 0) for axis in zip(size, sides, strict=True)]
            for top in starts[0]:
                yield from (scaled.window(top, left, *sides) for left in starts[1])

    def _sliding(self) -> SlidingWindow:
        """The method in windows."""
        settings, at_once = self._settings, self._settings.batch_size
        if max_pixels := pixels_at_once(self._fabric.device):
            at_once = max_pixels // settings.window**2
        return SlidingWindow(self.method, settings.window, settings.window_overlap, at_once)

    def _prepare(self, pixels: "Tensor") -> "Tensor":
        """(B, 3, H, W) uint8 to float32, normalised, on the device."""
        normal: Tensor = self._model.backbone.normalisation(self._fabric.to_device(pixels))
        return normal

    def _views(self, height: int, width: int) -> dict[str, Any]:
        stride = self._settings.grid_stride
        grid = -(-height // stride), -(-width // stride)
        return (
            {"grid": grid}
            | self._settings.model_dump(include={"scales", "flip", "align_corners"})
            | {"stretch": _is_stretched(self.method)}
        )


def looks_alike(settings: "GenerateCamsSettings", further: "GenerateCamsSettings") -> bool:
    """Whether maps by both settings show whole images in the same way, at one scale at least."""
    views = set(type(settings).model_fields) - {"method", "scales"}
    if settings.window or settings.model_dump(include=views) != further.model_dump(include=views):
        return False
    scales = settings.scales, further.scales
    return not set(scales[0]).isdisjoint(scales[1]) and all(
        list(own) == sorted({*own}) for own in scales
    )


def shares_pass(
    model: "Classifier",
    settings: "GenerateCamsSettings",
    other: "Classifier",
    further: "GenerateCamsSettings",
) -> bool:
    """Whether maps by further settings cost less when they are made with those by settings.

    They ask one classifier for the same, which then gives it once; or two that begin with the same
    layers, such as stages that were frozen, which then run once.

    Args:
        model: of the maps by `settings`, in eval mode, on the CPU.
        settings: of maps.
        other: of the maps by `further`; it may be the same.
        further: of maps that look alike.
    """
    if not _asks_output(model, settings):
        return False
    if other is model:
        return _asks_output(model, further)
    from wsss.models.common_start import begin_alike

    alike = (
        model.class_names == other.class_names
        and model.backbone.output_stride == other.backbone.output_stride
        and begin_alike(model, other)
    )
    return alike and _asks_forward(other, further)


def _asks_output(model: "Classifier", settings: "GenerateCamsSettings") -> bool:
    """Whether a method looks at what the classifier gives, and at nothing on the way there."""
    kind: Any = CAM_METHODS.entry(settings.method.name)
    # what never does is not built: it may be a large network
    may = isinstance(kind, type) and issubclass(kind, GradientCam)
    return (may or hasattr(kind, "output_alone")) and isinstance(
        _method(model, settings), OutputCamMethod
    )


def _asks_forward(model: "Classifier", settings: "GenerateCamsSettings") -> bool:
    """Whether a method asks this classifier for forward passes alone."""
    import torch

    method, side = _method(model, settings), 4 * model.backbone.output_stride
    if method.needs_gradients or isinstance(method, LearningCamMethod):
        return False
    first = torch.zeros(1, dtype=torch.long)
    try:
        with torch.inference_mode():
            method(model, torch.zeros(1, 3, side, side), first, first)
    except ValueError:  # the stage whose maps these are says why
        return False
    return True


def _method(model: "Classifier", settings: "GenerateCamsSettings") -> Any:
    return without_backward(CAM_METHODS.build(settings.method), model)


def _is_stretched(method: Any) -> bool:
    return not isinstance(method, ComparableCamMethod)
