"""What callers name as texts: methods and classes, and what is wrong with one that is not known."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError

from wsss.checks import did_you_mean
from wsss.registry import Registry
from wsss.settings import Named, explain

__all__ = ["ManyTags", "MethodLike", "chosen", "tag_ids", "tag_names", "validated"]

MethodLike: TypeAlias = str | Mapping[str, Any] | Named
"""A method: its name, for its defaults; a mapping with its name and settings, as in params.yaml; or
its settings."""

ManyTags: TypeAlias = Collection[str] | Iterable[Collection[str] | None] | None
"""Names of classes. Of one image a name or several; of many images that of each, in a list."""

Model = TypeVar("Model", bound=BaseModel)


def chosen(registry: Registry[Any], value: MethodLike, what: str) -> Named:
    """The settings of a method.

    Args:
        registry: of its kind.
        value: what names it.
        what: it is, for errors.

    Raises:
        ConfigError: a setting does not fit.
        ValueError: there is no such method.
    """
    if isinstance(value, Named):
        return value
    values = {"name": value} if isinstance(value, str) else dict(value)
    if not isinstance(values.get("name"), str):
        raise ValueError(f"{what} needs a 'name' that says which {registry.kind} is meant")
    return validated(registry.settings(values["name"]), values, what)


def validated(kind: type[Model], values: Mapping[str, Any], what: str) -> Model:
    """Settings of values. Raises ConfigError with a line per mistake."""
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise explain(error, what, kind, dict(values)) from None


def tag_names(tags: ManyTags, count: int, *, alone: bool) -> list[tuple[str, ...] | None]:
    """The tags of each image; None of one of which nobody said.

    Args:
        tags: as the caller gave them.
        count: of images.
        alone: whether it is one image that stands alone.

    Raises:
        ValueError: they are of another number of images.

    Example:
        >>> tag_names(["cat", "dog"], 1, alone=True)
        [('cat', 'dog')]
        >>> tag_names(["cat", ["dog", "cow"], None], 3, alone=False)
        [('cat',), ('dog', 'cow'), None]
    """
    if tags is None:
        return [None] * count
    if alone:
        return [_names(tags)]
    each = [tags] if isinstance(tags, str) else list(tags)
    if len(each) != count:
        raise ValueError(
            f"there are {count} images, and tags of {len(each)}; give those of each image in a "
            f"list, and for the same of all [tags] * {count}"
        )
    return [None if names is None else _names(names) for names in each]


def tag_ids(
    names: tuple[str, ...] | None, class_names: Collection[str], what: str
) -> tuple[int, ...] | None:
    """Names as class ids, ascending.

    Raises:
        ValueError: one is no class.

    Example:
        >>> tag_ids(("dog", "cat"), ["cat", "cow", "dog"], "x")
        (1, 3)
    """
    if names is None:
        return None
    ids = {name: number for number, name in enumerate(class_names, 1)}
    for name in names:
        if name not in ids:
            raise ValueError(
                f"the tags of {what} name '{name}', which is no class of the model; "
                f"{did_you_mean(str(name), class_names)}"
            )
    return tuple(sorted({ids[name] for name in names}))


def _names(tags: Any) -> tuple[str, ...]:
    return (tags,) if isinstance(tags, str) else tuple(tags)
