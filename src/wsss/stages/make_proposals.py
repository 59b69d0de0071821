"""Masks of no class of every image, by each named source; without any, nothing."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from wsss.artifacts import (
    Manifest,
    Paths,
    Sample,
    Staging,
    drop_others,
    fingerprint,
    has_key,
    read_image,
    read_json,
    read_proposals,
    source_fingerprint,
    write_json,
    write_proposals,
)
from wsss.config.params import Params
from wsss.cores import device_of, usable_cores
from wsss.progress import track
from wsss.proposals import ProposalSource
from wsss.registry import PROPOSALS
from wsss.stages._base import execute
from wsss.tracking import Tracker

log = logging.getLogger(__name__)

_MIN_JOBS = 64  # fewer are not worth starting processes for


def run(params: Params, paths: Paths, tracker: Tracker) -> None:
    """Read data/images; write data/proposals/<source>/<name>.npz and the report.

    A source whose settings, images and code are as they were is kept.
    """
    samples = Manifest.read(paths.splits).all_samples()
    drop_others(paths.proposals, params.make_proposals)
    device = partial(device_of, params.machine.accelerator)
    report = {}
    for name, settings in params.make_proposals.items():
        out = paths.proposals / name
        key = fingerprint(settings, source_fingerprint(), files=[paths.splits, paths.images])
        if not has_key(out, key):
            source: ProposalSource = PROPOSALS.build(settings, device)
            with Staging(out, key, keep_key=True) as staging:
                files = [staging.path / f"{one.name}.npz" for one in samples]
                missing = [
                    one for one, file in zip(samples, files, strict=True) if not file.exists()
                ]
                started = time.perf_counter()
                work = partial(_write, source, paths.images, staging.path)
                for _ in track(_each(work, missing, source.parallel), name, len(missing)):
                    pass
                seconds = time.perf_counter() - started
                counts = [len(read_proposals(file)) for file in files]
                write_json(
                    staging.path / "source.json",
                    {
                        "num_images": len(counts),
                        "num_proposals": sum(counts),
                        "fewest": min(counts, default=0),
                        "most": max(counts, default=0),
                    },
                )
            if missing:
                rate = len(missing) / seconds
                log.info("%s: proposals of %d images at %.1f/s", name, len(missing), rate)
                tracker.metrics({f"{name}_images_per_second": rate})
        report[name] = read_json(out / "source.json")
    write_json(paths.report("make_proposals"), report)


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


def _write(source: ProposalSource, images: Path, out: Path, sample: Sample) -> None:
    write_proposals(out / f"{sample.name}.npz", source(read_image(images / sample.image)))


if __name__ == "__main__":
    execute("make_proposals", run, upstream=("data/images", "data/splits"))
