"""Commands that messages advise can be typed as they stand."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import wsss

PACKAGE = Path(wsss.__file__).parent
COMMAND = re.compile(r"`(?:sudo )?(cp|mv|rm|mkdir|chmod|chown|cd|dvc|wsss) [^`]*`")
PLACE = re.compile(r"(?i)path|file|folder|root|place|there")


def unquoted(code: str) -> Iterator[str]:
    """Paths in commands of a module's texts that a blank would tear apart."""
    tree = ast.parse(code)
    quoted = {
        name.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and "shlex." in ast.unparse(node.value)
        for target in node.targets
        for name in ast.walk(target)
        if isinstance(name, ast.Name)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.JoinedStr):
            continue
        parts = [part for part in node.values if isinstance(part, ast.FormattedValue)]
        given = iter(ast.unparse(part.value) for part in parts)
        text = "".join(
            f"\0{next(given)}\0"
            if isinstance(part, ast.FormattedValue)
            else str(ast.literal_eval(part))
            for part in node.values
        )
        for command in COMMAND.finditer(text):
            for asked in command[0].split("\0")[1::2]:
                if PLACE.search(asked) and "shlex." not in asked and asked not in quoted:
                    yield f"{asked} in {command[0]}".replace("\0", "|")


def test_the_search_finds_what_a_blank_tears_apart() -> None:
    assert list(unquoted("f'see `cp {path} {path}.old`'")) == [
        "path in `cp |path| |path|.old`",
        "path in `cp |path| |path|.old`",
    ]
    assert not list(unquoted("p = shlex.quote(path); f'see `cp {p}`, {path} and `x {path}`'"))


def test_paths_in_advised_commands_are_quoted() -> None:
    found = {
        str(file.relative_to(PACKAGE)): torn
        for file in sorted(PACKAGE.rglob("*.py"))
        if (torn := list(unquoted(file.read_text())))
    }
    assert not found
