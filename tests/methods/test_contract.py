"""What every training method promises, checked on each name the registry finds."""

import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from wsss.artifacts import Manifest
from wsss.config.sections import MachineSettings, OptimizerSettings, TrainSettings
from wsss.loading.devices import make_fabric
from wsss.methods.base import Method, Start
from wsss.methods.losses import Losses
from wsss.methods.objective import Objective
from wsss.models.classifier import Classifier
from wsss.registry import METHODS
from wsss.seeding import Step
from wsss.tracking import NullTracker
from wsss.training.loop import fit
from wsss.training.task import Task

Begin = Callable[..., tuple[Method, Classifier]]
MULTI = Objective("multi_label")
NOT_TRAINED: dict[str, tuple[str, ...]] = {"pretrained": ("backbone", "parts")}
"""Beginnings of parameters that a method leaves as they are."""


def make_step(seed: int = 0) -> Step:
    return Step(np.random.default_rng(seed), 0.5, list("abcd"))


@pytest.fixture(params=METHODS.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def begin(
    name: str, make_model: Callable[..., Classifier], make_start: Callable[..., Start]
) -> Begin:
    """Makes the method with these weights of the regularisers, and a classifier with its parts.

    `start` is for `make_start`.
    """

    def make(
        entropy: float = 0.02, concentration: float = 2e-4, **start: Any
    ) -> tuple[Method, Classifier]:
        values = {"entropy_weight": entropy, "concentration_weight": concentration}
        method: Method = METHODS.build(METHODS.settings(name).model_validate(values))
        return method, make_model(method.begin(make_start(**start)))

    return make


@pytest.mark.parametrize("kind", ["multi_label", "single_label"])
def test_losses_are_finite_scalars_and_teach_every_parameter(
    name: str, begin: Begin, images: Tensor, labels: Tensor, kind: Any
) -> None:
    method, model = begin()
    losses = method(model.train(), images, labels, Objective(kind), make_step())
    assert {"loss", "classification", "entropy", "concentration"} <= set(losses)
    assert all(value.shape == () and torch.isfinite(value) for value in losses.values())
    losses["loss"].backward()
    for key, parameter in model.named_parameters():
        if not key.startswith(NOT_TRAINED.get(name, ("-",))):
            assert parameter.grad is not None and parameter.grad.isfinite().all(), key
            assert parameter.grad.abs().max() > 0, key


def test_reduced_precision_has_nearly_the_same_losses(
    begin: Begin, images: Tensor, labels: Tensor
) -> None:
    """As of a trainer in bf16-mixed, which hands over tags in it, too."""
    method, model = begin()
    model.train()
    exact = method(model, images, labels, MULTI, make_step())
    method, model = begin()
    model.train()
    with torch.autocast("cpu", torch.bfloat16):
        coarse = method(model, images.bfloat16(), labels.bfloat16(), MULTI, make_step())
    coarse["loss"].backward()
    for key, value in coarse.items():
        assert torch.isfinite(value), key
        torch.testing.assert_close(value.float(), exact[key].float(), rtol=0.1, atol=0.05)
    assert all(
        weights.grad is None or weights.grad.isfinite().all() for weights in model.parameters()
    )


def test_inputs_stay_as_they_are(begin: Begin, images: Tensor, labels: Tensor) -> None:
    before = images.clone(), labels.clone()
    method, model = begin()
    method(model, images, labels, MULTI, make_step())
    assert torch.equal(images, before[0])
    assert torch.equal(labels, before[1])


def test_the_model_is_left_without_hooks(begin: Begin, images: Tensor, labels: Tensor) -> None:
    method, model = begin()
    before = model.eval()(images).logits
    for seed in range(6):
        method(model, images, labels, MULTI, make_step(seed))
    assert torch.equal(model(images).logits, before)


def test_all_that_is_drawn_comes_from_the_generator(
    begin: Begin, images: Tensor, labels: Tensor
) -> None:
    results = []
    for seed in range(2):
        method, model = begin()
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        state = torch.get_rng_state()
        results.append(method(model.eval(), images, labels, MULTI, make_step(5)))
        assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(results[0][key], results[1][key]) for key in results[0])


def test_the_order_of_a_batch_does_not_matter(begin: Begin, images: Tensor, labels: Tensor) -> None:
    """Of two images, whose permutations commute: partners stay partners."""
    method, model = begin()
    for seed in range(4):
        step = make_step(seed)._replace(names=["a", "b"])
        first = method(model.eval(), images[:2], labels[:2], MULTI, step)
        step = make_step(seed)._replace(names=["b", "a"])
        other = method(model, images[:2].flip(0), labels[:2].flip(0), MULTI, step)
        torch.testing.assert_close(first, other)


