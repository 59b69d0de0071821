"""The masks that an audit speaks of, and how many pixels of each class their maker expects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, get_args

import numpy as np

from wsss.artifacts import (
    IGNORE_INDEX,
    Annotations,
    Manifest,
    Paths,
    Sample,
    audited_folder,
    has_file,
    hash_of_masks,
    read_expected,
    read_label_png,
)
from wsss.checks import did_you_mean
from wsss.commands import run_command
from wsss.evaluate import Counts, confusion_matrix
from wsss.evaluate.splits import in_parallel

__all__ = ["KINDS", "Kind", "MaskSet"]

Kind = Literal["predictions", "pseudo_masks"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""What is audited."""

_STAGES = {"predictions": "predict_masks", "pseudo_masks": "make_pseudo_masks"}


@dataclass(frozen=True)
class MaskSet:
    """The images of a split with the masks that were made of them.

    Attributes:
        kind: what made the masks.
        split: whose images they are.
        folder: of <name>.png.
        samples: N images; those whose mask a person gave to the training are left out, as it says
            nothing about the others.
        given: how many these are.
        everyone: the names of all images of the split.
        class_names: K names, without the background.
        has_background: whether a pixel may show none of the classes.
    """

    kind: Kind
    split: str
    folder: Path
    samples: tuple[Sample, ...]
    given: int
    everyone: tuple[str, ...]
    class_names: tuple[str, ...]
    has_background: bool = True

    @classmethod
    def read(cls, paths: Paths, kind: Kind, split: str, folder: Path | None = None) -> Self:
        """Find the masks of a split.

        Args:
            paths: of the project.
            kind: which masks.
            split: of data/splits.
            folder: of masks that lie elsewhere, such as those of another chain; None is where the
                pipeline puts them.

        Raises:
            ValueError: there is no such split, it has no images that are not given, or a mask is
                missing.
        """
        if not (paths.splits / "classes.json").is_file():
            raise ValueError(f"{paths.splits} is not there; run `{run_command(paths.root)}` first")
        manifest = Manifest.read(paths.splits)
        if split not in manifest.splits:
            raise ValueError(f"there is no split '{split}'; {did_you_mean(split, manifest.splits)}")
        if folder is None:
            folder = audited_folder(paths, kind, split)
        given = Annotations.read(paths.annotations).masks
        samples = tuple(one for one in manifest.splits[split] if one.name not in given)
        number = len(manifest.splits[split])
        if not samples:
            reason = f"the masks of all {number} were given to the training" if number else "none"
            raise ValueError(
                f"the split '{split}' has no images to audit: {reason}; take another split"
            )
        missing = [one.name for one in samples if not has_file(folder / f"{one.name}.png")]
        if missing:
            raise ValueError(
                f"{folder} has no mask of {len(missing)} of {len(samples)} images of '{split}', "
                f"such as '{missing[0]}'; run `{run_command(paths.root, _STAGES[kind])}`"
                + (
                    f", with '{split}' among predict_masks.splits"
                    if kind == "predictions" and len(missing) == len(samples)
                    else ""
                )
            )
        return cls(
            kind,
            split,
            folder,
            samples,
            number - len(samples),
            tuple(one.name for one in manifest.splits[split]),
            manifest.class_names,
            manifest.has_background,
        )

    @property
    def hash(self) -> str:
        """By which an interval tells whether it is of these masks; see `hash_of_masks`."""
        return hash_of_masks(self.folder, self.everyone)

    @property
    def all_names(self) -> tuple[str, ...]:
        """Names of classes by their id: the background, then the others."""
        return ("background", *self.class_names)

    def tagged(self) -> np.ndarray:
        """(N, K + 1) bool: the classes that an image may show by its tags, background included."""
        found = np.zeros((len(self.samples), len(self.all_names)), bool)
        found[:, 0] = self.has_background
        for row, sample in zip(found, self.samples, strict=True):
            row[[*sample.class_ids, *(class_id for class_id, _ in sample.uncertain)]] = True
        return found

    def strata(self) -> np.ndarray:
        """(N,) int: the rarest class that each image may show; 0 of those without a tag."""
        tagged = self.tagged()[:, 1:]
        images = tagged.sum(axis=0)
        rarity = np.where(tagged, images, len(tagged) + 1)
        return np.where(tagged.any(axis=1), rarity.argmin(axis=1) + 1, 0)

    def expected(self) -> tuple[Counts, int]:
        """(N, K + 1) each, as of `Audited`; and of how many masks nothing is expected.

        A class that an image is not tagged with is expected nowhere in it. Of a mask whose file
        says nothing, it is taken that all of it is right.

        Raises:
            ValueError: a mask is broken, or of another size or other classes.
        """
        classes = len(self.all_names)

        def count(sample: Sample) -> tuple[np.ndarray, bool]:
            mask, path = self._mask(sample), self.folder / f"{sample.name}.png"
            predicted = np.bincount(mask.ravel(), minlength=256)
            beyond = np.flatnonzero(predicted[classes:IGNORE_INDEX]) + classes
            if beyond.size:
                raise ValueError(
                    f"{path} holds {beyond.tolist()}, but its values are 0..{classes - 1} and "
                    f"{IGNORE_INDEX}; rerun the stage that writes it"
                )
            own = predicted[:classes].astype(float)
            found = read_expected(path)
            shown, correct = (own, own) if found is None else found.arrays(classes)
            return np.stack([np.minimum(correct, own), shown, own]), found is None

        counted = list(in_parallel(count, self.samples))
        pixels = np.array([of_image for of_image, _ in counted]).reshape(-1, 3, classes)
        if not self.has_background:
            pixels[:, :, 0] = 0
        tagged = self.tagged()
        correct, shown, predicted = (pixels[:, part] for part in range(3))
        silent = sum(silent for _, silent in counted)
        return Counts(np.where(tagged, correct, 0), np.where(tagged, shown, 0), predicted), silent

    def found(self, places: Sequence[int], truth: Mapping[str, np.ndarray]) -> Counts:
        """(n, K + 1) each: what the masks of some images are beside a person's.

        Pixels that either ignores are left out, as evaluation leaves them out of pseudo masks.

        Args:
            places: of the images.
            truth: by name, (H, W) uint8.
        """
        classes = len(self.all_names)
        matrices = []
        for place in places:
            sample = self.samples[place]
            matrix = confusion_matrix(truth[sample.name], self._mask(sample), classes)[:, :classes]
            if not self.has_background:
                matrix[:, 0] = 0  # the mask ignores these pixels
                matrix[0] = 0
            matrices.append(matrix)
        stack = np.array(matrices, float).reshape(-1, classes, classes)
        return Counts(stack.diagonal(axis1=1, axis2=2), stack.sum(axis=2), stack.sum(axis=1))

    def _mask(self, sample: Sample) -> np.ndarray:
        path = self.folder / f"{sample.name}.png"
        mask = read_label_png(path)
        if mask.shape != sample.size:
            raise ValueError(
                f"{path} has {mask.shape[0]} x {mask.shape[1]} pixels (height x width), but its "
                f"image has {sample.size[0]} x {sample.size[1]}; rerun the stage that writes it"
            )
        return mask
