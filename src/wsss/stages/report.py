"""Write one page of all that was run, scored and found, which needs no other file.

It is the last stage: it reads what all others report, and changes nothing.
"""

import logging

from wsss.artifacts import write_json
from wsss.pipeline import Job, Stage
from wsss.report.frame import page_text, write_page
from wsss.stages._report.choosing import choose
from wsss.stages._report.curves import curve_section
from wsss.stages._report.end import end_section, lead
from wsss.stages._report.findings import failure_section, failure_shares, finding_section
from wsss.stages._report.images import gallery_data, image_section
from wsss.stages._report.known import Known
from wsss.stages._report.origin import origin_section
from wsss.stages._report.scores import confusion_section, score_section, steps

PAGE = "report.html"

log = logging.getLogger(__name__)


def run(job: Job) -> None:
    """Write data/report/report.html, and its numbers as report.json.

    The page is the same wherever it is made: what differs between two runs of the same settings on
    the same data, such as times, is not on it, and is put in where MLflow records an experiment.
    Ground truth is read by `wsss.evaluate` alone, to score single images and to show it.
    """
    known, settings = Known(job), job.params.report
    groups = choose(known, settings.images)
    data = gallery_data(known, groups, settings.long_side)
    sections = [
        origin_section(known),
        score_section(known),
        curve_section(known),
        confusion_section(known),
        image_section(known, groups, data),
        failure_section(known, groups),
        finding_section(known),
        end_section(known, groups),
    ]
    title = f"Report: {job.params.base.recipe or job.params.prepare_data.dataset.name}"
    foot = "Written by the stage <code>report</code>; its numbers are in <code>report.json</code>."
    text = page_text(title, sections, top=lead(known) + steps(known), data=data, foot=foot)
    with job.staging() as staging:
        write_page(staging.path / PAGE, text)
        write_json(
            staging.path / "report.json",
            {
                "scores": known.scores,
                "failures": {kind: count for kind, (count, _) in failure_shares(known).items()},
                "findings": [finding.values() for finding in known.findings],
                "groups": {group.key: list(group.images) for group in groups},
            },
        )
    out = job.target.outs(job.params)[0]
    log.info("report: open %s in a browser", job.paths.root / out / PAGE)


STAGE = Stage(
    "report",
    run,
    settings=(
        "report",
        "base.recipe",
        "base.rng_seed",
        "prepare_data",
        "make_proposals",
        "train_teachers",
        "train_classifier",
        "generate_cams",
        "further_cams",
        "train_affinities",
        "refine",
        "make_pseudo_masks",
        "train_segmenter",
        "predict_masks",
        "evaluate",
    ),
    reads=(
        "data/cams",
        "data/images",
        "data/masks",
        "data/predictions",
        "data/pseudo_masks",
        "data/refined",
        "data/splits",
        "reports",
    ),
    makes=("data/report",),
    code=(
        "evaluate",
        "pipeline/names.py",
        "report",
        "stages/_report",
        "stages/_warnings",
        "stages/findings",
    ),
    last=True,
)
