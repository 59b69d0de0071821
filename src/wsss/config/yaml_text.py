"""YAML as text: read strictly, and changed in place so that comments and layout stay.

YAML 1.2 is read, as DVC does: 1e-4 is a number, `no` and `on` are words, and 010 is ten.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from wsss.settings import ConfigError

__all__ = ["Fragment", "flow_text", "fragment_at", "load_yaml", "read_text", "set_value"]


def read_text(path: Path) -> str:
    """Read a UTF-8 text file. Raises ConfigError when it is absent or not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        begin = "; `wsss init` begins a project" if path.name == "params.yaml" else ""
        raise ConfigError(f"{path} is not here; run from the project's root{begin}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8 text (byte {error.start} is {error.object[error.start]:#x}); "
            "save it as UTF-8"
        ) from None


def load_yaml(text: str, source: str) -> Any:
    """Parse one YAML document into plain values.

    Args:
        text: the document.
        source: what messages call it, such as "params.yaml".

    Raises:
        ConfigError: it is not YAML, or has a key twice; the text names the line.
    """
    try:
        loader = _Yaml12(text)
        node = loader.get_single_node()
        twice = next(_twice(node, set()), None)
        if twice is None:
            return None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        what = " ".join(part for part in (error.context, error.problem) if part)
        mark = error.problem_mark or error.context_mark
        line = f", line {min(mark.line + 1, len(text.splitlines()))}" if mark else ""
        raise ConfigError(f"{source}{line}: not valid YAML: {what}") from None
    except (yaml.YAMLError, ValueError) as error:  # such as a day that no month has
        raise ConfigError(f"{source} is not valid YAML: {error}") from None
    key, first = (item.start_mark.line + 1 for item in twice)
    raise ConfigError(
        f"{source}, line {key}: the key '{twice[0].value}' stands twice in the section that begins "
        f"on line {first}; delete one"
    )


