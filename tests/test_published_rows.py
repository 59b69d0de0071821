"""Every published row of the source projects has a recipe whose header names its numbers."""

import re
from pathlib import Path

import pytest

from wsss.config.params import Params
from wsss.config.recipes import BASE_RECIPE, Recipe, recipe_params

FOLDER = Path(__file__).parents[1] / "recipes"

VOC = {
    # CAM in the settings of PSA, IRN, SEAM and mva-wsss
    "CAM, IRN's ResNet-50": ("voc_cam_irn", "0.483"),
    "CAM, PSA's VGG16": ("voc_cam_psa_vgg16", "0.489", "0.466"),
    "CAM, PSA's ResNet-38d": ("voc_cam_psa", "0.477", "0.480", "0.468", "0.472", "0.423"),
    "CAM, mva-wsss": ("voc_cam", "0.450"),
    "CAM, mva-wsss, AffinityNet, DeepLab": ("voc_cam_affinity", "0.556", "0.527"),
    "SEAM": ("voc_seam", "0.554"),
    "Puzzle-CAM, ResNet-101": ("voc_puzzle_affinity", "0.677"),
    "Puzzle-CAM, ResNeSt-269": ("voc_puzzle_resnest269", "0.722"),
    # the table of mva-wsss: maps, then what AffinityNet and DeepLab make of them
    "SCE": ("voc_sce", "0.465"),
    "SCE, AffinityNet, DeepLab": ("voc_sce_affinity", "0.567", "0.543"),
    "SCT": ("voc_sct", "0.464"),
    "SCT, AffinityNet, DeepLab": ("voc_sct_affinity", "0.552", "0.530"),
    "Mixup": ("voc_mixup", "0.468"),
    "Mixup, AffinityNet, DeepLab": ("voc_mixup_affinity", "0.558", "0.551"),
    "Manifold Mixup": ("voc_manifold_mixup", "0.468"),
    "Manifold Mixup, AffinityNet, DeepLab": ("voc_manifold_mixup_affinity", "0.566", "0.535"),
    "FMix": ("voc_fmix", "0.482"),
    "FMix, AffinityNet, DeepLab": ("voc_fmix_affinity", "0.584", "0.540"),
    "FMix, images of SBD": ("voc_fmix_sbd_affinity", "0.612"),
    "SC-CAM": ("voc_sc_cam", "0.509", "0.496", "0.489"),
    "SC-CAM, AffinityNet, DeepLab": ("voc_sc_cam_affinity", "0.661"),
    "single stage": ("voc_single_stage", "0.597", "0.627", "0.647", "0.669"),
    # random walks
    "AffinityNet, VGG16": ("voc_psa_vgg16", "0.596", "0.540"),
    "AffinityNet, ResNet-38d": ("voc_psa", "0.610", "0.602", "0.581", "0.570"),
    "IRN": ("voc_irn", "0.665", "0.649"),
}

VAIHINGEN = {
    "EncDecUnpool, dropout": ("vaihingen_masks", "60.3", "71.8", "77.2", "49.1", "65.4", "37.8"),
    "EncDecUnpool": ("vaihingen_masks_no_dropout", "53.1", "67.2", "70.9", "42.4", "58.3", "26.5"),
    "EncDecUnpool and tags": ("vaihingen_masks_tags",),
    "U-Net, ResNet-50": ("vaihingen_unet", "71.4", "69.3"),
    "U-Net, tag loss": ("vaihingen_unet_tag_loss", "72.4"),
    "U-Net, self-training": ("vaihingen_unet_self_training", "73.8"),
    "U-Net, consistency": ("vaihingen_unet_consistency", "74.2"),
    "U-Net, all masks": ("vaihingen_unet_all_masks", "76.5"),
}

