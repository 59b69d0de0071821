"""The frame of HTML pages that need no other file: head, style, what links to the sections."""

import base64
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsss.artifacts import atomic_path
from wsss.report.script import SCRIPT
from wsss.report.style import STYLE

__all__ = [
    "FACTS",
    "Section",
    "data_uri",
    "escape",
    "facts_list",
    "page_text",
    "script_json",
    "table",
    "with_facts",
    "write_page",
]

FACTS = "<!-- facts -->"
"""Where a page takes what is known of its run alone; see `with_facts`."""


@dataclass(frozen=True)
class Section:
    """A part of a page with a heading of its own.

    Attributes:
        key: names it in links.
        title: its heading.
        body: HTML.
        short: what the bar of links says; "" is the title.
    """

    key: str
    title: str
    body: str
    short: str = ""


def escape(text: object) -> str:
    """A text as HTML has it, quotation marks too."""
    return html.escape(str(text), quote=True)


def page_text(
    title: str, sections: Sequence[Section], *, top: str = "", data: object = None, foot: str = ""
) -> str:
    """A whole page.

    Args:
        title: its heading, plain text.
        sections: HTML, in order; those without a body are left out.
        top: HTML below the heading.
        data: what the page's script works on, as JSON can hold it; None of a page without any.
        foot: HTML at the end.
    """
    shown = [section for section in sections if section.body]
    links = "".join(f'<a href="#{item.key}">{escape(item.short or item.title)}</a>'
                    for item in shown)  # fmt: skip
    body = "\n".join(
        f'<section id="{item.key}" aria-labelledby="{item.key}-title">'
        f'<h2 id="{item.key}-title">{escape(item.title)}</h2>\n{item.body}\n</section>'
        for item in shown
    )
    held = "" if data is None else f'<script type="application/json" id="data">{script_json(data)}'
    held += "</script>\n" if held else ""
    nav = f'<nav aria-label="Sections">{links}</nav>' if len(shown) > 1 else "<span></span>"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#main">To the contents</a>\n'
        f'<header class="bar"><div>{nav}<button type="button" id="theme" '
        'aria-label="Change between light and dark">◐</button></div></header>\n'
        f'<main id="main" tabindex="-1">\n<h1>{escape(title)}</h1>\n{top}\n{body}\n</main>\n'
        f"<footer>{foot}</footer>\n{held}<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def write_page(path: Path, text: str) -> None:
    """Write a page, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def facts_list(facts: Mapping[str, str] | Iterable[tuple[str, str]]) -> str:
    """Pairs of a name and HTML, as a list of definitions."""
    pairs = facts.items() if isinstance(facts, Mapping) else facts
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{v}</dd>" for k, v in pairs) + "</dl>"


def with_facts(text: str, facts: Mapping[str, str]) -> str:
    """Put what one run alone knows, such as times, into a page that is the same everywhere.

    Args:
        text: a page; one without the place for it stays as it is.
        facts: plain text by name.

    Example:
        >>> with_facts(f"<p>{FACTS}</p>", {"Revision": "ab<12"})
        '<p><dl><dt>Revision</dt><dd>ab&lt;12</dd></dl></p>'
    """
    held = facts_list({name: escape(value) for name, value in facts.items()})
    return text.replace(FACTS, held, 1)


def table(
    head: Sequence[str],
    rows: Sequence[tuple[str, Sequence[str]]],
    *,
    about: str,
    kind: str = "",
) -> str:
    """A table in a box of its own, which scrolls where it is wider than the page.

    Args:
        head: HTML of the columns, the first of which is that of the rows' headings.
        rows: HTML of the heading, and the cells, each a whole `<td>`.
        about: plain text above it, which names it for whoever does not see it.
        kind: class of the table.
    """
    columns = "".join(f'<th scope="col">{text}</th>' for text in head)
    lines = "".join(
        f"<tr{' class=all' if at == 0 and kind == 'scores' else ''}>"
        f'<th scope="row">{name}</th>{"".join(cells)}</tr>'
        for at, (name, cells) in enumerate(rows)
    )
    return (
        f'<p class="quiet small about">{escape(about)}</p>'
        f'<div class="wide" role="region" tabindex="0" aria-label="{escape(about)}">'
        f'<table class="{kind}"><caption class="hidden">{escape(about)}</caption>'
        f"<thead><tr>{columns}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def data_uri(data: bytes, kind: str) -> str:
    """A file within a page: its bytes, and what they are, such as "image/png"."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def script_json(value: Any) -> str:
    """JSON that may stand in a page's script: nothing in it ends the script.

    Example:
        >>> script_json({"name": "</script>"})
        '{"name":"\\\\u003c/script>"}'
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
