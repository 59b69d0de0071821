"""Maps besides those of generate_cams, for the refiner fusion and as object maps."""

from pathlib import Path
from typing import Any

from wsss.config.sections import FurtherCamsSettings
from wsss.pipeline import Job, Stage


def run(job: Job) -> None:
    """Write data/further_cams/<source>/<name>.npz for every image and named source."""

    def write(name: str, settings: FurtherCamsSettings, folder: Path) -> dict[str, Any]:
        from wsss.stages._cams import write_cams

        return write_cams(job, settings, job.paths.root / classifier(settings), folder, name)

    job.make_entries(write)


def classifier(settings: FurtherCamsSettings) -> str:
    """The folder of the classifier that makes a source's maps."""
    teacher = settings.classifier
    return f"models/teachers/{teacher}" if teacher else "models/classifier"


def reads(settings: FurtherCamsSettings) -> tuple[str, ...]:
    """What a source's maps are made of."""
    return "data/images", "data/splits", classifier(settings)


STAGE = Stage(
    "generate_further_cams",
    run,
    settings=("further_cams",),
    reads=("data/images", "data/splits", "models/classifier", "models/teachers"),
    makes=("data/further_cams",),
    code=("cam", "loading", "models", "stages/_cams.py", "stages/_warnings", "windows.py"),
    entries="further_cams",
    entry_reads=reads,
    devices=True,
    spread=lambda _: "images",
    images=lambda _: "scored",
)
