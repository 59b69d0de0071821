"""Starting a project: its files, git and DVC around them, and settings for its data."""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import chdir
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wsss.artifacts import atomic_path
from wsss.config.params import parse_params
from wsss.config.recipes import BASE_RECIPE, Recipe, apply_recipe, set_values
from wsss.config.yaml_text import load_yaml
from wsss.pipeline.code import CODE_LOCK
from wsss.pipeline.dvc import dvc_text
from wsss.project.choice import Choice, choose
from wsss.project.files import code_lock, first_params, ignored, readme, schema_text
from wsss.project.layouts import Understood, has_masks
from wsss.settings import ConfigError
from wsss.stages import find_stages
from wsss.stages.data_check import DataCheck, check_data

__all__ = ["SOURCE", "Started", "copy_source", "describe", "start_project"]

SOURCE = "source"
"""The folder, below a project, that data are copied to where that is asked for."""

_CACHE = """\
[core]
    analytics = false
    check_update = false
[cache]
    type = "reflink,hardlink,copy"
"""


@dataclass(frozen=True)
class Started:
    """A new project.

    Attributes:
        root: where it is.
        said: what a person must know, line by line.
        check: what `wsss data check` finds; None without data.
    """

    root: Path
    said: tuple[str, ...]
    check: DataCheck | None = None


def start_project(
    root: Path,
    understood: Understood | None = None,
    *,
    weights: str = "hub",
    settings: Mapping[str, Any] | None = None,
    git: bool = True,
    dvc: bool = True,
) -> Started:
    """Write the files of a project, which may lie anywhere.

    Args:
        root: the folder, which need not exist.
        understood: the data it is for; None is painted scenes.
        weights: see `wsss.project.choice.choose`.
        settings: single ones by dotted key, over what is chosen.
        git: whether it becomes a git repository, unless it lies in one.
        dvc: whether it becomes a DVC project; without, `wsss run` runs its stages.

    Raises:
        ConfigError: a project is there already, it would lie among the images, or the settings do
            not fit.
    """
    _check_apart(root, understood)
    taken = [name for name in ("params.yaml", "dvc.yaml", CODE_LOCK) if (root / name).exists()]
    if taken:
        raise ConfigError(
            f"{root} has a {taken[0]} already, which is never written over; choose another folder, "
            "or go on there: `wsss recipe apply`, `wsss set`, `wsss doctor upgrade`"
        )
    choice = choose(understood, weights) if understood else None
    text = _params(choice, settings or {})
    pipeline = find_stages()
    root.mkdir(parents=True, exist_ok=True)
    texts = {
        "params.yaml": text,
        "params.schema.json": schema_text(),
        CODE_LOCK: code_lock(pipeline).text,
        "dvc.yaml": dvc_text(pipeline, locked=True),
        "README.md": readme(root.resolve().name),
        **ignored(),
    }
    for name, content in texts.items():
        path = root / name
        if not path.exists():  # a README of one's own stays
            _write(path, content)
        elif name in ignored():
            held = path.read_text(encoding="utf-8")
            wanted = [line for line in content.splitlines() if line not in held.splitlines()]
            _write(path, "\n".join([held.rstrip("\n"), *wanted, ""]))
    said = list(choice.said) if choice else []
    said += _repositories(root, git=git, dvc=dvc)
    if understood is None:
        return Started(root, tuple(said))
    check, values = _checked(root, text, understood)
    if values:
        said.append(f"the values of masks are read as {values}")
    return Started(root, tuple(said), check)


def describe(understood: Understood) -> list[str]:
    """Say what was understood of a folder, line by line."""
    raw = understood.raw
    counts = {split: len(items) for split, items in raw.splits.items() if items}
    splits = ", ".join(f"{split} {count}" for split, count in counts.items())
    lines = [f"{understood.dataset['root']} is read as {understood.layout}"]
    held_out = "" if "selection" in counts else "; some of train are held out to choose on"
    lines.append(f"{sum(counts.values())} images ({splits}){held_out}")
    by_class = dict.fromkeys(range(1, len(raw.class_names) + 1), 0)
    for items in raw.splits.values():
        for sample in items:
            for class_id in sample.class_ids:
                by_class[class_id] += 1
    names = [f"{raw.class_names[at - 1]} {count}" for at, count in by_class.items()]
    count = f"{len(names)} class" + "es" * (len(names) != 1)
    lines.append(f"{count}: {', '.join(names[:20])}" + " ..." * (len(names) > 20))
    samples = [sample for items in raw.splits.values() for sample in items]
    without = sum(not sample.class_ids for sample in samples)
    masks = sum(sample.mask is not None for sample in samples)
    lines.append(f"{without} images show none of them" if without else "every image has a class")
    lines.append(f"{masks} masks" if has_masks(raw) else "no masks")
    if understood.layout == "tags in file names":
        lines.append("names of classes are not in them: set prepare_data.dataset.classes")
    return [*lines, *raw.warnings]


