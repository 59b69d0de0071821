"""What is wrong with the results: how masks fail, and what the files of all stages tell."""

from collections.abc import Sequence

from wsss.config.segmentation import PseudoMaskSettings
from wsss.evaluate.failures import KINDS
from wsss.report.frame import Section, escape
from wsss.stages._report.choosing import FAILURES, Group
from wsss.stages._report.known import Known
from wsss.stages._report.scores import no_truth
from wsss.stages.findings.shown import finding_card, pictures_of

__all__ = ["advice", "failure_section", "failure_shares", "finding_section"]

PICTURES = 5  # of a finding


def advice(kind: str, settings: PseudoMaskSettings) -> str:
    """What mends a kind of failure, with settings in backquotes."""
    key, less = settings.towards(background=False)
    more = settings.towards(background=True)[1]
    return {
        "missed": f"{less} `{key}`, or add larger ones to `generate_cams.scales`, on which small "
        "objects are seen",
        "merged": f"where objects are counted, {more} `{key}`; for masks of classes this is no "
        "fault",
        "leak": f"take a chain that follows edges in `make_pseudo_masks.chain`, or {more} `{key}`",
        "context": "give images of the surroundings alone as `prepare_data.background_images`, so "
        "that the classifier learns that these are not the class",
    }[kind]


def failure_shares(known: Known) -> dict[str, tuple[int, float]]:
    """By kind of failure, the images that show it, and their share of those looked at."""
    scores = list(known.image_scores.values())
    counts = {kind: sum(kind in item.failures.shown() for item in scores) for kind in KINDS}
    return {kind: (count, count / max(1, len(scores))) for kind, count in counts.items()}


def failure_section(known: Known, groups: Sequence[Group]) -> Section:
    """How often masks fail in which way, with a way to the images."""
    if not known.image_scores:
        return Section("failures", "How masks fail", no_truth(known), "Failures")
    settings = known.params.make_pseudo_masks
    there = {group.key for group in groups}
    cards = []
    for kind, (count, share) in failure_shares(known).items():
        title, about = FAILURES[kind]
        button = (
            f'<button type="button" data-go="{kind}">Show {title.lower()}</button>'
            if kind in there
            else ""
        )
        cards.append(
            f'<article class="card"><h3>{escape(title)}</h3><p>{escape(about)}</p>'
            f"<p><b>{count}</b> of {len(known.image_scores)} images ({share:.0%})</p>"
            + (f"<p>What mends it: {marked(advice(kind, settings))}.</p>" if count else "")
            + f"{button}</article>"
        )
    total = sum(item.failures.missed for item in known.image_scores.values())
    text = (
        "<p>Each image against its ground truth, object by object; an image may show several. In "
        f"all, {total} objects of 0.3 % of their image or more are missed.</p>"
    )
    return Section(
        "failures", "How masks fail", f'{text}<div class="grid">{"".join(cards)}</div>', "Failures"
    )


def finding_section(known: Known) -> Section:
    """The findings of `wsss doctor run`, without those for which a network is asked."""
    samples = {sample.name: sample for sample in known.manifest.all_samples()}
    number = known.manifest.num_fg_classes
    cards = "".join(
        finding_card(
            finding, pictures_of(finding, samples, known.paths.images, number, most=PICTURES)
        )
        for finding in known.findings
    )
    body = cards or '<p class="card">Nothing is wrong with these results, as far as files tell.</p>'
    return Section("findings", "What the doctor found", body, "Findings")


def marked(text: str) -> str:
    """Plain text as HTML, with what stands between backquotes as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if at % 2 else part for at, part in enumerate(parts))
