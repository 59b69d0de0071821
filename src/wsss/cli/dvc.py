"""`wsss dvc`: dvc.yaml from the declarations of the stages."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["dvc"]


def dvc(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if the file is another one.")
    ] = False,
) -> None:
    """Write dvc.yaml from what the stages declare: those of this repository, or those installed."""
    from wsss.artifacts import atomic_path
    from wsss.pipeline.dvc import dvc_text_of
    from wsss.stages import find_stages

    path, text = Path("dvc.yaml"), dvc_text_of(Path(), find_stages())
    if check:
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            raise ValueError("dvc.yaml is not what the stages declare; run `wsss dvc`")
        return
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"wrote {path}")
