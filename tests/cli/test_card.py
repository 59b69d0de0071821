"""`wsss card` and `wsss suggest` as a person types them."""

import subprocess
import sys
from pathlib import Path

import pytest

from wsss.artifacts import Manifest, Sample, write_json

COMMAND = [sys.executable, "-c", "from wsss.cli import main; main()"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """One with pseudo masks, of a classifier that started from weights of one's own."""
    (tmp_path / "params.yaml").write_text(
        "machine: {accelerator: cpu}\n"
        "prepare_data: {dataset: {name: folder, root: photos}}\n"
        "train_classifier: {backbone: {model_name: resnet10t, weights: mine.pth}}\n"
    )
    samples = tuple(Sample(f"i{at}", f"i{at}.png", (4, 4), (1,)) for at in range(3))
    manifest = Manifest(("cat",), {"train": samples, "selection": samples[:1], "val": ()})
    manifest.write(tmp_path / "data/splits")
    write_json(tmp_path / "data/pseudo_masks/x.json", {})
    return tmp_path


def run(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], cwd=project, capture_output=True, text=True)


def test_a_card_is_written_checked_and_refused(project: Path) -> None:
    done = run(project, "card", "data/pseudo_masks")
    assert done.returncode == 0, done.stderr
    key = "train_classifier.backbone.weights"
    assert f"UNKNOWN LICENCE of {key}; name it: --licence '{key}=...'" in done.stderr
    assert "UNKNOWN LICENCE of the training images; name it: --licence 'data=...'" in done.stderr
    named = ["--licence", f"{key}=mit", "--licence", "data=cc0-1.0"]
    done = run(project, "card", "data/pseudo_masks", *named)
    assert done.returncode == 0 and "UNKNOWN" not in done.stderr
    page = project / "card.md"
    page.write_text(page.read_text().replace("cc0-1.0", "ours"))
    done = run(project, "card", "data/pseudo_masks", *named, "--check", "card.md")
    assert done.returncode == 1 and "leaves out 1 licences that are known: cc0-1.0" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("card", "models/segmenter holds nothing; `wsss run train_segmenter` makes it"),
        ("card photos", "photos is none of models/segmenter"),
        ("card data/pseudo_masks --licence mit", "write KEY=NAME, such as data=CC-BY-4.0"),
        ("card data/pseudo_masks --check no.md", "no.md is not there"),
        ("suggest --hours 0", "hours must be above 0"),
    ],
)
def test_advice_that_can_be_followed(project: Path, words: str, said: str) -> None:
    done = run(project, *words.split())
    assert done.returncode == 1 and said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
