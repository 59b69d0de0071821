"""`wsss cluster`: describe the site once, and see that it works."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, help="Where stages run: this machine's processes, or a cluster's jobs."
)

TEXT = """\
# Where stages run. Git leaves this file alone, and results do not depend on it.
# WSSS_ENGINE=inline|local|slurm goes before every engine named here.

engine: {engine}  # inline: one process; local: processes of this machine; slurm: jobs
tasks: {tasks}  # parts in which the images of a stage are done
restarts: 2  # of a task that failed

# What a job asks for; leave out what your cluster decides itself
{partition}
# account: my_project
# qos: normal
time: "4:00:00"  # a job that reaches it is queued again, and goes on
gpus: {gpus}  # per task; a training runs one process for each
cpus: 4
# memory: 32G
# at_once: 16  # tasks that run at the same time at most
# modules: [cuda]  # `module load` in a job
# setup: ["source /shared/venv/bin/activate"]  # shell commands before a job's work
# container: apptainer exec --nv /shared/wsss.sif  # before a task's command
# srun: [--container-image=/shared/wsss.sqsh, "--container-mounts=/shared"]  # of pyxis
# sbatch: {{constraint: a100}}  # further options
# scratch: $SCRATCH  # that all nodes see, for logs; .launch in the project otherwise

# What is different for a stage, for `study` or for `tune`
stages:
  make_pseudo_masks: {{gpus: 0}}
  refine_cams: {{gpus: 0}}
  # train_segmenter: {{gpus: 4, nodes: 2, time: "1-0:00:00"}}
"""


@app.command()
def init(
    engine: Annotated[str, typer.Option(help="inline, local or slurm.")] = "slurm",
    partition: Annotated[str, typer.Option(help="Of the cluster.")] = "",
    gpus: Annotated[int, typer.Option(min=0, help="Per task.")] = 1,
    force: Annotated[bool, typer.Option("--force", help="Write over the file there.")] = False,
) -> None:
    """Write config.local.yaml, with all its keys; what it does not know, it leaves to you."""
    from wsss.artifacts import atomic_path
    from wsss.launch.site import NAME, read_site
    from wsss.launch.slurm import partitions

    path = Path(NAME)
    if path.exists() and not force:
        raise ValueError(f"{NAME} is there already; edit it, or write it anew with --force")
    known = partitions() if engine == "slurm" else []
    line = f"partition: {partition}" if partition else "# partition: gpu"
    if known:
        line += f"  # of this cluster: {', '.join(known)}"
    text = TEXT.format(
        engine=engine, tasks="auto" if engine == "local" else 8, partition=line, gpus=gpus
    )
    before = path.read_text(encoding="utf-8") if path.exists() else None
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    try:
        read_site(Path())
    except ValueError:  # an engine that is none: the file was not there, or is as it was
        if before is None:
            path.unlink()
        else:
            path.write_text(before, encoding="utf-8")
        raise
    typer.echo(f"wrote {NAME}; `wsss cluster check` tries it")


@app.command()
def check(
    stage: Annotated[str, typer.Argument(help="Whose tasks to try.")] = "generate_cams",
) -> None:
    """Run a task that does nothing, as tasks of a stage run, and say what is wrong."""
    from wsss.launch import Task, check_all_done, read_site, run_tasks
    from wsss.launch.task import log_folder, python_of
    from wsss.progress import show_log
    from wsss.stages import find_stages

    show_log()
    root, site = Path(), read_site(Path())
    site.check_names(found.name for found in find_stages())
    settings = site.of(stage)
    folder = log_folder(settings, root, "check")
    done = folder / "check.done"
    done.unlink(missing_ok=True)
    text = (
        "import os, socket, torch, wsss.stages; from pathlib import Path; "
        "assert Path('params.yaml').exists(), f'{Path().resolve()} is not the project'; "
        "print(socket.gethostname(), 'sees the project and', torch.cuda.device_count(), 'GPUs')"
    )
    task = Task("check", (python_of(settings), "-c", text), done)
    check_all_done(run_tasks([task], settings, root, "check"), "wsss cluster check")
    logs = [*folder.glob("*.out"), *folder.glob("*.log")]
    said = [line for log in logs for line in log.read_text().splitlines() if " sees the " in line]
    typer.echo(f"{settings.engine}: {said[-1] if said else 'a task ran'}")
