"""A data set is in its place whole, or not at all."""

import errno
import hashlib
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from wsss.config.params import parse_params
from wsss.downloads import DATA_SETS, Archive, DataSet, get_data_set, placing, settings_of
from wsss.downloads.unpacking import unpack


@pytest.fixture
def table(server, pack):
    """A data set of two archives."""
    server.files["/images.tar.gz"] = pack(*((f"images/{at}.jpg", bytes([at])) for at in range(5)))
    server.files["/masks.tar"] = pack(("masks/0.png", b"mask"), mode="w")
    archives = tuple(
        Archive((server.url + path,), len(held), f"md5:{hashlib.md5(held).hexdigest()}")
        for path, held in server.files.items()
    )
    made = DataSet("toys", "any", "page", "root: {root}", archives, 1000, layout=(("images", 5),))
    return {"toys": made}


def placed(folder: Path) -> list[str]:
    """What lies in a folder, without the file that is locked."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_a_data_set_is_fetched_once(server, table, tmp_path):
    folder = tmp_path / "my data"
    assert get_data_set("toys", folder, table) == (folder / "toys", True)
    assert (folder / "toys/images/4.jpg").read_bytes() == b"\4"
    assert (folder / "toys/masks/0.png").read_bytes() == b"mask"
    assert placed(folder) == ["toys"]
    asked = len(server.asked)
    assert get_data_set("toys", folder, table) == (folder / "toys", False)
    assert len(server.asked) == asked == 2


def test_what_has_lost_files_or_is_somebody_s_own_is_told(table, tmp_path):
    root, _ = get_data_set("toys", tmp_path, table)
    (root / "images/3.jpg").unlink()
    with pytest.raises(ValueError, match="has lost 1 of 6 files; delete it"):
        get_data_set("toys", tmp_path, table)
    shutil.rmtree(root)
    (root / "mine").mkdir(parents=True)
    with pytest.raises(ValueError, match="was not made by this command"):
        get_data_set("toys", tmp_path, table)
    assert (root / "mine").is_dir()


def test_what_was_fetched_is_kept_where_a_later_file_is_missing(server, table, tmp_path):
    held = server.files.pop("/masks.tar")
    with pytest.raises(ValueError, match="answers 404"):
        get_data_set("toys", tmp_path, table)
    assert placed(tmp_path) == [".toys.download"]
    server.files["/masks.tar"] = held
    get_data_set("toys", tmp_path, table)
    assert [path for path, _ in server.asked].count("/images.tar.gz") == 1
    assert placed(tmp_path) == ["toys"]


def climbing(pack) -> bytes:
    return pack(("images/0.jpg", b"0"), ("../../evil", b"evil"))


def linking(pack) -> bytes:
    link = tarfile.TarInfo("images")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    return pack((link, b""))


def truncated(pack) -> bytes:
    return pack(("images/0.jpg", bytes(range(256)) * 3), mode="w:gz")[:-30]


def other(pack) -> bytes:
    return pack(("pictures/0.jpg", b"0"))


def too_few(pack) -> bytes:
    return pack(("images/0.jpg", b"0"))


@pytest.mark.parametrize(
    ("spoilt", "words"),
    [
        (climbing, "leads out of the folder"),
        (linking, "is a link or a device"),
        (truncated, "broken or cut off"),
        (other, "has no images: it is another file"),
        (too_few, "has 1 of 5 files in images"),
    ],
)
def test_of_an_archive_that_is_refused_nothing_is_left(
    spoilt, words, server, table, pack, tmp_path
):
    """Without a checksum, as that of some data sets is not known."""
    server.files["/images.tar.gz"] = spoilt(pack)
    unknown = tuple(replace(archive, checksum="", size=6000) for archive in table["toys"].archives)
    table["toys"] = replace(table["toys"], archives=unknown)
    folder = tmp_path / "deep/er"
    with pytest.raises(ValueError, match=f"{words}(.|\n)* All that was fetched is deleted"):
        get_data_set("toys", folder, table)
    assert placed(folder) == []
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("stop", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_full_disk_and_ctrl_c_leave_nothing_half_unpacked(
    stop, server, table, tmp_path, monkeypatch
):
    def stopped(*arguments: object, most: int) -> None:
        unpack(*arguments, most)  # type: ignore[arg-type]
        raise stop

    monkeypatch.setattr(placing, "unpack", stopped)
    with pytest.raises(type(stop)):
        get_data_set("toys", tmp_path, table)
    assert placed(tmp_path) == [".toys.download"]
    monkeypatch.setattr(placing, "unpack", unpack)
    get_data_set("toys", tmp_path, table)
    assert len(server.asked) == 2  # what was fetched is not fetched again


def test_too_little_room_is_told_before_anything_is_fetched(server, table, tmp_path, monkeypatch):
    usage = shutil._ntuple_diskusage(2**30, 2**30 - 1100, 1100)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ValueError, match=r"0 MiB free, but .* are needed"):
        get_data_set("toys", tmp_path, table)
    assert server.asked == []


def test_unknown_names_and_sets_to_ask_for(tmp_path):
    with pytest.raises(ValueError, match=r"no data set 'pet'; did you mean 'pets'\?"):
        get_data_set("pet", tmp_path)
    with pytest.raises(ValueError, match="ask its authors, https://"):
        get_data_set("smoke5k", tmp_path)
    assert placed(tmp_path) == []


@pytest.mark.parametrize("name", DATA_SETS)
@pytest.mark.parametrize("folder", ["data", "my, data: #1 {x}", "größe 'a'"])
def test_the_lines_for_params_yaml_are_what_it_takes(name, folder, tmp_path):
    root = tmp_path / folder / name
    tree = yaml.safe_load(settings_of(DATA_SETS[name], root))
    params = parse_params(tree).prepare_data
    held = params.background_images or params.dataset.root
    assert Path(held).is_relative_to(root)


@pytest.mark.parametrize("name", DATA_SETS)
def test_the_table_is_complete(name):
    data_set = DATA_SETS[name]
    assert data_set.about and data_set.licence and data_set.page.startswith("http")
    for archive in data_set.archives:
        assert all(url.startswith(("https://", "http://")) for url in archive.urls)
        assert archive.file.endswith((".tar", ".tar.gz")) and archive.size > 10**7
        kind, _, digits = archive.checksum.partition(":")
        assert (kind, len(digits)) in (("md5", 32), ("sha256", 64), ("", 0))
    if data_set.archives:
        size = sum(archive.size for archive in data_set.archives)
        assert data_set.layout and data_set.unpacked >= size
