"""How far a student's maps or logits are from its teacher's, in the forms of a smoke thesis."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from wsss.methods.objective import present
from wsss.methods.subcategory import soft_distillation

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

__all__ = [
    "DISTANCES",
    "Distance",
    "Transfer",
    "boundary_loss",
    "logits_loss",
    "map_loss",
    "onto_grid_of",
    "randomly_projected",
]

Transfer = Literal["global", "spatial", "channel", "map", "gram", "logits"]
Distance = Literal["cosine", "l1", "l2", "kl"]

DISTANCES: Mapping[Transfer, tuple[Distance, ...]] = {
    "global": ("cosine",),
    "spatial": ("cosine",),
    "channel": ("cosine",),
    "map": ("cosine", "l1", "l2"),
    "gram": ("cosine", "l1", "l2"),
    "logits": ("cosine", "l1", "l2", "kl"),
}
"""What each form can be measured by."""

EPSILON = 1e-6  # of the length of a vector that has a direction
MARGIN = 0.2
"""By how much a student's map may exceed its teacher's away from its edges."""
RADIUS = 3
"""Radius of the band around edges, in cells."""
LEAST_PEAK = 1.0
"""A map whose maximum, a logit, is below it is not stretched up to 1."""


def map_loss(
    student: "Tensor",
    teacher: "Tensor",
    transfer: Transfer,
    distance: Distance = "cosine",
    *,
    all_pairs: bool = False,
) -> "Tensor":
    """The distance between vectors that are read from two maps, averaged over all of them.

    cosine is 1 - cos, in [0, 2]; l1 is the mean of absolute differences; l2 is the Euclidean
    norm of the difference, which grows with the length of the vectors. A vector is

        global   all cells of all channels of an image,
        spatial  the channels of a cell,
        channel  the cells of a channel, compared with those of the same channel,
        map      the cells of the mean over channels,
        gram     the C x C products of channels with one another, over their Frobenius norm.

    With one channel global, channel and map are the same. spatial then only compares signs and
    gram only ones: neither has a gradient.

    Args:
        student: (B, C, h, w).
        teacher: (B, C, h, w); another number of channels will do for `map`, and for `channel`
            with `all_pairs`.
        transfer: any but logits.
        distance: one of `DISTANCES[transfer]`.
        all_pairs: compares each channel with every channel of the other in `channel`.

    Example:
        >>> import torch
        >>> first, other = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0])
        >>> round(float(map_loss(first.view(1, 1, 1, 2), other.view(1, 1, 1, 2), "global")), 4)
        0.2929
    """
    import torch

    with torch.autocast(student.device.type, enabled=False):  # products of the gram matrix
        first, other = (maps.float().flatten(2) for maps in (student, teacher))  # (B, C, h*w)
        if transfer == "global":
            first, other = first.flatten(1), other.flatten(1)
        elif transfer == "spatial":
            first, other = first.transpose(1, 2), other.transpose(1, 2)
        elif transfer == "channel" and all_pairs:
            first, other = first[:, :, None], other[:, None]
        elif transfer == "map":
            first, other = first.mean(dim=1), other.mean(dim=1)
        elif transfer == "gram":
            first, other = _gram(first), _gram(other)
        return _mean_distance(first, other, distance)


def logits_loss(
    student: "Tensor",
    teacher: "Tensor",
    distance: Distance,
    loss: Literal["multi_label", "single_label"],
    temperature: float = 1,
) -> "Tensor":
    """The distance between class scores, averaged over images.

    cosine, l1 and l2 are of the logits, as in `map_loss`; the cosine of one class compares signs
    and has no gradient. kl is `soft_distillation`: for multi_label of the two outcomes of each
    class, which does for one class too; for single_label of a softmax, which of one class is 1
    whatever its logit, so that the loss is 0. The thesis takes the softmax for multi_label too.

    Args:
        student: (B, L) logits.
        teacher: (B, L) logits.
        distance: one of `DISTANCES["logits"]`.
        loss: of the classifier.
        temperature: divides the logits; of kl alone.
    """
    if distance == "kl":
        return soft_distillation(student, teacher, temperature, loss)
    return _mean_distance(student.float(), teacher.float(), distance)


def boundary_loss(student: "Tensor", teacher: "Tensor", labels: "Tensor") -> "Tensor":
    """Holds the student back where it alone sees a class, except around its own edges.

    This term is ours: the thesis announces a boundary-aware removal of spurious correlations,
    but its code has none. With M_S and M_T the maps of tagged classes, cut at 0 and divided by
    their maxima or by LEAST_PEAK, if that is more, and E the band around the edges of M_S,

        mean of (1 - E) ReLU(M_S - M_T - MARGIN) over all cells of all tagged maps
        + mean of KL(M_T || M_S) over the cells of E of all tagged maps, 0 if there are none,

    with the KL of two coins whose chances of heads are M_T and M_S, kept within [0.001, 0.999].
    A cell belongs to an edge if M_S > 0.5 holds in it and not in one of its 8 neighbours, or the
    other way round; the border of the image is no edge. E are the cells within a square of
    RADIUS cells around such a cell. No gradient flows through E.

    Args:
        student: (B, L, h, w).
        teacher: (B, L, h, w).
        labels: (B, L); see `wsss.methods.objective.present`. Without any the loss is 0.
    """
    import torch
    from torch.nn import functional

    tagged = present(labels)[:, :, None, None]
    m_s, m_t = _scaled(student), _scaled(teacher)
    above = (m_s > 0.5).float()
    highest = functional.max_pool2d(above, 3, 1, 1)
    lowest = -functional.max_pool2d(-above, 3, 1, 1)
    near = tagged * functional.max_pool2d(highest - lowest, 2 * RADIUS + 1, 1, RADIUS)  # 0 or 1
    far = tagged - near
    p_s, p_t = (maps.clamp(1e-3, 1 - 1e-3) for maps in (m_s, m_t))
    apart = p_t * (p_t / p_s).log() + (1 - p_t) * ((1 - p_t) / (1 - p_s)).log()
    cells = torch.clamp(tagged.sum() * m_s[0, 0].numel(), min=1)
    alone = (far * (m_s - m_t - MARGIN).relu()).sum() / cells
    loss: Tensor = alone + (near * apart).sum() / torch.clamp(near.sum(), min=1)
    return loss


def onto_grid_of(student: "Tensor", teacher: "Tensor") -> "Tensor":
    """The student's map as float32 on the teacher's grid, bilinearly."""
    from torch.nn import functional

    student = student.float()
    if student.shape[2:] == teacher.shape[2:]:
        return student
    return functional.interpolate(student, teacher.shape[2:], mode="bilinear")


def randomly_projected(maps: "Tensor", channels: int, rng: "np.random.Generator") -> "Tensor":
    """(B, C, h, w) to (B, channels, h, w) with the initial weights of a new linear layer."""
    import torch
    from torch.nn import functional

    bound = maps.shape[1] ** -0.5
    drawn = torch.from_numpy(rng.uniform(-bound, bound, (channels, maps.shape[1] + 1))).to(maps)
    return functional.conv2d(maps, drawn[:, :-1, None, None], drawn[:, -1])


def _mean_distance(first: "Tensor", other: "Tensor", distance: Distance) -> "Tensor":
    """The mean distance of vectors that lie along the last dimension."""
    import torch
    from torch.nn import functional

    if distance == "cosine":
        return 1 - functional.cosine_similarity(first, other, dim=-1, eps=EPSILON).mean()
    if distance == "l1":
        return (first - other).abs().mean()
    lengths: Tensor = torch.linalg.vector_norm(first - other, dim=-1)
    return lengths.mean()


def _gram(channels: "Tensor") -> "Tensor":
    """(B, C, n) to (B, C * C) of length 1."""
    from torch.nn import functional

    products = channels @ channels.transpose(1, 2)
    return functional.normalize(products.flatten(1), dim=1)


def _scaled(maps: "Tensor") -> "Tensor":
    """Maps cut at 0 and divided by their maxima, in [0, 1]; see `LEAST_PEAK`."""
    from wsss.models.pooling import peaks

    maps = maps.float().relu()
    return maps / peaks(maps, LEAST_PEAK)
