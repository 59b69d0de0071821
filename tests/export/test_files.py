"""Files of every network and format give what PyTorch does, for images of any size."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from wsss import __version__
from wsss.artifacts import palette, write_json
from wsss.export import FORMATS, export_model
from wsss.export.onnx_file import OPSET, run_onnx, write_onnx
from wsss.models.classifier import load_classifier
from wsss.registry import NETWORKS
from wsss.segment.network import load_segmenter
from wsss.segment.predict import predict_probs

Segmenter = Callable[[str], Path]
Exported = Callable[..., Path]
SHARED = Path(os.environ.get("WSSS_SHARED", ""), "data/voc_animals/VOCdevkit/VOC2012/JPEGImages")
EVERYWHERE = 1e-4
"""By how much probabilities may differ from PyTorch's."""


@pytest.fixture(scope="session", autouse=True)
def extras() -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"needs {name}: pip install '.[onnx]'")


def check(
    run: Callable[..., list[np.ndarray]], folder: Path, batches: list[np.ndarray], **views: Any
) -> None:
    """That a file gives the probabilities and masks of `predict_probs`."""
    model = load_segmenter(folder)
    draw = np.random.default_rng(0)
    seen = set()
    for images in batches:
        everything = np.ones((len(images), 3), bool)
        some = draw.random((len(images), 3)) > 0.4
        some[:, 0] = True
        normal = model.normalisation(torch.from_numpy(images).permute(0, 3, 1, 2))
        for present in (everything, some):
            with torch.inference_mode():
                expected = predict_probs(
                    model, normal, present=torch.from_numpy(present), **views
                ).numpy()
            (found,) = run(images, present)
            assert found.shape == expected.shape and found.dtype == np.float32
            assert np.abs(found - expected).max() < EVERYWHERE, images.shape
            first, second = np.sort(expected, axis=1)[:, -1], np.sort(expected, axis=1)[:, -2]
            tied = first - second < 2 * EVERYWHERE
            assert tied.mean() < 0.1
            assert ((found.argmax(axis=1) == expected.argmax(axis=1)) | tied).all()
            seen.update(np.unique(expected.argmax(axis=1)).tolist())
    assert len(seen) > 1


def test_every_network_is_tested(small_networks: dict[str, Any]) -> None:
    assert sorted(small_networks) == NETWORKS.names()


@pytest.mark.parametrize(
    "arch",
    [
        *("deeplabv2", "unet_small"),
        *(
            pytest.param(arch, marks=pytest.mark.slow)
            for arch in ("enc_dec_unpool", "frozen_decoder", "unet", "fpn", "deeplabv3plus")
        ),
    ],
)
def test_onnx_gives_what_pytorch_does(
    arch: str, segmenter: Segmenter, exported: Exported, batches: list[np.ndarray]
) -> None:
    file = exported(arch)
    assert [path.name for path in file.parent.iterdir()] == ["network.onnx"]
    check(run_onnx(file), segmenter(arch), batches)
    assert json.loads(metadata(file)["network"])["arch"] == arch


def metadata(file: Path) -> dict[str, str]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    found: dict[str, str] = session.get_modelmeta().custom_metadata_map
    return found


CALLS: dict[str, int] = {}
"""How often the network ran while a file was written, by the file's name."""


def counted(graph: Any, texts: Any, file: Path) -> None:
    """Write a file, and count."""
    calls: list[int] = []
    hook = graph.model.register_forward_pre_hook(lambda *_: calls.append(1))
    write_onnx(graph, texts, file)
    hook.remove()  # what the file gives is compared with it afterwards
    CALLS[file.name] = len(calls)


@pytest.fixture(scope="module")
def written(segmenter: Segmenter) -> Callable[[Path], Path]:
    """Write unet_small, which runs once, into a file."""
    from wsss.export.graphs import SegmenterGraph

    def write(file: Path) -> Path:
        graph = SegmenterGraph(load_segmenter(segmenter("unet_small")), (1.0,), False)
        counted(graph, {"b": "1", "a": "2"}, file)
        return file

    return write


