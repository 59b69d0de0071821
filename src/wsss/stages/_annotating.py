"""Annotations from the settings to data/annotations, and what is said of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wsss.artifacts import Annotations, Manifest, Sample
from wsss.checks import full_key
from wsss.config.params import Params
from wsss.data import RawDataset, RawSample
from wsss.data.images import PixelRules
from wsss.stages._annotation_checks import check_annotations
from wsss.stages._annotation_parts import (
    KINDS,
    LABELLED,
    AnnotatedPart,
    annotated_parts,
    takes_masks,
)
from wsss.stages._annotations import Placing
from wsss.stages._corrected import Corrected
from wsss.stages._preparation import Turning

__all__ = ["Annotating", "annotation_lines", "check_given", "takes_masks"]


def check_given(
    parts: Mapping[str, AnnotatedPart], params: Params, corrected: Sequence[RawSample]
) -> None:
    """Raise ValueError where the segmenter is to learn from what nobody gave, before long work.

    Args:
        parts: by kind, the images that have it.
        params: of the project.
        corrected: the training images whose masks people have corrected.
    """
    drawn = {kind for kind, part in parts.items() if part.drawn.get("train")}
    params.train_segmenter.check_given(
        masks="masks" in drawn or bool(corrected),
        seeds=not drawn.isdisjoint(("points", "scribbles")),
    )


class Annotating:
    """Draws the images that get annotations and checks these; then places them.

    Args:
        lists: the images of train, selection and val.
        raw: the data set.
        params: of the project.
        rules: how pixels become 8-bit RGB.
        corrected: the images whose masks people have corrected.

    Attributes:
        warnings: what a person must know of what was placed.

    Raises:
        ValueError: no image can have what is asked for, or something given does not fit.
    """

    def __init__(
        self,
        lists: Mapping[str, Sequence[RawSample]],
        raw: RawDataset,
        params: Params,
        rules: PixelRules,
        corrected: Corrected,
    ) -> None:
        self.settings = params.prepare_data
        self.class_names, self.tags_from_masks = raw.class_names, raw.tags_from_masks
        self.corrected = corrected
        self.warnings = [*corrected.warnings]
        self.parts = annotated_parts(lists, raw, self.settings, params.base.rng_seed)
        self.frames = check_annotations(
            self.parts,
            raw.class_names,
            rules,
            ignores_denied=raw.tags_from_masks or self.settings.contradicting_masks == "warn",
        )
        check_given(self.parts, params, corrected.samples.get("train", ()))
        self._boxes: Mapping[str, Sequence[object]] = {}

    def place(
        self,
        prepared: Mapping[str, Sequence[Sample]],
        turning: Turning | None,
        masks: Path,
        given: Path,
        partial: Path,
        *,
        packed: bool = False,
    ) -> dict[str, list[Sample]]:
        """Write data/annotations of the prepared, and perhaps shrunken, images of each list.

        Args:
            prepared: by list.
            turning: how masks of images that EXIF turns were taken.
            masks: the folder of placed masks.
            given: where masks to learn from are written.
            partial: where the rest is written.
            packed: whether the files of images are packed.

        Returns:
            The lists, in which what was drawn has settled what nobody was certain of.

        Raises:
            ValueError: no image is left of those that were drawn, or points contradict scribbles.
        """
        way = self.settings.turned_masks
        if way == "auto":
            way = "upright" if turning and turning.way == "upright" else "stored"
        annotations = Annotations(given, partial)
        placing = Placing(
            self.parts,
            self.class_names,
            self.frames,
            way,
            masks,
            annotations,
            self.corrected,
            self.tags_from_masks,
            packed,
        )
        samples = [sample for name in LABELLED for sample in prepared[name]]
        self._check_any(samples)
        annotations, denied = placing.all(samples)
        self._boxes = annotations.boxes
        if denied and not self.tags_from_masks:
            self.warnings.append(
                f"{len(denied)} masks to learn from show classes that the tags of their images "
                f"deny, such as that of '{denied[0]}': those pixels are ignored; mend whichever is "
                "wrong"
            )
        return {
            name: [
                annotations.settled(sample) if sample.uncertain and name in LABELLED else sample
                for sample in samples
            ]
            for name, samples in prepared.items()
        }

    def _check_any(self, kept: Sequence[Sample]) -> None:
        names = {sample.name for sample in kept}
        for kind, part in self.parts.items():
            lost = [sample.name for sample in part.samples if sample.name not in names]
            if len(lost) == len(part.samples):
                raise ValueError(
                    f"none of the {len(lost)} images that {full_key(KINDS[kind])} draws can be "
                    f"used, such as '{lost[0]}'; set {full_key('on_bad_image')} to error to see "
                    "why, or draw more"
                )

    def report(self, manifest: Manifest) -> dict[str, Any]:
        """Per kind and split: how many images have it, of how many that could, of which classes.

        Nothing where no annotations are asked for.
        """
        report: dict[str, Any] = {}
        for kind, part in self.parts.items():
            report[kind] = {}
            for split in LABELLED:
                names = {sample.name for sample in part.drawn[split]}
                samples = [sample for sample in manifest.splits[split] if sample.name in names]
                counts = manifest.labels(samples).sum(0).astype(int).tolist()
                report[kind][split] = {
                    "images": len(samples),
                    "available": part.available[split],
                    "without_tag": sum(not sample.class_ids for sample in samples),
                    "images_per_class": dict(zip(manifest.class_names, counts, strict=True)),
                }
                if kind == "boxes":
                    boxes = sum(len(self._boxes.get(sample.name, ())) for sample in samples)
                    report[kind][split]["boxes"] = boxes
        drawn = self.parts["masks"].drawn if "masks" in self.parts else {}
        too = {sample.name for split in LABELLED for sample in drawn.get(split, ())}
        return ({"annotations": report} if report else {}) | self.corrected.report(too)


def annotation_lines(report: Mapping[str, Any]) -> list[str]:
    """What the stage says of its annotations, one line per kind and split."""
    lines = []
    if "corrections" in report:
        counts = report["corrections"]
        people = [f"{who} {n}" for who, n in counts["by"].items()]
        lines.append(
            f"corrected masks of {counts['train']} train and {counts['selection']} selection "
            f"images, by {', '.join(people[:20])}" + ", and others" * (len(people) > 20)
        )
    for kind, splits in report.get("annotations", {}).items():
        for split, counts in splits.items():
            classes = [f"{name} {n}" for name, n in counts["images_per_class"].items() if n]
            classes = classes[:20] + [f"and {len(classes) - 20} more classes"] * (len(classes) > 20)
            if counts["without_tag"]:
                classes.append(f"without any class {counts['without_tag']}")
            lines.append(
                f"{kind} of {counts['images']} of {counts['available']} {split} images"
                + (f": {', '.join(classes)}" if classes else "")
            )
    return lines
