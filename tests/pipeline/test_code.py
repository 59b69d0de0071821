"""What a change of a file means: comments, docstrings and layout nothing, all else another hash."""

from pathlib import Path

import pytest

from wsss.pipeline import code
from wsss.pipeline.code import CodeLock, code_key, current_code

TEXT = '''\
"""A page."""

from math import pi

LENGTH = 3
"""Of a thing."""


def area(radius: float, *, whole: bool = True) -> float:
    """Give it."""
    # of a circle
    return pi * radius**2 if whole else f"{radius!r:>{LENGTH}}"


class Empty:
    """Nothing."""
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "src/wsss"
    (root / "densecrf").mkdir(parents=True)
    (root / "densecrf/_native.so").write_bytes(b"compiled")
    (root / "part").mkdir()
    (root / "part/page.py").write_text(TEXT)
    (root / "alone.py").write_text("A = 1")
    monkeypatch.setattr(code, "_PACKAGE", root)
    return root


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ('"""A page."""', "", True),
        ('"""Of a thing."""', '"""Of another."""', True),
        ('"""Give it."""', '"""Give it.\n\n    In pixels.\n    """', True),
        ('"""Nothing."""', '"""Nothing at all."""', True),
        ("    # of a circle\n", "", True),
        ("from math import pi\n", "from math import pi  # noqa\n\n\n", True),
        ("area(radius: float, *, whole", "area(\n    radius: float,\n    *,\n    whole", True),
        ("LENGTH = 3", "LENGTH = (3)", True),
        ("LENGTH = 3", "LENGTH = 3.0", False),
        ("LENGTH = 3", "LENGTH = True", False),
        ("LENGTH = 3", 'LENGTH = "3"', False),
        ("radius**2", "radius**3", False),
        ("whole: bool = True", "whole: bool = False", False),
        ("*, whole", "whole", False),
        ("{radius!r:>{LENGTH}}", "{radius!s:>{LENGTH}}", False),
        ("{radius!r:>{LENGTH}}", " {radius!r:>{LENGTH}}", False),
        ("class Empty", "class Full", False),
    ],
)
def test_what_a_file_does_is_hashed(package: Path, old: str, new: str, same: bool) -> None:
    before = current_code(["part"])
    assert old in TEXT
    (package / "part/page.py").write_text(TEXT.replace(old, new, 1))
    assert (current_code(["part"]) == before) == same


def test_names_of_files_and_new_ones_count(package: Path) -> None:
    before = current_code(["part"])
    (package / "part/page.py").rename(package / "part/other.py")
    renamed = current_code(["part"])
    (package / "part/more.py").write_text("")
    assert len({str(found) for found in (before, renamed, current_code(["part"]))}) == 3


def test_the_file_says_the_same_when_it_is_read(package: Path, tmp_path: Path) -> None:
    lock = CodeLock.of_installed("1.2", ["alone.py", "part", "csrc", "gone"])
    (tmp_path / "wsss.lock").write_text(lock.text)
    assert CodeLock.read(tmp_path) == lock
    assert CodeLock.read(tmp_path / "src") is None


def test_what_differs_is_found_by_part(package: Path) -> None:
    parts = ["alone.py", "part", "csrc"]
    lock = CodeLock.of_installed("1.2", parts)
    assert lock.differing(parts) == []
    assert lock.differing(["unknown"]) == ["unknown"]
    (package / "alone.py").write_text("A = 1  # one")
    assert lock.differing(parts) == []
    (package / "alone.py").write_text("A = 2")
    assert lock.differing(parts) == ["alone.py"]
    (package / "densecrf/_native.so").write_bytes(b"compiled anew")
    assert lock.differing(parts) == ["alone.py", "csrc"]
    assert lock.differing(["part"]) == []


def test_sources_stand_for_what_a_compiler_makes_of_them(package: Path) -> None:
    (package / "csrc").mkdir()  # as a wheel has them
    (package / "csrc/filter.cpp").write_text("int one;")
    lock = CodeLock.of_installed("1.2", ["csrc"])
    (package / "densecrf/_native.so").write_bytes(b"of another compiler")
    assert lock.differing(["csrc"]) == []


def test_keys_of_parts_do_not_hide_one_another() -> None:
    from wsss.stages import find_stages

    parts = {part for stage in find_stages() for part in stage.code_parts}
    keys = sorted(map(code_key, parts))
    assert len(set(keys)) == len(parts)
    assert not [key for key in keys for other in keys if other.startswith(f"{key}.")]
