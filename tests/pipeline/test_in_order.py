"""`wsss run`: stages in order, each once, until settings, inputs or results are others."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from wsss.config.params import Params, parse_params
from wsss.launch import Site
from wsss.pipeline import Job, Pipeline, Stage, code
from wsss.pipeline.execute import Known
from wsss.pipeline.in_order import commit, run_in_order, wanted_targets

RAN: list[str] = []


def first(job: Job) -> None:
    RAN.append(job.target.name)
    with job.staging() as staging:
        (staging.path / "made").write_text(str(job.params.base.rng_seed))
    job.report({})


def chain(job: Job) -> None:
    RAN.append(job.target.name)
    with job.staging() as staging:
        made = (job.paths.root / "data/first/made").read_text()
        (staging.path / "made").write_text(f"{job.entry} {made}")
    job.report({})


SETTINGS = ("base.rng_seed", "generate_cams.flip")
PIPELINE = Pipeline(
    [
        Stage(
            "first", first, settings=("base.rng_seed", "generate_cams.flip"), makes=("data/first",)
        ),
        Stage(
            "chain",
            chain,
            settings=("refine.chains.{entry}",),
            reads=("data/first",),
            makes=("data/chain/{entry}",),
            foreach="refine.chains",
        ),
        Stage(
            "last",
            lambda job: RAN.append(job.target.name) or job.report({}),
            settings=("evaluate",),
            reads=("data/chain/{make_pseudo_masks.chain}",),
        ),
    ]
)
ALL = ["first", "chain@crf", "chain@none", "last"]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("WSSS_ENGINE", "LOCAL_RANK", "RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("wsss.tracking.has_mlflow", lambda: False)
    RAN.clear()
    return tmp_path


def run(
    params: Params | None = None, names: Sequence[str] = (), *, force: bool = False
) -> list[str]:
    """Run, and give what ran, of itself and as it is told."""
    params = params or Params()
    targets = wanted_targets(PIPELINE, params, names)
    RAN.clear()
    told = run_in_order(PIPELINE, targets, params, Site(), Known(), force=force)
    assert told == RAN
    return told


def test_each_runs_once_and_in_order() -> None:
    ran = run()
    assert sorted(ran) == sorted(ALL) and ran.index("first") == 0 and ran[-1] == "last"
    assert run() == []
    assert run(force=True) == ran


def test_another_setting_runs_what_depends_on_it(project: Path) -> None:
    run()
    changed = parse_params({"base": {"rng_seed": 7}})
    assert sorted(run(changed)) == sorted(ALL)
    assert (project / "data/chain/crf/made").read_text() == "crf 7"
    assert run(changed) == []
    finer = parse_params({"base": {"rng_seed": 7}, "evaluate": {"threshold_step": 0.1}})
    assert run(finer) == ["last"]


def test_a_result_that_is_gone_or_was_changed_is_made_again(project: Path) -> None:
    run()
    (project / "data/chain/crf/made").write_text("edited")
    assert run() == ["chain@crf"], "and what follows has read what is there again"
    (project / "reports/last.json").unlink()
    assert run() == ["last"]


def test_what_dvc_has_made_is_not_made_again(project: Path) -> None:
    """Unless something before it has run since DVC was asked."""
    run()
    for note in (project / ".stages").iterdir():
        note.unlink()
    targets = wanted_targets(PIPELINE, Params(), ())

    def ran(*made: str) -> list[str]:
        return run_in_order(PIPELINE, targets, Params(), Site(), Known(), made=lambda: made)

    assert sorted(ran("chain@crf", "last")) == sorted(ALL)
    for note in (project / ".stages").iterdir():
        note.unlink()
    assert ran("first", "chain@crf") == ["chain@none", "last"]
    assert ran() == []
    (project / "data/chain/none/made").write_text("edited")
    assert ran() == ["chain@none"]


def test_results_are_taken_for_those_of_what_changed(project: Path) -> None:
    """As when files are packed, which changes them all and what they say in nothing."""
    run()
    changed = parse_params({"base": {"rng_seed": 7}})
    (project / "data/chain/crf/made").write_text("edited")
    (project / "reports/last.json").unlink()
    targets = wanted_targets(PIPELINE, changed, ())
    there, missing = commit(PIPELINE, targets, changed, project)
    assert (sorted(there), missing) == (["chain@crf", "chain@none", "first"], ["last"])
    assert run(changed) == ["last"]
    assert run() == ["first"], "which makes what was there"


def test_a_stage_runs_with_all_that_it_needs() -> None:
    assert run(names=["last"]) == ["first", "chain@crf", "last"]
    assert run(names=["chain"]) == ["chain@none"]
    with pytest.raises(ValueError, match="no stage is named 'lasst'; did you mean 'last'"):
        run(names=["lasst"])


@pytest.mark.parametrize("edited", ["src/wsss/cam/map.py", "data/images/one"])
def test_what_is_edited_while_stages_run_is_not_taken_for_what_they_ran_on(
    project: Path, monkeypatch: pytest.MonkeyPatch, edited: str
) -> None:
    """Code that is imported stays as it was, also for the stages that come later."""
    monkeypatch.setattr(code, "_PACKAGE", project / "src/wsss")
    (project / edited).parent.mkdir(parents=True)
    (project / edited).write_text("before")

    def editing(job: Job) -> None:
        first(job)
        (project / edited).write_text("after")

    stages = [
        Stage(
            name,
            run,
            settings=("base.rng_seed", "generate_cams.flip"),
            reads=("data/images",) if "data" in edited else (),
            makes=(f"data/{name}",),
            code=("cam",),
        )
        for name, run in (("edits", editing), ("later", first))
    ]
    pipeline = Pipeline(stages)

    def ran() -> list[str]:
        code._first_found.cache_clear()  # as another process
        targets = wanted_targets(pipeline, Params(), ())
        return run_in_order(pipeline, targets, Params(), Site(), Known())

    assert ran() == ["edits", "later"]
    assert ran() == (["edits"] if "data" in edited else ["edits", "later"])
    assert ran() == []


def test_one_that_stops_is_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    run()

    def stops(job: Job) -> None:
        raise ValueError("no")

    broken = Pipeline(
        [
            Stage(
                "first",
                stops,
                settings=("base.rng_seed", "generate_cams.flip"),
                makes=("data/first",),
            )
        ]
    )
    targets = wanted_targets(broken, Params(), ())
    with pytest.raises(ValueError, match="no"):
        run_in_order(broken, targets, Params(), Site(), Known(), force=True)
    assert "first" in run()
