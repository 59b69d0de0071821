"""The dense CRF's energy as a loss: soft segmentations that cut across similar pixels cost more."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from wsss.densecrf._arrays import check_finite, check_sigma
from wsss.densecrf._loss_input import check_batch
from wsss.densecrf.lattice import native_filter
from wsss.densecrf.threads import resolve_num_threads
from wsss.densecrf.torch_lattice import filter_batch

__all__ = ["DenseCrfLoss"]

_EXACT_BLOCK_BYTES = 64 << 20
"""Bytes of the exact kernel that are held at one time."""

Filter = Callable[[Tensor, Tensor], Tensor]
"""(B, d, N) features and (B, C, N) values to (B, C, N): the values times the kernel."""


class DenseCrfLoss(nn.Module):
    """The regularised loss of Tang et al.: minus the affinity within each class.

    R(S) = -(weight / B) sum_b sum_k S_k' A S_k, with A the bilateral kernel of the image,
    A_ij = exp(-|p_i - p_j|² / 2 sigma_xy² - |I_i - I_j|² / 2 sigma_rgb²), i = j included and not
    normalised. The gradient is -2 weight A S / B, within the region of interest. Where the classes
    sum to one, R is the Potts energy sum_k S_k' A (1 - S_k) up to a constant.

    A is unnormalised, so `weight` is small and goes with the number of pixels: halve the side of
    the images and the sums of A fall fourfold, and R sixteenfold.

    The filter is the lattice, as in the authors' code, so weights tuned with theirs carry over: on
    the CPU the compiled one (float64 goes through PyTorch), elsewhere that in PyTorch. In these
    five dimensions R is 0.5 to 0.6 times that of the exact kernel, and its gradient nearly parallel
    (a cosine of 0.998). Where lattice vertices are missing the blurs along its axes do not commute,
    so that A is not quite symmetric; the gradient takes it as symmetric, and is 1 to 2.5 per cent
    of its length away from the derivative of R. Second-order gradients are those of that gradient,
    which filters once more for each backward pass with `create_graph=True`.

    Under autocast, and for float16 and bfloat16, the loss computes in float32; the gradient has the
    dtype of `probs`. On a GPU a call waits for the device four times, to check its input and to
    size the lattice. There are no parameters and no buffers: the loss may be anywhere in a model.

    Args:
        weight: w, at least 0.
        sigma_rgb: tolerance in intensity levels of a 0..255 image, in all channels.
        sigma_xy: reach in pixels of `images` as they come; it is scaled with them.
        scale_factor: in (0, 1], by which images and probabilities are made smaller first: a
            bilinear `probs`, and the nearest of `images`, `roi` and `unlabelled`.
        gated: multiply A S by max(roi - max_k S_k, 0), which is 0 for confident pixels, and by 1 at
            unlabelled ones. The gradient is the authors' -2 weight G A S / B, so that their weights
            carry over. It is not the derivative, not even with G held constant, which is
            -weight (G A + A G) S / B: what a pixel does to gated neighbours is left out.
        potts: return the Potts energy, whose least value is 0 for probabilities of 0 and 1 that
            agree wherever A is above 0: R plus (weight / B) sum of A. The gradient is the same.
        exact: use the true kernel, in time quadratic in the number of pixels, in place of the
            lattice: for tests, and for images of a few thousand pixels.
        image_max: the brightest level that float images may have, 255 or 1: it is never guessed
            from a batch, which may be dark. Images of uint8 are in 0..255 in any case.
        num_threads: of the filter on the CPU; None takes `get_num_threads()`.

    Raises:
        ValueError: a setting is out of its range.

    References:
        Tang, Perazzi, Djelouah, Ben Ayed, Schroers & Boykov, On Regularized Losses for
        Weakly-supervised CNN Segmentation, ECCV 2018 (rloss); the gate is that of
        Ru et al., Token Contrast for Weakly-Supervised Semantic Segmentation, CVPR 2023 (ToCo).

    Example:
        >>> image = torch.tensor([[10.0, 10.0, 200.0, 200.0]]).expand(1, 3, 1, 4)
        >>> along = torch.tensor([[0.9, 0.9, 0.1, 0.1]])
        >>> across = torch.tensor([[0.9, 0.1, 0.9, 0.1]])
        >>> loss = DenseCrfLoss(weight=1.0, scale_factor=1.0, exact=True)
        >>> [round(loss(image, torch.stack([s, 1 - s])[None]).item(), 2) for s in (along, across)]
        [-6.56, -4.0]
    """

    def __init__(
        self,
        weight: float = 2e-9,
        *,
        sigma_rgb: float = 15.0,
        sigma_xy: float = 100.0,
        scale_factor: float = 0.5,
        gated: bool = False,
        potts: bool = False,
        exact: bool = False,
        image_max: float = 255.0,
        num_threads: int | None = None,
    ) -> None:
        super().__init__()
        self.weight = check_finite("weight", weight)
        if self.weight < 0:
            raise ValueError(f"weight must be at least 0 but is {weight!r}; 2e-9 is rloss' own")
        self.sigma_rgb = check_sigma("sigma_rgb", sigma_rgb)
        self.sigma_xy = check_sigma("sigma_xy", sigma_xy)
        self.scale_factor = check_sigma("scale_factor", scale_factor)
        if self.scale_factor > 1:
            raise ValueError(
                f"scale_factor must be in (0, 1] but is {scale_factor!r}; 0.5 halves each side"
            )
        self.gated = bool(gated)
        self.potts = bool(potts)
        self.exact = bool(exact)
        self.image_max = check_finite("image_max", image_max)
        if self.image_max <= 0:
            raise ValueError(f"image_max must be above 0 but is {image_max!r}; 255 or 1 is usual")
        if num_threads is not None:
            resolve_num_threads(num_threads)
        self.num_threads = num_threads

    def forward(
        self,
        images: Tensor,
        probs: Tensor,
        roi: Tensor | None = None,
        unlabelled: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch.

        Args:
            images: (B, C, H, W) uint8 in 0..255, or float in 0..image_max, not normalised: RGB, or
                any C up to 253 channels.
            probs: (B, K, H, W) float in [0, 1], after the softmax.
            roi: (B, H, W) bool, or float in [0, 1]: by which `probs` are multiplied, 0 on padding.
            unlabelled: (B, H, W) bool: where the gate is open. For a gated loss only.

        Returns:
            A float32 scalar, or float64 for float64 probabilities.

        Raises:
            ValueError: shapes, dtypes or devices disagree, or values are out of their range.
        """
        check_batch(
            images,
            probs,
            roi,
            unlabelled,
            gated=self.gated,
            exact=self.exact,
            scale_factor=self.scale_factor,
            image_max=self.image_max,
        )
        with torch.autocast(probs.device.type, enabled=False):
            if probs.dtype != torch.float64:
                probs = probs.float()
            if roi is not None:
                roi = roi.to(probs.dtype)
            return self._loss(images, probs, roi, unlabelled)

    def extra_repr(self) -> str:
        """The settings, for `print(loss)`."""
        names = ["weight", "sigma_rgb", "sigma_xy", "scale_factor", "gated", "potts", "exact"]
        names.append("image_max")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)

    def _loss(
        self, images: Tensor, probs: Tensor, roi: Tensor | None, unlabelled: Tensor | None
    ) -> Tensor:
        images = _nearest(images, self.scale_factor)
        if self.scale_factor != 1:
            probs = interpolate(
                probs, scale_factor=self.scale_factor, mode="bilinear", align_corners=False
            )
        probs = probs.flatten(2)  # (B, K, N)
        if roi is not None:
            roi = _nearest(roi.unsqueeze(1), self.scale_factor).flatten(2)  # (B, 1, N)
        gate = None
        if self.gated:
            gate = (1 if roi is None else roi) - probs.detach().amax(1, keepdim=True)  # (B, 1, N)
            gate = gate.clamp(min=0)
            if unlabelled is not None:
                opened = _nearest(unlabelled.unsqueeze(1).to(torch.uint8), self.scale_factor)
                gate = gate.masked_fill(opened.flatten(2).bool(), 1)
        brightest = 255.0 if images.dtype == torch.uint8 else self.image_max
        features = _features(
            images.to(probs.dtype),
            self.sigma_xy * self.scale_factor,
            self.sigma_rgb * (brightest / 255),
        )
        energy = _Energy(self._filter(probs), self.weight / len(probs), self.potts)
        value: Tensor = _EnergyFunction.apply(probs, features, roi, gate, energy)
        return value

    def _filter(self, probs: Tensor) -> Filter:
        if self.exact:
            return exact_filter
        if probs.device.type != "cpu" or probs.dtype == torch.float64:
            return filter_batch
        num_threads = resolve_num_threads(self.num_threads)

        def compiled(features: Tensor, values: Tensor) -> Tensor:
            arrays = (t.contiguous().numpy() for t in (features, values))
            out = native_filter(*arrays, phantom_points=False, num_threads=num_threads)
            return torch.from_numpy(out)

        return compiled


