"""`DenseCRF` and `DenseCRF2D` as pydensecrf spells them, on our core.

Differences from pydensecrf, all on the side of saying more: arrays of another real dtype, not
contiguous or read-only are accepted by copy; results are NumPy arrays; what would crash, wrap
around or turn into NaN raises `ValueError`. `get_num_threads()` threads share an image of 131,072
pixels or more, without the GIL. The table in docs/densecrf.md has them all.

By default the numbers are pydensecrf's too (`parity=True`): where the number of points is not a
multiple of 4 it blurs through a few lattice vertices around the origin that belong to no point,
and code that changes one import should not see its results change. `parity=False` is the model as
published.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import NoReturn

import numpy as np

from wsss.densecrf import _native
from wsss.densecrf._arrays import (
    Float32Array,
    as_array,
    as_features,
    as_float32,
    check_count,
    check_flag,
    check_sigmas,
)
from wsss.densecrf._layouts import as_rgb_image, feature_layouts, reorder, unary_layouts
from wsss.densecrf.threads import get_num_threads


class KernelType(IntEnum):
    """Parametrisation of a kernel. It matters to learning only; inference is the same for all."""

    CONST_KERNEL = 0
    DIAG_KERNEL = 1
    FULL_KERNEL = 2


class NormalizationType(IntEnum):
    """On which side of the filter to divide by the kernel's mass K 1."""

    NO_NORMALIZATION = 0
    NORMALIZE_BEFORE = 1
    NORMALIZE_AFTER = 2
    NORMALIZE_SYMMETRIC = 3


CONST_KERNEL = KernelType.CONST_KERNEL
DIAG_KERNEL = KernelType.DIAG_KERNEL
FULL_KERNEL = KernelType.FULL_KERNEL
NO_NORMALIZATION = NormalizationType.NO_NORMALIZATION
NORMALIZE_BEFORE = NormalizationType.NORMALIZE_BEFORE
NORMALIZE_AFTER = NormalizationType.NORMALIZE_AFTER
NORMALIZE_SYMMETRIC = NormalizationType.NORMALIZE_SYMMETRIC


class ConstUnary:
    """Unary energies as they are.

    Args:
        u: (L, N) float, as `DenseCRF.setUnaryEnergy` takes it.
    """

    def __init__(self, u: np.ndarray) -> None:
        self.energy = as_float32("u", u).copy()  # the caller may use the array for something else


class LogisticUnary:
    """Unary energies that are linear in features of the points.

    Args:
        L: (L, F) float weights of each label.
        f: (F, N) float features.

    Raises:
        ValueError: the shapes do not fit.

    Example:
        >>> LogisticUnary([[1.0, 0.0], [0.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]]).energy
        array([[ 3.,  4.],
               [10., 12.]], dtype=float32)
    """

    def __init__(self, L: np.ndarray, f: np.ndarray) -> None:
        weights, features = as_float32("L", L), as_float32("f", f)
        if weights.ndim != 2 or features.ndim != 2 or weights.shape[1] != features.shape[0]:
            raise ValueError(
                f"unary weights (n_labels, F) and features (F, n_points) must agree in F but have "
                f"shapes {weights.shape} and {features.shape}"
            )
        self.energy: Float32Array = weights @ features


