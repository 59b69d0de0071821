"""Files in shards: what was put in comes out, in any order, whatever they are called."""

import hashlib
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wsss.artifacts import (
    Filling,
    Sample,
    ShardError,
    contents,
    file_names,
    finish_shards,
    has_file,
    open_file,
    pack_folder,
    read_bytes,
    read_image,
    read_label_png,
    read_proposals,
    read_score_map,
    shards,
    unpack_folder,
    write_label_png,
)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "PER_SHARD", 4)


def fill(folder: Path, count: int = 40) -> dict[str, bytes]:
    """Files by name, some of them in folders of folders, one of them empty."""
    rng = random.Random(0)
    files = {}
    for at in range(count):
        name = f"{'deep/er/' * (at % 3 == 0)}image {at:03}.v{at % 2}.npz"
        files[name] = rng.randbytes(at * 7)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(files[name])
    return files


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12
).filter(lambda text: text.strip(".") and len(text.encode()) < 200)
FILES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=3).map("/".join), st.binary(max_size=300), max_size=30
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(FILES, st.sampled_from([".png", ".jpg", ".npz"]))
def test_packing_and_unpacking_is_the_identity(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], suffix: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "report.json").write_text("{}")
    for name, data in files.items():
        path = folder / f"{name}{suffix}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            continue  # a folder is called as a file is
    before, names = tree(folder), file_names(folder)
    assert pack_folder(folder) == len(names) == len(before) - 1
    assert file_names(folder) == names
    assert all(read_bytes(folder / name) == before[name] for name in reversed(names))
    packed = tree(folder)
    assert set(packed) <= {"shards.json", "report.json", *map(shards.shard_file, range(16))}
    assert pack_folder(folder) == 0 and tree(folder) == packed
    assert unpack_folder(folder) == len(names)
    assert tree(folder) == before
    assert unpack_folder(folder) == 0


def test_a_shard_is_a_zip_file_that_any_program_opens(tmp_path: Path) -> None:
    files = fill(tmp_path)
    pack_folder(tmp_path)
    found = {}
    for path in sorted(tmp_path.glob("*.zip")):
        with zipfile.ZipFile(path) as packed:
            assert packed.testzip() is None
            assert packed.namelist() == sorted(packed.namelist())
            assert {item.compress_type for item in packed.infolist()} == {zipfile.ZIP_STORED}
            found |= {name: packed.read(name) for name in packed.namelist()}
    assert found == files
    index = json.loads((tmp_path / "shards.json").read_text())
    assert index["count"] == len(index["shards"]) == 8
    for name, recorded in index["shards"].items():
        data = (tmp_path / name).read_bytes()
        assert recorded["sha256"] == hashlib.sha256(data).hexdigest()
        assert recorded["bytes"] == len(data)
    assert sum(recorded["files"] for recorded in index["shards"].values()) == len(files)


def test_the_same_files_give_the_same_bytes_whenever_they_were_written(tmp_path: Path) -> None:
    for name, when in (("a", 10**9), ("b", 1.5 * 10**9)):
        for file in fill(tmp_path / name):
            os.utime(tmp_path / name / file, (when, when))
        pack_folder(tmp_path / name)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_shards_are_filled_evenly_and_one_more_image_changes_one() -> None:
    count = shards.shard_count(100)
    assert count == 16
    counts = np.bincount([shards.shard_of(f"img_{at:06}", 64) for at in range(64_000)])
    assert counts.min() > 850 and counts.max() < 1150  # a deviation is 31


def _whole(arguments: tuple[Path, list[str]]) -> str:
    folder, names = arguments
    return hashlib.sha256(b"".join(read_bytes(folder / name) for name in names)).hexdigest()


def test_threads_and_processes_read_at_random_what_is_read_in_order(tmp_path: Path) -> None:
    files = fill(tmp_path, 60)
    pack_folder(tmp_path)
    names = list(files)
    read_bytes(tmp_path / names[0])  # so that processes inherit what was read
    orders = [random.Random(seed).sample(names, len(names)) for seed in range(6)]
    wanted = [hashlib.sha256(b"".join(files[n] for n in order)).hexdigest() for order in orders]
    jobs = [(tmp_path, order) for order in orders]
    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(_whole, jobs)) == wanted
    with multiprocessing.get_context("fork").Pool(2) as processes:
        assert processes.map(_whole, jobs) == wanted


def test_a_missing_file_is_missing_packed_or_not(tmp_path: Path) -> None:
    fill(tmp_path)
    for _ in range(2):
        assert not has_file(tmp_path / "other.npz") and not has_file(tmp_path / "deep")
        with pytest.raises(FileNotFoundError):
            open_file(tmp_path / "other.npz")
        for read in (read_image, read_label_png, read_score_map, read_proposals):
            with pytest.raises(ValueError, match=r"other\.npz"):
                read(tmp_path / "other.npz")
        assert contents(tmp_path / "other.npz") == "missing"
        pack_folder(tmp_path)


