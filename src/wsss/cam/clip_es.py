"""Softmax-GradCAM of CLIP, spread by its attention within boxes."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from wsss.cam._clip import Clip, ClipSettings, attention, on_one_scale, stretched
from wsss.checks import check_dtype, check_values
from wsss.registry import CAM_METHODS
from wsss.settings import Named

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.models.classifier import Classifier

__all__ = ["ClipEs", "ClipEsSettings", "in_boxes", "log_odds", "sinkhorn", "spread_in_boxes"]


class ClipEsSettings(Named, ClipSettings):
    """Where maps spread, besides what is asked of CLIP."""

    name: Literal["clip_es"] = "clip_es"
    affinity: bool = True
    """Spread each map by the attention between patches (CAA); off, maps are GradCAM's."""
    attention_layers: PositiveInt = 8
    """Blocks, counted from the last, whose attention is averaged."""
    box_threshold: float = Field(default=0.4, ge=0, lt=1)
    """A map spreads from the boxes around its regions above this share of its range."""
    compat_boxes: bool = False
    """Leave the last row and column of patches out of every box, as the published code does."""


def log_odds(scores: "Tensor", present: "Tensor") -> "Tensor":
    """log(p / (1 - p)) of p = softmax over the texts that are present.

    Its gradient is that of p divided by p (1 - p), so GradCAM's map is the same up to a factor,
    but keeps its digits where p is near 1.

    Args:
        scores: (B, T) of images and texts, scaled cosines.
        present: (B, T) bool, at least two in each row.

    Returns:
        (B, T); of texts that are not present the value means nothing.

    Example:
        >>> import torch
        >>> scores = torch.tensor([[2.0, 1.0, 9.0]])
        >>> log_odds(scores, torch.tensor([[True, True, False]]))[0, :2]
        tensor([ 1., -1.])
    """
    import torch

    check_dtype("present", present.dtype, "bool")
    count = scores.shape[1]
    others = present[:, None] & ~torch.eye(count, dtype=torch.bool, device=scores.device)
    rivals = scores[:, None].expand(-1, count, -1)  # (B, T, T)
    return scores - rivals.masked_fill(~others, -torch.inf).logsumexp(dim=2)


def sinkhorn(matrix: "Tensor", rounds: int = 3) -> "Tensor":
    """Divide by the sums of columns, then of rows, in turn: nearer to sums of 1 in both.

    Args:
        matrix: (..., N, N), at least 0.
        rounds: how often.

    Example:
        >>> import torch
        >>> sinkhorn(torch.tensor([[0.6, 0.4], [0.2, 0.8]]))
        tensor([[0.7096, 0.2904],
                [0.2894, 0.7106]])
    """
    for _ in range(rounds):
        for axis in (-2, -1):
            matrix = matrix / matrix.sum(dim=axis, keepdim=True).clamp_min(1e-12)
    return matrix


def in_boxes(maps: "Tensor", threshold: float, *, compat_boxes: bool = False) -> "Tensor":
    """The boxes around each connected region of a map.

    Args:
        maps: (P, h, w) in [0, 1].
        threshold: regions are above it; cells that touch at a corner are connected.
        compat_boxes: see `ClipEsSettings`.

    Returns:
        (P, h, w) bool.

    Example:
        >>> import torch
        >>> maps = torch.tensor([[[0.9, 0.0, 0.0], [0.0, 0.9, 0.0], [0.0, 0.0, 0.1]]])
        >>> in_boxes(maps, 0.4).int()
        tensor([[[1, 1, 0],
                 [1, 1, 0],
                 [0, 0, 0]]], dtype=torch.int32)
    """
    import numpy as np
    import torch
    from scipy import ndimage  # type: ignore[import-untyped]

    check_values("maps", maps, 0, 1)
    inside = np.zeros(maps.shape, bool)
    for above, found in zip((maps > threshold).cpu().numpy(), inside, strict=True):
        regions, _ = ndimage.label(above, np.ones((3, 3)))
        for box in ndimage.find_objects(regions):
            found[box] = True
    if compat_boxes:
        inside[:, -1] = inside[:, :, -1] = False
    return torch.from_numpy(inside).to(maps.device)


def spread_in_boxes(attended: "Tensor", maps: "Tensor", inside: "Tensor") -> "Tensor":
    """A A M, A the symmetric Sinkhorn form of attention, whose columns outside of boxes are 0.

    Args:
        attended: (N, N) from patch to patch, at least 0.
        maps: (n, h, w) of one image, N = h w.
        inside: (n, h, w) bool.

    Returns:
        (n, h, w).
    """
    check_dtype("inside", inside.dtype, "bool")
    balanced = sinkhorn(attended)
    balanced = (balanced + balanced.T) / 2
    spread = balanced @ (balanced @ (maps * inside).flatten(1).T)  # no product of matrices
    return spread.T.reshape(maps.shape)


