"""The stage: what it keeps and what it trains again, and what params.yaml may say of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from wsss.artifacts import (
    Manifest,
    Paths,
    Sample,
    ScoreMap,
    read_json,
    read_score_map,
    write_score_map,
)
from wsss.config.params import Params, parse_params
from wsss.models.affinity_net import load_affinity_net
from wsss.models.irn import load_irn
from wsss.settings import ConfigError
from wsss.stages import run_stage
from wsss.training import affinity

PATCHES = {
    "model_name": "vit_tiny_patch16_224",
    "output_stride": 4,
    "timm_kwargs": {"patch_size": 4, "img_size": 32, "embed_dim": 8, "depth": 4, "num_heads": 2},
}
SHARED: dict[str, Any] = {
    "backbone": PATCHES,
    "augment": {"crop_size": 24, "long_side": [24, 32]},
    "batch_size": 2,
    "epochs": 1,
}
NETWORKS: dict[str, Any] = {
    "first": {"method": {"name": "psa", "widths": [4, 4, 4]}},
    "second": {"method": {"name": "irn", "radius": 3}},
}
CHAIN = {
    "walk": [{"name": "affinity_net", "network": "first"}, {"name": "irn", "network": "second"}]
}


def params_of(networks: dict[str, Any], **sections: Any) -> Params:
    values = {
        "machine": {"accelerator": "cpu", "num_workers": 0},
        "train_classifier": SHARED | {"eval_long_side": 32},
        "train_affinities": networks,
        "make_pseudo_masks": {"chain": "walk"},
        "refine": {"chains": CHAIN if networks else {"walk": []}},
    }
    return parse_params(values | sections)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """Three images, their tags and CAMs. There are no masks to look at."""
    paths = Paths(tmp_path)
    paths.images.mkdir(parents=True)
    rng = np.random.default_rng(0)
    samples = []
    for name, ids in (("a", (1,)), ("b", (1, 2)), ("c", ())):
        Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).save(
            paths.images / f"{name}.png"
        )
        samples.append(Sample(name, f"{name}.png", (24, 32), ids))
        scores = rng.random((len(ids), 6, 8)).astype(np.float32)
        probs = np.ones(len(ids), np.float32)
        score_map = ScoreMap(np.array(ids, np.uint8), scores, (24, 32), probs)
        write_score_map(paths.cams / f"{name}.npz", score_map)
    splits = {"train": tuple(samples), "selection": (), "val": ()}
    Manifest(("x", "y"), splits).write(paths.splits)
    return paths


def trained(paths: Paths, params: Params, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run the stage; the names of those that it trained."""
    names: list[str] = []
    fit = affinity.fit_affinity

    def counted(settings: Any, task: Any, cams: Path) -> Any:
        names.append(task.prefix.removesuffix("_"))
        return fit(settings, task, cams)

    with monkeypatch.context() as patch:
        patch.setattr(affinity, "fit_affinity", counted)
        run_stage("train_affinities", params, paths)
    return names


