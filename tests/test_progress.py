"""How far long work is: lines in a log, and notes for the process that waits for a task."""

import io
import json
import logging
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from wsss import progress


def test_off_a_terminal_a_line_comes_every_while_even_within_one_item(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "wsss.progress")
    monkeypatch.setattr(progress, "EVERY", 0.1)
    for at in progress.track([1, 2, 3, 4], "CAMs", 8, 2):
        if at == 3:
            time.sleep(0.5)
    # a busy machine may take long over the other items, too
    lines = [text for text in caplog.messages if text.startswith("CAMs: 4 of 8, ")]
    assert len(lines) >= 3 and all(line.endswith(" s left") for line in lines)
    caplog.clear()
    for _ in progress.track([1, 2], "slow to begin"):
        time.sleep(0.25)
        break
    assert caplog.records[0].getMessage() == "slow to begin: 0 of 2"
    caplog.clear()
    time.sleep(0.25)
    assert not caplog.records, "work that was left says nothing any more"
    assert "progress" not in [thread.name for thread in threading.enumerate()]


def test_batches_of_different_sizes_count_as_what_they_hold(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(progress, "_note", progress._Note())
    monkeypatch.setenv("WSSS_PROGRESS", str(tmp_path / "note"))
    batches = progress.track([[1], [2, 3], [4]], "CAMs", 4, len)
    counted = [progress._note._done for _ in batches]
    assert counted == [0, 1, 3] and progress._note._done == 4


def test_short_work_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert list(progress.track(range(5), "quick")) == [*range(5)]
    assert not caplog.records


def test_a_task_notes_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_note", progress._Note())
    monkeypatch.setenv("WSSS_PROGRESS", str(tmp_path / "note"))
    for _ in progress.track(range(5), "first"):
        pass
    for at in progress.track([1, 2], "CAMs", 8, 4):
        if at == 2:
            break
    else:
        pytest.fail("it went on")
    assert json.loads((tmp_path / "note").read_text()) == {"what": "CAMs", "done": 5, "total": 13}
    list(progress.track([1, 2], "CAMs", 8, 4))
    assert json.loads((tmp_path / "note").read_text())["done"] == 5 + 4 + 8
    assert [file.name for file in tmp_path.iterdir()] == ["note"]


def test_libraries_say_what_is_wrong_and_no_more() -> None:
    code = (
        "import logging; from wsss.progress import show_log; show_log({level})\n"
        "for name in ('wsss.export.onnx_file', '__main__', 'onnxscript', 'any.other'):\n"
        "    logging.getLogger(name).info('%s tells', name)\n"
        "    logging.getLogger(name).warning('%s warns', name)\n"
    )

    def printed(level: str) -> list[str]:
        command = [sys.executable, "-c", code.replace("{level}", level)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stderr.splitlines()

    warned = ["onnxscript warns", "any.other warns"]
    own = ["wsss.export.onnx_file", "__main__"]
    assert printed("") == [f"{name} {said}" for name in own for said in ("tells", "warns")] + warned
    # as the second of several processes
    assert printed("logging.WARNING") == [f"{name} warns" for name in own] + warned


def test_lines_of_a_log_are_whole() -> None:
    code = (
        "import logging; from wsss.progress import show_log; show_log()\n"
        "logging.getLogger('wsss').info('epoch 1/15  ' + 'selection_pseudo_mean_iou 0.4929  ' * 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "epoch 1/15  " + "selection_pseudo_mean_iou 0.4929  " * 9 + "\n"


def test_parts_of_one_work_are_one_bar(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO, "wsss.progress")
    monkeypatch.setattr(progress, "EVERY", 0.02)
    monkeypatch.setattr(progress, "_note", progress._Note())
    monkeypatch.setenv("WSSS_PROGRESS", str(tmp_path / "note"))
    with progress.one_bar("refine", 30) as bar:
        for part, there in enumerate((0, 4, 10)):  # of ten images each, some were done before
            for _ in progress.track(range(10 - there), "a part"):
                time.sleep(0.01)
            bar.expect(bar.done + 20 - 10 * part)
    lines = [record.getMessage() for record in caplog.records]
    assert lines and all(line.startswith("refine: ") for line in lines)
    told = [tuple(map(int, re.findall(r"\d+", line)[:2])) for line in lines]
    assert told == sorted(told, key=lambda at: (at[0], -at[1])), "it never goes back"
    assert told[0][1] == 30 and told[-1][1] in (30, 26, 16), "as far as was known by then"
    note = {"what": "refine", "done": 16, "total": 16}
    assert json.loads((tmp_path / "note").read_text()) == note
    list(progress.track(range(3), "what follows"))
    assert json.loads((tmp_path / "note").read_text())["what"] == "what follows"


def test_parts_on_a_terminal_are_one_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=120)
    monkeypatch.setattr(progress, "Console", lambda stderr: console)
    with progress.one_bar("refine", 30):
        for _ in range(3):
            list(progress.track(range(10), "a part"))
    said = file.getvalue()
    assert "refine" in said and "30/30" in said and "a part" not in said