def test_the_regularisers_add_to_the_loss(begin: Begin, images: Tensor, labels: Tensor) -> None:
    method, model = begin(0, 0)
    plain = method(model.eval(), images, labels, MULTI, make_step(3))
    method, model = begin(0.5, 0.25)
    full = method(model.eval(), images, labels, MULTI, make_step(3))
    torch.testing.assert_close(full["classification"], plain.get("classification", plain["loss"]))
    torch.testing.assert_close(
        full["loss"], plain["loss"] + 0.5 * full["entropy"] + 0.25 * full["concentration"]
    )


@dataclass(frozen=True)
class Asking(Objective):
    """Remembers all logits that tags are compared with, and the tags."""

    asked: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def classification(
        self, logits: Tensor, labels: Tensor, class_weights: Sequence[float] | None = None
    ) -> Tensor:
        logits.retain_grad()
        self.asked.append((logits, labels))
        return super().classification(logits, labels, class_weights)


@pytest.mark.parametrize("unknown", ["some", "image", "batch"])
def test_unknown_tags_teach_nothing(
    begin: Begin, images: Tensor, labels: Tensor, unknown: str
) -> None:
    tags = labels.clone()
    if unknown == "some":
        tags[0, 0] = tags[1, 1] = tags[2, 1] = math.nan  # there, not there, and there
    else:
        tags[: 1 if unknown == "image" else 3] = math.nan
    method, model = begin(tags=tags)
    objective, step = Asking("multi_label"), make_step()
    if unknown == "batch":
        images, tags, step = images[:3], tags[:3], step._replace(names=step.names[:3])
    losses = method(model.train(), images, tags, objective, step)
    assert all(value.isfinite() for value in losses.values())
    losses["loss"].backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)
    assert objective.asked
    for logits, given in objective.asked:
        assert given.isnan().any()
        if given.shape == tags.shape:
            assert given[tags.isnan()].isnan().all()
        if logits.grad is not None:  # of a loss without a weight
            assert (logits.grad[given.isnan()] == 0).all()
            assert given.isnan().all() or (logits.grad[~given.isnan()] != 0).all()


def test_a_doubtful_tag_teaches_a_doubtful_probability(
    begin: Begin, images: Tensor, labels: Tensor
) -> None:
    found = []
    for share in (1, 0.75, 0.25, 0):
        tags = torch.where(labels == 1, share, 0).float()
        tags[1:] = labels[1:]
        method, model = begin(tags=tags)
        losses = method(model.eval(), images, tags, MULTI, make_step())
        assert losses["loss"].isfinite()
        found.append(float(losses["classification"].detach()))
    there, likely, unlikely, absent = found
    assert likely == pytest.approx(0.75 * there + 0.25 * absent, abs=1e-6)
    assert unlikely == pytest.approx(0.25 * there + 0.75 * absent, abs=1e-6)
    assert abs(there - absent) > 1e-4


class Batches:
    """One batch, the same in every epoch, so that only what a method draws differs."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.batch = {"name": list("abcd"), "image": images, "labels": labels}
        self.images_per_step = 4

    def set_epoch(self, epoch: int, first_step: int = 0) -> None:
        pass

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[dict[str, Any]]:
        yield self.batch


def test_a_resumed_run_equals_an_uninterrupted_one(
    begin: Begin, images: Tensor, labels: Tensor, tmp_path: Path
) -> None:
    machine = MachineSettings(accelerator="cpu", num_workers=0)
    fabric = make_fabric(machine, "32-true")
    manifest = Manifest(("x",), {"train": (), "selection": (), "val": ()})

    def train(folder: Path, stop_after: int | None = None) -> Classifier:
        path, calls = folder / ".work.last.pt", iter(range(9))
        method, model = begin()

        def loss_fn(model: Any, batch: Mapping[str, Any], step: Step) -> Losses:
            return method(model, batch["image"], batch["labels"], MULTI, step)

        def score_fn(_: Any) -> dict[str, float]:
            if next(calls) == stop_after:
                raise KeyboardInterrupt
            epoch = len(torch.load(path, weights_only=True)["history"]) if path.exists() else 0
            return {"score": float(epoch)}

        fit(
            Task(manifest, folder, machine, 3, fabric, folder, NullTracker()),
            model,
            [],
            Batches(images, labels),
            loss_fn,
            score_fn,
            metric="score",
            settings=TrainSettings(epochs=3, optimizer=OptimizerSettings(lr=0.01)),
            checkpoint="last",
        )
        return model

    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", stop_after=1)
    resumed = train(tmp_path / "cut")
    for key, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key


def test_reading_settings_imports_no_torch() -> None:
    code = (
        "import sys, wsss.config.params; print([m for m in ('torch', 'timm') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
