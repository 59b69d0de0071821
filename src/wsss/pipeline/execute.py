"""Running a stage: from the command line, or within a trial or a table of methods."""

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from wsss import __version__
from wsss.artifacts import Paths, read_classes
from wsss.checks import naming
from wsss.commands import run_command
from wsss.config.params import Params, load_params, parse_params
from wsss.cores import is_first, local_rank, processes_here, rank, world_size
from wsss.data.listing import some
from wsss.launch import Part, PartDone, Site, current_part, is_launched, read_site
from wsss.loading.devices import check_devices
from wsss.pipeline.code import CODE_LOCK, CodeLock
from wsss.pipeline.exclusive import hold
from wsss.pipeline.graph import Pipeline, Target
from wsss.pipeline.job import Job
from wsss.pipeline.mishaps import costly_settings, explain, kept_work
from wsss.pipeline.origin import open_stage_run
from wsss.pipeline.others import LEFT_ALONE, LeftAloneError, join_others, tell_lost
from wsss.pipeline.outcome import record_epochs, run_job
from wsss.pipeline.processes import (
    end_with_parent,
    given_params,
    is_one_of_several,
    is_started_by_another,
    keep_error,
    lost_another,
    run_together,
    tell_done,
)
from wsss.progress import show_log
from wsss.stopping import exit_code, stop_on_signals, stopped_by
from wsss.tracking import NullTracker

__all__ = ["Known", "check_code", "check_inputs", "in_plain_words", "main", "run_target"]

log = logging.getLogger(__name__)


def check_inputs(pipeline: Pipeline, target: Target, params: Params, root: Path) -> None:
    """Raise ValueError if a folder is missing that a target reads, with the command that makes it.

    What a stage without entries would make is not needed. Settings that name classes are held
    against those of the data, so that none of them stops a stage after hours.
    """
    for path in () if target.stage.unwanted(params) else target.inputs(params):
        if _is_made(root / path):
            continue
        source = pipeline.source(path, params)
        if source is None:
            raise ValueError(f"{path} is not there, and {target.name} reads it")
        if not source.stage.is_idle(params):
            raise ValueError(
                f"{path} is not there, and {target.name} reads it; "
                f"`{run_command(root, source.name)}` makes it, and all that it needs itself"
            )
    splits = Paths(root).splits
    if "data/splits" in target.inputs(params) and (splits / "classes.json").exists():
        params.check_classes(read_classes(splits)[0])


def _is_made(path: Path) -> bool:
    """Whether a file is there, or a folder in which more is than folders in the making."""
    if not path.is_dir():
        return path.exists()
    empty = True
    for kept in path.iterdir():
        empty = False
        if not kept.name.endswith((".partial", ".lock")):
            return True
    return empty


def check_code(target: Target, root: Path) -> None:
    """Raise ValueError if the code of a target is not that of the project's wsss.lock.

    What it made would be recorded as made by other code. The repository has no such file.
    """
    lock = CodeLock.read(root)
    differing = lock.differing(target.stage.code_parts) if lock else []
    if lock and differing:
        raise ValueError(
            f"the code of {some(differing)} in the installed wsss {__version__} is not that of "
            f"{CODE_LOCK}, written with {lock.version}; `wsss doctor upgrade` says which stages "
            "run again with what is installed, and `wsss doctor upgrade --write` goes over to it"
        )


def main(pipeline: Pipeline, arguments: list[str]) -> None:
    """Run a stage from the command line: settings in, tracker around, errors in plain words.

    Args:
        pipeline: all stages.
        arguments: the stage's name, and that of the entry where it has some.

    What a user can mend is printed as one message with exit code 1, and so is what stopped the
    stage from outside, with what is kept of its work; the exit code is 130 after Ctrl-C and 143
    after SIGTERM, and 99 after SIGUSR1 or SIGUSR2, which ask for the same command to be run again.
    Anything else is a bug and keeps its traceback.

    torchrun may start it, on one node or several, in place of machine.devices.
    """
    if not 1 <= len(arguments) <= 2:
        sys.exit("usage: python -m wsss.stages STAGE [ENTRY], such as refine_cams crf")
    name = "@".join(arguments)
    show_log(logging.INFO if is_first() else logging.WARNING)
    end_with_parent()
    if is_one_of_several():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started all of them stops them
    stop_on_signals()
    with in_plain_words(name, run_command(Path(), name)) as known:
        part = current_part()
        given = given_params() if part is None else part.params
        if given is None:
            params, site = load_params("params.yaml"), read_site(Path())
            site.check_names(stage.name for stage in pipeline)
        else:
            params, site = parse_params(given, "the settings that were given"), Site()
        run_target(pipeline, pipeline.target(name, params), params, site, known, part)
        tell_done()


@dataclass
class Known:
    """What is known of a stage that stops, for its message.

    Attributes:
        outs: what it makes.
        costly: its settings that memory depends on, with their values.
    """

    outs: tuple[Path, ...] = ()
    costly: Sequence[str] = ()


