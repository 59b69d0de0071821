"""Running a stage in a folder of its own, beside others that made what it reads.

Tables of methods and trials of a search run the same stage under many settings. Each result lies in
a folder of its own, in which what was made elsewhere is linked, and is kept with a record of what
the stage told.
"""

import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from wsss.artifacts import Manifest, Paths, contents, read_json, write_json
from wsss.config.params import Params
from wsss.pipeline.graph import Pipeline, Target
from wsss.pipeline.job import Job
from wsss.pipeline.outcome import run_job
from wsss.tracking import Tracker

__all__ = ["link_made", "run_apart"]

RECORD = "done.json"
"""What a finished folder has."""


def run_apart(
    pipeline: Pipeline,
    target: Target,
    params: Params,
    place: Path,
    made: Mapping[str, Path],
    *,
    narrowed: Callable[[Manifest], Manifest] | None = None,
    ignore_code: bool = False,
    tracker: Tracker | None = None,
    ahead: Callable[[Target], Path | None] = lambda _: None,
) -> dict[str, Any]:
    """Run one stage in a folder of its own, unless that is done; what it recorded.

    Work that a killed run left in the folder is gone on with. What the stage made is known by its
    contents, so that what follows runs again where these have changed.

    Args:
        pipeline: all stages.
        target: what runs.
        params: all settings.
        place: its folder, which nobody else works in.
        made: the folders below which outs of earlier stages lie, by out.
        narrowed: which images it has, of those of data/splits; None is all.
        ignore_code: whether a result of older code will do.
        tracker: is told, too, what the stage records.
        ahead: the folder of a later stage, as of `Job`, if it has the same images.

    Returns:
        code: a hash of it.
        outs: hashes of what was made, by path.
        metrics, tags: the last values of what the stage recorded.
        seconds, cpu_seconds: what it took; the latter is summed over cores.
    """
    record = place / RECORD
    code = target.stage.code_fingerprint()
    if record.exists():
        done: dict[str, Any] = read_json(record)
        if "outs" in done and (ignore_code or done["code"] == code):
            return done
        shutil.rmtree(place)
    outs = target.outs(params)
    report = target.stage.report_path(target.entry)
    own = (*outs, report)
    link_made({out: source for out, source in made.items() if out not in own}, place, narrowed)
    (place / "reports").mkdir(parents=True, exist_ok=True)
    collector = _Collector(tracker)

    def unfinished(later: Target) -> Path | None:
        folder = ahead(later)
        return None if folder is None or (folder / RECORD).exists() else folder

    job = Job(pipeline, target, params, Paths(place), collector, ahead=unfinished)
    started, computed = time.perf_counter(), _cpu_seconds()
    with job.whole():
        run_job(job)
    done = {
        "code": code,
        "outs": {out: contents(place / out) for out in own},
        "metrics": collector.values,
        "tags": collector.named,
        "seconds": time.perf_counter() - started,
        "cpu_seconds": _cpu_seconds() - computed,
    }
    write_json(record, done)
    return done


def link_made(
    made: Mapping[str, Path],
    place: Path,
    narrowed: Callable[[Manifest], Manifest] | None = None,
) -> None:
    """Link what others have made into a folder; arguments as of `run_apart`."""
    for out, source in made.items():  # pictures show more than a stage reads
        link = place / out
        link.parent.mkdir(parents=True, exist_ok=True)
        if narrowed and out == "data/splits":
            narrowed(Manifest.read(source / out)).write(link)
        elif not link.is_symlink():
            link.symlink_to((source / out).resolve())


class _Collector:
    """A tracker that remembers the last value of everything, and passes it on."""

    def __init__(self, other: Tracker | None) -> None:
        self.other = other
        self.values: dict[str, float] = {}
        self.named: dict[str, str] = {}

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        self.values.update(values)
        if self.other:
            self.other.metrics(values, step)

    def artifact(self, path: Path) -> None:
        if self.other:
            self.other.artifact(path)

    def tags(self, values: Mapping[str, str]) -> None:
        self.named.update(values)
        if self.other:
            self.other.tags(values)

    def flush(self) -> None:
        if self.other:
            self.other.flush()


def _cpu_seconds() -> float:
    """Seconds that cores worked for this process and for those it started, which have ended."""
    return sum(os.times()[:4])
