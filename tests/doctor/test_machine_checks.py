"""Every check of `wsss doctor`, on a made-up machine in which it fails, and one in which it holds.

Where a fix is a command that can be tried, it is tried, and the same check is then content.
"""

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from wsss.cli.app import app
from wsss.commands import init_options
from wsss.config.params import load_params, parse_params
from wsss.doctor import Check, ok_of_all
from wsss.doctor import hardware as hw
from wsss.doctor import packages as pk
from wsss.doctor import project as pj
from wsss.doctor import versions as vs
from wsss.doctor.hardware import GIB, MIB, Disk, Gpus, Torch
from wsss.doctor.tracking import check_storage, check_tracking
from wsss.tracking.server import Answer

ROOT = Path(__file__).parents[2]
H100 = Gpus(("NVIDIA H100",) * 2, "580.65.06")
CUDA = Torch("2.15.0+cu132", "13.2", 2)
PIPELINE = vs.read_requirements(ROOT)[1]["pipeline"]
GOOD = {item.name: re.findall(r"[\d.]+", item.bounds)[0] for item in PIPELINE}


def load_fails(name: str | None, text: str) -> Callable[[], object]:
    def load() -> object:
        raise ImportError(text, name=name)

    return load


HERE, BUSY = Answer(200), "busy"


def tracked(uri: str, answer: Answer = HERE, database: str = "") -> Check:
    def look() -> bool:
        if database and database != BUSY:
            raise ConnectionError(database)
        return database != BUSY

    return check_tracking(uri, installed=True, look_at_database=look, ask=lambda _: answer)


def only(checks: list[Check]) -> Check:
    (found,) = [check for check in checks if check.level != "ok"]
    return found


def packages(**changed: str | None) -> Check:
    own = {**GOOD, **{key.replace("_", "-"): value for key, value in changed.items()}}
    installed = {name: version for name, version in own.items() if version is not None}
    return only(pk.check_packages("pipeline", PIPELINE, installed, needed=True))


LINKS = pj.DvcConfig(Path("cache"), link_types=("reflink", "copy"))
TWO = pj.DvcConfig(Path("cache"), {"b": "s3://b", "a": "/a"})

