"""Weights files: what is read, what fits, and what an error names."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from torch import nn

from wsss.config.sections import BackboneSettings
from wsss.models.timm_backbone import TimmBackbone
from wsss.models.weights import load_matching, read_weights, with_positions_for

VIT = {"embed_dim": 16, "depth": 1, "num_heads": 2}


def vit(img_size: int, **more: object) -> nn.Module:
    torch.manual_seed(img_size)
    name = str(more.pop("name", "vit_tiny_patch16_224"))
    return timm.create_model(name, img_size=img_size, **VIT, **more)


class TestRead:
    @pytest.mark.parametrize("wrap", [None, "state_dict", "model"])
    def test_wrapped_and_of_several_devices(self, wrap: str | None, tmp_path: Path) -> None:
        weights = {"module.a": torch.ones(2), "module.b.weight": torch.zeros(1, 3)}
        torch.save({wrap: weights, "epoch": 3} if wrap else weights, tmp_path / "w.pth")
        found = read_weights(tmp_path / "w.pth")
        assert set(found) == {"a", "b.weight"}
        assert torch.equal(found["a"], torch.ones(2))

    @pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
    def test_cut_files(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / name
        weights = {"a": torch.ones(50)}
        if path.suffix == ".pth":
            torch.save(weights, path)
        else:
            save_file(weights, path)
        whole = path.read_bytes()
        for length in (0, 5, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:length])
            with pytest.raises(ValueError, match=rf"weights file .*{name}"):
                read_weights(path)

    def test_what_is_no_state_dict(self, tmp_path: Path) -> None:
        torch.save({"a": 1}, tmp_path / "w.pth")
        with pytest.raises(ValueError, match="holds no state dict"):
            read_weights(tmp_path / "w.pth")

    def test_a_whole_pickled_network_is_refused(self, tmp_path: Path) -> None:
        torch.save(nn.Linear(1, 1), tmp_path / "w.pth")
        with pytest.raises(ValueError, match="cannot be read as plain tensors"):
            read_weights(tmp_path / "w.pth")

    def test_mxnet_files_are_sent_to_the_converter(self, tmp_path: Path) -> None:
        (tmp_path / "w.params").write_bytes(b"")
        with pytest.raises(ValueError, match=r"wsss convert-weights resnet38d .*w\.safetensors"):
            read_weights(tmp_path / "w.params")


class TestMatching:
    def test_missing_tensors_are_counted_and_named(self) -> None:
        with pytest.raises(ValueError, match=r"1 of 2 tensors are missing: bias\. Check"):
            load_matching(nn.Linear(2, 3), {"weight": torch.zeros(3, 2)}, "x")

    def test_shapes_are_told(self) -> None:
        weights = {"weight": torch.zeros(3, 5), "bias": torch.zeros(3)}
        with pytest.raises(ValueError, match=r"weight: \(3, 5\) in the file, \(3, 2\) in the netw"):
            load_matching(nn.Linear(2, 3), weights, "x")

    def test_nothing_is_loaded_if_something_does_not_fit(self) -> None:
        layer = nn.Linear(2, 3)
        before = layer.bias.clone()
        with pytest.raises(ValueError, match="x does not fit Linear"):
            load_matching(layer, {"weight": torch.zeros(1), "bias": torch.ones(3)}, "x")
        assert torch.equal(layer.bias, before)


class TestPositions:
    def test_of_another_grid_are_resized_as_timm_does(self, tmp_path: Path) -> None:
        large = vit(96).state_dict()
        large["norm.weight"] += torch.rand(16)
        save_file(large, tmp_path / "w.safetensors")
        backbone = TimmBackbone(
            BackboneSettings(
                model_name="vit_tiny_patch16_224",
                weights=str(tmp_path / "w.safetensors"),
                timm_kwargs={**VIT, "img_size": 64},
            )
        )
        found = backbone.net.pos_embed
        expected = resample_abs_pos_embed(large["pos_embed"], [4, 4], num_prefix_tokens=1)
        assert torch.equal(found, expected)
        assert torch.equal(found[:, 0], large["pos_embed"][:, 0])  # the class token's
        assert torch.equal(backbone.net.norm.weight, large["norm.weight"])

    def test_of_the_same_grid_stay(self) -> None:
        weights = vit(64).state_dict()
        assert with_positions_for(vit(64), weights)["pos_embed"] is weights["pos_embed"]

    def test_two_prefix_tokens_stay(self) -> None:
        name = "deit_tiny_distilled_patch16_224"
        weights = vit(96, name=name).state_dict()
        found = with_positions_for(vit(64, name=name), weights)["pos_embed"]
        assert found.shape == (1, 2 + 16, 16)
        assert torch.equal(found[:, :2], weights["pos_embed"][:, :2])

    def test_a_constant_stays_constant_without_prefix(self) -> None:
        name = "vit_small_patch14_reg4_dinov2"
        net = vit(56, name=name)
        weights = {"pos_embed": torch.full((1, 81, 16), 0.25)}
        found = with_positions_for(net, weights)["pos_embed"]
        torch.testing.assert_close(found, torch.full((1, 16, 16), 0.25))

    @pytest.mark.parametrize("shape", [(1, 38, 16), (1, 37, 8), (37, 16), (1, 1, 16)])
    def test_what_is_no_square_grid_is_refused(self, shape: tuple[int, ...]) -> None:
        net = vit(64)
        weights = {**net.state_dict(), "pos_embed": torch.zeros(shape)}
        with pytest.raises(ValueError, match=r"pos_embed: \(.*in the file, \(1, 17, 16\)"):
            load_matching(net, with_positions_for(net, weights), "x")

    def test_a_patch_of_another_size_is_refused(self) -> None:
        net = vit(64)
        weights = vit(64, name="vit_tiny_patch16_224", patch_size=8).state_dict()
        with pytest.raises(ValueError, match=r"patch_embed\.proj\.weight: \(16, 3, 8, 8\)"):
            load_matching(net, with_positions_for(net, weights), "x")

    def test_networks_without_them_are_left_alone(self) -> None:
        weights = {"pos_embed": torch.zeros(1, 4, 4)}
        assert with_positions_for(nn.Linear(1, 1), weights) == weights
