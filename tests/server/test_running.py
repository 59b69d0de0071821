"""A server process of its own, with a network, and many clients at once."""

import http.client
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsss.server.running import check_host, read_token

SIZES = [(64, 96), (33, 47), (1, 1), (96, 64), (70, 130)]


@contextmanager
def process(folder: Path, *options: str) -> Iterator[tuple[int, "subprocess.Popen[str]"]]:
    """`wsss serve` at a free port; the port, and the process."""
    command = [sys.executable, "-m", "wsss", "serve", str(folder), "--device", "cpu"]
    log = folder.parent / "log.txt"
    with log.open("w") as out:
        server = subprocess.Popen(
            [*command, "--port", "0", *options], stdout=out, stderr=out, text=True
        )
        try:
            end = time.monotonic() + 300
            while not (
                found := re.search(r"running on http://127\.0\.0\.1:(\d+)", log.read_text())
            ):
                assert server.poll() is None and time.monotonic() < end, log.read_text()
                time.sleep(0.1)
            yield int(found[1]), server
        finally:
            server.kill()
            server.wait()


def test_eight_clients_get_what_the_model_predicts(
    tmp_path: Path, colour_segmenter: Callable[..., Path], serving: Any, as_file: Any
) -> None:
    from wsss.prediction import open_model

    folder = colour_segmenter(tmp_path)
    model, draw = open_model(folder, "cpu"), np.random.default_rng(0)
    images = []
    for at in range(40):
        height, width = SIZES[at % len(SIZES)]
        cells = draw.integers(0, 256, (-(-height // 16), -(-width // 16), 3), np.uint8)
        images.append(cells.repeat(16, axis=0).repeat(16, axis=1)[:height, :width])
    tags = [None, ["red"], ["green"]]
    expected = [
        model.predict([image], tags=[tags[at % 3]])[0].mask for at, image in enumerate(images)
    ]
    assert set(np.unique(np.concatenate([mask.ravel() for mask in expected]))) == {0, 1, 2}
    client = sys.modules[serving.__module__].Client
    with process(folder, "--max-waiting", "40") as (port, server):

        def ask(at: int) -> Any:
            tag = f"?tag={tags[at % 3][0]}" if tags[at % 3] else ""
            return client(port).predict(as_file(images[at]), tag)

        with ThreadPoolExecutor(8) as clients:
            answers = list(clients.map(ask, range(len(images))))
        for answer, mask in zip(answers, expected, strict=True):
            assert answer.status == 200 and np.array_equal(answer.mask, mask)
        lines = client(port)("GET", "/metrics").body.decode().splitlines()
        assert "wsss_prediction_seconds_count 40" in lines
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_memory_is_flat(
    tmp_path: Path, colour_segmenter: Callable[..., Path], serving: Any, as_file: Any
) -> None:
    folder = colour_segmenter(tmp_path)
    (tmp_path / "params.yaml").write_text("predict_masks: {scales: [1.0], flip: false}\n")
    draw = np.random.default_rng(0)
    files = [as_file(draw.integers(0, 256, (*size, 3), np.uint8)) for size in SIZES]
    files += [b"hello", files[0][:100]]
    with process(folder) as (port, server):

        def resident() -> float:
            pages = int(Path(f"/proc/{server.pid}/statm").read_text().split()[1])
            return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

        held = []
        connection = http.client.HTTPConnection("127.0.0.1", port)
        for at in range(2000):
            connection.request("POST", "/predict", files[at % len(files)])
            connection.getresponse().read()
            if at % 100 == 99:
                held.append(resident())
                print(f"MiB after {at + 1} requests: {held[-1]:.1f}", flush=True)
        assert max(held[5:]) - held[4] < 8


def test_other_machines_need_a_token(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org"):
        with pytest.raises(ValueError, match="other machines can ask, and there is no token"):
            check_host(host, "")
        check_host(host, "x" * 20)
    for host in ("127.0.0.1", "127.0.0.2", "::1", "localhost"):
        check_host(host, "")
    run = subprocess.run(
        [sys.executable, "-m", "wsss", "serve", "nowhere", "--host", "0.0.0.0"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert run.returncode == 1 and "--token-file token, or listen at 127.0.0.1" in run.stderr


@pytest.mark.parametrize("text", ["", "short", "two words of a sentence", "ümlaute-sind-keine"])
def test_a_token_that_is_none_is_said(text: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    with pytest.raises(ValueError, match=r"there is no file .*secrets\.token_urlsafe"):
        read_token(file)
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="a token is one word of 16 or more"):
        read_token(file)
    file.write_text("a-long-enough-token\n")
    assert read_token(file) == "a-long-enough-token"
