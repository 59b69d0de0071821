"""Running a study: every stage of every row, each result made once and kept."""

import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import yaml

from wsss.artifacts import Manifest, Paths, fingerprint, read_json, write_json
from wsss.config.params import Params
from wsss.stages import (
    evaluate,
    generate_cams,
    generate_further_cams,
    make_proposals,
    prepare_data,
    refine_cams,
    train_affinities,
    train_classifier,
    train_teachers,
)
from wsss.study.plan import Plan, row_params
from wsss.tracking import Tracker, open_tracker, tracking_uri

__all__ = ["CHAIN", "RESULTS", "code_hashes", "row_folder", "run_row", "run_study"]

log = logging.getLogger(__name__)

RESULTS = ".study"
"""The folder, below the project's root, that holds what stages made."""

CHAIN = "studied"
"""The chain of params.yaml that a study runs and scores."""

IMAGES = ("data/images", "data/masks")
HELPS = ("data/further_cams", "data/proposals", "models/affinities")
"""What refiners may need."""


@dataclass(frozen=True)
class Stage:
    """One stage as a study runs it.

    Attributes:
        name: as in dvc.yaml.
        run: the stage.
        reads: the sections of params.yaml it depends on.
        takes: outs of earlier stages, by path.
        makes: its own outs.
        images: whether it gets the images of "all" splits, or only those that are "scored", which
            leaves out the training images.
    """

    name: str
    run: Callable[[Params, Paths, Tracker], None]
    reads: Callable[[Params], Any]
    takes: tuple[str, ...]
    makes: tuple[str, ...]
    images: Callable[[Params], Literal["all", "scored"]] = lambda _: "all"


def _scored(params: Params) -> Literal["all", "scored"]:
    del params
    return "scored"


def _for_affinities(params: Params) -> Literal["all", "scored"]:
    """Maps of training images are what affinity networks learn from."""
    return "all" if params.train_affinities else "scored"


STAGES = (
    Stage(
        "prepare_data",
        prepare_data.run,
        lambda params: [params.prepare_data, params.base.rng_seed],
        (),
        (*IMAGES, "data/splits"),
    ),
    Stage(
        "train_teachers",
        train_teachers.run,
        lambda params: [*params.train_teachers.items(), params.base.rng_seed],
        (*IMAGES, "data/splits"),
        ("models/teachers",),
    ),
    Stage(
        "train_classifier",
        train_classifier.run,
        lambda params: [params.train_classifier, params.base.rng_seed],
        (*IMAGES, "data/splits", "models/teachers"),
        ("models/classifier",),
    ),
    Stage(
        "generate_cams",
        generate_cams.run,
        lambda params: [params.generate_cams],
        (*IMAGES, "data/splits", "models/classifier"),
        ("data/cams",),
        _for_affinities,
    ),
    Stage(
        "evaluate_cams",
        partial(evaluate.run, target="cams"),
        lambda params: [params.evaluate],
        (*IMAGES, "data/splits", "data/cams"),
        (),
        _scored,
    ),
    Stage(
        "generate_further_cams",
        generate_further_cams.run,
        lambda params: [*params.further_cams.items()],
        (*IMAGES, "data/splits", "models/classifier", "models/teachers"),
        ("data/further_cams",),
        _scored,
    ),
    Stage(
        "make_proposals",
        make_proposals.run,
        lambda params: [*params.make_proposals.items()],
        (*IMAGES, "data/splits"),
        ("data/proposals",),
        _scored,
    ),
    Stage(
        "train_affinities",
        train_affinities.run,
        lambda params: [*params.train_affinities.items(), params.base.rng_seed],
        (*IMAGES, "data/splits", "data/cams"),
        ("models/affinities",),
    ),
    Stage(
        "refine_cams",
        partial(refine_cams.run, chain=CHAIN),
        lambda params: [
            *params.refine.chains[CHAIN],
            params.refine.window,
            params.refine.window_overlap,
        ],
        (*IMAGES, "data/splits", "data/cams", *HELPS),
        ("data/refined",),
        _scored,
    ),
    Stage(
        "evaluate_refined",
        partial(evaluate.run, target="refined", chain=CHAIN),
        lambda params: [params.evaluate],
        (*IMAGES, "data/splits", "data/cams", "data/refined"),
        (),
        _scored,
    ),
)