# libyaml is many times faster than Python, and marks count characters in both
_FASTEST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Yaml12(_FASTEST):  # type: ignore[misc]
    """Plain scalars as YAML 1.2 reads them; but for that, PyYAML's own."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}

    def whole(self, node: ScalarNode) -> int:
        text = node.value.replace("_", "")
        return int(text, 0 if text.lstrip("-+")[:2] in ("0o", "0x", "0b") else 10)

    def real(self, node: ScalarNode) -> float:
        return float(re.sub(r"^([-+]?)\.(inf|nan)$", r"\1\2", node.value.lower().replace("_", "")))


_KEPT = [  # of YAML 1.1: what both read alike
    (first, name, found)
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    for name, found in resolvers
    if name.rpartition(":")[2] in ("null", "merge", "timestamp", "value")
]
for _first, _name, _found in _KEPT:
    _Yaml12.add_implicit_resolver(_name, _found, [_first])
for _name, _firsts, _found in (
    ("bool", "tTfF", "true|True|TRUE|false|False|FALSE"),
    ("int", "-+0123456789", "[-+]?(0b[01]+|0o[0-7]+|[0-9][0-9_]*|0x[0-9a-fA-F]+)"),
    (
        "float",
        "-+.0123456789",
        r"[-+]?([0-9][0-9_]*\.[0-9_]*([eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+"
        r"|\.[0-9][0-9_]*([eE][-+]?[0-9]+)?|\.(inf|Inf|INF))|\.(nan|NaN|NAN)",
    ),
):
    _Yaml12.add_implicit_resolver(
        f"tag:yaml.org,2002:{_name}", re.compile(f"(?:{_found})$"), list(_firsts)
    )
_Yaml12.add_constructor("tag:yaml.org,2002:int", _Yaml12.whole)
_Yaml12.add_constructor("tag:yaml.org,2002:float", _Yaml12.real)


def _twice(node: Node | None, seen: set[Node]) -> Iterator[tuple[Node, Node]]:
    """Keys that their mapping has already, each with the mapping; of nodes not seen before."""
    if node in seen or not isinstance(node, MappingNode | SequenceNode):
        return
    seen.add(node)  # aliases lead to it again, also from within
    keys: set[tuple[str, str]] = set()
    for item in node.value:
        key, value = item if isinstance(item, tuple) else (None, item)
        if isinstance(key, ScalarNode):
            if (key.tag, key.value) in keys:
                yield key, node
            keys.add((key.tag, key.value))
        yield from _twice(value, seen)


@dataclass(frozen=True)
class Fragment:
    """A value as YAML text.

    Attributes:
        text: without the indentation of its place; lines after the first are relative to it.
        block: whether it spreads over lines below its key.
    """

    text: str
    block: bool

    @classmethod
    def of(cls, value: Any) -> "Fragment":
        """A plain value on one line."""
        return cls(flow_text(value), False)

    def indented(self, column: int) -> str:
        """The text with every line after the first moved to `column`."""
        return self.text.replace("\n", "\n" + " " * column)


def flow_text(value: Any) -> str:
    """A plain value as YAML on one line, which 1.1 and 1.2 read alike.

    Example:
        >>> flow_text({"sigma": 1e-5, "names": ["a b", "no", "1"], "weights": None})
        '{sigma: 1.0e-05, names: [a b, "no", "1"], weights: null}'
    """
    if isinstance(value, dict):
        items = (f"{flow_text(key)}: {flow_text(item)}" for key, item in value.items())
        return "{" + ", ".join(items) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow_text, value)) + "]"
    if isinstance(value, str):
        plain = re.fullmatch(r"[\w$/~.]+(?:[ +-]?[\w$/~.])*", value, re.ASCII)
        word = value.lower() in ("y", "n", "yes", "no", "on", "off") or value.startswith("...")
        if plain and not word and load_yaml(value, "") == value:
            return value
        quoted = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(c if c.isprintable() else rf"\U{ord(c):08x}" for c in quoted) + '"'
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float) and math.isfinite(value):
        text = repr(value)
        return text if "." in text else text.replace("e", ".0e")
    return f".{value}".replace(".-", "-.") if isinstance(value, float) else str(value)


def fragment_at(text: str, path: tuple[str | int, ...]) -> Fragment:
    """Cut a value out of a document as it is written there, comments included."""
    node = _find(_compose(text), path)
    body = text[node.start_mark.index : _end(text, node)]
    return Fragment(body.replace("\n" + " " * node.start_mark.column, "\n"), _is_block(node))


def set_value(
    text: str,
    path: tuple[str | int, ...],
    value: Any,
    as_written: Fragment | None = None,
) -> str:
    """Change or add one value; every other byte of the document stays.

    Args:
        text: a YAML document whose top level is a mapping.
        path: keys and list indices; missing mappings on the way are made.
        value: the new value.
        as_written: how to write it, where a block may stand.

    Returns:
        The new text. Comments within a replaced mapping or list go with it.

    Example:
        >>> set_value("crf:  # fast\\n  sigma: 50  # pixels\\n", ("crf", "sigma"), 30)
        'crf:  # fast\\n  sigma: 30  # pixels\\n'
    """
    parent = _find(_compose(text), path[:-1])
    key = path[-1]
    if not isinstance(parent, MappingNode | SequenceNode) or not parent.value:
        return set_value(text, path[:-1], {key: value})
    new = as_written if as_written and not parent.flow_style else Fragment.of(value)
    if isinstance(parent, SequenceNode):
        node = parent.value[int(key)]
        body = new.indented(node.start_mark.column)
        return text[: node.start_mark.index] + body + text[_end(text, node) :]
    column = parent.start_mark.column
    for key_node, node in parent.value:
        if key_node.value == key:
            start, end = int(node.start_mark.index), _end(text, node)
            colon = text.index(":", int(key_node.end_mark.index)) + 1
            if isinstance(node, ScalarNode) and not node.value and not node.style:  # `key:` alone
                start = end = colon
            if _is_block(node) and new.block:
                return text[:start] + new.indented(node.start_mark.column) + text[end:]
            if _is_block(node):  # to one line; a comment behind the key stays there
                return (
                    f"{text[:colon]} {new.text}{text[colon : _line_end(text, colon)]}{text[end:]}"
                )
            if new.block:
                line = _line_end(text, end)
                return text[:colon] + text[end:line] + _after_colon(new, column) + text[line:]
            return text[:start] + " " * (start == colon) + new.text + text[end:]
    if parent.flow_style:
        place = _end(text, parent.value[-1][1])
        return f"{text[:place]}, {Fragment.of({key: value}).text[1:-1]}{text[place:]}"
    place = _end(text, parent)
    entry = flow_text(key) + ":" + _after_colon(new, column)
    return f"{text[:place]}\n{' ' * column}{entry}{text[place:]}"


def _after_colon(new: Fragment, column: int) -> str:
    return f"\n{' ' * (column + 2)}{new.indented(column + 2)}" if new.block else " " + new.text


class _Places(_FASTEST):  # type: ignore[misc]
    """Where values stand, without asking what they are, which takes as long again."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        return ""


@lru_cache(maxsize=4)
def _compose(text: str) -> Any:
    return yaml.compose(text, Loader=_Places)


def _find(node: Any, path: tuple[str | int, ...]) -> Any:
    """The node at `path`, or None."""
    for part in path:
        if isinstance(node, SequenceNode):
            node = node.value[int(part)]
        elif isinstance(node, MappingNode):
            node = next((value for key, value in node.value if key.value == part), None)
        else:
            return None
    return node


def _is_block(node: Any) -> bool:
    return not isinstance(node, ScalarNode) and not node.flow_style


def _end(text: str, node: Any) -> int:
    """Where a node's own text ends: a block with its last line, without what follows it."""
    if _is_block(node) and node.value:
        last = node.value[-1]
        return _line_end(text, _end(text, last[1] if isinstance(last, tuple) else last))
    end = int(node.end_mark.index)
    return end - 1 if isinstance(node, ScalarNode) and node.style in ("|", ">") else end


def _line_end(text: str, place: int) -> int:
    end = text.find("\n", place)
    return len(text) if end < 0 else end
