"""Running a study: every stage of every row, each result made once and kept."""

import logging
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from wsss.artifacts import Manifest, fingerprint, read_json, write_json
from wsss.config.params import Params
from wsss.pipeline import Pipeline, Target
from wsss.pipeline.apart import run_apart
from wsss.pipeline.exclusive import hold
from wsss.stages import find_stages
from wsss.study.plan import TARGETS, Plan, ground_of, row_params
from wsss.tracking import (
    check_tracking,
    experiment_name,
    known_runs,
    open_tracker,
    tracking_uri,
    was_lost,
)

__all__ = ["RESULTS", "row_folder", "run_row", "run_study", "wanted_rows"]

log = logging.getLogger(__name__)

RESULTS = ".study"
"""The folder, below the project's root, that holds what stages made."""


def run_study(
    root: Path,
    name: str,
    plan: Plan,
    size: str,
    *,
    rows: Sequence[str] = (),
    seeds: int = 1,
    seed: int | None = None,
    ignore_code: bool = False,
    force: bool = False,
) -> None:
    """Run what is missing of a study.

    Args:
        root: the project.
        name: of the study.
        plan: what it compares.
        size: a name in plan.sizes.
        rows: those to run; empty is all.
        seeds: how often each of plan.repeated runs, with seeds 0, 1, ... added to rng_seed.
        seed: run this one alone.
        ignore_code: keep results of older code where the settings are the same.
        force: run everything anew.

    Raises:
        ValueError: a row's settings do not fit (before anything runs), or a stage stops.
        BusyError: another process runs one of the rows.
        ConnectionError: MLflow, which the table is written from, cannot record (before anything
            runs).
    """
    os.environ["MLFLOW_TRACKING_URI"] = tracking_uri(root)  # rows have folders of their own
    chosen = rows or tuple(plan.rows)
    jobs = [
        (row, number, row_params(root, plan, row, size))
        for row, number in wanted_rows(plan, chosen, seeds)
        if seed in (None, number)
    ]
    ground = str(ground_of(root, plan, size))
    anew: set[Path] | None = set() if force else None
    for experiment in {params.machine.experiment for _, _, params in jobs}:
        check_tracking(root, experiment_name(experiment, "studies"))
    with ExitStack() as rows_held:
        for row, seed, _ in jobs:
            what = f"the row '{row}' of the study {name}"
            rows_held.enter_context(hold(row_folder(root, name, size, row, seed), what))
        for at, (row, seed, params) in enumerate(jobs, 1):
            log.info("row %d of %d: %s, seed %d", at, len(jobs), row, seed)
            tags = {"study": name, "size": size, "row": row, "ground": ground}
            run_row(
                root,
                params,
                tags,
                targets=plan.targets,
                seed=seed,
                ignore_code=ignore_code,
                anew=anew,
            )


def wanted_rows(plan: Plan, rows: Sequence[str], seeds: int) -> list[tuple[str, int]]:
    """The rows that run, each with its seed; see `run_study`."""
    return [
        (row, seed)
        for seed in range(seeds)
        for row in rows or tuple(plan.rows)
        if seed == 0 or row in (plan.repeated or plan.rows)
    ]


