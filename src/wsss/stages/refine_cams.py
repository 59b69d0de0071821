"""Refine CAMs through one chain of refine.chains, such as a dense CRF."""

import time
from collections.abc import Iterator, Sequence

from wsss.artifacts import (
    Filling,
    Manifest,
    Paths,
    Sample,
    ScoreMap,
    has_file,
    read_classes,
    read_image,
    read_score_map,
    write_score_map,
)
from wsss.artifacts.background import BackgroundSettings
from wsss.config.params import Params
from wsss.pipeline import Job, Picture, Stage
from wsss.progress import track
from wsss.refine import Chain, Context
from wsss.settings import Named
from wsss.stages._warnings.tally import map_tally, map_values

BATCH_SIZE = 16  # images whose full-resolution scores are in memory together


def make_chain(refiners: Sequence[Named], params: Params, paths: Paths) -> Chain:
    """Refiners that find what this project has, in windows as it has them.

    Where the data have no background, none competes with the classes.
    """
    if not read_classes(paths.splits)[1]:
        refiners = [
            entry.without_background() if isinstance(entry, BackgroundSettings) else entry
            for entry in refiners
        ]
    context = Context(
        params.machine.accelerator,
        paths.proposals,
        paths.affinities,
        paths.further_cams,
        paths.annotations,
    )
    refine = params.refine
    return Chain(refiners, context, window=refine.window, overlap=refine.window_overlap)


def refined_maps(
    refine: Chain, samples: Sequence[Sample], paths: Paths, window: int
) -> Iterator[tuple[Sample, ScoreMap]]:
    """Refine the CAMs of samples, in batches; an image larger than the window goes alone."""
    batches: list[list[Sample]] = []
    small = []
    for sample in samples:
        if window and max(sample.size) > window:
            batches.append([sample])
        else:
            small.append(sample)
    batches += [small[at : at + BATCH_SIZE] for at in range(0, len(small), BATCH_SIZE)]
    for batch in batches:
        images = [read_image(paths.images / sample.image) for sample in batch]
        cams = [read_score_map(paths.cams / f"{sample.name}.npz") for sample in batch]
        names = [sample.name for sample in batch]
        yield from zip(batch, refine(images, cams, names), strict=True)


def run(job: Job) -> None:
    """Write data/refined/<chain>/<name>.npz for every image."""
    chain, window = job.entry, job.params.refine.window
    refine = make_chain(job.params.refine.chains[chain], job.params, job.paths)
    manifest, tally = Manifest.read(job.paths.splits), map_tally()
    samples = manifest.all_samples()
    with job.staging() as staging:
        filling = Filling(staging.path, len(samples), packed=manifest.packed, share=job.share)
        count, started = 0, time.perf_counter()
        for part in filling.parts(samples, lambda sample: f"{sample.name}.npz", f"refine {chain}"):
            missing = [
                sample
                for sample in filling.share(part)
                if not has_file(staging.path / f"{sample.name}.npz")
            ]
            maps = refined_maps(refine, missing, job.paths, window)
            for sample, refined in track(maps, f"refine {chain}", len(missing)):
                write_score_map(staging.path / f"{sample.name}.npz", refined)
                tally.note(sample, refined)
            count += len(missing)
        job.rate(count, time.perf_counter() - started)
    if job.is_first:  # now with what the others made
        tally.complete(samples, job.paths.refined(chain))
        advice = "see what generate_cams warns of, and change refine.chains." + chain
        job.report({"num_images": len(samples)} | map_values(job, tally, manifest, advice))


STAGE = Stage(
    "refine_cams",
    run,
    settings=("refine.chains.{entry}", "refine.window", "refine.window_overlap"),
    reads=(
        "data/annotations/partial",
        "data/cams",
        "data/further_cams",
        "data/images",
        "data/proposals",
        "data/splits",
        "models/affinities",
    ),
    makes=("data/refined/{entry}",),
    code=("densecrf", "loading", "models", "refine", "stages/_warnings", "windows.py"),
    foreach="refine.chains",
    picture=Picture("refined: {entry}", "scores"),
    devices=True,
    spread=lambda _: "images",
    images=lambda _: "scored",
)
