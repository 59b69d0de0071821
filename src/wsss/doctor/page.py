"""Findings on one page with their pictures, which needs no other file."""

from pathlib import Path

from wsss.artifacts import Manifest
from wsss.doctor.results import ResultCheck
from wsss.report.contact_sheet import draw_contact_sheet
from wsss.report.frame import Section, escape, page_text, write_page
from wsss.stages.findings.shown import finding_card, finding_title, pictures_of

__all__ = ["write_findings"]

SHEET = "findings.png"


def write_findings(
    found: ResultCheck, manifest: Manifest | None, images: Path, folder: Path
) -> Path:
    """Write index.html, and findings.png, the contact sheet of the images that show them.

    Args:
        found: what is wrong.
        manifest: of the samples; None where there are none, and no pictures.
        images: the folder of prepared images.
        folder: is made if it is not there.

    Returns:
        The page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    samples = {item.name: item for item in manifest.all_samples()} if manifest else {}
    number = manifest.num_fg_classes if manifest else 0
    rows = [(finding, pictures_of(finding, samples, images, number)) for finding in found.findings]
    drawn = [
        (f"{finding.about}: {finding_title(finding)}", [picture for _, picture in pictures])
        for finding, pictures in rows
        if pictures
    ]
    if drawn:
        draw_contact_sheet(folder / SHEET, drawn)
    else:
        (folder / SHEET).unlink(missing_ok=True)
    page = folder / "index.html"
    cards = "\n".join(finding_card(finding, pictures) for finding, pictures in rows)
    body = f'<div class="findings">{cards}</div>' if cards else ""
    write_page(
        page,
        page_text(
            "What is wrong with these results",
            [Section("findings", "Findings", body)],
            top=_top(found),
        ),
    )
    return page


def _top(found: ResultCheck) -> str:
    count = len(found.findings)
    first = f"{count} finding{'s' * (count != 1)} in {', '.join(found.looked_at) or 'nothing'}."
    missing = (
        f"<p>Not run, and not looked at: {escape(', '.join(found.missing))}.</p>"
        if found.missing
        else ""
    )
    others = "".join(
        f"<p>{escape(name)} has results of other settings: {escape(reason)}.</p>"
        for name, reason in found.outdated.items()
    )
    return f'<p class="lead">{escape(first)}</p>\n{missing}{others}'
