"""`wsss convert-weights`: from MXNet's file and from .pth to what `backbone.weights` takes."""

import re
import struct
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from typer.testing import CliRunner

import wsss.models.resnet38d  # noqa: F401
from wsss.cli.app import app
from wsss.config.sections import BackboneSettings
from wsss.models.resnet38d_weights import convert_resnet38d
from wsss.models.timm_backbone import TimmBackbone

WIDTH = 1 / 64
VALUES = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_var",
}


def convert(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["convert-weights", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    """Random weights of a narrow network, by the names of PSA."""
    torch.manual_seed(0)
    net = timm.create_model("resnet38d", num_classes=0, global_pool="", width=WIDTH)
    state = net.state_dict()
    return {n: torch.rand_like(array) for n, array in state.items() if "num_batches" not in n}


def mxnet_name(name: str) -> str:
    """As symbols of the published training code are called."""
    block, *rest, value = name.split(".")
    if not rest:  # conv1a and bn7
        layer = block
    else:
        kind, branch = rest[0].split("_")
        stage, _, number = block[1:].partition("_")
        where = f"{stage}b{number}" if number else f"{stage}a"
        layer = f"{'res' if kind == 'conv' else 'bn'}{where}_{branch}"
    if layer.startswith("bn"):
        value = VALUES[value]
    return f"{'aux' if value.startswith('moving') else 'arg'}:{layer}_{value}"


def mxnet_file(arrays: dict[str, np.ndarray], *, marked: bool) -> bytes:
    """Of version 2, or of the time of the published file, which has no marks."""
    out = struct.pack("<QQQ", 0x112, 0, len(arrays))
    for array in arrays.values():
        dims = array.ndim
        if marked:
            out += struct.pack(f"<IiI{dims}q", 0xF993FAC9, 0, dims, *array.shape)
        else:
            out += struct.pack(f"<I{dims}I", dims, *array.shape)
        out += struct.pack("<iii", 1, 0, 0) + array.astype("<f4").tobytes()
    out += struct.pack("<Q", len(arrays))
    for name in arrays:
        out += struct.pack("<Q", len(name)) + name.encode()
    return out


def loaded(path: Path) -> dict[str, torch.Tensor]:
    settings = BackboneSettings(
        model_name="resnet38d",
        output_stride=8,
        weights=str(path),
        timm_kwargs={"width": WIDTH},
    )
    backbone = TimmBackbone(settings)
    assert backbone.weights_source == f"file:{path.name}"
    return dict(backbone.net.state_dict())


@pytest.mark.parametrize("marked", [False, True])
def test_mxnet_file(marked: bool, weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    arrays = {mxnet_name(name): array.numpy() for name, array in weights.items()}
    assert {
        "arg:conv1a_weight",
        "arg:res2a_branch1_weight",
        "arg:bn4b5_branch2b1_gamma",
        "aux:bn6a_branch2b2_moving_var",
        "aux:bn7_moving_mean",
    } <= set(arrays)
    arrays["arg:linear1000_weight"] = np.ones((1000, 64), np.float32)
    arrays["arg:linear1000_bias"] = np.ones(1000, np.float32)
    (tmp_path / "in.params").write_bytes(mxnet_file(arrays, marked=marked))
    printed = convert("resnet38d", tmp_path / "in.params", tmp_path / "new" / "out.safetensors")
    found = loaded(tmp_path / "new" / "out.safetensors")
    for name, array in weights.items():
        assert torch.equal(found[name], array), name
    assert re.findall(r"^left  (.*)$", printed, re.M) == [
        "arg:linear1000_weight",
        "arg:linear1000_bias",
    ]
    assert "used  arg:res5b2_branch2a_weight  as b5_2.conv_branch2a.weight" in printed
    assert f"width: {WIDTH:g}): {len(weights)} tensors used, 2 left" in printed


def test_pth_of_the_psa_family(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    held = {f"module.{name}": array.double() for name, array in weights.items()}
    torch.save({**held, "module.fc8.weight": torch.ones(20, 64, 1, 1)}, tmp_path / "in.pth")
    printed = convert("resnet38d", tmp_path / "in.pth", tmp_path / "out.safetensors")
    found = loaded(tmp_path / "out.safetensors")
    for name, array in weights.items():
        assert torch.equal(found[name], array), name
    assert "left  fc8.weight" in printed
    assert "used  b2.conv_branch1.weight\n" in printed


def test_what_is_missing_is_named(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    del weights["b4_3.conv_branch2b1.weight"]
    torch.save(weights, tmp_path / "in.pth")
    printed = convert("resnet38d", tmp_path / "in.pth", tmp_path / "out.safetensors", code=1)
    assert "1 of 191 tensors are missing: b4_3.conv_branch2b1.weight" in " ".join(printed.split())
    assert not (tmp_path / "out.safetensors").exists()


def test_foreign_and_cut_files(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "in.params"
    whole = mxnet_file({mxnet_name(n): array.numpy() for n, array in weights.items()}, marked=True)
    for content in (b"", b"not MXNet's", whole[:20], whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a whole MXNet parameter file"):
            convert_resnet38d(path)
    path.write_bytes(mxnet_file({"arg:other": np.ones(3, np.float32)}, marked=True))
    with pytest.raises(ValueError, match="191 of 191 tensors are missing"):
        convert_resnet38d(path)
    with pytest.raises(ValueError, match="does not exist"):
        convert_resnet38d(tmp_path / "nowhere.params")


def test_a_mxnet_file_is_known_by_its_content(
    weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    arrays = {mxnet_name(name): array.numpy() for name, array in weights.items()}
    (tmp_path / "download").write_bytes(mxnet_file(arrays, marked=False))
    converted = convert_resnet38d(tmp_path / "download")
    assert (converted.width, converted.left) == (WIDTH, ())


def test_arguments(tmp_path: Path) -> None:
    printed = convert("resnet38d", tmp_path / "in.params", tmp_path / "out.pth", code=1)
    assert "OUT is a .safetensors file" in " ".join(printed.split())
    assert "resnet38d" in convert("vgg99", "a", "b.safetensors", code=2)
