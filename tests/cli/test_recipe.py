"""`wsss recipe` and `wsss schema`, and what every committed recipe must do."""

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from wsss.cli.app import app
from wsss.config.params import Params, load_params
from wsss.config.recipes import Recipe, recipe_params, recipe_values
from wsss.config.yaml_text import load_yaml
from wsss.project.files import schema_text
from wsss.refine.dense_crf import PRESETS
from wsss.settings import unread

ROOT = Path(__file__).parents[2]
DEFAULT = (ROOT / "params.yaml").read_text(encoding="utf-8")
RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the committed params.yaml and recipes, which is the current one."""
    (tmp_path / "params.yaml").write_text(DEFAULT, encoding="utf-8")
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def wsss(*arguments: str, code: int = 0) -> str:
    """Run the command; return what it printed, with spaces and line breaks run together."""
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def test_the_committed_params_are_those_of_the_base_recipe(project: Path) -> None:
    assert "already has these values" in wsss("recipe", "apply", "synthetic_cam")
    assert (project / "params.yaml").read_text() == DEFAULT


def test_the_committed_params_name_every_setting(project: Path) -> None:
    """A key that is missing is one that users cannot find, and that DVC cannot track."""
    dumped = load_params(project / "params.yaml").model_dump(mode="json")
    assert load_yaml(DEFAULT, "x") == dumped


def test_recipes_apply_one_after_another_and_the_base_recipe_takes_all_back(project: Path) -> None:
    """What a recipe gives does not depend on the one before."""
    base = Recipe.read(project / "recipes", "synthetic_cam")
    for name in RECIPES:
        wsss("recipe", "apply", name)
        recipe = Recipe.read(project / "recipes", name)
        assert load_params() == recipe_params({}, recipe, base), name
        assert not list(unread(load_params(), "")), name
    wsss("recipe", "apply", "synthetic_cam")
    assert load_yaml(Path("params.yaml").read_text(), "x") == load_yaml(DEFAULT, "x")


def test_set_tells_of_a_key_that_counts_for_nothing(project: Path) -> None:
    told = "note: refine.chains.crf.0.alpha is 32, but counts only where background is 'power'"
    assert told in wsss("set", "refine.chains.crf.0.alpha=32")
    assert "note:" not in wsss("set", "refine.chains.crf.0.background=power")


def test_comments_and_layout_survive_two_recipes(project: Path) -> None:
    wsss("recipe", "apply", "voc_animals_cam")
    between = Path("params.yaml").read_text()
    assert "  # of pretrained weights" in between
    assert "# Each chain is a list of refiners" in between
    wsss("recipe", "apply", "synthetic_cam")
    assert Path("params.yaml").read_text() == DEFAULT


@pytest.mark.parametrize("values", [("null", "{n_iters: 3}"), ("{n_iters: 3}", "null")])
def test_a_section_in_place_of_null_is_told_by_its_keys(
    project: Path, values: tuple[str, str]
) -> None:
    """Not by a line that says that nothing became nothing."""
    first, second = (f"predict_masks.crf={value}" for value in values)
    wsss("set", first)
    told = wsss("set", second)
    assert "predict_masks.crf.n_iters" in told and "predict_masks.crf " not in told


def test_voc_animals_says_where_its_files_are(project: Path) -> None:
    wsss("recipe", "apply", "voc_animals_cam", "--set", "prepare_data.dataset.root=/data/voc")
    params = load_params()
    assert params.prepare_data.dataset.model_dump()["root"] == "/data/voc"
    assert params.train_classifier.backbone.weights.startswith("$WSSS_SHARED/weights/")
    assert params.evaluate.select_by == "mean_iou_frequent"
    assert "num_train" not in params.prepare_data.dataset.model_dump()


def test_the_presets_are_chains_beside_those_of_the_base_recipe(project: Path) -> None:
    default = load_params()
    wsss("recipe", "apply", "dense_crf_presets")
    params = load_params()
    chains = params.refine.chains
    assert {name: chains[name] for name in default.refine.chains} == default.refine.chains
    assert {name.removeprefix("crf_") for name in chains if "_" in name} == set(PRESETS)
    for preset, values in PRESETS.items():
        (settings,) = chains[f"crf_{preset}"]
        assert settings.model_dump() == settings.model_dump() | values
    # nothing but refinement has to run again
    assert params.model_copy(update={"base": default.base, "refine": default.refine}) == default


def test_what_a_user_changed_elsewhere_is_kept(project: Path) -> None:
    Path("params.yaml").write_text(DEFAULT.replace("devices: 1", "devices: 2"), encoding="utf-8")
    wsss("recipe", "apply", "voc_animals_cam")
    assert load_params().machine.devices == 2


def test_single_settings(project: Path) -> None:
    default = load_params()
    before: Any = default.refine.chains["crf"][0]
    output = wsss(
        "recipe", "apply", "synthetic_cam",
        "--set", "refine.chains.crf.0.sigma_xy=55",
        "--set", "train_classifier.optimizer.lr=1e-3",
        "--set", "generate_cams.scales=[1, 2]",
        "--set", "evaluate.class_groups={boats: [boat, car]}",
    )  # fmt: skip
    assert f"refine.chains.crf.0.sigma_xy {before.sigma_xy:g} 55" in output
    assert f"generate_cams.scales {list(default.generate_cams.scales)} [1, 2]" in output
    params = load_params()
    assert params.refine.chains["crf"][0].model_dump()["sigma_xy"] == 55
    assert params.train_classifier.optimizer.lr == 0.001
    assert params.evaluate.class_groups == {"boats": ("boat", "car")}
    assert "sigma_xy: 55  # pixels" in Path("params.yaml").read_text()


def test_another_choice_drops_the_settings_of_the_old_one(project: Path) -> None:
    wsss(
        "recipe", "apply", "synthetic_cam",
        "--set", "prepare_data.dataset.name=pascal_voc",
        "--set", "prepare_data.dataset.root=/data",
    )  # fmt: skip
    values = load_yaml(Path("params.yaml").read_text(), "x")
    assert values["prepare_data"]["dataset"] == {"name": "pascal_voc", "root": "/data"}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "refine.chains.crf.0.sigma_yx=50",
            "refine.chains.crf.0 has no key 'sigma_yx'; did you mean 'sigma_xy'?",
        ),
        ("refin.chains=3", "the top level has no key 'refin'; did you mean 'refine'?"),
        ("refine.chains.crf.1.sigma_xy=50", "a list of 1; '1' must be an index in 0..0"),
        ("base.rng_seed.x=1", "base.rng_seed is 2024, which has no keys of its own"),
        ("train_classifier.epochs", "must be key=value"),
        ("train_classifier.epochs=[1", "--set train_classifier.epochs, line 1: not valid YAML"),
        ("train_classifier.epochs=0", "train_classifier.epochs must be greater than 0, but is 0"),
        ("make_pseudo_masks.chain=crff", "did you mean 'crf'?"),
    ],
)
def test_a_refused_setting_leaves_the_file_alone(project: Path, setting: str, message: str) -> None:
    assert message in wsss("recipe", "apply", "voc_animals_cam", "--set", setting, code=1)
    assert Path("params.yaml").read_text() == DEFAULT


def test_an_unknown_recipe(project: Path) -> None:
    assert "did you mean 'synthetic_cam'?" in wsss("recipe", "apply", "syntetic_cam", code=1)
    assert "did you mean 'voc_animals_cam'?" in wsss("recipe", "show", "voc_animals", code=1)


def test_outside_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "own_photos" in wsss("recipe", "list")  # those that ship
    assert "num_train" in wsss("recipe", "show", "synthetic_cam")
    assert "params.yaml" in wsss("recipe", "apply", "synthetic_cam", code=1)


def test_anchors_are_refused_and_not_changed_in_two_places(project: Path) -> None:
    first, second = re.findall(r"^  scales: \[.*?\]", DEFAULT, re.MULTILINE)
    text = DEFAULT.replace(first, first.replace(": ", ": &s "), 1)
    at = text.rindex(second)
    text = text[:at] + "  scales: *s" + text[at + len(second) :]
    Path("params.yaml").write_text(text, encoding="utf-8")
    output = wsss("recipe", "apply", "synthetic_cam", "--set", "predict_masks.scales.0=3", code=1)
    assert "anchors" in output
    assert Path("params.yaml").read_text() == text


def test_a_dry_run_writes_nothing(project: Path) -> None:
    assert "pascal_voc" in wsss("recipe", "apply", "voc_animals_cam", "--dry-run")
    assert Path("params.yaml").read_text() == DEFAULT
    assert sorted(path.name for path in project.iterdir()) == ["params.yaml", "recipes"]


def test_list_marks_the_current_recipe(project: Path) -> None:
    wsss("recipe", "apply", "voc_animals_cam")
    output = wsss("recipe", "list")
    assert re.findall(r"\* (\w+)", output) == ["voc_animals_cam"]
    assert all(name in output for name in RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_show_prints_the_recipe(project: Path, name: str) -> None:
    text = (ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    assert CliRunner().invoke(app, ["recipe", "show", name]).output.startswith(text)
    assert re.match(r"# \S.{20,}\n", text), "a recipe starts with a comment that says what it is"


def test_the_committed_schema_is_current() -> None:
    committed = (ROOT / "params.schema.json").read_text(encoding="utf-8")
    assert committed == schema_text(), "run `wsss schema` and commit params.schema.json"


@cache
def checker() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(schema_text()))


@pytest.mark.parametrize("name", RECIPES)
def test_the_schema_takes_what_we_take_and_refuses_what_we_refuse(name: str) -> None:
    recipe, base = (Recipe.read(ROOT / "recipes", own) for own in (name, "synthetic_cam"))
    values = recipe_values({}, recipe, base)
    checker().validate(values)
    values["refine"]["chains"]["crf"][0]["sigma_yx"] = 1
    assert not checker().is_valid(values)


def test_the_schema_explains_keys_to_editors() -> None:
    schema = json.loads(schema_text())
    crf = schema["$defs"]["DenseCrfSettings"]["properties"]
    assert "pixels" in crf["sigma_xy"]["description"]
    assert set(schema["properties"]) == set(Params.model_fields)


def test_schema_is_written_where_editors_look(project: Path) -> None:
    wsss("schema")
    assert Path("params.schema.json").read_text(encoding="utf-8") == schema_text()
    assert "$schema=params.schema.json" in DEFAULT.partition("\n")[0]


def test_help_imports_nothing_heavy() -> None:
    code = """if True:
        import sys
        from wsss.cli.app import app
        sys.argv = ["wsss", "--help"]
        try:
            app()
        finally:
            heavy = "torch torchvision timm mlflow optuna matplotlib pydantic numpy dvc".split()
            print("HEAVY", [name for name in heavy if name in sys.modules])
    """
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "HEAVY []" in run.stdout
    for command in ("recipe", "schema", "compare", "tune"):
        assert command in run.stdout


def test_help_is_quick() -> None:
    """Processor time, so that a busy machine does not fail it."""
    code = (
        "import sys, time; from wsss.cli.app import app; sys.argv = ['wsss', '--help']\n"
        "try: app()\n"
        "finally: print('SECONDS', time.process_time())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(run.stdout.split()[-1]) < 0.6


def test_a_mistake_has_no_traceback_and_a_bug_has(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("params.yaml").write_bytes(b"\xff")
    output = wsss("recipe", "apply", "synthetic_cam", code=1)
    assert "not UTF-8" in output
    assert "Traceback" not in output
    monkeypatch.setenv("WSSS_TRACEBACK", "1")
    result = CliRunner().invoke(app, ["recipe", "apply", "synthetic_cam"])
    assert isinstance(result.exception, ValueError)


@pytest.mark.parametrize("name", [*RECIPES[::6], "synthetic_cam"])
def test_a_saved_recipe_gives_the_settings_back(project: Path, name: str) -> None:
    if name == "synthetic_cam":
        assert "change some" in wsss("recipe", "save", "mine", code=1)
        return
    mine = str(project / "mine.yaml")
    wsss("recipe", "apply", name, "--set", "base.rng_seed=7", "--set", "machine.devices=2")
    before = load_params()
    wsss("recipe", "save", mine, "--about", "Mine")
    assert "there already" in wsss("recipe", "save", mine, code=1)
    wsss("recipe", "apply", "synthetic_cam", "--set", "base.rng_seed=1")
    wsss("recipe", "apply", mine)
    assert Path(mine).read_text().startswith("# Mine\n")
    now = load_params()
    assert now.base.recipe == "mine"
    assert now.model_copy(update={"base": before.base}) == before
    assert now.base.rng_seed == 7


def test_a_saved_recipe_gives_back_what_is_not_written(project: Path) -> None:
    """A key that is left out has its default, which need not be the base recipe's value."""
    values = load_yaml(DEFAULT, "x")
    del values["train_classifier"]["optimizer"], values["train_segmenter"]["epochs"]
    values["refine"]["chains"] = {"crf": [{"name": "dense_crf"}]}
    (project / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    before = load_params()
    wsss("recipe", "save", "./mine.yaml")
    wsss("recipe", "apply", "synthetic_cam")
    wsss("recipe", "apply", "./mine.yaml")
    now = load_params()
    assert now.model_copy(update={"base": before.base}) == before


def test_a_saved_recipe_stands_in_place_of_none_that_ships(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(DEFAULT.replace("devices: 1", "devices: 2"), encoding="utf-8")
    wsss("set", "train_classifier.epochs=3")
    for name in ("own_photos", "recipes/own_photos.yaml"):
        told = wsss("recipe", "save", name, code=1)
        assert "is a recipe of wsss" in told and "small_defects" in told and "--force" in told
    assert not Path("recipes").exists()
    wsss("recipe", "save", "own_photos", "--force")
    assert "there already" in wsss("recipe", "save", "own_photos", code=1)
    for force in ([], ["--force"]):
        told = wsss("recipe", "save", "synthetic_cam", *force, code=1)
        assert "choose another name" in told and "--force" not in told


def test_a_recipe_is_taken_from_any_file_and_may_extend_those_beside_it(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "common.yaml").write_text("# Common\nextends: voc_animals_cam\n")
    (other / "own.yaml").write_text("extends: common\ntrain_classifier: {epochs: 3}\n")
    wsss("recipe", "apply", str(other / "own.yaml"))
    params = load_params()
    assert (params.base.recipe, params.train_classifier.epochs) == ("own", 3)
    assert params.prepare_data.dataset.name == "pascal_voc"
    wsss("recipe", "save", str(other / "saved.yaml"))
    wsss("recipe", "apply", "synthetic_cam")
    wsss("recipe", "apply", str(other / "saved.yaml"))
    assert load_params().train_classifier == params.train_classifier
    assert "not a file" in wsss("recipe", "apply", str(other / "none.yaml"), code=1)
    (other / "ring.yaml").write_text("extends: ring\n")
    assert "extends" in wsss("recipe", "apply", str(other / "ring.yaml"), code=1)


def test_single_values_are_set_with_comments_kept(project: Path) -> None:
    wsss("set", "refine.chains.crf.0.sigma_rgb=13", "train_classifier.epochs=2")
    text = (project / "params.yaml").read_text()
    assert "sigma_rgb: 13  # intensity levels of 0..255" in text
    assert load_params().train_classifier.epochs == 2
    assert len(text.splitlines()) == len(DEFAULT.splitlines())
    assert "sigma_rgb" in wsss("set", "refine.chains.crf.0.sigma_rbg=1", code=1)
    assert (project / "params.yaml").read_text() == text


def test_values_are_set_in_whatever_order_they_are_given(project: Path) -> None:
    """A choice drops the settings of what it named before, and not those given beside it."""
    given = ("refine.chains.crf.0.n_iters=3", "refine.chains.crf.0.name=pamr")
    for command in (("set",), ("recipe", "apply", "synthetic_cam", "--set")):
        Path("params.yaml").write_text(DEFAULT, encoding="utf-8")
        options = given if command == ("set",) else (given[0], "--set", given[1])
        wsss(*command, *options)
        (settings,) = load_params().refine.chains["crf"]
        assert settings.model_dump().items() >= {"name": "pamr", "n_iters": 3}.items()


def test_keys_that_are_numbers_are_set_one_by_one(project: Path) -> None:
    """As values of masks are."""
    folder = "prepare_data.dataset={name: folder, root: /x, mask_values: {0: 0, 255: 1}}"
    wsss("set", folder)
    wsss("set", "prepare_data.dataset.mask_values.255=cat")
    wsss("set", "prepare_data.dataset.mask_values.128=dog")
    found = load_params().prepare_data.dataset.model_dump()["mask_values"]
    assert found == {0: 0, 255: "cat", 128: "dog"}


@pytest.mark.parametrize(
    "command",
    [
        ("compare",),
        ("recipe", "list"),
        ("recipe", "apply", "synthetic_cam"),
        ("set", "a=1"),
        ("tune", "show", "crf"),
        ("study", "run"),
        ("runs", "sync"),
        ("dvc",),
        ("schema",),
    ],
    ids=" ".join,
)
def test_every_command_says_in_a_sub_folder_where_the_root_is(
    project: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    (project / "dvc.yaml").write_text("{}")
    below = project / "my results/deep"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert f"from its root: cd {project}" in wsss(*command, code=1)
    assert list(below.iterdir()) == []
    wsss(*command[:1], "--help")
