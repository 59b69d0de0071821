"""`wsss convert-weights`: published weight files as files that `backbone.weights` takes."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["convert_weights"]


class _Model(StrEnum):
    RESNET38D = "resnet38d"


def convert_weights(
    model: Annotated[_Model, typer.Argument(help="The network that the weights are for.")],
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN", help="MXNet's .params of Wu et al., or a .pth of PSA, SC-CAM or SEAM."
        ),
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The .safetensors to write.")],
) -> None:
    """Convert a published weights file, for `train_classifier.backbone.weights`."""
    if target.suffix != ".safetensors":
        raise ValueError(f"OUT is a .safetensors file, got {target}")
    from safetensors.torch import save_file

    from wsss.artifacts import atomic_path
    from wsss.models.resnet38d_weights import convert_resnet38d

    converted = convert_resnet38d(source)
    with atomic_path(target) as temporary:
        save_file(converted.weights, temporary)
    for name, old in converted.used.items():
        typer.echo(f"used  {old}" + (f"  as {name}" if name != old else ""))
    for old in converted.left:
        typer.echo(f"left  {old}")
    width = "" if converted.width == 1 else f" (timm_kwargs: width: {converted.width:g})"
    typer.echo(
        f"wrote {target} for {model.value}{width}: {len(converted.used)} tensors used, "
        f"{len(converted.left)} left"
    )
