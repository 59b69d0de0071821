"""The application: who may ask what, and what is refused before it costs anything."""

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from wsss import __version__
from wsss.prediction import Model
from wsss.server.answers import wanted_type
from wsss.server.limits import Limits
from wsss.server.metrics import Metrics
from wsss.server.refusal import Refusal
from wsss.server.worker import Wanted, Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse

__all__ = ["make_application"]

_PRIVATE = {"place", "settings_from"}
"""What is known of a model and tells where files lie."""

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "An image file as it is, or as the part `image` of a form, with parts `tag`",
        "content": {
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": {"type": "string", "format": "binary"},
                        "tag": {"type": "array", "items": {"type": "string"}},
                    },
                }
            },
        },
    },
    "parameters": [
        {"name": "tag", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
        {"name": "crf", "in": "query", "schema": {"type": "boolean", "default": True}},
        {"name": "format", "in": "query", "schema": {"type": "string", "enum": ["png", "json"]}},
    ],
    "responses": {"200": {"content": {"image/png": {}, "application/json": {}}}},
}


def make_application(model: Model, limits: Limits, token: str = "") -> "FastAPI":
    """The ASGI application.

    Args:
        model: that predicts.
        limits: of requests.
        token: that all requests but those of /health have to name; empty for none.
    """
    from fastapi import FastAPI, Request, Response

    metrics = Metrics()
    worker = Worker(model, limits, metrics)
    places = _Places(limits.max_waiting + 1)

    @asynccontextmanager
    async def living(_: "FastAPI") -> AsyncIterator[None]:
        yield
        worker.close()

    application = FastAPI(
        title="wsss", version=__version__, docs_url=None, redoc_url=None, lifespan=living
    )

    @application.exception_handler(Refusal)
    async def refuse(request: Request, refusal: Refusal) -> Response:
        return _refused(refusal)

    @application.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> Response:
        return _refused(Refusal(500, "the server failed; its log says why"))

    @application.middleware("http")
    async def watched(
        request: Request, answer: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        known = {"/health", "/metrics", "/model", "/predict", "/openapi.json"}
        path = request.url.path if request.url.path in known else "other"
        given = request.headers.get("authorization", "")
        if token and path != "/health" and not _same(given, f"Bearer {token}"):
            response: Response = _refused(
                Refusal(401, "send the server's token in a header: Authorization: Bearer TOKEN")
            )
            response.headers["WWW-Authenticate"] = "Bearer"
        else:
            try:
                response = await answer(request)
            except Exception:
                metrics.answered(path, 500)
                raise
        metrics.answered(path, response.status_code)
        return response

    @application.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @application.get("/metrics")
    async def show_metrics() -> Response:
        return Response(metrics.text(places.taken), media_type="text/plain; version=0.0.4")

    @application.get("/model")
    async def show_model() -> dict[str, Any]:
        return {
            "class_names": model.class_names,
            "has_background": model.has_background,
            "palette": model.palette.tolist(),
            "about": {key: value for key, value in model.about.items() if key not in _PRIVATE},
            "limits": vars(limits),
        }

    @application.post("/predict", openapi_extra=_BODY)
    async def predict(request: Request) -> Response:
        kind = wanted_type(request.query_params.get("format"), request.headers.get("accept", ""))
        crf = _yes(request.query_params.get("crf"))
        with places.take():
            data = await _body(request, limits)
            tags = request.query_params.getlist("tag")
            if request.headers.get("content-type", "").startswith("multipart/form-data"):
                data, more = await _form(request, data)
                tags += more
            # a tag without a name says that the image shows no class
            named = [tag for tag in tags if tag] if tags else None
            answer = await worker.answer(data, Wanted(kind, named, crf))
        return Response(answer, media_type=kind)

    return application


class _Places:
    """How many requests are there, of those that may be: at work or waiting."""

    def __init__(self, most: int) -> None:
        self._most, self.taken = most, 0

    @contextmanager
    def take(self) -> "Iterator[None]":
        """Have a place within a block. Raises Refusal, 503, if there is none."""
        if self.taken >= self._most:
            raise Refusal(
                503, f"{self.taken} requests are there already; send it again a little later", 1
            )
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


async def _body(request: "Request", limits: Limits) -> bytes:
    """All bytes of a body, unless it is too long or takes too long.

    One that is too long is read on for a while, and forgotten: a client that is cut off while it
    sends does not see why.
    """
    length = request.headers.get("content-length", "")
    is_good = not length.isdecimal() or int(length) <= limits.max_bytes
    data, received = bytearray(), 0
    try:
        async with asyncio.timeout(limits.seconds_to_send):
            async for part in request.stream():
                received += len(part)
                is_good = is_good and received <= limits.max_bytes
                if is_good:
                    data += part
                else:
                    data.clear()
                if received > 2 * limits.max_bytes:
                    break
    except TimeoutError:
        raise Refusal(
            408,
            f"the body did not arrive within {limits.seconds_to_send:g} seconds; send it again",
            closes=True,
        ) from None
    if not is_good:
        raise Refusal(
            413,
            f"a body of more than {limits.max_bytes} bytes is not taken; send a smaller image",
            closes=True,
        )
    return bytes(data)


async def _form(request: "Request", body: bytes) -> tuple[bytes, list[str]]:
    """The image and the tags of a form."""
    from fastapi import Request
    from starlette.datastructures import UploadFile
    from starlette.exceptions import HTTPException

    async def once() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        async with Request(request.scope, once).form(max_files=1, max_fields=1000) as form:
            image = form.get("image")
            if not isinstance(image, UploadFile):
                raise Refusal(400, "the form has no file named 'image'; send it under that name")
            tags = [tag for tag in form.getlist("tag") if isinstance(tag, str)]
            return await image.read(), tags
    except HTTPException as error:
        raise Refusal(400, f"the form cannot be read: {error.detail}") from None


def _yes(text: str | None) -> bool:
    known = {None: True, "true": True, "1": True, "false": False, "0": False}
    if text not in known:
        raise Refusal(400, f"crf is '{text}'; write crf=true or crf=false")
    return known[text]


def _same(given: str, wanted: str) -> bool:
    """Whether two texts are the same, in a time that does not tell where they differ."""
    return hmac.compare_digest(given.encode(), wanted.encode())


def _refused(refusal: Refusal) -> "JSONResponse":
    from fastapi.responses import JSONResponse

    headers = {"Retry-After": str(refusal.retry_after)} if refusal.retry_after else {}
    if refusal.closes:
        headers["Connection"] = "close"
    return JSONResponse({"detail": refusal.text}, refusal.status, headers)
