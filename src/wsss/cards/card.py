"""A card: what a model or a mask set is, as JSON and as Markdown; no known licence is left out."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wsss.artifacts import atomic_path
from wsss.cards.weights import Weights
from wsss.models.known_weights import WeightsFacts

__all__ = ["JSON", "MARKDOWN", "Card", "check_page", "write_card"]

MARKDOWN, JSON = "card.md", "card.json"
"""The names of a card in a package."""

POOR = 0.5  # IoU below which a class is named among what a model must not be used for


@dataclass(frozen=True)
class Card:
    """What is said of a model or a mask set.

    Attributes:
        of: what it is: "segmenter", "classifier", "pseudo_masks" or "predictions".
        name: of it, such as its recipe.
        class_names: K names.
        has_background: whether a pixel may show none of the classes.
        weights: that it comes from; None where its settings are not known.
        data: what it has learned from: the data set, its licence, images and tags.
        pixels: what of the training images was labelled pixel by pixel by people.
        scores: by split: images, mean_iou and iou by class.
        audits: of reports/audit.json, those of what this is.
        unscored: why there are no scores; "" where there are, or nobody knows.
        version: of wsss.
    """

    of: str
    name: str
    class_names: tuple[str, ...]
    has_background: bool
    weights: tuple[Weights, ...] | None
    data: Mapping[str, Any] = field(default_factory=dict)
    pixels: Mapping[str, int] | None = None
    scores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    audits: Sequence[Mapping[str, Any]] = ()
    unscored: str = ""
    version: str = ""

    @property
    def unknown(self) -> list[str]:
        """What has no licence that anybody has named."""
        found = [item.key for item in self.weights or () if item.is_unknown]
        if self.weights is None:
            found.append("the weights, which nobody knows")
        if not self.data.get("licence"):
            found.append("the training images")
        return found

    @property
    def licences(self) -> list[str]:
        """All licences that are known, each once."""
        known = [item.licence for item in self.weights or () if not item.is_unknown]
        if self.data.get("licence"):
            known.append(str(self.data["licence"]))
        return list(dict.fromkeys(known))

    @property
    def must_not(self) -> list[str]:
        """What it must not be used for, a line each."""
        found = [
            f"What forbids it: {item.facts.what} ({item.key}) are under {item.licence}."
            for item in self.weights or ()
            if item.is_limited
        ]
        found += [
            f"Any release or sale, as long as the licence of {what} is unknown."
            for what in self.unknown
        ]
        names = ", ".join(self.class_names)
        found.append(
            f"Anything but {names}: what is none of these is "
            + ("background to it." if self.has_background else "taken for one of them.")
        )
        found.append(
            "Images of other kinds than those it has learned from, before some of these were "
            "scored or audited."
        )
        found.append("Decisions that harm somebody where a mask is wrong and nobody looks at it.")
        if not self.scores and not self.audits:
            found.append("Anything that relies on its quality: no scores of it are known.")
        poor = sorted(
            {
                name
                for values in (*self.scores.values(), *_of_audits(self.audits))
                for name, iou in values.get("iou", {}).items()
                if iou is not None and iou < POOR and name in self.class_names
            }
        )
        if poor:
            found.append(f"Counting or measuring {', '.join(poor)}: an IoU is below {POOR:g}.")
        if any(_sees_pixels(item) for item in self.weights or ()) or any(
            (self.pixels or {}).values()
        ):
            found.append(
                "Claims of what tags alone can do: pixels that were labelled have a part in it."
            )
        return found

    def tree(self) -> dict[str, Any]:
        """All of it as plain values; equal cards give equal ones."""
        return {
            "of": self.of,
            "name": self.name,
            "classes": list(self.class_names),
            "has_background": self.has_background,
            "weights": None
            if self.weights is None
            else [
                {
                    "key": item.key,
                    "setting": item.setting,
                    "what": item.facts.what,
                    "licence": item.licence,
                    "licence_said_by": item.said_by,
                    "trained_on": item.facts.trained_on,
                    "pixels": item.facts.pixels,
                }
                for item in self.weights
            ],
            "licences": self.licences,
            "unknown_licences": self.unknown,
            "data": dict(self.data),
            "pixels": self.pixels,
            "scores": {split: dict(values) for split, values in self.scores.items()},
            "audits": [dict(audit) for audit in self.audits],
            "unscored": self.unscored,
            "must_not": self.must_not,
            "wsss": self.version,
        }

    @classmethod
    def read(cls, tree: Mapping[str, Any], source: str) -> "Card":
        """The card that gave `tree`.

        Raises:
            ValueError: it is not what `tree` gives; `source` is named.
        """
        try:
            rows = tree["weights"]
            weights = rows if rows is None else tuple(_read_weights(row) for row in rows)
            return cls(
                tree["of"],
                tree["name"],
                tuple(tree["classes"]),
                tree["has_background"],
                weights,
                tree["data"],
                tree["pixels"],
                tree["scores"],
                tuple(tree["audits"]),
                tree["unscored"],
                tree["wsss"],
            )
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{source} is not what `wsss card` writes: {error!r}; write it anew"
            ) from None

    def markdown(self) -> str:
        """All of it as a page."""
        return "\n".join(_page(self)).rstrip() + "\n"


def check_page(card: Card, page: str, source: str) -> None:
    """Refuse a page, which a person may have changed, that leaves out a licence which is known.

    Args:
        card: of what the page is about.
        page: its text.
        source: of it, for the error.

    Raises:
        ValueError: it lacks a licence, or what has an unknown one is not named as such.
    """
    missing = [
        f"{item.licence} of {item.facts.what} ({item.key})"
        for item in card.weights or ()
        if not item.is_unknown and not (item.licence in page and item.key in page)
    ]
    licence = card.data.get("licence")
    if licence and str(licence) not in page:
        missing.append(f"{licence} of the training images")
    if missing:
        raise ValueError(
            f"{source} leaves out {len(missing)} licences that are known: {'; '.join(missing)}. "
            "Add them, or write the card anew: wsss card --out card.md"
        )
    hidden = [what for what in card.unknown if what not in page]
    if hidden or (card.unknown and "UNKNOWN LICENCE" not in page):
        raise ValueError(
            f"{source} does not say UNKNOWN LICENCE of {', '.join(hidden or card.unknown)}; name "
            "the licence (--licence KEY=NAME), or write the card anew: wsss card --out card.md"
        )


def write_card(card: Card, file: Path, page: str | None = None) -> tuple[Path, Path]:
    """Write a card as FILE.md and FILE.json.

    Args:
        card: what is written.
        file: of either, or a name without suffix.
        page: in place of the card's own, checked before; None writes its own.

    Returns:
        The page and the JSON.
    """
    base = file.with_suffix("") if file.suffix in (".md", ".json") else file
    texts = {
        base.with_name(f"{base.name}.md"): page if page is not None else card.markdown(),
        base.with_name(f"{base.name}.json"): as_json(card),
    }
    for path, text in texts.items():
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    first, second = texts
    return first, second


def as_json(card: Card) -> str:
    """The tree of a card as text."""
    return json.dumps(card.tree(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _read_weights(row: Mapping[str, Any]) -> Weights:
    facts = WeightsFacts(row["what"], row["licence"], row["trained_on"], row["pixels"])
    return Weights(row["key"], row["setting"], facts, row["licence_said_by"])


def _of_audits(audits: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The estimates of audits in the form of scores."""
    for audit in audits:
        classes = audit.get("classes") or {}
        yield {"iou": {name: found and found.get("value") for name, found in classes.items()}}


