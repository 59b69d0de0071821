"""What stands in one row of a panel: an image, and what columns show of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from wsss.artifacts import Sample, has_file, read_image, read_label_png, read_score_map
from wsss.evaluate.ground_truth import read_ground_truth
from wsss.report.overlays import mask_above, outline, overlay_mask, overlay_scores

__all__ = ["CELL", "PanelColumn", "choose_samples", "ground_truth_of", "row_cells"]

# all in pixels: height, width
CELL = (168, 216)
DRAWN = (672, 864)  # larger images are made smaller before anything is laid over them


@dataclass(frozen=True)
class PanelColumn:
    """One column of a panel.

    Attributes:
        title: what stands above it.
        kind: scores (.npz), mask (.png), or ground_truth, whose outline all columns show.
        folder: where the files are, named after the samples (ground truth: as the manifest
            says). A file that is missing leaves its cell empty.
        threshold: of scores; given one, the classes above it are shown instead, as a mask.
    """

    title: str
    kind: Literal["scores", "mask", "ground_truth"]
    folder: Path
    threshold: float | None = None

    def file(self, sample: Sample) -> Path | None:
        """The sample's file, None when it is not there."""
        name = f"{sample.name}{'.npz' if self.kind == 'scores' else '.png'}"
        if self.kind == "ground_truth":
            if sample.mask is None:
                return None
            name = sample.mask
        path = self.folder / name
        return path if has_file(path) else None


def choose_samples(samples: Sequence[Sample], number: int) -> list[Sample]:
    """Pick images for a panel by their tags alone, so that every run shows the same ones.

    Each next image is the one that adds most classes not seen yet, then most tags not seen
    twice, and so on; the first by order on ties. The result keeps the given order.
    """
    seen: dict[int, int] = {}
    left = list(range(len(samples)))
    chosen: list[int] = []
    while left and len(chosen) < number:
        gain = [
            sum(2.0 ** (-8 * seen.get(known, 0)) for known in samples[at].class_ids) for at in left
        ]
        best = left.pop(int(np.argmax(gain)))
        chosen.append(best)
        for class_id in samples[best].class_ids:
            seen[class_id] = seen.get(class_id, 0) + 1
    return [samples[at] for at in sorted(chosen)]


def ground_truth_of(masks: Path, sample: Sample, num_fg_classes: int) -> np.ndarray | None:
    """The ground truth of a sample, (H, W) uint8, to be shown beside results; None without one.

    Args:
        masks: the folder of ground-truth masks.
        sample: of the image.
        num_fg_classes: K.
    """
    if sample.mask is None or not has_file(masks / sample.mask):
        return None
    return read_ground_truth(masks / sample.mask, sample.size, num_fg_classes)


def row_cells(
    images: Path, sample: Sample, columns: Sequence[PanelColumn], num_fg_classes: int
) -> list[Image.Image | None]:
    """Draw the image, then what each column shows of it; None where there is no file.

    Where a column shows the ground truth, its outline is white in all of them but the image.

    Args:
        images: the folder of prepared images.
        sample: of the row.
        columns: left to right.
        num_fg_classes: K, of the ground truth.

    Returns:
        One picture more than columns, each just as large as `CELL` admits.
    """
    image = _drawn(read_image(images / sample.image), Image.Resampling.LANCZOS)
    pictures: list[np.ndarray | None] = [image]
    edge = None
    for column in columns:
        path = column.file(sample)
        if path is None:
            pictures.append(None)
        elif column.kind == "scores":
            score_map = replace(read_score_map(path), size=image.shape[:2])
            if column.threshold is None:
                pictures.append(overlay_scores(image, score_map))
            else:
                pictures.append(overlay_mask(image, mask_above(score_map, column.threshold)))
        else:
            if column.kind == "mask":
                mask = read_label_png(path)
            else:
                mask = read_ground_truth(path, sample.size, num_fg_classes)
                edge = outline(np.asarray(_fitted(mask, Image.Resampling.NEAREST)))
            pictures.append(overlay_mask(image, _drawn(mask, Image.Resampling.NEAREST)))
    cells: list[Image.Image | None] = []
    for at, picture in enumerate(pictures):
        cell = None if picture is None else _fitted(picture, Image.Resampling.LANCZOS)
        if cell is not None and at > 0 and edge is not None:
            pixels = np.array(cell)
            pixels[edge] = 255
            cell = Image.fromarray(pixels)
        cells.append(cell)
    return cells


def _fitted(
    picture: np.ndarray, resample: Image.Resampling, into: tuple[int, int] = CELL
) -> Image.Image:
    """Resize a picture so that it just fits into (height, width)."""
    height, width = picture.shape[:2]
    scale = min(into[0] / height, into[1] / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Image.fromarray(picture).resize(size, resample)


def _drawn(picture: np.ndarray, resample: Image.Resampling) -> np.ndarray:
    """A picture at the size in which it is drawn on."""
    if picture.shape[0] <= DRAWN[0] and picture.shape[1] <= DRAWN[1]:
        return picture
    return np.asarray(_fitted(picture, resample, DRAWN))
