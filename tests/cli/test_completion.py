"""What a shell completes, asked as bash asks."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def completed(words: str, cwd: Path = ROOT) -> list[str]:
    command = [
        sys.executable,
        "-c",
        "import sys; sys.argv[0] = 'wsss'; from wsss.cli import main; main()",
    ]
    told = {
        "PATH": "/usr/bin:/bin",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
        "_WSSS_COMPLETE": "complete_bash",
    }
    done = subprocess.run(command, cwd=cwd, env=told, capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("wsss tun", "tune"),
        ("wsss tune run --tri", "--trials"),
        ("wsss tune run cr", "crf"),
        ("wsss recipe apply synthetic_c", "synthetic_cam"),
        ("wsss study run anno", "annotations"),
        ("wsss run refine", "refine_cams"),
        ("wsss set base.rng", "base.rng_seed=2024"),
        ("wsss set refine.chains.crf.0.n", "refine.chains.crf.0.name=dense_crf"),
    ],
)
def test_names_and_keys(words: str, expected: str) -> None:
    assert expected in completed(words)


def test_elsewhere_nothing_is_said(tmp_path: Path) -> None:
    assert completed("wsss recipe apply s", tmp_path) == []
    assert completed("wsss set b", tmp_path) == []
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "params.yaml").write_text("base: {")
    assert completed("wsss set b", tmp_path) == []
