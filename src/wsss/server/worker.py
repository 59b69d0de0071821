"""One thread in which all images are decoded and predicted, one after another.

So the memory is that of one image whatever comes in, and a mask does not depend on what else came:
rounding differs from batch to batch.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from wsss.artifacts import is_of_the_system
from wsss.prediction import Model
from wsss.prediction.at_learned_size import predict_at_learned_size
from wsss.server.answers import JSON, json_of, png_of
from wsss.server.limits import Limits
from wsss.server.metrics import Metrics
from wsss.server.refusal import Refusal
from wsss.server.uploads import decode_upload

__all__ = ["Wanted", "Worker"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """What a client wants to know of its image.

    Attributes:
        kind: the media type of the answer.
        tags: the classes that the image shows; None if nobody knows.
        crf: whether a dense CRF follows, where the model has one.
    """

    kind: str
    tags: Sequence[str] | None = None
    crf: bool = True


class Worker:
    """Predicts with a model.

    Args:
        model: that is asked in one thread alone.
        limits: of images.
        metrics: that are counted.
    """

    def __init__(self, model: Model, limits: Limits, metrics: Metrics) -> None:
        self._model, self._limits, self._metrics = model, limits, metrics
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="predict")

    async def answer(self, data: bytes, wanted: Wanted) -> bytes:
        """The mask of an image file as `wanted` says; see `decode_upload` for what is refused."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._answer, data, wanted)

    def close(self) -> None:
        """Let the request at work end, and forget those that wait."""
        self._thread.shutdown(cancel_futures=True)

    def _answer(self, data: bytes, wanted: Wanted) -> bytes:
        image = decode_upload(data, self._limits.max_pixels)
        begin = time.perf_counter()
        try:
            (found,) = predict_at_learned_size(
                self._model, [image], tags=[wanted.tags], crf=wanted.crf
            )
        except ValueError as error:  # tags that are no classes
            raise Refusal(400, str(error)) from None
        except (MemoryError, RuntimeError) as error:
            if not is_of_the_system(error):
                raise
            _log.warning("An image of %d x %d pixels did not fit into memory.", *image.shape[:2])
            raise Refusal(
                413,
                f"an image of {image.shape[1]} x {image.shape[0]} pixels does not fit into the "
                "memory of this server; send a smaller one",
            ) from None
        self._metrics.predicted(time.perf_counter() - begin, image.shape[0] * image.shape[1])
        if wanted.kind == JSON:
            return json_of(found.mask, self._model.class_names)
        return png_of(found.mask)
