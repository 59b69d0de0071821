"""MLflow's page as a person finds it: the link, and one click. In headless Chromium.

SCREENSHOTS=docs/images FULL_SIZE=1 pytest -m slow tests/runs/test_page.py keeps what it saw, of the
pipeline as it is; without FULL_SIZE it runs on fewer images.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from ..browser import chromium, keep, wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

ROOT = Path(__file__).parents[2]
SMALLER = {
    "num_train: 360": "num_train: 60",
    "num_val: 100": "num_val: 20",
    "epochs: 6": "epochs: 2",
    "epochs: 3": "epochs: 1",
}
if os.environ.get("FULL_SIZE"):
    SMALLER = {}
BINARIES = Path(sys.executable).parent


def run(root: Path, *command: str) -> str:
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("DVC_")},
        "PATH": f"{BINARIES}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands after a fresh `dvc repro` and one experiment."""
    root = tmp_path_factory.mktemp("page") / "project"
    shutil.copytree(
        ROOT,
        root,
        ignore=shutil.ignore_patterns(
            *(".git", ".venv", "build", ".study", ".tuning", "mlflow.db*", "mlartifacts"),
            *("data", "models", "cache", "tmp", ".*_cache", "*.run.json", "panel.png", "dvc.lock"),
        ),
    )
    # the package has a folder named data, too
    shutil.copytree(ROOT / "src", root / "src", dirs_exist_ok=True)
    for file in (root / "params.yaml", root / "recipes/synthetic_cam.yaml"):
        text = file.read_text(encoding="utf-8")
        for old, new in SMALLER.items():
            text = text.replace(old, new)
        file.write_text(text, encoding="utf-8")
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b")
    run(root, "git", "init", "--quiet", "--initial-branch=main")
    run(root, "git", "config", "user.name", "a")
    run(root, "git", "config", "user.email", "a@b")
    run(root, *git, "add", ".")
    run(root, *git, "commit", "--quiet", "-m", "fresh")
    run(root, "dvc", "repro")
    run(root, *git, "add", ".")
    run(root, *git, "commit", "--quiet", "-m", "results")
    run(root, "dvc", "exp", "run", "-S", "refine.chains.crf.0.sigma_rgb=13")
    return root


@pytest.fixture(scope="module")
def link(project: Path) -> Iterator[str]:
    """What `wsss runs open` prints while a server runs that it said how to start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    said = run(project, "wsss", "runs", "open", "--print", "--port", port).splitlines()
    assert "no MLflow server answers" in said[1]
    server = subprocess.Popen(
        said[2].split(), cwd=project, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait(lambda: answers(f"http://127.0.0.1:{port}/health"), "the server")
        asked = ("wsss", "runs", "open", "--print", "--port", port)
        wait(lambda: len(run(project, *asked).splitlines()) == 1, "the experiment")
        yield run(project, *asked).split()[-1]
    finally:
        server.terminate()
        server.wait()


def answers(address: str) -> bool:
    try:
        with urlopen(address, timeout=2):
            return True
    except OSError:
        return False


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    profile = tmp_path_factory.mktemp("chromium")
    with chromium(profile, "--window-size=1600,1000") as opened:
        yield opened


def test_the_link_shows_scores_at_once_and_pictures_after_one_click(
    link: str, browser: Any, tmp_path: Path
) -> None:
    browser.get(link)
    metrics = [f"{name}.val_mean_iou" for name in ("cam", "crf", "none", "pseudo", "segmenter")]

    def titles() -> list[str]:
        cards = "[data-testid='experiment-view-compare-runs-card']"
        found = browser.find_elements("css selector", cards)
        return [card.text.split("\n")[0] for card in found]

    wait(lambda: titles(), "a chart")
    # MLflow's assistant opens itself when a browser comes for the first time
    closing = "[data-component-id='mlflow.assistant.chat_panel.close']"
    for button in browser.find_elements("css selector", closing):
        button.click()
    wait(lambda: set(metrics) <= set(titles()), "the charts of all scores")
    assert titles()[:2] == metrics[:2], "other charts come first"
    text = browser.find_element("tag name", "body").text
    for name in ("synthetic_cam", "sigma_rgb=13", "mean IoU on val"):
        assert name in text
    time.sleep(3)  # bars move into place
    keep(browser, "mlflow_scores", tmp_path)

    view = "input[name='runs-view-mode'][value='ARTIFACT']"
    browser.execute_script("arguments[0].click()", browser.find_element("css selector", view))

    def pictures() -> list[Any]:
        shown = browser.find_elements("css selector", "img[src*='table_images']")
        shown = shown or browser.find_elements("css selector", "img[src^='blob:']")
        return [picture for picture in shown if picture.size["width"] > 50]

    wait(lambda: len(pictures()) >= 4, "pictures of two runs")
    text = browser.find_element("tag name", "body").text
    for name in ("synthetic_cam", "sigma_rgb=13", "pseudo mask", "val_0"):
        assert name in text
    time.sleep(3)
    keep(browser, "mlflow_pictures", tmp_path)


def test_both_experiments_stand_in_the_database_with_their_scores(project: Path) -> None:
    from mlflow.tracking import MlflowClient

    from wsss.tracking.database import database_uri

    client = MlflowClient(database_uri(project / "mlflow.db"))
    found = {
        name: client.get_experiment_by_name(name).experiment_id for name in ("wsss", "wsss stages")
    }
    runs = client.search_runs([found["wsss"]], order_by=["start_time ASC"])
    assert [run.info.run_name for run in runs] == ["synthetic_cam", "sigma_rgb=13"]
    cams, refined = (
        [run.data.metrics[f"{name}.val_mean_iou"] for run in runs] for name in ("cam", "crf")
    )
    assert cams[0] == cams[1]
    assert refined[0] != refined[1]
    assert runs[1].data.tags["dvc.exp"]
    stages = client.search_runs([found["wsss stages"]])
    names = {run.info.run_name for run in stages}
    assert {"evaluate_refined@crf", "evaluate_refined@crf sigma_rgb=13"} <= names
    assert len(names) == len(stages)
