"""A recipe of each source project on images in that source's layout, with tiny networks.

From the files to scored pseudo masks: that readers, recipes and stages fit together. What maps such
networks make says nothing, so scores are held against the files they are made of.
"""

import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss.artifacts import Annotations, Manifest, Paths, read_json, read_label_png
from wsss.config.params import Params, parse_params
from wsss.config.recipes import BASE_RECIPE, Recipe, recipe_params
from wsss.data.synthetic_aerial import paint_areas
from wsss.stages import run_stage
from wsss.stages.data_check import check_data

HERE = Path(__file__).parent
RECIPES = HERE.parents[1] / "recipes"
MASKS = ("make_pseudo_masks", "evaluate_pseudo_masks")


def _writer(module: str, name: str) -> Any:
    """What writes the layout, from the tests of its reader."""
    return runpy.run_path(str(HERE / f"{module}.py"))[name]


NETWORK = {
    "augment": {"crop_size": 32, "long_side": [48, 48]},
    "batch_size": 8,
    "epochs": 1,
    "precision": "32-true",
}
TINY_RESNET = {"model_name": "test_resnet", "weights": "none", "frozen_stages": 0}
SEGMENTER = NETWORK | {
    "model": {"arch": "unet", "encoder": "tu-test_resnet", "encoder_weights": "none"},
    "eval_long_side": 48,
}


def _merged(values: Any, own: Any) -> Any:
    if isinstance(values, Mapping) and isinstance(own, Mapping):
        if own.get("name", values.get("name")) != values.get("name"):
            return own
        return {**values, **{key: _merged(values.get(key), item) for key, item in own.items()}}
    return own


def _tiny(name: str, **sections: Any) -> Params:
    """A recipe with these values."""
    read = {which: Recipe.read(RECIPES, which) for which in (name, BASE_RECIPE)}
    values = recipe_params({}, read[name], read[BASE_RECIPE]).model_dump(mode="json")
    machine = {"accelerator": "cpu", "num_workers": 0}
    return parse_params(_merged(values, {"machine": machine, **sections}))


def _run(root: Path, params: Params, *stages: str) -> Paths:
    paths = Paths(root / "project")
    paths.root.mkdir()
    looked = check_data(params, paths.root, root / "sheet.png")
    assert not looked.of("error") and looked.sheet is not None
    for stage in stages:
        run_stage(stage, params, paths)
    return paths


def _check_masks(paths: Paths) -> None:
    """Each image has a mask of its tags alone, and as many are scored as have ground truth.

    Those that are ground truth themselves are counted apart.
    """
    manifest, report = Manifest.read(paths.splits), read_json(paths.report(MASKS[1]))
    for split, samples in manifest.splits.items():
        assert samples, split
        for sample in samples:
            mask = read_label_png(paths.pseudo_masks / f"{sample.name}.png")
            possible = {0, 255, *sample.class_ids, *sample.unknown_ids}
            assert mask.shape == sample.size
            assert set(np.unique(mask)) <= possible
        scored = sum(sample.mask is not None for sample in samples)
        told = report.get(split, {})
        assert told.get("images", 0) + told.get("given", 0) == scored


def test_smoke_of_ijmond_with_two_sets_beside(tmp_path: Path) -> None:
    votes = {f"voted_{at}": ((3, 1), (0, 4), (1, 2))[at % 3] for at in range(9)}
    masks = _writer("test_ijmond", "smoke_masks")()
    frames = _writer("test_ijmond", "write_ijmond")(tmp_path / "ijmond", masks, votes)
    smoke5k = _writer("test_smoke5k", "write_smoke5k")(tmp_path / "smoke5k")
    labels = _writer("test_rise", "rise_labels")()
    rise = _writer("test_rise", "write_rise")(tmp_path / "rise", labels)
    params = _tiny(
        "smoke_elsewhere",
        prepare_data={
            "dataset": {"name": "ijmond", "root": str(frames), "crop": 48},
            "scored_sets": {
                "smoke5k": {"dataset": {"root": str(smoke5k)}},
                "rise": {"dataset": {"root": str(rise)}},
            },
        },
        train_teachers={
            "teacher": NETWORK | {"backbone": TINY_RESNET, "eval_long_side": 48},
        },
        train_classifier=NETWORK
        | {"backbone": TINY_RESNET | {"model_name": "test_vit"}, "eval_long_side": 48},
        generate_cams={"scales": [1.0]},
        refine={"chains": {"crf": [{"name": "dense_crf", "n_iters": 1}]}},
        train_segmenter=SEGMENTER,
        predict_masks={"precision": "32-true"},
    )
    learning = ("train_teachers", "train_classifier", "generate_cams", "refine_cams@none")
    segmenting = ("train_segmenter", "predict_masks", "evaluate_segmenter")
    scoring = ("evaluate_refined@none",)
    paths = _run(tmp_path, params, "prepare_data", *learning, *scoring, *MASKS, *segmenting)
    manifest = Manifest.read(paths.splits)
    assert manifest.scored_sets == ("rise", "smoke5k")
    _check_masks(paths)
    trained = read_json(paths.report("train_classifier"))
    assert {"val_map", "rise_map"} <= trained.keys()  # all of smoke5k show smoke
    assert "smoke5k_map" not in trained
    found = read_json(paths.report("evaluate_segmenter"))
    assert found["smoke5k"]["images"] == 3
    assert found["rise"]["false_alarms"]["untagged"] == 9
    assert "mean_iou" not in found["rise"]
    for split in ("val", "smoke5k", "rise"):
        for sample in manifest.splits[split]:
            mask = read_label_png(paths.predictions / split / f"{sample.name}.png")
            assert mask.shape == sample.size
    assert 0 < read_json(paths.report("evaluate_pseudo_masks"))["smoke5k"]["mean_iou"] <= 1


