"""Several processes train as one does, stop after the same step, and go on to the same bytes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from wsss.cores import world_size
from wsss.pipeline.processes import run_together
from wsss.training.part_epoch import KEEP, Agreement, KeepTime

SERVER = """
import json, os, signal, socket, sys, traceback
from pathlib import Path
import torch
from torch import nn
from wsss.artifacts import Manifest
from wsss.config.sections import MachineSettings, OptimizerSettings, TrainSettings
from wsss.cores import rank, world_size
from wsss.loading.devices import gather, make_fabric
from wsss.loading.order import part_of_batch
from wsss.stopping import StoppedError, exit_code, stop_on_signals
from wsss.tracking import NullTracker
from wsss.training.average import WeightAverage
from wsss.training.loop import fit
from wsss.training.task import Task

def train(folder, options):
    seen, scores = [], []

    class Batches:
        images_per_step, epoch, first = 7, 0, 0
        def set_epoch(self, epoch, first_step=0):
            self.epoch, self.first = epoch, first_step
        def __len__(self):
            return 5
        def __iter__(self):
            for step in range(self.first, 5):
                draw = torch.Generator().manual_seed(100 * self.epoch + step)
                images = torch.randn(self.images_per_step, 3, 4, 4, generator=draw)
                own = part_of_batch(range(self.images_per_step), rank(), world_size())
                seen.append([self.epoch, step])
                at = [self.epoch, step, rank()]
                if at == options.get("signalled"):
                    os.kill(os.getpid(), options["signal"])
                if at == options.get("killed"):
                    os.kill(os.getpid(), signal.SIGKILL)
                yield {"name": [f"{step}-{i}" for i in own], "image": images[list(own)]}

    def loss_fn(model, batch, step):
        target = batch["image"].mean(dim=(1, 2, 3))
        loss = (model(batch["image"]).squeeze(1) - target).square().mean()
        return {"loss": loss, "part": loss / 2}

    def score_fn(scored):
        scores.append(float(scored(torch.ones(2, 3, 4, 4)).abs().sum()))
        if len(scores) == options.get("scoring"):
            os.kill(os.getpid(), signal.SIGTERM)
        return {"score": -max(gather(scores[-1]))}

    stop_on_signals()
    minutes = options.get("minutes", 30)
    machine = MachineSettings(accelerator="cpu", num_workers=0, checkpoint_minutes=minutes)
    fabric = make_fabric(machine, "32-true")
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Dropout(options.get("dropout", 0.2)), nn.Flatten(), nn.Linear(16, 1),
    )
    task = Task(Manifest(("x",), {}), folder, machine, 3, fabric, folder, NullTracker())
    settings = TrainSettings(
        epochs=3, channels_last=False, batch_size=7, optimizer=OptimizerSettings(lr=0.05)
    )
    try:
        fitted = fit(
            task, model, [], Batches(), loss_fn, score_fn, metric="score",
            settings=settings, checkpoint="last", average=WeightAverage(model, 0.9),
        )
    except StoppedError as stop:
        return exit_code(stop)
    finally:
        (folder / f"seen.{rank()}.json").write_text(json.dumps(seen))
    state = {name: value.tolist() for name, value in model.state_dict().items()}
    found = {"state": state, "epoch": fitted.epoch, "history": fitted.history}
    (folder / f"found.{rank()}.json").write_text(json.dumps(found))
    return 0

