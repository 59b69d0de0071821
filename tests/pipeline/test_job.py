"""What decides a stage's results decides its key, for every stage that there is."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel

from wsss.artifacts import Paths, read_json
from wsss.config.params import Params, parse_params
from wsss.launch import Part
from wsss.pipeline import Job, Pipeline, Stage, Target, code
from wsss.stages import find_stages
from wsss.tracking import NullTracker

PARAMS = Params()
# of a stage that does nothing unless some setting wants it
WANTED = {"evaluate_refined_per_class": parse_params({"make_pseudo_masks": {"chain": "per_class"}})}
TARGETS = [target.name for target in find_stages().targets(PARAMS)]


def job_of(name: str, root: Path, params: Params | None = None) -> Job:
    pipeline, params = find_stages(), params or WANTED.get(name, PARAMS)
    return Job(pipeline, pipeline.target(name, params), params, Paths(root), NullTracker())


def fill(job: Job) -> None:
    """A file in all that the stage reads."""
    for path in job.target.inputs(job.params):
        place = job.paths.root / path
        if place.suffix:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text("{}")
        else:
            place.mkdir(parents=True, exist_ok=True)
            (place / "file").write_text("as it was")


@pytest.mark.parametrize("name", TARGETS)
def test_the_key_follows_the_contents_of_all_that_is_read(name: str, tmp_path: Path) -> None:
    fill(job_of(name, tmp_path))
    keys = [job_of(name, tmp_path).key]
    for path in job_of(name, tmp_path).inputs:
        place = tmp_path / path
        (place if place.suffix or place.is_file() else place / "file").write_text("[1]")
        keys.append(job_of(name, tmp_path).key)
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", TARGETS)
def test_the_key_is_the_same_in_another_place(name: str, tmp_path: Path) -> None:
    for place in ("a", "b/c"):
        fill(job_of(name, tmp_path / place))
    assert job_of(name, tmp_path / "a").key == job_of(name, tmp_path / "b/c").key


@pytest.mark.parametrize("name", TARGETS)
def test_the_key_follows_each_section_that_is_declared(name: str, tmp_path: Path) -> None:
    for key in find_stages().target(name, PARAMS).settings(PARAMS):
        if (changed := _changed(key, WANTED.get(name, PARAMS))) is not None:
            assert job_of(name, tmp_path, changed).key != job_of(name, tmp_path).key, key


def _changed(key: str, params: Params = PARAMS) -> Params | None:
    """Settings of which one number, truth value or mapping at or below a key is another."""
    tree: Any = params.model_dump(mode="json")
    *sections, last = key.split(".")
    place = tree
    for section in sections:
        place = place[section]
    value = place[last]
    if isinstance(value, str):
        return None  # a choice, which tests of its stage make
    if key == "refine.chains":
        return parse_params(tree | {"refine": {"chains": {"none": [], "crf": [], "pamr": []}}})
    if isinstance(value, dict):
        if not value:
            return None  # entries, which tests of their stages add
        place, last = value, next(k for k, v in value.items() if isinstance(v, int | float | bool))
        value = place[last]
    elif isinstance(value, list):
        return parse_params(tree | {"refine": {"chains": {"none": [{"name": "pamr"}], "crf": []}}})
    if isinstance(value, bool):
        place[last] = not value
    else:
        place[last] = value + 1 if isinstance(value, int) else value / 2
    return parse_params(tree)


@pytest.mark.parametrize("name", [stage.name for stage in find_stages()])
def test_the_key_follows_python_and_native_code(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a copy of the sources, each package that is declared is changed in turn."""
    stage = find_stages()[name]
    package = tmp_path / "src/wsss"
    for part in (*code.COMMON, *stage.code):
        place = package / part
        place = place if place.suffix else place / "module.py"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("1")
    (tmp_path / "csrc").mkdir()
    (tmp_path / "csrc/filter.cpp").write_text("1")
    monkeypatch.setattr(code, "_PACKAGE", package)
    keys = [stage.code_fingerprint()]
    for part in (*code.COMMON, *stage.code):
        place = package / part
        (place if place.suffix else place / "module.py").write_text("2")
        code._first_found.cache_clear()  # as another process
        keys.append(stage.code_fingerprint())
    assert len(set(keys)) == len(keys)
    (tmp_path / "csrc/filter.cpp").write_text("2")
    code._first_found.cache_clear()
    native = "densecrf" in stage.code
    assert (stage.code_fingerprint() != keys[-1]) == native


def test_the_precision_that_is_told_is_that_of_the_tasks_which_did_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login node computes in another one, and only finishes the stage."""
    told: dict[str, str] = {}
    login = job_of("train_classifier", tmp_path)
    monkeypatch.setattr(login, "tracker", SimpleNamespace(tags=told.update))
    task = job_of("train_classifier", tmp_path)
    task.part = Part("models/classifier", "key", "checked", "epochs", {})
    login.fabric("32-true", tmp_path)
    assert told == {"precision": "32-true"}
    task.fabric("bf16-mixed", tmp_path)
    login.fabric("32-true", tmp_path)
    login.fabric("32-true", tmp_path / "other", "other")
    assert told == {"precision": "bf16-mixed", "other_precision": "32-true"}


def entries_job(root: Path, make: Callable[[Job], None], **teachers: Any) -> Job:
    stage = Stage(
        "toy",
        make,
        ("base.rng_seed", "train_teachers"),
        reads=("data/images",),
        makes=("models/toys",),
        entries="train_teachers",
    )
    pipeline = Pipeline([stage, Stage("first", make, makes=("data/images",))])
    params = parse_params({"train_teachers": teachers})
    return Job(pipeline, Target(stage), params, Paths(root), NullTracker())


def test_entries_are_made_again_only_for_a_reason(tmp_path: Path) -> None:
    made: list[str] = []

    def make(name: str, settings: BaseModel, folder: Path) -> dict[str, int]:
        made.append(name)
        (folder / "file").write_text(name)
        return {"length": len(name)}

    def go(**teachers: Any) -> list[str]:
        made.clear()
        entries_job(tmp_path, lambda job: None, **teachers).make_entries(make)
        return list(made)

    images = tmp_path / "data/images"
    images.mkdir(parents=True)
    (images / "a").write_text("1")
    assert go(one={}, three={}) == ["one", "three"]
    assert read_json(tmp_path / "reports/toy.json") == {
        "one": {"length": 3},
        "three": {"length": 5},
    }
    assert go(one={}, three={}) == []
    assert go(one={"epochs": 9}, three={}) == ["one"]
    (images / "a").write_text("2")
    assert go(one={"epochs": 9}, three={}) == ["one", "three"], "changed images are noticed"
    assert go(three={}) == []
    assert sorted(path.name for path in (tmp_path / "models/toys").iterdir()) == ["three"]


def test_what_an_entry_warns_of_is_said_again_where_it_is_up_to_date(tmp_path: Path) -> None:
    made: list[str] = []

    def run(job: Job) -> None:
        def make(name: str, settings: BaseModel, folder: Path) -> dict[str, int]:
            made.append(name)
            if name == "one":
                job.warn("it is bad")
            return {"length": len(name)}

        job.make_entries(make)

    (tmp_path / "data/images").mkdir(parents=True)
    for _ in range(2):
        job = entries_job(tmp_path, run, one={}, three={})
        job.run()
        assert job.warnings == ["one: it is bad"]
        assert read_json(tmp_path / "reports/toy.json") == {
            "one": {"length": 3},
            "three": {"length": 5},
            "warnings": ["one: it is bad"],
        }
    assert made == ["one", "three"]
