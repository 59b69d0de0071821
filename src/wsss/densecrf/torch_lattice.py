"""The permutohedral lattice in plain PyTorch: on any device, in float32 or float64.

The counterpart of csrc/permutohedral.cpp for tensors that are not on the CPU. Points of many images
go through it together: an image's number is one more digit of a vertex's key, so that images do not
meet. In float32 the embedding follows the compiled one operation by operation, and so puts every
point into the same simplex.

Splat, blur and slice are each one `embedding_bag`, a gather with weighted sums that needs no
temporary of its own. Nothing is added atomically: the same input gives the same bytes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from wsss.densecrf.torch_frame import Frame, Packing, choose_frame

_MAX_DIM = 255  # of the compiled core, whose keys have eight bits for it
_MOST_CORNERS = 2**31 - 1  # an index of int32
_LONGEST_BAG = 256
"""Points that one thread block may have to add up. Thousands share a vertex in a flat region."""


class BatchKeyError(ValueError):
    """The images cannot share a lattice: their points lie far out, or their keys are long."""


@dataclass(frozen=True)
class TorchLattice:
    """A lattice over the points of one or several images. Build it with `TorchLattice.build`.

    Values are contiguous rows: (P, C) for P points, (M, C) for M vertices, in the dtype of the
    weights: strided ones take another path of `embedding_bag`, slower and rounding otherwise.
    Indices are int32.
    """

    vertex: Tensor
    """(P, d + 1): the corners of each point's simplex."""
    slice_weight: Tensor
    """(P, d + 1): their barycentric weights, times alpha = 1 / (1 + 2^-d), the blur's gain."""
    splat_point: Tensor
    """(E,): the points of each vertex, vertex by vertex."""
    splat_weight: Tensor
    """(E,): their barycentric weights."""
    bag_start: Tensor
    """(S,): where in `splat_point` each bag begins. A bag holds points of one vertex."""
    vertex_start: Tensor | None
    """(M,): each vertex's first bag, or None if each has one."""
    neighbours: Tensor
    """(d + 1, M, 3): on each axis a vertex, the one before and the one after."""
    blur_weight: Tensor
    """(d + 1, M, 3): 1, 1/2, 1/2, and 0 for a neighbour that is missing."""

    @classmethod
    @torch.no_grad()
    def build(
        cls,
        features: Tensor,
        sizes: Sequence[int],
        *,
        phantom_points: bool = False,
        from_zero: bool = False,
    ) -> "TorchLattice":
        """The lattice of the features' points.

        Waits for the device three times, whatever the number of images; more often for keys of
        several words.

        Args:
            features: (d, P) float32 or float64, d in 1..255, each divided by its sigma; the points
                of all images, one image after another.
            sizes: points of each image, at least 1 each, P in all.
            phantom_points: also create the vertices around the origin of every image whose number
                of points is not a multiple of 4, see `dense_crf`.
            from_zero: bound every component as if it began at 0, as the compiled core does with
                pixels.

        Raises:
            BatchKeyError: the images need a lattice each; so only with several.
            ValueError: there are too many components or points, a feature is not finite, or the
                features span 2^40 lattice cells, some 10^12 sigmas.

        References:
            Adams, Baek & Davis, Fast High-Dimensional Filtering Using the Permutohedral Lattice,
            2010, section 3.
        """
        dim, n_points = features.shape
        corners = dim + 1
        if not 1 <= dim <= _MAX_DIM:
            raise ValueError(f"features must have 1 to {_MAX_DIM} components but have {dim}")
        padded = [n for n in sizes if n % 4 != 0] if phantom_points else []
        most = _MOST_CORNERS // corners - len(padded)
        if not 1 <= n_points <= most:
            raise ValueError(
                f"a lattice of {dim} dimensions takes 1 to {most} points but got {n_points}; "
                f"split the image into tiles"
            )
        device, dtype = features.device, features.dtype
        low, high = _bounds(features)
        if from_zero:
            low = [0.0] * dim
        frame = choose_frame(low, high, double=dtype == torch.float64)
        packing = Packing.of(frame, len(sizes))
        if len(sizes) > 1 and not (frame.is_usual and packing.count == 1):
            raise BatchKeyError(f"{len(sizes)} images need a lattice each")

        image = torch.repeat_interleave(
            torch.arange(len(sizes), device=device),
            _on_device(sizes, device),
            output_size=n_points,
        )
        if padded and frame.phantoms:
            hosts = [i for i, n in enumerate(sizes) if n % 4 != 0]
            features = torch.cat([features, features.new_zeros(dim, len(hosts))], dim=1)
            image = torch.cat([image, _on_device(hosts, device)])
        if not frame.is_usual:
            origin = torch.tensor(frame.origin, dtype=torch.float64).to(device).unsqueeze(1)
            features = (features - origin).to(torch.float64 if frame.far else dtype)
        weight, words = _embed(features, frame, packing)
        weight = weight.to(dtype)
        weight[n_points:] = 0
        words[0] += (image * (corners * packing.remainder)).unsqueeze(1)
        words = [word.flatten() for word in words]
        levels, keys = _levels(words)

        # Equal keys side by side, the points of each in their order.
        keys, order = torch.sort(keys, stable=True)
        is_first = torch.ones_like(keys, dtype=torch.bool)
        torch.ne(keys[1:], keys[:-1], out=is_first[1:])
        first = is_first.nonzero().squeeze(1)  # (M,)
        keys_of_vertices = keys[first]
        vertex_of_entry = is_first.cumsum(0) - 1
        vertex = torch.empty_like(order, dtype=torch.int32)
        vertex.scatter_(0, order, vertex_of_entry.int())

        # A vertex's points, in bags of at most _LONGEST_BAG.
        rank = torch.arange(len(order), device=device) - first[vertex_of_entry]
        starts_bag = rank % _LONGEST_BAG == 0
        bag_start = starts_bag.nonzero().squeeze(1)
        vertex_start = None
        if len(bag_start) > len(first):
            vertex_start = (starts_bag.cumsum(0) - 1)[first].int()

        words_of_vertices = [word[order[first]] for word in words]
        levels.append((keys_of_vertices, None))
        neighbours, blur_weight = _neighbours(words_of_vertices, levels, packing, dtype)
        return cls(
            vertex=vertex.view(-1, corners)[:n_points],
            slice_weight=weight[:n_points] * (1 / (1 + 2.0**-dim)),
            # Phantoms have no values; their weight is 0, whatever is read.
            splat_point=(order // corners).clamp_(max=n_points - 1).int(),
            splat_weight=weight.flatten()[order],
            bag_start=bag_start.int(),
            vertex_start=vertex_start,
            neighbours=neighbours,
            blur_weight=blur_weight,
        )

    @property
    def n_vertices(self) -> int:
        """M."""
        return self.neighbours.shape[1]

    @torch.no_grad()
    def filter(self, values: Tensor) -> Tensor:
        """Filter the rows of `values`, (P, C), with the lattice's Gaussian: (P, C)."""
        return self.slice(self.blur(self.splat(values)))

    def splat(self, values: Tensor) -> Tensor:
        """(P, C) to (M, C): each vertex's weighted sum over its points."""
        vertices = _weighted_sums(values, self.splat_point, self.splat_weight, self.bag_start)
        if self.vertex_start is None:
            return vertices
        bags = torch.arange(len(vertices), dtype=torch.int32, device=vertices.device)
        return _weighted_sums(vertices, bags, torch.ones_like(vertices[:, 0]), self.vertex_start)

    def blur(self, vertices: Tensor) -> Tensor:
        """[1/2 1 1/2] along one axis after another, (M, C)."""
        for neighbours, weight in zip(self.neighbours, self.blur_weight, strict=True):
            vertices = _weighted_sums(vertices, neighbours, weight)
        return vertices

    def slice(self, vertices: Tensor) -> Tensor:
        """(M, C) to (P, C): each point's weighted sum over its corners."""
        return _weighted_sums(vertices, self.vertex, self.slice_weight)

    def scaled(self, before: Tensor, after: Tensor) -> "TorchLattice":
        """The filter that multiplies by `before` first and by `after` last, (P,) each."""
        return replace(
            self,
            splat_weight=self.splat_weight * before[self.splat_point],
            slice_weight=self.slice_weight * after.unsqueeze(1),
        )


@torch.no_grad()
def filter_batch(features: Tensor, values: Tensor, *, phantom_points: bool = False) -> Tensor:
    """`bilateral_filter` of a batch, on the tensors' own device.

    Args:
        features: (B, d, N) float32 or float64.
        values: (B, C, N) of the same dtype, finite.
        phantom_points: see `TorchLattice.build`.

    Returns:
        (B, C, N), contiguous.

    Raises:
        ValueError: as `TorchLattice.build`.
    """
    n_images, n_channels, n_points = values.shape
    if n_images == 0:
        return torch.empty_like(values)
    points = features.transpose(0, 1).flatten(1)  # (d, B * N)
    try:
        lattice = TorchLattice.build(points, [n_points] * n_images, phantom_points=phantom_points)
    except BatchKeyError:
        pairs = zip(features, values, strict=True)
        return torch.cat(
            [filter_batch(f[None], v[None], phantom_points=phantom_points) for f, v in pairs]
        )
    rows = values.transpose(1, 2).reshape(-1, n_channels).contiguous()  # (B * N, C)
    filtered = lattice.filter(rows)
    return filtered.view(n_images, n_points, n_channels).transpose(1, 2).contiguous()


def _on_device(numbers: Sequence[int], device: torch.device) -> Tensor:
    """(len(numbers),) int64, without waiting for what the device is doing."""
    return torch.tensor(numbers).to(device, non_blocking=True)


def _bounds(features: Tensor) -> tuple[list[float], list[float]]:
    """Least and greatest value of each component, (d,) each.

    Raises:
        ValueError: a feature is not finite.
    """
    low, high = torch.stack(features.aminmax(dim=1)).tolist()  # NaN if there is one
    if not all(map(math.isfinite, low + high)):
        component, point = (~torch.isfinite(features)).nonzero()[0].tolist()
        raise ValueError(
            f"features must be finite but component {component} of point {point} is "
            f"{float(features[component, point])}"
        )
    return low, high


def _embed(features: Tensor, frame: Frame, packing: Packing) -> tuple[Tensor, list[Tensor]]:
    """Barycentric weights, and the words of the keys, of each point's corners, (P, d + 1) each.

    Every line is one rounded operation, in the order of `embed_lanes` in csrc: rounding decides the
    simplex of a point on a boundary. So no addcmul, no alpha=, which may fuse two into one.
    """
    dim, n_points = features.shape
    corners = dim + 1
    if features.dtype == torch.float32:
        per_corner = float(np.float32(1) / np.float32(corners))
    else:
        per_corner = 1 / corners

    # Elevate onto the hyperplane of zero sum.
    elevated = features.new_empty(corners, n_points)
    total = features.new_zeros(n_points)
    for j in range(dim, 0, -1):
        scaled = features[j - 1] * frame.scale[j - 1]
        elevated[j] = total - scaled * j
        total = total + scaled
    elevated[0] = total

    # The nearest point whose coordinates are multiples of d + 1, then each coordinate's rank by
    # its distance from that point.
    quotient = torch.round(elevated * per_corner)  # ties to even
    distance = elevated - quotient * corners
    rank = torch.stack(
        [
            (distance[:i] >= distance[i]).sum(0) + (distance[i + 1 :] > distance[i]).sum(0)
            for i in range(corners)
        ]
    )
    rank += quotient.sum(0).long()
    del distance

    # Where the rounded point missed the hyperplane, move its extreme coordinates back.
    shift = (rank < 0).long() - (rank > dim).long()
    rank += shift * corners
    quotient = quotient + shift
    offset = elevated - quotient * corners
    ranked = torch.empty_like(offset).scatter_(0, rank, offset * per_corner)
    del elevated, offset, shift

    # Barycentric weights are differences of neighbouring distances (proposition 4.2).
    weight = [ranked[dim] + (1 - ranked[0])]
    weight += [ranked[dim - k] - ranked[dim - k + 1] for k in range(1, corners)]

    # From corner r - 1 to corner r every coordinate grows by one, except that the one of rank
    # d + 1 - r falls by d: its quotient drops as the remainder grows.
    words = []
    for places, remainder in _steps(packing):
        place = _on_device(places, features.device).unsqueeze(1)
        lowest = _on_device([*frame.lowest, 0], features.device).unsqueeze(1)
        place_of_rank = torch.empty_like(rank).scatter_(0, rank, place.expand_as(rank))
        keys = [((quotient.long() - lowest) * place).sum(0)]
        for r in range(1, corners):
            keys.append(keys[-1] + remainder - place_of_rank[corners - r])
        words.append(torch.stack(keys, dim=1))
    return torch.stack(weight, dim=1), words


def _steps(packing: Packing) -> list[tuple[list[int], int]]:
    """For each word: the place values of the quotients there, and that of the remainder."""
    return [
        (
            [p if w == word else 0 for p, w in zip(packing.places, packing.words, strict=True)],
            packing.remainder if word == 0 else 0,
        )
        for word in range(packing.count)
    ]


Level = tuple[Tensor, Tensor | None]
"""The sorted numbers of what comes before a word, and of the word; the latter None at the end."""


def _levels(words: list[Tensor]) -> tuple[list[Level], Tensor]:
    """One number for each key, equal for equal keys, and how it comes about, word by word."""
    levels: list[Level] = []
    keys = words[0]
    for word in words[1:]:
        before, keys = torch.unique(keys, return_inverse=True)
        here, rank = torch.unique(word, return_inverse=True)
        levels.append((before, here))
        keys = keys * len(here) + rank
    return levels, keys


def _find(words: list[Tensor], levels: list[Level]) -> tuple[Tensor, Tensor]:
    """The vertices with these keys, and which of them exist; the number of another if not."""
    keys, exists = words[0], torch.ones_like(words[0], dtype=torch.bool)
    for i, (before, here) in enumerate(levels):
        found = torch.searchsorted(before, keys).clamp_(max=len(before) - 1)
        exists &= before[found] == keys
        keys = found
        if here is not None:
            rank = torch.searchsorted(here, words[i + 1]).clamp_(max=len(here) - 1)
            exists &= here[rank] == words[i + 1]
            keys = keys * len(here) + rank
    return keys, exists


def _neighbours(
    words: list[Tensor], levels: list[Level], packing: Packing, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """`TorchLattice.neighbours` and `.blur_weight` of the vertices with these keys, (M,) a word.

    On axis j the next vertex is one step up in every coordinate but j, which falls by d.
    """
    corners = len(packing.places)
    remainder = words[0] // packing.remainder % corners
    itself = torch.arange(len(words[0]), device=words[0].device)
    half = torch.full_like(words[0], 0.5, dtype=dtype)
    steps = []  # of each word: its places, and a step up and down but for the axis' own coordinate
    for places, unit in _steps(packing):
        wrap = sum(places) - (corners - 1) * unit  # the remainder starts again
        up = torch.where(remainder == corners - 1, wrap, unit)
        down = torch.where(remainder == 0, -wrap, -unit)
        steps.append((places, up, down))
    neighbours, weights = [], []
    for axis in range(corners):
        columns, factors = [itself.int()], [torch.ones_like(half)]
        for wanted in (
            [w + (down + places[axis]) for w, (places, _, down) in zip(words, steps, strict=True)],
            [w + (up - places[axis]) for w, (places, up, _) in zip(words, steps, strict=True)],
        ):
            found, exists = _find(wanted, levels)
            columns.append(torch.where(exists, found, itself).int())
            factors.append(half * exists)
        neighbours.append(torch.stack(columns, dim=1))
        weights.append(torch.stack(factors, dim=1))
    return torch.stack(neighbours), torch.stack(weights)


def _weighted_sums(
    rows: Tensor, indices: Tensor, weights: Tensor, start: Tensor | None = None
) -> Tensor:
    """Sums of weighted rows, one for each row of `indices`, or for each bag that `start` begins."""
    return embedding_bag(indices, rows, start, mode="sum", per_sample_weights=weights)
