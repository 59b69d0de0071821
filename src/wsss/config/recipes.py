"""Recipes: small overlays of params.yaml, one per published method or table row.

Mappings merge key by key. Replaced as a whole are lists, mappings whose keys are the user's
own (refine.chains, evaluate.class_groups, keyword arguments), and a choice whose `name`
changes, since its other settings belonged to what is no longer there.

A recipe that differs little from another says `extends: <its name>` and what differs. What its runs
are known to score stands under `expected`, and is no setting.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel

from wsss.checks import did_you_mean
from wsss.config.params import Params, parse_params
from wsss.config.shipped import recipe_files
from wsss.config.yaml_text import Fragment, fragment_at, load_yaml, read_text, set_value
from wsss.settings import ConfigError, models_in

__all__ = [
    "BASE_RECIPE",
    "Change",
    "Recipe",
    "apply_recipe",
    "is_file_name",
    "parse_setting",
    "parse_settings",
    "recipe_params",
    "recipe_text",
    "recipe_values",
    "set_values",
    "with_settings",
]

BASE_RECIPE = "synthetic_cam"
"""Names every value that any recipe changes, and so is laid under each of them: what a recipe
gives does not depend on the recipe before it."""

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Change:
    """A value of params.yaml before and after; None where there was or is no such key."""

    key: str
    old: Any
    new: Any


@dataclass(frozen=True)
class Recipe:
    """An overlay and the text it was read from.

    Attributes:
        name: its file's name without .yaml.
        text: the file.
        values: what it sets.
        parent: the recipe it extends.
        expected: what its runs score, as `wsss verify` reads it; None where it does not say. That
            of a recipe which it extends is not its own.
    """

    name: str
    text: str
    values: dict[str, Any]
    parent: "Recipe | None" = None
    expected: Any = None

    def layers(self) -> "list[Recipe]":
        """The recipes it extends, the furthest first, and itself."""
        return [*(self.parent.layers() if self.parent else []), self]

    @classmethod
    def read(cls, folder: Path, name: str, below: tuple[str, ...] = ()) -> "Recipe":
        """Read one recipe and those it extends.

        Args:
            folder: the project's own recipes, which come before those that ship.
            name: of the file, without .yaml; or a file anywhere, such as "../mine.yaml", which may
                extend those beside it and those in `folder`.
            below: recipes that extend this one.

        Raises:
            ConfigError: there is no such recipe, a file does not fit, or a recipe extends itself.
        """
        path = _recipe_file(folder, name)
        text = read_text(path)
        values = load_yaml(text, str(path))
        if not isinstance(values, dict):
            raise ConfigError(f"{path} must hold sections of params.yaml")
        expected = values.pop("expected", None)
        extends = values.pop("extends", None)
        if extends is None:
            return cls(path.stem, text, values, None, expected)
        if not isinstance(extends, str) or extends in (*below, path.stem):
            raise ConfigError(
                f"{path}: extends is {extends!r}, but must name another recipe, not one that "
                "extends this"
            )
        beside = path.with_name(f"{extends}.yaml")
        parent = str(beside) if is_file_name(name) and beside.exists() else extends
        above = cls.read(folder, parent, (*below, path.stem))
        return cls(path.stem, text, values, above, expected)


def is_file_name(name: str) -> bool:
    """Whether a recipe is meant by its file and not by its name."""
    return name.endswith((".yaml", ".yml")) or "/" in name


def _recipe_file(folder: Path, name: str) -> Path:
    if is_file_name(name):
        path = Path(name).expanduser()
        if not path.is_file():
            raise ConfigError(f"{path} is not a file; name a recipe, or a file that is one")
        return path
    known = recipe_files(folder)
    if name not in known:
        raise ConfigError(f"no recipe is named '{name}'; {did_you_mean(name, known)}")
    return known[name]


def apply_recipe(
    text: str, recipe: Recipe, base: Recipe, settings: Mapping[str, Any] | None = None
) -> tuple[str, list[Change]]:
    """Lay `base`, then `recipe`, then single settings over params.yaml.

    Args:
        text: params.yaml.
        recipe: what to apply.
        base: the recipe under all others.
        settings: dotted keys with list indices, such as "refine.chains.crf.0.sigma_xy".

    Returns:
        The new text, which is valid, and what differs.

    Raises:
        ConfigError: a key or value does not fit; nothing is half done.
    """
    edit = _Edit(text, f"params.yaml with recipe '{recipe.name}'")
    for layer in _all_layers(recipe, base):
        for path, value in list(_differences(edit.values, layer.values, [Params])):
            edit.set(path, value, fragment_at(layer.text, path))
    edit.set_all({"base.recipe": recipe.name, **(settings or {})})
    return edit.finish()


def recipe_params(
    values: Mapping[str, Any],
    recipe: Recipe,
    base: Recipe,
    settings: Mapping[str, Any] | None = None,
) -> Params:
    """What `apply_recipe` comes to, without the text of a file.

    Args:
        values: the tree of params.yaml, or nothing: `base` names all that it has.
        recipe: what to apply.
        base: the recipe under all others.
        settings: single ones, over both.
    """
    tree = recipe_values(values, recipe, base, settings)
    return parse_params(tree, f"recipe '{recipe.name}'")


def recipe_values(
    values: Mapping[str, Any],
    recipe: Recipe,
    base: Recipe,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The plain values behind `recipe_params`, as params.yaml would have them."""
    tree: Any = dict(values)
    for layer in _all_layers(recipe, base):
        for path, value in list(_differences(tree, layer.values, [Params])):
            tree = _with(tree, path, value)
    return with_settings(tree, {"base.recipe": recipe.name, **(settings or {})})


