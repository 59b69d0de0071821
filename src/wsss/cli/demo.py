"""`wsss demo`: a page on which maps and masks of an image follow their settings."""

from typing import Annotated

import typer

__all__ = ["demo"]


def demo(
    place: Annotated[
        str,
        typer.Argument(
            metavar="[PROJECT|MODEL]",
            help="A project, models/classifier of one, a package, or models:/NAME@ALIAS.",
        ),
    ] = ".",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    host: Annotated[
        str, typer.Option(help="The address to listen on; the page has no password.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="[default: the first free from 7860]")
    ] = None,
) -> None:
    """Show a page: drop an image, tick its tags, move settings, and see maps and masks follow.

    Nothing leaves this machine. The settings found are copied as a line of `wsss set`, or as YAML.
    """
    from importlib.util import find_spec

    from wsss.demo.page import NEEDED, serve

    if find_spec("gradio") is None:  # told before models are read
        raise ImportError(NEEDED)
    from wsss.demo.sources import open_sources
    from wsss.progress import show_log

    show_log()
    serve(open_sources(place, device), host, port)
