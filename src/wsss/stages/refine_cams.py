"""Refine the CAMs of every image with one chain of refiners."""

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial

from wsss.artifacts import (
    Manifest,
    Paths,
    Sample,
    ScoreMap,
    Staging,
    fingerprint,
    read_image,
    read_score_map,
    source_fingerprint,
    write_json,
    write_score_map,
)
from wsss.config.params import Params
from wsss.progress import track
from wsss.refine import Chain, Context
from wsss.report import write_panel
from wsss.settings import Named
from wsss.stages._base import execute
from wsss.tracking import Tracker

log = logging.getLogger(__name__)

BATCH_SIZE = 16  # images whose full-resolution scores are in memory together


def make_chain(refiners: Sequence[Named], params: Params, paths: Paths) -> Chain:
    """Refiners that find what this project has, in windows as it has them."""
    context = Context(
        params.machine.accelerator, paths.proposals, paths.affinities, paths.further_cams
    )
    refine = params.refine
    return Chain(refiners, context, window=refine.window, overlap=refine.window_overlap)


def refined_maps(
    refine: Chain, samples: Sequence[Sample], paths: Paths, window: int
) -> Iterator[tuple[Sample, ScoreMap]]:
    """Refine the CAMs of samples, in batches; an image larger than the window goes alone."""
    batches: list[list[Sample]] = []
    small = []
    for one in samples:
        if window and max(one.size) > window:
            batches.append([one])
        else:
            small.append(one)
    batches += [small[at : at + BATCH_SIZE] for at in range(0, len(small), BATCH_SIZE)]
    for batch in batches:
        images = [read_image(paths.images / one.image) for one in batch]
        cams = [read_score_map(paths.cams / f"{one.name}.npz") for one in batch]
        yield from zip(batch, refine(images, cams, [one.name for one in batch]), strict=True)


def run(params: Params, paths: Paths, tracker: Tracker, chain: str) -> None:
    """Read data/cams and the images; write data/refined/<chain>/<name>.npz."""
    settings = params.refine.chains[chain]
    window = params.refine.window
    manifest = Manifest.read(paths.splits)
    samples = manifest.all_samples()
    out = paths.refined(chain)
    helps = (paths.proposals, paths.affinities, paths.further_cams)
    key = fingerprint(
        list(settings),
        window,
        params.refine.window_overlap,
        source_fingerprint(),
        files=[paths.splits, paths.cams, *(one for one in helps if one.exists())],
    )
    refine = make_chain(settings, params, paths)
    with Staging(out, key) as staging:
        missing = [one for one in samples if not (staging.path / f"{one.name}.npz").exists()]
        started = time.perf_counter()
        maps = refined_maps(refine, missing, paths, window)
        for sample, refined in track(maps, f"refine {chain}", len(missing)):
            write_score_map(staging.path / f"{sample.name}.npz", refined)
        seconds = time.perf_counter() - started
    write_json(paths.report(f"refine_cams_{chain}"), {"num_images": len(samples)})
    if missing:
        log.info("refined %d maps at %.1f images/s", len(missing), len(missing) / seconds)
        tracker.metrics({"images_per_second": len(missing) / seconds})
    tracker.artifact(write_panel(paths, manifest, f"refine_cams_{chain}", chain=chain))


def main() -> None:
    """Take the chain's name from the command line."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m wsss.stages.refine_cams CHAIN (a name in refine.chains)")
    chain = sys.argv[1]
    upstream = (
        "data/images",
        "data/splits",
        "data/cams",
        "data/further_cams",
        "data/proposals",
        "models/affinities",
    )
    execute(f"refine_cams@{chain}", partial(run, chain=chain), upstream)


if __name__ == "__main__":
    main()