def test_without_a_network_there_is_an_empty_folder(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trained(paths, params_of({}), monkeypatch) == []
    assert [path.name for path in paths.affinities.iterdir()] == [".empty"]
    assert read_json(paths.report("train_affinities")) == {}


def test_networks_are_trained_again_only_for_a_reason(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = params_of(NETWORKS)
    assert trained(paths, params, monkeypatch) == ["first", "second"]
    assert sorted(path.name for path in paths.affinities.iterdir()) == ["first", "second"]
    for name in NETWORKS:
        files = sorted(path.name for path in (paths.affinities / name).iterdir())
        wanted = [".fingerprint.json", "model.json", "report.json", "weights.safetensors"]
        assert files == wanted
    weights = (paths.affinities / "first/weights.safetensors").read_bytes()
    report = read_json(paths.report("train_affinities"))
    assert report.keys() == NETWORKS.keys()
    assert report["first"].keys() == {"lr", "train_loss"}
    assert np.isfinite(report["second"]["train_displacement"])

    assert trained(paths, params, monkeypatch) == []
    assert read_json(paths.report("train_affinities")) == report

    longer = NETWORKS | {"second": NETWORKS["second"] | {"epochs": 2}}
    assert trained(paths, params_of(longer), monkeypatch) == ["second"]
    assert (paths.affinities / "first/weights.safetensors").read_bytes() == weights

    cam = read_score_map(paths.cams / "a.npz")
    flipped = ScoreMap(cam.class_ids, cam.scores[:, ::-1], cam.size, cam.class_probs)
    write_score_map(paths.cams / "a.npz", flipped)
    assert trained(paths, params_of(longer), monkeypatch) == ["first", "second"]

    params = params_of({"first": longer["first"]}, refine={"chains": {"walk": []}})
    assert trained(paths, params, monkeypatch) == []
    assert [path.name for path in paths.affinities.iterdir()] == ["first"]


def test_the_same_bytes_again(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = []
    for _ in range(2):
        torch.manual_seed(len(weights))  # what others drew does not matter
        assert trained(paths, params_of(NETWORKS), monkeypatch) == [*NETWORKS]
        files = sorted(paths.affinities.rglob("*.safetensors"))
        weights.append([path.read_bytes() for path in files])
        for path in paths.affinities.iterdir():
            (path / ".fingerprint.json").unlink()
    assert weights[0] == weights[1]


def test_refiners_walk_with_them(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    params = params_of(NETWORKS)
    with pytest.raises(ValueError, match=r"first holds no trained network.*train_affinities"):
        run_stage("refine_cams@walk", params, paths)
    trained(paths, params, monkeypatch)
    assert load_affinity_net(paths.affinities / "first").reduce[0].out_channels == 4
    assert not load_irn(paths.affinities / "second").training
    run_stage("refine_cams@walk", params, paths)
    refined = read_score_map(paths.refined("walk") / "b.npz")
    assert refined.scores.shape == (2, 6, 8) and refined.scores.max() > 0.99
    assert read_score_map(paths.refined("walk") / "c.npz").scores.shape[0] == 0


def test_what_a_network_does_not_name_is_as_in_train_classifier() -> None:
    found = params_of(NETWORKS).train_affinities
    assert found["first"].backbone.model_name == PATCHES["model_name"]
    assert (found["second"].epochs, found["second"].augment.crop_size) == (1, 24)
    own = params_of({"first": NETWORKS["first"] | {"epochs": 7}}, refine={"chains": {"walk": []}})
    assert own.train_affinities["first"].epochs == 7
    assert own.train_affinities["first"].method.radius == 5  # type: ignore[attr-defined]
    assert found["second"].method.kind == "irn"  # type: ignore[attr-defined]


def chains(**refiner: Any) -> dict[str, Any]:
    return {"chains": {"walk": [refiner]}}


@pytest.mark.parametrize(
    ("networks", "refiner", "message"),
    [
        (NETWORKS, {"name": "irn", "network": "secnd"}, "'secnd', which train_affinities does not"),
        (NETWORKS, {"name": "irn", "network": "secnd"}, "did you mean 'second'?"),
        (NETWORKS, {"name": "irn"}, "refine.chains.walk.0.network names 'irn', which"),
        ({}, {"name": "affinity_net"}, "train_affinities does not have; add it there"),
        (
            NETWORKS,
            {"name": "irn", "network": "first"},
            "names 'first', whose method is psa; name one whose method is irn",
        ),
        ({"a b": {}}, {"name": "dense_crf"}, "network 'a b' names a folder"),
        ({"a": {"method": {"name": "pas"}}}, {"name": "dense_crf"}, "did you mean 'psa'?"),
        (
            {"a": {"method": {"name": "irn", "widths": [1, 1, 1]}}},
            {"name": "dense_crf"},
            "train_affinities.a.method has no key 'widths'",
        ),
    ],
)
def test_a_mistake_is_named(networks: Any, refiner: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        params_of(networks, refine=chains(**refiner))
    assert message in str(caught.value)
