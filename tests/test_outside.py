"""Methods of installed distributions are names like any other, and their code counts as any other.

A distribution is what pip leaves: modules beside a dist-info folder on the path.
"""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from wsss.artifacts import (
    Manifest,
    Paths,
    Sample,
    ScoreMap,
    read_score_map,
    write_label_png,
    write_score_map,
)
from wsss.outside import code_of

REFINER = """
    from dataclasses import replace
    from typing import Literal

    from acme.strength import FACTOR
    from wsss.artifacts import ScoreMap
    from wsss.refine import Context, OneByOne
    from wsss.registry import REFINERS
    from wsss.settings import Named

    class HalvedSettings(Named):
        name: Literal["acme_halved"] = "acme_halved"
        times: int = 1

    @REFINERS.register(HalvedSettings)
    class Halved(OneByOne):
        def __init__(self, settings, context):
            self.times = settings.times

        def refined(self, image, score_map):
            return replace(score_map, scores=score_map.scores * FACTOR**self.times)
"""
NETWORK = """
    from typing import Literal

    from wsss.registry import NETWORKS
    from wsss.segment.networks import NetworkSettings

    class NetSettings(NetworkSettings):
        name: Literal["acme_net"] = "acme_net"

    @NETWORKS.register(NetSettings)
    def make_net(settings, plan): ...
"""
TAKEN = """
    from typing import Literal

    from wsss.registry import METHODS, REFINERS
    from wsss.settings import Named

    class ThirdSettings(Named):
        name: Literal["acme_third"] = "acme_third"

    class PamrSettings(Named):
        name: Literal["pamr"] = "pamr"

    REFINERS.register(ThirdSettings)(object)
    REFINERS.register(PamrSettings)(object)
"""


def install(site: Path, name: str, **modules: str) -> None:
    """Write a distribution of the package `name`, each of whose modules is an entry point.

    A module whose name begins with an underscore is none.
    """
    package = site / name
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    for module, text in modules.items():
        (package / f"{module.strip('_')}.py").write_text(textwrap.dedent(text))
    info = site / f"{name}_methods-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-methods\nVersion: 1.2\n")
    lines = [f"{module} = {name}.{module}" for module in modules if module[0] != "_"]
    (info / "entry_points.txt").write_text("[wsss.methods]\n" + "\n".join(lines) + "\n")


