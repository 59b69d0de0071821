"""What a proposal was compared with: pictures of it and of the regions nearest to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from wsss.artifacts import Manifest, Sample, read_image
from wsss.segment.retrieval.predictor import RetrievalPredictor, painted

__all__ = ["Evidence", "Neighbour", "evidence"]

BEST = 2
"""Proposals of an image that are shown."""


@dataclass(frozen=True)
class Neighbour:
    """A region of a training image.

    Attributes:
        picture: (h, w, 3) pixels of the image within the region's box.
        class_name: of the region, or "background".
        similarity: to the proposal, in [-1, 1].
    """

    picture: np.ndarray
    class_name: str
    similarity: float


@dataclass(frozen=True)
class Evidence:
    """A proposal that was painted.

    Attributes:
        image: the name of its image.
        picture: (h, w, 3) pixels of the image within the proposal's box, dark outside of it.
        class_name: that it took.
        score: of that; see `Votes`.
        neighbours: the regions that had a vote, from the most similar.
    """

    image: str
    picture: np.ndarray
    class_name: str
    score: float
    neighbours: tuple[Neighbour, ...]


def evidence(
    predictor: RetrievalPredictor, manifest: Manifest, images: Path, samples: Sequence[Sample]
) -> list[Evidence]:
    """Show the proposals with the highest scores, at most two of an image.

    Args:
        predictor: decides as in prediction.
        manifest: of the training images.
        images: the folder of prepared images.
        samples: of whose proposals.
    """
    names = ("background", *manifest.class_names)
    of_name = {sample.name: sample for sample in manifest.splits["train"]}
    index = predictor.model.index
    found = []
    for sample in samples:
        image = read_image(images / sample.image)
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]
        decided = predictor.decide([sample], pixels)[0]
        votes = decided.votes
        for number in decided.shown[::-1][:BEST].tolist():
            inside = painted(decided.proposals, np.array([number]), np.ones_like(votes.class_ids))
            rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
            box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            dark = np.where(inside[box][..., None] > 0, image[box], image[box] // 4)
            neighbours = []
            pairs = zip(votes.rows[number], votes.similarities[number], strict=True)
            for row, similarity in pairs:
                top, left, bottom, right = index.boxes[row].tolist()
                source = read_image(images / of_name[str(index.images[row])].image)
                part = source[top:bottom, left:right]
                name = names[index.class_ids[row]]
                neighbours.append(Neighbour(part, name, float(similarity)))
            found.append(
                Evidence(
                    sample.name,
                    dark,
                    names[votes.class_ids[number]],
                    float(votes.scores[number]),
                    tuple(neighbours),
                )
            )
    return found
