"""What every training method promises, checked on each name the registry finds."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wsss.config.params import MachineSettings, OptimizerSettings, TrainSettings
from wsss.config.settings import Settings
from wsss.methods._base import Method
from wsss.methods._objective import Objective
from wsss.models.classifier import Classifier
from wsss.registry import METHODS
from wsss.tracking import NullTracker
from wsss.training.loop import fit, make_fabric

MakeModel = Callable[[], Classifier]


def settings(name: str, entropy: float = 0, concentration: float = 0) -> Settings:
    values = {"entropy_weight": entropy, "concentration_weight": concentration}
    return METHODS.settings(name).model_validate(values)


@pytest.fixture(params=METHODS.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def method(name: str) -> Method:
    built: Method = METHODS.build(settings(name, 0.02, 2e-4))
    return built


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("kind", ["multi_label", "single_label"])
def test_losses_are_finite_scalars_and_teach_every_parameter(
    method: Method, make_model: MakeModel, images: Tensor, labels: Tensor, kind: Any
) -> None:
    model = make_model().train()
    losses = method(model, images, labels, Objective(kind), rng())
    assert {"loss", "classification", "entropy", "concentration"} <= set(losses)
    assert all(value.shape == () and torch.isfinite(value) for value in losses.values())
    losses["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_inputs_stay_as_they_are(
    method: Method, make_model: MakeModel, images: Tensor, labels: Tensor
) -> None:
    before = images.clone(), labels.clone()
    method(make_model(), images, labels, Objective("multi_label"), rng())
    assert torch.equal(images, before[0])
    assert torch.equal(labels, before[1])


def test_the_model_is_left_without_hooks(
    method: Method, make_model: MakeModel, images: Tensor, labels: Tensor
) -> None:
    model = make_model().eval()
    before = model(images).logits
    for seed in range(6):
        method(model, images, labels, Objective("multi_label"), rng(seed))
    assert torch.equal(model(images).logits, before)


def test_all_that_is_drawn_comes_from_the_generator(
    method: Method, make_model: MakeModel, images: Tensor, labels: Tensor
) -> None:
    results = []
    for seed in range(2):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        model = make_model().eval()
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        results.append(method(model, images, labels, Objective("multi_label"), rng(5)))
        assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(results[0][key], results[1][key]) for key in results[0])


def test_the_order_of_a_batch_does_not_matter(
    method: Method, make_model: MakeModel, images: Tensor, labels: Tensor
) -> None:
    """Of two images, whose permutations commute: partners stay partners."""
    model = make_model().eval()
    for seed in range(4):
        one = method(model, images[:2], labels[:2], Objective("multi_label"), rng(seed))
        other = method(
            model, images[:2].flip(0), labels[:2].flip(0), Objective("multi_label"), rng(seed)
        )
        torch.testing.assert_close(one, other)


def test_the_loss_is_the_sum_of_its_parts(
    name: str, make_model: MakeModel, images: Tensor, labels: Tensor
) -> None:
    model, objective = make_model().eval(), Objective("multi_label")
    plain = METHODS.build(settings(name))(model, images, labels, objective, rng(3))
    full = METHODS.build(settings(name, 0.5, 0.25))(model, images, labels, objective, rng(3))
    torch.testing.assert_close(full["classification"], plain["loss"])
    torch.testing.assert_close(
        full["loss"], plain["loss"] + 0.5 * full["entropy"] + 0.25 * full["concentration"]
    )


class Batches:
    """One batch, the same in every epoch, so that only what a method draws differs."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.batch = {"name": list("abcd"), "image": images, "labels": labels}

    def set_epoch(self, epoch: int) -> None:
        pass

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[dict[str, Any]]:
        yield self.batch


def test_a_resumed_run_equals_an_uninterrupted_one(
    method: Method, make_model: MakeModel, images: Tensor, labels: Tensor, tmp_path: Path
) -> None:
    def train(path: Path, stop_after: int | None = None) -> Classifier:
        model, calls = make_model(), iter(range(9))

        def loss_fn(
            model: nn.Module, batch: Mapping[str, Any], rng: np.random.Generator
        ) -> dict[str, Tensor]:
            return method(model, batch["image"], batch["labels"], Objective("multi_label"), rng)

        def score_fn(_: nn.Module) -> dict[str, float]:
            if next(calls) == stop_after:
                raise KeyboardInterrupt
            epoch = len(torch.load(path, weights_only=True)["history"]) if path.exists() else 0
            return {"score": float(epoch)}

        fit(
            make_fabric(MachineSettings(accelerator="cpu"), "32-true"),
            model,
            [],
            Batches(images, labels),
            loss_fn,
            score_fn,
            metric="score",
            settings=TrainSettings(epochs=3, optimizer=OptimizerSettings(lr=0.01)),
            rng_seed=3,
            checkpoint=path,
            tracker=NullTracker(),
        )
        return model

    whole = train(tmp_path / "whole.pt")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut.pt", stop_after=1)
    resumed = train(tmp_path / "cut.pt")
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_reading_settings_imports_no_torch() -> None:
    code = (
        "import sys, wsss.config.params; print([m for m in ('torch', 'timm') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
