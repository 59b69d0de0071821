"""What a server answers to what comes, good or bad."""

import io
import json
import socket
import struct
import threading
import time
import zlib
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from wsss.artifacts import palette
from wsss.data._run_lengths import filled_runs, unpacked_counts
from wsss.server import Limits
from wsss.server.run_lengths import coco_rle

Picture = tuple[np.ndarray, np.ndarray]


def test_an_image_becomes_a_mask(client: Any, as_file: Any, stripes: Picture) -> None:
    image, mask = stripes
    answer = client.predict(as_file(image))
    assert answer.status == 200 and answer.headers["content-type"] == "image/png"
    assert np.array_equal(answer.mask, mask)
    colours = Image.open(io.BytesIO(answer.body)).getpalette()
    assert np.array_equal(np.reshape(colours, (-1, 3)), palette())
    for kind, options in (("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True})):
        assert np.array_equal(client.predict(as_file(image, kind, **options)).mask, mask), kind


def test_a_photograph_comes_upright(client: Any, as_file: Any, stripes: Picture) -> None:
    image, mask = stripes
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right by 90 degrees
    data = as_file(np.rot90(image), "JPEG", quality=100, subsampling=0, exif=exif)
    assert (client.predict(data).mask == mask).mean() > 0.95


@pytest.mark.parametrize("how", ["accept", "query", "quality"])
def test_masks_come_as_run_lengths(how: str, client: Any, as_file: Any, stripes: Picture) -> None:
    image, mask = stripes
    headers = {
        "accept": {"Accept": "application/json"},
        "query": {"Accept": "image/png"},
        "quality": {"Accept": "image/png;q=0.2, application/json"},
    }[how]
    found = client.predict(as_file(image), "?format=json" * (how == "query"), **headers).json
    assert (found["height"], found["width"]) == mask.shape
    names = [(item["id"], item["name"], item["pixels"]) for item in found["classes"]]
    assert names == [(1, "red", 200), (2, "grün", 200)]
    for item in found["classes"]:
        runs = filled_runs(unpacked_counts(item["rle"]["counts"]), mask.size)
        assert np.array_equal(runs.reshape(mask.shape, order="F"), mask == item["id"])


def regions() -> list[np.ndarray]:
    draw, found = np.random.default_rng(0), []
    for size in ((1, 1), (7, 5), (1, 300), (400, 300)):
        for share in (0, 0.001, 0.5, 0.99, 1):
            region = draw.random(size) < share
            found.append(region | np.roll(region, 3, axis=0))
    return found


def test_run_lengths_come_back() -> None:
    for region in regions():
        found = coco_rle(region)
        runs = filled_runs(unpacked_counts(found["counts"]), region.size)
        assert np.array_equal(runs.reshape(region.shape, order="F"), region)
        assert found["size"] == list(region.shape)


def test_run_lengths_are_those_of_pycocotools() -> None:
    peer = pytest.importorskip("pycocotools.mask", reason="needs the extra parity")
    for region in regions():
        expected = peer.encode(np.asfortranarray(region, np.uint8))
        assert expected["counts"].decode() == coco_rle(region)["counts"]


def form_of(**parts: bytes | list[bytes]) -> tuple[bytes, dict[str, str]]:
    lines = []
    for name, values in parts.items():
        for value in values if isinstance(values, list) else [values]:
            kind = b'; filename="a.png"' if name == "image" else b""
            head = b'Content-Disposition: form-data; name="' + name.encode() + b'"' + kind
            lines += [b"--cut", head, b"", value]
    body = b"\r\n".join([*lines, b"--cut--", b""])
    return body, {"Content-Type": "multipart/form-data; boundary=cut"}


def test_a_form_has_the_image_and_its_tags(client: Any, as_file: Any, stripes: Picture) -> None:
    image, mask = stripes
    red = np.where(mask == 1, 1, 0)
    data = as_file(image)
    body, headers = form_of(image=data, tag=[b"red"])
    assert np.array_equal(client.predict(body, **headers).mask, red)
    both = client.predict(form_of(image=data, tag=[b"red"])[0], "?tag=gr%C3%BCn", **headers)
    assert np.array_equal(both.mask, mask)
    assert np.array_equal(client.predict(data, "?tag=red").mask, red)
    assert not client.predict(data, "?tag=").mask.any()
    wrong = client.predict(data, "?tag=rde")
    assert wrong.status == 400 and "did you mean 'red'?" in wrong.json["detail"]


def bomb(width: int, height: int) -> bytes:
    """A PNG file of that size, whose pixels are as few bytes as can be."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(100_000_000 if width > 10_000 else 1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def bad(as_file: Any, stripes: Picture) -> dict[str, tuple[bytes, int, str]]:
    image, _ = stripes
    whole = as_file(image)
    frames = [Image.fromarray(image), Image.fromarray(image[::-1].copy())]
    sixteen = Image.fromarray(np.full((4, 4), 40_000, np.uint16))
    colours = io.BytesIO()
    tifffile.imwrite(colours, np.full((4, 4, 3), 3000, np.uint16), photometric="rgb")
    return {
        "empty": (b"", 400, "the body is empty"),
        "text": (b"hello", 415, "no image file of a kind that is taken: PNG, JPEG"),
        "page": (b"<html></html>" * 99, 415, "no image file"),
        "gif": (as_file(image, "GIF"), 415, "no image file"),
        "cut": (whole[: len(whole) // 2], 400, "the image is damaged"),
        "cut jpeg": (as_file(image, "JPEG")[:500], 400, "the image is damaged"),
        "header": (whole[:20], 400, "the image is damaged"),
        "flipped": (whole[:60] + b"\xff" * 30 + whole[90:], 400, "the image is damaged"),
        "too large": (as_file(np.zeros((101, 100, 3), np.uint8)), 413, "10100 pixels, and 10000"),
        "bomb": (bomb(60_000, 60_000), 413, "too large"),
        "moving": (as_file(frames[0], save_all=True, append_images=frames[1:]), 415, "2 images"),
        "pages": (as_file(frames[0], "TIFF", save_all=True, append_images=frames[1:]), 415, "2 im"),
        "16 bits": (as_file(sixteen), 415, "mode I;16"),
        "16 bits of colours": (colours.getvalue(), 415, "16 bits a channel"),
        "floats": (as_file(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), 415, "mode F"),
        "too long": (bytes(300_001), 413, "more than 300000 bytes"),
        "memory": (as_file(np.zeros((1, 1, 3), np.uint8)), 413, "does not fit into the memory"),
    }


def test_what_is_no_good_image_is_said(client: Any, as_file: Any, stripes: Picture) -> None:
    image, mask = stripes
    for name, (data, status, said) in bad(as_file, stripes).items():
        begin = time.perf_counter()
        answer = client.predict(data)
        assert answer.status == status, (name, answer.json)
        assert said in answer.json["detail"], (name, answer.json)
        assert time.perf_counter() - begin < 20, name
    assert np.array_equal(client.predict(as_file(image)).mask, mask)


def test_what_is_transparent_is_white_as_in_training(client: Any, as_file: Any) -> None:
    cutout = np.zeros((20, 30, 4), np.uint8)  # of black, which is the background
    cutout[5:9, 5:9] = (0, 255, 0, 255)
    mask = client.predict(as_file(cutout)).mask
    assert (mask[5:9, 5:9] == 2).all() and (mask[0] == 1).all()  # white, which is taken for red


def test_images_are_shrunk_as_those_were_that_the_network_learned_from(
    serving: Any, colours: Any, as_file: Any
) -> None:
    """And the mask has the size of the image."""
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, ::2, 0] = image[:, 1::2, 1] = 255
    colours.about["images"] = {"long_side_max": 30}
    with serving(colours, Limits()) as client:
        mask = client.predict(as_file(image)).mask
    small = np.asarray(Image.fromarray(image).resize((30, 20), Image.Resampling.LANCZOS))
    (wanted,) = colours.predict([small])
    assert (mask == wanted.mask.repeat(2, axis=0).repeat(2, axis=1)).all()
    assert (mask != colours.predict([image])[0].mask).any()


def test_a_header_is_judged_before_anything_is_decoded(
    as_file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import ImageFile

    from wsss.server.refusal import Refusal
    from wsss.server.uploads import decode_upload

    class Decoded(BaseException):
        pass

    def decoded(*_: Any) -> None:
        raise Decoded

    monkeypatch.setattr(ImageFile.ImageFile, "load", decoded)
    for data in (as_file(np.zeros((101, 100, 3), np.uint8)), bomb(9000, 9000)):
        with pytest.raises(Refusal) as refused:
            decode_upload(data, 10_000)
        assert refused.value.status == 413
    with pytest.raises(Decoded):
        decode_upload(as_file(np.zeros((100, 100, 3), np.uint8)), 10_000)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "said"),
    [
        ("GET", "/predict", {}, 405, "Method Not Allowed"),
        ("POST", "/predict?format=gif", {}, 400, "there is no format 'gif'; ask for format=png"),
        ("POST", "/predict?crf=maybe", {}, 400, "crf is 'maybe'; write crf=true or crf=false"),
        ("POST", "/predict", {"Accept": "text/html"}, 406, "an answer is image/png or"),
        ("POST", "/predict", {"Accept": "image/png;q=0"}, 406, "an answer is"),
        ("GET", "/nowhere", {}, 404, "Not Found"),
    ],
)
def test_what_is_asked_wrongly_is_said(
    method: str, path: str, headers: dict[str, str], status: int, said: str, client: Any
) -> None:
    answer = client(method, path, b"x" if method == "POST" else None, headers)
    assert answer.status == status and said in answer.json["detail"]


def test_forms_that_are_none(client: Any, as_file: Any, stripes: Picture) -> None:
    data = as_file(stripes[0])
    body, headers = form_of(picture=data)
    for given, said in (
        ((body, headers), "no file named 'image'"),
        ((form_of(image=data)[0], {"Content-Type": "multipart/form-data"}), "cannot be read"),
    ):
        answer = client.predict(given[0], **given[1])
        assert answer.status == 400 and said in answer.json["detail"]


def test_a_body_without_a_length_is_given_up_when_it_is_too_long(client: Any) -> None:
    sent = 0
    with socket.create_connection(("127.0.0.1", client.port), timeout=30) as connection:
        head = "POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head.encode())
        with suppress(OSError):
            for _ in range(10_000):
                connection.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")
                sent += 1
        assert sent < 500  # what the system holds on the way
        assert b"413" in connection.recv(100)


def test_a_body_that_does_not_come_ends(client: Any) -> None:
    with socket.create_connection(("127.0.0.1", client.port), timeout=30) as connection:
        head = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc"
        connection.sendall(head.encode())
        assert b"408" in connection.recv(100)


def test_more_than_may_wait_are_to_come_again(
    client: Any, colours: Any, as_file: Any, stripes: Picture
) -> None:
    image, mask = stripes
    data, found = as_file(image), []
    colours.may_go_on.clear()
    threads = [
        threading.Thread(target=lambda: found.append(client.predict(data))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 30
    while "wsss_requests_in_progress 2" not in client("GET", "/metrics").body.decode():
        assert time.monotonic() < end
    third = client.predict(data)
    assert third.status == 503 and third.headers["retry-after"] == "1"
    assert "2 requests are there already" in third.json["detail"]
    assert client("GET", "/health").status == 200  # also while a network is at work
    colours.may_go_on.set()
    for thread in threads:
        thread.join(30)
    assert [np.array_equal(answer.mask, mask) for answer in found] == [True, True]
    assert client.predict(data).status == 200


def test_a_fault_ends_a_request_and_not_the_server(
    client: Any, as_file: Any, stripes: Picture
) -> None:
    image, mask = stripes
    failed = client.predict(as_file(image[:1, :2]))
    assert failed.status == 500 and failed.json["detail"] == "the server failed; its log says why"
    assert np.array_equal(client.predict(as_file(image)).mask, mask)
    lines = client("GET", "/metrics").body.decode().splitlines()
    assert 'wsss_requests_total{path="/predict",status="500"} 1' in lines
    assert "wsss_requests_in_progress 0" in lines


def test_a_token_is_asked_for(serving: Any, colours: Any, as_file: Any, stripes: Picture) -> None:
    image, mask = stripes
    data, token = as_file(image), "a-long-enough-token"
    with serving(colours, Limits(), token) as client:
        assert client("GET", "/health").json == {"status": "ok"}
        for given in ("", token, f"Bearer {token}x", f"Basic {token}", "Bearer ü"):
            headers = {"Authorization": given} if given else {}
            for method, path in (("POST", "/predict"), ("GET", "/model"), ("GET", "/metrics")):
                refused = client(method, path, data, headers)
                assert refused.status == 401, (given, path)
                assert refused.headers["www-authenticate"] == "Bearer"
                assert "Authorization: Bearer TOKEN" in refused.json["detail"]
        allowed = {"Authorization": f"Bearer {token}"}
        assert np.array_equal(client.predict(data, **allowed).mask, mask)
        assert client("GET", "/model", None, allowed).status == 200


def test_what_the_model_is_comes_without_its_places(client: Any) -> None:
    known = client("GET", "/model").json
    assert known["class_names"] == ["red", "grün"] and known["palette"] == palette()[:3].tolist()
    assert known["about"] == {"arch": "none"}
    assert known["limits"]["max_pixels"] == 10_000
    assert "/home" not in json.dumps(known)
    assert "/predict" in client("GET", "/openapi.json").json["paths"]


def test_all_is_counted(client: Any, as_file: Any, stripes: Picture) -> None:
    for data in (as_file(stripes[0]), as_file(stripes[0]), b"hello"):
        client.predict(data)
    client("GET", "/secret/path")
    lines = client("GET", "/metrics").body.decode().splitlines()
    for line in (
        'wsss_requests_total{path="/predict",status="200"} 2',
        'wsss_requests_total{path="/predict",status="415"} 1',
        'wsss_requests_total{path="other",status="404"} 1',
        'wsss_prediction_seconds_bucket{le="+Inf"} 2',
        "wsss_prediction_seconds_count 2",
        "wsss_requests_in_progress 0",
        "wsss_predicted_pixels_total 1200",
    ):
        assert line in lines
