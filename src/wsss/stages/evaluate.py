"""Score CAMs, refined score maps, pseudo masks or predictions against ground truth.

    python -m wsss.stages.evaluate cams | refined CHAIN | pseudo_masks | segmenter

The threshold of score maps is chosen on the selection split and reported on all; the best
of each split itself is reported too, under "oracle".
"""

import argparse
import logging
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from wsss.artifacts import SPLITS, Manifest, Paths, write_json
from wsss.config.params import Params
from wsss.evaluate import (
    curve_columns,
    evaluate_labels,
    evaluate_score_maps,
    group_ids,
    label_report,
    score_map_report,
    threshold_grid,
    write_curve,
)
from wsss.report import write_panel
from wsss.stages._base import execute
from wsss.tracking import Tracker

__all__ = ["main", "run"]

log = logging.getLogger(__name__)

TARGETS = ("cams", "refined", "pseudo_masks", "segmenter")


def run(params: Params, paths: Paths, tracker: Tracker, target: str, chain: str = "") -> None:
    """Write reports/evaluate_<target>.json, and for score maps <same>_curve.csv.

    Every split is scored of which both results and masks are there (train too, as papers
    report it). Without any mask the report says so, and the stage succeeds.
    """
    manifest = Manifest.read(paths.splits)
    classes, settings = manifest.class_names, params.evaluate
    group_ids(settings.class_groups, classes)  # a wrong name fails before the work
    name = "_".join(filter(None, ("evaluate", target, chain)))
    if target in ("cams", "refined"):
        folder = paths.cams if target == "cams" else paths.refined(chain)
        curves = {
            split: evaluate_score_maps(
                manifest.splits[split],
                folder,
                paths.masks,
                manifest.num_fg_classes,
                settings.threshold_step,
            )
            for split in SPLITS
            if _scorable(manifest, split, folder, ".npz")
        }
        report = score_map_report(curves, classes, settings.class_groups, settings.select_by)
        thresholds = threshold_grid(settings.threshold_step)
        columns = curve_columns(curves, classes, settings.class_groups)
        write_curve(paths.report(f"{name}_curve", ".csv"), thresholds, columns)
        _track_curves(tracker, thresholds, columns)
    else:
        pseudo = target == "pseudo_masks"
        folders = {
            split: paths.pseudo_masks if pseudo else paths.predictions / split for split in SPLITS
        }
        scores = {
            split: evaluate_labels(
                manifest.splits[split], folders[split], paths.masks, manifest.num_fg_classes
            )
            for split in SPLITS
            if _scorable(manifest, split, folders[split], ".png")
        }
        report = label_report(scores, classes, settings.class_groups, from_tags=pseudo)
    report = _rounded(report)
    write_json(paths.report(name), report)
    tracker.metrics(dict(_flat(report)))
    tracker.tags({f"protocol.{key}": value for key, value in report["protocol"].items()})
    shown = chain or params.make_pseudo_masks.chain
    threshold = report.get("threshold")
    tracker.artifact(write_panel(paths, manifest, name, chain=shown, threshold=threshold))
    log.info("%s: %s", name, _headline(report))


def _scorable(manifest: Manifest, split: str, folder: Path, suffix: str) -> bool:
    """Whether an image of the split has both a mask and a result; then all masks need one."""
    return any(
        sample.mask is not None and (folder / f"{sample.name}{suffix}").exists()
        for sample in manifest.splits[split]
    )


def _track_curves(
    tracker: Tracker, thresholds: np.ndarray, columns: Mapping[str, np.ndarray]
) -> None:
    """Send the curves as metrics, at whole percents of the threshold as steps."""
    for index, percent in enumerate((thresholds * 100).round(4).tolist()):
        if percent == int(percent):
            values = {f"curve/{key}": float(column[index]) for key, column in columns.items()}
            values = {key: value for key, value in values.items() if not np.isnan(value)}
            tracker.metrics(values, step=int(percent))


def _rounded(value: Any) -> Any:
    """The same tree with floats of six digits, and without NaN and what is empty."""
    if isinstance(value, Mapping):
        tree = {key: _rounded(one) for key, one in value.items()}
        return {key: one for key, one in tree.items() if one is not None and one != {}}
    if isinstance(value, float):
        return None if np.isnan(value) else round(value, 6)
    return value


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a report, as ("val/mean_iou", 0.5)."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}/")
        elif isinstance(value, int | float):
            yield prefix + key, float(value)


def _headline(report: Mapping[str, Any]) -> str:
    """One line for the log: the scores, or why there are none."""
    parts = [
        f"{split} mean IoU {report[split]['mean_iou']:.3f}"
        for split in SPLITS
        if "mean_iou" in report.get(split, {})
    ]
    if "threshold" in report:
        parts.append(f"threshold {report['threshold']:.2f} chosen on selection")
    protocol = report["protocol"]
    return (
        ", ".join(parts)
        or f"no scores; ground truth: {protocol.get('ground_truth', 'not on selection')}"
    )


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        prog="python -m wsss.stages.evaluate", description="Score a target."
    )
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument(
        "chain", nargs="?", default="", help="of 'refined': a name in refine.chains"
    )
    arguments = parser.parse_args()
    target, chain = arguments.target, arguments.chain
    if (target == "refined") != bool(chain):
        parser.error("'refined' takes the name of a chain, the other targets take none")
    source = {
        "cams": "data/cams",
        "refined": f"data/refined/{chain}",
        "pseudo_masks": "data/pseudo_masks",
        "segmenter": "data/predictions",
    }[target]
    execute(
        "@".join(filter(None, (f"evaluate_{target}", chain))),
        partial(run, target=target, chain=chain),
        (source, "data/masks", "data/splits"),
    )


if __name__ == "__main__":
    main()