def _write_pets(root: Path, per_breed: int = 5) -> Path:
    """Two breeds of cats and two of dogs, a bright ellipse with a seam on noise each."""
    breeds = {"Abyssinian": 1, "american_bulldog": 2, "Bengal": 1, "pug": 2}
    for folder in ("images", "annotations/trimaps"):
        (root / folder).mkdir(parents=True)
    lines, rng = [], np.random.default_rng(0)
    y, x = np.mgrid[:48, :56]
    for number, (breed, species) in enumerate(breeds.items(), 1):
        for at in range(per_breed):
            distance = ((y - 24) / 16) ** 2 + ((x - 20 - at) / 14) ** 2
            trimap = np.where(distance < 0.8, 1, np.where(distance < 1, 3, 2)).astype(np.uint8)
            pixels = rng.integers(0, 80, (48, 56, 3), np.uint8)
            pixels[distance < 1, number % 3] += 150
            Image.fromarray(pixels).save(root / f"images/{breed}_{at}.jpg")
            Image.fromarray(trimap).save(root / f"annotations/trimaps/{breed}_{at}.png")
            lines.append(f"{breed}_{at} {number} {species} 1")
    (root / "annotations/trainval.txt").write_text("\n".join(lines[::2]))
    (root / "annotations/test.txt").write_text("\n".join(lines[1::2]))
    return root


