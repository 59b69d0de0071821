"""config.local.yaml: what it may say, and what is wrong with it, in words."""

from pathlib import Path

import pytest

from wsss.checks import ConfigError
from wsss.config.params import Params, parse_params
from wsss.launch import NAME, Part, TaskSettings, read_site
from wsss.launch.site import minutes
from wsss.stages import find_stages


@pytest.fixture(autouse=True)
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WSSS_ENGINE", raising=False)


def write(root: Path, text: str) -> None:
    (root / NAME).write_text(text)


def test_without_a_file_all_is_done_in_one_process(tmp_path: Path) -> None:
    assert {read_site(tmp_path).of(stage.name).engine for stage in find_stages()} == {"inline"}


def test_a_stage_differs_in_what_is_said_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        tmp_path,
        "engine: slurm\ngpus: 1\ntime: 4:00:00\nstages:\n  refine_cams: {gpus: 0, tasks: 64}\n"
        "  make_pseudo_masks: {engine: local}\n",
    )
    site = read_site(tmp_path)
    assert site.of("generate_cams") == TaskSettings(engine="slurm", gpus=1)
    assert site.of("refine_cams") == TaskSettings(engine="slurm", tasks=64)
    assert site.of("make_pseudo_masks").engine == "local"
    assert minutes(site.of("generate_cams").time) == 240
    monkeypatch.setenv("WSSS_ENGINE", "inline")
    assert read_site(tmp_path).of("make_pseudo_masks").engine == "inline"
    site.check_names(stage.name for stage in find_stages())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("partitoin: gpu", "the top level has no key 'partitoin'; did you mean 'partition'?"),
        ("engine: slrum", "engine must be 'inline', 'local' or 'slurm', but is 'slrum'"),
        ("tasks: 0", "tasks must be"),
        ("time: soon", "time is 'soon'; it must be hours:minutes:seconds"),
        ("time: 0:01:00", "notice is 120 seconds, which is all of the time limit '0:01:00'"),
        ("- a", "the top level must be keys, but is a list"),
        ("stages: {refine_cams: {cpu: 4}}", "stages.refine_cams: the top level has no key 'cpu'"),
        ("stages: {refine_cams: {memory: 4}}", "stages.refine_cams: memory must be text"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        read_site(tmp_path)
    assert str(error.value).startswith(f"{NAME}: ") and said in str(error.value)


def test_names_that_are_none_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "stages: {refine_cam: {tasks: 2}, study: {engine: local}}")
    with pytest.raises(ConfigError, match=r"stages\.refine_cam is no stage; did you mean 'refine"):
        read_site(tmp_path).check_names(stage.name for stage in find_stages())
    monkeypatch.setenv("WSSS_ENGINE", "slurmy")
    with pytest.raises(ConfigError, match="WSSS_ENGINE is 'slurmy'; did you mean 'slurm'"):
        read_site(tmp_path)


@pytest.mark.parametrize(
    ("settings", "items", "places", "count"),
    [
        ({"engine": "local"}, 100, 4, 4),
        ({"engine": "local", "tasks": 7}, 100, 4, 7),
        ({"engine": "slurm"}, 100, 1, 8),
        ({"engine": "slurm", "tasks": 64}, 5, 1, 5),
        ({"engine": "slurm"}, 0, 1, 1),
    ],
)
def test_there_are_no_more_parts_than_images(
    settings: dict[str, object], items: int, places: int, count: int
) -> None:
    assert TaskSettings.model_validate(settings).parts(items, places) == count


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("items", [0, 1, 6, 20])
def test_parts_together_are_all_and_none_is_twice(count: int, items: int) -> None:
    parts = [Part("data/cams", "", "", "images", {}, at, count) for at in range(count)]
    shares = [list(part.share(range(items))) for part in parts]
    assert sorted(item for share in shares for item in share) == list(range(items))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_settings_come_to_a_task_as_they_are() -> None:
    """They travel as JSON; a key that were not the same would stop every task."""
    root = Path(__file__).parents[2]
    from wsss.config.params import load_params

    for params in (Params(), load_params(root / "params.yaml")):
        assert parse_params(params.model_dump(mode="json")) == params


def test_the_file_that_init_writes_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wsss.cli.cluster import init

    monkeypatch.chdir(tmp_path)
    init(engine="slurm", partition="gpu", gpus=2)
    site = read_site(tmp_path)
    site.check_names(stage.name for stage in find_stages())
    assert site.of("generate_cams").model_dump(exclude_defaults=True) == {
        "engine": "slurm", "tasks": 8, "partition": "gpu", "gpus": 2,
    }  # fmt: skip
    assert site.of("refine_cams").gpus == 0
    with pytest.raises(ValueError, match="is there already"):
        init()
    before = (tmp_path / NAME).read_text()
    with pytest.raises(ConfigError, match="engine must be"):
        init(engine="pbs", force=True)
    assert (tmp_path / NAME).read_text() == before
    # every key that is but a comment there fits, too
    text = before.replace("# ", "").replace("#", "")
    keys = set(TaskSettings.model_fields) - {"requeues", "notice", "nodes", "poll", "python"}
    assert not [key for key in keys if f"{key}:" not in text]