def copy_source(understood: Understood, root: Path) -> Understood:
    """Copy the data below a project, and read them there.

    Raises:
        ConfigError: something is there already.
    """
    source, target = Path(understood.dataset["root"]), root / SOURCE
    if target.exists():
        raise ConfigError(f"{target} is there already; remove it, or leave out --copy")
    if target.resolve().is_relative_to(source.resolve()):
        raise ConfigError(f"{root} lies within {source}, and would be copied into itself")
    root.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as temporary:
        shutil.copytree(source, temporary)
    dataset = dict(understood.dataset, root=SOURCE)
    tags = dataset.get("tags")
    if tags and Path(tags).is_absolute():  # a table from elsewhere
        shutil.copy(tags, target / Path(tags).name)
        dataset["tags"] = Path(tags).name
    return replace(understood, dataset=dataset)


def _check_apart(root: Path, understood: Understood | None) -> None:
    """Raise ConfigError if what the stages make would lie among the images, and be read as some."""
    folder = Path(understood.dataset["root"]) if understood else Path(SOURCE)
    if folder.is_absolute() and root.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(
            f"{root} lies within {folder}, so that what is made there would be read as images; "
            "give a folder beside it"
        )


def _params(choice: Choice | None, settings: Mapping[str, Any]) -> str:
    name = choice.recipe if choice else BASE_RECIPE
    own = Path("recipes")
    recipe, base = Recipe.read(own, name), Recipe.read(own, BASE_RECIPE)
    chosen = dict(choice.settings) if choice else {}
    text, _ = apply_recipe(first_params(), recipe, base, {**chosen, **settings})
    return text


def _checked(root: Path, text: str, understood: Understood) -> tuple[DataCheck, str]:
    """What `wsss data check` finds, with the meaning of the masks' values that fits them."""
    raw, dataset = understood.raw, understood.dataset
    meanings: list[dict[int, int | str]] = [{}]
    if dataset["name"] == "folder" and "masks" in dataset:
        one: int | str = 1 if len(raw.class_names) == 1 else "tag"
        meanings += [{255: one}, {1: one}]
    first: DataCheck | None = None
    for meaning in meanings:
        changed = _with_values(text, meaning) if meaning else text
        params = parse_params(load_yaml(changed, "params.yaml"))
        with chdir(root):  # as relative paths of settings mean it
            check = check_data(params, Path(), Path("reports/data_check.png"), fast=True)
        first = first or check
        if not any(item.about == "masks" for item in check.of("error")):
            if meaning:
                _write(root / "params.yaml", changed)
            return check, str(meaning) if meaning else ""
    assert first is not None
    return first, ""


def _with_values(text: str, meaning: Mapping[int, int | str]) -> str:
    return set_values(text, {"prepare_data.dataset.mask_values": dict(meaning)})[0]


def _repositories(root: Path, *, git: bool, dvc: bool) -> list[str]:
    """Make a git repository and a DVC project; what was not made is said."""
    said = []
    if git and shutil.which("git") is None:
        said.append("git is not installed: DVC works without it, but has no history of settings")
        git = False
    above = _git_root(root) if git else None
    if git and above is None:
        subprocess.run(["git", "init", "-q", str(root)], check=True)
        above = root.resolve()
    if not dvc:
        return said
    options = []
    if above is None:
        options = ["--no-scm"]
    elif above != root.resolve():
        options = ["--subdir"]
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "init", "-q", *options],
        cwd=root,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        said.append(f"`dvc init` did not work; `wsss run` does without it: {done.stderr.strip()}")
    else:
        no_scm = "" if above else "    no_scm = true\n"
        _write(root / ".dvc/config", _CACHE.replace("[cache]", f"{no_scm}[cache]"))
    return said


def _git_root(root: Path) -> Path | None:
    found = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "--show-toplevel"], capture_output=True, text=True
    )
    return None if found.returncode else Path(found.stdout.strip()).resolve()


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
