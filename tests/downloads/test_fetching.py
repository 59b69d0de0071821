"""Files from a server that cuts, lies, sends elsewhere, or has something else."""

import errno
import hashlib
from pathlib import Path

import numpy as np
import pytest

from wsss.downloads import Archive, fetching
from wsss.downloads.fetching import fetch

CONTENT = np.random.default_rng(0).bytes(20_000)


@pytest.fixture
def archive(server):
    server.files["/a.tar"] = CONTENT
    return Archive((f"{server.url}/a.tar",), len(CONTENT), md5(CONTENT))


def md5(content: bytes) -> str:
    return f"md5:{hashlib.md5(content).hexdigest()}"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_fetched_once(server, archive, tmp_path):
    for _ in range(2):
        path = fetch(archive, tmp_path / "new")
        assert path.read_bytes() == CONTENT
    assert server.asked == [("/a.tar", "")]
    assert names(tmp_path / "new") == ["a.tar"]


@pytest.mark.parametrize("kind", ["md5", "sha256", "none"])
def test_checksums_of_all_kinds(kind, server, archive, tmp_path):
    checksum = "" if kind == "none" else f"{kind}:{hashlib.new(kind, CONTENT).hexdigest()}"
    assert fetch(Archive(archive.urls, 20_000, checksum), tmp_path).read_bytes() == CONTENT


def test_a_connection_that_is_cut_goes_on_where_it_was(server, archive, tmp_path):
    server.cut, server.cuts = 7_000, 2
    assert fetch(archive, tmp_path).read_bytes() == CONTENT
    assert server.asked == [("/a.tar", span) for span in ("", "bytes=7000-", "bytes=14000-")]


def test_another_run_goes_on_with_what_was_fetched(server, archive, tmp_path):
    server.cut, server.cuts = 7_000, 1
    server.answers["/a.tar"] = (503, {})
    first = Archive((f"{server.url}/a.tar",), 20_000, md5(CONTENT))
    with pytest.raises(ValueError, match="the server answers 503"):
        fetch(first, tmp_path)
    del server.answers["/a.tar"]
    server.cuts = 1
    (tmp_path / "a.tar.part").write_bytes(CONTENT[:9_000])  # as a run leaves that was killed
    assert fetch(first, tmp_path).read_bytes() == CONTENT
    assert server.asked[-2:] == [("/a.tar", "bytes=9000-"), ("/a.tar", "bytes=16000-")]
    assert names(tmp_path) == ["a.tar"]


