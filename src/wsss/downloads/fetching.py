"""A file from a web server: what was cut off goes on, and what is not the right file goes away."""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from email.message import Message
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from wsss.artifacts import write_json
from wsss.downloads.table import Archive
from wsss.progress import track

__all__ = ["checksum_of", "fetch"]

MIB = 2**20
TRIES = 4
"""How often a server is asked that cuts the connection."""
PAUSE = 2.0
"""Seconds before it is asked again; twice as many the time after."""
_TIMEOUT = 60.0  # seconds without a byte
_SCHEMES = ("http", "https")


class _RefusedError(ValueError):
    """A server gives something else, and would again."""


class _CutError(ValueError):
    """A connection ended too early."""


def fetch(archive: Archive, folder: Path) -> Path:
    """Fetch a file into a folder, and check it; one that is there and right is not fetched again.

    What there is of it lies in `<file>.part` until it is whole, and the next call goes on from
    there, if the server still has the same file.

    Args:
        archive: what to fetch.
        folder: where to; it is made.

    Returns:
        The file.

    Raises:
        ValueError: no server gives it, or what one gives is another file, which is deleted.
        OSError: the disk is full, or cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target, part = folder / archive.file, folder / f"{archive.file}.part"
    if target.is_file():
        if not wrong_checksum(target, archive):
            return target
        target.unlink()
    refused = []
    for url in archive.urls:
        try:
            _download(url, part, archive)
            break
        except (_RefusedError, _CutError) as error:
            refused.append(f"{url}: {error}")
    else:
        kept = _size(part)
        more = f"; {kept / MIB:.1f} MiB are kept in {part}, and the same command goes on" * (
            kept > 0
        )
        raise ValueError(f"{archive.file} cannot be fetched: {'; '.join(refused)}{more}")
    if wrong := wrong_checksum(part, archive):
        part.unlink()
        _tag_file(part).unlink(missing_ok=True)
        raise ValueError(
            f"{url} is not the file that was published: {wrong}. It was deleted; run the command "
            "again, and if that does not help, the file has changed there, or something between "
            "here and there changes it"
        )
    os.replace(part, target)
    _tag_file(part).unlink(missing_ok=True)
    return target


def wrong_checksum(path: Path, archive: Archive) -> str:
    """What is wrong about a file's checksum; "" where it is right, or where none is known."""
    if not archive.checksum:
        return ""
    kind, _, wanted = archive.checksum.partition(":")
    found = checksum_of(path, kind)
    return "" if found == wanted else f"its {kind} is {found}, and not {wanted}"


def checksum_of(path: Path, kind: str) -> str:
    """The md5 or sha256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def _download(url: str, part: Path, archive: Archive) -> None:
    """Let `part` hold all of a file; where the connection is cut, for as long as it grows."""
    failed = 0
    while True:
        before = _size(part)
        try:
            _once(url, part, archive)
            return
        except _CutError as error:
            failed = 1 if _size(part) > before else failed + 1
            if failed >= TRIES:
                raise _CutError(f"{error} (asked {TRIES} times)") from None
            time.sleep(PAUSE * 2 ** (failed - 1))


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _once(url: str, part: Path, archive: Archive) -> None:
    """Ask for what is missing of a file, and write it."""
    there, tag = _size(part), _tag(part, url)
    if there and not (tag or archive.checksum):
        there = 0  # nothing would tell whether both pieces are of one file
    headers = {"Accept-Encoding": "identity", "User-Agent": "wsss"}
    if there:
        headers["Range"] = f"bytes={there}-"
        headers |= {"If-Range": tag} if tag else {}
    try:
        response = _open(url, headers)
    except HTTPError as error:
        if error.code == 416:  # there is no more: it is whole, or another file
            if _length_of_416(error.headers) == there:
                return
            part.unlink(missing_ok=True)
            raise _CutError("the server has a shorter file than before") from None
        text = f"the server answers {error.code} ({error.reason})"
        raise (_CutError if error.code >= 500 else _RefusedError)(text) from None
    with response:
        start = _start(response) if response.status == 206 else 0
        if start not in (0, there):
            part.unlink(missing_ok=True)
            raise _CutError("the server goes on at another place than it was asked")
        length = response.headers.get("Content-Length")
        total = start + int(length) if length and length.isdecimal() else None
        most = 2 * archive.size
        if total is not None and total > most:
            raise _RefusedError(f"the server has {total} bytes, where {archive.size} are expected")
        named = {"url": url, "tag": _validator(response.headers)}
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            file.truncate()
            write_json(_tag_file(part), named)
            for block in track(_blocks(response), archive.file, _mib(total, start)):
                file.write(block)
                if file.tell() > most:
                    raise _RefusedError(f"the server sends more than {most} bytes; it was stopped")
    found = _size(part)
    if total is not None and found < total:
        raise _CutError(f"the connection ended after {found} of {total} bytes")


def _mib(total: int | None, start: int) -> int | None:
    return None if total is None else -(-(total - start) // MIB)


def _blocks(response: HTTPResponse) -> Iterator[bytes]:
    try:
        while block := response.read(MIB):
            yield block
    except (HTTPException, OSError) as error:
        raise _CutError(f"the connection was cut ({error})") from None


def _start(response: HTTPResponse) -> int:
    """The first byte of what a server gives of a file."""
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else -1


def _length_of_416(headers: Message) -> int:
    found = re.match(r"bytes \*/(\d+)", headers.get("Content-Range", ""))
    return int(found[1]) if found else -1


def _validator(headers: Message) -> str:
    """What tells a file from another one at the same place, so that a piece of it may be asked."""
    tag: str = headers.get("ETag", "")
    return headers.get("Last-Modified", "") if tag.startswith("W/") or not tag else tag


def _tag_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _tag(part: Path, url: str) -> str:
    """What the server said of the file that `part` is of; "" of another server."""
    try:
        held = json.loads(_tag_file(part).read_text(encoding="utf-8"))
        return str(held["tag"]) if held["url"] == url else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


class _Redirects(HTTPRedirectHandler):
    """Follows to web servers only, and from https to https."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        before, after = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if after not in _SCHEMES or (before == "https" and after != "https"):
            raise _RefusedError(
                f"the server sends to {newurl[:200]}, which is no {before} address; it is not "
                "followed"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    # urllib looks at the scheme itself before it asks, and names no way out
    def http_error_302(self, req: Request, fp: Any, code: int, msg: str, headers: Any) -> Any:
        place = headers.get("location") or headers.get("uri") or ""
        if urlsplit(place).scheme not in ("", *_SCHEMES):
            self.redirect_request(req, fp, code, msg, headers, place)
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _open(url: str, headers: dict[str, str]) -> HTTPResponse:
    """Open an address of a web server; no file, and nothing but http and https."""
    if urlsplit(url).scheme not in _SCHEMES:
        raise _RefusedError("only http and https are fetched")
    opener = OpenerDirector()
    for handler in (
        ProxyHandler(),
        HTTPHandler(),
        HTTPSHandler(),
        HTTPDefaultErrorHandler(),
        _Redirects(),
        HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    try:
        response: HTTPResponse = opener.open(Request(url, headers=headers), timeout=_TIMEOUT)
    except HTTPError:
        raise
    except (HTTPException, OSError) as error:
        raise _CutError(f"no connection ({getattr(error, 'reason', error)})") from None
    return response
