"""The list of `wsss suggest` as text for people, as CSV and as JSON."""

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wsss.artifacts import atomic_path, write_json
from wsss.progress import duration
from wsss.suggest.listing import Item, Suggested

__all__ = ["COLUMNS", "lines", "write_list"]

COLUMNS = (
    "rank",
    "do",
    "image",
    "class",
    "tagged",
    "chance",
    "seconds",
    "gain",
    "gain_per_minute",
    "why",
)
"""Of the CSV, and keys of an item in JSON. `image` is the name of a sample."""

SHOWN = 12  # items that are printed


def write_list(found: Suggested, file: Path) -> tuple[Path, Path]:
    """Write the list as CSV and as JSON.

    Args:
        found: the list.
        file: of either, or a name without suffix; both are written.

    Returns:
        The CSV, a line for each item, and the JSON, which has the notes too.
    """
    base = file.with_suffix("") if file.suffix in (".csv", ".json") else file
    rows = [_row(rank, item) for rank, item in enumerate(found.items, 1)]
    table, tree = base.with_name(f"{base.name}.csv"), base.with_name(f"{base.name}.json")
    # bytes of a name that are no UTF-8 stay as they are, so that the image is found by it
    with (
        atomic_path(table) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as out,
    ):
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    curve = found.curve
    write_json(
        tree,
        {
            "hours": found.hours,
            "seconds": sum(item.seconds for item in found.items),
            "gain": sum(item.gain for item in found.items),
            "curve": {"study": curve.name, "score": curve.score, "single_runs": curve.single},
            "notes": list(found.notes),
            "items": rows,
        },
    )
    return table, tree


def _row(rank: int, item: Item) -> dict[str, Any]:
    values = (
        rank,
        item.do,
        item.image,
        item.class_name or None,
        item.tagged,
        None if item.chance is None else round(item.chance, 4),
        item.seconds,
        float(f"{item.gain:.3g}"),
        float(f"{item.per_minute:.3g}"),
        item.why,
    )
    return dict(zip(COLUMNS, values, strict=True))


def lines(found: Suggested) -> Iterator[str]:
    """What is printed: how much of each kind, the first items, and what to know of them."""
    if not found.items:
        yield f"nothing that gains anything fits into {duration(3600 * found.hours)}"
    else:
        total = sum(item.seconds for item in found.items)
        gain = sum(item.gain for item in found.items)
        yield (
            f"{duration(total)} of work, expected to add {100 * gain:.2g} points of mean IoU "
            "(an estimate, see below):"
        )
        yield from _groups(found)
        yield ""
        yield "first:"
        for rank, item in enumerate(found.items[:SHOWN], 1):
            yield f"  {rank}. {_said(item)}"
        if len(found.items) > SHOWN:
            yield f"  and {len(found.items) - SHOWN} more"
    yield ""
    yield from (f"note: {text}" for text in found.notes)


def _groups(found: Suggested) -> Iterator[str]:
    words = {"tag": "tags to check", "box": "boxes to draw", "mask": "masks to draw"}
    for kind, what in words.items():
        own = [item for item in found.items if item.do == kind]
        if not own:
            continue
        seconds = sum(item.seconds for item in own)
        rate = 60 * 100 * sum(item.gain for item in own) / seconds
        images = len({item.image for item in own})
        yield (
            f"  {what}: {len(own)} in {images} images, {duration(seconds)}, {rate:.2g} points a "
            f"minute{_detail(kind, own)}"
        )


def _detail(kind: str, items: list[Item]) -> str:
    if kind == "tag":
        false = sum(item.tagged is True for item in items)
        return f"; {false} may be false, {len(items) - false} missing"
    if kind == "box":
        often = Counter(item.class_name for item in items).most_common(5)
        return "; of " + ", ".join(f"{name} in {count}" for name, count in often)
    return ""


def _said(item: Item) -> str:
    if item.do == "tag":
        state = "has the tag" if item.tagged else "lacks the tag"
        return (
            f"{item.image} {state} '{item.class_name}', which is wrong with a chance of "
            f"{item.chance:.0%}"
        )
    if item.do == "box":
        return f"{item.image}: boxes around each '{item.class_name}'"
    return f"{item.image}: a mask ({item.why})"
