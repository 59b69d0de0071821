"""A stage that writes a file a moment, to be run, stopped and killed as a process of its own.

The mishap to meet is the first argument; the rest of the way is that of every stage.
"""

import os
import sys
import time
from pathlib import Path

import wsss.tracking
from wsss.pipeline import Job, Pipeline, Stage, exclusive
from wsss.pipeline.execute import main

COUNT = 100


def run(job: Job) -> None:
    with job.staging() as staging:
        had = (staging.path / ".work.last").exists()
        for index in range(COUNT):
            file = staging.path / f"{index}.txt"
            if not file.exists():
                file.write_text("done")
                print(f"made {index}", flush=True)
                meet(sys.argv[1], index)
            (staging.path / ".work.last").write_text("checkpoint")
    if sys.argv[1] == "late":
        raise OSError(28, "No space left on device", "reports/toy.json")
    if sys.argv[1] == "late and slow":
        print("late", flush=True)
        time.sleep(30)
    job.report({"resumed": staging.resumed, "checkpoint": had})


def meet(mishap: str, index: int) -> None:
    if mishap == "slow":
        time.sleep(0.05)
    while mishap == "waits" and not Path("go").exists():
        time.sleep(0.05)
    if mishap == "full disk" and index == 30:
        import errno

        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "data/toy/4.txt")
    if mishap == "little memory" and index == 30:
        raise MemoryError("Unable to allocate 3.2 TiB for an array")
    if mishap == "bug" and index == 30:
        raise RuntimeError("shapes do not match")


if __name__ == "__main__":
    exclusive.PATIENCE = 0.2
    wsss.tracking.has_mlflow = lambda: False  # importing it takes seconds
    toy = Stage("toy", run, settings=("make_pseudo_masks",), makes=("data/toy",))
    main(Pipeline([toy]), ["toy"])