BAD: dict[str, tuple[Callable[[], Any], str, str]] = {
    "an old Python": (lambda: pk.check_python("3.10.1", ">=3.11,<3.14"), "fault", "python3.11 -m"),
    "a new Python": (lambda: pk.check_python("3.14.0", ">=3.11,<3.14"), "fault", "3.11"),
    "other code": (lambda: pk.check_source(ROOT, Path("/usr/wsss")), "fault", "pip install -e"),
    "no NumPy": (
        lambda: pk.check_native(load_fails("numpy", "No module named 'numpy'"), True),
        "fault",
        "numpy>=2.2",
    ),
    "a module of another system": (
        lambda: pk.check_native(load_fails(None, "GLIBC_2.38 not found"), True),
        "fault",
        "pip install --force-reinstall",
    ),
    "no module, no compiler": (
        lambda: pk.check_native(load_fails("wsss.densecrf._native", "no module"), False),
        "fault",
        "apt-get install g++",
    ),
    "no compiler": (lambda: hw.check_compiler({}, needed=True), "fault", "apt-get install g++"),
    "no timm": (lambda: packages(timm=None), "fault", "pip install 'wsss[pipeline]'"),
    "no DVC": (lambda: packages(dvc=None), "warning", "pip install 'dvc>=3.60,<4'"),
    "an old NumPy": (lambda: packages(scipy="1.13"), "warning", "pip install 'scipy>=1.14,<2'"),
    "the torch that bites": (lambda: packages(torch="2.13.0+cpu"), "fault", "!=2.13.0"),
    "torch of another torchvision": (
        lambda: pk.check_torchvision("2.11.0", "0.28.0", ["torch (==2.13.1)"]),
        "fault",
        "pip install 'torch==2.13.1'",
    ),
    "no CLIP": (
        lambda: only(
            pk.check_extras({"clip": "a setting"}, vs.read_requirements(ROOT)[1], {})
        ),
        "fault",
        "pip install 'open-clip-torch>=3.0,<4'",
    ),
    "torch for CPUs": (
        lambda: hw.check_gpus(H100, Torch("2.15.0+cpu")),
        "warning",
        "pip uninstall -y torch",
    ),
    "torch for CPUs where a GPU is asked for": (
        lambda: hw.check_gpus(H100, Torch("2.15.0+cpu"), "cuda"),
        "fault",
        "pip uninstall -y torch",
    ),
    "no torch": (lambda: hw.check_gpus(H100, Torch()), "warning", "pip install"),
    "no GPU where one is asked for": (
        lambda: hw.check_gpus(Gpus(), Torch("2.15.0+cpu"), "cuda"),
        "fault",
        "wsss set machine.accelerator=auto",
    ),
    "a Mac's GPU elsewhere": (
        lambda: hw.check_gpus(H100, CUDA, "mps"),
        "fault",
        "wsss set machine.accelerator=auto",
    ),
    "a Mac with one GPU": (
        lambda: hw.check_gpus(Gpus(apple=True), Torch("2.15.0"), "auto", 2),
        "fault",
        "wsss set machine.devices=1",
    ),
    "an old driver": (
        lambda: hw.check_gpus(Gpus(("NVIDIA T4",), "535.104.05"), CUDA),
        "warning",
        "update the driver",
    ),
    "a GPU that torch does not see": (
        lambda: hw.check_gpus(H100, Torch("2.15.0", "13.2", 0, "CUDA unknown error")),
        "warning",
        "nvidia-smi",
    ),
    "fewer GPUs than processes": (
        lambda: hw.check_gpus(H100, CUDA, "auto", 4),
        "fault",
        "wsss set machine.devices=2",
    ),
    "a GPU that lies idle": (
        lambda: hw.check_gpus(H100, CUDA, "cpu"),
        "warning",
        "wsss set machine.accelerator=auto",
    ),
    "a full disk": (lambda: hw.check_disk(Disk("data", 10 * MIB)), "fault", "dvc gc"),
    "a disk that fills": (lambda: hw.check_disk(Disk("data", 2 * GIB)), "warning", "dvc gc"),
    "a disk of others": (
        lambda: hw.check_disk(Disk("data", 99 * GIB, None, "sudo chown -R $(id -u) /data")),
        "fault",
        "chown",
    ),
    "a disk without inodes": (
        lambda: hw.check_disk(Disk("data", 99 * GIB, 500)),
        "warning",
        "prepare_data.pack_above=0",
    ),
    "the shared memory of a container": (
        lambda: hw.check_shared_memory(64 * MIB, 4, 16, 224),
        "warning",
        "wsss set machine.num_workers=0",
    ),
    "no memory": (lambda: hw.check_memory(GIB // 3), "fault", "train_classifier.batch_size"),
    "a small container": (
        lambda: hw.check_memory(64 * GIB, 2 * GIB, 8 * GIB),
        "warning",
        "batch_size",
    ),
    "a container's share of the cores": (
        lambda: only(hw.check_cores(32, 32, 2.0, {})),
        "warning",
        "export OMP_NUM_THREADS=2",
    ),
    "more threads than cores": (
        lambda: only(hw.check_cores(2, 2, None, {"OMP_NUM_THREADS": "16"})),
        "warning",
        "export OMP_NUM_THREADS=2",
    ),
    "one thread": (
        lambda: only(hw.check_cores(16, 16, None, {"OMP_NUM_THREADS": "1"})),
        "warning",
        "unset OMP_NUM_THREADS",
    ),
    "threads that are no number": (
        lambda: only(hw.check_cores(2, 2, None, {"OMP_NUM_THREADS": "many"})),
        "warning",
        "unset OMP_NUM_THREADS",
    ),
    "no git": (
        lambda: pj.check_git(None, repository=False, project=True, without=False),
        "warning",
        "core.no_scm true",
    ),
    "no repository": (
        lambda: pj.check_git("2.39", repository=False, project=True, without=False),
        "warning",
        "git init",
    ),
    "DVC is not installed": (
        lambda: pj.check_dvc(None, initialised=True, options=()),
        "warning",
        "pip install 'dvc",
    ),
    "a project without DVC": (
        lambda: pj.check_dvc("3.67", initialised=False, options=["--no-scm"]),
        "warning",
        "dvc init --no-scm",
    ),
    "remotes without a default": (lambda: pj.check_remote(TWO), "warning", "dvc remote default a"),
    "results lie there twice": (
        lambda: pj.check_cache(LINKS, same_disk=True),
        "warning",
        "cache.type reflink,hardlink,copy",
    ),
    "a cache on another disk": (
        lambda: pj.check_cache(LINKS, same_disk=False),
        "warning",
        "cache.type reflink,symlink,copy",
    ),
    "settings that are wrong": (
        lambda: pj.check_settings(lambda: parse_params({"refin": {}}))[0],
        "fault",
        "change that line",
    ),
    "no pydantic": (
        lambda: pj.check_settings(
            lambda: (_ for _ in ()).throw(ModuleNotFoundError("no", name="pydantic"))
        )[0],
        "warning",
        "pip install 'wsss[pipeline]'",
    ),
    "stages of before": (lambda: pj.check_dvc_yaml("old", lambda: "new"), "fault", "wsss dvc"),
    "no stages": (lambda: pj.check_dvc_yaml(None, lambda: "new"), "warning", "wsss dvc"),
    "no Slurm": (
        lambda: pj.check_slurm(["inline", "slurm"], [], has_site=True),
        "fault",
        "engine: local",
    ),
    "runs in a folder": (lambda: tracked("file:./mlruns"), "fault", "unset MLFLOW_TRACKING_URI"),
    "runs in a path": (lambda: tracked("mlruns"), "fault", "unset MLFLOW_TRACKING_URI"),
    "a locked database": (
        lambda: tracked("sqlite:////a/mlflow.db", database="it is locked\nSee who.\nmore"),
        "fault",
        "See who.",
    ),
    "a database in use": (
        lambda: tracked("sqlite:////a/mlflow.db", database=BUSY),
        "warning",
        "look again",
    ),
    "trials without a driver": (
        lambda: check_storage("postgresql://me:secret@host/trials"),
        "fault",
        "postgresql+psycopg://",
    ),
    "a server that is away": (
        lambda: tracked("http://nowhere:5000", Answer(0, "refused")),
        "fault",
        "start the server",
    ),
    "a server with a login": (
        lambda: tracked("http://me:secret@host:5000", Answer(401)),
        "fault",
        "MLFLOW_TRACKING_USERNAME",
    ),
    "a server that knows other hosts": (
        lambda: tracked("http://mlflow:5000", Answer(403, "Invalid Host header")),
        "fault",
        "--allowed-hosts 'mlflow:5000'",
    ),
    "a server that is none of MLflow's": (
        lambda: tracked("http://host:80", Answer(502)),
        "fault",
        "right port",
    ),
    "a database without a driver": (
        lambda: tracked("postgresql://me:secret@host/runs"),
        "fault",
        "postgresql+psycopg://",
    ),
    "a database that is away": (
        lambda: tracked("postgresql+psycopg://me:secret@127.0.0.1:1/runs"),
        "fault",
        "start the database",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_machine_in_which_it_is_wrong(name: str) -> None:
    make, level, fix = BAD[name]
    found = make()
    assert (found.level, fix in found.fix) == (level, True), found
    assert found.text and "\n" not in found.line()
    assert "secret" not in found.line()
    assert ok_of_all([found]) == (level == "warning")


def test_a_machine_on_which_all_is_well() -> None:
    requirements = vs.read_requirements(ROOT)[1]
    checks = [
        pk.check_python("3.12.1", ">=3.11,<3.14"),
        pk.check_source(ROOT, ROOT / "src/wsss"),
        pk.check_native(lambda: None, False),
        hw.check_compiler({"g++": "/usr/bin/g++"}, needed=True),
        hw.check_compiler({}, needed=False),
        *pk.check_packages("pipeline", PIPELINE, GOOD, needed=True),
        pk.check_torchvision("2.15.0+cu132", "0.29", ["torch (>=2.14.0)"]),
        *pk.check_extras({"clip": "x"}, requirements, {"open-clip-torch": "3.1"}),
        hw.check_gpus(H100, CUDA, "cuda", 2),
        hw.check_gpus(Gpus(), Torch("2.15.0")),
        hw.check_gpus(Gpus(apple=True), Torch("2.15.0"), "mps"),
        hw.check_disk(Disk("data", 99 * GIB, 10**7)),
        hw.check_shared_memory(24 * GIB, 8, 16, 320),
        hw.check_shared_memory(0, 0, 16, 320),
        hw.check_shared_memory(None, 8, 16, 320),
        hw.check_memory(16 * GIB, None),
        hw.check_memory(None, None),
        *hw.check_cores(8, 16, None, {}),
        *hw.check_cores(8, 8, 2.0, {"OMP_NUM_THREADS": "2"}),
        pj.check_git("2.39", repository=True, project=True, without=False),
        pj.check_git(None, repository=False, project=True, without=True),
        pj.check_dvc("3.67", initialised=True, options=()),
        pj.check_remote(pj.DvcConfig(Path("c"), {"a": "s3://x"}, "a")),
        pj.check_cache(pj.DvcConfig(Path("c"), link_types=("hardlink",)), same_disk=True),
        pj.check_cache(pj.DvcConfig(Path("c"), link_types=("symlink",)), same_disk=False),
        pj.check_settings(lambda: parse_params({}))[0],
        pj.check_dvc_yaml("same", lambda: "same"),
        pj.check_slurm(["slurm"], ["sbatch"], has_site=True),
        tracked("sqlite:////a/mlflow.db"),
        tracked("http://host:5000", Answer(404)),
    ]
    assert check_storage("trials.journal") is None and check_storage("") is None
    assert [check for check in checks if check is None or check.level != "ok"] == []


@pytest.mark.parametrize("changed", ["", "stages/run.py", "csrc/filter.cpp"])
def test_the_same_code_in_another_place_is_the_checkouts(tmp_path: Path, changed: str) -> None:
    """As in the image of workers, where a wheel is installed beside the checkout."""
    root, package = tmp_path / "checkout", tmp_path / "lib/python/site-packages/wsss"
    for name, file in {
        "stages/run.py": root / "src/wsss/stages/run.py",
        "csrc/filter.cpp": root / "csrc/filter.cpp",
    }.items():
        for place in (file, package / name):
            place.parent.mkdir(parents=True)
            place.write_text("the same" + " but for this" * (name == changed and place != file))
    level = "fault" if changed else "ok"
    assert pk.check_source(root, package).level == level


# What follows what is said


def settings_of(folder: Path) -> Any:
    return load_params(folder / "params.yaml")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the settings of this one."""
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    text = text.replace("accelerator: auto", "accelerator: cuda").replace(
        "devices: 1", "devices: 4"
    )
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "src/wsss/stages").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def followed(check: Check) -> None:
    """Run the wsss command that a check names, to the letter."""
    command = check.fix.partition(" (")[0]
    assert command.startswith("wsss ")
    result = CliRunner().invoke(app, shlex.split(command)[1:])
    assert result.exit_code == 0, result.output


def test_settings_are_set_as_it_is_said(project: Path) -> None:
    followed(hw.check_gpus(H100, CUDA, "auto", settings_of(project).machine.devices))
    machine = settings_of(project).machine
    assert hw.check_gpus(H100, CUDA, "auto", machine.devices).level == "ok"
    followed(hw.check_gpus(Gpus(), Torch("2.15"), machine.accelerator))
    assert (
        hw.check_gpus(Gpus(), Torch("2.15"), settings_of(project).machine.accelerator).level == "ok"
    )
    followed(hw.check_shared_memory(MIB, 4, 16, 224))
    workers = settings_of(project).machine.num_workers
    assert hw.check_shared_memory(MIB, workers, 16, 224).level == "ok"
    followed(hw.check_disk(Disk("data", 99 * GIB, 500)))
    assert settings_of(project).prepare_data.pack_above == 0


def test_dvc_yaml_is_written_as_it_is_said(project: Path) -> None:
    from wsss.pipeline.dvc import dvc_text
    from wsss.stages import find_stages

    followed(pj.check_dvc_yaml(None, lambda: ""))
    text = (project / "dvc.yaml").read_text(encoding="utf-8")
    assert pj.check_dvc_yaml(text, lambda: dvc_text(find_stages())).level == "ok"


@pytest.mark.parametrize("git", ["here", "above", "nowhere"])
def test_dvc_is_begun_wherever_git_is(
    project: Path, monkeypatch: pytest.MonkeyPatch, git: str
) -> None:
    from dvc.cli import main

    root = project / "below"
    root.mkdir()
    if git != "nowhere":
        there = root if git == "here" else project
        subprocess.run(["git", "init", "-q", str(there)], check=True)
    monkeypatch.chdir(root)
    check = pj.check_dvc("3.67", initialised=False, options=init_options(root))
    assert main([*shlex.split(check.fix)[1:], "--quiet"]) == 0
    assert (root / ".dvc").is_dir()


def test_dvc_is_set_up_as_it_is_said(project: Path) -> None:
    from dvc.cli import main

    def run(check: Check) -> None:
        assert main(["--quiet", *shlex.split(check.fix)[1:]][1:]) == 0

    def config() -> pj.DvcConfig:
        return pj.read_dvc_config(project, {"HOME": str(project)})

    run(pj.check_dvc("3.67", initialised=False, options=["--no-scm"]))
    assert (project / ".dvc").is_dir() and config().no_scm
    for same_disk in (True, False):
        before = pj.check_cache(config(), same_disk=same_disk)
        assert before.level == "warning"
        run(before)
        assert pj.check_cache(config(), same_disk=same_disk).level == "ok"
    assert main(["remote", "add", "near", "/mnt/near"]) == 0
    assert main(["remote", "add", "far", "s3://bucket/far"]) == 0
    run(pj.check_remote(config()))
    assert pj.check_remote(config()).text == "far: s3://bucket/far"
    assert pj.wanted_extras({}, remotes=config().remotes.values()) == {
        "s3": "the DVC remote s3://bucket/far"
    }
    assert config().cache == project / ".dvc/cache"
    assert main(["cache", "dir", "../elsewhere"]) == 0
    assert config().cache.resolve() == project.parent / "elsewhere"


def test_a_repository_is_made_as_it_is_said(tmp_path: Path) -> None:
    check = pj.check_git("2.39", repository=False, project=True, without=False)
    subprocess.run(shlex.split(check.fix), cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / ".git").exists()


def test_threads_are_set_as_it_is_said() -> None:
    for quota, environ in ((2.0, {}), (None, {"OMP_NUM_THREADS": "64"})):
        check = only(hw.check_cores(4, 4, quota, environ))
        name, _, value = check.fix.removeprefix("export ").partition("=")
        assert all(item.level == "ok" for item in hw.check_cores(4, 4, quota, {name: value}))


def test_what_is_to_be_installed_fits() -> None:
    """Every command of pip names requirements that are read as they are meant."""
    for make, _, _ in BAD.values():
        for text in re.findall(r"'([^']+)'", make().fix if "pip install" in make().fix else ""):
            wanted = vs.parse_requirement(text)
            assert wanted is not None, text
            if wanted.name in GOOD and "==" not in wanted.bounds:
                assert vs.fits(GOOD[wanted.name], wanted.bounds), text


# What names an extra


def test_the_extras_of_settings_are_found(tmp_path: Path) -> None:
    values = {
        "generate_cams": {"method": {"name": "clip_es"}},
        "make_proposals": {"mine": {"name": "sam2", "checkpoint": "x"}},
        "prepare_data": {"dataset": {"name": "rise", "root": str(tmp_path), "clips": "videos"}},
    }
    settings = parse_params(values).model_dump(mode="json")
    assert set(pj.wanted_extras(settings)) == {"clip", "sam"}
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/a.mp4").touch()
    environ = {"WSSS_TUNE_STORAGE": "postgresql+psycopg://me:secret@host/x"}
    found = pj.wanted_extras(settings, ["slurm"], ["s3://bucket"], environ)
    assert set(found) == {"clip", "sam", "video", "slurm", "s3", "postgres"}
    assert set(found) <= set(vs.read_requirements(ROOT)[1])
    assert "secret" not in str(found)
    assert pj.wanted_extras(parse_params({}).model_dump(mode="json")) == {}


def test_every_method_that_needs_an_extra_is_known() -> None:
    """A module that asks for transformers or CLIP stands in the table, by its method's name."""
    found = set()
    for file in sorted((ROOT / "src/wsss").glob("*/*.py")):
        text = file.read_text(encoding="utf-8")
        names = re.findall(r'name: Literal\["(\w+)"\]', text)
        if names and ("read_pretrained" in text or "ClipSettings" in text):
            found |= set(names)
    assert found == set(pj.EXTRAS)


# Versions


@pytest.mark.parametrize(
    ("version", "bounds", "fit"),
    [
        ("2.11", ">=2.11.0", True),
        ("2.10.9", ">=2.11,<3", False),
        ("3.0.0", ">=2.11,<3", False),
        ("1.0", "==1.0", True),
        ("1.0.1", "==1.0", False),
        ("5.3.1", "!=5.3.*,>=5", False),
        ("0.30.1", "~=0.29", True),
        ("26.3", "", True),
    ],
)
def test_versions_are_compared_as_pip_compares_them(version: str, bounds: str, fit: bool) -> None:
    specifiers = pytest.importorskip("packaging.specifiers")
    assert specifiers.SpecifierSet(bounds).contains(version) == fit
    assert vs.fits(version, bounds) == fit


def test_requirements_are_those_of_the_checkout_or_of_what_is_installed(tmp_path: Path) -> None:
    python, own = vs.read_requirements(ROOT)
    other_python, installed = vs.read_requirements(tmp_path)
    assert {item.bounds for item in own[""]} == {">=2.2,<3"}
    assert sorted(other_python.split(",")) == sorted(python.split(","))
    assert {item.name for item in installed["pipeline"]} == {item.name for item in PIPELINE}
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'mine'\n")
    assert vs.read_requirements(tmp_path)[1].keys() == installed.keys()
