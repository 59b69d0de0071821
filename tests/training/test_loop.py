"""The loop learns, keeps the best epoch, resumes to the same bytes and stops at NaN."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.accelerators import CPUAccelerator
from lightning_fabric.plugins import MixedPrecision
from lightning_fabric.strategies import SingleDeviceStrategy
from torch import Tensor, nn

from wsss.config.sections import MachineSettings, OptimizerSettings, TrainSettings
from wsss.loading.devices import make_fabric
from wsss.seeding import Step
from wsss.training.loop import Fitted, fit
from wsss.training.schedules import make_optimizer
from wsss.training.task import Task


class Batches:
    """Two batches of a linear problem, drawn from the epoch."""

    epoch = first_step = 0
    images_per_step = 8

    def set_epoch(self, epoch: int, first_step: int = 0) -> None:
        self.epoch, self.first_step = epoch, first_step

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[dict[str, Any]]:
        draw = torch.Generator().manual_seed(self.epoch)
        for index in range(2):
            image = torch.randn(8, 3, 2, 2, generator=draw)
            if index < self.first_step:
                continue
            yield {"name": [f"{index}-{item}" for item in range(8)], "image": image}


def loss_fn(model: nn.Module, batch: Mapping[str, Any], step: Step) -> dict[str, Tensor]:
    target = batch["image"].sum(dim=(1, 2, 3)) + 0.1 * step.rng.random()
    noisy = nn.functional.dropout(batch["image"], 0.1)  # draws from the global generator
    return {"loss": (model(noisy).squeeze(1) - target).square().mean()}


def train(
    task: Task,
    *,
    epochs: int,
    stop_after: int | None = None,
    scores: list[float] | None = None,
    losses: list[float] | None = None,
) -> tuple[nn.Module, Fitted]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    calls = iter(range(1000))

    def score_fn(scored: nn.Module) -> dict[str, float]:
        call = next(calls)
        if call == stop_after:
            raise KeyboardInterrupt
        loss = {"selection_loss": losses[call]} if losses else {}
        return {"score": scores[call] if scores else float(call), **loss}

    fitted = fit(
        task,
        model,
        [],
        Batches(),
        loss_fn,
        score_fn,
        metric="score",
        settings=TrainSettings(
            epochs=epochs, channels_last=False, optimizer=OptimizerSettings(lr=0.01)
        ),
        checkpoint="last",
    )
    return model, fitted


def test_loss_falls(make_task: Callable[..., Task]) -> None:
    _, fitted = train(make_task("c"), epochs=30)
    losses = [row["train_loss"] for row in fitted.history]
    assert losses[-1] < 0.3 * losses[0]


def test_resumed_run_equals_an_uninterrupted_one(make_task: Callable[..., Task]) -> None:
    whole, fitted = train(make_task("whole"), epochs=5)
    with pytest.raises(KeyboardInterrupt):
        train(make_task("cut"), epochs=5, stop_after=3)
    resumed, refitted = train(make_task("cut"), epochs=5, scores=[3.0, 4.0])
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    assert fitted.history == refitted.history


def test_best_epoch_is_kept_and_the_earlier_wins_a_tie(make_task: Callable[..., Task]) -> None:
    task = make_task()
    best, fitted = train(task, epochs=4, scores=[0.1, 0.9, 0.9, 0.2])
    assert (fitted.epoch, fitted.score) == (1, 0.9)
    state = torch.load(task.work / ".work.last.pt", weights_only=True)
    assert not torch.equal(state["model"]["1.weight"], best.state_dict()["1.weight"])
    assert torch.equal(state["best"]["1.weight"], best.state_dict()["1.weight"])


def test_of_equal_scores_the_lowest_loss_wins(make_task: Callable[..., Task]) -> None:
    """Ten images are told apart after one epoch, and every epoch after it scores 1."""
    scores, losses = [1.0, 1.0, 0.9, 1.0, 1.0], [0.5, 0.2, 0.01, 0.1, 0.1]
    _, fitted = train(make_task("whole"), epochs=5, scores=scores, losses=losses)
    assert (fitted.epoch, fitted.score) == (3, 1.0)
    with pytest.raises(KeyboardInterrupt):
        train(make_task("cut"), epochs=5, scores=scores, losses=losses, stop_after=2)
    _, refitted = train(make_task("cut"), epochs=5, scores=scores[2:], losses=losses[2:])
    assert (refitted.epoch, refitted.score) == (3, 1.0)


def half_precision(growth_interval: int) -> Fabric:
    """On the CPU; losses are scaled, by twice as much after every so many steps."""
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=growth_interval)
    fabric = Fabric(accelerator="cpu", plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    fabric.launch()
    return fabric


def test_a_resumed_run_scales_losses_as_an_uninterrupted_one(
    make_task: Callable[..., Task],
) -> None:
    """Three epochs of two steps: the scale is doubled after steps 3 and 6."""

    def scale_of(task: Task) -> float:
        precision: Any = task.fabric.strategy.precision
        return float(precision.scaler.get_scale())

    whole = replace(make_task("whole"), fabric=half_precision(3))
    train(whole, epochs=3)
    assert scale_of(whole) == 32
    cut = replace(make_task("cut"), fabric=half_precision(3))
    with pytest.raises(KeyboardInterrupt):
        train(cut, epochs=3, stop_after=2)
    resumed = replace(cut, fabric=half_precision(3))
    train(resumed, epochs=3, scores=[2.0])
    assert scale_of(resumed) == 32


@pytest.mark.filterwarnings("ignore:for .* meta parameter")
@pytest.mark.parametrize("algorithm", ["sgd", "adamw"])
def test_all_that_a_resumed_run_loads_lies_where_its_network_does(
    make_task: Callable[..., Task], monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    """A device without memory stands for a GPU; it is left before the first step."""
    settings = TrainSettings.model_validate(
        {"epochs": 2, "channels_last": False, "optimizer": {"algorithm": algorithm}}
    )
    made: list[torch.optim.Optimizer] = []

    class Anything(CPUAccelerator):
        def setup_device(self, device: torch.device) -> None:
            pass

    class Left(Exception):
        pass

    class Leaving(Batches):
        def set_epoch(self, epoch: int, first_step: int = 0) -> None:
            raise Left

    def noted(*given: Any) -> torch.optim.Optimizer:
        made.append(make_optimizer(*given))
        return made[-1]

    def stop(_: nn.Module) -> dict[str, float]:
        raise KeyboardInterrupt

    def go_on(task: Task, batches: Batches) -> None:
        model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
        fit(
            *(task, model, [], batches, loss_fn, stop),
            metric=None,
            settings=settings,
            checkpoint="last",
        )

    task = make_task()
    with pytest.raises(KeyboardInterrupt):
        go_on(task, Batches())
    monkeypatch.setattr("wsss.training.loop.make_optimizer", noted)
    monkeypatch.setattr(
        "lightning_fabric.fabric._has_meta_device_parameters_or_buffers", lambda _: False
    )
    elsewhere = Fabric(strategy=SingleDeviceStrategy(torch.device("meta"), Anything()))
    with pytest.raises(Left):
        go_on(replace(task, fabric=elsewhere), Leaving())
    held = {
        (name, value.device.type)
        for of_parameter in made[0].state.values()
        for name, value in of_parameter.items()
        if name != "step"  # which stays on the CPU on any device
    }
    assert held and {device for _, device in held} == {"meta"}


def test_a_resumed_run_goes_on_on_a_gpu(make_task: Callable[..., Task], cuda: torch.device) -> None:
    def on_gpu(folder: str) -> Task:
        machine = MachineSettings(accelerator="cuda", num_workers=0)
        return replace(make_task(folder), machine=machine, fabric=make_fabric(machine, "32-true"))

    whole, fitted = train(on_gpu("whole"), epochs=5)
    with pytest.raises(KeyboardInterrupt):
        train(on_gpu("cut"), epochs=5, stop_after=3)
    resumed, refitted = train(on_gpu("cut"), epochs=5, scores=[3.0, 4.0])
    for name, value in whole.state_dict().items():
        assert value.device.type == cuda.type
        torch.testing.assert_close(resumed.state_dict()[name], value)
    assert len(refitted.history) == len(fitted.history)


@pytest.mark.parametrize(("batch_size", "way_out"), [(1, "set batch"), (4, "add some, or set")])
def test_a_batch_that_leaves_batch_norm_one_value_is_named(
    make_task: Callable[..., Task], batch_size: int, way_out: str
) -> None:
    """In any network; also where a larger batch is asked for than there are images."""
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3), nn.Flatten())
    with pytest.raises(ValueError, match=f"a batch of 1 leaves batch norm.*{way_out}.* 2 or more"):
        fit(
            *(make_task(), model, [], Spoilt(1, -1), loss_fn, lambda _: {}),
            metric=None,
            settings=TrainSettings(epochs=1, channels_last=False, batch_size=batch_size),
            checkpoint="last",
        )


class Spoilt(Batches):
    """Batches of which one step is not finite."""

    images_per_step = 1

    def __init__(self, steps: int, wrong: int) -> None:
        self.steps, self.wrong = steps, wrong

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for step in range(self.steps):
            value = float("nan") if step == self.wrong else 0.0
            yield {"name": [f"image {step}"], "image": torch.full((1, 3, 2, 2), value)}


@pytest.mark.parametrize(("steps", "wrong"), [(2, 1), (120, 0), (120, 63), (101, 100)])
def test_a_loss_that_is_not_finite_stops_at_the_first_step_and_keeps_nothing(
    make_task: Callable[..., Task], steps: int, wrong: int
) -> None:
    task = make_task()
    scored: list[int] = []
    with pytest.raises(ValueError, match=rf"nan in epoch 1, step {wrong + 1};.*: image {wrong}$"):
        fit(
            task,
            nn.Sequential(nn.Flatten(), nn.Linear(12, 1)),
            [],
            Spoilt(steps, wrong),
            loss_fn,
            lambda _: {"score": float(len(scored))},
            metric="score",
            settings=TrainSettings(epochs=1, channels_last=False),
            checkpoint="last",
        )
    assert list(task.work.iterdir()) == []


def test_losses_are_looked_at_now_and_then_and_not_in_every_step(
    make_task: Callable[..., Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To look at one is to wait for the device."""
    looked: list[Any] = []
    plain = Tensor.tolist
    monkeypatch.setattr(Tensor, "tolist", lambda self: looked.append(1) or plain(self))
    for name in ("item", "__bool__"):
        function = getattr(Tensor, name)
        monkeypatch.setattr(Tensor, name, lambda self, f=function: looked.append(1) or f(self))
    task, settings = make_task(), TrainSettings(epochs=1, channels_last=False)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    fit(
        *(task, model, [], Spoilt(100, -1), loss_fn, lambda _: {}),
        metric=None,
        settings=settings,
        checkpoint="last",
    )
    assert 0 < len(looked) < 10


