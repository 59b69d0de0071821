"""What the results come to: what was understood, what it is worth, what to do next."""

from collections.abc import Mapping, Sequence

from wsss.artifacts import SPLITS
from wsss.report.frame import Section, escape
from wsss.stages._report.choosing import FAILURES, Group
from wsss.stages._report.findings import advice, failure_shares, marked
from wsss.stages._report.known import Audit, Known
from wsss.stages.findings.finding import SEVERITIES

__all__ = ["end_section", "lead"]

STEPS = 5  # to do next, at most
OFTEN = 0.1  # of images, from which a failure is worth a step
FAULT_WORDS = 60  # of a finding that stands in a step


def lead(known: Known) -> str:
    """The result in two sentences, below the heading."""
    last = known.main[-1] if known.main else None
    if last is None:
        first = (
            f"{len(known.manifest.all_samples())} images, learned from their tags; no masks to "
            "score with."
        )
    else:
        first = (
            f"From tags to masks with a mean IoU of <b>{last.score(known.split):.3f}</b> on "
            f"{escape(known.split)} ({escape(last.title)})."
        )
    found = f"The doctor found {_counted(known) or 'nothing wrong'}."
    return f'<p class="lead">{first} {found} <a href="#end">What to do next</a></p>'


def _counted(known: Known) -> str:
    """How many findings of each severity there are; "" without any."""
    held = [finding.severity for finding in known.findings]
    counts = {severity: held.count(severity) for severity in SEVERITIES}
    return " and ".join(f"{n} {what}{'s' * (n != 1)}" for what, n in counts.items() if n)


def end_section(known: Known, groups: Sequence[Group]) -> Section:
    """The end of the page."""
    parts = (
        ("What was understood", "ul", _understood(known)),
        ("What it is worth", "ul", _worth(known)),
        ("What to do next", "ol", _next(known, groups)),
    )
    body = "".join(
        f"<section><h3>{title}</h3><{tag}>"
        + "".join(f"<li>{line}</li>" for line in lines)
        + f"</{tag}></section>"
        for title, tag, lines in parts
    )
    return Section("end", "What this comes to", f'<div class="end">{body}</div>', "Next")


def _understood(known: Known) -> list[str]:
    lines = []
    learned = known.reports.get("train_classifier", {})
    for key, where in (("val_map", "val"), ("selection_map", "the selection split")):
        if key in learned:
            lines.append(
                "The classifier tells the classes apart with a mean average precision of "
                f"<b>{learned[key]:.3f}</b> on {where}."
            )
            break
    if known.main:
        first, last, split = known.main[0], known.main[-1], known.split
        way = " → ".join(f"{escape(item.title)} {item.score(split):.3f}" for item in known.main)
        lines.append(f"Where the classes are: {way} (mean IoU on {escape(split)}).")
        gains = [
            ((after.score(split) or 0) - (before.score(split) or 0), after.title)
            for before, after in zip(known.main, known.main[1:], strict=False)
        ]
        if first is not last and gains:
            gain, title = max(gains)
            if gain > 0:
                lines.append(f"The step that gave most is <b>{escape(title)}</b>, {gain:+.3f}.")
        own: Mapping[str, float] = {
            name: value
            for name, value in last.report[split].get("iou", {}).items()
            if name != "background"
        }
        if len(own) > 1:
            best, weak = (f(own, key=lambda name: (own[name], name)) for f in (max, min))
            lines.append(
                f"Of the classes {escape(best)} is understood best ({own[best]:.3f}), and "
                f"{escape(weak)} least ({own[weak]:.3f})."
            )
    shares = failure_shares(known)  # what is merged is right, pixel by pixel
    kinds = {kind: found for kind, found in shares.items() if found[0] and kind != "merged"}
    if kinds:
        kind = max(kinds, key=lambda name: kinds[name])
        lines.append(
            f"Masks fail most often by <b>{FAILURES[kind][0].lower()}</b>: {FAILURES[kind][1]}, in "
            f"{kinds[kind][0]} of {len(known.image_scores)} images."
        )
    return lines or ["Nothing has been scored, so what was understood is not known."]


