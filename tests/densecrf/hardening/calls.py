"""A byte string as a sequence of calls on `wsss.densecrf`, and what must hold after each.

Every call either raises `ValueError` in our own words or returns finite numbers: probabilities that
sum to one at each point, and the same ones when asked again. It changes none of its inputs. An
input that breaks one of these rules ends in a `Finding`.
"""

import linecache
import math
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import wsss.densecrf as dcrf
from wsss.densecrf import utils

PACKAGE = str(Path(dcrf.__file__).parent)

NUMBERS: list[Any] = [
    *(3.0, 1.0, 80.0, 13.0, 0.5, 10, 0.01, 1e3, 0, -0.0, -1.0, -3, 1e-3, 1e-5, 1e-7, 1e-30, 1e-37),
    *(1.2e-38, 1e-42, 1e-60, 1e6, 1e7, 1e30, 3.4e38, -3.4e38, 3.5e38, 1e39, -1e300),
    *(math.nan, math.inf, -math.inf, True, None, "3", "x", b"3", 3j, 10**400, [], [3.0], object()),
    *(np.float32(3), np.float16(2), np.int64(3), np.float64("nan"), np.array(3.0)),
    *(np.array([2.0]), np.array([2.0, 3.0]), np.ma.masked, np.datetime64("2020-01-01")),
]
COUNTS: list[Any] = [
    *(1, 2, 3, 5, 0, -1, 12, -(2**31), 2**31, 2**32, 2**63, 2**64, 2**80, -(2**63)),
    *(1.0, 2.5, True, False, None, "2", math.nan, math.inf, [2], np.int8(3), np.uint64(2)),
    *(np.int64(-1), np.array(2), np.array([1, 2]), np.float32(2)),
]
THREADS: list[Any] = [*COUNTS, 100, 2**31 - 1]
SIZES: list[Any] = [*COUNTS, 2**15, 2**16, 2**20, 46341, 2**30, 2**31 - 1]
DTYPES = ["f4", "f8", "f2", ">f4", "i4", "u1", "?", "i8", "u8", "c8", "O", "U1", "g", "M8[s]", "V4"]
SPECIALS = [math.nan, math.inf, -math.inf, 3.4e38, -3.4e38, 1e39, 1e-42, -0.0, -1.0, 1.0005, 2.0]


class Finding(AssertionError):
    """A rule of this module broken."""