@CAM_METHODS.register(ClipEsSettings)
class ClipEs:
    """What CLIP sees of the image's tags, in words (CLIP-ES, Lin et al., CVPR 2023).

    The score is a softmax over the image's tags and background words, so that the evidence of one
    is held against the others: a map depends on the other tags. The map is GradCAM at the first
    layer norm of the last block, stretched to [0, 1], then spread by attention and stretched again;
    over scales and windows each counts by its probability (see `on_one_scale`).

    The classifier gives the logits alone.
    """

    needs_gradients = True

    def __init__(self, settings: ClipEsSettings) -> None:
        self.settings = settings
        self.clip = Clip(settings)
        count = self.clip.check_layers(settings.attention_layers, "attention_layers")
        self.first_averaged = len(self.clip.blocks) - count

    def __call__(
        self, model: "Classifier", images: "Tensor", rows: "Tensor", columns: "Tensor"
    ) -> "tuple[Tensor, Tensor]":
        import torch

        settings, clip = self.settings, self.clip.to(images.device)
        with torch.no_grad():
            logits = model(images).logits
        if not len(rows):
            return images.new_zeros(0, *clip.grid(images)), logits
        chosen, rows = torch.unique(rows, return_inverse=True)
        images = images[chosen]
        tokens, attended = self._before_the_last(model, images)
        texts = clip.texts(model.class_names)
        present = torch.ones(len(images), len(texts), dtype=torch.bool, device=images.device)
        present[:, : len(model.class_names)] = False
        present[rows, columns] = True
        with torch.enable_grad():
            last = clip.blocks[-1]
            activations = last.ln_1(tokens).requires_grad_()
            queries, keys, values = clip.heads(last, activations)
            weights = attention(queries, keys)
            tokens = clip.fed_forward(last, tokens + clip.attended(last, weights @ values))
            features = clip.project(tokens[:, 1:]).mean(dim=1)
            scores = clip.logit_scale * clip.cosines(features, texts)
            odds = log_odds(scores, present)[rows, columns]
            maps = self._grad_cams(odds, activations, rows).reshape(-1, *clip.grid(images))
        maps = stretched(maps)
        if settings.affinity:
            attended += weights.detach()[:, :, 1:, 1:].float().mean(dim=1)  # a sum does as a mean
            inside = in_boxes(maps, settings.box_threshold, compat_boxes=settings.compat_boxes)
            counts = rows.bincount(minlength=len(images)).tolist()
            per_image = (torch.split(values, counts) for values in (maps, inside))
            parts = zip(attended, *per_image, strict=True)
            maps = stretched(torch.cat([spread_in_boxes(*part) for part in parts]))
        return on_one_scale(maps, odds.detach().sigmoid()), logits

    def _before_the_last(self, model: "Classifier", images: "Tensor") -> "tuple[Tensor, Tensor]":
        """(B, N, D) tokens ahead of the last block, and the sum of patches' attention so far."""
        import torch

        clip = self.clip
        with torch.no_grad():
            tokens = clip.embed(model, images)
            count = tokens.shape[1] - 1
            attended = tokens.new_zeros(len(tokens), count, count, dtype=torch.float32)
            for index, block in enumerate(clip.blocks[:-1]):
                queries, keys, values = clip.heads(block, block.ln_1(tokens))
                weights = attention(queries, keys)
                if self.settings.affinity and index >= self.first_averaged:
                    attended += weights[:, :, 1:, 1:].float().mean(dim=1)
                tokens = clip.fed_forward(block, tokens + clip.attended(block, weights @ values))
        return tokens, attended

    def _grad_cams(self, odds: "Tensor", activations: "Tensor", rows: "Tensor") -> "Tensor":
        """(P, N) GradCAM of patches; slot j takes the j-th class of every image at once."""
        import torch

        from wsss.cam.grad_cam import grad_cam_maps

        maps = activations.new_zeros(len(rows), activations.shape[1] - 1, dtype=torch.float32)
        slot = torch.arange(len(rows), device=rows.device) - torch.searchsorted(rows, rows)
        for j in range(int(slot.max()) + 1):
            pairs = (slot == j).nonzero().squeeze(1)
            (gradient,) = torch.autograd.grad(odds[pairs].sum(), activations, retain_graph=True)
            at, patches = rows[pairs], activations.detach()[:, 1:].float()
            found = grad_cam_maps(
                patches[at].mT[:, :, None], gradient[at, 1:].float().mT[:, :, None]
            )
            maps[pairs] = found[:, 0]
        return maps
