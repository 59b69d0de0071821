"""One training loop for every network: steps, scoring, checkpoints, resuming."""

import copy
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from wsss.checks import full_key
from wsss.config.sections import TrainSettings
from wsss.cores import is_first, rank, world_size
from wsss.loading.devices import broadcast, broadcast_state, gather
from wsss.progress import track
from wsss.seeding import Step, derive_seed, generator
from wsss.training.average import WeightAverage
from wsss.training.checkpoint import load_checkpoint, save_checkpoint
from wsss.training.schedules import lr_factor, make_optimizer
from wsss.training.task import Task

__all__ = ["Batches", "Fitted", "fit"]

log = logging.getLogger(__name__)


LossFn = Callable[[Any, Mapping[str, Any], Step], Mapping[str, Tensor]]

STEPS_BETWEEN_CHECKS = 50
"""Losses are looked at together: to ask a GPU for one is to wait for it."""


class Batches(Protocol):
    """A loader whose order and augmentation depend on the epoch alone."""

    def set_epoch(self, epoch: int) -> None: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Any: ...


@dataclass
class Fitted:
    """What `fit` gives back.

    Attributes:
        epoch: 0-based, of the best checkpoint; its weights are in the model.
        score: the best value of the chosen metric.
        history: per epoch the losses and scores.
        images_per_second: of the training steps done by this call, scoring left out; 0 if
            everything was already done.
        loader_wait_share: of that time, in which the steps waited for images.
    """

    epoch: int = -1
    score: float = float("-inf")
    history: list[dict[str, float]] = field(default_factory=list)
    images_per_second: float = 0.0
    loader_wait_share: float = 0.0


def fit(
    task: Task,
    model: nn.Module,
    new_modules: list[nn.Module],
    batches: Batches,
    loss_fn: LossFn,
    score_fn: Callable[[Any], dict[str, float]],
    *,
    metric: str | None,
    settings: TrainSettings,
    checkpoint: str,
    epochs_before: int = 0,
    average: WeightAverage | None = None,
) -> Fitted:
    """Train for settings.epochs, keep the best epoch by `metric`, resume where a run ended.

    Args:
        task: the machine, the seed, the folder for the checkpoint and the tracker.
        model: on the CPU; holds the best weights afterwards.
        new_modules: parts of `model` that start from random values.
        batches: mappings with a "name" list and tensors.
        loss_fn: of (model, batch, step), where step.rng is the step's own, so that a resumed run
            draws the same; "loss" is minimised, the rest recorded.
        score_fn: scores the model in eval mode on the selection split.
        metric: the score to maximise; the earlier epoch wins a tie. None, or one that `score_fn`
            does not give, keeps the last epoch.
        settings: epochs, optimiser, memory format.
        checkpoint: names the file in the task's folder that has the state after each epoch.
        epochs_before: that the tracker has seen already.
        average: of the weights of `model`, which is scored and kept in their place.

    Raises:
        ValueError: a loss is not finite; the text names the step and the images, and the
            checkpoint of the last epoch is kept.
    """
    fabric, rng_seed, log_of_epochs = task.fabric, task.rng_seed, task.log(epochs_before)
    path = task.work / f".work.{checkpoint}.pt"
    if settings.channels_last:
        model = model.to(memory_format=torch.channels_last)
    scored = model if average is None else average.model.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(model, new_modules, settings.optimizer)
    total = settings.epochs * len(batches)
    done = Fitted()
    best: dict[str, Tensor] = {}
    first_epoch = 0
    state = load_checkpoint(path)
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        done = Fitted(state["best_epoch"], state["best_score"], state["history"])
        fabric.strategy.precision.load_state_dict(state["precision"])
        best = state["best"]
        if average is not None:
            average.model.load_state_dict(state["average"])
        first_epoch = state["epoch"] + 1
        log.info("resuming after epoch %d of %d", first_epoch, settings.epochs)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: lr_factor(step, total, settings.optimizer),
        last_epoch=first_epoch * len(batches) - 1,
    )
    wrapped, wrapped_optimizer = fabric.setup(_Learner(model, loss_fn), optimizer)
    if average is not None:
        fabric.to_device(average.model)
    seconds, images, waited = 0.0, 0, 0.0
    for epoch in range(first_epoch, settings.epochs):
        batches.set_epoch(epoch)
        own = () if is_first() else (rank(),)  # dropout differs between processes
        fabric.seed_everything(derive_seed(rng_seed, "fit", epoch, *own) % 2**32, verbose=False)
        wrapped.train()
        sums: dict[str, Tensor] = {}
        finite = _FiniteLosses(epoch)
        started = asked = time.perf_counter()
        description = f"epoch {epoch + 1}/{settings.epochs}"
        for step, batch in enumerate(track(batches, description, len(batches))):
            waited += time.perf_counter() - asked
            now = Step(
                generator(rng_seed, "step", epoch, step, rank()),
                (epoch + step / len(batches)) / settings.epochs,
                batch["name"],
            )
            losses = _step(fabric, wrapped, wrapped_optimizer, batch, now, settings)
            scheduler.step()
            if average is not None:
                average.update(model, epoch * len(batches) + step)
            for name, value in losses.items():
                sums[name] = sums.get(name, torch.zeros((), device=value.device)) + value
            finite.note(losses["loss"], batch["name"], step)
            images += len(batch["name"]) * world_size()
            asked = time.perf_counter()
        finite.check()
        broadcast_state(model)  # statistics of batch norm are each process's own
        if average is not None:
            broadcast_state(average.model)
        _check_weights(model, epoch)
        seconds += time.perf_counter() - started
        wrapped.eval()
        with torch.inference_mode():
            scores = broadcast(score_fn(scored))
        means = gather({name: value.item() / len(batches) for name, value in sums.items()})
        row: dict[str, float] = {
            f"train_{name}": sum(mean[name] for mean in means) / len(means) for name in means[0]
        }
        row |= {"epoch": epoch, "lr": float(scheduler.get_last_lr()[0]), **scores}
        done.history.append(row)
        score = scores.get(metric or "", float(epoch))
        if score > done.score or not best:
            done.epoch, done.score = epoch, score
            best = copy.deepcopy(scored.state_dict())
        if is_first():
            save_checkpoint(
                path,
                {
                    "model": model.state_dict(),
                    "average": {} if average is None else average.model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "precision": fabric.strategy.precision.state_dict(),  # the scale of losses
                    "epoch": epoch,
                    "best": best,
                    "best_epoch": done.epoch,
                    "best_score": done.score,
                    "history": done.history,
                },
            )
        told = {key: value for key, value in row.items() if key != "epoch"}
        log_of_epochs.metrics(told, step=epoch)
        log_of_epochs.flush()
        log.info(
            "epoch %d/%d  loss %.4f%s%s",
            *(epoch + 1, settings.epochs, row["train_loss"]),
            "".join(f"  {key} {value:.4f}" for key, value in scores.items()),
            "  (best)" if metric in scores and done.epoch == epoch else "",
        )
    model.load_state_dict(best)
    if seconds:
        done.images_per_second, done.loader_wait_share = images / seconds, waited / seconds
    return done


