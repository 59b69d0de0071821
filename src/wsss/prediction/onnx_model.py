"""A segmenter in an .onnx file of `wsss export`, run by ONNX Runtime; without PyTorch.

Scales, flips, normalisation and the softmax are in the file. Windows of large images and the dense
CRF are not: both are done here as the settings say that went into the file with it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wsss.artifacts import contents, is_of_the_system
from wsss.checks import check_image
from wsss.config.segmentation import PredictMasksSettings
from wsss.prediction._base import Predicted, Tags
from wsss.prediction.changing import image_settings
from wsss.prediction.description import Description
from wsss.prediction.tags import allowed_in_each
from wsss.windows import window_starts, window_weights

__all__ = ["OnnxModel"]

_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


class OnnxModel:
    """A model as `wsss.prediction.Model` describes it.

    Args:
        path: of the file.

    Attributes:
        class_names: K names.
        has_background: whether a pixel may show none of the classes.
        about: what is known of it.
        settings: how it predicts.

    Raises:
        ImportError: ONNX Runtime is not installed.
        ValueError: the file is damaged, or holds another model than a segmenter of `wsss export`.
    """

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError:
            raise ImportError(
                f"{path} needs ONNX Runtime, which is not installed: pip install onnxruntime"
            ) from None
        if not path.is_file():
            raise ValueError(f"there is no file {path}; write one with `wsss export`")
        there = onnxruntime.get_available_providers()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # it warns of an input that may be left out
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, [name for name in _PROVIDERS if name in there]
            )
        except Exception as error:  # its own types, which have no common base
            if is_of_the_system(error):
                raise
            raise ValueError(
                f"{path} cannot be read as an ONNX model: {error}; export it again"
            ) from None
        known = Description.read(self._session.get_modelmeta().custom_metadata_map, str(path))
        if known.kind != "segmenter":
            raise ValueError(
                f"{path} is a {known.kind}, which gives no masks; export models/segmenter"
            )
        self.class_names, self.has_background = known.class_names, known.has_background
        self._palette = known.palette
        self.settings = PredictMasksSettings.model_validate(known.settings)
        about = {"recipe": known.recipe, "scores": dict(known.scores)}
        self.about: dict[str, Any] = {
            "place": str(path),
            "kind": "onnx",
            **known.network,
            **{key: value for key, value in about.items() if value},
            "settings": dict(known.settings),
            "images": image_settings(known.images),
            "wsss": known.version,
            "key": contents(path),
        }

    @property
    def palette(self) -> np.ndarray:
        """(K + 1, 3) uint8 RGB: the colours of a mask's values, as its PNG has them."""
        return self._palette

    def predict(
        self,
        images: Sequence[np.ndarray],
        *,
        tags: Sequence[Tags] | None = None,
        probs: bool = False,
        crf: bool = True,
    ) -> list[Predicted]:
        """Find masks of images of any sizes; see `wsss.prediction.Model.predict`."""
        for number, image in enumerate(images):
            check_image(f"image {number}", image)
            if not image.size:
                raise ValueError(f"image {number} has no pixels: its shape is {image.shape}")
        allowed = allowed_in_each(
            tags, len(images), self.class_names, has_background=self.has_background
        )
        limit = self.settings.window or float("inf")
        found = []
        for image, present in zip(images, allowed, strict=True):
            if max(image.shape[:2]) > limit:
                found.append(self._in_windows(image, present, probs, crf))
                continue
            (of_classes,) = self._probs(image[None], present, crf)
            mask = of_classes.argmax(axis=0).astype(np.uint8)
            found.append(Predicted(mask, of_classes if probs else None))
        return found

    def _probs(self, images: np.ndarray, present: np.ndarray | None, crf: bool) -> np.ndarray:
        """(B, C, H, W) of (B, H, W, 3), all of which may show the same classes."""
        given = {"images": images}
        if present is not None:
            given["present"] = np.broadcast_to(present, (len(images), len(present)))
        probs: np.ndarray = self._session.run(["probs"], given)[0]
        if crf and self.settings.crf is not None:
            import torch

            from wsss.segment.smoothing import smooth

            probs = smooth(list(images), torch.from_numpy(probs), self.settings.crf).numpy()
        return probs

    def _in_windows(
        self, image: np.ndarray, present: np.ndarray | None, wanted: bool, crf: bool
    ) -> Predicted:
        """As `wsss.segment.predict.predict_mask_in_windows`, strip by strip."""
        window, overlap = self.settings.window, self.settings.window_overlap
        height, width = image.shape[:2]
        shape = (len(self.class_names) + 1, height, width)
        mask = np.empty((height, width), np.uint8)
        probs = np.empty(shape, np.float32) if wanted else None
        high, wide = min(height, window), min(width, window)
        tops, lefts = window_starts(height, high, overlap), window_starts(width, wide, overlap)
        weights = window_weights(high, wide)
        strip = np.zeros((shape[0], high, width), np.float32)
        for top, below in zip(tops, [*tops[1:], height], strict=True):
            for begin in range(0, len(lefts), self.settings.batch_size):
                batch = lefts[begin : begin + self.settings.batch_size]
                crops = np.stack([image[top : top + high, x : x + wide] for x in batch])
                for x, of_window in zip(batch, self._probs(crops, present, crf), strict=True):
                    strip[:, :, x : x + wide] += of_window * weights
            finished = below - top
            done = strip[:, :finished]
            mask[top:below] = done.argmax(axis=0)
            if probs is not None:
                probs[:, top:below] = done / done.sum(axis=0)
            strip[:, : high - finished] = strip[:, finished:].copy()
            strip[:, high - finished :] = 0
        return Predicted(mask, probs)
