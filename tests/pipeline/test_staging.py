import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wsss.artifacts import write_json
from wsss.launch.task import JOBS
from wsss.pipeline.staging import Staging, has_key


class Killed(Exception):
    pass


def interrupted(out: Path, key: str, name: str) -> None:
    with pytest.raises(Killed), Staging(out, key) as staging:
        (staging.path / name).write_text("done")
        raise Killed


def test_completion_puts_the_folder_in_place_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "data" / "cams"
    with Staging(out, "k") as staging:
        assert not staging.resumed
        (staging.path / "sub").mkdir()
        (staging.path / "sub" / "a.npz").write_text("a")
        (staging.path / "sub" / ".b.npz.7.tmp").write_text("half")
        (staging.path / ".work.last.pt").write_text("w")
        (staging.path / ".work.parts").mkdir()
        assert not out.exists()
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == [
        "data",
        "data/cams",
        "data/cams/sub",
        "data/cams/sub/a.npz",
    ]


def test_failure_keeps_the_work_and_the_old_result(tmp_path: Path) -> None:
    out = tmp_path / "cams"
    out.mkdir()
    (out / "old").write_text("old")
    interrupted(out, "k", "a")
    assert [path.name for path in out.iterdir()] == ["old"]
    with Staging(out, "k") as staging:
        assert staging.resumed
        assert (staging.path / "a").read_text() == "done"
        (staging.path / "b").write_text("b")
    assert sorted(path.name for path in out.iterdir()) == ["a", "b"]
    assert [path.name for path in tmp_path.iterdir()] == ["cams"]


def test_work_under_another_key_is_deleted(tmp_path: Path) -> None:
    interrupted(tmp_path / "cams", "k", "a")
    with Staging(tmp_path / "cams", "other") as staging:
        assert not staging.resumed
        assert not (staging.path / "a").exists()


def test_jobs_that_nobody_can_stop_are_told_of_before_work_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may write what this process writes; whoever knows that they are gone keeps the work."""
    interrupted(tmp_path / "cams", "k", "a")
    jobs = tmp_path / ".cams.partial" / JOBS
    write_json(jobs, {"part 1 of 1": "7_0"})
    monkeypatch.setenv("PATH", str(tmp_path))
    began = False
    with pytest.raises(ValueError, match="7_0"), Staging(tmp_path / "cams", "k"):
        began = True
    assert not began
    jobs.unlink()
    with Staging(tmp_path / "cams", "k") as staging:
        assert (staging.path / "a").read_text() == "done"


@pytest.mark.parametrize("marker", [None, "", "{", '{"other": 1}', "[]"])
def test_work_without_a_readable_key_is_deleted(tmp_path: Path, marker: str | None) -> None:
    interrupted(tmp_path / "cams", "k", "a")
    path = tmp_path / ".cams.partial" / ".fingerprint.json"
    path.unlink()
    if marker is not None:
        path.write_text(marker)
    with Staging(tmp_path / "cams", "k") as staging:
        assert not staging.resumed
        assert not (staging.path / "a").exists()


def test_a_completed_result_is_not_resumed(tmp_path: Path) -> None:
    with Staging(tmp_path / "cams", "k") as staging:
        (staging.path / "a").write_text("1")
    with Staging(tmp_path / "cams", "k") as staging:
        assert not staging.resumed
    assert [path.name for path in (tmp_path / "cams").iterdir()] == [".empty"]
    with Staging(tmp_path / "cams", "k") as staging:
        (staging.path / "a").write_text("1")
    assert [path.name for path in (tmp_path / "cams").iterdir()] == ["a"]


def test_a_link_into_a_cache_is_replaced_not_emptied(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "a").write_text("cached")
    (tmp_path / "cams").symlink_to(cache)
    with Staging(tmp_path / "cams", "k") as staging:
        (staging.path / "a").write_text("new")
    assert (cache / "a").read_text() == "cached"
    assert (tmp_path / "cams" / "a").read_text() == "new"
    assert not (tmp_path / "cams").is_symlink()


def test_what_a_kill_in_the_last_moment_leaves_is_cleared(tmp_path: Path) -> None:
    (tmp_path / ".cams.old").mkdir()
    (tmp_path / ".cams.old" / "a").write_text("older")
    (tmp_path / "cams").mkdir()
    with Staging(tmp_path / "cams", "k") as staging:
        (staging.path / "a").write_text("new")
    assert (tmp_path / "cams" / "a").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["cams"]


def test_kill_9_then_resume(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from wsss.artifacts import atomic_path\n"
        "from wsss.pipeline.staging import Staging\n"
        "with Staging(Path(sys.argv[1]), 'k') as staging:\n"
        "    (staging.path / 'a').write_text('whole')\n"
        "    with atomic_path(staging.path / 'b') as temporary:\n"
        "        temporary.write_text('half')\n"
        f"        os.kill(os.getpid(), {int(signal.SIGKILL)})\n"
    )
    out = tmp_path / "cams"
    killed = subprocess.run([sys.executable, "-c", code, str(out)], env=os.environ, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not out.exists()
    with Staging(out, "k") as staging:
        assert staging.resumed
        assert not (staging.path / "b").exists()
    assert [path.name for path in out.iterdir()] == ["a"]


def test_a_folder_that_keeps_its_key_is_known_by_it(tmp_path: Path) -> None:
    out = tmp_path / "sources" / "one"
    assert not has_key(out, "k")
    with pytest.raises(Killed), Staging(out, "k", keep_key=True):
        raise Killed
    assert not has_key(out, "k")
    with Staging(out, "k", keep_key=True) as work:
        assert work.resumed
    assert has_key(out, "k") and not has_key(out, "other")
    with Staging(out, "k") as work:
        assert not work.resumed
    assert not has_key(out, "k")


def test_checkpoints_outlive_a_kill_between_a_result_and_its_report(tmp_path: Path) -> None:
    """DVC deletes the result, which nobody has reported, and the next run has its checkpoints."""
    with Staging(tmp_path / "model", "k", keep_work=True) as staging:
        (staging.path / "weights").write_text("w")
        (staging.path / ".work.last.pt").write_text("checkpoint")
    (tmp_path / "model/weights").unlink()
    (tmp_path / "model").rmdir()
    with Staging(tmp_path / "model", "k", keep_work=True) as staging:
        assert staging.resumed
        assert (staging.path / ".work.last.pt").read_text() == "checkpoint"
    staging.settle()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    with Staging(tmp_path / "model", "other") as staging:
        assert not staging.resumed
