"""One training loop for every network: steps, scoring, checkpoints, resuming."""

import copy
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
from wsss.stopping import StoppedError, stopping_later
from wsss.training.average import WeightAverage
from wsss.training.batch_norm import SharedBatchNorm
from wsss.training.checkpoint import load_checkpoint, save_checkpoint
from wsss.training.finite import FiniteLosses, check_weights
from wsss.training.part_epoch import KEEP, Agreement, KeepTime, go_on, part_of_epoch
from wsss.training.schedules import lr_factor, make_optimizer
from wsss.training.task import Task

__all__ = ["Batches", "Fitted", "fit"]

log = logging.getLogger(__name__)


LossFn = Callable[[Any, Mapping[str, Any], Step], Mapping[str, Tensor]]


class Batches(Protocol):
    """A loader whose order and augmentation depend on the epoch alone.

    Attributes:
        images_per_step: of all processes together; each yields its part of them.
    """

    images_per_step: int

    def set_epoch(self, epoch: int, first_step: int = 0) -> None: ...
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

    The state is kept after each epoch, every machine.checkpoint_minutes within one, and when a
    signal asks the process to stop: all processes stop after the same step, and a run that goes on
    from there gives what an undisturbed one gives.

    Args:
        task: the machine, the seed, the folder for the checkpoint and the tracker.
        model: on the CPU; holds the best weights afterwards.
        new_modules: parts of `model` that start from random values.
        batches: mappings with a "name" list and tensors.
        loss_fn: of (model, batch, step), where step.rng is the step's own, so that a resumed run
            draws the same; "loss" is minimised, the rest recorded.
        score_fn: scores the model in eval mode on the selection split.
        metric: the score to maximise. Few images give the same score again and again; then the
            epoch of the lowest "selection_loss" wins, where `score_fn` gives that, and the earliest
            otherwise. None, or one that `score_fn` does not give, keeps the last epoch.
        settings: epochs, optimiser, memory format.
        checkpoint: names the file in the task's folder that has the state.
        epochs_before: that the tracker has seen already.
        average: of the weights of `model`, which is scored and kept in their place.

    Raises:
        ValueError: a loss is not finite; the text names the step and the images, and the
            checkpoint of the last epoch is kept.
        StoppedError: a signal came, and the state is kept.
    """
    fabric, rng_seed, log_of_epochs = task.fabric, task.rng_seed, task.log(epochs_before)
    path = task.work / f".work.{checkpoint}.pt"
    model = fabric.to_device(model)  # what an optimiser loads goes to where its parameters are
    if settings.channels_last:
        model = model.to(memory_format=torch.channels_last)
    scored = model if average is None else average.model.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(model, new_modules, settings.optimizer)
    total = settings.epochs * len(batches)
    done = Fitted()
    best: dict[str, Tensor] = {}
    first_epoch = 0
    part: dict[str, Any] | None = None
    state = load_checkpoint(path)
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        done = Fitted(state["best_epoch"], state["best_score"], state["history"])
        fabric.strategy.precision.load_state_dict(state["precision"])
        best = state["best"]
        if average is not None:
            average.model.load_state_dict(state["average"])
        first_epoch, part = state["epoch"] + 1, state["part"]
        log.info("resuming %s", _place(first_epoch, settings.epochs, part, len(batches)))
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: lr_factor(step, total, settings.optimizer),
        last_epoch=first_epoch * len(batches) + (part["steps"] if part else 0) - 1,
    )
    wrapped, wrapped_optimizer = fabric.setup(_Learner(model, loss_fn, batches), optimizer)
    if average is not None:
        fabric.to_device(average.model)
    agreement, keep_time = Agreement(), KeepTime(task.machine.checkpoint_minutes)

    def keep(epochs_done: int, part: dict[str, Any] | None = None) -> None:
        keep_time.start()
        if is_first():
            save_checkpoint(
                path,
                {
                    "model": model.state_dict(),
                    "average": {} if average is None else average.model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "precision": fabric.strategy.precision.state_dict(),  # the scale of losses
                    "epoch": epochs_done - 1,
                    "part": part,
                    "best": best,
                    "best_epoch": done.epoch,
                    "best_score": done.score,
                    "history": done.history,
                },
            )

    seconds, images, waited = 0.0, 0, 0.0
    for epoch in range(first_epoch, settings.epochs):
        own = () if is_first() else (rank(),)  # dropout differs between processes
        fabric.seed_everything(derive_seed(rng_seed, "fit", epoch, *own) % 2**32, verbose=False)
        first_step, sums = go_on(part, fabric.device) if part else (0, {})
        part = None
        batches.set_epoch(epoch, first_step)
        wrapped.train()
        finite = FiniteLosses(epoch)
        started = asked = time.perf_counter()
        description = f"epoch {epoch + 1}/{settings.epochs}"
        left = len(batches) - first_step
        with stopping_later() as signal:
            for step, batch in enumerate(
                track(batches, description, left) if left else (), first_step
            ):
                waited += time.perf_counter() - asked
                now = Step(
                    generator(rng_seed, "step", epoch, step, rank()),
                    (epoch + step / len(batches)) / settings.epochs,
                    batch["name"],
                )
                losses = _step(fabric, wrapped, wrapped_optimizer, batch, now, settings, batches)
                scheduler.step()
                if average is not None:
                    average.update(model, epoch * len(batches) + step)
                for name, value in losses.items():
                    sums[name] = sums.get(name, torch.zeros((), device=value.device)) + value
                finite.note(losses["loss"], batch["name"], step)
                images += batches.images_per_step
                last = step + 1 == len(batches)
                agreed = (agreement.now if last else agreement.after_step)(
                    signal() or keep_time.asks()
                )
                if agreed:
                    finite.check()
                    check_weights(model, epoch)
                    keep(epoch, part_of_epoch(step + 1, sums, fabric.device))
                if agreed > KEEP:
                    raise StoppedError(agreed)
                asked = time.perf_counter()
            finite.check()
            broadcast_state(model)  # buffers are each process's own after the last step
            if average is not None:
                broadcast_state(average.model)
            check_weights(model, epoch)
            seconds += time.perf_counter() - started
            means = gather({name: value.item() / len(batches) for name, value in sums.items()})
            ended = part_of_epoch(len(batches), sums, fabric.device)
        wrapped.eval()
        try:
            with torch.inference_mode():
                scores = broadcast(score_fn(scored))
        except KeyboardInterrupt:  # scoring may take long, and changes nothing
            keep(epoch, ended)
            raise
        row: dict[str, float] = {
            f"train_{name}": sum(mean[name] for mean in means) / len(means) for name in means[0]
        }
        row |= {"epoch": epoch, "lr": float(scheduler.get_last_lr()[0]), **scores}
        with stopping_later():
            done.history.append(row)
            score = scores.get(metric or "", float(epoch))
            if not best or (score, -_loss(row)) > (done.score, -_loss(done.history[done.epoch])):
                done.epoch, done.score = epoch, score
                best = copy.deepcopy(scored.state_dict())
            keep(epoch + 1)
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


def _loss(row: Mapping[str, float]) -> float:
    return row.get("selection_loss", 0.0)


def _place(epochs: int, of_epochs: int, part: Mapping[str, Any] | None, of_steps: int) -> str:
    if part is None:
        return f"after epoch {epochs} of {of_epochs}"
    return f"in epoch {epochs + 1} of {of_epochs}, after step {part['steps']} of {of_steps}"


def _step(
    fabric: Fabric,
    model: Any,
    optimizer: Any,
    batch: Mapping[str, Any],
    step: Step,
    settings: TrainSettings,
    batches: Batches,
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
        count = batches.images_per_step
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
    """A network with its losses inside, so that precision and processes wrap them both.

    Losses are means over a process's part of a batch. They are weighted by its size, so that their
    mean over the processes, which gradients are taken of, is that over the images.
    """

    def __init__(self, model: nn.Module, loss_fn: LossFn, batches: Batches) -> None:
        super().__init__()
        self.model, self.loss_fn, self.batches = model, loss_fn, batches

    def forward(self, batch: Mapping[str, Any], step: Step) -> dict[str, Tensor]:
        """The losses by name, of which "loss" alone has a gradient."""
        if world_size() == 1:
            losses = self.loss_fn(self.model, batch, step)
        else:
            weight = len(batch["name"]) * world_size() / self.batches.images_per_step
            with SharedBatchNorm():
                losses = self.loss_fn(self.model, batch, step)
            losses = {key: value * weight for key, value in losses.items()}
        return {key: value if key == "loss" else value.detach() for key, value in losses.items()}
