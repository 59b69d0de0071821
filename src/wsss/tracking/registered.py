"""Registered models in the project's own database, without MLflow, whose import takes seconds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wsss.tracking.database import read_rows

__all__ = ["Version", "registered_versions"]


@dataclass(frozen=True)
class Version:
    """A version of a registered model.

    Attributes:
        name: of the model.
        number: of the version, from 1.
        run_id: of the run whose artifact it is.
        created: milliseconds since 1970.
        aliases: that name it, sorted.
        tags: of the version.
    """

    name: str
    number: int
    run_id: str
    created: int
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """As a person names it, such as "wsss/3"."""
        return f"{self.name}/{self.number}"


def registered_versions(database: Path) -> list[Version]:
    """Read all versions but deleted ones, by name and number; none of a database without any.

    Raises:
        ConnectionError: the database cannot be read.
    """
    rows, tag_rows, alias_rows = read_rows(
        database,
        "SELECT name, version, run_id, creation_time FROM model_versions "
        "WHERE current_stage IS NULL OR current_stage != 'Deleted_Internal' ORDER BY name, version",
        "SELECT name, version, key, value FROM model_version_tags",
        "SELECT name, version, alias FROM registered_model_aliases ORDER BY alias",
    )
    tags: dict[tuple[str, int], dict[str, str]] = {}
    for name, number, key, value in tag_rows:
        tags.setdefault((name, number), {})[key] = value
    aliases: dict[tuple[str, int], list[str]] = {}
    for name, number, alias in alias_rows:
        aliases.setdefault((name, number), []).append(alias)
    return [
        Version(
            name,
            number,
            run_id or "",
            created,
            tuple(aliases.get((name, number), ())),
            tags.get((name, number), {}),
        )
        for name, number, run_id, created in rows
    ]
