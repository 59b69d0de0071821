"""Run notebooks from top to bottom and keep what they show.

    python examples/run.py                      # all of this folder
    python examples/run.py examples/own_folder.ipynb

They need no Jupyter to run: code cells are plain Python, but for lines that begin with `!`, which a
shell runs. Each notebook runs in an empty folder of its own.
"""

import ast
import base64
import io
import json
import os
import subprocess
import sys
import tempfile
from contextlib import chdir, redirect_stdout
from pathlib import Path
from typing import Any

from PIL import Image

HERE = Path(__file__).parent


def read(path: Path) -> dict[str, Any]:
    """A notebook as plain values."""
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def run(notebook: dict[str, Any]) -> dict[str, Any]:
    """Run the code cells in the current folder, and put what they show into them.

    Returns:
        The names that they leave.

    Raises:
        Exception: whatever a cell raises, with its number as a note.
    """
    names: dict[str, Any] = {"__name__": "__main__", "_shell": _shell}
    number = 0
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        number += 1
        printed = io.StringIO()
        try:
            with redirect_stdout(printed):
                value = _run_cell("".join(cell["source"]), names)
        except Exception as error:
            error.add_note(f"in code cell {number}:\n{''.join(cell['source'])}")
            raise
        cell["execution_count"] = number
        cell["outputs"] = _outputs(printed.getvalue(), value, number)
    return names


def write(notebook: dict[str, Any], path: Path) -> None:
    """Write a notebook, laid out as Jupyter does."""
    text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    path.write_text(text, encoding="utf-8")


def _run_cell(source: str, names: dict[str, Any]) -> Any:
    """Run a cell; give the value of its last line, if that is an expression."""
    lines = (
        f"_shell({line[1:].strip()!r})" if line.startswith("!") else line
        for line in source.splitlines()
    )
    tree = ast.parse("\n".join(lines))
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    if last is None:
        return None
    assert isinstance(last, ast.Expr)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names)


def _shell(command: str) -> None:
    """Run a command, and print what it prints; one that fails is an error."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, shell=True, env=os.environ | {"PATH": path}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    print(done.stdout, end="")
    if done.returncode:
        raise RuntimeError(f"{command} ended with exit code {done.returncode}:\n{done.stdout}")


def _outputs(printed: str, value: Any, number: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if printed:
        found.append(
            {"output_type": "stream", "name": "stdout", "text": printed.splitlines(keepends=True)}
        )
    if value is not None:
        data: dict[str, Any] = {"text/plain": [repr(value)]}
        if hasattr(value, "_repr_png_"):
            data = {"image/png": _small(value._repr_png_()), "text/plain": [type(value).__name__]}
        found.append(
            {
                "output_type": "execute_result",
                "execution_count": number,
                "metadata": {},
                "data": data,
            }
        )
    return found


def _small(png: bytes) -> str:
    """A picture in 256 colours, as text."""
    file = io.BytesIO()
    with Image.open(io.BytesIO(png)) as picture:
        picture.convert("RGB").quantize(256).save(file, format="PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def main(paths: list[Path]) -> None:
    for path in paths:
        notebook = read(path)
        with tempfile.TemporaryDirectory() as folder, chdir(folder):
            run(notebook)
        write(notebook, path)
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main([Path(name).resolve() for name in sys.argv[1:]] or sorted(HERE.glob("*.ipynb")))
