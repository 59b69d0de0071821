"""Refine the CAMs of every image with one chain of refiners."""

import logging
import sys
import time
from functools import partial

from wsss.artifacts import (
    Manifest,
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
from wsss.stages._base import Paths, execute
from wsss.tracking import Tracker

log = logging.getLogger(__name__)

BATCH_SIZE = 16  # images whose full-resolution scores are in memory together


def refine_context(params: Params, paths: Paths) -> Context:
    """What the refiners of this project find where."""
    return Context(
        params.machine.accelerator, paths.proposals, paths.affinities, paths.further_cams
    )


def run(params: Params, paths: Paths, tracker: Tracker, chain: str) -> None:
    """Read data/cams and the images; write data/refined/<chain>/<name>.npz."""
    settings = params.refine.chains[chain]
    manifest = Manifest.read(paths.splits)
    samples = manifest.all_samples()
    out = paths.refined(chain)
    context = refine_context(params, paths)
    helps = (context.proposals, context.affinities, context.further_cams)
    key = fingerprint(
        [one.model_dump(mode="json") for one in settings],
        source_fingerprint(),
        files=[paths.splits, paths.cams, *(one for one in helps if one.exists())],
    )
    refine = Chain(settings, context)
    with Staging(out, key) as staging:
        missing = [one for one in samples if not (staging.path / f"{one.name}.npz").exists()]
        started = time.perf_counter()
        batches = [missing[at : at + BATCH_SIZE] for at in range(0, len(missing), BATCH_SIZE)]
        for batch in track(batches, f"refine {chain}", len(missing), BATCH_SIZE):
            images = [read_image(paths.images / one.image) for one in batch]
            cams = [read_score_map(paths.cams / f"{one.name}.npz") for one in batch]
            names = [one.name for one in batch]
            for sample, refined in zip(batch, refine(images, cams, names), strict=True):
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
