"""The part of gpu.py about the dense CRF and its loss, beside the compiled core on one CPU thread.

Both sides get the same photographs and probabilities; the GPU's lie in its memory already. A time
is the median of the repeats and covers everything: checks, lattices, inference.

The bytes are those of one mean-field update, counted from the lattices' sizes: "least" reads and
writes every array once, as if the caches caught every second use of a row; "gathered" counts every
row that is asked for. The bandwidth is "least" over the time of an update, beside that of a copy.
"""

from collections.abc import Sequence

import numpy as np
import torch
from _timing import median_seconds
from densecrf import HEIGHT, SETTINGS, WIDTH, noisy_probs

from wsss.densecrf import DenseCrfLoss, dense_crf
from wsss.densecrf.torch_crf import CrfSettings, _terms
from wsss.densecrf.torch_lattice import TorchLattice

LOSS_BATCH, LOSS_SIDE = 12, 256


def copy_bandwidth(device: torch.device, repeats: int) -> float:
    """Bytes a second that a copy within the device reads and writes."""
    source = torch.zeros(1 << 28, device=device)  # 1 GiB
    target = torch.empty_like(source)
    seconds = median_seconds(lambda: target.copy_(source), repeats, device)
    return 2 * source.numel() * source.element_size() / seconds


def bytes_per_update(terms: Sequence[TorchLattice], n_labels: int) -> tuple[int, int]:
    """(least, gathered) bytes of one mean-field update; see the module."""
    row = 4 * n_labels
    n_points = terms[0].vertex.shape[0]
    least = gathered = n_points * row * (3 * len(terms) + 2)  # add each term up, softmax
    for term in terms:
        corners, entries, bags = term.vertex.shape[1], len(term.splat_point), len(term.bag_start)
        vertices = term.n_vertices
        # An index, a weight, and what embedding_bag notes of each entry.
        tables = 12 * (2 * entries + 3 * corners * vertices)
        rows_written = (bags + vertices * (1 + corners) + n_points) * row
        rows_read_once = (n_points + bags + vertices * (corners + 1)) * row
        rows_gathered = (entries + bags + 3 * corners * vertices + entries) * row
        least += tables + rows_written + rows_read_once
        gathered += tables + rows_written + rows_gathered
    return least, gathered


def core_settings(sigmas: dict[str, float], n_iters: int) -> CrfSettings:
    """What `dense_crf` makes of the options of `inference_table`."""
    return {
        "sigma_xy": sigmas["sigma_xy"],
        "sigma_rgb": sigmas["sigma_rgb"],
        "compat_bilateral": 10.0,
        "sigma_gaussian": 3.0,
        "compat_gaussian": 3.0,
        "n_iters": n_iters,
        "min_prob": 1e-5,
        "phantom_points": False,
    }


