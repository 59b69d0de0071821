"""A segmenter as settings say it is used: views, windows, a filter of classes, a CRF."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from wsss.artifacts import ExpectedPixels, Sample
from wsss.checks import check_dtype
from wsss.config.segmentation import PredictMasksSettings
from wsss.segment.network import Segmenter
from wsss.segment.predict import class_sums, predict_mask_in_windows, predict_probs
from wsss.segment.smoothing import smooth

__all__ = ["Predictor", "most_probable"]


class Predictor:
    """Images to masks.

    Args:
        model: in eval mode.
        settings: views, windows and the CRF.
        fabric: the device and the precision.
        present: by name of the image the classes that it may have, as of `ClassFilter.present`;
            None leaves out none.
    """

    def __init__(
        self,
        model: Segmenter,
        settings: PredictMasksSettings,
        fabric: Fabric,
        present: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self._model, self._settings, self._fabric = fabric.to_device(model), settings, fabric
        self._present = present
        self._views = settings.model_dump(include={"scales", "flip"})

    def whole(self, samples: Sequence[Sample], pixels: Tensor) -> list[np.ndarray]:
        """(H, W) uint8 masks of images of one size; arguments as of `probs`."""
        return most_probable(self.probs(samples, pixels))

    def with_expected(
        self, samples: Sequence[Sample], pixels: Tensor
    ) -> list[tuple[np.ndarray, ExpectedPixels | None]]:
        """As `whole`, each with what the network expects in the mask; arguments as of `probs`."""
        probs = self.probs(samples, pixels)
        return [
            (mask, ExpectedPixels.of(*class_sums(of_image.cpu().numpy(), mask)))
            for mask, of_image in zip(most_probable(probs), probs, strict=True)
        ]

    def probs(self, samples: Sequence[Sample], pixels: Tensor) -> Tensor:
        """(B, K + 1, H, W) probabilities in images of one size, on the device; after the CRF.

        Args:
            samples: B of them.
            pixels: (B, 3, H, W) uint8 on the CPU.

        Raises:
            ValueError: pixels are not uint8.
        """
        check_dtype("pixels", pixels.dtype, "uint8")
        images = self._prepared(pixels)
        with torch.inference_mode(), self._fabric.autocast():
            probs = predict_probs(self._model, images, present=self._rows(samples), **self._views)
        if self._settings.crf is not None:
            probs = smooth([*pixels.permute(0, 2, 3, 1).numpy()], probs, self._settings.crf)
        return probs

    def in_windows_with_expected(
        self, sample: Sample, image: np.ndarray
    ) -> tuple[np.ndarray, ExpectedPixels | None]:
        """As `in_windows`, with what the network expects in the mask."""
        sums = np.zeros((2, len(self._model.spec.class_names) + 1))
        mask = self.in_windows(sample, image, sums=sums)
        return mask, ExpectedPixels.of(*sums)

    def in_windows(
        self,
        sample: Sample,
        image: np.ndarray,
        probs: np.ndarray | None = None,
        sums: np.ndarray | None = None,
    ) -> np.ndarray:
        """The (H, W) uint8 mask of a large image, (H, W, 3) uint8.

        `probs` and `sums` are filled, if given; see `predict_mask_in_windows`.
        """
        rows = self._rows([sample])
        with torch.inference_mode(), self._fabric.autocast():
            return predict_mask_in_windows(
                self._model,
                image,
                normalise=self._prepared,
                window=self._settings.window,
                overlap=self._settings.window_overlap,
                batch_size=self._settings.batch_size,
                present=None if rows is None else rows[0],
                crf=self._settings.crf,
                probs=probs,
                sums=sums,
                **self._views,
            )

    def _prepared(self, pixels: Tensor) -> Tensor:
        normal: Tensor = self._model.normalisation(self._fabric.to_device(pixels))
        return normal

    def _rows(self, samples: Sequence[Sample]) -> Tensor | None:
        if self._present is None:
            return None
        rows = np.stack([self._present[sample.name] for sample in samples])
        allowed: Tensor = self._fabric.to_device(torch.from_numpy(rows))
        return allowed


def most_probable(probs: Tensor) -> list[np.ndarray]:
    """The (H, W) uint8 masks of (B, K + 1, H, W) probabilities."""
    return list(probs.argmax(dim=1).to(torch.uint8).cpu().numpy())
