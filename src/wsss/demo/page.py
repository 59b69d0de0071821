"""The page, made with Gradio: pictures on the right, and what they follow on the left."""

import logging
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from wsss.demo.drawing import draw_mask
from wsss.demo.form import Field
from wsss.demo.moves import Forms, pictures_of
from wsss.demo.session import Session, Shown
from wsss.demo.sources import Sources

__all__ = ["NEEDED", "running", "serve"]

log = logging.getLogger(__name__)

NEEDED = "the page needs Gradio: pip install 'wsss[demo]'"
LARGEST = "60mb"  # of the files that may be dropped
KEPT = 3600  # seconds that files, and what was made of them, stay
TROUBLES = (ValueError, OSError, ImportError, MemoryError, RuntimeError)
"""What a person may mend; the page shows its text."""
CSS = ".gradio-container {max-width: none !important} .picture img {object-fit: contain}"


def serve(sources: Sources, host: str, port: int | None) -> None:
    """Show the page until Ctrl-C; what was dropped is deleted then.

    Args:
        sources: the models.
        host: the address that is listened on.
        port: None takes the first one that is free from 7860 on.

    Raises:
        ImportError: Gradio is not installed.
        OSError: the port is taken.
    """
    with running(sources, host, port) as address:
        log.info("the page is at %s; Ctrl-C ends it", address)
        threading.Event().wait()


@contextmanager
def running(sources: Sources, host: str = "127.0.0.1", port: int | None = None) -> Iterator[str]:
    """The page while it runs, as its address; arguments and errors as `serve`."""
    with tempfile.TemporaryDirectory(prefix="wsss-demo-") as folder:
        # read when Gradio is imported, and later: nothing is told or asked elsewhere
        os.environ |= {
            "GRADIO_ANALYTICS_ENABLED": "False",
            "GRADIO_TEMP_DIR": folder,
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        try:
            import gradio as gr
        except ModuleNotFoundError as error:
            if error.name != "gradio":
                raise
            raise ImportError(NEEDED) from None

        blocks = _build(gr, sources)
        fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
        _, address, _ = blocks.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            ssr_mode=False,
            enable_monitoring=False,
            mcp_server=False,
            pwa=False,
            max_file_size=LARGEST,
            footer_links=[],
            theme=gr.themes.Base(**fonts),
            css=CSS,
        )
        try:
            yield address
        finally:
            blocks.close(verbose=False)