def inference_table(
    device: torch.device,
    photos: Sequence[np.ndarray],
    repeats: int,
    n_iters: int,
    labels: Sequence[int],
    batches: Sequence[int],
) -> None:
    """Print times, bandwidth and agreement of `dense_crf`."""
    copy = copy_bandwidth(device, repeats)
    print(f"{WIDTH}x{HEIGHT}, {n_iters} updates, median of {repeats}; copy {copy / 1e9:.0f} GB/s")
    print(
        "setting labels batch | CPU ms/image  GPU ms/image  ratio | update ms  least GB  "
        "gathered GB  GB/s  of copy | peak GiB  argmax mismatch"
    )
    rng = np.random.default_rng(0)
    images = [torch.from_numpy(photo) for photo in photos]
    for n_labels in labels:
        probs = [torch.from_numpy(noisy_probs(n_labels, rng)) for _ in images]
        for name, sigmas in SETTINGS.items():
            options = {**sigmas, "n_iters": n_iters}
            expected = dense_crf(images, probs, **options, num_threads=1)
            cpu = median_seconds(
                lambda p=probs, o=options: dense_crf(images, p, **o, num_threads=1),
                repeats,
                torch.device("cpu"),
            ) / len(images)
            for batch in batches:
                chosen = [i % len(images) for i in range(batch)]
                on_device = (
                    [images[i].to(device) for i in chosen],
                    [probs[i].to(device) for i in chosen],
                )
                if device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats(device)
                refined = dense_crf(*on_device, **options)
                gpu = median_seconds(
                    lambda a=on_device, o=options: dense_crf(*a, **o), repeats, device
                )
                longer = {**options, "n_iters": 2 * n_iters}
                update = (
                    median_seconds(
                        lambda a=on_device, o=longer: dense_crf(*a, **o), repeats, device
                    )
                    - gpu
                ) / n_iters
                peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
                terms = _terms(on_device[0], core_settings(sigmas, n_iters))
                least, gathered = bytes_per_update(terms, n_labels)
                wrong = np.mean(
                    [
                        (found.cpu().argmax(0) != expected[i].argmax(0)).float().mean().item()
                        for found, i in zip(refined, chosen, strict=True)
                    ]
                )
                print(
                    f"{name:>7} {n_labels:6d} {batch:5d} | {cpu * 1e3:12.1f} "
                    f"{gpu / batch * 1e3:13.2f} {cpu * batch / gpu:5.0f}x | {update * 1e3:9.2f} "
                    f"{least / 1e9:9.2f} {gathered / 1e9:12.2f} {least / update / 1e9:5.0f} "
                    f"{least / update / copy:8.2f} | {peak / 2**30:8.1f} {wrong:16.1e}",
                    flush=True,
                )


def loss_table(
    device: torch.device, photos: Sequence[np.ndarray], repeats: int, labels: Sequence[int]
) -> None:
    """Print times and agreement of the loss, forward and backward."""
    print(f"\nDenseCrfLoss, {LOSS_BATCH} of {LOSS_SIDE}x{LOSS_SIDE}")
    print("labels scale sigma_xy | CPU ms  GPU ms  ratio | value off by  gradient off by")
    for n_labels in labels:
        loss_rows(device, photos, repeats, n_labels)


def loss_rows(
    device: torch.device, photos: Sequence[np.ndarray], repeats: int, n_labels: int
) -> None:
    """The lines of a number of labels."""
    generator = torch.Generator().manual_seed(0)
    crops = [
        torch.from_numpy(photos[i % len(photos)])[:LOSS_SIDE, 8 * i : 8 * i + LOSS_SIDE]
        for i in range(LOSS_BATCH)
    ]
    images = torch.stack(crops).permute(0, 3, 1, 2).contiguous()
    shape = (LOSS_BATCH, n_labels, LOSS_SIDE, LOSS_SIDE)
    probs = torch.randn(shape, generator=generator).softmax(1)
    for scale_factor, sigma_xy in ((0.5, 100.0), (1.0, 50.0)):
        criterion = DenseCrfLoss(sigma_xy=sigma_xy, scale_factor=scale_factor, num_threads=1)
        seconds, results = [], []
        for where in (torch.device("cpu"), device):
            inputs = images.to(where), probs.to(where).requires_grad_()

            def step(inputs: tuple[torch.Tensor, torch.Tensor] = inputs) -> torch.Tensor:
                inputs[1].grad = None
                value: torch.Tensor = criterion(*inputs)  # noqa: B023
                value.backward()
                return value

            seconds.append(median_seconds(step, repeats, where))
            results.append((step().item(), inputs[1].grad.cpu()))
        (cpu_value, cpu_gradient), (value, gradient) = results
        print(
            f"{n_labels:6} {scale_factor:5.2f} {sigma_xy:8.0f} | {seconds[0] * 1e3:6.1f} "
            f"{seconds[1] * 1e3:7.2f} {seconds[0] / seconds[1]:5.0f}x | "
            f"{abs(value / cpu_value - 1):12.1e} "
            f"{(gradient - cpu_gradient).norm() / cpu_gradient.norm():16.1e}",
            flush=True,
        )
