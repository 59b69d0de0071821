"""Which reports are those of the settings, code and data beside them: dvc.lock knows.

A report outlives what it was made from: one that ships with the project, or that was left from
other settings, must not be shown as the result of what is there now.
"""

import hashlib
import io
import json
import os
import re
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from wsss.artifacts import fingerprint
from wsss.config.yaml_text import load_yaml
from wsss.pipeline.code import CODE_LOCK
from wsss.pipeline.names import OF_IMAGES
from wsss.settings import ConfigError
from wsss.sources import LISTING, current_listing

__all__ = ["Snapshot", "changed_stages", "committed", "folder_md5", "is_report", "workspace"]


@dataclass
class Snapshot:
    """The files of a project that decide what its reports belong to, at one time.

    Attributes:
        files: their contents by path below the project: params.yaml, dvc.yaml, dvc.lock, reports
            and code, or wsss.lock in its place.
        sources: data/sources/<section>.json as it would be written now; None where that is not
            known.
    """

    files: Mapping[str, bytes]
    sources: Mapping[str, Any] | None = None
    _known: dict[str, str] = field(default_factory=dict)
    _parsed: dict[str, dict[str, Any]] = field(default_factory=dict)
    _hashes: dict[str, str | None] = field(default_factory=dict)

    def reports(self) -> dict[str, Any]:
        """The contents of all reports, reports/<name>.json, by name."""
        return {
            PurePosixPath(path).stem: json.loads(text)
            for path, text in sorted(self.files.items())
            if is_report(path)
        }

    def strangers(self) -> dict[str, str]:
        """The reports that belong to other data, settings or code, and why, by name."""
        found = {}
        for name in self.reports():
            stage = self._source.get(f"reports/{name}.json", "")
            if reason := self._reason(stage) if stage else "dvc.lock does not know it":
                found[name] = reason
        return found

    def reason(self, stage: str) -> str | None:
        """Why results of a stage are of something else; "" if they are not, None if unknown."""
        return self._reason(stage) if stage in self._stages else None

    def dependencies(self, stage: str) -> dict[str, str]:
        """By path, DVC's hash of what a stage read when it ran last; empty where it never did."""
        found = self._stages.get(stage, {}).get("deps", ())
        return {item["path"]: str(item.get("md5", "")) for item in found}

    @property
    def data(self) -> str:
        """What the images are, by the sources and settings of prepare_data; "" of nothing known.

        It is the same whatever base.rng_seed is, and what annotators gave.
        """
        if "prepare_data" not in self._stages:
            held = (self.dependencies(stage).get("data/splits", "") for stage in self._stages)
            return next(filter(None, held), "")
        sources = {
            path: digest
            for path, digest in self.dependencies("prepare_data").items()
            if path.startswith("data/sources/")
        }
        params = self._stages["prepare_data"].get("params", {}).get("params.yaml", {})
        settings = params.get("prepare_data") or {}
        kept = {key: settings.get(key) for key in OF_IMAGES}
        return fingerprint(sources, kept)

    @cached_property
    def _stages(self) -> dict[str, Any]:
        """The stages of dvc.lock."""
        found = self._yaml("dvc.lock").get("stages")
        return found if isinstance(found, dict) else {}

    @cached_property
    def _source(self) -> dict[str, str]:
        """By path, the stage of dvc.lock that makes it."""
        stages = self._stages.items()
        return {out["path"]: name for name, stage in stages for out in stage.get("outs", ())}

    def _reason(self, name: str) -> str:
        """Why the results of a stage are not those of what is there; "" if they are."""
        if name not in self._known:
            self._known[name] = ""  # until it is known; there are no circles
            self._known[name] = next(self._reasons(name), "")
        return self._known[name]

    def _reasons(self, name: str) -> Iterator[str]:
        stage = self._stages[name]
        if not self._runs(name):
            yield f"{name} does not run with these settings"
        for file, values in stage.get("params", {}).items():
            now = self._yaml(file)
            for key, value in values.items():
                held = _at(now, key)
                if held != value:
                    yield f"{_differing(key, value, held)} of {file} is another"
        for dep in stage.get("deps", ()):
            yield from self._of_dependency(dep["path"], dep.get("md5"))
        for out in stage.get("outs", ()):
            path = out["path"]
            if path.startswith("reports/") and self._hash(path) != out.get("md5"):
                yield f"{path} is not the one that `dvc repro` made"

    def _of_dependency(self, path: str, md5: str | None) -> Iterator[str]:
        source = self._source.get(path) or self._source.get(str(PurePosixPath(path).parent))
        if path.startswith(f"{LISTING}/"):
            text = None if self.sources is None else self.sources.get(PurePosixPath(path).stem)
            if text is not None and hashlib.md5(text.encode()).hexdigest() != md5:
                yield f"the files that {PurePosixPath(path).stem} names have changed"
        elif inside := sorted({by for out, by in self._source.items() if path in _above(out)}):
            yield from filter(None, map(self._reason, inside))
        elif source is None:
            if self._hash(path) != md5:
                yield f"{path} has changed"
        else:
            if reason := self._reason(source):
                yield reason
            outs = self._stages[source].get("outs", ())
            if any(out["path"] == path and out.get("md5") != md5 for out in outs):
                yield f"{source} has made {path} anew"

    def _runs(self, name: str) -> bool:
        """Whether dvc.yaml has a stage, with an entry of that name where it has entries."""
        stage, _, entry = name.partition("@")
        declared = self._yaml("dvc.yaml").get("stages", {}).get(stage)
        if not entry or not isinstance(declared, dict):
            return declared is not None
        section = re.fullmatch(r"\$\{(.+)\}", str(declared.get("foreach")))
        entries = _at(self._yaml("params.yaml"), section[1]) if section else None
        return isinstance(entries, dict) and entry in entries

    def _yaml(self, path: str) -> dict[str, Any]:
        """A file's mapping, parsed once, as each stage asks for its settings."""
        if path not in self._parsed:
            text = self.files.get(path, b"").decode(errors="replace")
            try:
                found = load_yaml(text, path)
            except ConfigError:
                found = None
            self._parsed[path] = found if isinstance(found, dict) else {}
        return self._parsed[path]

    def _hash(self, path: str) -> str | None:
        """As DVC hashes a file, or a folder, once for all stages; None of what is not there."""
        if path not in self._hashes:
            self._hashes[path] = self._hash_anew(path)
        return self._hashes[path]

    def _hash_anew(self, path: str) -> str | None:
        if path in self.files:
            return hashlib.md5(self.files[path]).hexdigest()
        below = sorted(name for name in self.files if name.startswith(f"{path}/"))
        if not below:
            return None
        return _listing_md5(
            {
                name.removeprefix(f"{path}/"): hashlib.md5(self.files[name]).hexdigest()
                for name in below
            }
        )


