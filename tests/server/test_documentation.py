"""What docs/serve.md shows works as it stands, at another port."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss.server import Limits
from wsss.server.answers import json_of
from wsss.server.running import read_token

PAGE = (Path(__file__).parents[2] / "docs/serve.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
CURL = [line for block in BLOCKS for line in block.splitlines() if line.startswith("curl ")]
MAKE_TOKEN = next(line for line in "\n".join(BLOCKS).splitlines() if "token_urlsafe" in line)


@pytest.fixture
def folder(tmp_path: Path, stripes: Any, as_file: Any, colours: Any) -> Path:
    colours.class_names = ("red", "green")
    (tmp_path / "photo.png").write_bytes(as_file(stripes[0]))
    return tmp_path


def test_every_command_gives_what_is_said(
    folder: Path, serving: Any, colours: Any, stripes: Any
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    assert len(CURL) == 5
    made = subprocess.run(MAKE_TOKEN, shell=True, cwd=folder, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    token = read_token(folder / "token")
    for line in CURL:
        needed = token if "Authorization" in line else ""
        with serving(colours, Limits(), needed) as client:
            command = line.replace("8080", str(client.port)).replace("curl", "curl -sS --fail", 1)
            done = subprocess.run(
                ["bash", "-c", command], cwd=folder, capture_output=True, text=True
            )
        assert done.returncode == 0, (line, done.stderr)
        if named := re.search(r"-o (\S+\.png)", line):
            with Image.open(folder / named[1]) as picture:
                assert np.array_equal(np.asarray(picture), stripes[1]), line
            (folder / named[1]).unlink()
        else:
            assert '"red"' in done.stdout


def test_the_client_in_python(
    folder: Path, serving: Any, colours: Any, stripes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    with serving(colours, Limits()) as client:
        exec(code.replace("8080", str(client.port)), names)
    assert np.array_equal(names["mask"], stripes[1])


def test_the_json_that_is_shown_is_an_answer(folder: Path, stripes: Any) -> None:
    (shown,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    mask = np.where(stripes[1] == 1, 1, 0).astype(np.uint8)
    answer = json.loads(json_of(mask, ("red", "green")))
    answer["classes"][0]["rle"]["counts"] = "..."
    assert json.loads(shown) == answer