def _worth(known: Known) -> list[str]:
    lines = []
    if known.main:
        last, split = known.main[-1], known.split
        images = last.report[split].get("images")
        learned = {"train": "from which it learned", "selection": "on which its thresholds were "
                   "chosen"}.get(split, "from which nothing was learned")  # fmt: skip
        lines.append(
            f"On {images} images of {escape(split)}, {learned}, masks overlap with the truth by "
            f"<b>{last.score(split):.3f}</b> (mean IoU)."
        )
        tags = last.report.get("protocol", {}).get("tags")
        if tags and tags != "none":
            lines.append(
                "These masks know the tags of their image; of images without tags less is to be "
                "expected."
            )
    else:
        lines.append(
            "Nobody knows yet: without ground truth nothing says how much masks overlap with what "
            "is there."
        )
        agreed = known.reports.get("train_segmenter", {}).get("selection_pseudo_mean_iou")
        if agreed is not None:
            lines.append(
                f"The network draws what its pseudo masks draw, with a mean IoU of {agreed:.3f}. "
                "That says how well it has learned them, not how right they are."
            )
    for audit in known.audits:
        value, low, high = audit.mean_iou
        lines.append(
            f"An audit of {audit.audited} of {audit.images} images puts the "
            f"{escape(audit.of.replace('_', ' '))} of {escape(audit.split)} at <b>{value:.3f}</b>, "
            f"between {low:.3f} and {high:.3f}."
        )
    if not known.audits:
        lines.append(f"No interval can be given: {escape(known.unaudited)}.")
    sets = [split for split in known.scored_splits if split not in SPLITS]
    for split in sets[:2]:
        found = known.main[-1].score(split) if known.main else None
        if found is not None:
            lines.append(f"On the scored set {escape(split)} it is {found:.3f}.")
    return lines


def _next(known: Known, groups: Sequence[Group]) -> list[str]:
    lines: list[str] = []
    for finding in sorted(known.findings, key=lambda found: found.severity != "fault"):
        keys = ", ".join(f"{item.how} <code>{escape(item.key)}</code>" for item in finding.changes)
        if keys and (finding.severity == "fault" or len(lines) < STEPS - 3):
            lines.append(
                f"{keys[0].upper()}{keys[1:]}: {escape(_shortened(finding.text))} "
                '<a href="#findings">more</a>'
            )
    shares, settings = failure_shares(known), known.params.make_pseudo_masks
    for kind in sorted(shares, key=lambda name: -shares[name][1]):
        if kind != "merged" and shares[kind][1] >= OFTEN and len(lines) < STEPS - 2:
            count = shares[kind][0]
            lines.append(
                f"{FAILURES[kind][0]} in {count} images: {marked(advice(kind, settings))}. "
                '<a href="#failures">more</a>'
            )
    unsure = next((group for group in groups if group.key == "uncertain"), None)
    if not known.audits:
        lines.append(
            "Audit masks drawn by chance, <code>wsss audit draw --images 40</code>: an hour of "
            "correcting tells how good all of them are."
        )
    else:
        lines += [line for audit in known.audits[:1] if (line := _audit_more(audit))]
    if unsure is not None:
        lines.append(
            f"Look at the {len(unsure.images)} most uncertain images first, and correct what is "
            f'wrong: {escape(", ".join(unsure.images[:3]))}, … <a href="#images">see them</a>'
        )
    lines.append("<code>wsss suggest --hours 1</code> says what else an hour is best spent on.")
    return lines[:STEPS]


def _audit_more(audit: Audit) -> str:
    """How to narrow an interval; "" where nothing is left to correct."""
    name, rest = escape(audit.name), audit.drawn - audit.audited
    would = ""
    if audit.further:
        low, high = audit.further
        would = f" With 20 more the interval would be {low:.3f} to {high:.3f}."
    if rest:
        return (
            f"Correct the other {rest} images of <code>audits/{name}.txt</code> in their order, "
            f"and run <code>wsss audit score {name}</code>.{would}"
        )
    number = min(audit.drawn + 20, audit.images)
    if number == audit.drawn:
        return ""
    return (
        f"Audit {number - audit.drawn} images more: <code>wsss audit draw --name {name} "
        f"--of {escape(audit.of)} --split {escape(audit.split)} --images {number}</code>.{would}"
    )


def _shortened(text: str) -> str:
    words = text.split()
    return text if len(words) <= FAULT_WORDS else f"{' '.join(words[:FAULT_WORDS])} …"
