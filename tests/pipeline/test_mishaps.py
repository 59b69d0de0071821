"""What stops work from outside is said in a few lines, with the setting or command that helps."""

import errno
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
        (os_error(errno.EACCES, "/"), ["'/'", "belongs to user 0", "chown -R"]),
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