class DenseCRF:
    """A fully connected CRF over points with any features.

    Args:
        nvar: number of points N, at least 1.
        nlabels: number of labels L, at least 1.
        parity: answer as pydensecrf does for every N; see the module.

    Raises:
        ValueError: a number is below 1.

    References:
        Krähenbühl & Koltun, NIPS 2011 and ICML 2013.

    Example:
        >>> crf = DenseCRF(3, 2)
        >>> crf.setUnaryEnergy(-np.log([[0.9, 0.6, 0.2], [0.1, 0.4, 0.8]]))
        >>> crf.addPairwiseEnergy(np.array([[0.0, 0.1, 9.0]]), compat=3)
        >>> crf.inference(5).argmax(0)
        array([0, 0, 1])
    """

    def __init__(self, nvar: int, nlabels: int, *, parity: bool = True) -> None:
        self._nvar = check_count("nvar", nvar, least=1)
        self._nlabels = check_count("nlabels", nlabels, least=1)
        self._parity = check_flag("parity", parity)
        self._size: tuple[int, int] | None = None  # (height, width) of the points, if known
        self._core = _native.DenseCrf(self._nvar, self._nlabels)

    def __reduce__(self) -> NoReturn:
        """Refuse copies, which would share what is set later, and pickles."""
        raise TypeError(
            f"a {type(self).__name__} cannot be copied or pickled; make a new one and set the same "
            "unary and pairwise energies there"
        )

    def setUnaryEnergy(self, u: np.ndarray, f: np.ndarray | None = None) -> None:
        """Set the unary energies, -log of probabilities. Before, all are 0.

        Args:
            u: (L, N) float; +inf where a label is impossible, as -log of a hard mask has it, but
                not for every label of a point. Or with `f`, (L, F) weights.
            f: (F, N) float, features of the points: the energies are then `u @ f`.

        Raises:
            ValueError: another shape, a value that is NaN or -inf, or a point without a possible
                label (its position is named).
        """
        energy = as_float32("u", u)
        if f is not None:
            energy = LogisticUnary(energy, f).energy
        if energy.shape != (self._nlabels, self._nvar):
            layouts = unary_layouts(self._nlabels, self._nvar, self._size)
            raise ValueError(
                f"unary energy must have shape (n_labels, n_points) = "
                f"({self._nlabels}, {self._nvar}) but has {energy.shape}"
                f"{reorder('u', u, layouts) if f is None else ''}"
            )
        self._core.set_unary_energy(energy)

    def setUnary(self, unary: "ConstUnary | LogisticUnary") -> None:
        """Set the unary energies that a `ConstUnary` or `LogisticUnary` holds.

        Raises:
            ValueError: it is something else; otherwise as `setUnaryEnergy`.
        """
        if not isinstance(unary, ConstUnary | LogisticUnary):
            raise ValueError(
                f"unary must be a ConstUnary or a LogisticUnary but is a {type(unary).__name__}; "
                f"pass `ConstUnary(unary)`, or the array to setUnaryEnergy"
            )
        self.setUnaryEnergy(unary.energy)

    def addPairwiseEnergy(
        self,
        features: np.ndarray,
        compat: float | np.ndarray,
        kernel: int = DIAG_KERNEL,
        normalization: int = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Add a term that makes points with near features agree.

        Args:
            features: (d, N) float, finite, d in 1..255, each divided by its sigma. Where they lie
                does not matter, and float64 is used where it is passed.
            compat: a number, the Potts weight, larger for smoother; or an (L, L) matrix of
                penalties for pairs of labels, of which the symmetric part counts; or (L,), its
                diagonal. The signs are pydensecrf's: Potts weight w is the matrix -w * identity
                and the vector full of -w.
            kernel: a `KernelType`, without influence on inference.
            normalization: a `NormalizationType`.

        Raises:
            ValueError: a shape is wrong, a value is not finite, a constant is unknown, or the
                features span 2^40 lattice cells, some 10^12 sigmas.
        """
        array = as_features("features", features)
        if array.ndim != 2 or array.shape[1] != self._nvar:
            layouts = feature_layouts(array.shape, self._nvar, self._size)
            raise ValueError(
                f"features must have shape (d, n_points) = (d, {self._nvar}) but has {array.shape}"
                f"{reorder('features', features, layouts)}"
            )
        self._core.add_pairwise(
            array,
            self._as_compat(compat),
            _as_normalization(kernel, normalization),
            self._parity,
            get_num_threads(),
        )

    def inference(self, niter: int) -> Float32Array:
        """(L, N) probabilities after `niter` >= 0 mean-field updates.

        In the main thread, a signal handler that raises ends the call between two updates, as
        Ctrl-C does.

        Raises:
            ValueError: `niter` is negative, or no whole number.
        """
        q = np.empty((self._nlabels, self._nvar), np.float32)
        self._core.inference(check_count("niter", niter, least=0), q, get_num_threads())
        return q

    def startInference(self) -> tuple[Float32Array, Float32Array, Float32Array]:
        """Begin step-by-step inference.

        Returns:
            Q, (L, N) probabilities before any update, and two arrays of its shape that
            `stepInference` takes because pydensecrf's does; they are not used.
        """
        q = self.inference(0)
        return q, np.zeros_like(q), np.zeros_like(q)

    def stepInference(
        self, Q: Float32Array, tmp1: np.ndarray | None = None, tmp2: np.ndarray | None = None
    ) -> None:
        """Update `Q`, as returned by `startInference`, in place by one mean-field step.

        Raises:
            ValueError: `Q` is not a writable C-contiguous (L, N) float32 array of probabilities.
        """
        wanted = (self._nlabels, self._nvar)
        if (
            not isinstance(Q, np.ndarray)
            or Q.dtype != np.float32
            or Q.shape != wanted
            or not (Q.flags.c_contiguous and Q.flags.aligned and Q.flags.writeable)
        ):
            raise ValueError(
                f"Q is updated in place, so it must be a writable C-contiguous float32 array of "
                f"shape {wanted}; take it from startInference, or from inference"
            )
        self._core.step(Q, get_num_threads())

    def klDivergence(self, Q: np.ndarray) -> float:
        """What pydensecrf calls KL divergence: sum Q (log Q + unary - message), over (L, N).

        A message is what the terms add to a label's logit in an update. It is not the KL divergence
        from the CRF's distribution up to a constant, nor is it what updates minimise: that has half
        of the messages, which this counts from both ends of every pair. It may rise from one update
        to the next. Infinite where `Q` is above 0 for an impossible label.

        Raises:
            ValueError: `Q` has another shape or is no probabilities.
        """
        q = as_float32("Q", Q)
        if q.shape != (self._nlabels, self._nvar):
            raise ValueError(
                f"Q must have shape (n_labels, n_points) = ({self._nlabels}, {self._nvar}) "
                f"but has {q.shape}"
                f"{reorder('Q', Q, unary_layouts(self._nlabels, self._nvar, self._size))}"
            )
        return self._core.kl_divergence(q, get_num_threads())

    def _as_compat(self, compat: float | np.ndarray) -> Float32Array:
        array = as_float32("compat", compat)
        n = self._nlabels
        if array.ndim == 0:
            array = np.full(n, -array, np.float32)
        if array.shape not in ((n,), (n, n)):
            raise ValueError(
                f"compat must be a number, a ({n},) vector or an ({n}, {n}) matrix for "
                f"{n} labels but has shape {array.shape}"
            )
        return -array if array.ndim == 1 else array  # the core takes a diagonal as weights


class DenseCRF2D(DenseCRF):
    """A `DenseCRF` over the pixels of an image.

    Args:
        w: the image's width in pixels. Note the order: arrays are (height, width).
        h: its height.
        nlabels: number of labels.
        parity: see `DenseCRF`.

    Raises:
        ValueError: a number is below 1.
    """

    def __init__(self, w: int, h: int, nlabels: int, *, parity: bool = True) -> None:
        width, height = check_count("w", w, least=1), check_count("h", h, least=1)
        super().__init__(width * height, nlabels, parity=parity)
        self._size: tuple[int, int] = (height, width)

    def addPairwiseGaussian(
        self,
        sxy: float | Sequence[float],
        compat: float | np.ndarray,
        kernel: int = DIAG_KERNEL,
        normalization: int = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Add a smoothness term: near pixels agree.

        Args:
            sxy: sigma in pixels, or (sigma of x, sigma of y).
            compat: as `addPairwiseEnergy`.
            kernel: as `addPairwiseEnergy`.
            normalization: as `addPairwiseEnergy`.

        Raises:
            ValueError: a sigma is not finite and above 0; otherwise as `addPairwiseEnergy`.
        """
        sigma_x, sigma_y = check_sigmas("sxy", sxy, 2)
        self._core.add_pairwise_gaussian(
            *self._size,
            sigma_x,
            sigma_y,
            self._as_compat(compat),
            _as_normalization(kernel, normalization),
            self._parity,
            get_num_threads(),
        )

    def addPairwiseBilateral(
        self,
        sxy: float | Sequence[float],
        srgb: float | Sequence[float],
        rgbim: np.ndarray,
        compat: float | np.ndarray,
        kernel: int = DIAG_KERNEL,
        normalization: int = NORMALIZE_SYMMETRIC,
    ) -> None:
        """Add an appearance term: near pixels of like colour agree.

        Args:
            sxy: sigma in pixels, or (sigma of x, sigma of y).
            srgb: sigma in intensity levels, or one per channel.
            rgbim: (h, w, 3) uint8 image.
            compat: as `addPairwiseEnergy`.
            kernel: as `addPairwiseEnergy`.
            normalization: as `addPairwiseEnergy`.

        Raises:
            ValueError: a sigma is not finite and above 0; the image has another size or dtype;
                otherwise as `addPairwiseEnergy`.
        """
        sigma_x, sigma_y = check_sigmas("sxy", sxy, 2)
        sigma_rgb = check_sigmas("srgb", srgb, 3)
        found = as_array("rgbim", rgbim).shape[:2]
        image = as_rgb_image("rgbim", rgbim)
        if found != self._size:
            hint = ""
            if found == self._size[::-1]:
                hint = (
                    "; height and width are swapped: DenseCRF2D is (w, h), make it with "
                    "`DenseCRF2D(rgbim.shape[1], rgbim.shape[0], n_labels)`"
                )
            raise ValueError(
                f"rgbim must have (height, width) = {self._size} but has {found}{hint}"
            )
        self._core.add_pairwise_bilateral(
            image,
            sigma_x,
            sigma_y,
            sigma_rgb,
            self._as_compat(compat),
            _as_normalization(kernel, normalization),
            self._parity,
            get_num_threads(),
        )


def _as_normalization(kernel: int, normalization: int) -> _native.Normalization:
    """The core's constant for `normalization`.

    Raises:
        ValueError: either constant is unknown.
    """
    _check_constant("kernel", kernel, KernelType)
    _check_constant("normalization", normalization, NormalizationType)
    return _native.Normalization(int(normalization))


def _check_constant(name: str, value: int, constants: type[IntEnum]) -> None:
    if not isinstance(value, int | float | np.number) or value not in list(constants):
        names = ", ".join(constant.name for constant in constants)
        raise ValueError(f"{name} must be one of {names} but is {value!r}")
