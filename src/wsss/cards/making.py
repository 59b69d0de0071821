"""The card of what a project or a package has."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from wsss import __version__
from wsss.artifacts import Audits, Manifest, Paths, read_json, report_splits
from wsss.cards.card import JSON, Card
from wsss.cards.weights import weights_of, with_licences
from wsss.commands import run_command
from wsss.config.params import Params
from wsss.pipeline.lock import workspace
from wsss.prediction.package import PREDICTION, RECIPE, SEGMENTER
from wsss.stages import find_stages

__all__ = ["DATA", "KINDS", "card_of_package", "card_of_project", "kind_of"]

KINDS = {
    "models/segmenter": ("segmenter", "train_segmenter", "evaluate_segmenter"),
    "models/classifier": ("classifier", "train_classifier", ""),
    "data/pseudo_masks": ("pseudo_masks", "make_pseudo_masks", "evaluate_pseudo_masks"),
    "data/predictions": ("predictions", "predict_masks", "evaluate_segmenter"),
}
"""By its place in a project: what it is, the stage that makes it, and the one that scores it."""

DATA = "data"
"""What `--licence` calls the training images."""

_AUDITED = {
    "segmenter": "predictions",
    "predictions": "predictions",
    "pseudo_masks": "pseudo_masks",
}


def kind_of(place: Path, root: Path) -> str:
    """The key of `KINDS` that a folder of a project is; "" of any other.

    Example:
        >>> kind_of(Path("p/models/segmenter"), Path("p"))
        'models/segmenter'
    """
    for kind in KINDS:
        if place.absolute() == (root / kind).absolute():
            return kind
    return ""


def card_of_project(
    root: Path,
    params: Params,
    place: str = "models/segmenter",
    licences: Mapping[str, str] | None = None,
    data_licence: str = "",
) -> Card:
    """The card of a network or of masks of a project.

    Scores are those of the reports, where these are of what is there, as dvc.lock or the notes of
    `wsss run` say, and of reports/audit.json.

    Args:
        root: the project.
        params: its settings.
        place: one of `KINDS`.
        licences: named by a person, by key or setting of weights; `DATA` is that of the images.
        data_licence: of the images, where it is known of the data set.

    Raises:
        ValueError: there is nothing in the place, or a licence that is known would be replaced.
    """
    of, stage, evaluation = KINDS[place]
    paths, pipeline = Paths(root), find_stages()
    if not any((root / place).glob("[!.]*")):
        raise ValueError(f"{root / place} holds nothing; `{run_command(root, stage)}` makes it")
    recipe = pipeline.settings(pipeline.target(stage, params), params)
    manifest = _manifest(paths, root / place)
    named = dict(licences or {})
    own = _data_licence(named.pop(DATA, ""), data_licence)
    dataset = params.prepare_data.dataset
    report = paths.report("prepare_data")
    prepared = read_json(report) if report.exists() else {}
    data = {
        "set": _name_of(dataset.model_dump(mode="json")),
        "licence": own or ("painted by wsss, mit" if dataset.name.startswith("synthetic") else ""),
        "splits": {
            name: _counts(manifest, name) for name in ("train", "selection") if manifest.splits
        },
        "selection_masks": _selecting(params, prepared, has_background=manifest.has_background),
        "skipped": prepared.get("num_skipped", 0),
    }
    scores, unscored = _scores(root, evaluation) if evaluation else ({}, "")
    return Card(
        of,
        f"{params.base.recipe}: {of.replace('_', ' ')}",
        manifest.class_names,
        manifest.has_background,
        tuple(with_licences(weights_of(recipe), named)),
        data,
        _given(prepared),
        scores,
        _audits(root, of),
        unscored,
        __version__,
    )


def card_of_package(folder: Path, licences: Mapping[str, str] | None = None) -> Card:
    """The card of a package.

    One without a card of its own has that of its recipe, without data and scores.

    Args:
        folder: the package, or the folder of a network alone, whose weights nobody knows.
        licences: as of `card_of_project`.

    Raises:
        ValueError: a licence that is known would be replaced, or the package is damaged.
    """
    named = dict(licences or {})
    own = named.pop(DATA, "")
    if (folder / JSON).exists():
        card = Card.read(read_json(folder / JSON), str(folder / JSON))
        data = dict(card.data)
        data["licence"] = _data_licence(own, str(data.get("licence", "")))
        weights = None if card.weights is None else with_licences([*card.weights], named)
        return replace(card, data=data, weights=None if weights is None else tuple(weights))
    recipe = read_json(folder / RECIPE) if (folder / RECIPE).exists() else None
    packed = (folder / PREDICTION).exists()
    spec = read_json((folder / SEGMENTER if packed else folder) / "model.json")
    found = None if recipe is None else tuple(with_licences(weights_of(recipe), named))
    dataset = (recipe or {}).get("prepare_data", {}).get("dataset")
    of = "segmenter" if packed or "arch" in spec else "classifier"
    return Card(
        of,
        str((recipe or {}).get("base", {}).get("recipe", "")) or of,
        tuple(spec["class_names"]),
        bool(spec.get("has_background", True)),
        found,
        {"set": _name_of(dataset) if dataset else "", "licence": own},
        version=__version__,
    )


def _name_of(dataset: Mapping[str, Any]) -> str:
    root = Path(str(dataset.get("root") or "")).name
    return f"{dataset['name']} ({root})" if root else str(dataset["name"])


def _data_licence(named: str, known: str) -> str:
    if named and known and named.lower() not in known.lower():
        raise ValueError(
            f"the images are under '{known}', which --licence {DATA}=... would replace with "
            f"'{named}'; a licence that is known is not left out. Drop --licence {DATA}=..."
        )
    return known or named


def _manifest(paths: Paths, place: Path) -> Manifest:
    """That of the data, or of a network without them its classes alone."""
    spec = place / "model.json"
    if (paths.splits / "classes.json").exists() or not spec.exists():
        return Manifest.read(paths.splits)
    known = read_json(spec)
    background = bool(known.get("has_background", True))
    return Manifest(tuple(known["class_names"]), {}, has_background=background)


def _counts(manifest: Manifest, split: str) -> dict[str, Any]:
    samples = manifest.splits[split]
    counts = manifest.labels(samples).sum(axis=0).astype(int).tolist()
    return {
        "images": len(samples),
        "images_per_class": dict(zip(manifest.class_names, counts, strict=True)),
        "without_tag": sum(not sample.class_ids for sample in samples),
    }


def _selecting(params: Params, prepared: Mapping[str, Any], *, has_background: bool) -> int:
    """Images of the selection split whose masks chose the threshold of pseudo masks."""
    if not params.make_pseudo_masks.selects_threshold or not has_background:
        return 0
    return int(prepared.get("splits", {}).get("selection", {}).get("with_mask", 0))


def _given(prepared: Mapping[str, Any]) -> dict[str, int]:
    """By kind how many images people labelled besides tags, of what prepare_data reports."""
    given = {
        kind: sum(int(counts["images"]) for counts in splits.values())
        for kind, splits in prepared.get("annotations", {}).items()
    }
    if corrected := prepared.get("corrections"):
        masks = corrected["train"] + corrected["selection"] - corrected.get("drawn", 0)
        given["masks"] = given.get("masks", 0) + masks
    return given


def _scores(root: Path, evaluation: str) -> tuple[dict[str, dict[str, Any]], str]:
    """Of a report that is of what is there; of another one nothing, and why."""
    file = Paths(root).report(evaluation)
    if not file.exists():
        return {}, f"{file.relative_to(root)} is not there"
    if reason := workspace(root).strangers().get(evaluation):
        return {}, f"{file.relative_to(root)} is of something else: {reason}"
    report = read_json(file)
    scores = {
        split: {key: report[split][key] for key in ("images", "mean_iou", "iou")}
        for split in report_splits(report)
        if "mean_iou" in report[split]
    }
    return scores, "" if scores else "no image has a mask of an annotator"


def _audits(root: Path, of: str) -> list[dict[str, Any]]:
    """The audits of reports/audit.json that are of what this is, as it is by now."""
    if of not in _AUDITED:
        return []
    standing = Audits.read(Paths(root)).standing
    return [dict(audit) for audit in standing if audit["of"] == _AUDITED[of]]
