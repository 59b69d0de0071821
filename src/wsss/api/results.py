"""What the functions give: score maps and label masks of images, which draw and save themselves."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wsss.api.drawing import cells_of, png_bytes, shown_size
from wsss.api.pictures import OneImage, Picture, picture_list
from wsss.api.project import Project
from wsss.artifacts import IGNORE_INDEX, ScoreMap, write_label_png, write_score_map
from wsss.artifacts.background import usual_threshold
from wsss.checks import check_shape, check_values, did_you_mean
from wsss.report.overlays import overlay_mask, overlay_scores

__all__ = ["Maps", "Mask", "Origin"]


@dataclass(frozen=True)
class Origin:
    """Where maps come from, which says what suits them.

    Attributes:
        project: of the classifier; None of one that lies in none.
        chain: of that project's refine.chains that they came through as they were; None of maps
            that its generate_cams makes, "" of all others.
        threshold: the score above which they show a class, as far as is known.
    """

    project: Project | None = None
    chain: str | None = ""
    threshold: float = usual_threshold(())


@dataclass(frozen=True, eq=False)
class Maps:
    """Scores of classes at each place of an image, such as class activation maps.

    `maps["cat"]` is the map of a class at `scores.size`: the image's own, unless it is larger than
    prepare_data of the project admits, and shrunk. A notebook shows the picture of
    `plot`.

    Attributes:
        picture: the image.
        scores: of the classes present, on a grid of any size; see `wsss.artifacts.ScoreMap`.
        class_names: of all K classes; class id c is class_names[c - 1].
        has_background: whether a pixel may show none of the classes.
        origin: where they come from.
    """

    picture: Picture
    scores: ScoreMap
    class_names: tuple[str, ...]
    has_background: bool = True
    origin: Origin = field(default_factory=Origin)

    @classmethod
    def of(
        cls, image: OneImage, scores: Mapping[str, np.ndarray], *, background: bool = True
    ) -> "Maps":
        """Maps that were made elsewhere.

        Args:
            image: that they are of.
            scores: by name of the class, (h, w) in [0, 1], all on one grid.
            background: whether a pixel may show none of the classes.

        Raises:
            ValueError: the scores are not as above.

        Example:
            >>> image = np.zeros((20, 30, 3), np.uint8)
            >>> Maps.of(image, {"cat": np.eye(2), "dog": np.ones((2, 2))}).tags
            ('cat', 'dog')
        """
        (picture,), _ = picture_list([image])
        arrays = {name: np.asarray(values, np.float32) for name, values in scores.items()}
        for name, values in arrays.items():
            check_shape(f"scores['{name}']", values.shape, ("h", "w"))
            check_shape(f"scores['{name}']", values.shape, next(iter(arrays.values())).shape)
            check_values(f"scores['{name}']", values, 0, 1)
        stack = np.stack(list(arrays.values())) if arrays else np.zeros((0, 1, 1), np.float32)
        ids = np.arange(1, len(arrays) + 1, dtype=np.uint8)
        height, width = picture.pixels().shape[:2]
        found = ScoreMap(ids, stack, (height, width), np.ones(len(ids), np.float32))
        return cls(picture, found, tuple(arrays), background)

    def __repr__(self) -> str:
        known = ", ".join(f"{name} {prob:.2f}" for name, prob in self.probs.items()) or "no class"
        height, width = self.scores.size
        return f"<Maps of '{self.name}', {height} x {width} pixels: {known}>"

    @property
    def name(self) -> str:
        """Of the image."""
        return self.picture.name

    @property
    def tags(self) -> tuple[str, ...]:
        """The names of the classes that have a map."""
        return tuple(self.class_names[number - 1] for number in self.scores.class_ids)

    @property
    def probs(self) -> dict[str, float]:
        """What the classifier thinks of each of these, in [0, 1]."""
        return dict(zip(self.tags, self.scores.class_probs.tolist(), strict=True))

    def __getitem__(self, name: str) -> np.ndarray:
        """(H, W) float32 in [0, 1]: the map of a class at `scores.size`."""
        if name not in self.tags:
            has = did_you_mean(name, self.tags) if self.tags else "there are none"
            raise KeyError(f"no map is of '{name}'; {has}")
        full: np.ndarray = self._only(self.tags.index(name)).full_scores()[0]
        return full

    def plot(self) -> Image.Image:
        """Draw the image and, beside it, the map of each class over it."""
        classes = list(zip(self.scores.class_ids.tolist(), self.tags, strict=True))
        return cells_of(self.cells(), classes)

    def cells(self) -> list[tuple[str, np.ndarray]]:
        """What `plot` lays out: the image, then each class's map over it.

        Returns:
            Their titles, and (h, w, 3) uint8 of one size.
        """
        pixels = _shrunk(self.picture.pixels())
        cells = [(self.name, pixels)]
        for at, (name, prob) in enumerate(self.probs.items()):
            one = replace(self._only(at), size=pixels.shape[:2])
            cells.append((f"{name} ({prob:.2f})", overlay_scores(pixels, one)))
        return cells

    def _only(self, at: int) -> ScoreMap:
        """The scores of one class, by its place among `tags`."""
        return replace(
            self.scores,
            class_ids=self.scores.class_ids[at : at + 1],
            scores=self.scores.scores[at : at + 1],
            class_probs=self.scores.class_probs[at : at + 1],
        )

    def save(self, path: str | Path) -> Path:
        """Write them as .npz, as the pipeline has maps; `wsss.artifacts.read_score_map` reads it.

        Each score becomes one of 256 levels between 0 and the greatest of its class.

        Returns:
            The file.

        Raises:
            ValueError: the name ends otherwise.
        """
        file = _named(path, ".npz", "maps are", "; maps.plot().save(...) writes their picture")
        write_score_map(file, self.scores)
        return file

    def _repr_png_(self) -> bytes:
        return png_bytes(self.plot())


@dataclass(frozen=True, eq=False)
class Mask:
    """The class of each pixel of an image: a prediction, or what maps come to.

    `mask["cat"]` is where a class is. A notebook shows the picture of `plot`; NumPy takes it as the
    array of `labels`.

    Attributes:
        picture: the image.
        labels: (H, W) uint8: 0 for the background, c for class_names[c - 1], 255 where it is
            ignored.
        class_names: of all K classes.
        probs: (K + 1, H, W) float32 of the background and all classes, where they were asked for.
        threshold: the score above which maps became a class; None of a prediction.
        has_background: whether a pixel may show none of the classes.
    """

    picture: Picture
    labels: np.ndarray
    class_names: tuple[str, ...]
    probs: np.ndarray | None = None
    threshold: float | None = None
    has_background: bool = True

    def __repr__(self) -> str:
        known = ", ".join(f"{name} {share:.1%}" for name, share in self.shares.items())
        height, width = self.labels.shape
        return f"<Mask of '{self.name}', {height} x {width} pixels: {known}>"

    @property
    def name(self) -> str:
        """Of the image."""
        return self.picture.name

    @property
    def tags(self) -> tuple[str, ...]:
        """The names of the classes that are there."""
        return tuple(name for name in self.shares if name not in ("background", "ignored"))

    @property
    def shares(self) -> dict[str, float]:
        """The share of the pixels by name, of what is there: classes, background and ignored."""
        names = {0: "background", IGNORE_INDEX: "ignored"}
        names |= dict(enumerate(self.class_names, 1))
        values, counts = np.unique(self.labels, return_counts=True)
        found = zip(values.tolist(), (counts / self.labels.size).tolist(), strict=True)
        return {names[value]: share for value, share in found}

    def __getitem__(self, name: str) -> np.ndarray:
        """(H, W) bool: where a class is, or the background."""
        known = ("background", *self.class_names)
        if name not in known:
            raise KeyError(f"no class is named '{name}'; {did_you_mean(name, known)}")
        there: np.ndarray = self.labels == known.index(name)
        return there

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.labels, dtype, copy=copy)

    def plot(self) -> Image.Image:
        """Draw the image and, beside it, the mask over it in the colours of its file."""
        return cells_of(self.cells(), self.legend())

    def cells(self) -> list[tuple[str, np.ndarray]]:
        """What `plot` lays out: the image, and the mask over it; as of `Maps.cells`."""
        pixels = _shrunk(self.picture.pixels())
        height, width = pixels.shape[:2]
        small = Image.fromarray(self.labels).resize((width, height), Image.Resampling.NEAREST)
        return [(self.name, pixels), ("mask", overlay_mask(pixels, np.asarray(small)))]

    def legend(self) -> list[tuple[int, str]]:
        """The class ids and names of what the mask shows, and of what it ignores."""
        there = [(self.class_names.index(name) + 1, name) for name in self.tags]
        return there + ([(IGNORE_INDEX, "ignored")] if "ignored" in self.shares else [])

    def save(self, path: str | Path) -> Path:
        """Write it as a PNG of class ids with a palette, which any program shows in colours.

        Returns:
            The file.

        Raises:
            ValueError: the name ends otherwise.
        """
        file = _named(path, ".png", "a mask is", "; mask.plot().save(...) writes a picture of it")
        write_label_png(file, self.labels)
        return file

    def _repr_png_(self) -> bytes:
        return png_bytes(self.plot())


def _shrunk(pixels: np.ndarray) -> np.ndarray:
    height, width = shown_size((pixels.shape[0], pixels.shape[1]))
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


def _named(path: str | Path, suffix: str, what: str, instead: str) -> Path:
    file = Path(path).expanduser()
    if file.suffix != suffix:
        raise ValueError(f"{what} written as {suffix}, but the name is '{path}'{instead}")
    return file
