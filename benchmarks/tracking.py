"""What tracking costs a training of 200 steps per epoch: without it, in a database, at a server.

    python benchmarks/tracking.py [--epochs 10] [--steps 200] [--repeats 3]

Each side is a process of its own that trains a small network, and tells ten values per epoch as a
stage does. The sides take turns. The server is `mlflow server` on a database of its own; with
MLFLOW_TRACKING_URI set, it is that one. Given are the share of epochs that passes in the tracker's
calls, the wall time and the CPU time of all epochs beside those without tracking, and what opening
and ending a run take once.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

STAGE = """
import json, sys, time
from pathlib import Path
import torch
from wsss.tracking import NullTracker, open_tracker

torch.set_num_threads(1)
epochs, steps, is_tracked = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] != "none"
torch.manual_seed(0)
network = torch.nn.Sequential(
    torch.nn.Conv2d(3, 16, 3, 2), torch.nn.ReLU(), torch.nn.Conv2d(16, 32, 3, 2), torch.nn.ReLU(),
    torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(32, 20),
)
optimizer = torch.optim.SGD(network.parameters(), 0.01)
images, labels = torch.rand(8, 3, 96, 96), torch.rand(8, 20).round()
loss_of = torch.nn.BCEWithLogitsLoss()


def train(tracker):
    told = 0.0
    began, cpu = time.perf_counter(), time.process_time()
    for epoch in range(epochs):
        for _ in range(steps):
            optimizer.zero_grad()
            loss = loss_of(network(images), labels)
            loss.backward()
            optimizer.step()
        before = time.perf_counter()
        tracker.metrics({f"value_{i}": loss.item() + i for i in range(10)}, epoch)
        tracker.flush()
        told += time.perf_counter() - before
    return {"told": told, "wall": time.perf_counter() - began, "cpu": time.process_time() - cpu}


train(NullTracker())  # whatever is done once
began = time.perf_counter()
if is_tracked:
    with open_tracker("train_classifier", Path.cwd(), "benchmark", {"a": 1}, key="k") as tracker:
        opened = time.perf_counter()
        found = train(tracker)
        ended = time.perf_counter()
    once = opened - began + time.perf_counter() - ended
else:
    found, once = train(NullTracker()), 0.0
print(json.dumps(found | {"once": once}))
"""


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """A tracking server."""
    if given := os.environ.get("MLFLOW_TRACKING_URI", ""):
        yield given
        return
    port = "5791"
    options = ["--port", port, "--workers", "1", "--artifacts-destination", str(folder / "files")]
    store = ["--backend-store-uri", f"sqlite:///{folder}/server.db"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", *options, *store],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                build_opener(ProxyHandler({})).open(f"{address}/health", timeout=2)
                break
            except OSError:
                if process.poll() is not None:
                    raise SystemExit("mlflow server did not start") from None
                time.sleep(0.5)
        yield address
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def run(side: str, uri: str, epochs: int, steps: int) -> dict[str, float]:
    """Train once, in a folder of its own."""
    environment = {name: text for name, text in os.environ.items() if name != "DVC_ROOT"}
    environment |= {"OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": uri}
    with tempfile.TemporaryDirectory() as folder:
        if side == "database":
            environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        command = [sys.executable, "-c", STAGE, str(epochs), str(steps), side]
        done = subprocess.run(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="What tracking costs a training.")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    sides = ("none", "database", "server")
    results: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as uri:
        for _ in range(given.repeats):
            for side in sides:
                results[side].append(run(side, uri, given.epochs, given.steps))

    def median(side: str, key: str) -> float:
        return statistics.median(result[key] for result in results[side])

    print(f"{given.epochs} epochs of {given.steps} steps, {median('none', 'wall'):.1f} s without")
    for side in sides[1:]:
        share = median(side, "told") / median(side, "wall")
        wall, cpu = (median(side, key) / median("none", key) for key in ("wall", "cpu"))
        print(
            f"{side:9} calls {100 * share:.2f} % of the epochs   wall x {wall:.3f}   "
            f"CPU of the stage x {cpu:.3f}   once {median(side, 'once'):.1f} s"
        )


if __name__ == "__main__":
    main()
