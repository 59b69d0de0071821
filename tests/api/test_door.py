"""`import wsss` costs nothing and gives everything; methods from outside come in by it, too."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import wsss
import wsss.evaluate
import wsss.refine


def run(code: str, path: Path | None = None) -> str:
    """What a script prints in a process of its own."""
    known = os.environ | ({"PYTHONPATH": str(path)} if path else {})
    done = subprocess.run([sys.executable, "-c", code], env=known, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_it_imports_nothing_else() -> None:
    script = """
import sys
before = set(sys.modules)
import wsss
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(new - set(sys.stdlib_module_names)), *(x for x in sys.modules if x[:5] == "wsss."))
"""
    assert run(script) == "['wsss']"


def test_torch_comes_with_the_first_network() -> None:
    script = """
import sys, wsss, numpy as np
maps = wsss.Maps.of(np.zeros((4, 4, 3), np.uint8), {"cat": np.eye(2)})
wsss.evaluate(wsss.mask(maps), np.zeros((4, 4), np.uint8))
maps.plot()
print([name for name in ("torch", "timm", "mlflow", "scipy", "matplotlib") if name in sys.modules])
"""
    assert run(script) == "[]"


@pytest.mark.parametrize("name", wsss.__all__)
def test_each_name_is_that_of_the_package_behind(name: str) -> None:
    from wsss import api

    assert name in dir(wsss) and name in api.__all__
    mine, behind = getattr(wsss, name), getattr(api, name)
    assert inspect.unwrap(mine) is behind
    assert behind.__doc__
    if inspect.isfunction(behind):
        assert inspect.signature(mine) == inspect.signature(behind)


def test_two_of_them_are_packages_that_can_be_called() -> None:
    assert run(
        "import wsss, wsss.refine; print(callable(wsss.refine), wsss.refine.Chain.__name__)"
    ) == ("True Chain")
    assert run(
        "from wsss import evaluate; print(callable(evaluate), evaluate.Counts.__name__)"
    ) == ("True Counts")
    assert run("import wsss; print(callable(wsss.refine), callable(wsss.evaluate))") == "True True"
    assert run("import wsss; print(len(wsss.registry.REFINERS.names()) > 5)") == "True"


def test_what_is_not_installed_is_named_with_what_installs_it() -> None:
    script = """
import sys
sys.modules["pydantic"] = None
import wsss, wsss.densecrf
try:
    wsss.cams
except ModuleNotFoundError as error:
    print(error)
"""
    said = "wsss.cams needs pydantic, which is not installed: pip install 'wsss[pipeline]'"
    assert run(script) == said


def test_a_name_that_it_does_not_have() -> None:
    with pytest.raises(AttributeError, match="module 'wsss' has no attribute 'cam5'"):
        wsss.cam5  # noqa: B018
    assert not hasattr(wsss, "numpy")
