"""A server of a model that needs no network, in a thread of this process, and its client."""

import http.client
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss.artifacts import palette
from wsss.prediction import Predicted
from wsss.prediction.tags import allowed_in_each
from wsss.server import Limits


class Colours:
    """Red is class 1, green class 2, all else the background; by whole numbers."""

    class_names = ("red", "grün")
    has_background = True
    palette = palette()[:3]

    def __init__(self) -> None:
        places = {"place": "/home/me/models", "settings_from": "/home/me/params.yaml"}
        self.about = {**places, "arch": "none"}
        self.may_go_on, self.at_work = threading.Event(), threading.Event()
        self.may_go_on.set()

    def predict(self, images: Any, *, tags: Any = None, probs: Any = 0, crf: Any = 1) -> Any:
        self.at_work.set()
        assert self.may_go_on.wait(30)
        allowed = allowed_in_each(tags, len(images), self.class_names, has_background=True)
        found = []
        for image, row in zip(images, allowed, strict=True):
            if image.shape == (1, 1, 3):
                raise RuntimeError("not enough memory: you tried to allocate memory")
            if image.shape == (1, 2, 3):
                raise RuntimeError("a fault")
            mask = np.where(image.max(axis=2) < 128, 0, 1 + image.argmax(axis=2))
            mask[mask == 3] = 0
            if row is not None:
                mask[~row[mask]] = 0
            found.append(Predicted(mask.astype(np.uint8)))
        return found


@dataclass
class Answer:
    """Of a server."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def mask(self) -> np.ndarray:
        with Image.open(io.BytesIO(self.body)) as picture:
            assert picture.mode == "P"
            return np.asarray(picture)


@dataclass
class Client:
    """Asks the server at a port."""

    port: int

    def __call__(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            named = {key.lower(): value for key, value in response.getheaders()}
            return Answer(response.status, response.read(), named)
        finally:
            connection.close()

    def predict(self, data: bytes, query: str = "", **headers: str) -> Answer:
        return self("POST", f"/predict{query}", data, headers)


@contextmanager
def running(model: Any, limits: Limits, token: str = "") -> Iterator[Client]:
    import uvicorn

    from wsss.server.application import make_application

    config = uvicorn.Config(make_application(model, limits, token), port=0, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        end = time.monotonic() + 60
        while not server.started:
            assert time.monotonic() < end and thread.is_alive()
            time.sleep(0.01)
        yield Client(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.fixture(scope="session")
def serving() -> Callable[..., Any]:
    """A context in which a model is served."""
    pytest.importorskip("fastapi", reason="needs the extra serve: pip install '.[serve]'")
    pytest.importorskip("python_multipart", reason="needs the extra serve")
    return running


@pytest.fixture
def colours() -> Colours:
    return Colours()


@pytest.fixture
def client(serving: Any, colours: Colours) -> Iterator[Client]:
    """Of a server with narrow limits."""
    limits = Limits(max_bytes=300_000, max_pixels=10_000, max_waiting=1, seconds_to_send=1)
    with serving(colours, limits) as found:
        yield found


def file_of(image: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    picture.save(file, format=kind, **options)
    return file.getvalue()


@pytest.fixture(scope="session")
def as_file() -> Callable[..., bytes]:
    """The bytes of a file of an image."""
    return file_of


@pytest.fixture(scope="session")
def stripes() -> tuple[np.ndarray, np.ndarray]:
    """(20, 30, 3) of blue, red and green columns, and the mask."""
    mask = (np.arange(30)[None].repeat(20, axis=0) // 10).astype(np.uint8)
    return np.array([[0, 0, 255], [255, 0, 0], [0, 255, 0]], np.uint8)[mask], mask
