"""`wsss schema`: the JSON schema with which editors complete and check params.yaml."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["schema"]


def schema(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("params.schema.json"),
) -> None:
    """Write the JSON schema of params.yaml, for editors."""
    from wsss.artifacts import atomic_path
    from wsss.project.files import schema_text

    text = schema_text()
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    typer.echo(f"wrote {path}")