class Reader:
    """Choices taken from a byte string; past its end every choice is the first."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1] if self.at <= len(self.data) else 0

    def below(self, n: int) -> int:
        return self.byte() % n if n <= 256 else (self.byte() << 8 | self.byte()) % n

    def pick(self, options: Sequence[Any]) -> Any:
        return options[self.below(len(options))]

    def rarely(self) -> bool:
        return self.byte() >= 242

    def number(self, usual: Sequence[float] = (3.0, 1.0, 20.0, 0.5)) -> Any:
        """Mostly a usual number, else one of NUMBERS or any float32."""
        kind = self.byte()
        if kind < 216:
            return self.pick(usual)
        if kind < 244:
            return self.pick(NUMBERS)
        raw = bytes(self.byte() for _ in range(4))
        return struct.unpack("<f", raw)[0]

    def count(self, most: int) -> Any:
        return self.pick(COUNTS) if self.rarely() else self.below(most + 1)

    def numbers(self, usual: Sequence[float] = (3.0, 1.0, 20.0, 0.5)) -> Any:
        """One number, or several in a list, a tuple or an array."""
        if self.byte() < 208:
            return self.number(usual)
        several = [self.number(usual) for _ in range(self.below(5))]
        kind = self.below(3)
        if kind == 2:
            try:
                return np.array(several, dtype=np.float64)
            except (TypeError, ValueError, OverflowError):
                return several
        return tuple(several) if kind else several

    def shape(self, wanted: tuple[int, ...]) -> tuple[int, ...]:
        """The wanted shape, or rarely one that is off."""
        if not self.rarely():
            return wanted
        how = self.below(5)
        if how == 0:
            return wanted[::-1]
        if how == 1:
            return (*wanted, 1)
        if how == 2:
            return wanted[1:]
        off = list(wanted) or [1]
        at = self.below(len(off))
        off[at] = max(0, off[at] + self.pick([1, -1, -off[at]]))
        return tuple(off)

    def array(self, wanted: tuple[int, ...], make: Callable[..., np.ndarray]) -> Any:
        """Values of `make(rng, shape)` in some dtype, memory order and disguise."""
        shape = self.shape(wanted)
        values = np.asarray(make(np.random.default_rng(self.byte()), shape))
        if values.size and self.rarely():
            values = values.astype(np.float64)
            for _ in range(1 + self.below(3)):
                values.reshape(-1)[self.below(values.size)] = self.pick(SPECIALS)
        if self.rarely():
            try:
                with np.errstate(all="ignore"):
                    values = values.astype(self.pick(DTYPES))
            except (TypeError, ValueError):
                return values
        layout = self.byte()
        if layout < 160:
            return np.ascontiguousarray(values).reshape(values.shape)
        return disguise(values, layout % 9)


def disguise(values: np.ndarray, layout: int) -> Any:
    """The same values in another memory order, or in something else than an array."""
    if layout == 0:
        return np.asfortranarray(values)
    if layout == 1 and values.ndim:
        return np.repeat(values, 2, axis=-1)[..., ::2]
    if layout == 2 and values.ndim:
        return values[..., ::-1].copy()[..., ::-1]
    if layout == 3:
        frozen = values.copy()
        frozen.setflags(write=False)
        return frozen
    if layout == 4 and values.ndim and values.dtype.itemsize > 1 and not values.dtype.hasobject:
        raw = np.zeros(values.nbytes + 1, np.uint8)[1:]  # unaligned
        shifted = raw.view(values.dtype).reshape(values.shape)
        shifted[...] = values
        return shifted
    if layout == 5 and values.ndim and values.shape[-1]:
        return np.broadcast_to(values[..., :1], values.shape)
    if layout == 6:
        return values.tolist()
    if layout == 7:
        return np.ma.masked_array(values)
    return values.view(type("Sub", (np.ndarray,), {}))


def energies(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    scale = rng.choice([0.0, 1.0, 20.0, 1e30])
    return (rng.uniform(0, 1, shape) * scale).astype(np.float32)


def probabilities(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    scores = np.exp(rng.normal(size=shape) * rng.choice([0.0, 1.0, 20.0]))
    total = scores.sum(axis=0, keepdims=True) if scores.ndim else scores
    with np.errstate(all="ignore"):
        return np.nan_to_num(scores / total, nan=0.5, posinf=1.0).astype(np.float32)


def colours(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    levels = rng.choice([1, 3, 256])
    return (rng.integers(0, levels, shape) * (255 // levels)).astype(np.uint8)


def positions(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    scale = rng.choice([0.0, 0.1, 1.0, 30.0, 1e6])
    return (rng.normal(size=shape) * scale).astype(np.float32)


def weights(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return (rng.normal(size=shape) * rng.choice([1.0, 10.0, 1e30])).astype(np.float32)


def label_map(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(0, rng.choice([2, 4, 300]), shape)


def require(holds: object, rule: str) -> None:
    if not holds:
        raise Finding(rule)


def in_our_words(error: ValueError) -> bool:
    """Whether our Python raised it, or our C++ below a call on the compiled module."""
    traceback = error.__traceback__
    if traceback is None:
        return False
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    path = traceback.tb_frame.f_code.co_filename
    line = linecache.getline(path, traceback.tb_lineno).strip()
    native = "_native." in line or "self._core" in line
    text = str(error)
    return (
        path.startswith(PACKAGE)
        and (line.startswith("raise ") or native)
        and bool(text)
        and "incompatible function arguments" not in text
    )


class Inputs:
    """Copies of a call's arrays, to see that it left them alone."""

    def __init__(self, *values: Any) -> None:
        self.arrays = [
            np.asarray(v) for v in values if isinstance(v, np.ndarray) and not v.dtype.hasobject
        ]
        self.before = [a.tobytes() for a in self.arrays]

    def check(self) -> None:
        for array, before in zip(self.arrays, self.before, strict=True):
            require(array.tobytes() == before, "an input was modified")