def _build(gr: Any, sources: Sources) -> Any:
    forms = Forms(sources)
    start, images = sources.masks.chain, sources.images
    with gr.Blocks(
        title="wsss demo", analytics_enabled=False, delete_cache=(KEPT, KEPT), fill_width=True
    ) as blocks:
        session = gr.State(None, time_to_live=KEPT)
        shown = gr.State(None, time_to_live=KEPT)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                gr.Markdown(f"**{sources.classifier.place}**")
                # a file, and not Gradio's image: wsss reads more kinds, and says what is wrong
                image = gr.File(label="Drop an image", height=120, elem_id="image")
                of_project = gr.Dropdown(
                    [("", ""), *((f"{item.split}: {name}", name) for name, item in images.items())],
                    value="",
                    label="or one of the project's",
                    visible=bool(images),
                    elem_id="of_project",
                )
                tags = gr.CheckboxGroup(
                    list(sources.classifier.class_names), label="Tags that hold", elem_id="tags"
                )
                threshold = gr.Slider(
                    0, 1, sources.threshold(start),
                    step=0.01, label="threshold", info="Of the mask.", elem_id="threshold",
                )  # fmt: skip
                with gr.Accordion("make_pseudo_masks", open=False):
                    values = [_component(gr, item, "masks") for item in forms.masks]
                chain = gr.Dropdown(
                    list(forms.chains), value=start, label="chain of refiners", elem_id="chain"
                )
                columns = []
                for name, of_chain in forms.chains.items():
                    with gr.Column(visible=name == start, elem_id=f"chain_{name}") as column:
                        for place, fields in enumerate(of_chain):
                            entry = sources.chains[name][place]
                            with gr.Accordion(f"{name}.{place}: {entry.name}"):
                                of = f"{name}_{place}"
                                values += [_component(gr, item, of) for item in fields]
                    columns.append(column)
                for name, reason in sources.left_out.items():
                    gr.Markdown(f"*{name}* is left out: {reason}")
            with gr.Column(scale=5):
                status = gr.Markdown("Drop an image.", elem_id="status")
                with gr.Row():
                    mask = _picture(gr, "Mask", "png", "mask")
                    predicted = _picture(gr, "Segmenter", "png", "predicted")
                    predicted.visible = sources.segmenter is not None
                refined = _picture(gr, "Refined maps", "jpeg", "refined")
                maps = _picture(gr, "Maps", "jpeg", "maps")
                code: dict[str, Any] = {"interactive": False, "max_lines": 20}
                line = gr.Code(
                    label="For a shell", language="shell", elem_id="line", wrap_lines=True, **code
                )
                text = gr.Code(label="For params.yaml", language="yaml", elem_id="yaml", **code)

        def look(
            known: Session | None,
            before: Shown | None,
            ticked: list[str],
            name: str,
            level: float,
            *given: Any,
        ) -> list[Any]:
            nothing = [gr.skip()] * 7
            if known is None:
                return nothing
            try:
                refiners, masks = forms.settings(name, level, given)
                found = known.show(ticked, refiners, masks)
                begun = time.perf_counter()
                drawn = pictures_of(found, before)
            except TROUBLES as error:
                return [*nothing[:-2], _trouble(error), gr.skip()]
            said = _said(found.seconds | {"pictures": time.perf_counter() - begun})
            parts = (drawn.mask, drawn.refined, drawn.maps)
            kept = (gr.skip() if picture is None else picture for picture in parts)
            return [*kept, *forms.texts(name, refiners, masks), said, found]

        def opened(given: Any, name: str = "", ticked: Sequence[str] | None = None) -> list[Any]:
            try:
                made = Session(sources, given, name)
            except TROUBLES as error:
                return [None, gr.skip(), _trouble(error), None]
            choices = [(f"{known} {prob:.2f}", known) for known, prob in made.probs.items()]
            value = list(made.found if ticked is None else ticked)
            return [made, gr.update(choices=choices, value=value), gr.skip(), None]

        def dropped(file: str | None) -> list[Any]:
            return [None, *[gr.skip()] * 3] if file is None else opened(file)

        def taken(name: str) -> list[Any]:
            if not name:
                return [gr.skip()] * 4
            return opened(images[name].pixels(), name, images[name].tags)

        def segmented(known: Session | None) -> Any:
            found = known.predicted() if known is not None else None
            return gr.skip() if found is None else draw_mask(found)

        def switched(name: str) -> list[Any]:
            visible = [gr.update(visible=name == other) for other in forms.chains]
            return [sources.threshold(name), *visible]

        quiet: dict[str, Any] = {
            "show_progress": "hidden",
            "concurrency_limit": 1,
            "concurrency_id": "models",  # one thing at a time: they are shared
            "api_visibility": "private",
        }
        inputs = [session, shown, tags, chain, threshold, *values]
        outputs = [mask, refined, maps, line, text, status, shown]
        moved = {"fn": look, "inputs": inputs, "outputs": outputs, **quiet}
        first = {"outputs": [session, tags, status, predicted], **quiet, "show_progress": "minimal"}
        segmentation = {"fn": segmented, "inputs": [session], "outputs": [predicted], **quiet}
        image.change(dropped, [image], **first).then(**moved).then(**segmentation)
        of_project.input(taken, [of_project], **first).then(**moved).then(**segmentation)
        chain.input(switched, [chain], [threshold, *columns], **quiet).then(**moved)
        live = [item.input for item in (tags, threshold, *values)]
        gr.on(live, trigger_mode="always_last", **moved)
    return blocks


def _picture(gr: Any, label: str, kind: str, name: str) -> Any:
    return gr.Image(
        label=label,
        format=kind,
        interactive=False,
        buttons=["download", "fullscreen"],
        elem_id=name,
        elem_classes="picture",
    )


def _component(gr: Any, item: Field, of: str) -> Any:
    known = {"value": item.value, "label": item.key, "info": item.about}
    known["elem_id"] = f"{of}_{item.key}"
    if item.kind == "switch":
        return gr.Checkbox(**known)
    if item.kind == "choice":
        return gr.Dropdown(list(item.words), **known)
    if item.kind == "text":
        return gr.Textbox(max_lines=1, **known)
    return gr.Slider(item.low, item.high, step=item.step, **known)


def _said(seconds: dict[str, float]) -> str:
    """How long it took, and what was made anew."""
    steps = [f"{name} {1000 * value:.0f}" for name, value in seconds.items()]
    return f"{1000 * sum(seconds.values()):.0f} ms: {', '.join(steps)}"


def _trouble(error: Exception) -> str:
    return f"**It stays as it was:** {error or type(error).__name__}"
