"""Where recipes lie: in the project's folder recipes/, and those that ship with wsss."""

from pathlib import Path

__all__ = ["recipe_files", "recipe_summaries", "shipped_recipes"]

_PACKAGE = Path(__file__).parents[1]


def shipped_recipes() -> Path:
    """The folder of those that ship: the repository's, or the one that a wheel has for it."""
    beside = _PACKAGE.parents[1] / "recipes"
    return beside if beside.is_dir() else _PACKAGE / "recipes"


def recipe_files(folder: Path, kind: str = "") -> dict[str, Path]:
    """Find recipes, searches or tables by name, sorted; a project's own stand before those shipped.

    Args:
        folder: the project's recipes, which need not exist.
        kind: "" for recipes, "tuning" for searches, "studies" for tables.

    Example:
        >>> recipe_files(Path("nowhere"))["synthetic_cam"].name
        'synthetic_cam.yaml'
    """
    found = {
        path.stem: path
        for place in (shipped_recipes(), folder)
        for path in (place / kind).glob("*.yaml")
    }
    return dict(sorted(found.items()))


def recipe_summaries(folder: Path) -> dict[str, str]:
    """What each recipe is, by its name: the first line of its file, which is a comment.

    Args:
        folder: as of `recipe_files`.

    Example:
        >>> recipe_summaries(Path("nowhere"))["voc_cam"]
        'PASCAL VOC 2012, ResNet-38d: CAM in the setting of mva-wsss'
    """
    found = {}
    for name, path in recipe_files(folder).items():
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            found[name] = file.readline().lstrip("# ").rstrip()
    return found