def _write_stanford_background(root: Path) -> Path:
    """iccv09Data: images, and beside them labels that nothing reads."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(1)
    for at in range(6):
        pixels = rng.integers(0, 120, (40, 53, 3), np.uint8)
        Image.fromarray(pixels).save(root / f"images/{at:07}.jpg")
        (root / f"labels/{at:07}.regions.txt").write_text("0 0 1\n")
    (root / "horizons.txt").write_text("0000000 320 240 150\n")
    return root


@pytest.mark.parametrize(("name", "classes"), [("pets_cam_2bg", 2), ("pets_cam_37bg", 4)])
def test_pets_with_background_images(tmp_path: Path, name: str, classes: int) -> None:
    """3 and 38 classes are taught; the background of them has no map and no mask."""
    background = _write_stanford_background(tmp_path / "iccv09Data")
    params = _tiny(
        name,
        prepare_data={
            "dataset": {"root": str(_write_pets(tmp_path / "pets"))},
            "background_images": str(background / "images"),
        },
        train_classifier=NETWORK | {"backbone": TINY_RESNET, "eval_long_side": 48},
        generate_cams={"scales": [1.0]},
        refine={"chains": {"crf": [{"name": "dense_crf", "n_iters": 1}]}},
    )
    stages = ("prepare_data", "train_classifier", "generate_cams", "refine_cams@crf")
    paths = _run(tmp_path, params, *stages, "evaluate_refined@crf", *MASKS)
    manifest = Manifest.read(paths.splits)
    assert (manifest.num_fg_classes, len(manifest.background)) == (classes, 6)
    assert params.train_classifier.loss == "single_label"
    _check_masks(paths)


def _write_voc(root: Path) -> Path:
    """VOCdevkit/VOC2012: images, XMLs with tags, palette masks and lists."""
    from wsss.artifacts import write_label_png

    base = root / "VOCdevkit/VOC2012"
    kinds = {"aeroplane": 1, "cat": 8, "dog": 12}
    for folder in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Segmentation"):
        (base / folder).mkdir(parents=True)
    names, rng = [], np.random.default_rng(0)
    for at in range(24):
        kind = list(kinds)[at % 3]
        name = f"2007_{at:06}"
        mask = np.zeros((48, 56), np.uint8)
        mask[10 : 30 + at % 7, 12:40] = kinds[kind]
        mask[9, 12:40] = 255
        pixels = rng.integers(0, 80, (48, 56, 3), np.uint8)
        pixels[mask == kinds[kind], at % 3] += 150
        Image.fromarray(pixels).save(base / f"JPEGImages/{name}.jpg")
        write_label_png(base / f"SegmentationClass/{name}.png", mask)
        (base / f"Annotations/{name}.xml").write_text(
            "<annotation><size><width>56</width><height>48</height></size><object>"
            f"<name>{kind}</name><bndbox><xmin>13</xmin><ymin>11</ymin><xmax>40</xmax>"
            "<ymax>36</ymax></bndbox></object></annotation>"
        )
        names.append(name)
    for split, own in (("train", names[:18]), ("val", names[18:])):
        (base / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(own) + "\n")
    return root


def test_voc_with_fmix_walked_by_affinity_net(tmp_path: Path) -> None:
    params = _tiny(
        "voc_fmix_affinity",
        prepare_data={"dataset": {"root": str(_write_voc(tmp_path / "voc"))}},
        train_classifier=NETWORK | {"backbone": TINY_RESNET, "eval_long_side": 48},
        train_affinities={"affinity_net": NETWORK | {"backbone": TINY_RESNET}},
        generate_cams={"scales": [1.0]},
        refine={
            "chains": {
                "affinity_crf": [
                    {"name": "affinity_net", "network": "affinity_net", "steps": 16, "radius": 3},
                    {"name": "dense_crf", "n_iters": 1},
                ]
            }
        },
    )
    stages = ("prepare_data", "train_classifier", "generate_cams", "train_affinities")
    chain = ("refine_cams@affinity_crf", "evaluate_refined@affinity_crf")
    paths = _run(tmp_path, params, *stages, *chain, *MASKS)
    manifest = Manifest.read(paths.splits)
    assert manifest.num_fg_classes == 20
    _check_masks(paths)


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("vaihingen_masks", False),
        ("vaihingen_masks_tags", False),
        ("vaihingen_unet_consistency", True),
    ],
)
def test_vaihingen_from_a_few_masks_and_many_tags(tmp_path: Path, name: str, whole: bool) -> None:
    """Nothing says background; masks to learn from are those of one image alone. Some recipes
    predict whole images, in windows."""
    paint_areas(tmp_path / "vaihingen", 6, (96, 128), 8, 0)
    method = {"channels": 16, "rates": [1, 2], "n_iters": 1, "segmentation_from": 0}
    own = {"name": "single_stage", **method} if name == "vaihingen_masks_tags" else {"name": "cam"}
    network = {"arch": "enc_dec_unpool", "encoder_weights": "none"}
    kwargs = {"arch_kwargs": {"dropout": 0.5, "widths": [4, 8, 8, 8, 8]}}
    segmenter = SEGMENTER if "unet" in name else SEGMENTER | {"model": network | kwargs}
    params = _tiny(
        name,
        prepare_data={
            "dataset": {"root": str(tmp_path / "vaihingen"), "num_masks": 1, "num_val": 2,
                        "tile": 48},
        },
        train_classifier=NETWORK
        | {"backbone": TINY_RESNET | {"freeze_batchnorm": False}, "eval_long_side": 48}
        | {"method": own},
        generate_cams={"scales": [1.0]},
        refine={
            "chains": {
                "crf": [{"name": "dense_crf", "n_iters": 1}],
                "pamr": [{"name": "pamr", "n_iters": 1}],
            }
        },
        train_segmenter=segmenter | {"images_per_epoch": 16},
        predict_masks={"window": 64} if whole else {},
    )  # fmt: skip
    chain = params.make_pseudo_masks.chain
    paths = _run(
        tmp_path, params, "prepare_data", "train_classifier", "generate_cams",
        f"refine_cams@{chain}", f"evaluate_refined@{chain}", *MASKS,
        "train_segmenter", "predict_masks", "evaluate_segmenter",
    )  # fmt: skip
    manifest = Manifest.read(paths.splits)
    assert not manifest.has_background
    given = {item.split("/")[0] for item in Annotations.read(paths.annotations).masks}
    assert len(given) == 1
    _check_masks(paths)
    for sample in manifest.splits["val"]:
        mask = read_label_png(paths.predictions / f"val/{sample.name}.png")
        assert mask.shape == sample.size and mask.min() > 0 and mask.max() <= 5
    found = read_json(paths.report("evaluate_segmenter"))["val"]
    assert "background" not in found["iou"]
