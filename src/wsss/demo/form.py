"""What a form has for settings: a field for each key of their model, with range and meaning."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from wsss.api.choices import validated
from wsss.config.yaml_text import flow_text, load_yaml
from wsss.settings import Settings, attribute_docs

__all__ = ["Field", "fields_of", "settings_with"]

Kind = Literal["number", "whole", "switch", "choice", "text"]

REACH = 4  # times the value, that a number without a greatest one can be moved to
STEPS = 100  # of a slider over numbers that are not whole


@dataclass(frozen=True)
class Field:
    """One key of settings as a part of a form.

    Attributes:
        key: in the model.
        kind: "number" and "whole" have a slider, "switch" is true or false, "choice" one of some
            words, "text" anything else, as YAML.
        value: what it shows, of the kind; the text of "text".
        about: what the key means.
        low: the least value of a number.
        high: the greatest value that a slider reaches.
        step: of a slider.
        words: of a choice.
    """

    key: str
    kind: Kind
    value: Any
    about: str
    low: float = 0
    high: float = 0
    step: float = 0
    words: tuple[str, ...] = ()


def fields_of(settings: Settings, leave_out: Collection[str] = ()) -> list[Field]:
    """The fields of settings, in the order of their model.

    Args:
        settings: whose values the form begins with.
        leave_out: keys without a field; `name` and keys that no dump has are left out anyway.

    Example:
        >>> from wsss.registry import REFINERS
        >>> for field in fields_of(REFINERS.default("pamr"))[1:]:
        ...     print(field.key, field.kind, field.value, field.low, field.high, field.words)
        n_iters whole 10 0 40 ()
        grid choice scores 0 0 ('scores', 'image')
        squared switch False 0 0 ()
    """
    found, docs = [], attribute_docs(type(settings))
    for key, info in type(settings).model_fields.items():
        if key != "name" and key not in leave_out and not info.exclude:
            about = " ".join(docs.get(key, "").split())
            found.append(_field(key, info.annotation, info.metadata, getattr(settings, key), about))
    return found


def settings_with(settings: Settings, values: Mapping[str, Any], what: str) -> Any:
    """The settings with what a form says.

    Args:
        settings: that the form was made of.
        values: by key, as `Field.value`.
        what: they are, for errors.

    Raises:
        ConfigError: a value does not fit.
    """
    kinds = {field.key: field.kind for field in fields_of(settings)}
    known = {key: _read(kinds[key], value, f"{what}.{key}") for key, value in values.items()}
    return validated(type(settings), settings.model_dump(mode="json") | known, what)


def _field(key: str, annotation: Any, metadata: Sequence[Any], value: Any, about: str) -> Field:
    if annotation is bool:
        return Field(key, "switch", value, about)
    if get_origin(annotation) is Literal and all(isinstance(x, str) for x in get_args(annotation)):
        return Field(key, "choice", value, about, words=get_args(annotation))
    if annotation in (int, float):
        return _number(key, annotation is int, _bounds(metadata), value, about)
    plain = value.model_dump(mode="json") if isinstance(value, Settings) else value
    return Field(key, "text", flow_text(plain), about)


def _number(key: str, whole: bool, bounds: Mapping[str, float], value: float, about: str) -> Field:
    """A slider that begins and ends within the bounds, or far enough where there are none."""
    kind: Kind = "whole" if whole else "number"
    low = bounds.get("ge", bounds.get("gt"))
    high = bounds.get("le", bounds.get("lt"))
    if high is None:
        high = _round_above(REACH * abs(value) if value else 10 if whole else 1)
    if low is None:
        low = -high
    step = 1.0 if whole else _round_above((high - low) / STEPS / 1.9)
    # a bound that is itself no value is missed by a step
    if "gt" in bounds and low <= bounds["gt"]:
        low += min(step, value - low) if value > low else step
    if "lt" in bounds and high >= bounds["lt"]:
        high -= min(step, high - value) if value < high else step
    if whole:
        return Field(key, kind, value, about, math.ceil(low), math.floor(high), 1)
    return Field(key, kind, value, about, _rounded(low), _rounded(high), step)


def _round_above(value: float) -> float:
    """The next of 1, 2, 4, 5, 8 times a power of ten.

    Example:
        >>> [_round_above(value) for value in (200, 12, 0.0052, 41)]
        [200.0, 20.0, 0.008, 50.0]
    """
    power = 10.0 ** math.floor(math.log10(value))
    return _rounded(next(x for x in (1, 2, 4, 5, 8, 10) if x * power >= value * (1 - 1e-9)) * power)


def _rounded(value: float) -> float:
    return float(f"{value:.10g}")


def _bounds(metadata: Sequence[Any]) -> dict[str, float]:
    """What is said of a number: ge, gt, le, lt."""
    return {
        name: bound
        for item in metadata
        for name in ("ge", "gt", "le", "lt")
        if (bound := getattr(item, name, None)) is not None
    }


def _read(kind: Kind, value: Any, what: str) -> Any:
    if kind == "text":
        return load_yaml(str(value), what)
    return int(value) if kind == "whole" and float(value).is_integer() else value