def test_a_last_step_that_breaks_the_weights_is_not_saved(make_task: Callable[..., Task]) -> None:
    """Its own loss was finite, and there is no step after it."""

    def explode(model: nn.Module, batch: Mapping[str, Any], step: Step) -> dict[str, Tensor]:
        loss = model(batch["image"]).mean()
        loss.register_hook(lambda gradient: gradient * float("inf"))
        return {"loss": loss}

    task = make_task()
    with pytest.raises(ValueError, match=r"weights are not finite after epoch 1; lower optimizer"):
        fit(
            task,
            nn.Sequential(nn.Flatten(), nn.Linear(12, 1)),
            [],
            Spoilt(1, -1),
            explode,
            lambda _: {"score": 1.0},
            metric="score",
            settings=TrainSettings(epochs=1, channels_last=False),
            checkpoint="last",
        )
    assert list(task.work.iterdir()) == []


def test_every_step_has_a_generator_of_its_own(make_task: Callable[..., Task]) -> None:
    drawn: list[float] = []

    def drawing(model: nn.Module, batch: Mapping[str, Any], step: Step) -> dict[str, Tensor]:
        drawn.append(step.rng.random())
        return loss_fn(model, batch, step)

    for seed in (0, 0, 1):
        fit(
            make_task(str(len(drawn)), seed),
            nn.Sequential(nn.Flatten(), nn.Linear(12, 1)),
            [],
            Batches(),
            drawing,
            lambda _: {"score": 0.0},
            metric="score",
            settings=TrainSettings(epochs=2, channels_last=False),
            checkpoint="last",
        )
    first, again, other = drawn[:4], drawn[4:8], drawn[8:]
    assert first == again
    assert len({*first, *other}) == 8


def test_waiting_for_images_is_told(make_task: Callable[..., Task]) -> None:
    class Slow(Spoilt):
        def __iter__(self) -> Iterator[dict[str, Any]]:
            for batch in super().__iter__():
                time.sleep(0.05)
                yield batch

    shares = []
    for batches in (Slow(4, -1), Spoilt(4, -1)):
        fitted = fit(
            *(make_task(str(len(shares))), nn.Sequential(nn.Flatten(), nn.Linear(12, 1)), []),
            *(batches, loss_fn, lambda _: {}),
            metric=None,
            settings=TrainSettings(epochs=1, channels_last=False),
            checkpoint="last",
        )
        shares.append(fitted.loader_wait_share)
    assert 1 > shares[0] > 0.5 and shares[0] > shares[1] >= 0
