"""`wsss serve`: a trained segmenter over HTTP."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["serve"]


def serve(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="models/segmenter, a package, models:/NAME@ALIAS or an .onnx file.",
        ),
    ],
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8080,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="With the token that requests name; needed beyond this machine."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    max_bytes: Annotated[int, typer.Option(help="Of a request.", min=1)] = 32 * 2**20,
    max_pixels: Annotated[int, typer.Option(help="Of an image.", min=1)] = 25_000_000,
    max_waiting: Annotated[
        int, typer.Option(help="Requests that wait; more are to come again later.", min=0)
    ] = 16,
) -> None:
    """Answer images with masks over HTTP: POST /predict; GET /model, /health and /metrics.

    It listens to this machine alone unless a token is given; see docs/serve.md.
    """
    from wsss.prediction import open_model
    from wsss.progress import show_log
    from wsss.server import Limits
    from wsss.server import serve as run
    from wsss.server.running import check_host, read_token

    show_log()
    token = read_token(token_file) if token_file else ""
    check_host(host, token)  # ahead of the model, which takes a while
    limits = Limits(max_bytes, max_pixels, max_waiting)
    run(open_model(model, device), host=host, port=port, token=token, limits=limits)