def test_ctrl_c_leaves_what_was_fetched(server, archive, tmp_path, monkeypatch):
    real, count = fetching.track, []

    def stopped(blocks, *more):
        for block in real(blocks, *more):
            count.append(block)
            if len(count) == 4:
                raise KeyboardInterrupt
            yield block

    monkeypatch.setattr(fetching, "track", stopped)
    with pytest.raises(KeyboardInterrupt):
        fetch(archive, tmp_path)
    assert (tmp_path / "a.tar.part").read_bytes() == CONTENT[:3000]
    monkeypatch.setattr(fetching, "track", real)
    assert fetch(archive, tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == ("/a.tar", "bytes=3000-")


def test_a_server_that_gives_no_parts_is_asked_for_all(server, archive, tmp_path):
    server.ranges, server.cut, server.cuts = False, 7_000, 1
    assert fetch(archive, tmp_path).read_bytes() == CONTENT
    assert server.asked == [("/a.tar", ""), ("/a.tar", "bytes=7000-")]


def test_a_file_that_has_changed_meanwhile_is_fetched_anew(server, archive, tmp_path):
    """Without a checksum nothing else would tell that two halves are of two files."""
    changed = CONTENT[::-1]
    server.cut, server.cuts = 7_000, 1
    plain = Archive(archive.urls, 20_000)
    real = fetching._once

    def then_change(url, part, archive):
        try:
            real(url, part, archive)
        finally:
            server.files["/a.tar"], server.tag = changed, '"2"'

    fetching._once, before = then_change, fetching._once
    try:
        assert fetch(plain, tmp_path).read_bytes() == changed
    finally:
        fetching._once = before


def test_a_piece_of_which_nothing_is_known_is_not_gone_on_with(server, archive, tmp_path):
    (tmp_path / "a.tar.part").write_bytes(b"something else")
    assert fetch(Archive(archive.urls, 20_000), tmp_path).read_bytes() == CONTENT
    assert server.asked == [("/a.tar", "")]


def test_a_piece_that_is_all_of_it_is_taken(server, archive, tmp_path):
    (tmp_path / "a.tar.part").write_bytes(CONTENT)
    assert fetch(archive, tmp_path).read_bytes() == CONTENT
    assert server.asked == [("/a.tar", "bytes=20000-")]


def test_a_piece_that_is_too_long_is_thrown_away(server, archive, tmp_path):
    (tmp_path / "a.tar.part").write_bytes(CONTENT + b"!")
    assert fetch(archive, tmp_path).read_bytes() == CONTENT


def test_another_checksum_deletes_the_file(server, archive, tmp_path):
    other = Archive(archive.urls, 20_000, md5(b"other"))
    with pytest.raises(ValueError, match=r"a\.tar is not the file .* its md5 is .* It was deleted"):
        fetch(other, tmp_path)
    assert names(tmp_path) == []


def test_a_file_that_is_there_and_wrong_is_fetched_anew(server, archive, tmp_path):
    (tmp_path / "a.tar").write_bytes(b"cut")
    assert fetch(archive, tmp_path).read_bytes() == CONTENT


def test_what_is_not_found_is_asked_elsewhere(server, archive, tmp_path):
    gone = f"{server.url}/gone/a.tar"
    assert fetch(Archive((gone, *archive.urls), 20_000, archive.checksum), tmp_path).is_file()
    with pytest.raises(ValueError, match=r"/gone/a\.tar: the server answers 404 \(Not Found\)"):
        fetch(Archive((gone,), 1), tmp_path / "other")
    assert server.asked.count(("/gone/a.tar", "")) == 2  # it is not asked again and again


def test_a_server_that_always_cuts_is_given_up_and_what_is_there_is_kept(server, archive, tmp_path):
    server.cut = 0
    with pytest.raises(ValueError, match=r"ended after 0 of 20000 bytes \(asked 4 times\)"):
        fetch(archive, tmp_path)
    server.cut, server.ranges = 5_000, False
    with pytest.raises(ValueError, match=r"MiB are kept in .*a\.tar\.part, and the same command"):
        fetch(archive, tmp_path)
    assert (tmp_path / "a.tar.part").read_bytes() == CONTENT[:5_000]


@pytest.mark.parametrize("says_length", [True, False])
def test_a_server_that_sends_without_end_is_stopped(says_length, server, tmp_path):
    server.files["/a.tar"], server.says_length = bytes(100_000), says_length
    with pytest.raises(ValueError, match=r"100000 bytes, where 20000|more than 40000 bytes"):
        fetch(Archive((f"{server.url}/a.tar",), 20_000), tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.glob("*.part")) <= 41_000


def test_nobody_there(server, tmp_path):
    server.files["/a.tar"] = CONTENT
    dead = Archive(("http://127.0.0.1:9/a.tar",), 1)  # a port that browsers and servers leave alone
    with pytest.raises(ValueError, match="no connection"):
        fetch(dead, tmp_path)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_a_web_server_is_followed(status, server, archive, tmp_path):
    server.answers["/old.tar"] = (status, {"Location": "/a.tar"})
    server.cut, server.cuts = 7_000, 1
    path = fetch(Archive((f"{server.url}/old.tar",), 20_000, archive.checksum), tmp_path)
    assert path.name == "old.tar" and path.read_bytes() == CONTENT
    assert ("/a.tar", "bytes=7000-") in server.asked


@pytest.mark.parametrize("place", ["file:///etc/hostname", "ftp://127.0.0.1/a", "data:,hello"])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_to_anything_else_is_refused(place, status, server, tmp_path):
    server.answers["/a.tar"] = (status, {"Location": place})
    with pytest.raises(ValueError, match="which is no http address; it is not followed"):
        fetch(Archive((f"{server.url}/a.tar",), 1), tmp_path)
    assert names(tmp_path) == []


def test_an_encrypted_address_is_not_left_for_a_plain_one(tmp_path):
    handler = fetching._Redirects()
    request = fetching.Request("https://example.org/a")
    with pytest.raises(ValueError, match="no https address"):
        handler.redirect_request(request, None, 302, "", {}, "http://example.org/a")
    assert handler.redirect_request(request, None, 302, "", {}, "https://example.org/b")


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/a"])
def test_addresses_of_other_kinds_are_refused(url, tmp_path):
    with pytest.raises(ValueError, match="only http and https"):
        fetch(Archive((url,), 1), tmp_path)


def test_a_full_disk_leaves_what_was_fetched(server, archive, tmp_path, monkeypatch):
    real = fetching.track

    def full(blocks, *more):
        for at, block in enumerate(real(blocks, *more)):
            yield block
            if at == 2:
                raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetching, "track", full)
    with pytest.raises(OSError, match="No space left"):
        fetch(archive, tmp_path)
    assert server.asked == [("/a.tar", "")]  # nobody asks again and again
    assert (tmp_path / "a.tar.part").read_bytes() == CONTENT[:3000]
    monkeypatch.setattr(fetching, "track", real)
    assert fetch(archive, tmp_path).read_bytes() == CONTENT
