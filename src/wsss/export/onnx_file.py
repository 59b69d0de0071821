"""ONNX files, which ONNX Runtime and many others run."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wsss.export.graphs import NETWORK, Graph, NetworkGraph, Traceable, outlined, trace

__all__ = ["OPSET", "run_onnx", "write_onnx"]

OPSET = 20
"""The version of ONNX's operators: the first whose resizing knows all that PyTorch's does."""

_AXES = ("batch", "height", "width")


def write_onnx(
    graph: Graph, texts: Mapping[str, str], file: Path, *, optional: bool = True
) -> None:
    """Write an ONNX file; the same graph gives the same bytes.

    The network is translated once, and stands in the file once for each of its runs, with the same
    weights.

    Args:
        graph: to write.
        texts: become metadata properties.
        file: to write.
        optional: whether the input `present` may be left out, for which it is all classes then.

    Raises:
        ImportError: the extra is not installed.
        ValueError: the network cannot be traced, or an operation of it is not among those of ONNX.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  PyTorch translates with it
    except ModuleNotFoundError as error:
        raise ImportError(
            f"the format onnx needs {error.name}, which is not installed: pip install 'wsss[onnx]'"
        ) from None
    with outlined(graph):
        model = _translated(graph)
    _join(model, _translated(NetworkGraph(graph)))
    _without_places(model)
    _named_axes(model.graph)
    if optional and "present" in graph.input_names:
        everything = np.ones((1, graph.num_classes), bool)
        model.graph.initializer.append(onnx.numpy_helper.from_array(everything, "present"))
    onnx.helper.set_model_props(model, dict(texts))
    onnx.checker.check_model(model)
    file.write_bytes(model.SerializeToString(deterministic=True))


def _translated(graph: Traceable) -> Any:
    """A graph as a model of ONNX."""
    import torch

    program = trace(graph)
    try:
        found = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=list(graph.input_names),
            output_names=list(graph.output_names),
        )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error).partition("## Exception summary")[2] or str(error)
        raise ValueError(
            "the network has an operation that ONNX has not: "
            f"{' '.join(reason.split())[:400]}; take the format torch_export"
        ) from error
    assert found is not None
    return found.model_proto


def _join(model: Any, network: Any) -> None:
    """Put the nodes of a network in the place of each `NETWORK`, all with the same weights."""
    domain = NETWORK.partition("::")[0]
    weights = {item.name: f"network.{item.name}" for item in network.graph.initializer}
    ends = [item.name for item in (*network.graph.input, *network.graph.output)]
    nodes = []
    for node in model.graph.node:
        if node.domain == domain:
            names = weights | dict(zip(ends, (*node.input, *node.output), strict=True))
            nodes += _copied(network.graph.node, names, f"{node.output[0]}.")
        else:
            nodes += _copied([node], {}, "")
    for item in network.graph.initializer:
        model.graph.initializer.add().CopyFrom(item)
        model.graph.initializer[-1].name = weights[item.name]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    known = {(item.domain, item.name) for item in model.functions}
    model.functions.extend(
        item for item in network.functions if (item.domain, item.name) not in known
    )
    versions = {item.domain: item.version for item in (*network.opset_import, *model.opset_import)}
    del model.opset_import[:]
    for name, version in versions.items():
        if name != domain:
            model.opset_import.add(domain=name, version=version)


def _copied(nodes: Sequence[Any], names: Mapping[str, str], prefix: str) -> list[Any]:
    """Nodes whose values have other names: those that are given, or their own behind a prefix."""
    import onnx

    def renamed(values: Any) -> None:
        values[:] = [name and names.get(name, prefix + name) for name in values]

    found = []
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.name = prefix + node.name
        renamed(copy.input)
        renamed(copy.output)
        for attribute in copy.attribute:
            if attribute.HasField("g"):  # what a node runs under a condition
                inner = _copied(attribute.g.node, names, prefix)
                del attribute.g.node[:]
                attribute.g.node.extend(inner)
                for value in (*attribute.g.input, *attribute.g.output, *attribute.g.initializer):
                    value.name = names.get(value.name, prefix + value.name)
        found.append(copy)
    return found


def run_onnx(file: Path) -> Callable[..., list[np.ndarray]]:
    """A function of the file's inputs, in their order.

    Raises:
        ImportError: ONNX Runtime is not installed.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise ImportError(
            "the format onnx is checked with onnxruntime, which is not installed: "
            "pip install 'wsss[onnx]'"
        ) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of an input that may be left out
    session = onnxruntime.InferenceSession(str(file), options, ["CPUExecutionProvider"])
    known = (*session.get_inputs(), *session.get_overridable_initializers())
    names = [item.name for item in known]

    def run(*inputs: np.ndarray) -> list[np.ndarray]:
        found: list[np.ndarray] = session.run(None, dict(zip(names, inputs)))
        return found

    return run


def _without_places(model: Any) -> None:
    """Leave out which lines of which files on this machine the nodes came from."""
    del model.metadata_props[:]
    for part in (model.graph, *model.functions):
        part.doc_string = ""
        del part.metadata_props[:]
        del part.value_info[:]  # its sizes are formulas of names that are changed
        for node in part.node:
            node.doc_string = ""
            del node.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        value.doc_string = ""
        del value.metadata_props[:]


def _named_axes(graph: Any) -> None:
    """Call the axes of the images batch, height and width, there and in all that follows."""
    images = graph.input[0].type.tensor_type.shape.dim
    names = {images[axis].dim_param: name for axis, name in enumerate(_AXES)}
    for value in (*graph.input, *graph.output):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_param = names.get(axis.dim_param, "")
    for value in graph.input[1:]:
        value.type.tensor_type.shape.dim[0].dim_param = "batch_or_1"
