"""What is kept of images is of these very images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsss.artifacts import Manifest, Paths, Sample, pack_folder, write_json
from wsss.config.params import parse_params
from wsss.suggest import features
from wsss.suggest.features import features_of


@pytest.mark.parametrize("packed", [False, True])
def test_features_are_kept_as_long_as_the_images_are(
    tmp_path: Path, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, rng = Paths(tmp_path), np.random.default_rng(0)
    samples = tuple(Sample(name, f"{name}.png", (32, 48), (1,)) for name in ("a", "b", "c"))

    def write(scale: int) -> None:
        for sample in samples:
            paths.images.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256 // scale, (32, 48, 3), np.uint8)
            Image.fromarray(pixels).save(paths.images / sample.image)
        if packed:
            pack_folder(paths.images)

    manifest = Manifest(("cat",), {"train": samples[:2], "selection": samples[2:], "val": ()})
    manifest.write(paths.splits)
    backbone = {"model_name": "resnet10t", "weights": "hub"}
    params = parse_params({"train_classifier": {"backbone": backbone}})
    looked: list[int] = []
    run = features._run

    def noted(backbone: object, chunk: list[Sample], *rest: object) -> np.ndarray:
        looked.append(len(chunk))
        return run(backbone, chunk, *rest)  # type: ignore[arg-type]

    def random_backbone(*_: object) -> object:
        from wsss.config.sections import BackboneSettings
        from wsss.models.timm_backbone import TimmBackbone

        return TimmBackbone(BackboneSettings(model_name="resnet10t")).eval()

    monkeypatch.setattr(features, "_run", noted)
    monkeypatch.setattr(features, "_backbone", random_backbone)
    write(1)
    before = features_of(params, paths, manifest).parts
    write_json(paths.report("prepare_data"), {"num_images": 3})  # of other tags, say
    assert (features_of(params, paths, manifest).parts == before).all() and looked == [3]
    write(16)  # images of the same names and sizes
    after = features_of(params, paths, manifest).parts
    assert looked == [3, 3] and not np.allclose(before, after)