def test_a_newer_file_goes_before_that_in_a_shard(tmp_path: Path) -> None:
    files = fill(tmp_path)
    pack_folder(tmp_path)
    name = list(files)[5]
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b"newer")
    assert read_bytes(tmp_path / name) == b"newer"
    assert file_names(tmp_path) == sorted(files)
    unpack_folder(tmp_path)
    assert tree(tmp_path) == files | {name: b"newer"}


def test_a_file_has_one_hash_wherever_it_lies(tmp_path: Path) -> None:
    files = fill(tmp_path)
    before = {name: contents(tmp_path / name) for name in files}
    pack_folder(tmp_path)
    assert {name: contents(tmp_path / name) for name in files} == before


def test_hashing_a_packed_folder_reads_no_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)
    pack_folder(tmp_path)
    read: list[Path] = []
    fingerprint = sys.modules["wsss.artifacts.fingerprint"]
    real = fingerprint._digest
    monkeypatch.setattr(fingerprint, "_digest", lambda file: read.append(file) or real(file))
    whole = contents(tmp_path)
    assert [path.name for path in read] == ["shards.json"]
    with (tmp_path / shards.shard_file(3)).open("ab") as shard:
        shard.write(b"!")
    assert contents(tmp_path) != whole


@pytest.mark.parametrize("kept", [0, 1, 30, 200, -1])
def test_a_shard_cut_short_is_named_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".dvc").mkdir()
    folder = Path("data/cams")
    names = list(fill(folder))
    pack_folder(folder)
    shard = folder / shards.shard_file(shards.shard_of(names[9].rpartition(".")[0], 8))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:kept])
    said = rf"{shard} is cut short.*`dvc checkout --force data/cams`.*remove data/cams and run"
    for read in (read_bytes, has_file, read_image, read_score_map, read_proposals):
        with pytest.raises(ShardError, match=said):
            read(folder / names[9])
    with pytest.raises(ShardError, match=said):
        unpack_folder(folder)
    shard.unlink()
    with pytest.raises(ShardError, match=f"{shard} is missing; run `dvc checkout"):
        read_bytes(folder / names[9])
    Path(".dvc").rmdir()
    with pytest.raises(ShardError, match=f"{shard} is missing; remove data/cams and run the stage"):
        read_bytes(folder / names[9])
    shard.write_bytes(whole)
    assert len(read_bytes(folder / names[9])) == 63


def test_any_flipped_byte_is_an_error_or_harmless(tmp_path: Path) -> None:
    files = fill(tmp_path, 3)
    pack_folder(tmp_path)
    shard = tmp_path / shards.shard_file(0)
    whole, refused = shard.read_bytes(), 0
    for at in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[at] ^= 0x55
        shard.unlink()
        shard.write_bytes(damaged)
        for name, data in files.items():
            try:
                assert read_bytes(tmp_path / name) == data
            except (ShardError, FileNotFoundError):
                refused += 1
    assert refused > len(whole) // 10


FILL = """
import sys
from pathlib import Path
from wsss.artifacts import Filling, Sample, finish_shards, has_file, shards

shards.PER_SHARD = 4
folder, count = Path(sys.argv[1]), int(sys.argv[2])
samples = [Sample(f"part/{at:04}", "", (1, 1), ()) for at in range(count)]
filling = Filling(folder, count, packed=True)
for part in filling.parts(samples, lambda sample: f"{sample.name}.npz"):
    for sample in filling.share(part):
        path = folder / f"{sample.name}.npz"
        if not has_file(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".tmp")
            temporary.write_bytes(sample.name.encode() * 50)
            temporary.replace(path)
    print(len(part), flush=True)
"""


