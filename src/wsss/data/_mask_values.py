"""What the values of masks mean, as a user writes it, to what they mean in each image's mask."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator

from wsss.artifacts import IGNORE_INDEX
from wsss.checks import full_key
from wsss.settings import ConfigError

__all__ = ["MaskKey", "MaskValues"]

_TAG = "tag"
_COLOUR, _RANGE = re.compile(r"#[0-9a-f]{6}"), re.compile(r"(\d+)-(\d+)")
_MOST = 65535


def _key(key: Any) -> int | str:
    """A key in its plain form: digits are a number, a colour has small letters."""
    text = str(key).strip().lower()
    if text.isdecimal() and int(text) <= _MOST:
        return int(text)
    span = _RANGE.fullmatch(text)
    if _COLOUR.fullmatch(text) or (span and int(span[1]) <= int(span[2]) <= _MOST):
        return text
    raise ValueError(
        f"mask_values has '{key}', but a key is a value in 0..{_MOST}, several such as '128-255', "
        "or a colour such as '#ff0000', in quotes"
    )


MaskKey = Annotated[int | str, BeforeValidator(_key)]
"""A value of a mask, several such as "128-255", or a colour such as "#ff0000"."""


def _single(meanings: Mapping[int | str, int | str]) -> dict[int | str, int | str]:
    """The same with every value on its own; a value by itself goes before one in a range."""
    found: dict[int | str, int | str] = {}
    for key, meaning in sorted(meanings.items(), key=lambda item: "-" not in str(item[0])):
        span = _RANGE.fullmatch(str(key))
        values = range(int(span[1]), int(span[2]) + 1) if span else (key,)
        found |= dict.fromkeys(values, meaning)
    return found


class MaskValues:
    """The meanings of masks' values, some of which may follow the image's tag.

    Args:
        meanings: by value, or by colour, a class id, 0, 255, the name of a class, or "tag".
        class_names: K names.
        key: what names the meanings among the data set's settings, for errors.

    Raises:
        ConfigError: a meaning is neither a class nor one of the others.
    """

    def __init__(
        self,
        meanings: Mapping[int | str, int | str],
        class_names: Sequence[str],
        key: str = "mask_values",
    ) -> None:
        self.class_names, self.key = class_names, key
        self.by_colour = any(_COLOUR.fullmatch(str(key)) for key in meanings)
        self.ids: dict[int | str, int] = {}
        self.tagged: list[int | str] = []
        for value, meaning in _single(meanings).items():
            if meaning in class_names:
                self.ids[value] = class_names.index(str(meaning)) + 1
            elif meaning == _TAG:
                self.tagged.append(value)
            elif meaning in (*range(len(class_names) + 1), IGNORE_INDEX):
                self.ids[value] = int(meaning)
            else:
                known = ", ".join(f"{c} ({name})" for c, name in enumerate(class_names[:20], 1))
                raise ConfigError(
                    f"{full_key(f'dataset.{key}')} maps {value} to {meaning!r}, which is no "
                    f"class; it may be {known}{', ...' * (len(class_names) > 20)}, 0 "
                    f"(background), {IGNORE_INDEX} (ignored) or {_TAG}, the image's own"
                )

    def of(self, class_ids: Sequence[int]) -> dict[int | str, int] | None:
        """The class id of each value that a mask may hold; {} where masks hold class ids.

        Values that mean an image's tag may not occur in one without a tag.

        Args:
            class_ids: the image's tags.

        Returns:
            None where a value means the tag, but the image has several.
        """
        if not self.ids and not self.tagged:
            return {}
        if self.tagged and len(class_ids) > 1:
            return None
        plain = () if self.by_colour else (*range(len(self.class_names) + 1), IGNORE_INDEX)
        kept: dict[int | str, int] = {value: value for value in plain}
        for value in self.tagged:
            kept.pop(value, None)
        own = dict.fromkeys(self.tagged, class_ids[0]) if class_ids else {}
        return kept | self.ids | own

    def several(self, class_ids: Sequence[int]) -> str:
        """Why the mask of an image with these tags cannot be read."""
        names = ", ".join(self.class_names[c - 1] for c in class_ids)
        return (
            f"{self.key} maps {self.tagged[0]} to the image's tag, but it has {len(class_ids)} "
            f"({names}); draw its mask with class ids, or leave its mask out"
        )
