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


def test_in_a_project_of_ones_own_names_that_ship_are_known(tmp_path: Path) -> None:
    for kind, mine in (("", "synthetic_mine"), ("tuning", "crf_mine"), ("studies", "anno_mine")):
        folder = tmp_path / "recipes" / kind
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{mine}.yaml").write_text("# Mine")
    for words, expected in (
        ("wsss recipe apply synthetic_", {"synthetic_cam", "synthetic_mine"}),
        ("wsss tune run crf", {"crf", "crf_mine"}),
        ("wsss study run anno", {"annotations", "anno_mine"}),
    ):
        assert expected <= set(completed(words, tmp_path))


def test_without_settings_no_key_is_known(tmp_path: Path) -> None:
    assert completed("wsss set b", tmp_path) == []
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "params.yaml").write_text("base: {")
    assert completed("wsss set b", tmp_path) == []