for line in sys.stdin:
    folder, processes, options = json.loads(line)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for at in range(processes):
        children.append(os.fork())
        if not children[-1]:
            os.environ |= {"RANK": str(at), "LOCAL_RANK": str(at), "MASTER_PORT": str(port)}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": str(processes)}
            os.environ |= {"LOCAL_WORLD_SIZE": str(processes)}
            code = 1
            log = os.open(f"{folder}/log.{at}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1), os.dup2(log, 2)
            try:
                code = train(Path(folder), options)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    print(json.dumps(codes), flush=True)
"""
"""Trains in processes of its own, which need not import anything again."""

Train = Callable[..., list[int]]


@pytest.fixture(scope="module")
def train() -> Iterator[Train]:
    """Trains in a folder in several processes, and gives their exit codes."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin and server.stdout
        asked, answers = server.stdin, server.stdout

        def run(folder: Path, processes: int, **options: Any) -> list[int]:
            folder.mkdir(exist_ok=True)
            print(json.dumps([str(folder), processes, options]), file=asked, flush=True)
            codes: list[int] = json.loads(answers.readline())
            return codes

        yield run
        asked.close()


def found(folder: Path, rank: int = 0) -> Any:
    return json.loads((folder / f"found.{rank}.json").read_text())


def seen(folder: Path, rank: int = 0) -> list[tuple[int, int]]:
    """(epoch, step) of the batches that the latest process loaded."""
    return [tuple(at) for at in json.loads((folder / f"seen.{rank}.json").read_text())]


@pytest.fixture(scope="module", params=[1, 2])
def undisturbed(
    train: Train, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[int, Any]:
    """The number of processes, and what they found."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert train(folder, request.param) == [0] * request.param
    return request.param, found(folder)


def assert_alike(history: list[dict[str, float]], other: list[dict[str, float]]) -> None:
    """To within rounding."""
    for row, twin in zip(history, other, strict=True):
        assert row == pytest.approx(twin, rel=1e-3, abs=1e-6)


def test_several_processes_learn_what_one_learns(train: Train, tmp_path: Path) -> None:
    """In uneven parts, with batch norm; where nothing is drawn, to within rounding."""
    for processes in (1, 2, 3):
        assert not any(train(tmp_path / f"{processes}", processes, dropout=0))
    one = found(tmp_path / "1")
    assert one["history"][0]["train_loss"] > 2 * one["history"][-1]["train_loss"]
    for processes in (2, 3):
        several = found(tmp_path / f"{processes}")
        assert found(tmp_path / f"{processes}", processes - 1) == several, "all have the same"
        assert several["epoch"] == one["epoch"]
        assert_alike(several["history"], one["history"])
        for name, value in one["state"].items():
            other = torch.tensor(several["state"][name])
            assert torch.allclose(other, torch.tensor(value), atol=1e-4), name


@pytest.mark.parametrize(
    ("number", "code", "at"),
    [
        (signal.SIGTERM, 143, (0, 0)),
        (signal.SIGUSR1, 99, (1, 2)),
        (signal.SIGUSR2, 99, (1, 3)),
        (signal.SIGTERM, 143, (2, 4)),
    ],
)
def test_a_signal_keeps_the_step_and_the_rerun_gives_the_same_bytes(
    train: Train,
    undisturbed: tuple[int, Any],
    tmp_path: Path,
    number: int,
    code: int,
    at: tuple[int, int],
) -> None:
    """Also where one process alone is asked; steps that are done are not loaded again."""
    processes, wanted = undisturbed
    signalled = [*at, processes - 1]
    codes = train(tmp_path, processes, signalled=signalled, signal=number)
    assert codes == [code] * processes
    last = seen(tmp_path)[-1]
    assert at <= last <= (at[0], at[1] + 1), "the others hear of it in the next step"
    assert not any(train(tmp_path, processes))
    assert found(tmp_path) == wanted
    assert seen(tmp_path) == [(e, s) for e in range(3) for s in range(5) if (e, s) > last]


def test_a_signal_while_an_epoch_is_scored_repeats_no_step(
    train: Train, undisturbed: tuple[int, Any], tmp_path: Path
) -> None:
    processes, wanted = undisturbed
    assert train(tmp_path, processes, scoring=2) == [143] * processes
    assert not any(train(tmp_path, processes))
    assert found(tmp_path) == wanted
    assert seen(tmp_path) == [(2, step) for step in range(5)]


def test_a_process_that_is_killed_costs_what_came_after_the_last_checkpoint(
    train: Train, undisturbed: tuple[int, Any], tmp_path: Path
) -> None:
    """Here the state is kept after every step; the other process ends by itself."""
    processes, wanted = undisturbed
    codes = train(tmp_path, processes, killed=[1, 3, processes - 1], minutes=1e-9)
    assert codes[-1] == -signal.SIGKILL and all(codes)
    assert not any(train(tmp_path, processes))
    assert found(tmp_path) == wanted
    assert seen(tmp_path)[0] in [(1, 2), (1, 3)]


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_another_number_of_processes_goes_on_and_says_what_differs(
    train: Train, tmp_path: Path, before: int, after: int
) -> None:
    """Where nothing is drawn it is the run of either, to within rounding."""
    assert not any(train(tmp_path / "whole", 1, dropout=0))
    cut = {"signalled": [1, 2, 0], "signal": signal.SIGTERM}
    assert train(tmp_path / "cut", before, dropout=0, **cut) == [143] * before
    assert not any(train(tmp_path / "cut", after, dropout=0))
    said = (tmp_path / "cut/log.0").read_text()
    assert f"begun in {before} processes and goes on in {after}" in said
    assert_alike(found(tmp_path / "cut")["history"], found(tmp_path / "whole")["history"])


def test_alone_a_process_agrees_with_itself_at_once() -> None:
    assert world_size() == 1
    agreement = Agreement()
    assert [agreement.after_step(0), agreement.after_step(15), agreement.now(KEEP)] == [0, 15, 1]


def test_the_state_is_asked_for_once_when_it_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 59.0, 61.0, 61.0, 62.0, 130.0, 130.0])
    monkeypatch.setattr("wsss.training.part_epoch.time.monotonic", lambda: next(clock))
    keep_time = KeepTime(1)
    assert [keep_time.asks() for _ in range(4)] == [0, KEEP, 0, KEEP]


NORMS = """
import sys
import torch
from torch import nn
from wsss.config.sections import MachineSettings
from wsss.cores import rank
from wsss.loading.devices import gather, make_fabric
from wsss.training.batch_norm import SharedBatchNorm
from timm.layers import BatchNormAct2d

make_fabric(MachineSettings(accelerator="cpu"), "32-true")
torch.manual_seed(0)
images = 30 + torch.randn(6, 4, 3, 5)
weights = torch.randn(6, 4, 3, 5)
for kind in (nn.BatchNorm2d, BatchNormAct2d, lambda c: nn.BatchNorm2d(c, affine=False)):
    for parts in ([2, 4], [6, 0], [5, 1]):
        alone, shared = kind(4), kind(4)
        for module in (alone, shared):
            if module.affine:
                torch.manual_seed(1)
                nn.init.normal_(module.weight), nn.init.normal_(module.bias)
        whole = images.clone().requires_grad_()
        (alone(whole) * weights).sum().backward()
        own = slice(0, parts[0]) if rank() == 0 else slice(parts[0], 6)
        part = images[own].clone().requires_grad_()
        with SharedBatchNorm():
            (shared(part) * weights[own]).sum().backward()
        assert torch.allclose(part.grad, whole.grad[own], atol=1e-4), "images"
        for name, value in alone.state_dict().items():
            assert torch.allclose(shared.state_dict()[name], value, atol=1e-4), name
        if shared.affine:
            summed = sum(gather(shared.weight.grad))
            assert torch.allclose(summed, alone.weight.grad, rtol=1e-3, atol=1e-3)
        with SharedBatchNorm():
            assert torch.equal(shared.eval()(part), shared(part)), "asks nobody"
single = torch.ones(1 - rank(), 4, 1, 1)
try:
    with SharedBatchNorm():
        nn.BatchNorm2d(4)(single)
except ValueError as error:
    assert "more than 1 value per channel" in str(error)
else:
    sys.exit("one value has no variance")
with SharedBatchNorm():
    empty = nn.BatchNorm2d(4)
    assert empty(torch.ones(0, 4, 2, 2)).shape == (0, 4, 2, 2)
assert torch.equal(empty.running_mean, torch.zeros(4))
"""


def test_batch_norm_over_processes_is_that_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Output, gradients and running statistics, also where one has no image."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert run_together([sys.executable, "-c", NORMS], 2) == 0