def run_row(
    root: Path,
    params: Params,
    tags: Mapping[str, str],
    *,
    targets: Sequence[str] = TARGETS,
    seed: int = 0,
    ignore_code: bool = False,
    anew: set[Path] | None = None,
) -> dict[str, float]:
    """Run the stages of one row that are not done, and record the row as one MLflow run.

    Args:
        root: the project.
        params: of the row.
        tags: of its MLflow run; "row" and "size" name it.
        targets: the stages whose results are wanted, by full name.
        seed: added to base.rng_seed for all stages but prepare_data: all seeds share the data, so
            that a spread is that of training.
        ignore_code: see `run_study`.
        anew: results that were made anew already, where all are to be; None makes what is missing.

    Returns:
        The last value of every metric of every stage, as "<stage>/<metric>"; the "row/minutes" that
        its stages took, whichever row ran them; and their "row/cpu_minutes", summed over cores,
        which other work on the machine changes less.
    """
    pipeline = find_stages()
    found: dict[str, float] = {}
    made: dict[str, Path] = {}
    named: dict[str, str] = {}
    warnings: list[str] = []
    needed = row_targets(pipeline, params, targets)
    folders = _Folders(root, params, seed, needed)
    minutes, cpu_minutes = 0.0, 0.0
    for target in needed:
        stage, place = target.stage, folders.of(target)
        # rows of other studies may share it: then one of them makes it, and the others have it
        with hold(place, target.name, wait=True):
            if anew is not None and place not in anew:
                shutil.rmtree(place, ignore_errors=True)
                anew.add(place)
            done = run_apart(
                pipeline,
                target,
                folders.params(target),
                place,
                made,
                narrowed=_without_training if folders.is_narrowed(target) else None,
                ignore_code=ignore_code,
                # what is to be made anew would be thrown away
                ahead=partial(folders.beside, target) if anew is None else lambda _: None,
            )
        for out, held in done["outs"].items():
            made[out], folders.keys[out] = place, held
        minutes += done["seconds"] / 60
        cpu_minutes += done.get("cpu_seconds", math.nan) / 60  # earlier results did not say
        # of several entries that are wanted, each has its own
        several = sum(name.partition("@")[0] == stage.name for name in targets) > 1
        head = target.report if several else stage.name
        found |= {f"{head}/{name}": value for name, value in done["metrics"].items()}
        told = dict(done["tags"])
        if text := told.pop("warnings", ""):
            warnings += [f"{stage.name}: {line}" for line in text.split("\n")]
        named |= {name: tag for name, tag in told.items() if not name.startswith("protocol.")}
    found["row/minutes"] = minutes
    if not math.isnan(cpu_minutes):
        found["row/cpu_minutes"] = cpu_minutes
    if warnings:
        named["warnings"] = "\n".join(warnings)
    panels = sorted(
        path for path in (place / "reports").glob("**/panel.png") if not path.is_symlink()
    )  # of the last stage
    folder = row_folder(root, tags["study"], tags["size"], tags["row"], seed)
    folder.mkdir(parents=True, exist_ok=True)
    own_tags = dict(tags) | named | {"seed": str(seed)}
    own_tags["cam_method"] = params.generate_cams.method.name
    own_tags["mlflow.runName"] = f"{tags['study']} {tags['size']} {tags['row']} {seed}"
    settings = pipeline.settings(target, folders.params(target))
    record, key = folder / "recorded.json", fingerprint(found, own_tags, settings)
    experiment = experiment_name(params.machine.experiment, "studies")
    if not _is_recorded(record, key, tracking_uri(root), experiment):
        try:
            with open_tracker(
                "study", folder, experiment, settings, key=key, tags=own_tags
            ) as tracker:
                tracker.metrics(found)
                for panel in panels:
                    tracker.artifact(panel)
            key = "" if was_lost(tracker) else key
        except ConnectionError as error:  # all is done and kept
            log.warning("%s\nThe same command records the row later.", error)
            key = ""
        outs = {out: place.name for out, place in made.items()}
        threshold = found.get("evaluate_refined/threshold")
        values = {
            "key": key,
            "outs": outs,
            "images": folders.keys["data/images"],
            "threshold": threshold,
            "ground": tags.get("ground"),
        }
        write_json(record, values)
    return found


def _is_recorded(record: Path, key: str, uri: str, experiment: str) -> bool:
    """Whether a row is in MLflow as it is, in the one that is set, which may be another by now."""
    if not record.exists() or read_json(record)["key"] != key:
        return False
    try:
        return key in known_runs(uri, experiment, [key])
    except ConnectionError:  # it is asked again when there is something to record
        return True


class _Folders:
    """Where the stages of a row run: folders named after all that decides what is made there.

    Args:
        root: the project.
        params: of the row.
        seed: as of `run_row`.
        needed: the stages that run.

    Attributes:
        keys: hashes of what was made so far, by path.
    """

    def __init__(self, root: Path, params: Params, seed: int, needed: Sequence[Target]) -> None:
        self._root, self._params, self._needed = root, params, needed
        base = params.base.model_copy(update={"rng_seed": params.base.rng_seed + seed})
        self._seeded = params.model_copy(update={"base": base})
        self._trains = any(target.stage.name == "make_pseudo_masks" for target in needed)
        self.keys: dict[str, str] = {}

    def params(self, target: Target) -> Params:
        """Its settings."""
        return self._params if target.stage.name == "prepare_data" else self._seeded

    def is_narrowed(self, target: Target) -> bool:
        """Whether it has no images but those of the splits that are scored."""
        return target.stage.images(self.params(target)) == "scored" and not self._trains

    def of(self, target: Target) -> Path:
        """Its folder, once all that it reads is made."""
        inputs = [(path, self.keys[path]) for path in target.inputs(self.params(target))]
        settings = target.settings(self.params(target))
        key = fingerprint(target.name, self.is_narrowed(target), settings, inputs)
        return self._root / RESULTS / f"{target.stage.name}-{key[:16]}"

    def beside(self, target: Target, later: Target) -> Path | None:
        """The folder of a later stage, if it runs and has the same images."""
        same = self.is_narrowed(later) == self.is_narrowed(target)
        return self.of(later) if same and later in self._needed else None


def row_folder(root: Path, study: str, size: str, row: str, seed: int) -> Path:
    """Where recorded.json says what stands for a row: folders of outs and the threshold."""
    return root / RESULTS / "rows" / f"{study}-{size}-{row}-{seed}"


def row_targets(pipeline: Pipeline, params: Params, names: Sequence[str] = TARGETS) -> list[Target]:
    """What a row runs: the stages of these full names, and all that they need."""
    wanted = [pipeline.target(name, params) for name in names]
    needed = {part.name for target in wanted for part in pipeline.upstream(target, params)}
    return [target for target in pipeline.targets(params) if target.name in needed]


def _without_training(whole: Manifest) -> Manifest:
    return replace(whole, splits=whole.splits | {"train": ()})
