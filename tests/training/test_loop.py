"""The loop learns, keeps the best epoch, resumes to the same bytes and stops at NaN."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wsss.config.sections import MachineSettings, OptimizerSettings, TrainSettings
from wsss.seeding import Step
from wsss.tracking import NullTracker
from wsss.training.loop import Fitted, fit, make_fabric


class Batches:
    """Two batches of a linear problem, drawn from the epoch."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[dict[str, Any]]:
        draw = torch.Generator().manual_seed(self.epoch)
        for index in range(2):
            image = torch.randn(8, 3, 2, 2, generator=draw)
            yield {"name": [f"{index}-{one}" for one in range(8)], "image": image}


def loss_fn(model: nn.Module, batch: Mapping[str, Any], step: Step) -> dict[str, Tensor]:
    target = batch["image"].sum(dim=(1, 2, 3)) + 0.1 * step.rng.random()
    noisy = nn.functional.dropout(batch["image"], 0.1)  # draws from the global generator
    return {"loss": (model(noisy).squeeze(1) - target).square().mean()}


def train(
    path: Path, *, epochs: int, stop_after: int | None = None, scores: list[float] | None = None
) -> tuple[nn.Module, Fitted]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    calls = iter(range(1000))

    def score_fn(scored: nn.Module) -> dict[str, float]:
        call = next(calls)
        if call == stop_after:
            raise KeyboardInterrupt
        return {"score": scores[call] if scores else float(call)}

    fitted = fit(
        make_fabric(MachineSettings(accelerator="cpu"), "32-true"),
        model,
        [],
        Batches(),
        loss_fn,
        score_fn,
        metric="score",
        settings=TrainSettings(
            epochs=epochs, channels_last=False, optimizer=OptimizerSettings(lr=0.01)
        ),
        rng_seed=3,
        checkpoint=path,
        tracker=NullTracker(),
    )
    return model, fitted


def test_loss_falls(tmp_path: Path) -> None:
    _, fitted = train(tmp_path / "c.pt", epochs=30)
    losses = [row["train_loss"] for row in fitted.history]
    assert losses[-1] < 0.3 * losses[0]


def test_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, fitted = train(tmp_path / "whole.pt", epochs=5)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut.pt", epochs=5, stop_after=3)
    resumed, refitted = train(tmp_path / "cut.pt", epochs=5, scores=[3.0, 4.0])
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    assert fitted.history == refitted.history


def test_best_epoch_is_kept_and_the_earlier_wins_a_tie(tmp_path: Path) -> None:
    best, fitted = train(tmp_path / "a.pt", epochs=4, scores=[0.1, 0.9, 0.9, 0.2])
    assert (fitted.epoch, fitted.score) == (1, 0.9)
    state = torch.load(tmp_path / "a.pt", weights_only=True)
    assert not torch.equal(state["model"]["1.weight"], best.state_dict()["1.weight"])
    assert torch.equal(state["best"]["1.weight"], best.state_dict()["1.weight"])


def test_nan_stops_with_the_step_and_the_images(tmp_path: Path) -> None:
    class Broken(Batches):
        def __iter__(self) -> Iterator[dict[str, Any]]:
            yield {"name": ["fine"], "image": torch.zeros(1, 3, 2, 2)}
            yield {"name": ["bad image"], "image": torch.full((1, 3, 2, 2), float("nan"))}

    with pytest.raises(ValueError, match=r"nan in epoch 1, step 2.*bad image"):
        fit(
            make_fabric(MachineSettings(accelerator="cpu"), "32-true"),
            nn.Sequential(nn.Flatten(), nn.Linear(12, 1)),
            [],
            Broken(),
            loss_fn,
            lambda _: {"score": 0.0},
            metric="score",
            settings=TrainSettings(epochs=1, channels_last=False),
            rng_seed=0,
            checkpoint=tmp_path / "c.pt",
            tracker=NullTracker(),
        )


def test_every_step_has_a_generator_of_its_own(tmp_path: Path) -> None:
    drawn: list[float] = []

    def drawing(model: nn.Module, batch: Mapping[str, Any], step: Step) -> dict[str, Tensor]:
        drawn.append(step.rng.random())
        return loss_fn(model, batch, step)

    for seed in (0, 0, 1):
        fit(
            make_fabric(MachineSettings(accelerator="cpu"), "32-true"),
            nn.Sequential(nn.Flatten(), nn.Linear(12, 1)),
            [],
            Batches(),
            drawing,
            lambda _: {"score": 0.0},
            metric="score",
            settings=TrainSettings(epochs=2, channels_last=False),
            rng_seed=seed,
            checkpoint=tmp_path / f"{len(drawn)}.pt",
            tracker=NullTracker(),
        )
    first, again, other = drawn[:4], drawn[4:8], drawn[8:]
    assert first == again
    assert len({*first, *other}) == 8