SMOKE = {
    "CAM, ResNet-50": ("smoke_resnet50", "26.10"),
    "CAM, ResNet-101": ("smoke_resnet101", "21.29"),
    "CAM, ViT-S": ("smoke_vit", "13.18"),
    "TransCAM": ("smoke_transcam", "15.02"),
    "AffinityNet": ("smoke_affinity", "24.28"),
    "PCM": ("smoke_pcm", "33.56"),
    "knowledge transfer": ("smoke_kd", "47.37"),
    "two teachers": ("smoke_kd_two_teachers", "47.99"),
    "supervised": ("smoke_supervised", "68.27", "54.68"),
    "weight 0.3": ("smoke_kd_weight_03", "38.55"),
    "weight 0.5": ("smoke_kd_weight_05", "43.81"),
    "weight 0.8": ("smoke_kd_weight_08", "45.04"),
    "weight 1.3": ("smoke_kd_weight_13", "46.62"),
    "weight 1.5": ("smoke_kd_weight_15", "41.90"),
    "channel": ("smoke_kd_channel", "46.85"),
    "spatial": ("smoke_kd_spatial", "43.70"),
    "L1": ("smoke_kd_l1", "38.39"),
    "L2": ("smoke_kd_l2", "33.74"),
    "one scale, and its oracle threshold": ("smoke_kd_single_scale", "46.25", "57.15"),
    "fusion": ("smoke_kd_fusion", "45.27"),
    "CRF": ("smoke_kd_crf", "52.52"),
    "CRF and AffinityNet": ("smoke_kd_crf_affinity", "49.16"),
    "SAM": ("smoke_kd_sam", "51.00"),
    "CRF and SAM": ("smoke_sam", "52.93"),
}

PETS = {
    "CAM, ImageNet": ("pets_cam_pretrained", "26.03", "40.51"),
    "CAM, 2": ("pets_cam_2", "12.73", "21.7"),
    "CAM, 37": ("pets_cam_37", "20.89", "33.19"),
    "CAM, 2 and background": ("pets_cam_2bg", "29.64", "45.27"),
    "CAM, 37 and background": ("pets_cam_37bg", "20.9", "33.2"),
    "CAM and ECS, ImageNet": ("pets_cam_ecs_pretrained", "25.68", "40.13"),
    "CAM and ECS, 2": ("pets_cam_ecs_2", "13.64", "23.13"),
    "CAM and ECS, 37": ("pets_cam_ecs_37", "20.98", "33.32"),
    "CAM and ECS, 2 and background": ("pets_cam_ecs_2bg", "29.24", "44.81"),
    "CAM and ECS, 37 and background": ("pets_cam_ecs_37bg", "21.44", "33.96"),
    "CCAM, ImageNet": ("pets_ccam_pretrained", "68.21", "80.32"),
    "CCAM, 2": ("pets_ccam_2", "41.07", "55.85"),
    "CCAM, 37": ("pets_ccam_37", "15.1", "23.93"),
    "CCAM, 2 and background": ("pets_ccam_2bg", "48.58", "63.27"),
    "CCAM, 37 and background": ("pets_ccam_37bg", "29.08", "41.76"),
    "CCAM and ECS, 37": ("pets_ccam_ecs_37", "24.59", "37.31"),
    "CCAM and ECS, 2 and background": ("pets_ccam_ecs_2bg", "48.65", "63.44"),
    "CCAM and ECS, 37 and background": ("pets_ccam_ecs_37bg", "42.8", "58.36"),
    "class-specific CCAM, 2": ("pets_ccam_specific_2", "52.97", "67.63"),
    "class-specific CCAM, 37": ("pets_ccam_specific_37", "59.78", "73.26"),
    "CRF, ImageNet": ("pets_ccam_pretrained_crf", "76.02", "85.64"),
    "CRF, 2": ("pets_ccam_specific_2_crf", "51.15", "64.99"),
    "CRF, 37": ("pets_ccam_specific_37_crf", "59.79", "72.32"),
    "U-Net": ("pets_unet_37", "59.29", "73.63"),
    "U-Net and CRF": ("pets_unet_37_crf", "61.58", "75.30"),
    "U-Net, ground truth": ("pets_unet_gt", "68.25", "84.77"),
}

WITHOUT_A_RECIPE = {
    "smoke, teachers that learn along (45.93 down to 0.27)": "teachers of distillation are frozen",
    "smoke, a seed of 37.42 with AffinityNet (34.00) and SAM (43.20)": (
        "the thesis does not say which maps the seed was"
    ),
    "VOC, AffinityNet, SC-CAM and Mixup-CAM as quoted by mva-wsss (61.7, 66.1, 65.6)": (
        "numbers of other projects; the second is voc_sc_cam_affinity"
    ),
}
"""Published rows that nothing here can run, and why."""