class _Collector:
    """A tracker that remembers the last value of everything."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        self.named: dict[str, str] = {}
        self.files: list[Path] = []

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        self.values.update({k: one for k, one in values.items() if not k.startswith("curve/")})

    def artifact(self, path: Path) -> None:
        self.files.append(path)

    def tags(self, values: Mapping[str, str]) -> None:
        self.named.update(values)

    def flush(self) -> None:
        pass


def run_study(
    root: Path,
    name: str,
    plan: Plan,
    size: str,
    *,
    rows: Sequence[str] = (),
    seeds: int = 1,
    ignore_code: bool = False,
) -> None:
    """Run what is missing of a study.

    Args:
        root: the project.
        name: of the study.
        plan: what it compares.
        size: a name in plan.sizes.
        rows: those to run; empty is all.
        seeds: how often each of plan.repeated runs, with seeds 0, 1, ... added to rng_seed.
        ignore_code: keep results of older code where the settings are the same.

    Raises:
        ValueError: a row's settings do not fit (before anything runs), or a stage stops.
    """
    os.environ["MLFLOW_TRACKING_URI"] = tracking_uri(root)  # rows have folders of their own
    chosen = rows or tuple(plan.rows)
    jobs = [
        (row, seed, row_params(root, plan, row, size))
        for seed in range(seeds)
        for row in chosen
        if seed == 0 or row in (plan.repeated or plan.rows)
    ]
    code = code_hashes(root)
    for at, (row, seed, params) in enumerate(jobs, 1):
        log.info("row %d of %d: %s, seed %d", at, len(jobs), row, seed)
        tags = {"study": name, "size": size, "row": row}
        run_row(root, params, tags, code, seed=seed, ignore_code=ignore_code)


def code_hashes(root: Path) -> dict[str, str]:
    """For each stage, a hash of the code that dvc.yaml lists for it."""
    stages = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return {stage.name: _code(stages[stage.name], root) for stage in STAGES}


def run_row(
    root: Path,
    params: Params,
    tags: Mapping[str, str],
    code: Mapping[str, str],
    *,
    seed: int = 0,
    ignore_code: bool = False,
) -> dict[str, float]:
    """Run the stages of one row that are not done, and record the row as one MLflow run.

    Args:
        root: the project.
        params: of the row.
        tags: of its MLflow run; "row" and "size" name it.
        code: `code_hashes` of what is running.
        seed: added to base.rng_seed for all stages but prepare_data: all seeds share the data, so
            that a spread is that of training.
        ignore_code: see `run_study`.

    Returns:
        The last value of every metric of every stage, as "<stage>/<metric>".
    """
    results = root / RESULTS
    found: dict[str, float] = {}
    made: dict[str, Path] = {}
    keys: dict[str, str] = {}
    named: dict[str, str] = {}
    panels: list[Path] = []
    base = params.base.model_copy(update={"rng_seed": params.base.rng_seed + seed})
    seeded = params.model_copy(update={"base": base})
    for stage in STAGES:
        own = params if stage.name == "prepare_data" else seeded
        reads = [stage.images(own), *(_plain(one) for one in stage.reads(own))]
        key = fingerprint(stage.name, reads, sorted((k, keys[k]) for k in stage.takes))
        place = results / f"{stage.name}-{key[:16]}"
        done = _run_stage(stage, own, place, made, code[stage.name], ignore_code)
        for out in stage.makes:
            made[out], keys[out] = place, key
        found |= {f"{stage.name}/{k}": one for k, one in done["metrics"].items()}
        named |= {k: one for k, one in done["tags"].items() if not k.startswith("protocol.")}
        if stage.name == "evaluate_refined":
            panels = sorted((place / "reports").glob("**/panel.png"))
    folder = row_folder(root, tags["study"], tags["size"], tags["row"], seed)
    folder.mkdir(parents=True, exist_ok=True)
    own_tags = dict(tags) | named | {"seed": str(seed)}
    own_tags["cam_method"] = params.generate_cams.method.name
    own_tags["mlflow.runName"] = f"{tags['study']} {tags['size']} {tags['row']} {seed}"
    record, key = folder / "recorded.json", fingerprint(found, own_tags)
    if not record.exists() or read_json(record)["key"] != key:
        with open_tracker("train_classifier", seeded, folder, tags=own_tags) as tracker:
            tracker.metrics(found)
            for panel in panels:
                tracker.artifact(panel)
        outs = {out: place.name for out, place in made.items()}
        threshold = found.get("evaluate_refined/threshold")
        write_json(record, {"key": key, "outs": outs, "threshold": threshold})
    return found


def row_folder(root: Path, study: str, size: str, row: str, seed: int) -> Path:
    """Where recorded.json says what stands for a row: folders of outs and the threshold."""
    return root / RESULTS / "rows" / f"{study}-{size}-{row}-{seed}"


def _run_stage(
    stage: Stage, params: Params, place: Path, made: Mapping[str, Path], own_code: str, ignore: bool
) -> dict[str, Any]:
    """Run one stage in its own folder, unless it is done; what it recorded."""
    record = place / "done.json"
    sources = {made[out] for out in stage.takes}
    upstream = [read_json(one / "done.json")["code"] for one in sources]
    code = fingerprint(own_code, sorted(upstream))
    if record.exists():
        done: dict[str, Any] = read_json(record)
        if ignore or done["code"] == code:
            return done
        shutil.rmtree(place)
    paths = Paths(place)
    for out in stage.takes:
        link = place / out
        link.parent.mkdir(parents=True, exist_ok=True)
        if stage.images(params) == "scored" and out == "data/splits":
            whole = Manifest.read(made[out] / out)
            replace(whole, splits=whole.splits | {"train": ()}).write(link)
        elif not link.is_symlink():
            link.symlink_to((made[out] / out).resolve())
    (place / "reports").mkdir(parents=True, exist_ok=True)
    collector = _Collector()
    stage.run(params, paths, collector)
    done = {"code": code, "metrics": collector.values, "tags": collector.named}
    write_json(record, done)
    return done


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def _code(body: Mapping[str, Any], root: Path) -> str:
    """A hash of the code that a stage of dvc.yaml lists."""
    deps = [root / one for one in body.get("do", body)["deps"] if str(one).startswith("src/")]
    files = [
        file
        for dep in sorted(deps)
        for file in (sorted(dep.rglob("*.py")) if dep.is_dir() else [dep])
    ]
    return fingerprint([file.read_text(encoding="utf-8") for file in files])
