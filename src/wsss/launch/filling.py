"""Tasks that fill the folder which a stage makes, started by the process that then finishes it.

That process goes through the stage's own `run` once the tasks are done. It finds nothing missing,
so what it reports, and every byte of its out, is what it would be had it done all by itself.
"""

import logging
from pathlib import Path

from wsss.artifacts import Manifest, Paths
from wsss.config.sections import MachineSettings
from wsss.launch.local import places
from wsss.launch.part import PART, SHARD, Part
from wsss.launch.site import Site
from wsss.launch.task import Task, python_of
from wsss.launch.tasks import check_all_done, run_tasks

__all__ = ["fill", "is_launched"]

log = logging.getLogger(__name__)


def is_launched(kind: str, engine: str) -> bool:
    """Whether tasks do a stage's work.

    Args:
        kind: what its work is; see `wsss.pipeline.Stage.spread`.
        engine: that is chosen for it. Several processes of one machine train together without one,
            as machine.devices says.
    """
    return (kind == "images" and engine != "inline") or (kind == "epochs" and engine == "slurm")


def fill(
    target: str,
    paths: Paths,
    machine: MachineSettings,
    site: Site,
    part: Part,
    entry: str,
    folder: Path,
) -> None:
    """Let tasks do what is missing of a folder; nothing where the engine is inline.

    Args:
        target: the full name of the stage, such as "refine_cams@crf".
        paths: of the project.
        machine: how many processes train where the site names no GPUs.
        site: the engines.
        part: what all tasks have in common.
        entry: the named entry that the folder belongs to; "" of a stage without.
        folder: the folder in the making.

    Raises:
        TasksFailedError: a task failed more often than it may.
        ValueError, ImportError: the engine cannot run here.
    """
    settings = site.of(target.partition("@")[0])
    if not is_launched(part.kind, settings.engine):
        return
    file = part.write(folder).absolute()
    title = f"{target}.{entry}" if entry else target
    command = [python_of(settings), "-m", "wsss.stages", *target.split("@")]
    if part.kind == "epochs":
        ranks = settings.gpus or machine.devices
        tasks = [_task("training", command, file, 0, 1, ranks)]
    else:
        count = settings.parts(len(Manifest.read(paths.splits).all_samples()), places())
        tasks = [
            _task(f"part {at + 1} of {count}", command, file, at, count, 0) for at in range(count)
        ]
    failed = run_tasks(tasks, settings, paths.root, title, folder=folder)
    check_all_done(failed, title)


def _task(name: str, command: list[str], file: Path, index: int, count: int, ranks: int) -> Task:
    done = file.with_name(f".work.{name.replace(' ', '-')}.done")
    return Task(name, tuple(command), done, {PART: str(file), SHARD: f"{index}/{count}"}, ranks)
