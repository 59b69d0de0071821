"""OpenVINO's pair of files: an .xml with the graph, and a .bin with the weights beside it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wsss.export.graphs import Graph
from wsss.export.onnx_file import write_onnx

__all__ = ["run_openvino", "write_openvino"]


def write_openvino(graph: Graph, texts: Mapping[str, str], file: Path) -> None:
    """Write both files, with weights of 32 bits; OpenVINO converts the ONNX file of the same graph.

    Args:
        graph: to write.
        texts: become runtime information, below "wsss".
        file: the .xml to write.

    Raises:
        ImportError: an extra is not installed.
        ValueError: the network cannot be traced, or an operation of it is not among those of ONNX.
    """
    openvino = _openvino()
    between = file.with_suffix(".onnx")
    write_onnx(graph, texts, between, optional=False)  # OpenVINO has no such inputs
    model = openvino.convert_model(str(between))
    between.unlink()
    for key, text in texts.items():
        model.set_rt_info(text, ["wsss", key])
    openvino.save_model(model, str(file), compress_to_fp16=False)


def run_openvino(file: Path) -> Callable[..., list[np.ndarray]]:
    """A function of the file's inputs, in their order.

    Raises:
        ImportError: OpenVINO is not installed.
    """
    openvino = _openvino()
    exact = {"INFERENCE_PRECISION_HINT": "f32"}  # not bf16, where the processor has it
    model = openvino.compile_model(str(file), "CPU", exact)

    def run(*inputs: np.ndarray) -> list[np.ndarray]:
        found = model(list(inputs))
        return [found[output] for output in model.outputs]

    return run


def _openvino() -> Any:
    try:
        import openvino
    except ModuleNotFoundError:
        raise ImportError(
            "the format openvino needs openvino, which is not installed: "
            "pip install 'wsss[onnx,openvino]'"
        ) from None
    return openvino
