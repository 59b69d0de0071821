"""Roughly how long the stages of a project take on this machine, before they run."""

import time
from dataclasses import dataclass

from wsss.config.params import Params

__all__ = ["Rates", "estimate", "in_words", "measure_rates"]

_SIDE, _BATCH = 128, 4  # of the images that rates are measured with, in pixels
_OTHERWISE = "resnet50"  # stands for networks that are not timm's
_CRF = 4e-8  # seconds per pixel, class and iteration of the filter on one core
_DECODER = 2.0  # a segmenter costs so much more than its encoder


@dataclass(frozen=True)
class Rates:
    """What the network costs on this machine.

    Attributes:
        learn: seconds per pixel of training, forward and back.
        look: seconds per pixel of a forward pass.
    """

    learn: float
    look: float


def measure_rates(params: Params) -> Rates:
    """Run the network of train_classifier a few times, with random weights, on the device."""
    import timm
    import torch

    from wsss.loading.devices import device_of

    device = device_of(params.machine.accelerator)
    name = params.train_classifier.backbone.model_name
    name = name if timm.is_model(name) else _OTHERWISE
    network = timm.create_model(name, num_classes=1).to(device)
    fixed = network.pretrained_cfg.get("fixed_input_size")
    side = network.pretrained_cfg["input_size"][-1] if fixed else _SIDE
    images = torch.zeros(_BATCH, 3, side, side, device=device)
    pixels = _BATCH * side**2

    def seconds(learn: bool) -> float:
        started = time.perf_counter()
        with torch.set_grad_enabled(learn):
            result = network(images).sum()
        if learn:
            result.backward()
        result.item()  # waits for the device
        return (time.perf_counter() - started) / pixels

    return Rates(*(min(seconds(learn) for _ in range(3)) for learn in (True, False)))


def estimate(
    params: Params, rates: Rates, train: int, images: int, size: tuple[int, int]
) -> dict[str, float]:
    """Give the seconds of the stages that take long.

    Args:
        params: all settings.
        rates: of this machine.
        train: number of images to learn from.
        images: number of all images.
        size: median height and width of the images, in pixels.
    """
    longest = params.prepare_data.long_side_max
    shrink = min(1.0, longest / max(size)) if longest else 1.0
    height, width = (side * shrink for side in size)
    area = height * width

    def learning(epochs: int, crop: float, share: float, cost: float) -> float:
        side = crop or share * max(height, width)
        return epochs * train * side**2 * rates.learn * cost

    def looking(number: int, scales: tuple[float, ...], flip: bool, cost: float) -> float:
        return number * area * sum(scale**2 for scale in scales) * (1 + flip) * rates.look * cost

    classifier, segmenter = params.train_classifier, params.train_segmenter
    cams, predictions = params.generate_cams, params.predict_masks
    filters = [
        getattr(refiner, "n_iters", 0)
        for chain in params.refine.chains.values()
        for refiner in chain
        if refiner.name == "dense_crf"
    ]
    return {
        "prepare_data": images * (0.004 + area * 2e-8),
        "train_classifier": learning(
            classifier.epochs, classifier.augment.crop_size, classifier.augment.crop_share, 1
        ),
        "generate_cams": looking(images, tuple(cams.scales), cams.flip, 1),
        "refine_cams": sum(filters) * images * area * 3 * _CRF,
        "train_segmenter": learning(
            segmenter.epochs,
            segmenter.augment.crop_size,
            segmenter.augment.crop_share,
            _DECODER,
        ),
        "predict_masks": looking(images, tuple(predictions.scales), predictions.flip, _DECODER),
    }


def in_words(seconds: float) -> str:
    """A rough time for a person, as a range, since an estimate is often off by half.

    Example:
        >>> in_words(20), in_words(600), in_words(9000)
        ('less than a minute', '5 to 20 minutes', '1 to 5 hours')
    """
    if seconds < 30:
        return "less than a minute"
    unit, name = (60, "minutes") if seconds < 5400 else (3600, "hours")
    low, high = max(1, int(seconds / 2 / unit)), max(2, round(seconds * 2 / unit))
    return f"{low} to {high} {name}"
