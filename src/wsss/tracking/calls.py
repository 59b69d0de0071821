"""Calls of a tracker as lines of text: for another process, or for another day."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["decode", "encode"]

_PATH = "<path>"  # marks a file among the arguments


def encode(call: Sequence[Any], place: Callable[[Path], Path] = Path.absolute) -> str:
    """Write a call as one line of JSON.

    Args:
        call: a method's name, and plain values, files, lists and dictionaries of them.
        place: says where a file is to be looked for.

    Example:
        >>> encode(["metrics", {"loss": 0.5}, 3])
        '["metrics", {"loss": 0.5}, 3]'
    """

    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            return {_PATH: str(place(value))}
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return value

    return json.dumps(plain(call))


def decode(line: str, folder: Path = Path()) -> list[Any]:
    """Read what `encode` wrote; files are looked for below a folder.

    Raises:
        ValueError: it is no call.
    """

    def with_paths(value: dict[str, Any]) -> Any:
        return folder / value[_PATH] if value.keys() == {_PATH} else value

    call = json.loads(line, object_hook=with_paths)
    if not isinstance(call, list) or not call or not isinstance(call[0], str):
        raise ValueError(f"{line[:80]!r} is no call of a tracker")
    return call
