"""A stage that writes a line about each image, driven by tasks of its own, which may meet mishaps.

It is run as `python toy.py`, and stands in for the Python of its tasks, too: then its arguments are
those of `python -m wsss.stages`. A line of made.txt says for each file who made it.
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import wsss.tracking
from wsss.artifacts import Manifest, atomic_path
from wsss.config.sections import FurtherCamsSettings
from wsss.pipeline import Job, Pipeline, Stage, exclusive
from wsss.pipeline.execute import main
from wsss.progress import track


def run(job: Job) -> None:
    with job.staging() as staging:
        fill(job, staging.path)
    job.report({"images": len(list((job.paths.root / "data/toy").glob("*.txt")))})


def run_entries(job: Job) -> None:
    def make(name: str, settings: FurtherCamsSettings, folder: Path) -> dict[str, Any]:
        fill(job, folder)
        return {"images": len(list(folder.glob("*.txt")))}

    job.make_entries(make)


def fill(job: Job, folder: Path) -> None:
    samples = Manifest.read(job.paths.splits).all_samples()
    for sample in track(job.share(samples), "toy"):
        file = folder / f"{sample.name}.txt"
        if file.exists():
            continue
        time.sleep(float(os.environ.get("TOY_SLEEP", "0")))
        meet(sample.name)
        with atomic_path(file) as temporary:
            temporary.write_text(f"{sample.name} {job.params.base.rng_seed}\n")
        who = "driver" if job.part is None else f"part {job.part.index}"
        with Path("made.txt").open("a") as made:
            made.write(f"{folder.name} {sample.name} {who}\n")


def meet(name: str) -> None:
    """Be killed at an image the first time, or fail at it each time."""
    if os.environ.get("TOY_FAILS") == name:
        raise ValueError(f"the image {name} is no image")
    if os.environ.get("TOY_KILLED") == name:
        once = Path(f"killed-{name}")
        if not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)


STAGES = [
    Stage(
        "toy",
        run,
        settings=("base.rng_seed", "generate_cams.flip"),
        reads=("data/splits",),
        makes=("data/toy",),
        spread=lambda _: "images",
    ),
    Stage(
        "toys",
        run_entries,
        settings=("further_cams",),
        reads=("data/splits",),
        makes=("data/toys",),
        entries="further_cams",
        spread=lambda _: "images",
    ),
]

if __name__ == "__main__":
    exclusive.PATIENCE = 0.2
    wsss.tracking.has_mlflow = lambda: False  # importing it takes seconds
    name = sys.argv[-1] if len(sys.argv) > 1 else "toy"
    main(Pipeline(STAGES), [name])