def _sees_pixels(item: Weights) -> bool:
    return item.facts.pixels not in ("none", "unknown")


_WHAT = {
    "segmenter": "A segmentation network",
    "classifier": "A classifier whose maps show classes",
    "pseudo_masks": "Masks made from image tags, to train on",
    "predictions": "Masks that a segmentation network predicted",
}


def _page(card: Card) -> Iterator[str]:
    yield from (f"# {card.name or card.of}", "")
    background = "and a background" if card.has_background else "without a background"
    yield f"{_WHAT.get(card.of, card.of)} of {len(card.class_names)} classes, {background}:"
    yield from (f"{', '.join(card.class_names)}. Made with wsss {card.version}.", "")
    if card.unknown:
        yield f"**UNKNOWN LICENCE** of: {'; '.join(card.unknown)}. Whoever passes this on without"
        yield from ("knowing may break one.", "")
    yield from ("## Must not be used for", "")
    yield from (f"- {line}" for line in card.must_not)
    yield from ("", "## Weights it comes from", "")
    yield from _weights_table(card)
    yield from ("", "## Data and tags", "")
    yield from _data_lines(card)
    yield from ("", "## Scores", "")
    yield from _score_lines(card)


def _weights_table(card: Card) -> Iterator[str]:
    if card.weights is None:
        yield "Not known: the settings it was trained with are not at hand. **UNKNOWN LICENCE**"
        return
    if not card.weights:
        yield "None: all networks started from random values."
        return
    yield "| setting | weights | licence | trained on | pixels that were labelled |"
    yield "|---|---|---|---|---|"
    for item in card.weights:
        licence = "**UNKNOWN LICENCE**" if item.is_unknown else item.licence
        if item.said_by not in ("", "known"):
            licence += f" (says {item.said_by})"
        facts = item.facts
        what = facts.what if item.setting in facts.what else f"{facts.what}, {item.setting}"
        yield f"| {item.key} | {what} | {licence} | {facts.trained_on} | {facts.pixels} |"


