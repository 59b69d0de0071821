"""`wsss schema`: the JSON schema with which editors complete and check params.yaml."""

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["schema", "schema_text"]


def schema_text() -> str:
    """The JSON schema of params.yaml, with the settings of everything registered."""
    from wsss.config.params import Params

    values = Params.model_json_schema()
    values["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    values["title"] = "params.yaml"
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def schema(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("params.schema.json"),
) -> None:
    """Write the JSON schema of params.yaml, for editors."""
    from wsss.artifacts import atomic_path

    text = schema_text()
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    typer.echo(f"wrote {path}")
