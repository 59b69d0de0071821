"""What stops work from outside is said in a few lines, with the setting or command that helps."""

import errno
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from wsss.config.params import Params
from wsss.pipeline.mishaps import costly_settings, explain, kept_work
from wsss.stages import find_stages
from wsss.training.checkpoint import load_checkpoint, save_checkpoint


def os_error(number: int, path: str | None = None) -> OSError:
    return OSError(number, os.strerror(number), path)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (os_error(errno.ENOSPC, "data/cams/a.npz"), ["'data/cams/a.npz'", "MiB free", "dvc gc"]),
        (os_error(errno.ENOSPC), ["No space left on device", "MiB free"]),
        (os_error(errno.EDQUOT, "data/x"), ["A disk, or your share of it, is full"]),
        (os_error(errno.EROFS, "data/cams"), ["'data/cams'", "read-only", "mount"]),
        (os_error(errno.EMFILE, "a.png"), ["ulimit -n", "machine.num_workers"]),
        (os_error(errno.EIO, "a.png"), ["dmesg"]),
        (MemoryError(), ["The machine has too little memory\n", "train.batch_size (16)"]),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has"),
            ["The GPU has too little memory", "20.00 GiB", "train.batch_size (16)", "nvidia-smi"],
        ),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate "
            "memory: you tried to allocate 4000000000000 bytes. Error code 12"),
            ["The machine has too little memory", "train.batch_size (16)"],
        ),
        (
            RuntimeError(
                "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that "
                "dataloader's workers are out of shared memory."
            ),
            ["/dev/shm", "machine.num_workers: 0", "--shm-size"],
        ),
        (
            RuntimeError("unable to write to file </torch_7_1_0>: No space left on device (28)"),
            ["/dev/shm", "machine.num_workers: 0", "--shm-size"],
        ),
        (RuntimeError("received 0 items of ancdata"), ["ulimit -n"]),
        (
            RuntimeError("unable to open shared memory object </torch_7_1_0>: Too many open files"),
            ["ulimit -n"],
        ),
        (os_error(errno.ENOMEM), ["The machine has too little memory", "train.batch_size (16)"]),
        (
            RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"),
            ["lower machine.num_workers"],
        ),
        (ValueError("no image"), ["no image"]),
    ],
)  # fmt: skip
def test_every_mishap_is_told_shortly_with_a_way_out(
    error: BaseException, words: list[str]
) -> None:
    text = explain(error, ["train.batch_size (16)"])
    assert text is not None
    for word in words:
        assert word in text
    assert text.count("\n") < 4


@pytest.mark.parametrize(
    "name", ["torch_weights", "torch_1_2 no space", "shared memory", "bus error", "out of memory"]
)
def test_what_a_path_or_value_reads_like_is_not_what_happened(name: str) -> None:
    path = f"/data/{name}/x.pth"
    words = [f"{path} is not there", f"[Errno 2] No such file or directory: {path!r}"]
    errors = [kind(text) for kind in (ValueError, FileNotFoundError) for text in words]
    for error in (*errors, os_error(errno.ENOENT, path), ImportError(f"no module in {path}")):
        assert explain(error) == str(error)
    written = explain(os_error(errno.EROFS, path)) or ""
    assert "mounted read-only" in written
    assert explain(RuntimeError("/home/me/torch_1_2/x.py: shapes do not match")) is None


ME, ROOT, OTHER = 1000, 0, 1001


@pytest.mark.parametrize(
    ("owner", "closed", "asked", "words"),
    [
        (ME, "my data", "my data/cams/a.npz", "yours, but closed; open it (`chmod u+rwX '{}'`"),
        (ME, "my data/a.png", "my data/a.png", "open it (`chmod u+rwX '{}'`"),
        (ME, "my data", "my data/a.png", "open it (`chmod u+rwX '{}'`"),
        (ROOT, "my data", "my data/cams", "belongs to user 0, and this process is run by "
         "1000; give it away (`sudo chown -R 1000 '{}'`"),
        (ROOT, "..", "../more data", "belongs to user 0, and this process is run by 1000; ask"),
        (OTHER, "my data", "my data/a.png", "belongs to user 1001, and this process is run by "
         "1000; ask its owner for the right"),
    ],
)  # fmt: skip
def test_a_place_that_is_closed_has_a_way_out_that_opens_it_alone(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: int,
    closed: str,
    asked: str,
    words: str,
) -> None:
    root = tmp_path / "project"
    (root / "my data").mkdir(parents=True)
    (root / "my data/a.png").touch()
    monkeypatch.chdir(root)
    place = Path(os.path.normpath(root / closed))
    stat = Path.stat

    def owned(self: Path, **options: Any) -> os.stat_result:
        held = stat(self, **options)
        return os.stat_result((*held[:4], owner, *held[5:])) if self == place else held

    monkeypatch.setattr(Path, "stat", owned)
    monkeypatch.setattr(os, "geteuid", lambda: ME)
    monkeypatch.setattr(
        os, "access", lambda path, mode: path.exists() and (mode == os.F_OK or path != place)
    )
    text = explain(os_error(errno.EACCES, os.path.normpath(root / asked))) or ""
    assert f"{place} " in text and words.format(place) in text
    assert text.count("chown") == ("chown" in words)


