"""What another version of wsss means for a project: which stages run again, and why."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsss import __version__
from wsss.artifacts import atomic_path
from wsss.config.params import load_params
from wsss.config.yaml_text import load_yaml
from wsss.pipeline import Pipeline, Stage
from wsss.pipeline.code import CODE_LOCK, CodeLock
from wsss.pipeline.dvc import dvc_text
from wsss.project.files import code_lock, schema_text
from wsss.settings import ConfigError
from wsss.stages import find_stages

__all__ = ["Upgrade", "upgrade"]


@dataclass(frozen=True)
class Upgrade:
    """What going over to the installed version comes to.

    Attributes:
        before: the version that wsss.lock was written with.
        after: the one that is installed.
        reasons: by stage, why it runs again.
        after_them: by stage, those of its predecessors that run again; it runs where their results
            become others.
        gone: stages that the installed version has no more.
        differing: the files that are not those of the installed version, if by their wording alone.
        written: those of them that were written.
    """

    before: str
    after: str
    reasons: Mapping[str, str]
    after_them: Mapping[str, tuple[str, ...]]
    gone: tuple[str, ...] = ()
    differing: tuple[str, ...] = ()
    written: tuple[str, ...] = ()


def upgrade(root: Path, write: bool = False) -> Upgrade:
    """Compare wsss.lock and dvc.yaml of a project with the installed code.

    Comments, docstrings and layout of the code do not count.

    Args:
        root: the project.
        write: whether wsss.lock, dvc.yaml and params.schema.json become those of what is installed;
            `dvc repro` then runs what changed. A wsss.lock that was lost is written anew.

    Raises:
        ConfigError: it has no wsss.lock, as the repository, or params.yaml does not fit what is
            installed; the text names the keys.
    """
    pipeline = find_stages()
    has_lock = (root / CODE_LOCK).is_file()
    if not has_lock and (
        (root / "src/wsss/stages").is_dir() or not (root / "params.yaml").is_file()
    ):
        raise ConfigError(
            f"{root.absolute()} has no {CODE_LOCK}: only a project that `wsss init` has started is "
            "upgraded; in the repository `dvc repro` sees itself which code has changed"
        )
    if not has_lock and not write:
        raise ConfigError(
            f"{root.absolute()} has no {CODE_LOCK}; `wsss doctor upgrade --write` writes it anew, "
            "after which all stages run again"
        )
    old = _read_lock(root, lenient=write)
    params = load_params(root / "params.yaml")
    declared = _stages_of((root / "dvc.yaml").read_text("utf-8") if _has_dvc(root) else "")
    text = dvc_text(pipeline, locked=True)
    wanted = _stages_of(text)
    reasons = {}
    for stage in pipeline:
        found = list(_reasons(stage, old, declared.get(stage.name), wanted[stage.name]))
        if found:
            reasons[stage.name] = "; ".join(found)
    names = [target.stage.name for target in pipeline.targets(params)]
    before = {
        target.stage.name: tuple(
            dict.fromkeys(
                part.stage.name
                for part in pipeline.upstream(target, params)
                if part.stage.name in reasons and part.stage.name != target.stage.name
            )
        )
        for target in pipeline.targets(params)
    }
    later = [name for name in dict.fromkeys(names) if before[name] and name not in reasons]
    texts = _differing(root, pipeline, text)
    if write:
        for name, other in texts.items():
            with atomic_path(root / name) as temporary:
                temporary.write_text(other, encoding="utf-8")
    own = {"list_sources", "record_runs", *(stage.name for stage in pipeline)}
    return Upgrade(
        old.version,
        __version__,
        reasons,
        {name: before[name] for name in later},
        tuple(sorted(declared.keys() - own)),
        tuple(sorted(texts)),
        tuple(sorted(texts)) if write else (),
    )


def _read_lock(root: Path, *, lenient: bool) -> CodeLock:
    """That of the project; where it cannot be read and is written anew, one that knows nothing."""
    try:
        found = CodeLock.read(root)
    except ConfigError:
        if not lenient:
            raise
        found = None
    return found or CodeLock("unknown", {}, {})


def _has_dvc(root: Path) -> bool:
    return (root / "dvc.yaml").is_file()


def _stages_of(text: str) -> dict[str, Any]:
    found = load_yaml(text, "dvc.yaml")
    return (found.get("stages") or {}) if isinstance(found, dict) else {}


def _reasons(stage: Stage, old: CodeLock, before: Any, now: Any) -> Iterator[str]:
    if before is None:
        yield "it is new"
        return
    if differing := old.differing(stage.code_parts):
        yield f"the code of {', '.join(differing)} is another"
    ways, wanted = _what(before), _what(now)
    changed = [key for key in wanted if ways.get(key) != wanted[key]]
    if changed:
        yield f"its {' and '.join(changed)} in dvc.yaml are others"


def _what(declared: Any) -> dict[str, Any]:
    """What of a stage in dvc.yaml decides its results, beside its code."""
    body = declared.get("do", declared)
    params = [key for key in body.get("params", ()) if isinstance(key, str)]
    listed = {"deps": body.get("deps"), "params": params, "outs": body.get("outs")}
    return {**listed, "cmd": body.get("cmd")}


def _differing(root: Path, pipeline: Pipeline, dvc: str) -> dict[str, str]:
    """What files of a project would be, by name, of those that are not so."""
    texts = {CODE_LOCK: code_lock(pipeline).text, "params.schema.json": schema_text()}
    if _has_dvc(root):
        texts["dvc.yaml"] = dvc
    return {
        name: text
        for name, text in texts.items()
        if not (root / name).exists() or (root / name).read_text(encoding="utf-8") != text
    }
