"""Maps from what patches of an image and class names have in common for CLIP, untrained."""

from typing import TYPE_CHECKING, Literal

from pydantic import PositiveInt

from wsss.cam._clip import Clip, ClipSettings, attention, on_one_scale, stretched
from wsss.registry import CAM_METHODS
from wsss.settings import Named

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.models.classifier import Classifier

__all__ = ["TextSeeds", "TextSeedsSettings", "without_redundancy"]


class TextSeedsSettings(Named, ClipSettings):
    """Where patches look at patches like themselves, besides what is asked of CLIP."""

    name: Literal["text_seeds"] = "text_seeds"
    layers: PositiveInt = 6
    """Blocks, counted from the last, in which patches attend to patches like themselves."""


def without_redundancy(patches: "Tensor", image: "Tensor") -> "Tensor":
    """Cosines of patches and texts, less what all texts have in common.

    With f and t of length 1 and r_t = w_t (f * t), elementwise, the result is the sum over
    channels of r_t minus the mean of r over texts. w_t is the share of a text in the softmax of
    twice the image's cosines, over the mean share.

    Args:
        patches: (B, N, T) cosines of patches and texts.
        image: (B, T) cosines of the whole image and texts.

    Returns:
        (B, N, T); the sum over texts is 0.

    References:
        CLIP Surgery (Li et al., 2023).

    Example:
        >>> import torch
        >>> without_redundancy(torch.tensor([[[0.5, 0.1], [0.2, 0.2]]]), torch.zeros(1, 2))
        tensor([[[ 0.2000, -0.2000],
                 [ 0.0000,  0.0000]]])
    """
    shares = (2 * image).softmax(dim=1)
    weighted = patches * (shares / shares.mean(dim=1, keepdim=True))[:, None]
    return weighted - weighted.mean(dim=2, keepdim=True)


@CAM_METHODS.register(TextSeedsSettings)
class TextSeeds:
    """Patches of CLIP that are like the words of a class and not like any other's.

    In the last blocks attention is the mean of query-query, key-key and value-value attention, and
    what it gives is added up without the feed-forward layers (CLIP Surgery, Li et al., 2023; ExCEL,
    CVPR 2025); their inputs are those of the network as it is. Classes are told apart from all
    other classes of the data, tagged or not, and from background words. A map is stretched to
    [0, 1]; over scales and windows each counts by its probability (see `on_one_scale`).

    The classifier gives the logits alone.
    """

    needs_gradients = False

    def __init__(self, settings: TextSeedsSettings) -> None:
        self.clip = Clip(settings)
        count = self.clip.check_layers(settings.layers, "layers")
        self.first_changed = len(self.clip.blocks) - count

    def __call__(
        self, model: "Classifier", images: "Tensor", rows: "Tensor", columns: "Tensor"
    ) -> "tuple[Tensor, Tensor]":
        import torch

        clip = self.clip.to(images.device)
        logits, grid = model(images).logits, clip.grid(images)
        if not len(rows):
            return images.new_zeros(0, *grid), logits
        chosen, rows = torch.unique(rows, return_inverse=True)
        patches, image = self._features(clip.embed(model, images[chosen]))
        texts = clip.texts(model.class_names)
        cosines = clip.cosines(image, texts)
        found = without_redundancy(clip.cosines(patches, texts), cosines)
        maps = stretched(found[rows, :, columns].reshape(-1, *grid))
        probs = (clip.logit_scale * cosines).softmax(dim=1)[rows, columns]
        return on_one_scale(maps, probs), logits

    def _features(self, tokens: "Tensor") -> "tuple[Tensor, Tensor]":
        """Tokens ahead of the first block to (B, N, E) of patches and (B, E) of the image."""
        clip = self.clip
        alike = tokens  # the path of its own, which patches are read from
        for index, block in enumerate(clip.blocks):
            queries, keys, values = clip.heads(block, block.ln_1(tokens))
            if index == self.first_changed:
                alike = tokens
            if index >= self.first_changed:
                weights = (
                    sum(attention(vectors, vectors) for vectors in (queries, keys, values)) / 3
                )
                alike = alike + clip.attended(block, weights @ values)
            added = clip.attended(block, attention(queries, keys) @ values)
            tokens = clip.fed_forward(block, tokens + added)
        return clip.project(alike[:, 1:]), clip.project(tokens[:, :1])[:, 0]
