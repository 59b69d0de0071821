"""Masks of no class of every image, by each named source; without any, nothing."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from wsss.artifacts import (
    Filling,
    Manifest,
    Sample,
    has_file,
    read_image,
    read_proposals,
    write_proposals,
)
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

        manifest = Manifest.read(job.paths.splits)
        samples = manifest.all_samples()
        source = PROPOSALS.build(settings, partial(device_of, job.params.machine.accelerator))
        work = partial(_write, source, job.paths.images, folder)
        filling = Filling(folder, len(samples), packed=manifest.packed, share=job.share)
        count, started = 0, time.perf_counter()
        for part in filling.parts(samples, lambda sample: f"{sample.name}.npz", name):
            missing = [item for item in part if not has_file(folder / f"{item.name}.npz")]
            for _ in track(_each(work, missing, source.parallel), name, len(missing)):
                pass
            count += len(missing)
        job.rate(count, time.perf_counter() - started, name)
        if not job.is_first:
            return {}
        files = (folder / f"{sample.name}.npz" for sample in samples)
        counts = np.fromiter((len(read_proposals(file)) for file in files), int, len(samples))
        bare = int(np.count_nonzero(counts == 0))
        if samples and 2 * bare >= len(samples):
            job.warn(
                f"{bare} of {len(samples)} images have no proposals, so that what takes these "
                f"changes nothing there; {_mend(name, settings)}"
            )
        return {
            "num_images": len(counts),
            "num_proposals": int(counts.sum()),
            "fewest": int(counts.min()) if len(counts) else 0,
            "most": int(counts.max(initial=0)),
        }

    job.make_entries(make)


def _mend(name: str, settings: Named) -> str:
    """What gives a source more proposals: lower thresholds, where it has these."""
    if {"pred_iou_thresh", "stability_score_thresh"} <= type(settings).model_fields.keys():
        return f"lower make_proposals.{name}.pred_iou_thresh or stability_score_thresh"
    return f"change make_proposals.{name}"


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
    spread=lambda _: "images",
    images=lambda _: "scored",
)
