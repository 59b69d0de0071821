"""The code that a stage's results come from, Python and native.

In the repository DVC watches its files. A project elsewhere has wsss.lock in their place: a hash of
each package and module, which stays as it is where only comments and docstrings differ.
The code of methods from outside goes with the settings that name them: see `wsss.settings`.
"""

import ast
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from wsss.artifacts import contents, fingerprint
from wsss.settings import ConfigError

__all__ = [
    "CODE_LOCK",
    "COMMON",
    "NATIVE",
    "CodeLock",
    "code_fingerprint",
    "code_key",
    "code_parts",
    "current_code",
    "uses_native",
]

COMMON = (
    "artifacts",
    "checks.py",
    "config",
    "outside.py",
    "pipeline/code.py",
    "pipeline/graph.py",
    "pipeline/job.py",
    "pipeline/stage.py",
    "pipeline/staging.py",
    "registry.py",
    "seeding.py",
    "settings.py",
    "sources.py",
)
"""What every stage uses, below src/wsss."""

NATIVE = "csrc"
"""The sources of the compiled filter, which `densecrf` is the Python face of."""

CODE_LOCK = "wsss.lock"
"""The file, below a project outside the repository, that says which code its results come from."""

_PACKAGE = Path(__file__).parents[1]


def uses_native(code: Sequence[str]) -> bool:
    """Whether results come from the compiled filter, too."""
    return "densecrf" in code


def code_fingerprint(code: Sequence[str], module: str) -> str:
    """A hash of the files of `code_parts`.

    Edited code neither goes on with old work nor takes old results for its own. What is edited
    while this process works is not what runs in it: files count as they were when it first asked.
    """
    held = _first_found(_PACKAGE)
    return fingerprint(
        {
            part: [(file.name, held.get(file, "")) for file in _files(part)]
            for part in code_parts(code, module)
        }
    )


def code_parts(code: Sequence[str], module: str) -> list[str]:
    """The packages and modules behind a stage's results, as a stage declares them, sorted.

    Args:
        code: as of the stage.
        module: the stage's page, such as "wsss.stages.refine_cams".

    Example:
        >>> code_parts(["densecrf"], "wsss.stages.evaluate")[:4]
        ['artifacts', 'checks.py', 'config', 'csrc']
    """
    page = f"stages/{module.rpartition('.')[2]}.py"
    return sorted({*COMMON, *code, page, *([NATIVE] if uses_native(code) else [])})


def code_key(part: str) -> str:
    """The key of a package or module in wsss.lock.

    Example:
        >>> code_key("stages/refine_cams.py")
        'code.stages.refine_cams'
    """
    return f"code.{part.removesuffix('.py').replace('/', '.')}"


def current_code(parts: Iterable[str]) -> dict[str, str]:
    """Hash what installed packages and modules say, without comments and docstrings; by part."""
    return {part: _hash(part, _meaning) for part in parts}


@dataclass(frozen=True)
class CodeLock:
    """What wsss.lock says.

    Attributes:
        version: of wsss, when it was written.
        code: by part, what `current_code` gave.
        files: by part, a hash of the bytes: where these are the same nothing has to be parsed.
    """

    version: str
    code: Mapping[str, str]
    files: Mapping[str, str]

    @classmethod
    def of_installed(cls, version: str, parts: Iterable[str]) -> "CodeLock":
        """Describe what is installed."""
        parts = sorted(set(parts))
        return cls(version, current_code(parts), {part: _hash(part, _bytes) for part in parts})

    @classmethod
    def read(cls, root: Path) -> "CodeLock | None":
        """Read the file of a project; None where it has none, as the repository.

        Raises:
            ConfigError: it is not such a file.
        """
        path = root / CODE_LOCK
        if not path.is_file():
            return None
        try:
            found = yaml.safe_load(path.read_text(encoding="utf-8"))
            parts = sorted(found["files"])
            code = {part: str(_at(found, code_key(part))) for part in parts}
            return cls(str(found["version"]), code, {part: found["files"][part] for part in parts})
        except (yaml.YAMLError, KeyError, TypeError, ValueError):
            raise ConfigError(
                f"{path} is not as `wsss doctor upgrade` writes it; `wsss doctor upgrade --write` "
                "does so anew, after which all stages run again"
            ) from None

    @property
    def text(self) -> str:
        """The text of the file."""
        tree: dict[str, Any] = {"version": self.version}
        for part, value in self.code.items():
            *above, last = code_key(part).split(".")
            place = tree
            for name in above:
                place = place.setdefault(name, {})
            place[last] = value
        tree["files"] = dict(self.files)
        return _HEADER + yaml.safe_dump(tree, sort_keys=False, width=100)

    def differing(self, parts: Iterable[str]) -> list[str]:
        """The parts whose installed code says something else."""
        touched = [part for part in parts if self.files.get(part) != _hash(part, _bytes)]
        return [
            part for part, value in current_code(touched).items() if self.code.get(part) != value
        ]

    def fingerprint(self, parts: Iterable[str]) -> str:
        """A hash of what it says of these parts."""
        return fingerprint({part: self.code.get(part, "") for part in parts})


_HEADER = """\
# Written by `wsss init` and `wsss doctor upgrade`: the code of wsss that results of this project
# come from. `dvc repro` runs a stage again when what it uses differs; comments do not count.
"""


def _at(tree: Any, key: str) -> Any:
    for name in key.split("."):
        tree = tree[name]
    return tree


def _files(part: str) -> list[Path]:
    return _native() if part == NATIVE else sorted(_python(_PACKAGE / part))


def _native() -> list[Path]:
    for sources in (_PACKAGE.parents[1] / NATIVE, _PACKAGE / NATIVE):
        if sources.is_dir():
            return sorted(file for file in sources.rglob("*") if file.is_file())
    compiled = _PACKAGE / "densecrf"
    return sorted([*compiled.glob("_native*.so"), *compiled.glob("_native*.pyd")])


@cache
def _first_found(package: Path) -> dict[Path, str]:
    """Hashes of all files of the package, and of native sources, as they are at the first call."""
    return {file: contents(file) for file in (*_python(package), *_native())}


def _hash(part: str, read: Callable[[Path], bytes]) -> str:
    found = [(file.name, hashlib.sha256(read(file)).hexdigest()) for file in _files(part)]
    return fingerprint(found)[:16]


def _bytes(file: Path) -> bytes:
    return file.read_bytes() if file.is_file() else b""


def _meaning(file: Path) -> bytes:
    """What a file of Python does, whatever its comments, docstrings and layout; others as bytes.

    The same in all versions of Python: of each node only the fields that hold something count.
    """
    content = _bytes(file)
    return _done_by(content) if file.suffix == ".py" else content


@cache
def _done_by(content: bytes) -> bytes:
    return hashlib.sha256(repr(_plain(ast.parse(content))).encode()).digest()


def _plain(node: Any) -> Any:
    if isinstance(node, list):
        return [_plain(item) for item in node if not _is_text(item)]
    if not isinstance(node, ast.AST):
        return node
    fields = [(name, _plain(value)) for name, value in ast.iter_fields(node)]
    return [type(node).__name__, *(item for item in fields if item[1] not in (None, []))]


def _is_text(node: Any) -> bool:
    """Whether a statement is but a text: a docstring, also one below a variable."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _python(path: Path) -> Iterator[Path]:
    yield from sorted(path.rglob("*.py")) if path.is_dir() else [path]
