"""GeoJSON in pixels, a file an image, as QuPath, QGIS and others open it: outlines with holes."""

import uuid
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from wsss.artifacts import files_below, palette, read_json, write_json
from wsss.data.drawn_masks import filled_polygons, label_ids
from wsss.editors._base import Answers, Given, Known, label_of, layered, regions, stable_id
from wsss.editors._pictures import read_files
from wsss.editors.outlines import outlines, simplified

__all__ = ["IMAGES", "LOSSLESS", "read", "reads", "write"]

IMAGES = "images"
LOSSLESS = False
LABELS = "labels"


def write(given: Iterable[Given], class_names: Sequence[str], out: Path, tolerance: float) -> str:
    """Write labels/NAME.geojson of each image, a feature of each class; see `Format`.

    Coordinates are x and y in pixels from the upper left corner of the image.

    References:
        Butler et al.: The GeoJSON Format (RFC 7946).
    """
    for item in given:
        features = [
            {
                "type": "Feature",
                "id": str(uuid.UUID(int=stable_id(item.name, class_id))),
                "geometry": {
                    "type": "MultiPolygon",
                    "coordinates": [
                        [_closed(ring) for ring in (part.outer, *part.holes)]
                        for part in (simplified(part, tolerance) for part in outlines(inside))
                    ],
                },
                "properties": {
                    "objectType": "annotation",
                    "classification": {
                        "name": label_of(class_id, class_names),
                        "color": palette()[class_id].tolist(),
                    },
                },
            }
            for class_id, inside in regions(item.mask)
        ]
        write_json(
            out / f"{LABELS}/{item.name}.geojson",
            {"type": "FeatureCollection", "features": features},
        )
    return LABELS


def reads(path: Path) -> bool:
    """See `Format`."""
    return path.is_dir() and bool(files_below(path, ".geojson"))


def read(path: Path, known: Known) -> Answers:
    """Read polygons of each image; see `Format`."""
    folder = path / LABELS if (path / LABELS).is_dir() else path
    files = files_below(folder, ".geojson")
    return read_files(files, folder, known, lambda file: partial(_drawn, file, known.class_names))


def _drawn(file: Path, class_names: Sequence[str], size: tuple[int, int], empty: int) -> np.ndarray:
    try:
        value = read_json(file)
    except ValueError as error:
        raise ValueError(f"{error}; if it was cut short, export it again") from None
    features = value.get("features", [value]) if isinstance(value, dict) else value
    parts = []
    for number, feature in enumerate(features if isinstance(features, list) else [features], 1):
        where = f"{file}, feature {number}"
        try:
            label = _label(feature["properties"])
            polygons = _polygons(feature["geometry"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{where} is no feature with a class and a Polygon or MultiPolygon ({error!r}); "
                "mend it, or remove it"
            ) from None
        class_id = label_ids([label], where, class_names)[label]
        inside = np.zeros(size, bool)
        try:
            for outer, *holes in polygons:
                part = filled_polygons([outer], size)
                for hole in holes:
                    part &= ~filled_polygons([hole], size)
                inside |= part
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        parts.append((class_id, inside))
    return layered(parts, size, empty)


def _label(properties: dict[str, Any]) -> str:
    """The class of a feature: that of QuPath's classification, or what is called class or label."""
    named = properties.get("classification")
    for value in (
        named.get("name") if isinstance(named, dict) else named,
        *(properties.get(key) for key in ("class", "label", "name")),
    ):
        if isinstance(value, str) and value.strip():
            return value.strip()
    raise KeyError("classification")


def _polygons(geometry: dict[str, Any]) -> list[list[np.ndarray]]:
    """The rings of each polygon, the outer one first; (N, 2) x and y."""
    kinds = {"Polygon": [geometry["coordinates"]], "MultiPolygon": geometry["coordinates"]}
    if geometry["type"] not in kinds:
        raise ValueError(f"a {geometry['type']}")
    found = [[np.array(ring, float)[:, :2] for ring in rings] for rings in kinds[geometry["type"]]]
    if any(len(ring) < 3 for rings in found for ring in rings) or not all(found):
        raise ValueError("a ring of less than 3 points")
    return found


def _closed(ring: np.ndarray) -> list[list[float]]:
    """A ring whose last point is the first, outer ones counter-clockwise as x and y say it.

    Rows go down, so that what one sees clockwise is counter-clockwise by numbers.
    """
    return [[_plain(x), _plain(y)] for x, y in (*ring.tolist(), ring[0].tolist())]


def _plain(value: float) -> float:
    return int(value) if value == int(value) else value