def _above(path: str) -> set[str]:
    """The folders that a path lies in."""
    return {str(folder) for folder in PurePosixPath(path).parents}


def folder_md5(folder: Path) -> str:
    """The hash that DVC gives a folder on disk: of the names and the MD5 of all files below it.

    Args:
        folder: small enough to be read whole, such as a model.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    members = {path.relative_to(folder).as_posix(): _file_md5(path) for path in files}
    return _listing_md5(members)


def is_report(path: str) -> bool:
    """Whether a path below the project is that of a stage's report.

    What people found, in reports/audit.json, is none.
    """
    return re.fullmatch(r"reports/(?!audit\.json$)[^/]+(?<!\.run)\.json", path) is not None


def workspace(root: Path) -> Snapshot:
    """Take the project as it is."""
    files: dict[str, bytes] = {}
    lock = root / "dvc.lock"
    text = lock.read_text(encoding="utf-8") if lock.exists() else ""
    wanted = ["params.yaml", "dvc.yaml", "dvc.lock", CODE_LOCK, "reports", *_code(text)]
    for name in wanted:
        for file in _below(root / name):
            files[file.relative_to(root).as_posix()] = file.read_bytes()
    return Snapshot(files, current_listing(root))


def changed_stages(root: Path) -> set[str]:
    """Ask DVC for the stages that it would run, as their results are those of something else.

    Raises:
        ValueError: DVC is not installed, or cannot say.
    """
    command = ["dvc", "status", "--json"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
        found: Mapping[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except FileNotFoundError:
        raise ValueError("DVC is not installed, and knows what is up to date") from None
    except (subprocess.CalledProcessError, json.JSONDecodeError, IndexError) as error:
        said = getattr(error, "stderr", "") or str(error)
        raise ValueError(f"`dvc status` does not say what is up to date: {said.strip()}") from None
    # what is always changed is so for no reason
    return {name for name, why in found.items() if why != ["always changed"]}


def committed(root: Path, commit: str) -> Snapshot:
    """Take the project as a commit has it; what its data were then is as its dvc.lock says."""

    def git(*arguments: str) -> bytes:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, check=True).stdout

    paths = [path.decode() for path in git("ls-tree", "-z", "--name-only", commit).split(b"\0")]
    kept = [path for path in paths if path and not path.startswith((".", "docs", "tests"))]
    files: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(git("archive", "--format=tar", commit, *kept))) as packed:
        for member in packed:
            content = packed.extractfile(member) if member.isfile() else None
            if content is not None:
                files[member.name] = content.read()
    return Snapshot(files)


def _code(lock: str) -> list[str]:
    """What dvc.lock says that stages depend on, of which none makes it; at worst too much."""
    paths = re.findall(r"(?m)^    - path: (.+)$", lock)
    return sorted({path for path in paths if not path.startswith(("data/", "models/"))})


def _below(path: Path) -> Iterator[Path]:
    """A file, or all those below a folder that DVC looks at; of reports those at its top."""
    if path.is_file():
        yield path
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if name != "__pycache__" and path.name != "reports"]
        yield from (Path(folder, name) for name in names if not name.endswith((".pyc", ".png")))


def _file_md5(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "md5").hexdigest()


def _listing_md5(members: Mapping[str, str]) -> str:
    """DVC's hash of a folder, from the MD5 of each file by its path below the folder."""
    listing = [{"md5": md5, "relpath": name} for name, md5 in sorted(members.items())]
    return hashlib.md5(json.dumps(listing, sort_keys=True).encode()).hexdigest() + ".dir"


def _at(tree: Any, key: str) -> Any:
    """What stands at a dotted key; None where nothing does."""
    for part in key.split("."):
        if isinstance(tree, Mapping):
            tree = tree.get(part)
        elif isinstance(tree, list) and part.isdecimal() and int(part) < len(tree):
            tree = tree[int(part)]
        else:
            return None
    return tree


def _differing(key: str, old: Any, new: Any) -> str:
    """The first key, at any depth, whose values differ."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted({*old, *new}, key=str):
            if old.get(name) != new.get(name):
                return _differing(f"{key}.{name}", old.get(name), new.get(name))
    return key