@contextmanager
def in_plain_words(name: str, again: str) -> Iterator[Known]:
    """Print what stops the block, and end the program with its exit code; see `main`.

    Args:
        name: of what runs.
        again: the command that goes on.

    Yields:
        Takes what is known of the stage that runs.
    """
    known = Known()
    try:
        yield known
    except LeftAloneError as alone:
        lost = alone.__cause__ or alone
        keep_error(lost)
        if is_started_by_another() and local_rank() == 0:
            tell_lost(why=str(lost))
        sys.exit(LEFT_ALONE)
    except KeyboardInterrupt as stop:
        if is_first() and not is_one_of_several():
            _say(f"{name} was stopped by {str(stop) or 'Ctrl-C'}", _go_on(again, known.outs))
        sys.exit(exit_code(stop))
    except Exception as error:
        if is_started_by_another() and not is_first():
            time.sleep(2 + 0.5 * rank())  # where all say the same, the first one's end is theirs
        traced = os.environ.get("WSSS_TRACEBACK")
        text = None if traced else explain(error, known.costly, known.outs)
        if text is None:
            raise
        from_outside = isinstance(error, MemoryError | RuntimeError) or (
            isinstance(error, OSError) and error.errno is not None
        )
        _say(f"{name} stopped", text, *([_go_on(again, known.outs)] if from_outside else []))
        sys.exit(1)


def _check_launch(devices: int) -> None:
    """Raise ValueError where params.yaml asks for other processes than a launcher has started."""
    if devices not in (1, processes_here()):
        raise ValueError(
            f"machine.devices is {devices}, but the launcher has started {processes_here()} "
            f"processes on this machine; set it to 1, or start {devices} "
            f"(`torchrun --nproc-per-node {devices}`)"
        )


def run_target(
    pipeline: Pipeline,
    target: Target,
    params: Params,
    site: Site,
    known: Known,
    part: Part | None = None,
) -> None:
    """Run a target in the project's folder, recorded as a run in MLflow; a part of it without.

    Args:
        pipeline: all stages.
        target: what runs.
        params: all settings.
        site: where tasks may do the work.
        known: is told what a message has to say.
        part: of the work, that this process does as a task.

    Raises:
        SystemExit: several processes run it together, and one of them failed and said why.
    """
    known.outs = tuple(Path(out) for out in target.outs(params))
    known.costly = costly_settings(target.settings(params))
    engine = site.of(target.stage.name).engine
    launched = is_launched(target.stage.spread(params), engine)
    devices = params.machine.devices
    alone = launched or part is not None or "LOCAL_RANK" in os.environ
    if is_started_by_another():
        if not target.stage.devices and not is_first():
            return  # it is one process's work
        if part is None:  # of a task the site says how many there are
            _check_launch(devices)
        if not target.stage.devices:
            os.environ |= {"WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    elif target.stage.devices and devices > 1 and not alone:
        check_devices(params.machine.accelerator, devices)
        command = [sys.executable, "-m", "wsss.stages", *target.name.split("@")]
        code = run_together(command, devices, params.model_dump(mode="json"))
        if stopped := stopped_by(code):  # one of them was asked, and all have stopped
            raise stopped
        if code:
            sys.exit(code)
        return
    several = is_started_by_another() and world_size() > 1
    with join_others() if several else nullcontext():
        _run(pipeline, target, params, site, part, launched=launched)


def _run(
    pipeline: Pipeline,
    target: Target,
    params: Params,
    site: Site,
    part: Part | None,
    *,
    launched: bool,
) -> None:
    """Run a target, or a part of it, in this process."""
    paths = Paths(Path())  # not DVC_ROOT: in a queued experiment that is another folder
    check_code(target, paths.root)
    check_inputs(pipeline, target, params, paths.root)
    if part is not None:
        with suppress(PartDone), _others():
            Job(pipeline, target, params, paths, NullTracker(), part=part).run()
        return
    job = Job(pipeline, target, params, paths, NullTracker(), site=site)
    if not launched:
        job.ahead = lambda _: paths.root
    if (
        launched
        and site.of(target.stage.name).engine == "slurm"
        and params.machine.accelerator != "cpu"
    ):
        # a login node, where the stage is but finished, need not have what its tasks have
        machine = params.machine.model_copy(update={"accelerator": "auto"})
        job.params = params.model_copy(update={"machine": machine})
        job.task_params = params
    with ExitStack() as locks:
        if is_first():  # before its inputs are read and its run is opened
            for out in target.outs(params):
                locks.enter_context(hold(paths.root / out, target.name))
        _run_alone(job, trained_elsewhere=launched and target.stage.spread(params) == "epochs")


def _tell_of_later(job: Job) -> None:
    """Warn, before a stage trains, of what will stop a later one.

    It is no error: whoever wants maps alone need not care.
    """
    stages = job.pipeline.stages
    for stage in stages[stages.index(job.target.stage) + 1 :]:
        try:
            with naming(stage.section):
                stage.check(job.params)
        except ValueError as error:
            log.warning("%s will not run with these settings: %s", stage.name, error)


def _say(title: str, *lines: str) -> None:
    console = Console(stderr=True)
    console.print(f"[bold red]{title}[/]")
    for line in filter(None, lines):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _go_on(command: str, outs: tuple[Path, ...]) -> str:
    """Say what is kept, and how to go on."""
    kept = kept_work(outs)
    again = f"`{command}`"
    return f"{kept} {again} goes on from there." if kept else f"{again} starts it again."


def _run_alone(job: Job, *, trained_elsewhere: bool) -> None:
    target = job.target
    if target.stage.is_idle(job.params):
        why = f"{entries} is empty" if (entries := target.stage.entries) else "no setting wants it"
        log.info("%s: nothing to do, as %s", target.name, why)
        job.run()
        return
    if job.target.stage.devices and job.is_first:
        _tell_of_later(job)
    with job.whole(), open_stage_run(job) as tracker:
        job.tracker = tracker
        with _others():
            run_job(job)
        if trained_elsewhere:
            record_epochs(job)


@contextmanager
def _others() -> Iterator[None]:
    """Let errors that only say that another process of the stage is gone be LeftAloneError."""
    try:
        yield
    except RuntimeError as error:
        if lost_another(error):
            raise LeftAloneError from error
        raise
