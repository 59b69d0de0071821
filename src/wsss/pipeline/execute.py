"""Running a stage: from the command line, or within a trial or a table of methods."""

import logging
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from wsss.artifacts import Paths, read_classes
from wsss.config.params import Params, load_params
from wsss.cores import is_first
from wsss.pipeline.exclusive import hold
from wsss.pipeline.graph import Pipeline, Target
from wsss.pipeline.job import Job
from wsss.pipeline.mishaps import (
    StoppedError,
    costly_settings,
    explain,
    kept_work,
    stop_on_sigterm,
)
from wsss.pipeline.origin import open_stage_run
from wsss.pipeline.outcome import run_job
from wsss.pipeline.processes import (
    LEFT_ALONE,
    end_with_parent,
    is_one_of_several,
    lost_another,
    run_together,
)
from wsss.progress import show_log
from wsss.tracking import NullTracker

__all__ = ["check_inputs", "main"]

log = logging.getLogger(__name__)


def check_inputs(pipeline: Pipeline, target: Target, params: Params, root: Path) -> None:
    """Raise ValueError if a folder is missing that a target reads, with the command that makes it.

    What a stage without entries would make is not needed. Settings that name classes are held
    against those of the data, so that none of them stops a stage after hours.
    """
    for path in target.inputs(params):
        if (root / path).exists():
            continue
        source = pipeline.source(path, params)
        if source is None:
            raise ValueError(f"{path} is not there, and {target.name} reads it")
        if not source.stage.is_idle(params):
            raise ValueError(
                f"{path} is not there, and {target.name} reads it; `dvc repro {source.name}` makes "
                "it, and all that it needs itself"
            )
    splits = Paths(root).splits
    if "data/splits" in target.inputs(params) and (splits / "classes.json").exists():
        params.check_classes(read_classes(splits)[0])


def main(pipeline: Pipeline, arguments: list[str]) -> None:
    """Run a stage from the command line: settings in, tracker around, errors in plain words.

    Args:
        pipeline: all stages.
        arguments: the stage's name, and that of the entry where it has some.

    What a user can mend is printed as one message with exit code 1, and so is what stopped the
    stage from outside, with what is kept of its work; the exit code is 130 after Ctrl-C and 143
    after SIGTERM. Anything else is a bug and keeps its traceback.
    """
    if not 1 <= len(arguments) <= 2:
        sys.exit("usage: python -m wsss.stages STAGE [ENTRY], such as refine_cams crf")
    name = "@".join(arguments)
    show_log()
    end_with_parent()
    if not is_first():
        logging.getLogger().setLevel(logging.WARNING)
    if is_one_of_several():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started all of them stops them
    else:
        stop_on_sigterm()
    outs: tuple[Path, ...] = ()
    costly: list[str] = []
    try:
        params = load_params("params.yaml")
        target = pipeline.target(name, params)
        outs = tuple(Path(out) for out in target.outs(params))
        costly = costly_settings(target.settings(params))
        devices = params.machine.devices
        if target.stage.devices and devices > 1 and "LOCAL_RANK" not in os.environ:
            sys.exit(run_together([sys.executable, "-m", "wsss.stages", *arguments], devices))
        _run(pipeline, target, params)
    except KeyboardInterrupt as stop:
        asked = isinstance(stop, StoppedError)
        _say(f"{name} was stopped by {'SIGTERM' if asked else 'Ctrl-C'}", _go_on(name, outs))
        sys.exit(143 if asked else 130)
    except Exception as error:
        if lost_another(error):
            sys.exit(LEFT_ALONE)
        text = None if os.environ.get("WSSS_TRACEBACK") else explain(error, costly, outs)
        if text is None:
            raise
        from_outside = isinstance(error, MemoryError | RuntimeError) or (
            isinstance(error, OSError) and error.errno is not None
        )
        _say(f"{name} stopped", text, *([_go_on(name, outs)] if from_outside else []))
        sys.exit(1)


def _say(title: str, *lines: str) -> None:
    console = Console(stderr=True)
    console.print(f"[bold red]{title}[/]")
    for line in filter(None, lines):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _go_on(name: str, outs: tuple[Path, ...]) -> str:
    """Say what is kept, and how to go on."""
    kept = kept_work(outs)
    again = f"`dvc repro {name}`"
    return f"{kept} {again} goes on from there." if kept else f"{again} starts it again."


def _run(pipeline: Pipeline, target: Target, params: Params) -> None:
    """Run a target in the project's folder, recorded as a run in MLflow."""
    paths = Paths(Path())  # not DVC_ROOT: in a queued experiment that is another folder
    check_inputs(pipeline, target, params, paths.root)
    with ExitStack() as locks:
        if is_first():  # before its inputs are read and its run is opened
            for out in target.outs(params):
                locks.enter_context(hold(paths.root / out, target.name))
        _run_alone(pipeline, target, params, paths)


def _run_alone(pipeline: Pipeline, target: Target, params: Params, paths: Paths) -> None:
    job = Job(pipeline, target, params, paths, NullTracker())
    if target.stage.is_idle(params):
        log.info("%s: nothing to do, as %s is empty", target.name, target.stage.entries)
        job.run()
        return
    with job.whole(), open_stage_run(job) as tracker:
        job.tracker = tracker
        run_job(job)