def exact_filter(features: Tensor, values: Tensor) -> Tensor:
    """Multiply with the true Gaussian kernel, in blocks of it: the lattice's oracle on tensors.

    Args:
        features: (B, d, N), each divided by its sigma.
        values: (B, C, N) of the same dtype.

    Returns:
        (B, C, N): out[b, :, i] = sum over k of exp(-|f_i - f_k|² / 2) values[b, :, k].
    """
    out = torch.empty_like(values)
    n_points = values.shape[2]
    step = max(1, _EXACT_BLOCK_BYTES // (n_points * values.element_size()))
    for f, v, o in zip(features, values, out, strict=True):
        for begin in range(0, n_points, step):
            block = slice(begin, begin + step)
            squared = values.new_zeros(n_points, o[:, block].shape[1])
            for component in f:
                squared += (component.unsqueeze(1) - component[block]).square_()
            o[:, block] = v @ squared.mul_(-0.5).exp_()
    return out


@dataclass(frozen=True)
class _Energy:
    """What `_EnergyFunction` computes with, besides tensors."""

    filter: Filter
    factor: float
    """weight / B."""
    potts: bool


class _EnergyFunction(torch.autograd.Function):
    """-factor sum_k S_k' G A S_k with S = roi * probs and the gate G, a constant."""

    @staticmethod
    def forward(
        ctx: Any,
        probs: Tensor,  # (B, K, N)
        features: Tensor,  # (B, 2 + C, N)
        roi: Tensor | None,  # (B, 1, N)
        gate: Tensor | None,  # (B, 1, N)
        energy: _Energy,
    ) -> Tensor:
        """The value; keeps the gradient, which costs nothing more."""
        values = probs if roi is None else probs * roi
        n_classes = values.shape[1]
        if energy.potts:  # the constant needs A roi: filter it along
            values = torch.cat([values, torch.ones_like(values[:, :1]) if roi is None else roi], 1)
        filtered = energy.filter(features, values)
        if gate is not None:
            filtered = filtered * gate
        products = (values * filtered).sum((0, 2))  # (K,), or (K + 1,)
        value = -products[:n_classes].sum()
        if energy.potts:
            value = products[n_classes] + value
        if ctx.needs_input_grad[0]:
            gradient = filtered[:, :n_classes] * (-2 * energy.factor)
            gradient = gradient if roi is None else gradient.mul_(roi)
            ctx.energy = energy
            ctx.save_for_backward(gradient, probs, features, roi, gate)
        return value * energy.factor

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """-2 factor roi G A S; as a function of probs where that is differentiated in turn."""
        gradient, probs, features, roi, gate = ctx.saved_tensors
        if torch.is_grad_enabled():
            values = probs if roi is None else probs * roi
            gradient = _FilterFunction.apply(values, features, ctx.energy.filter)
            gradient = gradient * (-2 * ctx.energy.factor)
            for factor in (gate, roi):
                gradient = gradient if factor is None else gradient * factor
        return gradient * grad_output, None, None, None, None


class _FilterFunction(torch.autograd.Function):
    """A times values, with A taken as symmetric."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, features: Tensor, filter_values: Filter) -> Tensor:
        """(B, C, N) filtered."""
        ctx.filter_values = filter_values
        ctx.save_for_backward(features)
        return filter_values(features, values)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """The same of the gradient."""
        (features,) = ctx.saved_tensors
        return _FilterFunction.apply(grad_output, features, ctx.filter_values), None, None


def _features(images: Tensor, sigma_xy: float, sigma_rgb: float) -> Tensor:
    """(B, 2 + C, N): x and y / sigma_xy, then the channels / sigma_rgb."""
    batch, _, height, width = images.shape
    # By a tensor: CUDA multiplies by the inverse of a number.
    per_xy, per_rgb = (images.new_full((), sigma) for sigma in (sigma_xy, sigma_rgb))
    y, x = torch.meshgrid(
        torch.arange(height, device=images.device, dtype=images.dtype) / per_xy,
        torch.arange(width, device=images.device, dtype=images.dtype) / per_xy,
        indexing="ij",
    )
    position = torch.stack([x, y]).expand(batch, 2, height, width)
    return torch.cat([position, images / per_rgb], dim=1).flatten(2)


def _nearest(maps: Tensor, scale_factor: float) -> Tensor:
    """(B, C, H, W) made smaller by picking pixels, as rloss does with images and regions."""
    if scale_factor == 1:
        return maps
    return interpolate(maps, scale_factor=scale_factor, mode="nearest")
