"""The pipeline: one page per stage, with its declaration and its `run`."""

import importlib
import pkgutil
from functools import cache

from wsss.artifacts import Paths
from wsss.config.params import Params
from wsss.pipeline import Job, Pipeline, Stage
from wsss.pipeline.outcome import run_job
from wsss.tracking import NullTracker, Tracker

__all__ = ["find_stages", "run_stage"]


@cache
def find_stages() -> Pipeline:
    """All stages that the modules of this package declare, in the order in which they run."""
    modules = [
        importlib.import_module(f"{__name__}.{module.name}")
        for module in pkgutil.iter_modules(__path__)
        if not module.name.startswith("_")
    ]
    return Pipeline(
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, Stage) and value.module == module.__name__
    )


def run_stage(name: str, params: Params, paths: Paths, tracker: Tracker | None = None) -> None:
    """Run a stage in this process.

    Args:
        name: of the stage, with the entry where it runs for several, as "refine_cams@crf".
        params: all settings.
        paths: where it reads and writes.
        tracker: gets what it records; None records nothing.

    Raises:
        ValueError: there is no such stage, or it says what is wrong.
    """
    pipeline = find_stages()
    target = pipeline.target(name, params)
    job = Job(pipeline, target, params, paths, tracker or NullTracker())
    with job.whole():
        run_job(job)
