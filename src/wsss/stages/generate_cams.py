"""Class activation maps of every image, for the classes it is tagged with."""

from wsss.pipeline import Job, Picture, Stage


def run(job: Job) -> None:
    """Write data/cams/<name>.npz for every image."""
    from wsss.stages._cams import write_cams

    with job.staging() as staging:
        report = write_cams(job, job.params.generate_cams, job.paths.classifier, staging.path)
    job.report(report)


STAGE = Stage(
    "generate_cams",
    run,
    settings=("generate_cams",),
    reads=("data/images", "data/splits", "models/classifier"),
    makes=("data/cams",),
    code=("cam", "loading", "models", "stages/_cams.py", "stages/_warnings", "windows.py"),
    picture=Picture("CAM", "scores"),
    devices=True,
    spread=lambda _: "images",
    images=lambda params: "all" if params.train_affinities else "scored",
)
