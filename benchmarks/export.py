"""Exported segmenters beside PyTorch on the CPU, in one run.

    python benchmarks/export.py [--arch unet deeplabv3plus] [--encoder mobilenet_v2] [--repeats 9]

One image at a time, scale 1 without flips, random weights. Both sides get 8-bit images and give
probabilities at their size, so both normalise, resize and take the softmax. They take turns, and
ratios are medians of those of the turns, so that a busy spell of the machine hits both. "differs"
is the greatest difference of a probability.
"""

import argparse
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from wsss.artifacts import write_json
from wsss.config.segmentation import SegmenterSettings
from wsss.export import export_model
from wsss.segment.network import load_segmenter, make_segmenter, save_segmenter
from wsss.segment.predict import predict_probs

SIZES = ((320, 320), (375, 500), (768, 1024))
CLASSES = 20
OURS = {"unet_small"}

Run = Callable[[np.ndarray], np.ndarray]


def write_network(arch: str, encoder: str, folder: Path) -> Path:
    """The folder of a network of random weights."""
    torch.manual_seed(0)
    names = [f"class {number}" for number in range(CLASSES)]
    backbone = {
        "model_name": "resnet10t",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }
    write_json(folder / "classifier/model.json", {"class_names": names, "backbone": backbone})
    chosen = {} if arch in OURS else {"encoder": encoder}
    settings = SegmenterSettings(arch=arch, encoder_weights="none", **chosen)
    (folder / "segmenter").mkdir()
    save_segmenter(make_segmenter(settings, folder / "classifier"), folder / "segmenter")
    return folder / "segmenter"


def pytorch(folder: Path) -> Run:
    """As predict_masks runs a network."""
    model = load_segmenter(folder)

    def run(images: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
        with torch.inference_mode():
            found: np.ndarray = predict_probs(model, model.normalisation(pixels)).numpy()
        return found

    return run


def onnxruntime_on(folder: Path, out: Path, threads: int) -> Run:
    """The ONNX file, with as many threads as PyTorch has."""
    import onnxruntime

    export_model(folder, out / "network.onnx", scales=[1.0], flip=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(
        str(out / "network.onnx"), options, ["CPUExecutionProvider"]
    )
    return lambda images: session.run(None, {"images": images})[0]


def openvino_on(folder: Path, out: Path, threads: int) -> Run:
    """OpenVINO's files, with 32 bits and as many threads."""
    import openvino

    export_model(folder, out / "network.xml", "openvino", scales=[1.0], flip=False)
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    model = openvino.compile_model(str(out / "network.xml"), "CPU", options)
    everything = np.ones((1, CLASSES + 1), bool)
    return lambda images: model([images, everything])[0]


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", nargs="+", default=["unet_small", "unet", "deeplabv3plus"])
    parser.add_argument("--encoder", default="tu-mobilenetv2_100")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    makers = {"onnxruntime": onnxruntime_on, "openvino": openvino_on}
    there = {name: make for name, make in makers.items() if importlib.util.find_spec(name)}
    for name in makers.keys() - there.keys():
        print(f"{name} is not installed: NO COMPARISON with it")
    print(
        f"{options.threads} threads, {CLASSES} classes, encoder {options.encoder} where it is "
        f"chosen, median of {options.repeats} turns\n"
    )
    print("| network | image | beside | PyTorch, ms | it, ms | PyTorch / it | differs |")
    print("|---|---|---|---:|---:|---:|---:|")
    draw = np.random.default_rng(0)
    for arch in options.arch:
        with tempfile.TemporaryDirectory() as temporary:
            folder = write_network(arch, options.encoder, Path(temporary))
            runs: dict[str, Run] = {"pytorch": pytorch(folder)}
            for name, make in there.items():
                runs[name] = make(folder, Path(temporary), options.threads)
            for height, width in SIZES:
                coarse = torch.from_numpy(draw.random((1, 3, 6, 8), np.float32) * 255)
                grown = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
                image = grown.permute(0, 2, 3, 1).to(torch.uint8).contiguous().numpy()
                results = {name: run(image) for name, run in runs.items()}  # which warms up, too
                turns = []
                for _ in range(options.repeats):
                    seconds = {}
                    for name, run in runs.items():
                        begin = time.perf_counter()
                        run(image)
                        seconds[name] = time.perf_counter() - begin
                    turns.append(seconds)
                own = statistics.median(turn["pytorch"] for turn in turns)
                for name in there:
                    other = statistics.median(turn[name] for turn in turns)
                    ratio = statistics.median(turn["pytorch"] / turn[name] for turn in turns)
                    apart = np.abs(results[name] - results["pytorch"]).max()
                    print(
                        f"| {arch} | {height} x {width} | {name} | {1e3 * own:.0f} | "
                        f"{1e3 * other:.0f} | {ratio:.2f} | {apart:.0e} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
