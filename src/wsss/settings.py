"""The base of every settings model, and the wording of what is wrong with a value."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, get_args

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema, ErrorDetails

from wsss.checks import ConfigError, did_you_mean
from wsss.outside import code_of, is_ours, troubles
from wsss.sources import expand_path, find_source, named_sources

__all__ = [
    "ConfigError",
    "Named",
    "Settings",
    "attribute_docs",
    "expand_path",
    "explain",
    "models_in",
    "unread",
]


class Settings(BaseModel):
    """A frozen section of params.yaml; unknown keys and wrong types are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    class_keys: ClassVar[tuple[str, ...]] = ()
    """Keys that name classes of the data: lists of them, groups of such, or texts by class."""
    read_when: ClassVar[Mapping[str, tuple[str, tuple[Any, ...] | None]]] = {}
    """Keys that count only where another key has one of these values, or, for None, any but 0."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """With what is written below the keys, which costs too much where nobody reads it."""
        found = handler(core_schema)
        properties = handler.resolve_ref_schema(found).get("properties", {})
        for name, text in attribute_docs(cls).items():
            if name in properties:
                properties[name]["description"] = text
        return found

    def files(self) -> list[Path]:
        """The files and folders that keys such as `weights` and `root` name in it, at any depth.

        Left out is what does not exist, such as 'none' and the names of downloads. With them comes
        the code of methods from outside of wsss.
        """
        found = map(find_source, named_sources(self.model_dump()).values())
        methods = (kind for kind in self.models_within() if issubclass(kind, Named))
        outside = [kind.__module__ for kind in methods if not is_ours(kind)]
        code = (file for module in dict.fromkeys(outside) for file in code_of(module))
        return [*(path for path in found if path is not None), *code]

    def models_within(self) -> "list[type[Settings]]":
        """The models of all settings in it, its own first."""
        inner = (getattr(self, name) for name in type(self).model_fields)
        return [type(self), *(kind for value in inner for kind in _models_within(value))]


def unread(value: Any, path: str) -> Iterator[str]:
    """Say which keys are set and yet count for nothing, as `Settings.read_when` has it.

    Args:
        value: settings, or lists and mappings of such.
        path: where they stand in params.yaml.

    Example:
        >>> class Head(Settings):
        ...     read_when = {"decay": ("pooling", ("ranked",))}
        ...     pooling: str = "mean"
        ...     decay: float = 0.9
        >>> list(unread(Head(decay=0.5), "head"))
        ["head.decay is 0.5, but counts only where pooling is 'ranked', and that is 'mean'"]
    """
    if isinstance(value, dict):
        for name, held in value.items():
            yield from unread(held, f"{path}.{name}")
    elif isinstance(value, list | tuple):
        for at, held in enumerate(value):
            yield from unread(held, f"{path}.{at}")
    elif isinstance(value, Settings):
        for key, field in type(value).model_fields.items():
            held = getattr(value, key)
            where = f"{path}.{key}" if path else key
            yield from unread(held, where)
            other, values = value.read_when.get(key, ("", None))
            if not other or key not in value.model_fields_set or held == field.get_default():
                continue
            found = getattr(value, other)
            if found not in values if values is not None else not found:
                meant = "above 0" if values is None else " or ".join(map(_short, values))
                shown = f"{held:g}" if isinstance(held, float) else _short(held)
                yield (
                    f"{where} is {shown}, but counts only where {other} is {meant}, and "
                    f"that is {_short(found)}"
                )


class Named(Settings):
    """Settings of a registered implementation; each subclass fixes `name` as a Literal."""

    name: str
    """Which implementation the settings are for."""


def attribute_docs(model: type[Settings]) -> dict[str, str]:
    """What is written below the keys of a settings model, and of those it derives from.

    Example:
        >>> attribute_docs(Named)["name"]
        'Which implementation the settings are for.'
    """
    found: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if issubclass(kind, Settings):
            (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
            assert isinstance(definition, ast.ClassDef)
            for key, below in pairwise([*definition.body, ast.Pass()]):
                match key:
                    case ast.AnnAssign(target=ast.Name(id=name)):
                        found.pop(name, None)  # declared anew
                        match below:
                            case ast.Expr(value=ast.Constant(value=str(text))):
                                found[name] = inspect.cleandoc(text)
    return found


def _models_within(value: Any) -> Iterator[type[Settings]]:
    if isinstance(value, Settings):
        yield from value.models_within()
    elif isinstance(value, dict):
        yield from (kind for held in value.values() for kind in _models_within(held))
    elif isinstance(value, list | tuple):
        yield from (kind for held in value for kind in _models_within(held))


def explain(
    error: ValidationError, source: str, model: type[BaseModel], values: Any
) -> ConfigError:
    """Turn pydantic's report into one line per mistake, each naming the key and the way out.

    Args:
        error: what validation raised.
        source: where the values came from, such as "params.yaml".
        model: the model that refused them; its fields feed the suggestions.
        values: what was validated.
    """
    mistakes: dict[str, list[ErrorDetails]] = {}
    known: dict[str, list[str]] = {}
    for item in error.errors(include_url=False):
        path, keys = _locate(model, values, item)
        mistakes.setdefault(path, []).append(item)
        known[path] = keys
    return ConfigError(
        "\n".join(
            f"{source}: {_sentence(path, items, known[path])}" for path, items in mistakes.items()
        )
    )


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that may stand at a place, through unions, lists and mappings."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]


def _locate(model: type[BaseModel], values: Any, item: ErrorDetails) -> tuple[str, list[str]]:
    """The path of a mistake as users know it, and the keys that may stand where it ends.

    Parts of pydantic's path that are not in the values name members of unions; they drop out.
    """
    path: list[str] = []
    models, siblings = [model], [model]
    for part in item["loc"]:
        if isinstance(values, dict) and "name" in values:
            models = [element for element in models if _name(element) == values["name"]] or models
        if _holds(values, part):
            values = values[part]
        elif item["type"] == "missing" and part == item["loc"][-1]:
            values = None
        else:
            continue
        path.append(str(part))
        siblings = models
        if isinstance(part, str):
            fields = [
                element.model_fields[part] for element in models if part in element.model_fields
            ]
            models = [found for field in fields for found in models_in(field.annotation)] or models
    return ".".join(path), [key for sibling in siblings for key in sibling.model_fields]


def _holds(values: Any, part: int | str) -> bool:
    if isinstance(values, list | tuple):
        return isinstance(part, int) and part < len(values)
    return isinstance(values, dict) and part in values


def _name(model: type[BaseModel]) -> Any:
    field = model.model_fields.get("name")
    return field and field.default


def _sentence(path: str, items: Sequence[ErrorDetails], known: list[str]) -> str:
    """One line about one key; several items are the members of a union that it failed to be."""
    item = items[0]
    parent, _, key = path.rpartition(".")
    context = item.get("ctx", {})
    if item["type"] == "extra_forbidden":
        return f"{parent or 'the top level'} has no key '{key}'; {did_you_mean(key, known)}"
    if item["type"] == "union_tag_invalid":
        names = re.findall(r"'([^']*)'", context["expected_tags"])
        meant = did_you_mean(context["tag"], names)
        return f"{path}.name is '{context['tag']}'; {meant}{troubles()}"
    if item["type"] == "union_tag_not_found":
        return f"{path} needs a 'name' that says which one is meant"
    if item["type"] == "literal_error" and key == "name":
        names = re.findall(r"'([^']*)'", context["expected"])
        meant = did_you_mean(str(item["input"]), names)
        return f"{path} is {_short(item['input'])}; {meant}{troubles()}"
    if item["type"] == "missing":
        return f"{path} is missing; add it"
    rules = [_RULES.get(element["type"]) or element["msg"] for element in items]
    if item["type"] in _RULES or rules[0].startswith("Input should be "):
        # "Input should be a valid number, unable to parse string as a number"
        rules = [rule.removeprefix("Input should be ").split(", unable to")[0] for rule in rules]
        return f"{path} must be {' or '.join(rules)}, but is {_short(item['input'])}"
    size = re.fullmatch(r"\w+ should have (.+) after validation, not (\d+)", rules[0])
    if size:
        return f"{path} must have {size[1]}, but has {size[2]}"
    message = rules[0].removeprefix("Value error, ")
    if not path:
        return message
    if isinstance(item["input"], dict | list | tuple):
        return f"{path}: {message}"
    return f"{path} is {_short(item['input'])}; {message}"


_RULES = {
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dict_type": "a mapping",
    "tuple_type": "a list",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
}
"""What pydantic's types of mistakes ask for, in words."""


def _short(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "empty (null)", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