def filled(folder: Path, count: int, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FILL, str(folder), str(count)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A folder that one process has filled."""
    folder = tmp_path_factory.mktemp("one") / "out"
    assert filled(folder, 600).wait() == 0
    finish_shards(folder)
    return tree(folder)


def test_two_processes_fill_a_folder_with_the_same_bytes(
    tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    folder = tmp_path / "out"
    both = [filled(folder, 600, RANK=str(at), WORLD_SIZE="2") for at in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    finish_shards(folder)
    assert tree(folder) == undisturbed


def test_after_kill_9_the_rest_is_made_and_the_bytes_are_the_same(
    tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    folder = tmp_path / "out"
    for parts in (1, 2, 5):
        process = filled(folder, 600)
        assert process.stdout is not None
        for _ in range(parts):
            process.stdout.readline()
        time.sleep(0.002 * parts)  # so that it is packing, or writing the next part
        process.send_signal(signal.SIGKILL)
        process.wait()
        single = list(folder.rglob("*.npz"))
        assert len(single) < 150  # those of the parts under way alone
    assert filled(folder, 600).wait() == 0
    for leftover in folder.rglob(".*.tmp"):  # as `Staging` does
        leftover.unlink()
    finish_shards(folder)
    assert tree(folder) == undisturbed


@pytest.mark.parametrize("stop", ["write_shard", "write_json"])
@pytest.mark.parametrize("after", range(0, 8, 2))
def test_packing_that_was_stopped_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: str, after: int
) -> None:
    from wsss.artifacts import filling

    files = fill(tmp_path / "a")
    fill(tmp_path / "b")
    pack_folder(tmp_path / "a")
    real, calls = getattr(filling, stop), []

    def dying(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == after + 1:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(filling, stop, dying)
        with pytest.raises(KeyboardInterrupt):
            pack_folder(tmp_path / "b")
    assert {name: read_bytes(tmp_path / "b" / name) for name in files} == files
    pack_folder(tmp_path / "b")
    assert tree(tmp_path / "b") == tree(tmp_path / "a")


def test_unpacking_that_was_stopped_goes_on_and_so_does_packing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wsss.artifacts import filling

    files = fill(tmp_path)
    pack_folder(tmp_path)
    packed = tree(tmp_path)
    for again in (unpack_folder, pack_folder):
        calls: list[Path] = []
        real = filling.members

        def dying(shard: Path, real=real, calls=calls) -> list[str]:
            calls.append(shard)
            if len(calls) == 5:
                raise KeyboardInterrupt
            return real(shard)

        with monkeypatch.context() as patch:
            patch.setattr(filling, "members", dying)
            with pytest.raises(KeyboardInterrupt):
                unpack_folder(tmp_path)
        assert {name: read_bytes(tmp_path / name) for name in files} == files
        again(tmp_path)
        assert tree(tmp_path) == (files if again is unpack_folder else packed)
        pack_folder(tmp_path)


def parts_of(folder: Path, count: int, *, packed: bool) -> Iterator[list[Sample]]:
    samples = [Sample(f"{at:05}", "", (1, 1), ()) for at in range(count)]
    filling = Filling(folder, count, packed=packed)
    for part in filling.parts(samples, lambda sample: f"{sample.name}.png"):
        assert part == sorted(part, key=lambda sample: sample.name)
        yield part
        for sample in part:
            write_label_png(folder / f"{sample.name}.png", np.zeros((1, 1), np.uint8))


def test_few_files_ever_lie_by_themselves(tmp_path: Path) -> None:
    most, seen = 0, []
    for part in parts_of(tmp_path, 1000, packed=True):
        most = max(most, len(part) + len(list(tmp_path.glob("*.png"))))
        seen += part
    assert len(seen) == len({sample.name for sample in seen}) == 1000
    assert most < 80  # of 8 shards, of 1000 / 128 files each
    assert not list(tmp_path.glob("*.png"))
    assert [len(part) for part in parts_of(tmp_path / "single", 1000, packed=False)] == [1000]


def test_settling_leaves_the_files_that_are_named_and_the_newest_of_each(tmp_path: Path) -> None:
    samples = [Sample(f"{at:03}", "", (1, 1), ()) for at in range(50)]
    filling = Filling(tmp_path, 50, packed=True)
    for part in filling.parts(samples, lambda sample: f"{sample.name}.jpg"):
        for sample in part:
            (tmp_path / f"{sample.name}.jpg").write_bytes(b"old")
    (tmp_path / "003.jpg").write_bytes(b"new")
    (tmp_path / "004.png").write_bytes(b"other")
    left = [f"{at:03}.jpg" for at in range(50) if at not in (4, 5)] + ["004.png"]
    filling.settle(left)
    finish_shards(tmp_path)
    assert file_names(tmp_path) == sorted(left)
    assert not list(tmp_path.glob("*.[jp][pn]g"))
    assert read_bytes(tmp_path / "003.jpg") == b"new"


def test_a_folder_without_all_of_its_shards_is_not_finished(tmp_path: Path) -> None:
    samples = [Sample(f"{at:03}", "", (1, 1), ()) for at in range(80)]
    parts = Filling(tmp_path, 80, packed=True).parts(samples, lambda sample: None)
    for _ in range(2):  # the first part is packed when the second one is asked for
        next(parts)
    with pytest.raises(ValueError, match=r"lacks 8 of 16 shards, such as 00008\.zip; run"):
        finish_shards(tmp_path)
    with pytest.raises(StopIteration):
        next(parts)
    finish_shards(tmp_path)
    assert file_names(tmp_path) == []


def test_shards_of_other_images_are_left_behind(tmp_path: Path) -> None:
    for _ in parts_of(tmp_path, 100, packed=True):
        pass
    Filling(tmp_path, 10, packed=True)
    assert not list(tmp_path.glob("*.zip"))
    assert json.loads((tmp_path / "shards.json").read_text()) == {"count": 2}
