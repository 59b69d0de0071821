"""CAM generation: ours beside a plain loop, and GradCAM beside pytorch-grad-cam, in one run.

    python benchmarks/cam.py [--model mobilenetv2_100] [--images 8] [--repeats 5]

Multi-scale CAMs are made as the stage generate_cams makes them: images of one size in batches,
batch norm and activations folded into convolutions, maps of the tagged classes alone. The plain
loop takes one image at one scale, as it is or mirrored, stretches the maps of all classes over the
image, and picks the tagged ones in the end. GradCAM is at the last layer, one scale, of every
tagged class.

All sides get the same normalised images, random weights and 20 classes, and every image has one
or two tags. Photographs are those below $WSSS_SHARED, or the ones that come with scikit-image.
Ratios are of medians; the sides take turns, so that a busy spell of the machine hits both. The
ratio by CPU time is the steadier one on a machine that others use too.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from wsss.cam.cam import LinearHeadCam, LinearHeadCamSettings
from wsss.cam.grad_cam import GradCam, GradCamSettings
from wsss.cam.multiscale import multiscale_cams, whole_cells
from wsss.config.sections import BackboneSettings
from wsss.loading.devices import pixels_at_once
from wsss.models.classifier import Classifier
from wsss.models.fusion import fuse_batchnorm
from wsss.models.timm_backbone import TimmBackbone

SIZE, STRIDE, NUM_CLASSES = (375, 500), 16, 20
SCALES = (0.5, 1.0, 1.5, 2.0)
VOC_IMAGES = "data/voc_animals/VOCdevkit/VOC2012/JPEGImages"
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")


def photographs(count: int) -> tuple[list[np.ndarray], str]:
    """(H, W, 3) uint8, stretched to one size that fills whole cells, and where they are from."""
    height, width = whole_cells(SIZE, 1, STRIDE, align_corners=False)
    folder = Path(os.environ.get("WSSS_SHARED", "")) / VOC_IMAGES
    if "WSSS_SHARED" in os.environ and folder.is_dir():
        found = []
        for path in sorted(folder.glob("*.jpg")):
            with Image.open(path) as image:
                if image.width * 3 == image.height * 4:  # as SIZE
                    resized = image.convert("RGB").resize(
                        (width, height), Image.Resampling.BILINEAR
                    )
                    found.append(np.asarray(resized))
            if len(found) == count:
                return found, "Pascal VOC"
    from skimage import data

    names = [PHOTOGRAPHS[index % len(PHOTOGRAPHS)] for index in range(count)]
    images = [Image.fromarray(getattr(data, name)()[..., :3]) for name in names]
    resized_images = [item.resize((width, height), Image.Resampling.BILINEAR) for item in images]
    return [np.asarray(item) for item in resized_images], "scikit-image"


def ours(
    model: Classifier,
    images: Tensor,
    tags: Sequence[tuple[int, ...]],
    grid: tuple[int, int],
) -> list[Tensor]:
    """As the stage does, which on a GPU runs all images together."""
    with torch.inference_mode():
        cams, _ = multiscale_cams(
            model, LinearHeadCam(LinearHeadCamSettings()), images, tags, grid=grid, scales=SCALES,
            flip=True, align_corners=False, max_pixels=pixels_at_once(images.device),
        )  # fmt: skip
    return cams


def plain_loop(model: Classifier, images: Tensor, tags: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """One image, scale and mirror image at a time, all classes over the whole image."""
    cams = []
    height, width = images.shape[2:]
    with torch.inference_mode():
        for image, ids in zip(images[:, None], tags, strict=True):
            total = torch.zeros(1, NUM_CLASSES, height, width, device=images.device)
            for scale in SCALES:
                size = whole_cells((height, width), scale, STRIDE, align_corners=False)
                scaled = functional.interpolate(image, size, mode="bilinear", antialias=scale < 1)
                for mirrored in (False, True):
                    maps = model(scaled.flip(-1) if mirrored else scaled).maps.relu()
                    maps = functional.interpolate(maps, (height, width), mode="bilinear")
                    total += maps.flip(-1) if mirrored else maps
            kept = total[0, [class_id - 1 for class_id in ids]]
            cams.append(kept / (kept.amax(dim=(1, 2), keepdim=True) + 1e-5))
    return cams


def _together(images: Tensor) -> int:
    """How many of the images run at once."""
    pixels = pixels_at_once(images.device) or images[:, 0].numel()
    return max(1, pixels // images[0, 0].numel())


def our_grad_cam(model: Classifier, images: Tensor, tags: Sequence[tuple[int, ...]]) -> Tensor:
    """(P, h, w)."""
    rows = torch.tensor([row for row, ids in enumerate(tags) for _ in ids])
    columns = torch.tensor([class_id - 1 for ids in tags for class_id in ids])
    method = GradCam(GradCamSettings())
    together = _together(images)
    parts = []
    for begin in range(0, len(images), together):
        inside = (rows >= begin) & (rows < begin + together)
        part = images[begin : begin + together]
        parts.append(method(model, part, rows[inside] - begin, columns[inside])[0])
    return torch.cat(parts)


def peer_grad_cam(
    model: Classifier, images: Tensor, tags: Sequence[tuple[int, ...]], *, batched: bool
) -> np.ndarray:
    """(P, H, W) of pytorch-grad-cam, one image and class at a time, or a batch of such pairs."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.model(images).logits
            return logits

    pairs = [(row, class_id - 1) for row, ids in enumerate(tags) for class_id in ids]
    together = _together(images) if batched else 1
    found = []
    with GradCAM(model=Logits(), target_layers=[model.backbone]) as cam:
        for begin in range(0, len(pairs), together):
            rows, columns = zip(*pairs[begin : begin + together], strict=True)
            targets = [ClassifierOutputTarget(column) for column in columns]
            found.append(cam(input_tensor=images[list(rows)], targets=targets))
    return np.concatenate(found)


