"""Points as people have them: a table with a line per point, or an export."""

from collections.abc import Sequence
from pathlib import Path

from wsss.data._base import RawPoint
from wsss.data._exports import exported_points, is_export, read_export
from wsss.data._matching import Names
from wsss.data._object_tables import class_ids_of, in_shares, matched, object_rows
from wsss.settings import ConfigError

__all__ = ["read_points"]

_SIDES = {"x": ("x", "px", "col", "column"), "y": ("y", "py", "row")}


def read_points(
    path: Path, names: Names, class_names: Sequence[str], empty_tag: str, key: str
) -> tuple[dict[str, tuple[RawPoint, ...]], list[str]]:
    """Read points.

    Args:
        path: a table (.csv, .tsv, .json, .jsonl) with the columns image, class, x and y, in
            pixels, or in shares of the image's sides where all lie in [0, 1]; or an export of
            Label Studio (.json) or CVAT (.xml).
        names: the images.
        class_names: K names.
        empty_tag: the name for no class, which is the background here; "background" is it, too.
        key: what names it in params.yaml, for errors.

    Returns:
        By image its points, and what a person must know.

    Raises:
        ConfigError: it is no file.
        ValueError: a line is no point, or of no class, or no line is of an image.
    """
    if not path.is_file():
        raise ConfigError(f"{key}: {path} is not a file; set it to a table of points")
    export = read_export(path, names, key) if is_export(path) else None
    if export is not None:
        return exported_points(export, class_names, empty_tag), export.warnings
    rows = object_rows(path, names, _SIDES, ("x", "y"))
    images, listed = matched([row.entry for row in rows], names, path, "points")
    said = list(listed)
    shares = in_shares([(row.values["x"], row.values["y"]) for row in rows], path, "points")
    said += [shares] if shares else []
    rows = [row for row in rows if row.entry in images]
    words = {row.word: row.where for row in reversed(rows)}
    ids = class_ids_of(words, class_names, (empty_tag, "background"))
    points: dict[str, list[RawPoint]] = {}
    for row in rows:
        point = RawPoint(ids[row.word], row.values["x"], row.values["y"], row.where, bool(shares))
        points.setdefault(images[row.entry], []).append(point)
    return {name: tuple(own) for name, own in points.items()}, said
