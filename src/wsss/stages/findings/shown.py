"""Findings as parts of a page, with small pictures of the images that show them."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image

from wsss.artifacts import Sample, has_file
from wsss.report import PanelColumn
from wsss.report.cells import row_cells
from wsss.report.contact_sheet import COLUMNS, thumbnail
from wsss.report.frame import data_uri, escape
from wsss.stages.findings.finding import Finding

__all__ = ["finding_card", "finding_title", "pictures_of"]


def finding_title(finding: Finding) -> str:
    """The kind of a finding, in words."""
    return finding.name.replace("_", " ")


def pictures_of(
    finding: Finding,
    samples: Mapping[str, Sample],
    images: Path,
    num_fg_classes: int,
    most: int = COLUMNS,
) -> list[tuple[str, Image.Image]]:
    """Small pictures of the images that show a finding best, by name.

    Args:
        finding: what is wrong.
        samples: by name.
        images: the folder of prepared images.
        num_fg_classes: K.
        most: pictures, at most.
    """
    shown = finding.shown
    pictures = []
    for name in finding.images[:most]:
        sample = samples.get(name)
        if sample is None or not has_file(images / sample.image):
            continue
        columns = (
            [] if shown.kind == "image" else [PanelColumn(finding.name, shown.kind, shown.folder)]
        )
        cells = [cell for cell in row_cells(images, sample, columns, num_fg_classes) if cell]
        pictures.append((name, thumbnail(cells[-1])))
    return pictures


def finding_card(finding: Finding, pictures: Sequence[tuple[str, Image.Image]]) -> str:
    """A finding as HTML: what is wrong, what mends it, and what shows it."""
    changes = ", ".join(
        f"{change.how} <code>{escape(change.key)}</code>" for change in finding.changes
    )
    truth = (
        "found with masks of annotators, by the scores of evaluation"
        if finding.needs_truth
        else "found without masks of annotators"
    )
    more = len(finding.images) - len(pictures)
    figures = "".join(
        f'<figure><img alt="{escape(name)}" src="{data_uri(_jpeg(picture), "image/jpeg")}">'
        f"<figcaption>{escape(name)}</figcaption></figure>"
        for name, picture in pictures
    )
    rest = f'<p class="quiet">and {more} more images</p>' if pictures and more > 0 else ""
    return (
        f'<article class="card finding {finding.severity}"><h3><span class="tag '
        f'{finding.severity}">{finding.severity}</span> {escape(finding.about)}: '
        f"{escape(finding_title(finding))}</h3><p>{escape(finding.text)}</p>"
        + (f"<p>Settings: {changes}</p>" if changes else "")
        + f'<p class="quiet small">{truth}</p>'
        + (f'<div class="thumbs">{figures}</div>' if figures else "")
        + f"{rest}</article>"
    )


def _jpeg(picture: Image.Image) -> bytes:
    data = BytesIO()
    picture.save(data, format="JPEG", quality=80, optimize=True)
    return data.getvalue()