def with_settings(values: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the tree of params.yaml with single settings changed, in their order.

    Where a `name` changes, the settings of what it named before go.

    Example:
        >>> with_settings({"a": [{"name": "x", "b": 1}]}, {"a.0.name": "y", "a.0.c": 2})
        {'a': [{'name': 'y', 'c': 2}]}
    """
    tree: Any = dict(values)
    for key, value in settings.items():
        tree = _with(tree, *_resolve(tree, key, value))
    found: dict[str, Any] = tree
    return found


def recipe_text(text: str, base: Recipe, about: str) -> str:
    """Write what is different in params.yaml as a recipe, which applied gives it back.

    Left out is `machine`, on which no result depends.

    Args:
        text: params.yaml.
        base: the recipe under all others.
        about: the header's line, which `wsss recipe list` shows.

    Raises:
        ConfigError: params.yaml does not fit, or nothing is different.
    """
    values = load_yaml(text, "params.yaml")
    counts = parse_params(values).model_dump(mode="json")
    del counts["machine"], counts["base"]["recipe"]
    start = recipe_params({}, base, base).model_dump(mode="json")
    wanted = {key: value for key, value in values.items() if key not in ("base", "machine")}
    own = {key: value for key, value in (values.get("base") or {}).items() if key != "recipe"}
    tree: Any = {}
    for path, value in _differences(start, {"base": own, **wanted}, [Params]):
        tree = _with(tree, path, value)
    for path, value in _differences(start, counts, [Params]):
        if not _has(values, path):  # it has its default, and the base recipe another value
            tree = _with(tree, path, value)
    if not tree:
        raise ConfigError(f"params.yaml has the values of the recipe '{base.name}'; change some")
    listed = yaml.safe_dump(tree, sort_keys=False, width=100, allow_unicode=True)
    return f"# {about}\n\n{listed}"


def set_values(text: str, settings: Mapping[str, Any]) -> tuple[str, list[Change]]:
    """Change single settings of params.yaml; arguments, returns and errors as `apply_recipe`."""
    edit = _Edit(text, "params.yaml with these changes")
    edit.set_all(settings)
    return edit.finish()


def parse_setting(argument: str) -> tuple[str, Any]:
    """Split "key=value", the value read as YAML.

    Example:
        >>> parse_setting("train_classifier.optimizer.lr=1e-3")
        ('train_classifier.optimizer.lr', 0.001)
    """
    key, equals, value = argument.partition("=")
    if not equals or not key.strip():
        raise ConfigError(
            f"--set '{argument}' must be key=value, such as train_classifier.epochs=10"
        )
    return key.strip(), load_yaml(value, f"--set {key.strip()}")


def parse_settings(arguments: Iterable[str]) -> dict[str, Any]:
    """Several of `parse_setting`, sections and names before what is in them, which else goes.

    Example:
        >>> parse_settings(["a.b.alpha=1", "a.b.name=x", "a.b={}"])
        {'a.b': {}, 'a.b.name': 'x', 'a.b.alpha': 1}
    """
    settings = dict(map(parse_setting, arguments))

    def place(key: str) -> tuple[int, bool]:
        return key.count("."), not key.endswith(".name")

    return {key: settings[key] for key in sorted(settings, key=place)}


def _all_layers(recipe: Recipe, base: Recipe) -> list[Recipe]:
    layers = recipe.layers()
    return layers if layers[0].name == base.name else [base, *layers]


class _Edit:
    """params.yaml as text and as values, changed side by side."""

    def __init__(self, text: str, source: str) -> None:
        self.text = text
        self.old = self.values = load_yaml(text, "params.yaml")  # which `_with` copies
        self.source = source
        if not isinstance(self.values, dict) or not self.values:
            raise ConfigError("params.yaml: the top level must be sections")

    def set(self, path: KeyPath, value: Any, as_written: Fragment | None = None) -> None:
        self.text = set_value(self.text, tuple(map(str, path)), value, as_written)
        self.values = _with(self.values, path, value)

    def set_all(self, settings: Mapping[str, Any]) -> None:
        for key, value in settings.items():
            self.set(*_resolve(self.values, key, value))

    def finish(self) -> tuple[str, list[Change]]:
        """The new text and what changed, once it is known to say what it should."""
        parse_params(self.values, self.source)
        if load_yaml(self.text, self.source) != self.values:
            raise ConfigError(
                "params.yaml cannot be changed in place, as when it uses anchors (&, *); "
                "write the values out and try again"
            )
        return self.text, _changes(self.old, self.values)


def _with(values: Any, path: KeyPath, new: Any) -> Any:
    """A copy of the tree with one value changed."""
    if not path:
        return new
    if isinstance(values, list):
        return [
            _with(value, path[1:], new) if i == path[0] else value for i, value in enumerate(values)
        ]
    section = values if isinstance(values, dict) else {}
    return section | {path[0]: _with(section.get(path[0]), path[1:], new)}


def _has(values: Any, path: KeyPath) -> bool:
    for key in path:
        if not isinstance(values, dict) or key not in values:
            return False
        values = values[key]
    return True


def _differences(
    values: Any,
    overlay: Mapping[str, Any],
    models: Sequence[type[BaseModel]],
    path: KeyPath = (),
) -> Iterator[tuple[KeyPath, Any]]:
    """The values of an overlay that differ, each the largest that is replaced as a whole."""
    for key, new in overlay.items():
        old = values.get(key)
        sections = [
            model
            for item in models
            if key in item.model_fields
            for model in _sections(item.model_fields[key].annotation)
        ]
        same_choice = (
            isinstance(old, dict)
            and isinstance(new, dict)
            and (new.get("name", old.get("name")) == old.get("name"))
        )
        if same_choice and sections:
            yield from _differences(old, new, sections, (*path, key))
        elif key not in values or old != new:
            yield (*path, key), new


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """The settings models of a section; none for lists and mappings with keys of the user's own."""
    if get_origin(annotation) in (dict, list, tuple):
        return []
    parts = get_args(annotation)
    return (
        [section for part in parts for section in _sections(part)]
        if parts
        else models_in(annotation)
    )


def _resolve(values: Any, key: str, new: Any) -> tuple[KeyPath, Any]:
    """The path that a dotted key means, and what to put there."""
    path: KeyPath = ()
    at = values
    for part in key.split("."):
        where = ".".join(map(str, path))
        if isinstance(at, list):
            if not (part.isdecimal() and int(part) < len(at)):
                raise ConfigError(
                    f"--set {key}: {where} is a list of {len(at)}; '{part}' must be an index "
                    + (f"in 0..{len(at) - 1}" if at else "of an entry; set the whole list")
                )
            path, at = (*path, int(part)), at[int(part)]
        elif isinstance(at, dict) or at is None:
            if part == "name" and at and at.get("name") != new and key.endswith(".name"):
                return path, {"name": new}  # another choice: the settings of the old one go
            at = at or {}
            number = next((known for known in at if str(known) == part), part)  # of mask_values
            path, at = (*path, number), at.get(number)
        else:
            raise ConfigError(f"--set {key}: {where} is {at!r}, which has no keys of its own")
    return path, new


def _changes(old: Any, new: Any) -> list[Change]:
    before, after = dict(_leaves(old)), dict(_leaves(new))
    keys = dict.fromkeys([*after, *before])
    for key in [key for key in keys if before.get(key) is None and after.get(key) is None]:
        if any(other.startswith(f"{key}.") for other in keys):
            del keys[key]  # a section in place of null, or null of it, which its own keys tell
    return [
        Change(key, before.get(key), after.get(key))
        for key in keys
        if (key in before, before.get(key)) != (key in after, after.get(key))
    ]


def _leaves(values: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values; lists of plain values count as one, empty mappings as none."""
    if isinstance(values, dict):
        items = list(values.items())
    elif isinstance(values, list) and any(isinstance(item, dict) for item in values):
        items = list(enumerate(values))
    else:
        yield path, values
        return
    for key, value in items:
        yield from _leaves(value, f"{path}.{key}" if path else str(key))
