"""Point prompts to a SAM of transformers."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from wsss.loading.normalisation import Normalisation

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PointPredictor"]


class PointPredictor:
    """What segment-anything's generator asks of a predictor, answered by Sam2Model and its like.

    Such a network stretches an image to a square, whereas SAM keeps its shape.

    Args:
        network: of transformers, on its device.
        normalisation: of images, as the network expects it.
    """

    def __init__(self, network: Any, normalisation: Normalisation) -> None:
        self.network = network
        self.device = network.device
        self.side: int = network.config.prompt_encoder_config.image_size
        self.normalisation = normalisation
        self.transform = self
        self.model = SimpleNamespace(
            mask_threshold=0.0, image_encoder=SimpleNamespace(img_size=self.side)
        )
        self.reset_image()

    def reset_image(self) -> None:
        """Forget the image."""
        self.size: tuple[int, int] | None = None
        self.embeddings: list[Tensor] = []

    def set_image(self, image: np.ndarray) -> None:
        """Run the image encoder on (H, W, 3) uint8 RGB."""
        import torch
        from torch.nn import functional

        height, width = image.shape[:2]
        pixels = torch.from_numpy(np.ascontiguousarray(image)).to(self.device)
        pixels = pixels.permute(2, 0, 1)[None].float() / 255
        pixels = functional.interpolate(
            pixels, (self.side, self.side), mode="bilinear", antialias=True
        )
        self.size = height, width
        self.embeddings = self.network.get_image_embeddings(self.normalisation.from_unit(pixels))

    def apply_coords(self, points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """(n, 2) points (x, y) of an image of (height, width), in pixels of the network's."""
        height, width = size
        return points * (self.side / width, self.side / height)

    def predict_torch(
        self,
        points: "Tensor",
        labels: "Tensor",
        multimask_output: bool = True,
        return_logits: bool = True,
    ) -> "tuple[Tensor, Tensor, Tensor]":
        """Masks of each prompt.

        Args:
            points: (n, m, 2) in pixels of the network's image.
            labels: (n, m): 1 for points of the object.
            multimask_output: three masks of each prompt, or one.
            return_logits: must be True, as the generator has it.

        Returns:
            (n, 3 or 1, H, W) logits, (n, 3 or 1) predicted IoU, and the logits as they came.
        """
        from torch.nn import functional

        assert return_logits and self.size is not None
        output = self.network(
            image_embeddings=self.embeddings,
            input_points=points.float()[None],
            input_labels=labels[None],
            multimask_output=multimask_output,
        )
        logits = output.pred_masks[0]
        return (
            functional.interpolate(logits, self.size, mode="bilinear"),
            output.iou_scores[0],
            logits,
        )