class Session:
    """One input's calls. `counts` tallies them by name and outcome."""

    def __init__(self, reader: Reader, counts: Counter[str]) -> None:
        self.read = reader
        self.counts = counts
        self.crf: dcrf.DenseCRF | None = None
        self.size: tuple[int, int] | None = None
        self.points = self.labels = 1
        self.q: np.ndarray | None = None

    def attempt(self, name: str, call: Callable[[], Any], *inputs: Any) -> Any:
        """The call's result, or None if it was refused properly."""
        untouched = Inputs(*inputs)
        try:
            result = call()
        except ValueError as error:
            if not in_our_words(error):
                raise Finding(f"{name}: not our words: {type(error).__name__}: {error}") from error
            self.counts[f"{name} refused"] += 1
            untouched.check()
            return None
        except Finding:
            raise
        except Exception as error:
            raise Finding(f"{name}: {type(error).__name__}: {error}") from error
        self.counts[f"{name} done"] += 1
        untouched.check()
        return result

    # ---- The drop-in classes.

    def new_crf(self) -> None:
        read = self.read
        self.crf, self.size, self.q = None, None, None
        strange = read.rarely()
        labels = read.pick(SIZES) if strange else 1 + read.below(12)
        if not strange and read.rarely():
            labels = read.pick([17, 24, 25, 33, 40, 300, 2000])
        parity = read.pick([True, False])
        if read.below(3):
            width, height = (
                (read.pick(SIZES), read.pick(SIZES))
                if strange
                else (1 + read.below(9), 1 + read.below(9))
            )
            crf = self.attempt(
                "DenseCRF2D", lambda: dcrf.DenseCRF2D(width, height, labels, parity=parity)
            )
            if crf is not None:
                self.size = int(height), int(width)
                self.points = int(height) * int(width)
        else:
            points = read.pick(SIZES) if strange else 1 + read.below(70)
            crf = self.attempt("DenseCRF", lambda: dcrf.DenseCRF(points, labels, parity=parity))
            if crf is not None:
                self.points = int(points)
        if crf is None:
            return
        self.labels = int(labels)
        if (
            self.points * self.labels > 2**16 or self.labels > 2000
        ):  # too large to run: only that it refuses
            small = np.zeros((6, 7), np.float32)  # neither is one of SIZES
            for name, call in (
                ("huge unary", lambda: crf.setUnaryEnergy(small)),
                ("huge features", lambda: crf.addPairwiseEnergy(small, 3)),
                ("huge step", lambda: crf.stepInference(small)),
                ("huge divergence", lambda: crf.klDivergence(small)),
            ):
                self.attempt(name, call)
                require(self.counts[f"{name} done"] == 0, f"{name} was accepted")
            return
        self.crf = crf

    def compat(self) -> Any:
        read = self.read
        form = read.below(4)
        if form < 2:
            return read.numbers((3.0, 10.0, 0.0, -2.0))
        shape = (self.labels,) if form == 2 else (self.labels, self.labels)
        return read.array(shape, weights)

    def constants(self) -> tuple[Any, Any]:
        read = self.read
        if not read.rarely():
            return dcrf.DIAG_KERNEL, read.pick(list(dcrf.NormalizationType))
        return read.pick(COUNTS), read.pick(COUNTS)

    def set_unary(self) -> None:
        read = self.read
        if not read.rarely():
            unary = read.array((self.labels, self.points), energies)
            self.attempt("setUnaryEnergy", lambda: self.crf.setUnaryEnergy(unary), unary)
            return
        inner = read.below(4)
        weights_ = read.array((self.labels, inner), weights)
        features = read.array((inner, self.points), positions)
        self.attempt(
            "setUnaryEnergy of features",
            lambda: self.crf.setUnaryEnergy(weights_, features),
            *(weights_, features),
        )
        unary = self.attempt("LogisticUnary", lambda: dcrf.LogisticUnary(weights_, features))
        if unary is None:
            unary = self.attempt("ConstUnary", lambda: dcrf.ConstUnary(weights_))
        self.attempt("setUnary", lambda: self.crf.setUnary(unary))

    def add_energy(self) -> None:
        read = self.read
        dim = read.pick([2, 5, 3, 1, 4, 0, 7, 15, 16, 40])
        features = read.array((dim, self.points), positions)
        compat, (kernel, norm) = self.compat(), self.constants()
        self.attempt(
            "addPairwiseEnergy",
            lambda: self.crf.addPairwiseEnergy(features, compat, kernel, norm),
            *(features, compat),
        )

    def add_gaussian(self) -> None:
        if self.size is None:
            return self.add_energy()
        sxy = self.read.numbers()
        compat, (kernel, norm) = self.compat(), self.constants()
        self.attempt(
            "addPairwiseGaussian",
            lambda: self.crf.addPairwiseGaussian(sxy, compat, kernel, norm),
            *(sxy, compat),
        )
        return None

    def add_bilateral(self) -> None:
        if self.size is None:
            return self.add_energy()
        sxy, srgb = self.read.numbers((80.0, 5.0, 1.0)), self.read.numbers((13.0, 5.0, 60.0))
        image = self.read.array((*self.size, 3), colours)
        compat, (kernel, norm) = self.compat(), self.constants()
        self.attempt(
            "addPairwiseBilateral",
            lambda: self.crf.addPairwiseBilateral(sxy, srgb, image, compat, kernel, norm),
            *(sxy, srgb, image, compat),
        )
        return None

    def inference(self) -> None:
        niter = self.read.count(6)
        q = self.attempt("inference", lambda: self.crf.inference(niter))
        if q is None:
            return
        check_probabilities("inference", q, (self.labels, self.points))
        again = self.crf.inference(niter)
        require(q.tobytes() == again.tobytes(), "inference: another answer when asked again")
        self.q = q

    def in_threads(self) -> None:
        """One CRF asked by three threads at once."""
        niter = self.read.below(4)

        def ask(_: int) -> str | bytes:
            try:
                return self.crf.inference(niter).tobytes()
            except ValueError as error:
                return str(error)

        with ThreadPoolExecutor(3) as executor:
            answers = set(executor.map(ask, range(3)))
        require(len(answers) == 1, "inference: another answer in another thread")
        self.counts["inference threaded"] += 1

    def start(self) -> None:
        started = self.attempt("startInference", lambda: self.crf.startInference())
        if started is not None:
            check_probabilities("startInference", started[0], (self.labels, self.points))
            self.q = started[0]

    def step(self) -> None:
        """On a Q of the CRF's own, or on any array of its shape."""
        if self.q is not None and not self.read.rarely():
            q = self.q
            self.attempt("stepInference", lambda: self.crf.stepInference(q))
            check_probabilities("stepInference", q, (self.labels, self.points))
            return
        q = self.read.array((self.labels, self.points), probabilities)
        untouched = Inputs(q)
        before = self.counts["stepInference done"]
        self.attempt("stepInference", lambda: self.crf.stepInference(q))
        if self.counts["stepInference done"] == before:
            untouched.check()
        else:
            check_probabilities("stepInference", q, (self.labels, self.points))

    def divergence(self) -> None:
        q = self.q
        if q is None or self.read.rarely():
            q = self.read.array((self.labels, self.points), probabilities)
        value = self.attempt("klDivergence", lambda: self.crf.klDivergence(q), q)
        if value is not None:
            finite = np.isfinite(np.asarray(q, np.float64)).all()
            kind = "a Q that is" if finite else "a Q that is not"
            # Infinite where Q gives some weight to an impossible label.
            require(value > -math.inf, f"klDivergence: {value} of {kind} finite")

    # ---- The functions.

    def image_and_probs(self) -> tuple[Any, Any]:
        read = self.read
        height, width, labels = 1 + read.below(9), 1 + read.below(9), 1 + read.below(9)
        if read.rarely():
            labels = read.pick([0, 17, 24, 25, 33, 40, 300])
        if read.rarely():
            height = read.pick([0, 1, 40])
        if read.byte() == 255 and read.byte() > 192:  # enough for threads to share it
            height, width, labels = 370, 360, 2
        return (
            read.array((height, width, 3), colours),
            read.array((labels, height, width), probabilities),
        )

    def dense_crf(self) -> None:
        read = self.read
        pairs = [self.image_and_probs() for _ in range(1 + read.below(3))]
        single = len(pairs) == 1
        images: Any = pairs[0][0] if single else [p[0] for p in pairs]
        probs: Any = pairs[0][1] if single else [p[1] for p in pairs]
        if read.rarely():
            how = read.below(4)
            images = [images] if how == 0 else None if how == 1 else images
            probs = [] if how == 2 else 3 if how == 3 else probs
        options: dict[str, Any] = {
            "n_iters": read.count(5),
            "num_threads": read.pick(THREADS) if read.rarely() else 1 + read.below(4),
        }
        for name, usual in (
            ("sigma_xy", (80.0, 5.0)),
            ("sigma_rgb", (13.0, 60.0)),
            ("sigma_gaussian", (3.0, 1.0)),
            ("compat_bilateral", (10.0, 0.0, -3.0)),
            ("compat_gaussian", (3.0, 0.0, -3.0)),
            ("min_prob", (1e-5, 1e-30)),
            ("parity", (True, False)),
        ):
            if read.byte() >= 128:
                options[name] = read.number(usual)
        n_callers = read.pick([1, 1, 1, 1, 2, 4])

        def call() -> Any:
            return dcrf.dense_crf(images, probs, **options)

        inputs = [array for pair in pairs for array in pair]
        refined = self.attempt("dense_crf", call, *inputs)
        if refined is None:
            return
        one_image = isinstance(images, np.ndarray) and images.ndim <= 3
        require(isinstance(refined, list) != one_image, "dense_crf: a list for a list alone")
        results = refined if isinstance(refined, list) else [refined]
        for (_, given_probs), result in zip(pairs, results, strict=True):
            check_probabilities("dense_crf", result, np.asarray(given_probs).shape)
        if n_callers == 1:
            return
        with ThreadPoolExecutor(n_callers) as executor:
            for again in executor.map(lambda _: call(), range(n_callers)):
                others = again if isinstance(again, list) else [again]
                for result, other in zip(results, others, strict=True):
                    require(result.tobytes() == other.tobytes(), "threads: another answer")
        self.counts["dense_crf threaded"] += 1

    def bilateral_filter(self) -> None:
        read = self.read
        dim = read.pick([2, 5, 3, 1, 4, 7, 15] if not read.rarely() else [0, 16, 300])
        points, channels = read.below(60), read.below(12)
        batch = (read.below(4),) if read.below(3) == 0 else ()
        features = read.array((*batch, dim, points), positions)
        values = read.array((*batch, channels, points), probabilities)
        parity, num_threads = read.pick([True, False]), read.pick([1, 2, 3, None, *THREADS])
        out = self.attempt(
            "bilateral_filter",
            lambda: dcrf.bilateral_filter(features, values, parity=parity, num_threads=num_threads),
            *(features, values),
        )
        if out is None:
            return
        given = np.asarray(values, np.float64)
        require(out.shape == given.shape, f"bilateral_filter: shape {out.shape}")
        if given.size and np.abs(given).max() < 1e30:
            require(np.isfinite(out).all(), "bilateral_filter: not finite")

    def unaries(self) -> None:
        read = self.read
        shape = tuple(read.below(6) for _ in range(read.below(4)))
        if read.below(2):
            labels = read.array(shape, label_map)
            n, gt_prob, zero_unsure = read.count(5), read.number((0.7, 0.5)), read.pick([True, 0])
            energy = self.attempt(
                "unary_from_labels",
                lambda: utils.unary_from_labels(labels, n, gt_prob, zero_unsure),
                labels,
            )
            if energy is not None:
                require(energy.shape == (n, np.asarray(labels).size), "unary_from_labels: shape")
                require(np.isfinite(energy).all(), "unary_from_labels: not finite")
            return
        probs = read.array(shape, probabilities)
        scale = read.number((0.5, 1.0)) if read.below(2) else None
        clip = read.number((1e-5, 0.01)) if read.below(4) else None
        energy = self.attempt(
            "unary_from_softmax", lambda: utils.unary_from_softmax(probs, scale, clip), probs
        )
        if energy is not None:
            require(energy.ndim == 2 and energy.dtype == np.float32, "unary_from_softmax: shape")

    def features(self) -> None:
        read = self.read
        shape = tuple(1 + read.below(6) for _ in range(1 + read.below(3)))
        if read.rarely():
            shape = tuple(read.pick(COUNTS) for _ in range(read.below(3)))
        sdims = read.numbers() if read.below(2) else (3.0,) * len(shape)
        if read.below(2):
            out = self.attempt(
                "create_pairwise_gaussian", lambda: utils.create_pairwise_gaussian(sdims, shape)
            )
        else:
            usable = tuple(int(s) if isinstance(s, int) and 0 <= s < 9 else 0 for s in shape)
            image = read.array(usable, colours)
            schan, chdim = read.numbers(), read.pick([-1, 0, 1, 2, 3, -2, None, 1.0, 2**70])
            out = self.attempt(
                "create_pairwise_bilateral",
                lambda: utils.create_pairwise_bilateral(sdims, schan, image, chdim),
                image,
            )
        if out is not None:
            require(out.ndim == 2 and out.dtype == np.float32, "features: shape")

    def threads(self) -> None:
        value = self.read.pick(THREADS)
        try:
            self.attempt("set_num_threads", lambda: dcrf.set_num_threads(value))
            require(dcrf.get_num_threads() >= 1, "get_num_threads below 1")
        finally:
            dcrf.set_num_threads(None)

    def run(self) -> None:
        on_crf = [
            self.set_unary,
            self.add_bilateral,
            self.add_gaussian,
            self.inference,
            self.start,
            self.step,
            self.step,
            self.divergence,
            self.in_threads,
            self.add_energy,
            self.new_crf,
        ]
        functions = [
            self.dense_crf,
            self.new_crf,
            self.bilateral_filter,
            self.unaries,
            self.features,
            self.threads,
            self.dense_crf,
            self.new_crf,
        ]
        for _ in range(16):
            if self.read.left <= 0:
                return
            self.read.pick(functions if self.crf is None else on_crf)()


def check_probabilities(name: str, q: np.ndarray, shape: tuple[int, ...]) -> None:
    require(q.shape == tuple(shape), f"{name}: shape {q.shape}, not {shape}")
    require(np.isfinite(q).all(), f"{name}: not finite")
    require(q.size == 0 or float(q.min()) >= 0, f"{name}: below 0")
    off = np.abs(q.sum(axis=0, dtype=np.float64) - 1)
    require(off.size == 0 or float(off.max()) < 1e-4, f"{name}: a point's sum is off by more")


def run_input(data: bytes, counts: Counter[str] | None = None) -> None:
    """Make the calls that `data` stands for.

    Raises:
        Finding: a rule was broken.
    """
    Session(Reader(data), Counter() if counts is None else counts).run()
