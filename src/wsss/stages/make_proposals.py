"""Masks of no class of every image, by each named source; without any, nothing."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from wsss.artifacts import Manifest, Sample, read_image, read_proposals, write_proposals
from wsss.cores import usable_cores
from wsss.pipeline import Job, Stage
from wsss.progress import track
from wsss.registry import PROPOSALS
from wsss.settings import Named

_MIN_JOBS = 64  # fewer are not worth starting processes for


def run(job: Job) -> None:
    """Write data/proposals/<source>/<name>.npz for every image, and the report."""

    def make(name: str, settings: Named, folder: Path) -> dict[str, Any]:
        from wsss.loading.devices import device_of

        samples = Manifest.read(job.paths.splits).all_samples()
        source = PROPOSALS.build(settings, partial(device_of, job.params.machine.accelerator))
        files = [folder / f"{sample.name}.npz" for sample in samples]
        pairs = zip(samples, files, strict=True)
        missing = [sample for sample, file in pairs if not file.exists()]
        started = time.perf_counter()
        work = partial(_write, source, job.paths.images, folder)
        for _ in track(_each(work, missing, source.parallel), name, len(missing)):
            pass
        job.rate(len(missing), time.perf_counter() - started, name)
        counts = [len(read_proposals(file)) for file in files]
        return {
            "num_images": len(counts),
            "num_proposals": sum(counts),
            "fewest": min(counts, default=0),
            "most": max(counts, default=0),
        }

    job.make_entries(make)


def _each(
    work: Callable[[Sample], None], samples: Sequence[Sample], parallel: bool
) -> Iterator[None]:
    """Do the work for each sample, in processes where that is possible and pays."""
    cores = min(usable_cores(), 8) if parallel and len(samples) >= _MIN_JOBS else 1
    if cores == 1:
        yield from map(work, samples)
        return
    with ProcessPoolExecutor(cores, get_context("spawn")) as pool:
        yield from pool.map(work, samples, chunksize=4)


def _write(source: Any, images: Path, out: Path, sample: Sample) -> None:
    write_proposals(out / f"{sample.name}.npz", source(read_image(images / sample.image)))


STAGE = Stage(
    "make_proposals",
    run,
    settings=("make_proposals",),
    reads=("data/images", "data/splits"),
    makes=("data/proposals",),
    code=("loading", "models", "proposals"),
    entries="make_proposals",
    images=lambda _: "scored",
)
