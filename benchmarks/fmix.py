"""FMix masks beside a training step of MobileNetV2, in one run.

    python benchmarks/fmix.py [--side 320] [--batch-size 16] [--repeats 3]

The step is forward, backward and SGD of a classifier at output stride 16, in float32, or in
bfloat16 on a GPU. The published recipe is the NumPy procedure of FMix: float64 noise, irfftn and
a full sort.
"""

import argparse

import numpy as np
import torch
from _timing import median_seconds
from rich.console import Console
from rich.table import Table

from wsss.config.sections import BackboneSettings
from wsss.methods.cam import Cam, CamSettings
from wsss.methods.fmix import fmix_field, fmix_mask
from wsss.methods.objective import Objective
from wsss.models.classifier import Classifier
from wsss.models.timm_backbone import TimmBackbone


def published(side: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """A mask as FMix's NumPy code makes it, with its last axis taken for the complex parts."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    spectrum = rng.standard_normal((*frequency.shape, 2))
    spectrum /= np.maximum(frequency, 1 / side)[..., None] ** 3
    field = np.fft.irfftn(spectrum[..., 0] + 1j * spectrum[..., 1], (side, side), axes=(0, 1))
    field = (field - field.min()) / np.ptp(field)
    mask = np.zeros(field.size)
    mask[field.ravel().argsort()[::-1][: round(share * field.size)]] = 1
    return mask.reshape(field.shape)


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    side, batch_size = options.side, options.batch_size
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rng = np.random.default_rng(0)

    backbone = TimmBackbone(BackboneSettings(model_name="mobilenetv2_100"))
    model = Classifier(backbone, tuple(f"class {index}" for index in range(20)))
    model = model.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    images = torch.randn(batch_size, 3, side, side, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 2, (batch_size, 20), device=device).float()
    method, objective = Cam(CamSettings()), Objective("multi_label")

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            losses = method(model, images, labels, objective, rng)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()

    def mask() -> torch.Tensor:
        share = float(rng.beta(1, 1))
        return fmix_mask(fmix_field((side, side), 3, rng, device), share, rng)

    seconds = {
        "training step": median_seconds(step, options.repeats, device),
        "mask": median_seconds(mask, 50, device),
        "mask, compat_axis": median_seconds(
            lambda: fmix_mask(fmix_field((side, side), 3, rng, device, compat=True), 0.5, rng),
            *(50, device),
        ),
        "mask, published recipe": median_seconds(lambda: published(side, 0.5, rng), 20, device),
    }
    where = f"{device.type}, {torch.get_num_threads()} threads" if device.type == "cpu" else "GPU"
    table = Table(title=f"{batch_size} images of {side} x {side} px, {where}")
    for column in ("work", "ms", "share of a step"):
        table.add_column(column, justify="left" if column == "work" else "right")
    for name, value in seconds.items():
        table.add_row(name, f"{1e3 * value:.2f}", f"{value / seconds['training step']:.3%}")
    Console(width=80).print(table)


if __name__ == "__main__":
    main()