ROWS = [
    (f"{table}: {row}", *entry)
    for table, rows in (("VOC", VOC), ("Vaihingen", VAIHINGEN), ("smoke", SMOKE), ("pets", PETS))
    for row, entry in rows.items()
]


def _recipe(name: str) -> Recipe:
    return Recipe.read(FOLDER, name)


def _params(name: str) -> Params:
    return recipe_params({}, _recipe(name), _recipe(BASE_RECIPE))


@pytest.mark.parametrize("entry", ROWS, ids=[row[0] for row in ROWS])
def test_the_header_of_its_recipe_names_the_numbers_of_a_row(entry: tuple[str, ...]) -> None:
    _, name, *numbers = entry
    header = _recipe(name).text.partition("\n\n")[0]
    said = header[header.index("# Published: ") :]
    found = set(re.findall(r"\d+\.\d+", said))
    assert set(numbers) <= found


def test_each_row_has_a_recipe_of_its_own() -> None:
    names = [entry[1] for entry in ROWS]
    assert len(set(names)) == len(names)


def test_no_row_without_a_recipe_has_one() -> None:
    """An exception whose number a header has as its first one is none."""
    first = {}
    for path in FOLDER.glob("*.yaml"):
        said = re.search(r"# Published: [^\n]*?(\d+\.\d+)", path.read_text(encoding="utf-8"))
        if said:
            first.setdefault(said[1], path.stem)
    for row in WITHOUT_A_RECIPE:
        numbers = re.findall(r"\d+\.\d+", row)
        own = [number for number in numbers if number in first]
        assert not own, row


@pytest.mark.parametrize(
    "name", ["sce", "sct", "mixup", "manifold_mixup", "fmix", "fmix_sbd", "sc_cam", "cam"]
)
def test_what_comes_after_the_maps_changes_nothing_of_them(name: str) -> None:
    maps, walked = _params(f"voc_{name}"), _params(f"voc_{name}_affinity")
    for section in ("prepare_data", "train_teachers", "train_classifier", "generate_cams"):
        assert getattr(maps, section) == getattr(walked, section)
    assert walked.make_pseudo_masks.chain == "affinity_crf"
    network, other = (
        params.train_affinities["affinity_net"] for params in (walked, _params("voc_psa"))
    )
    assert (network.method, network.backbone) == (other.method, other.backbone)


@pytest.mark.parametrize(
    ("name", "base", "chain"),
    [
        ("smoke_kd_crf", "smoke_kd_single_scale", "crf"),
        ("smoke_kd_crf_affinity", "smoke_kd_single_scale", "crf_affinity"),
        ("smoke_kd_fusion", "smoke_kd_single_scale", "fused"),
        ("smoke_kd_sam", "smoke_kd_single_scale", "sam"),
        ("smoke_sam", "smoke_kd", "crf_sam"),
        ("smoke_affinity", "smoke_resnet50", "affinity"),
        ("pets_ccam_pretrained_crf", "pets_ccam_pretrained", "crf"),
        ("pets_ccam_specific_2_crf", "pets_ccam_specific_2", "crf"),
        ("pets_ccam_specific_37_crf", "pets_ccam_specific_37", "crf"),
        ("pets_unet_37", "pets_ccam_specific_37", "none"),
    ],
)
def test_rows_of_refinement_take_the_maps_of_their_base(name: str, base: str, chain: str) -> None:
    own, other = _params(name), _params(base)
    for section in ("prepare_data", "train_teachers", "train_classifier", "generate_cams"):
        assert getattr(own, section) == getattr(other, section)
    assert own.make_pseudo_masks.chain == chain


@pytest.mark.parametrize("name", ["smoke_supervised", "pets_unet_gt"])
def test_full_supervision_learns_from_all_masks_and_from_nothing_else(name: str) -> None:
    found = _params(name)
    assert found.prepare_data.pixel_labels == "all"
    assert found.train_segmenter.tags_only.name == "ignored"