def _step(
    fabric: Fabric,
    model: Any,
    optimizer: Any,
    batch: Mapping[str, Any],
    step: Step,
    settings: TrainSettings,
) -> dict[str, Tensor]:
    on_device = {
        key: fabric.to_device(value) if torch.is_tensor(value) else value
        for key, value in batch.items()
    }
    if settings.channels_last:
        on_device["image"] = on_device["image"].contiguous(memory_format=torch.channels_last)
    try:
        losses: dict[str, Tensor] = model(on_device, step)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        count = len(batch["name"])
        few = f"there are {count} images to train on: add some, or " * (count < settings.batch_size)
        raise ValueError(
            f"a batch of {count} leaves batch norm a single value per channel, which it cannot "
            f"learn from; {few}set {full_key('batch_size')} to 2 or more"
        ) from None
    optimizer.zero_grad()
    fabric.backward(losses["loss"])
    if settings.optimizer.gradient_clip:
        fabric.clip_gradients(model, optimizer, max_norm=settings.optimizer.gradient_clip)
    optimizer.step()
    return losses


class _Learner(nn.Module):
    """A network with its losses inside, so that precision and processes wrap them both."""

    def __init__(self, model: nn.Module, loss_fn: LossFn) -> None:
        super().__init__()
        self.model, self.loss_fn = model, loss_fn

    def forward(self, batch: Mapping[str, Any], step: Step) -> dict[str, Tensor]:
        """The losses by name, of which "loss" alone has a gradient."""
        losses = self.loss_fn(self.model, batch, step)
        return {key: value if key == "loss" else value.detach() for key, value in losses.items()}


class _FiniteLosses:
    """Stops training at a loss that is not finite, without waiting for the device in every step."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.noted: list[tuple[int, Tensor, list[str]]] = []

    def note(self, loss: Tensor, names: list[str], step: int) -> None:
        """Keep the loss of a step, and now and then look at those that were kept."""
        self.noted.append((step, loss.detach(), names))
        if len(self.noted) == STEPS_BETWEEN_CHECKS:
            self.check()

    def check(self) -> None:
        """Raise ValueError for the first loss that is not finite; forget the others."""
        if not self.noted:
            return
        values = torch.stack([loss for _, loss, _ in self.noted]).tolist()
        wrong = [
            (step, value, names)
            for value, (step, _, names) in zip(values, self.noted, strict=True)
            if not math.isfinite(value)
        ]
        self.noted = []
        # one process after the other breaks, and all have to stop
        for step, value, names in sorted(chain.from_iterable(gather(wrong[:1]))):
            raise ValueError(
                f"the loss is {value} in epoch {self.epoch + 1}, step {step + 1}; "
                f"{_lower_the_rate()}. The batch: {', '.join(names)}"
            )


def _check_weights(model: nn.Module, epoch: int) -> None:
    """Raise ValueError if the last step of an epoch, whose loss was finite, broke the network."""
    finite = torch.stack([weights.isfinite().all() for weights in model.parameters()])
    if not finite.all():
        raise ValueError(f"weights are not finite after epoch {epoch + 1}; {_lower_the_rate()}")


def _lower_the_rate() -> str:
    return f"lower {full_key('optimizer.lr')} or set {full_key('optimizer.gradient_clip')}"
