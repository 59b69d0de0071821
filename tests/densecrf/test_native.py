"""The compiled module itself: its stub, and that nothing but NumPy is needed to import it."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import wsss.densecrf
from wsss.densecrf import _native


def declarations(stub: Path) -> list[str]:
    """What a stub declares, whatever its layout and the order of its imports."""
    body = ast.parse(stub.read_text(encoding="utf-8")).body
    imports = sorted(ast.unparse(n) for n in body if isinstance(n, ast.Import | ast.ImportFrom))
    return imports + [
        ast.unparse(n) for n in body if not isinstance(n, ast.Import | ast.ImportFrom)
    ]


def test_the_committed_stub_is_the_generated_one() -> None:
    generated = Path(_native.__file__).with_name("_native.pyi")
    committed = Path(wsss.densecrf.__file__).with_name("_native.pyi")
    advice = f"cp {generated} {committed}; ruff check --fix {committed}; ruff format {committed}"
    assert declarations(committed) == declarations(generated), advice


def test_imports_with_numpy_alone() -> None:
    script = (
        "import sys, wsss.densecrf, wsss.densecrf.utils, wsss.densecrf.reference\n"
        "heavy = {'torch', 'scipy', 'skimage', 'pydantic', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_refuses_silent_copies() -> None:
    # noconvert: an in-place result written to a temporary would be lost.
    crf = _native.DenseCrf(4, 2)
    crf.set_unary_energy(np.zeros((2, 4), np.float32))
    for wrong in (np.zeros((2, 4)), np.zeros((4, 2), np.float32).T):
        with pytest.raises(TypeError):
            crf.inference(1, wrong, 1)
    with pytest.raises(ValueError, match=r"out must have shape .* = \(2, 4\) but has \(3, 4\)"):
        crf.inference(1, np.zeros((3, 4), np.float32), 1)
