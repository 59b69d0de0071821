"""What documentation tells readers to type exists: commands, options, recipes, settings, code."""

import itertools
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import typer
import yaml

from wsss.cli.app import app
from wsss.config.params import Params, parse_params
from wsss.config.recipes import BASE_RECIPE, Recipe, apply_recipe, parse_setting, set_values

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A block of code and where it stands."""

    place: str
    language: str
    text: str


def blocks(*languages: str) -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in BLOCK.finditer(text):
            if found[1] in languages:
                line = text.count("\n", 0, found.start()) + 2
                yield Block(f"{page.relative_to(ROOT)}:{line}", found[1], found[2])


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command of shell blocks, as its words, with where it stands."""
    for block in blocks("sh", "bash", "console"):
        text = ""
        for line in block.text.replace("\\\n", " ").splitlines():
            text += line.removeprefix("$ ")
            found = shlex.shlex(text, posix=True, punctuation_chars=True)
            found.whitespace_split = True
            try:
                tokens = [*found]
            except ValueError:  # what is quoted goes on
                text += "\n"
                continue
            text = ""
            for ends, words in itertools.groupby(tokens, key=lambda word: set(word) <= set(";&|")):
                command = [*words]
                while command and re.match(r"[A-Z_0-9]+=", command[0]):
                    command = command[1:]
                if command and not ends:
                    yield f"{block.place}: {' '.join(command)}", command


OURS = [(place, words[1:]) for place, words in commands() if words[0] == "wsss"]


def parsed(words: list[str]) -> tuple[list[str], dict[str, Any]]:
    """The command that words name and its arguments, as the program itself takes them."""
    command: Any = typer.main.get_command(app)
    context: Any = command.make_context("wsss", list(words))
    names: list[str] = []
    while words := [*getattr(context, "_protected_args", ()), *context.args]:
        name, command, words = context.command.resolve_command(context, words)
        names.append(name)
        is_group = hasattr(command, "resolve_command")
        if is_group and not words:
            break  # it prints its help
        context = command.make_context(name, list(words), parent=context)
    return names, context.params


@pytest.mark.parametrize(("place", "words"), OURS, ids=[place for place, _ in OURS])
def test_a_command_is_one_with_these_options(
    place: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    cut = next((at for at, word in enumerate(words) if re.fullmatch(r"[|>]|2?>&?\d?", word)), None)
    words = words[:cut]
    if "--help" in words:
        words.remove("--help")
    names, values = parsed(words)
    if names == ["recipe", "apply"] and not re.search(r"\.yaml$|^mine$|^NAME$", values["name"]):
        assert (ROOT / f"recipes/{values['name']}.yaml").exists()


def sets() -> Iterator[tuple[str, str, list[str]]]:
    """Settings that commands write, with the recipe on top of which they do."""
    recipe = page = ""
    for place, words in OURS:
        if place.partition(":")[0] != page:
            page, recipe = place.partition(":")[0], ""
        if words[:2] == ["recipe", "apply"]:
            recipe = words[2] if (ROOT / f"recipes/{words[2]}.yaml").exists() else ""
            given = [word for word in words[3:] if "=" in word and not word.startswith("--")]
        elif words[:1] == ["set"]:
            given = words[1:]
        else:
            continue
        if given:
            yield place, recipe, given


@pytest.mark.parametrize(
    ("place", "recipe", "given"), [*sets()], ids=[place for place, *_ in sets()]
)
def test_what_a_command_sets_is_a_setting(place: str, recipe: str, given: list[str]) -> None:
    """On the settings as they ship, or on the recipe that the page has applied before."""
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    told = []
    settings = dict(parse_setting(word) for word in given)
    for name in dict.fromkeys(["", recipe]):
        base = recipe_text_of(name) if name else text
        try:
            changed, _ = set_values(base, settings)
            parse_params(yaml.safe_load(changed))
            return
        except ValueError as error:
            told.append(str(error))
    pytest.fail("\n".join(told))


def recipe_text_of(name: str) -> str:
    """params.yaml after `wsss recipe apply`."""
    recipes = ROOT / "recipes"
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    base = Recipe.read(recipes, BASE_RECIPE)
    return apply_recipe(text, Recipe.read(recipes, name), base)[0]


SECTIONS = set(Params.model_fields)
SETTINGS = [
    block
    for block in blocks("yaml")
    if isinstance(tree := yaml.safe_load(block.text), dict) and set(tree) <= SECTIONS
]


@pytest.mark.parametrize("block", SETTINGS, ids=[block.place for block in SETTINGS])
def test_settings_are_taken_as_they_stand(block: Block) -> None:
    parse_params(yaml.safe_load(block.text))


def crf_inputs() -> dict[str, Any]:
    """What the examples of the page on the dense CRF are given."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, 3, 12, 16), np.uint8)
    return {
        "images": pixels.transpose(0, 2, 3, 1).copy(),
        "probs": rng.dirichlet(np.ones(3), (2, 12, 16)).transpose(0, 3, 1, 2).astype(np.float32),
        "features": rng.normal(size=(4, 50)).astype(np.float32),
        "values": rng.random((2, 50), np.float32),
        "ones": np.ones((1, 50), np.float32),
        "logits": torch.randn(2, 3, 12, 16, requires_grad=True),
        "scribbles": torch.randint(0, 3, (2, 12, 16)),
        "images_0_255": torch.from_numpy(pixels).float(),
        "inside": torch.ones(2, 12, 16),
        "cross_entropy": torch.nn.functional.cross_entropy,
    }


GIVEN: dict[str, Callable[[], dict[str, Any]]] = {"docs/densecrf.md": crf_inputs}
RUN_ELSEWHERE = {
    "README.md": "tests/api/test_documentation.py",  # a trained network
    "docs/doctor.md": "tests/doctor/test_documentation.py",  # a project with results
    "docs/export.md": "tests/export/test_documentation.py",  # a trained network
    "docs/predict.md": "tests/prediction/test_documentation.py",
    "docs/python.md": "tests/api/test_documentation.py",
    "docs/serve.md": "tests/server/test_documentation.py",
    "docs/models.md": "tests/serving/test_mlflow_model.py",  # a registered model
    "docs/server.md": "tests/cluster/test_access.py",  # a server with login
}


@pytest.mark.parametrize(
    "page", sorted({block.place.partition(":")[0] for block in blocks("python", "py")})
)
def test_code_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks of a page, one after the other."""
    if page in RUN_ELSEWHERE:
        assert (ROOT / RUN_ELSEWHERE[page]).exists()
        return
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page", **GIVEN.get(page, dict)()}
    for block in blocks("python", "py"):
        if block.place.partition(":")[0] == page:
            exec(compile(block.text, block.place, "exec"), names)


def test_every_kind_of_block_was_found() -> None:
    assert len(OURS) > 60 and len([*sets()]) > 10 and len(SETTINGS) > 10