@pytest.fixture(scope="module")
def views_file(segmenter: Segmenter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of unet_small, with scales and flips."""
    file = tmp_path_factory.mktemp("views") / "views.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wsss.export.onnx_file.write_onnx", counted)
        done = export_model(segmenter("unet_small"), file, scores={"val": {"mean_iou": 0.5}})
    assert done.runs == 6
    return file


@pytest.fixture(scope="module")
def single_file(written: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of unet_small, which runs once."""
    return written(tmp_path_factory.mktemp("single") / "single.onnx")


def test_scales_and_flips_are_in_the_file(
    views_file: Path, segmenter: Segmenter, batches: list[np.ndarray]
) -> None:
    scales = (0.75, 1.0, 1.25)
    check(run_onnx(views_file), segmenter("unet_small"), batches, scales=scales, flip=True)


def test_photographs_give_what_pytorch_does(views_file: Path, segmenter: Segmenter) -> None:
    files = sorted(SHARED.glob("*.jpg"))[:20] if "WSSS_SHARED" in os.environ else []
    if not files:
        pytest.skip("did not run: there are no photographs below WSSS_SHARED")
    images = []
    for path in files:
        with Image.open(path) as image:
            images.append(np.asarray(image.convert("RGB"))[None])
    scales = (0.75, 1.0, 1.25)
    check(run_onnx(views_file), segmenter("unet_small"), images, scales=scales, flip=True)


def test_a_file_says_what_it_is(views_file: Path) -> None:
    import onnx

    known = metadata(views_file)
    assert json.loads(known["classes"]) == ["red", "green"] and known["has_background"] == "true"
    assert json.loads(known["palette"]) == palette()[:3].tolist()
    assert json.loads(known["scores"]) == {"val": {"mean_iou": 0.5}}
    assert known["wsss_version"] == __version__ and known["kind"] == "segmenter"
    assert json.loads(known["settings"])["scales"] == [0.75, 1.0, 1.25]
    model = onnx.load(views_file)
    assert [item.version for item in model.opset_import if not item.domain] == [OPSET]
    axes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert axes == {
        "images": ["batch", "height", "width", 3],
        "present": ["batch_or_1", 3],
        "probs": ["batch", 3, "height", "width"],
    }


def test_tags_may_be_left_out(views_file: Path, batches: list[np.ndarray]) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(views_file), providers=["CPUExecutionProvider"])
    (plain,) = session.run(None, {"images": batches[0]})
    (found,) = run_onnx(views_file)(batches[0], np.ones((len(batches[0]), 3), bool))
    assert np.array_equal(plain, found)


def test_the_same_network_gives_the_same_bytes(
    single_file: Path, written: Callable[[Path], Path], tmp_path: Path
) -> None:
    """And nothing of where it was exported."""
    first, second = single_file.read_bytes(), written(tmp_path / "two.onnx")
    assert first == second.read_bytes()
    places = (tmp_path, single_file.parent)
    for place in (b"site-packages", b"wsss/", sys.prefix.encode(), *map(os.fsencode, places)):
        assert place not in first


def test_the_network_is_followed_once_however_often_it_runs(
    single_file: Path, views_file: Path
) -> None:
    """And its weights are in the file once."""
    import onnx

    found = []
    for file in (single_file, views_file):
        model = onnx.load(file).graph
        kinds = [node.op_type for node in model.node]
        weights = [item.name for item in model.initializer if item.name.startswith("network.")]
        found.append((CALLS[file.name], sorted(weights), kinds.count("Conv")))
    (calls_of_one, weights, convolutions), (calls_of_six, same, more) = found
    assert calls_of_one == calls_of_six and weights == same and len(weights) > 5
    assert more == 6 * convolutions > 0


