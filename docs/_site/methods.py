"""A page for each method, from its own docstrings, settings, recipes and measured rows."""

import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from mkdocs.structure.files import File

from wsss.registry import (
    AFFINITIES,
    CAM_METHODS,
    CLUSTERINGS,
    DATASETS,
    METHODS,
    NETWORKS,
    PIXEL_LOSSES,
    PROPOSALS,
    REFINERS,
    TAG_FORMS,
    Registry,
)

ROOT = Path(__file__).parents[2]
PICTURES = "images/methods"


class Kind(NamedTuple):
    """A registry, the key of params.yaml that picks an entry, and the title of its pages."""

    folder: str
    title: str
    registry: "Registry[Any]"
    key: str


KINDS = (
    Kind("training", "Training", METHODS, "train_classifier.method"),
    Kind("maps", "Maps", CAM_METHODS, "generate_cams.method"),
    Kind("refiners", "Refiners", REFINERS, "refine.chains.*.*"),
    Kind("affinities", "Affinities", AFFINITIES, "train_affinities.*.method"),
    Kind("proposals", "Proposals", PROPOSALS, "make_proposals.*"),
    Kind("clusterings", "Clusterings", CLUSTERINGS, "train_classifier.method.clustering"),
    Kind("networks", "Networks", NETWORKS, "train_segmenter.model"),
    Kind("tag_forms", "Tags alone", TAG_FORMS, "train_segmenter.tags_only"),
    Kind("pixel_losses", "Pixel losses", PIXEL_LOSSES, "train_segmenter.losses.*"),
    Kind("data", "Data sets", DATASETS, "prepare_data.dataset"),
)


def on_config(config: Any) -> Any:
    """Add the pages to the navigation, before the results."""
    sections = [
        {kind.title: [f"entries/{kind.folder}/{name}.md" for name in kind.registry.names()]}
        for kind in KINDS
    ]
    config.nav.insert(len(config.nav) - 1, {"Methods": sections})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages."""
    recipes, rows = _recipes(), list(_rows())
    for kind in KINDS:
        for name in kind.registry.names():
            path = f"entries/{kind.folder}/{name}.md"
            page = _page(kind, name, recipes, rows)
            files.append(File.generated(config, path, content=page))
    return files


def _page(kind: Kind, name: str, recipes: dict[str, Any], rows: list["Row"]) -> str:
    settings = kind.registry.settings(name)
    module = sys.modules[settings.__module__]
    parts = [f"# {name}\n", inspect.cleandoc(module.__doc__ or "")]
    if (ROOT / "docs" / PICTURES / f"{kind.folder}_{name}.jpg").exists():
        parts.append(f"![{name}](../../{PICTURES}/{kind.folder}_{name}.jpg)")
    parts += ["## Settings\n", inspect.cleandoc(settings.__doc__ or ""), _table(settings)]
    parts.append(f"In params.yaml, at `{kind.key}`:\n\n```yaml\n{_example(kind, name)}```")
    using = {recipe for recipe, tree in recipes.items() if name in names_at(tree, kind.key)}
    if using:
        listed = ", ".join(f"`{recipe}`" for recipe in sorted(using))
        parts.append(f"## Recipes\n\n{listed}. `wsss recipe show NAME` has the numbers of each.")
    measured = [row for row in rows if name in names_at(row.tree, kind.key) or row.recipe in using]
    if measured:
        parts.append("## Measured\n\nRows of [all results](../../results.md) with it.")
        for title in dict.fromkeys(row.title for row in measured):
            lines = [row for row in measured if row.title == title]
            table = [*lines[0].head, *(row.line for row in lines)]
            parts.append("\n".join([f"**{title}**\n", *table]))
    return "\n\n".join(parts) + "\n"


def _table(settings: Any) -> str:
    """The settings with their ranges, defaults and meanings."""
    properties = settings.model_json_schema()["properties"]
    lines = ["| setting | default | values | what it does |", "|---|---|---|---|"]
    for name, about in properties.items():
        if name == "name":
            continue
        default = f"`{json.dumps(about['default'])}`" if "default" in about else "needed"
        text = " ".join(about.get("description", "").split()).replace("|", "&#124;")
        lines.append(f"| `{name}` | {default} | {_values(about)} | {text} |")
    return "\n".join(lines) if lines[2:] else "It has none."


def _values(about: dict[str, Any]) -> str:
    """What a property of a JSON schema takes, in a few words."""
    if options := about.get("anyOf") or about.get("oneOf"):
        return " or ".join(dict.fromkeys(_values(option) for option in options))
    if "enum" in about:
        return ", ".join(f"`{value}`" for value in about["enum"])
    if "const" in about:
        return f"`{about['const']}`"
    if "$ref" in about:
        return "settings"
    word = {"integer": "whole number", "number": "number", "array": "list", "object": "mapping"}
    text = word.get(str(about.get("type")), str(about.get("type", "any")))
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {about[key]:g}" for key, sign in signs.items() if key in about]
    return " ".join([text, *bounds])


def _example(kind: Kind, name: str) -> str:
    """An entry with its defaults, where params.yaml has it."""
    field = "arch" if kind.registry is NETWORKS else "name"
    tree: Any = {field: name}
    for part in reversed(kind.key.split(".")):
        is_list = part == "*" and kind.key in ("refine.chains.*.*", "train_segmenter.losses.*")
        if is_list and isinstance(tree, dict) and field in tree:
            tree = [tree]
        else:
            tree = {"mine" if part == "*" else part: tree}
    return yaml.safe_dump(tree, sort_keys=False, default_flow_style=None)


def _recipes() -> dict[str, Any]:
    files = sorted((ROOT / "recipes").glob("*.yaml"))
    return {file.stem: yaml.safe_load(file.read_text(encoding="utf-8")) or {} for file in files}


class Row(NamedTuple):
    """A row of a study as docs/results.md has it, and what it sets."""

    title: str
    head: list[str]
    line: str
    recipe: str
    tree: Any


def _rows() -> Iterator[Row]:
    text = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    for part in text.split("<!-- study: ")[1:]:
        study, _, part = part.partition(" -->")
        told = yaml.safe_load((ROOT / f"recipes/studies/{study}.yaml").read_text(encoding="utf-8"))
        lines = part.splitlines()
        title = next(line.removeprefix("# ") for line in lines if line.startswith("# "))
        head: list[str] = []
        for at, line in enumerate(lines):
            if line.startswith("|---"):
                head = lines[at - 1 : at + 1]
            elif found := re.match(r"\| `([^`]+)`", line):
                row = told["rows"].get(found[1], {})
                yield Row(title, head, line, row.get("recipe", ""), tree_of(row.get("set") or {}))


def tree_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The tree that dotted keys describe."""
    whole: dict[str, Any] = {}
    for key, value in settings.items():
        *path, last = key.split(".")
        tree = whole
        for part in path:
            tree = tree.setdefault(part, {})
        tree[last] = value
    return whole


def names_at(tree: Any, key: str) -> set[str]:
    """The names at a dotted key; `*` stands for every key and every place of a list."""
    found = [tree]
    for part in key.split("."):
        below: list[Any] = []
        for item in found:
            if part == "*":
                values = item.values() if isinstance(item, dict) else item
                below += values if isinstance(values, list) else list(values or ())
            elif isinstance(item, dict) and part in item:
                below.append(item[part])
        found = below
    return {item.get("name") or item.get("arch") for item in found if isinstance(item, dict)} - {
        None
    }