def as_the_peer_scales(maps: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Our maps from least to most, stretched over the image by OpenCV, and once more."""
    import cv2

    scaled = []
    for item in maps.numpy():
        item = item - item.min()
        item = cv2.resize(item / (1e-7 + item.max()), size[::-1])
        item = item - item.min()
        scaled.append(item / (1e-7 + item.max()))
    return np.stack(scaled)


def seconds_of(
    contenders: dict[str, Callable[[], Any]], repeats: int
) -> dict[str, tuple[float, float]]:
    """Median seconds of each by the clock and of the CPU; turn by turn, after one to warm up."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for turn in range(repeats + 1):
        for name, work in contenders.items():
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            if turn:
                seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: (statistics.median(wall), statistics.median(cpu))
        for name, (wall, cpu) in ((n, zip(*both, strict=True)) for n, both in seconds.items())
    }


def show(title: str, seconds: dict[str, tuple[float, float]], count: int, baseline: str) -> None:
    """Print one table."""
    print(f"\n{title}\n{'':34} ms an image   images/s   ratio  by CPU time")
    for name, (wall, cpu) in seconds.items():
        ratios = seconds[baseline][0] / wall, seconds[baseline][1] / cpu
        print(
            f"{name:34} {1e3 * wall / count:11.1f} {count / wall:10.2f} {ratios[0]:6.2f}x "
            f"{ratios[1]:11.2f}x",
            flush=True,
        )


def main() -> None:
    """Measure and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mobilenetv2_100", help="any timm network of stride 16")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)

    backbone = TimmBackbone(BackboneSettings(model_name=options.model, output_stride=STRIDE))
    model = Classifier(backbone, tuple(f"class {index}" for index in range(NUM_CLASSES))).eval()
    model = model.to(memory_format=torch.channels_last)  # as load_classifier leaves it
    fused = fuse_batchnorm(model, torch.rand(1, 3, 4 * STRIDE, 4 * STRIDE))
    pictures, source = photographs(options.images)
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    images = backbone.normalisation(pixels)
    tags = [
        tuple(sorted(rng.choice(NUM_CLASSES, rng.integers(1, 3), replace=False) + 1))
        for _ in pictures
    ]
    height, width = images.shape[2:]
    print(
        f"{options.model} at stride {STRIDE}, {len(images)} photographs of {source}, "
        f"{width}x{height}, {sum(map(len, tags))} tags, {options.threads} threads, "
        f"median of {options.repeats}"
    )

    full, stored = (height, width), (-(-height // 4), -(-width // 4))
    worst = max(
        float((our - other).abs().max())
        for our, other in zip(
            ours(fused, images, tags, full), plain_loop(model, images, tags), strict=True
        )
    )
    assert worst <= 1e-4, f"our maps differ from the plain loop's by {worst}"
    seconds = seconds_of(
        {
            "plain loop": lambda: plain_loop(model, images, tags),
            "ours, maps of the image's size": lambda: ours(fused, images, tags, full),
            "ours, as stored (every 4th pixel)": lambda: ours(fused, images, tags, stored),
        },
        options.repeats,
    )
    title = f"Multi-scale CAMs, {len(SCALES)} scales and flips; largest difference {worst:.0e}"
    show(title, seconds, len(images), "plain loop")

    work: dict[str, Callable[[], Any]] = {"ours": lambda: our_grad_cam(model, images, tags)}
    try:
        import pytorch_grad_cam  # noqa: F401
    except ImportError as error:
        print(f"\n{error}: our GradCAM alone, NO COMPARISON.")
        print("For the ratio: pip install grad-cam opencv-python-headless")
        show("GradCAM", seconds_of(work, options.repeats), len(images), "ours")
        return
    theirs = peer_grad_cam(model, images, tags, batched=False)
    mine = as_the_peer_scales(our_grad_cam(model, images, tags), (height, width))
    worst = float(np.abs(mine - theirs).max())
    assert worst <= 1e-3, f"our GradCAM differs from the peer's by {worst}"
    work = {
        "pytorch-grad-cam, one by one": lambda: peer_grad_cam(model, images, tags, batched=False),
        "pytorch-grad-cam, in batches": lambda: peer_grad_cam(model, images, tags, batched=True),
        **work,
    }
    seconds = seconds_of(work, options.repeats)
    title = f"GradCAM of every tag, one scale; largest difference {worst:.0e}"
    show(title, seconds, len(images), "pytorch-grad-cam, one by one")


if __name__ == "__main__":
    main()
