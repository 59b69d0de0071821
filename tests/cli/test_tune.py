"""`wsss tune`: what it prints, and what it writes into params.yaml."""

import difflib
import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from wsss.artifacts import Paths
from wsss.cli.app import app
from wsss.config.params import load_params
from wsss.config.yaml_text import load_yaml
from wsss.tuning.base import holds
from wsss.tuning.search import Outcome, Prepared
from wsss.tuning.storage import Found, find_studies
from wsss.tuning.worker import run_trials


def _tiny() -> ModuleType:
    path = Path(__file__).parents[1] / "tuning" / "conftest.py"
    spec = importlib.util.spec_from_file_location("tiny_project", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small project of tests/tuning as the current folder; `run` has one worker, here."""
    _tiny().make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RANK", "1")  # records nothing
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///unused.db")

    def run(search: Prepared) -> Outcome:
        job = replace(search.job, alone=True)
        return Outcome(run_trials(job, 0), search.wanted, 0)

    monkeypatch.setattr("wsss.tuning.search.run_in_processes", run)
    return tmp_path


def wsss(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["tune", *arguments])
    assert result.exit_code == code, result.output
    return result.output


def found_studies() -> list[Found]:
    values = load_yaml(Path("params.yaml").read_text(), "params.yaml")
    return find_studies("crf", values, Paths(Path()), None)


def test_run_show_apply(project: Path) -> None:
    before = Path("params.yaml").read_text()
    printed = wsss("run", "crf", "--trials", "12", "--set", "max_images=4")
    assert "12 trials scored by evaluate_refined@crf; * what params.yaml has" in printed
    assert "wsss tune apply crf" in printed

    trials = found_studies()[0].trials
    best = trials[0]
    start = next(trial for trial in trials if trial.number == 0)
    assert best.value > start.value
    shown = wsss("show", "crf", "--top", "3")
    assert f"{best.value:.4f}" in shown.splitlines()[1]
    assert any(line.startswith("*") and f"{start.value:.4f}" in line for line in shown.splitlines())
    assert "among the best: " in shown

    assert "wrote" not in wsss("apply", "crf", "--dry-run")
    assert Path("params.yaml").read_text() == before
    printed = wsss("apply", "crf")
    assert f"mean_iou_pets on the selection split: {start.value:.4f} -> {best.value:.4f}" in printed
    assert "`wsss run` runs what changed" in printed, "this project is none of DVC"
    after = Path("params.yaml").read_text()
    assert holds(load_params(), best.user_attrs["settings"])
    tuned = {key.rpartition(".")[2] for key in best.user_attrs["settings"]}
    for line in difflib.ndiff(before.splitlines(), after.splitlines()):
        if line[:2] in ("- ", "+ "):
            assert line[2:].strip().partition(":")[0] in tuned
    for comment in ("# what the project says", "# of everything", "# the one that", "# pixels"):
        assert comment in after
    assert "already has these values" in wsss("apply", "crf")
    assert Path("params.yaml").read_text() == after
    assert wsss("show", "crf", "--top", "1").splitlines()[1].startswith("*")


def test_a_better_study_than_the_one_that_ran_last_is_named_and_can_be_taken(
    project: Path,
) -> None:
    params = Path("params.yaml")  # whose values are tried first; draws differ with the code
    params.write_text(params.read_text().replace("threshold: 0.41237", "threshold: 0.06"))
    wsss("run", "crf", "--trials", "8", "--set", "max_images=4")
    alone = wsss("show", "crf")
    assert "which ran last" in alone and "also" not in alone
    wsss("run", "crf", "--trials", "1", "--set", "max_images=4", "--set", "sigma_xy=[11,13]")
    wsss("run", "crf", "--trials", "1", "--set", "max_images=2")
    wsss("run", "crf", "--trials", "1", "--set", "max_images=4", "--set", "sigma_rgb=[5,7]")
    last, *others = found_studies()
    best = max(others, key=lambda item: len(item.trials))
    assert best.trials[0].value > last.trials[0].value
    (other,) = [item for item in others if not item.compares_with(last)]
    for command in (["show"], ["apply", "--dry-run"]):
        printed = wsss(*command, "crf")
        assert f"This is the study {last.name}, which ran last" in printed
        assert f"{best.name}: best {best.trials[0].value:.4f} of 8 trials, run 20" in printed
        assert f"take it with --study {best.name}" in printed
        (line,) = [line for line in printed.splitlines() if other.name in line]
        assert "max_images" in line and line.endswith("so it was scored on other images")
    assert f"{last.trials[0].value:.4f}" in wsss("show", "crf").splitlines()[1]
    shown = wsss("show", "crf", "--study", best.name)
    assert f"{best.trials[0].value:.4f}" in shown.splitlines()[1]
    assert "A better one" not in shown and f"This is the study {best.name}.\n" in shown
    wsss("apply", "crf", "--study", best.name)
    assert holds(load_params(), best.trials[0].user_attrs["settings"])
    assert best.name in wsss("show", "crf", "--study", "crf-none", code=1)


def test_a_page_with_pictures(project: Path) -> None:
    wsss("run", "crf", "--trials", "3")
    assert "wrote seen/index.html" in wsss("show", "crf", "--out", "seen")
    assert {path.name for path in Path("seen").iterdir()} == {
        "history.png", "index.html", "slices.png"
    }  # fmt: skip
    page = Path("seen/index.html").read_text()
    assert page.count("<img") == 2
    assert "From 10 scored trials on" in page
    assert not {'src="h', "href"} & set(page.split()), "it needs no other file"
    best = found_studies()[0].trials[0]
    assert f"<td>{best.values[0]:.4f}</td>" in page
    wsss("run", "crf", "--trials", "9")
    wsss("show", "crf", "--html", "seen")
    assert Path("seen/importances.png").read_bytes().startswith(b"\x89PNG")
    assert Path("seen/index.html").read_text().count("<img") == 3


def test_a_search_of_ones_own_and_a_worker_that_joins(project: Path) -> None:
    Path("mine.yaml").write_text(
        "sampler: grid\n"
        "space:\n"
        "  refine.chains.crf.0.n_iters: {type: int, low: 1, high: 3}\n"
        "set: {refine.chains.crf.0.sigma_xy: 14}\n"
    )
    assert "3 trials scored by evaluate_refined@crf" in wsss("run", "./mine.yaml")
    assert "0 trials of the study mine-" in wsss("worker", "./mine.yaml")
    printed = wsss("apply", "./mine.yaml", "--trial", "1")
    assert "Trials had other settings than params.yaml" in printed
    assert "refine.chains.crf" in printed


def test_a_torn_journal_is_gone_on_with_and_said(project: Path) -> None:
    wsss("run", "crf", "--trials", "2")
    with Path(".tuning/crf.journal").open("ab") as journal:
        journal.write(b'{"op_code":6,"worker_id":"gone","tri')
    assert "2 trials" in wsss("show", "crf")
    assert "3 trials" in wsss("run", "crf", "--trials", "1")


def test_values_that_were_not_tried(project: Path) -> None:
    wsss("run", "crf", "--trials", "1")
    text = Path("params.yaml").read_text().replace("sigma_xy: 12 ", "sigma_xy: 99 ")
    Path("params.yaml").write_text(text)
    assert "values that were not tried" in wsss("show", "crf")
    printed = " ".join(wsss("apply", "crf").split())
    assert "refine.chains.crf.0.sigma_xy 99 12" in printed
    assert "not tried as params.yaml had it" in printed
    assert "sigma_xy: 12.0  # pixels" in Path("params.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "crv"], "no search is named 'crv'; did you mean 'crf'?"),
        (["show", "crf"], "run `wsss tune run crf`"),
        (["apply", "crf"], "run `wsss tune run crf`"),
        (["show", "crf", "--storage", "none.journal"], "none.journal: there is no such file"),
        (["run", "crf", "--set", "max_imags=3"], "did you mean 'max_images'?"),
        (["run", "crf", "--set", "chain=none"], "refine.chains.none has no 'dense_crf'"),
        (["run", "mine/crf.yaml"], "mine/crf.yaml is not a file"),
        (["worker", "crf"], "run `wsss tune run crf`"),
        (["apply", "crf", "--trial", "3"], "run `wsss tune run crf`"),
        (["run", "crf", "--storage", "nodriver://me:secret@host/x"], "nodriver://***@host/x"),
    ],
)
def test_mistakes(project: Path, arguments: list[str], message: str) -> None:
    printed = wsss(*arguments, code=1)
    assert message in printed
    assert "secret" not in printed
    assert "Traceback" not in printed


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from wsss.cli.app import app\n"
        "found = CliRunner().invoke(app, ['tune', 'run', '--help'])\n"
        "assert found.exit_code == 0 and '--workers' in found.output, found.output\n"
        "print([name for name in ('torch', 'mlflow', 'optuna', 'timm') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