@pytest.mark.parametrize("format", ["openvino", "torch_export"])
def test_other_formats_give_what_pytorch_does(
    format: str, segmenter: Segmenter, exported: Exported, batches: list[np.ndarray]
) -> None:
    if format == "openvino":
        pytest.importorskip("openvino", reason="needs openvino: pip install '.[openvino]'")
    file = exported("unet_small", format)
    module, run = FORMATS[format][1], FORMATS[format][3]
    functions = sys.modules[f"wsss.export.{module}"]
    check(getattr(functions, run)(file), segmenter("unet_small"), batches)
    names = {path.name for path in file.parent.iterdir()}
    if format == "openvino":
        assert names == {"network.xml", "network.bin"}
        import openvino

        model = openvino.Core().read_model(file)
        classes = model.get_rt_info(["wsss", "classes"]).astype(str)
    else:
        assert names == {"network.pt2"}
        extra = {"wsss.json": ""}
        torch.export.load(file, extra_files=extra)
        classes = json.loads(extra["wsss.json"])["classes"]
    assert json.loads(classes) == ["red", "green"]


def test_a_classifier_gives_maps_of_its_classes(
    classifier: Path, exported_classifier: Path, batches: list[np.ndarray]
) -> None:
    from wsss.export.graphs import ClassifierGraph

    graph = ClassifierGraph(*load_classifier(classifier), (1.0,), False)
    run = run_onnx(exported_classifier)
    for images in batches:
        with torch.inference_mode():
            probs, cams = graph(torch.from_numpy(images))
        found_probs, found_cams = run(images)
        assert np.abs(found_probs - probs.numpy()).max() < EVERYWHERE
        assert np.abs(found_cams - cams.numpy()).max() < 10 * EVERYWHERE  # stretched to 1
        assert found_cams.min() >= 0 and np.isclose(found_cams.max(axis=(2, 3)), 1).all()


def test_what_differs_is_not_written(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wsss.export import onnx_file

    file = tmp_path / "network.onnx"
    file.write_text("old")
    monkeypatch.setattr(onnx_file, "write_onnx", lambda *rest: rest[-1].write_text("new"))

    def wrong(_: Path) -> Callable[..., list[np.ndarray]]:
        return lambda images, present: [np.full((len(images), 3, *images.shape[1:3]), 0.3)]

    monkeypatch.setattr(onnx_file, "run_onnx", wrong)
    with pytest.raises(ValueError, match=r"gives other numbers than PyTorch: probs of 2 images"):
        export_model(segmenter("unet_small"), file, scales=[1.0], flip=False)
    assert file.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("file", "format", "said"),
    [
        ("a.onnx", "onxx", "there is no format 'onxx'; did you mean 'onnx'"),
        ("a.pt2", "onnx", r"a file of the format onnx ends in \.onnx.*name it a\.onnx"),
        ("a.onnx", "openvino", r"ends in \.xml"),
    ],
)
def test_what_is_asked_wrongly_is_said(
    file: str, format: str, said: str, classifier: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        export_model(classifier, tmp_path / file, format)


def test_what_is_no_network_is_said(tmp_path: Path) -> None:
    out = tmp_path / "a.onnx"
    with pytest.raises(ValueError, match="nowhere does not exist; name models/segmenter"):
        export_model(tmp_path / "nowhere", out)
    with pytest.raises(ValueError, match="holds no trained network; name models/segmenter"):
        export_model(tmp_path, out)
    write_json(tmp_path / "model.json", {"arch": "retrieval", "class_names": ["a"]})
    with pytest.raises(ValueError, match=r"an index of regions.*export models/classifier, or tr"):
        export_model(tmp_path, out)
    write_json(tmp_path / "model.json", {"kind": "affinity"})
    with pytest.raises(ValueError, match=r"model\.json is none of a network of wsss"):
        export_model(tmp_path, out)
    with pytest.raises(ValueError, match="a scale is 0; give scales above 0"):
        export_model(tmp_path, out, scales=[0])


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_a_missing_extra_is_named(
    missing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=rf"needs {missing}.*pip install 'wsss\[onnx\]'"):
        write_onnx(None, {}, tmp_path / "a.onnx")  # type: ignore[arg-type]


def test_what_cannot_be_traced_is_said(classifier: Path) -> None:
    from wsss.export.graphs import ClassifierGraph, trace

    graph: Any = ClassifierGraph(*load_classifier(classifier), (1.0,), False)
    graph.forward = lambda images: images if int(images.sum()) > 3 else images + 1
    with pytest.raises(ValueError, match=r"the classifier on ResNet cannot be exported, as PyTo"):
        trace(graph)
