"""Stages one after the other in one process, each unless its results are there already."""

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from wsss.artifacts import Paths, contents, read_json, write_json
from wsss.config.params import Params
from wsss.launch import Site
from wsss.pipeline.execute import Known, run_target
from wsss.pipeline.graph import Pipeline, Target
from wsss.pipeline.job import Job
from wsss.pipeline.lock import workspace
from wsss.tracking import NullTracker

__all__ = ["commit", "is_there", "outdated", "run_in_order", "wanted_targets"]

log = logging.getLogger(__name__)

NOTES = ".stages"
"""The folder, below the project, that says of each stage what it made, and from what."""


def wanted_targets(pipeline: Pipeline, params: Params, names: Sequence[str]) -> list[Target]:
    """The targets of these names and all that they need, in order; without names, all.

    The name of a stage that runs for several entries stands for all of them.

    Raises:
        ValueError: a name is none.
    """
    if not names:
        return pipeline.targets(params)
    wanted: list[Target] = []
    for name in names:
        if "@" in name:
            wanted.append(pipeline.target(name, params))
        else:
            stage = pipeline[name]
            wanted += [Target(stage, entry) for entry in stage.entries_to_run(params)]
    needed = {part.name for target in wanted for part in pipeline.upstream(target, params)}
    return [target for target in pipeline.targets(params) if target.name in needed]


def run_in_order(
    pipeline: Pipeline,
    targets: Sequence[Target],
    params: Params,
    site: Site,
    known: Known,
    *,
    made: Callable[[], Collection[str]] = tuple,
    force: bool = False,
) -> list[str]:
    """Run targets in the project's folder; errors as `wsss.pipeline.execute.run_target`.

    Args:
        pipeline: all stages.
        targets: in order.
        params: all settings.
        site: where tasks may do the work.
        known: is told what a message has to say.
        made: gives the names of those whose results DVC has made, and knows to be of what is there
            now; asked where notes do not say it, and then before the first of `targets` runs.
        force: run those, too, whose results are there.

    Returns:
        The names of those that ran.
    """
    root = Path()
    ran: list[str] = []
    for at, target in enumerate(targets, 1):
        if not force and is_there(pipeline, target, params, root, made, ran):
            log.info("%d of %d: %s is up to date", at, len(targets), target.name)
            continue
        log.info("%d of %d: %s", at, len(targets), target.name)
        _note(root, target).unlink(missing_ok=True)
        key = _key(pipeline, target, params, root)  # what is edited while it runs it has not read
        run_target(pipeline, target, params, site, known)
        ran.append(target.name)
        write_json(_note(root, target), _state(key, target, params, root))
    return ran


def commit(
    pipeline: Pipeline, targets: Iterable[Target], params: Params, root: Path
) -> tuple[list[str], list[str]]:
    """Take results that are there for those of the settings, data and code that are there.

    Returns:
        The names of the targets whose results are there, and of the others.
    """
    there, missing = [], []
    for target in targets:
        if all((root / path).exists() for path in _made(target, params)):
            _take(pipeline, target, params, root)
            there.append(target.name)
        else:
            missing.append(target.name)
    return there, missing


def is_there(
    pipeline: Pipeline,
    target: Target,
    params: Params,
    root: Path,
    made: Callable[[], Collection[str]] = tuple,
    ran: Collection[str] = (),
) -> bool:
    """Whether a target need not run; what DVC has made is noted, so that DVC may go.

    Args:
        pipeline: all stages.
        target: which may have run on the same settings, inputs and code, here or by DVC.
        params: all settings.
        root: the project.
        made: gives the names of those that DVC has made, as of `run_in_order`.
        ran: names of those that ran since DVC was asked.
    """
    if _is_done(pipeline, target, params, root):
        return True
    needed = {part.name for part in pipeline.upstream(target, params)}
    if needed & set(ran) or target.name not in made():
        return False
    _take(pipeline, target, params, root)
    return True


def outdated(
    pipeline: Pipeline, targets: Iterable[Target], params: Params, root: Path
) -> dict[str, str]:
    """Why results that are there are not those of these settings, data and code, by full name.

    Notes of `wsss run` say it, and dvc.lock. Left out is of what neither knows.
    """
    lock = workspace(root) if (root / "dvc.lock").exists() else None
    found = {}
    for target in targets:
        if _is_done(pipeline, target, params, root):
            continue
        reason = None if lock is None else lock.reason(target.name)
        if reason is None and _note(root, target).exists():
            reason = "its settings, data or code are others by now"
        if reason:
            found[target.name] = reason
    return found


def _is_done(pipeline: Pipeline, target: Target, params: Params, root: Path) -> bool:
    """Whether a target has run here on the same settings, inputs and code, and left what is there.

    What `dvc repro` made alone is not known here.
    """
    note = _note(root, target)
    if not note.exists():
        return False
    key = _key(pipeline, target, params, root)
    return bool(read_json(note) == _state(key, target, params, root))


def _take(pipeline: Pipeline, target: Target, params: Params, root: Path) -> None:
    """Note that the result that is there is of what is there."""
    key = _key(pipeline, target, params, root)
    write_json(_note(root, target), _state(key, target, params, root))


def _key(pipeline: Pipeline, target: Target, params: Params, root: Path) -> str:
    """The fingerprint of what decides a result."""
    return Job(pipeline, target, params, Paths(root), NullTracker()).key


def _state(key: str, target: Target, params: Params, root: Path) -> dict[str, object]:
    """The fingerprint of what has decided a result, and by path a hash of the result."""
    made = {path: contents(root / path) for path in _made(target, params)}
    return {"key": key, "made": made}


def _made(target: Target, params: Params) -> tuple[str, ...]:
    """What a target leaves, below the project."""
    return (*target.outs(params), target.stage.report_path(target.entry))


def _note(root: Path, target: Target) -> Path:
    return root / NOTES / f"{target.name}.json"
