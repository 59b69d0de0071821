"""One training loop for every network: steps, scoring, checkpoints, resuming."""

import copy
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from wsss.config.sections import MachineSettings, TrainSettings
from wsss.progress import track
from wsss.seeding import Step, derive_seed, generator
from wsss.training.checkpoint import load_checkpoint, save_checkpoint
from wsss.training.schedules import lr_factor, make_optimizer

__all__ = ["Batches", "Fitted", "fit", "make_fabric"]

log = logging.getLogger(__name__)


LossFn = Callable[[nn.Module, Mapping[str, Any], Step], dict[str, Tensor]]


class Batches(Protocol):
    """A loader whose order and augmentation depend on the epoch alone."""

    def set_epoch(self, epoch: int) -> None: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Any: ...


class Recorder(Protocol):
    """Where losses and scores go: a tracker, of which this package need not know more."""

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None: ...
    def flush(self) -> None: ...


@dataclass
class Fitted:
    """What `fit` gives back.

    Attributes:
        epoch: 0-based, of the best checkpoint; its weights are in the model.
        score: the best value of the chosen metric.
        history: per epoch the losses and scores.
        images_per_second: of the training steps done by this call, scoring left out; 0 if
            everything was already done.
    """

    epoch: int = -1
    score: float = float("-inf")
    history: list[dict[str, float]] = field(default_factory=list)
    images_per_second: float = 0.0


def make_fabric(machine: MachineSettings, precision: str) -> Fabric:
    """Devices, precision and processes, launched."""
    # a method may leave parts of the network out of a step, or run it more than once
    strategy = "ddp_find_unused_parameters_true" if machine.devices > 1 else "auto"
    fabric = Fabric(
        accelerator=machine.accelerator,
        strategy=strategy,
        devices=machine.devices,
        precision=precision,
    )
    fabric.launch()
    return fabric


def fit(
    fabric: Fabric,
    model: nn.Module,
    new_modules: list[nn.Module],
    batches: Batches,
    loss_fn: LossFn,
    score_fn: Callable[[nn.Module], dict[str, float]],
    *,
    metric: str | None,
    settings: TrainSettings,
    rng_seed: int,
    checkpoint: Path,
    tracker: Recorder,
) -> Fitted:
    """Train for settings.epochs, keep the best epoch by `metric`, resume where a run ended.

    Args:
        fabric: from `make_fabric`.
        model: on the CPU; holds the best weights afterwards.
        new_modules: parts of `model` that start from random values.
        batches: mappings with a "name" list and tensors.
        loss_fn: of (model, batch, step), where step.rng is the step's own, so that a resumed run
            draws the same; "loss" is minimised, the rest recorded.
        score_fn: of the model in eval mode, on the selection split.
        metric: the score to maximise; the earlier epoch wins a tie. None keeps the last epoch.
        settings: epochs, optimiser, memory format.
        rng_seed: of dropout and of methods that draw.
        checkpoint: where state is written after each epoch.
        tracker: gets losses and scores once an epoch.

    Raises:
        ValueError: a loss is not finite; the text names the step and the images, and the
            checkpoint of the last epoch is kept.
    """
    if settings.channels_last:
        model = model.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(model, new_modules, settings.optimizer)
    total = settings.epochs * len(batches)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: lr_factor(step, total, settings.optimizer)
    )
    done = Fitted()
    best: dict[str, Tensor] = {}
    first_epoch = 0
    state = load_checkpoint(checkpoint)
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        done = Fitted(state["best_epoch"], state["best_score"], state["history"])
        best = state["best"]
        first_epoch = state["epoch"] + 1
        log.info("resuming after epoch %d of %d", first_epoch, settings.epochs)
    wrapped, wrapped_optimizer = fabric.setup(model, optimizer)
    seconds, images = 0.0, 0
    for epoch in range(first_epoch, settings.epochs):
        batches.set_epoch(epoch)
        fabric.seed_everything(derive_seed(rng_seed, "fit", epoch) % 2**32, verbose=False)
        wrapped.train()
        sums: dict[str, Tensor] = {}
        started = time.perf_counter()
        description = f"epoch {epoch + 1}/{settings.epochs}"
        for step, batch in enumerate(track(batches, description, len(batches))):
            now = Step(
                generator(rng_seed, "step", epoch, step, fabric.global_rank),
                (epoch + step / len(batches)) / settings.epochs,
                batch["name"],
            )
            losses = _step(fabric, wrapped, wrapped_optimizer, batch, now, loss_fn, settings)
            scheduler.step()
            for name, value in losses.items():
                sums[name] = sums.get(name, torch.zeros((), device=value.device)) + value.detach()
            _check_finite(losses["loss"], batch, epoch, step)
            images += len(batch["name"]) * fabric.world_size
        seconds += time.perf_counter() - started
        wrapped.eval()
        with torch.inference_mode():
            scores = score_fn(wrapped)
        row: dict[str, float] = {
            f"train_{name}": value.item() / len(batches) for name, value in sums.items()
        }
        row |= {"epoch": epoch, "lr": float(scheduler.get_last_lr()[0]), **scores}
        done.history.append(row)
        score = float(epoch) if metric is None else scores[metric]
        if score > done.score or not best:
            done.epoch, done.score = epoch, score
            best = copy.deepcopy(model.state_dict())
        if fabric.is_global_zero:
            save_checkpoint(
                checkpoint,
                {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "scheduler": scheduler.state_dict(),
                    "epoch": epoch,
                    "best": best,
                    "best_epoch": done.epoch,
                    "best_score": done.score,
                    "history": done.history,
                },
            )
        tracker.metrics({key: value for key, value in row.items() if key != "epoch"}, step=epoch)
        tracker.flush()
        log.info(
            "epoch %d/%d  loss %.4f%s%s",
            *(epoch + 1, settings.epochs, row["train_loss"]),
            "".join(f"  {key} {value:.4f}" for key, value in scores.items()),
            "  (best)" if metric is not None and done.epoch == epoch else "",
        )
    model.load_state_dict(best)
    done.images_per_second = images / seconds if seconds else 0.0
    return done


def _step(
    fabric: Fabric,
    model: Any,
    optimizer: Any,
    batch: Mapping[str, Any],
    step: Step,
    loss_fn: LossFn,
    settings: TrainSettings,
) -> dict[str, Tensor]:
    on_device = {
        key: fabric.to_device(value) if torch.is_tensor(value) else value
        for key, value in batch.items()
    }
    if settings.channels_last:
        on_device["image"] = on_device["image"].contiguous(memory_format=torch.channels_last)
    losses = loss_fn(model, on_device, step)
    optimizer.zero_grad()
    fabric.backward(losses["loss"])
    if settings.optimizer.gradient_clip:
        fabric.clip_gradients(model, optimizer, max_norm=settings.optimizer.gradient_clip)
    optimizer.step()
    return losses


def _check_finite(loss: Tensor, batch: Mapping[str, Any], epoch: int, step: int) -> None:
    if not torch.isfinite(loss):
        raise ValueError(
            f"the loss is {loss.item()} in epoch {epoch + 1}, step {step + 1}; lower optimizer.lr "
            f"or set optimizer.gradient_clip. The batch: {', '.join(batch['name'])}"
        )
