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
from wsss.commands import init_options
from wsss.config.params import parse_params
from wsss.config.recipes import BASE_RECIPE, Recipe, apply_recipe, set_values
from wsss.config.shipped import shipped_recipes
from wsss.config.yaml_text import load_yaml
from wsss.pipeline.code import CODE_LOCK
from wsss.pipeline.dvc import dvc_text
from wsss.project.choice import Choice, choose, explain
from wsss.project.files import code_lock, first_params, ignored, readme, schema_text
from wsss.project.layouts import Understood, has_masks
from wsss.settings import ConfigError
from wsss.stages import find_stages
from wsss.stages.data_check import DataCheck, check_data

__all__ = ["SOURCE", "Started", "describe", "start_project"]

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
    copy: bool = False,
    git: bool = True,
    dvc: bool = True,
) -> Started:
    """Write the files of a project, which may lie anywhere.

    Args:
        root: the folder, which need not exist.
        understood: the data it is for; None is painted scenes.
        weights: see `wsss.project.choice.choose`.
        settings: single ones by dotted key, over what is chosen.
        copy: whether the data are copied below it, and read there.
        git: whether it becomes a git repository, unless it lies in one.
        dvc: whether it becomes a DVC project; without, `wsss run` runs its stages.

    Raises:
        ConfigError: a project or a copy is there already, it would lie among the images, or the
            settings do not fit.
    """
    _check_apart(root, understood)
    taken = [name for name in ("params.yaml", "dvc.yaml", CODE_LOCK) if (root / name).exists()]
    if taken:
        raise ConfigError(
            f"{root} has a {taken[0]} already, which is never written over; choose another folder, "
            "or go on there: `wsss recipe apply`, `wsss set`, `wsss doctor upgrade`"
        )
    source = understood
    if understood and copy:
        understood = _as_copied(understood, root)
    choice = choose(understood, weights) if understood else None
    text = _params(choice, settings or {})
    said = []
    if choice and understood:
        params = parse_params(load_yaml(text, "params.yaml"))
        said += explain(choice.recipe, params, understood)
    pipeline = find_stages()
    root.mkdir(parents=True, exist_ok=True)
    if source and copy:
        _copy(source, root / SOURCE)
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
    files = [understood.dataset.get(key) for key in ("tags", "train", "val", "masks")]
    named = ", ".join(str(name) for name in files if name)
    read_as = f"{understood.dataset['root']} is read as {understood.layout}"
    lines = [f"{read_as}, with {named}" if named else read_as]
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
    if empty := understood.dataset.get("empty_tag"):
        lines.append(
            f"'{empty}' is read as none of the classes; where it is one: wsss set "
            "prepare_data.dataset.empty_tag=none"
        )
    if understood.layout == "good and defective parts":
        lines.append(
            "its folders train, test and the like are no splits: all images are drawn anew, each "
            "kind in its share; prepare_data.dataset.classes: one class of all defects, or kinds"
        )
    if understood.layout == "tags in file names":
        lines.append("names of classes are not in them: set prepare_data.dataset.classes")
    return [*lines, *raw.warnings]


def _as_copied(understood: Understood, root: Path) -> Understood:
    """The data as they will lie below a project.

    Raises:
        ConfigError: something is there already.
    """
    if (root / SOURCE).exists():
        raise ConfigError(f"{root / SOURCE} is there already; remove it, or leave out --copy")
    dataset = dict(understood.dataset, root=SOURCE)
    if tags := _table_elsewhere(understood):
        dataset["tags"] = tags.name
    return replace(understood, dataset=dataset)


def _table_elsewhere(understood: Understood) -> Path | None:
    tags = understood.dataset.get("tags")
    return Path(tags) if tags and Path(tags).is_absolute() else None


def _copy(understood: Understood, target: Path) -> None:
    with atomic_path(target) as temporary:
        shutil.copytree(understood.dataset["root"], temporary)
        if tags := _table_elsewhere(understood):
            shutil.copy(tags, temporary / tags.name)


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
    shipped = shipped_recipes()  # and none of where the command runs
    recipe, base = Recipe.read(shipped, name), Recipe.read(shipped, BASE_RECIPE)
    chosen = dict(choice.settings) if choice else {}
    for key in settings:  # which come last, so that no other choice in their section drops them
        chosen.pop(key, None)
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
    if git and not _in_git(root):
        subprocess.run(["git", "init", "-q", str(root)], check=True)
    if not dvc:
        return said
    options = init_options(root.resolve()) if git else ["--no-scm"]
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "init", "-q", *options],
        cwd=root,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        said.append(f"`dvc init` did not work; `wsss run` does without it: {done.stderr.strip()}")
    else:
        no_scm = "    no_scm = true\n" if "--no-scm" in options else ""
        _write(root / ".dvc/config", _CACHE.replace("[cache]", f"{no_scm}[cache]"))
    return said


def _in_git(root: Path) -> bool:
    asked = ["git", "-C", str(root), "rev-parse", "--show-toplevel"]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