def _data_lines(card: Card) -> Iterator[str]:
    if not card.data.get("set"):
        yield "Not known."
        return
    licence = card.data.get("licence") or "**UNKNOWN LICENCE**"
    yield f"Data set: {card.data['set']}. Licence of the images: {licence}."
    splits: Mapping[str, Any] = card.data.get("splits", {})
    if splits:
        yield from ("", "| split | images | " + " | ".join(card.class_names) + " | no tag |")
        yield "|---|---:|" + "---:|" * (len(card.class_names) + 1)
        for split, counts in splits.items():
            tags = [str(counts["images_per_class"].get(name, 0)) for name in card.class_names]
            yield f"| {split} | {counts['images']} | {' | '.join(tags)} | {counts['without_tag']} |"
    yield ""
    given = {kind: count for kind, count in (card.pixels or {}).items() if count}
    if given:
        parts = ", ".join(f"{kind} of {count} images" for kind, count in given.items())
        yield f"Besides tags, people gave {parts} to learn from."
    elif card.pixels is not None:
        yield "No pixel was labelled by people to learn from; masks of val score alone."
    if count := card.data.get("selection_masks"):
        yield f"Masks of {count} images of the selection split chose thresholds and taught nothing."


def _score_lines(card: Card) -> Iterator[str]:
    if not card.scores and not card.audits:
        yield f"No scores of it: {card.unscored}." if card.unscored else "No scores of it."
    for split, values in card.scores.items():
        count = values["images"]
        yield f"Against masks of annotators, {count} images of {split}, without an interval:"
        yield from ("", "| | IoU |", "|---|---:|", f"| mean | {values['mean_iou']:.3f} |")
        yield from (f"| {name} | {_number(iou)} |" for name, iou in values["iou"].items())
        yield ""
    for audit in card.audits:
        yield (
            f"By an audit of {audit.get('audited')} of {audit.get('images')} images of "
            f"{audit.get('split')}, with 95 % intervals:"
        )
        yield from ("", "| | IoU | from | to |", "|---|---:|---:|---:|")
        for name, found in [("mean", audit["mean_iou"]), *audit["classes"].items()]:
            cells = [found.get(key) for key in ("value", "low", "high")] if found else [None] * 3
            yield f"| {name} | {' | '.join(map(_number, cells))} |"
        yield ""


def _number(value: Any) -> str:
    return "not known" if value is None else f"{value:.3f}"