def run(site: Path, code: str, cwd: Path, *, ok: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own that finds what is installed in `site`."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    return done


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    install(folder, "acme", refiner=REFINER, network=NETWORK, _strength="FACTOR = 0.5")
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What refine_cams reads: two images, their CAMs, and settings with a method from outside."""
    root = tmp_path / "project"
    paths, samples = Paths(root), []
    rng = np.random.default_rng(0)
    for name in "ab":
        image = rng.integers(0, 256, (16, 20, 3), dtype=np.uint8)
        paths.images.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(paths.images / f"{name}.png")
        scores = rng.random((1, 4, 5), np.float32)
        found = ScoreMap(np.array([1], np.uint8), scores, (16, 20), np.ones(1, np.float32))
        write_score_map(paths.cams / f"{name}.npz", found)
        samples.append(Sample(name, f"{name}.png", (16, 20), (1,)))
        write_label_png(paths.masks / f"{name}.png", np.zeros((16, 20), np.uint8))
    splits = {"train": (), "selection": (), "val": tuple(samples)}
    Manifest(("cat",), splits).write(paths.splits)
    params = {
        "machine": {"accelerator": "cpu", "num_workers": 0},
        "refine": {"chains": {"mine": [{"name": "acme_halved", "times": 2}]}},
        "make_pseudo_masks": {"chain": "mine"},
        "train_segmenter": {"model": {"arch": "acme_net"}},
    }
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    return root


STAGE = """
    from pathlib import Path
    from wsss.artifacts import Paths
    from wsss.config.params import load_params
    from wsss.pipeline import Job
    from wsss.stages import find_stages, run_stage
    from wsss.tracking import NullTracker

    params, paths = load_params(), Paths(Path())
    pipeline = find_stages()
    names = ("refine_cams@mine", "train_segmenter", "predict_masks")
    targets = [pipeline.target(name, params) for name in names]
    jobs = [Job(pipeline, target, params, paths, NullTracker()) for target in targets]
    print(*[job.key for job in jobs])
"""


def test_a_stage_runs_a_refiner_from_outside_and_sees_when_its_code_changes(
    site: Path, project: Path
) -> None:
    before = run(site, STAGE + '    run_stage("refine_cams@mine", params, paths)\n', project).stdout
    for name in "ab":
        cam = read_score_map(project / f"data/cams/{name}.npz").scores
        refined = read_score_map(project / f"data/refined/mine/{name}.npz").scores
        np.testing.assert_allclose(refined, cam / 4, atol=1 / 500)
    (site / "acme/strength.py").write_text("FACTOR = 0.25")  # which the refiner imports
    after = run(site, STAGE, project).stdout
    changed = [old != new for old, new in zip(before.split()[-3:], after.split(), strict=True)]
    assert changed == [True, True, False]


def test_a_notebook_has_it_too(site: Path, tmp_path: Path) -> None:
    script = """
        import numpy as np
        import wsss

        image = np.zeros((4, 6, 3), np.uint8)
        maps = wsss.Maps.of(image, {"cat": np.full((4, 6), 0.8)})
        both = ["acme_halved", {"name": "acme_halved", "times": 2}]
        print(wsss.refine(image, maps, both)["cat"].max())
    """
    assert float(run(site, script, tmp_path).stdout) == pytest.approx(0.1)


def test_dvc_sees_the_same(site: Path, project: Path) -> None:
    def listed() -> dict[str, str]:
        run(site, "from wsss.sources import write_listing\nwrite_listing()", project)
        files = (project / "data/sources").iterdir()
        return {file.stem: file.read_text() for file in files}

    before = listed()
    assert list(json.loads(before["refine"])) == ["refine.chains.mine.0.name"]
    assert list(json.loads(before["train_segmenter"])) == ["train_segmenter.model.arch"]
    (site / "acme/strength.py").write_text("FACTOR = 0.25")
    after = listed()
    assert {name for name in after if after[name] != before[name]} == {"refine", "train_segmenter"}
    done = subprocess.run(
        [sys.executable, "-c", "from wsss.sources import write_listing; write_listing()"],
        cwd=project,
        check=False,
    )
    assert done.returncode == 0  # where it is not installed, results stay as they are
    assert (project / "data/sources/refine.json").read_text() == after["refine"]


def test_it_is_a_name_like_any_other(site: Path, project: Path) -> None:
    text = (project / "params.yaml").read_text().replace("acme_halved", "acme_halve")
    (project / "params.yaml").write_text(text)
    script = """
        from wsss.project.files import schema_text
        from wsss.config.params import load_params
        from wsss.registry import NETWORKS, REFINERS

        print("acme_halved" in REFINERS.names(), "acme_net" in NETWORKS.names())
        print('"acme_halved"' in schema_text())
        try:
            load_params()
        except ValueError as error:
            print(error)
    """
    done = run(site, script, project)
    assert done.stdout.split("\n")[:3] == [
        "True True",
        "True",
        "params.yaml: refine.chains.mine.0.name is 'acme_halve'; did you mean 'acme_halved'?",
    ]
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("import no_such_module_anywhere", "No module named 'no_such_module_anywhere'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        (TAKEN, "two entries of wsss.refine are named 'pamr'; rename one"),
    ],
)
def test_a_broken_one_is_named_and_breaks_nothing_else(
    site: Path, project: Path, module: str, reason: str
) -> None:
    install(site, "zeta", wrong=module)
    script = """
        import sys
        from wsss.config.params import load_params, parse_params
        from wsss.registry import REFINERS

        assert "acme_halved" in REFINERS.names()
        assert "acme_third" not in REFINERS.names()  # half of a module is not taken
        assert REFINERS.settings("pamr").__module__ == "wsss.refine.pamr"
        load_params()
        for wanted in (
            lambda: REFINERS.settings("acme_third"),
            lambda: parse_params({"refine": {"chains": {"x": [{"name": "acme_third"}]}}}),
        ):
            try:
                wanted()
            except ValueError as error:
                print(error)
    """
    done = run(site, script, project)
    said = "the methods of zeta-methods 1.2 are missing, as its module zeta.wrong cannot be used: "
    assert done.stderr.count(said) == 1 and reason in done.stderr
    for line in done.stdout.strip().split("\n"):
        assert "'acme_third'" in line and said in line and reason in line


def test_a_name_that_is_taken_is_left_to_this_package_in_any_order(
    site: Path, project: Path
) -> None:
    """`wsss.methods` are read after refiners here, and after what is outside."""
    module = TAKEN.replace("pamr", "cam").replace("REFINERS", "METHODS")
    install(site, "zeta", wrong=module)
    script = """
        from wsss.registry import METHODS, REFINERS
        REFINERS.names()
        print(METHODS.settings("cam").__module__)
    """
    done = run(site, script, project)
    assert done.stdout.strip() == "wsss.methods.cam"
    assert "zeta-methods 1.2" in done.stderr and "are named 'cam'" in done.stderr


def test_settings_that_are_read_already_cannot_gain_a_method_unseen(
    site: Path, project: Path
) -> None:
    install(site, "zeta", wrong="import wsss.config.params\n" + textwrap.dedent(REFINER))
    text = (site / "zeta/wrong.py").read_text().replace("acme_halved", "zeta_halved")
    (site / "zeta/wrong.py").write_text(text)
    done = run(site, "from wsss.registry import REFINERS; print(REFINERS.names())", project)
    assert "zeta_halved" not in done.stdout and "acme_halved" in done.stdout
    assert "import wsss.config within functions" in done.stderr


def test_a_cell_of_a_notebook_may_run_again(tmp_path: Path) -> None:
    cell = textwrap.dedent(REFINER).replace("from acme.strength import FACTOR", "FACTOR = 0.5")
    script = f"cell = {cell!r}\nexec(cell)\nexec(cell)\nprint(REFINERS.settings('acme_halved'))"
    assert run(tmp_path, script, tmp_path).stdout.strip() == "<class '__main__.HalvedSettings'>"
    script = f"cell = {cell!r}\nexec(cell)\nexec(cell.replace('HalvedSettings', 'Other'))"
    assert "are named 'acme_halved'" in run(tmp_path, script, tmp_path, ok=False).stderr


def test_code_is_that_of_the_outermost_package_that_has_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shared_space/acme/deep").mkdir(parents=True)
    for name in ("acme/__init__.py", "acme/deep/a.py", "acme/b.so", "acme/notes.txt", "alone.py"):
        (tmp_path / "shared_space" / name).write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    found = code_of("shared_space.acme.deep.a")
    names = [file.relative_to(tmp_path / "shared_space").as_posix() for file in found]
    assert names == ["acme/__init__.py", "acme/b.so", "acme/deep/a.py"]
    assert code_of("shared_space.alone") == [tmp_path / "shared_space/alone.py"]
    assert code_of("no_such_package_anywhere.x") == code_of("__main__x") == []