def test_images_in_a_home_that_is_closed_are_told_as_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, stat, access = tmp_path / "colleague", Path.stat, os.access
    (home / "images").mkdir(parents=True)

    def refused(path: Path, **options: Any) -> os.stat_result:
        if home in path.parents:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refused)
    monkeypatch.setattr(
        os, "access", lambda path, mode: home not in path.parents and access(path, mode)
    )
    for number in (errno.EACCES, errno.ENOSPC):
        text = explain(os_error(number, str(home / "images/a.png"))) or ""
        assert f"{home} " in text


def test_the_fullest_disk_is_named_where_the_error_names_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "data"
    small.mkdir()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: usage._replace(free=0 if path == small else usage.free)
    )
    text = explain(os_error(errno.ENOSPC), places=[tmp_path / "models", small / "cams"]) or ""
    assert f"{small} has 0 of" in text


def test_what_the_code_is_to_blame_for_is_not_explained_away() -> None:
    for error in (RuntimeError("shapes do not match"), KeyError("a"), AssertionError()):
        assert explain(error) is None


class Broken(Dataset[int]):
    def __init__(self, error: Exception) -> None:
        self.error = error

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise self.error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("a.png has shape (1, 2)"), "a.png has shape (1, 2)"),
        (os_error(errno.EMFILE, "b.png"), "ulimit -n"),
    ],
)
def test_errors_of_processes_that_load_images_are_told_without_their_trace(
    error: Exception, words: str
) -> None:
    with pytest.raises(type(error)) as raised:
        list(DataLoader(Broken(error), num_workers=1))
    assert "Traceback" in str(raised.value)
    text = explain(raised.value) or ""
    assert words in text
    assert "Traceback" not in text and text.count("\n") < 3


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """Files above a size cannot be written, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_checkpoint_that_the_disk_does_not_take_is_no_bug_and_the_last_one_stays(
    tmp_path: Path,
) -> None:
    """PyTorch itself says "enforce fail ... unexpected pos"."""
    file = tmp_path / ".work.last.pt"
    save_checkpoint(file, {"epoch": 1})
    with pytest.raises(OSError, match=r"work\.last\.pt") as raised, small_disk(100_000):
        save_checkpoint(file, {"epoch": 2, "weights": torch.zeros(100_000)})
    assert raised.value.errno == errno.EFBIG
    assert load_checkpoint(file) == {"epoch": 1}
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_what_is_kept_names_epochs_and_files(tmp_path: Path) -> None:
    out, entries = tmp_path / "classifier", tmp_path / "further_cams"
    assert kept_work([out, entries]) == ""
    (tmp_path / ".classifier.partial").mkdir()
    assert kept_work([out, entries]) == ""
    save_checkpoint(tmp_path / ".classifier.partial/.work.round0.pt", {"epoch": 2, "part": {}})
    (tmp_path / ".classifier.partial/.work.round1.pt").write_bytes(b"torn")
    (entries / ".more.partial/train").mkdir(parents=True)
    (entries / ".more.partial/train/a.npz").touch()
    assert kept_work([out, entries]) == (
        f"What is done is kept: epochs 1 to 3 of round0 in {tmp_path}/.classifier.partial, "
        f"1 files in {entries}/.more.partial."
    )


def test_settings_that_cost_memory_are_named_for_every_stage_that_has_batches() -> None:
    params = Params()
    for name, key in {
        "train_classifier": "train_classifier.batch_size (",
        "train_segmenter": "train_segmenter.augment.crop_size (",
        "generate_cams": "generate_cams.batch_size (",
    }.items():
        named = costly_settings(find_stages().target(name, params).settings(params))
        assert any(item.startswith(key) for item in named), (name, named)
