"""Many files to masks in a folder: in batches, read ahead, each noted when it is done."""

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from wsss.artifacts import atomic_path, is_of_the_system, palette, write_label_png
from wsss.cores import usable_cores
from wsss.data.images import BadImageError
from wsss.loading.same_size import size_groups
from wsss.prediction._base import Model, Predicted
from wsss.prediction.at_learned_size import enlarged
from wsss.prediction.changing import image_settings
from wsss.prediction.geotiff import write_label_tiff
from wsss.prediction.reading import Picture, Reader, frames
from wsss.prediction.record import Entry, Record
from wsss.prediction.sources import Source
from wsss.progress import track

__all__ = ["FolderPrediction", "Job", "Outcome"]

Draw: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""An image, (H, W, 3) uint8, and its mask, (H, W) uint8, to what shows both, like the image."""

AT_ONCE = 2**22
"""Pixels that the images of a batch have together; a larger image is alone."""
LARGE = 2**24
"""Pixels from which on an image that is not cut into windows may be too large for memory."""

_BAND = 2**20  # pixels that are drawn at once
_JPEG_SIDE = 65500  # pixels


@dataclass(frozen=True)
class Job:
    """A file that is to be predicted.

    Attributes:
        name: of its mask.
        path: the file.
        size: (height, width) of what the network gets; (0, 0) of a video.
        entry: what is noted of it when it is done; of a video that of its frames.
    """

    name: str
    path: Path
    size: tuple[int, int]
    entry: Entry


@dataclass(frozen=True)
class Outcome:
    """What became of an image.

    Attributes:
        name: of its mask, or of the file that has none.
        pixels: of the mask, by value; none where there is no mask.
        is_new: whether it was predicted now.
        reason: why there is no mask; "" where there is one.
        conversions: as of `Picture`.
        is_dark: likewise.
    """

    name: str
    pixels: tuple[int, ...] = ()
    is_new: bool = False
    reason: str = ""
    conversions: tuple[str, ...] = ()
    is_dark: bool = False


class FolderPrediction:
    """Files to masks in a folder.

    Args:
        model: that predicts.
        record: of the folder.
        tags: by name of a file the classes that are allowed there; None of all.
        draw: what is written beside masks to look at; None writes nothing.
        probs: whether probabilities are written beside masks, too.
        every: so many frames of a video are one image.
    """

    def __init__(
        self,
        model: Model,
        record: Record,
        *,
        tags: Mapping[str, tuple[str, ...] | None],
        draw: Draw | None = None,
        probs: bool = False,
        every: int = 1,
    ) -> None:
        self._model, self._record, self._tags = model, record, tags
        self._draw, self._probs, self._every = draw, probs, every
        self._reader = Reader(image_settings(model.about.get("images") or {}))
        settings: Mapping[str, Any] = model.about.get("settings") or {}
        self._batch_size, self.window = settings.get("batch_size", 8), settings.get("window", 0)

    def look(self, sources: Sequence[Source]) -> tuple[list[Job], list[Outcome]]:
        """What is to be done, by the files' headers, and what cannot be.

        Raises:
            ValueError: a file would be written over that is of something else.
        """
        with ThreadPoolExecutor(_threads()) as pool:
            looked = list(track(pool.map(self._look, sources), "look at files", len(sources)))
        jobs = [found for found in looked if isinstance(found, Job)]
        self._record.check_free({job.name: job.entry for job in jobs if job.size != (0, 0)})
        return jobs, [found for found in looked if isinstance(found, Outcome)]

    def predict(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """Do what is to be done: images by size, the largest first, then videos.

        Images of one size run in the same batches whatever is done already, as rounding may depend
        on what else is in a batch.

        Raises:
            OSError: the system, and no file, is to blame.
        """
        images = [job for job in jobs if job.size != (0, 0)]
        with ThreadPoolExecutor(_threads()) as pool:
            for group, reads in self._read_ahead(self._groups(images), pool):
                if not reads:
                    yield from map(self._kept, group)
                    continue
                there: list[tuple[Job, Picture]] = []
                for job, read in zip(group, reads, strict=True):
                    try:
                        there.append((job, read.result()))
                    except BadImageError as error:
                        yield Outcome(str(job.path), reason=str(error))
                yield from self._batch(there)
        for job in jobs:
            if job.size == (0, 0):
                yield from self._video(job)

    def _look(self, source: Source) -> Job | Outcome:
        try:
            status = source.path.stat()
            size, geo = (0, 0), None
            if not source.is_video:
                size, geo = self._reader.size(source.path), self._reader.geo(source.path)
        except BadImageError as error:
            return Outcome(str(source.path), reason=str(error))
        except FileNotFoundError:
            return Outcome(str(source.path), reason="the file does not exist")
        suffixes = [".png" if geo is None else ".tif"]
        suffixes += [".overlay.jpg"] * (self._draw is not None) + [".npz"] * self._probs
        files = tuple(source.name + suffix for suffix in suffixes)
        place, tags = os.path.normpath(source.path.absolute()), self._tags[source.name]
        entry = Entry(place, status.st_size, status.st_mtime_ns, tags, files, ())
        return Job(source.name, source.path, size, entry)

    def _groups(self, jobs: Sequence[Job]) -> Iterator[list[Job]]:
        for group in size_groups([job.size for job in jobs], self._batch_size):
            height, width = jobs[group[0]].size
            together = max(1, AT_ONCE // (height * width))
            if self.window and max(height, width) > self.window:
                together = 1
            for start in range(0, len(group), together):
                yield [jobs[at] for at in group[start : start + together]]

    def _read_ahead(
        self, groups: Iterable[list[Job]], pool: ThreadPoolExecutor
    ) -> Iterator[tuple[list[Job], list[Future[Picture]]]]:
        """Each group with its images, which are read while the one before it is predicted.

        Of groups that are done, nothing is read.
        """
        waiting: deque[tuple[list[Job], list[Future[Picture]]]] = deque()
        for group in groups:
            reads: list[Future[Picture]] = []
            if not all(self._record.is_done(job.name, job.entry) for job in group):
                reads = [pool.submit(self._reader.read, job.path) for job in group]
            waiting.append((group, reads))
            if len(waiting) > 1:
                yield waiting.popleft()
        yield from waiting

    def _batch(self, there: Sequence[tuple[Job, Picture]]) -> Iterator[Outcome]:
        """Predict images of one size, and write what is not done."""
        found = self._predicted(there) if there else []
        if found is None and len(there) > 1:  # too little memory for all together
            for item in there:
                yield from self._batch([item])
        elif found is None:
            ((job, _),) = there
            window = self.window // 2 if self.window > 64 else 1024
            reason = (
                f"it needs more memory than there is; --set predict_masks.window={window} cuts it "
                "into windows"
            )
            yield Outcome(str(job.path), reason=reason)
        else:
            for (job, picture), predicted in zip(there, found, strict=True):
                if self._record.is_done(job.name, job.entry):
                    yield self._kept(job)
                else:
                    yield self._written(job, picture, predicted)

    def _predicted(self, there: Sequence[tuple[Job, Picture]]) -> list[Predicted] | None:
        """What the model finds; None where memory does not suffice."""
        images = [picture.pixels for _, picture in there]
        tags = [job.entry.tags for job, _ in there]
        try:
            return self._model.predict(images, tags=tags, probs=self._probs)
        except (MemoryError, RuntimeError) as error:
            if not is_of_the_system(error):
                raise
            return None

    def _video(self, video: Job) -> Iterator[Outcome]:
        """Predict frames, batch after batch; those after a fault are lost."""
        waiting: list[tuple[Job, Picture]] = []
        reason = ""
        try:
            for number, frame in frames(video.path, self._every):
                picture = self._reader.of_frame(frame)
                name = f"{video.name}/{number:06}"
                files = tuple(name + file.removeprefix(video.name) for file in video.entry.files)
                height, width = picture.pixels.shape[:2]
                entry = replace(video.entry, files=files)
                job = Job(name, video.path, (height, width), entry)
                together = AT_ONCE // (height * width)
                if waiting and (
                    waiting[0][0].size != job.size
                    or len(waiting) >= min(self._batch_size, max(1, together))
                ):
                    yield from self._frames(waiting)
                    waiting = []
                waiting.append((job, picture))
        except BadImageError as error:
            reason = str(error)
        if waiting:
            yield from self._frames(waiting)
        elif not reason:
            reason = "it has no frames"
        if reason:
            yield Outcome(str(video.path), reason=reason)

    def _frames(self, there: Sequence[tuple[Job, Picture]]) -> Iterator[Outcome]:
        if all(self._record.is_done(job.name, job.entry) for job, _ in there):
            yield from (self._kept(job) for job, _ in there)
            return
        self._record.check_free({job.name: job.entry for job, _ in there})
        yield from self._batch(there)

    def _kept(self, job: Job) -> Outcome:
        known = self._record.entry(job.name)
        assert known is not None
        return Outcome(job.name, known.pixels)

    def _written(self, job: Job, picture: Picture, predicted: Predicted) -> Outcome:
        mask = enlarged(predicted.mask, picture.size)
        count = len(self._model.class_names) + 1
        pixels = tuple(np.bincount(mask.ravel(), minlength=count).tolist())
        ways: list[Callable[[Path], None]] = [partial(write_label_png, mask=mask)]
        if picture.geo is not None:
            ways = [partial(write_label_tiff, mask=mask, colours=palette(), geo=picture.geo)]
        if self._draw is not None:
            ways.append(partial(_write_drawn, self._draw, picture.pixels, predicted.mask))
        if predicted.probs is not None:
            names = ("background", *self._model.class_names)
            ways.append(partial(_write_probs, enlarged(predicted.probs, picture.size), names))
        folder = self._record.folder
        with ExitStack() as stack:
            for file, write in zip(job.entry.files, ways, strict=True):
                write(stack.enter_context(atomic_path(folder / file)))
            for file in job.entry.files:  # of before: what is noted and not there is made anew
                (folder / file).unlink(missing_ok=True)
            self._record.add(job.name, replace(job.entry, pixels=pixels))
        return Outcome(job.name, pixels, True, "", picture.conversions, picture.is_dark)


def _threads() -> int:
    return min(8, usable_cores() + 1)


def _write_drawn(draw: Draw, image: np.ndarray, mask: np.ndarray, path: Path) -> None:
    """Write a JPEG of an image and its mask; of a very large one every second pixel or so."""
    step = math.ceil(max(mask.shape) / _JPEG_SIDE)
    image, mask = image[::step, ::step], mask[::step, ::step]
    rows = max(1, _BAND // mask.shape[1])
    drawn = np.empty_like(image)
    for top in range(0, len(mask), rows):
        band = slice(top, top + rows)
        drawn[band] = draw(image[band], mask[band])
    Image.fromarray(drawn).save(path, format="JPEG", quality=90)


def _write_probs(probs: np.ndarray, names: Sequence[str], path: Path) -> None:
    """Write (K + 1, H, W) as float16, with the names of its rows."""
    with path.open("wb") as file:
        np.savez_compressed(file, probs=probs.astype(np.float16), classes=np.array(names))
