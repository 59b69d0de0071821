"""Maps of images are those that the pipeline makes of them, whatever stands for an image."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import wsss
from wsss.artifacts import Paths, ScoreMap, as_stored, read_score_map
from wsss.registry import REFINERS

TAGS = [["dog", "cat"], "cow", ["dog"], []]


@pytest.fixture(scope="module")
def classifier(project: Path) -> "wsss.Classifier":
    return wsss.load_classifier(project)


def check_same(found: ScoreMap, stored: ScoreMap) -> None:
    """As stored maps are, in 256 levels."""
    np.testing.assert_array_equal(found.class_ids, stored.class_ids)
    assert found.size == stored.size
    np.testing.assert_allclose(found.scores, stored.scores, atol=1 / 500)
    np.testing.assert_allclose(found.class_probs, stored.class_probs, atol=1e-6)


def as_read(maps: "wsss.Maps") -> "wsss.Maps":
    """As the next stage has them."""
    return replace(maps, scores=as_stored(maps.scores))


def test_maps_masks_and_chains_are_those_of_the_pipeline(
    project: Path, files: list[Path], classifier: "wsss.Classifier", tmp_path: Path
) -> None:
    paths = Paths(project)
    cams = wsss.cams(classifier, files, TAGS)
    assert [maps.name for maps in cams] == ["first", "second", "third", "fourth"]
    assert cams[0].tags == ("cat", "dog") and cams[3].tags == ()
    read = [as_read(maps) for maps in cams]
    crf, tiled = wsss.refine(files, read, "crf"), wsss.refine(files, read, "tiled")
    masks = wsss.mask([as_read(maps) for maps in crf], ignore_margin=0.1)
    for at, file in enumerate(files):
        check_same(cams[at].scores, read_score_map(paths.cams / f"{file.stem}.npz"))
        for name, refined in (("crf", crf[at].scores), ("tiled", tiled[at].scores)):
            stored = read_score_map(paths.refined(name) / f"{file.stem}.npz")
            check_same(refined, stored)
        assert masks[at].threshold == 0.45  # which evaluation chose
        wanted = np.asarray(Image.open(paths.pseudo_masks / f"{file.stem}.png"))
        np.testing.assert_array_equal(masks[at].labels, wanted)
    assert masks[3].tags == () and any(mask.tags for mask in masks)
    cams[0].save(tmp_path / "maps.npz")
    check_same(read_score_map(tmp_path / "maps.npz"), read_score_map(paths.cams / "first.npz"))


def test_the_threshold_is_of_maps_that_are_made_just_so(
    files: list[Path], classifier: "wsss.Classifier"
) -> None:
    def thresholds(**changes: Any) -> list[float | None]:
        maps = wsss.cams(classifier, files[0], "cat", **changes)
        chains = [maps, *(wsss.refine(files[0], maps, x) for x in ("crf", "pamr", "dense_crf"))]
        return [wsss.mask(item).threshold for item in chains]

    assert thresholds() == [0.65, 0.45, 0.4, 0.5]
    assert thresholds(scales=[1.0]) == [0.4, 0.5, 0.4, 0.5]
    assert wsss.mask(wsss.cams(classifier, files[0], "cat"), background="power").threshold is None


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(str, id="text"),
        pytest.param(Image.open, id="pillow"),
        pytest.param(lambda file: np.asarray(Image.open(file)), id="array"),
        pytest.param(lambda file: np.asarray(Image.open(file)) / 255, id="unit"),
        pytest.param(lambda file: np.asarray(Image.open(file).convert("RGBA")), id="opaque"),
        pytest.param(
            lambda file: torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1), id="tensor"
        ),
        pytest.param(
            lambda file: torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) / 255,
            id="unit tensor",
        ),
    ],
)
def test_whatever_stands_for_an_image(
    image: Callable[[Path], Any], files: list[Path], classifier: "wsss.Classifier"
) -> None:
    """One gives its maps, and a list with one gives a list."""
    wanted = wsss.cams(classifier, files[0], ["cat"], "cam", scales=[1.0])
    found = wsss.cams(classifier, image(files[0]), ["cat"], "cam", scales=[1.0])
    (listed,) = wsss.cams(classifier, [image(files[0])], ["cat"], "cam", scales=[1.0])
    for maps in (found, listed):
        np.testing.assert_array_equal(maps["cat"], wanted["cat"])
        np.testing.assert_array_equal(maps.picture.pixels(), wanted.picture.pixels())


def test_grey_and_alpha_are_taken_as_prepare_data_takes_them(tmp_path: Path) -> None:
    from wsss.api.pictures import as_rgb, picture_list

    rng = np.random.default_rng(0)
    grey, glass = (rng.integers(0, 256, (5, 7, n), dtype=np.uint8) for n in (1, 4))
    for name, values in (("grey", grey[..., 0]), ("glass", glass)):
        Image.fromarray(values).save(tmp_path / f"{name}.png")
        ((picture,), _) = picture_list(tmp_path / f"{name}.png")
        np.testing.assert_array_equal(as_rgb(values, "it"), picture.pixels())
    np.testing.assert_array_equal(as_rgb(grey, "it"), np.repeat(grey, 3, axis=2))
    clear = np.zeros((2, 2, 4), np.uint8)
    assert (as_rgb(clear, "it") == 255).all()  # on white


@pytest.mark.parametrize(
    ("image", "wrong"),
    [
        ("no.jpg", r"the image is no.jpg, and there is no such file"),
        (".", r"is the folder \.; give its files, such as sorted\(Path"),
        (np.zeros((4, 5, 3), np.uint16), "is uint16, but must be uint8; scale its values"),
        (np.full((4, 5, 3), 255.0), r"spans \[255, 255\], but floating-point numbers must lie"),
        (np.zeros((3, 4, 5), np.uint8), r"channels first; take image.transpose\(1, 2, 0\)"),
        (np.zeros((2, 4, 5, 3), np.uint8), r"give the images of it: list\(batch\)"),
        (np.zeros((0, 5, 3), np.uint8), "and not empty"),
        (torch.zeros(8, 5, 3), r"take image.permute\(2, 0, 1\)"),
        (torch.full((3, 4, 5), -2.1), "take back the normalisation"),
        ([{"image": 1}], r"images\[0\]: dict is no image; give a path"),
        (7, "images: int is no image"),
    ],
)
def test_what_is_no_image_is_refused_with_the_way_out(
    image: Any, wrong: str, classifier: "wsss.Classifier"
) -> None:
    with pytest.raises(ValueError, match=wrong):
        wsss.cams(classifier, image, None)


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"tags": ["kat"]}, "the tags of image 'first' name 'kat', which .* did you mean 'cat'"),
        ({"method": "lair_cam"}, "no CAM method is named 'lair_cam'; did you mean 'layer_cam'"),
        ({"method": {"name": "layer_cam", "layer": []}}, "has no key 'layer'; did you mean 'laye"),
        ({"scales": [0]}, "cams: scales.0 .* greater than 0, but is 0"),
        ({"method": "pcm"}, "cams.method: pcm needs a classifier with the part 'pcm'"),
        ({"method": "patch_memory"}, r"before its first map; give some: good=\[\.\.\.\]"),
        ({"good": ["x"]}, "good images are for a method that learns|there is no such file"),
    ],
)
def test_mistakes_are_named(
    changes: dict[str, Any], wrong: str, files: list[Path], classifier: "wsss.Classifier"
) -> None:
    with pytest.raises(ValueError, match=wrong):
        wsss.cams(classifier, files[0], **({"tags": ["cat"]} | changes))
    with pytest.raises(ValueError, match="there are 4 images, and tags of 2"):
        wsss.cams(classifier, files, ["cat", "dog"])


def test_without_tags_what_the_classifier_finds(
    files: list[Path], classifier: "wsss.Classifier"
) -> None:
    everything = wsss.cams(classifier, files[0], ["cat", "cow", "dog"])
    found = wsss.cams(classifier, files[0])
    wanted = {name: prob for name, prob in everything.probs.items() if prob >= 0.5}
    assert 0 < len(wanted) < 3 and found.probs == pytest.approx(wanted)
    for name in wanted:
        np.testing.assert_allclose(found[name], everything[name], atol=1e-6)


def test_a_method_that_learns_is_shown_good_images_once(
    files: list[Path], classifier: "wsss.Classifier"
) -> None:
    method = {"name": "patch_memory", "stages": [1, 2], "size": 50, "candidates": 400}
    rng = np.random.default_rng(1)
    good = [rng.integers(60, 90, (48, 64, 3), dtype=np.uint8) for _ in range(2)]
    first = wsss.cams(classifier, files[0], "cat", method, good=good)
    again = wsss.cams(classifier, files[0], "cat", method)
    np.testing.assert_array_equal(first["cat"], again["cat"])


def test_a_copy_of_a_classifier_has_defaults(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project / "models/classifier", tmp_path / "copy")
    copy = wsss.load_classifier(tmp_path / "copy", device="cpu")
    assert copy.class_names == ("cat", "cow", "dog")
    assert copy.settings.method.name == "cam" and copy.project is None
    assert "ResNet of 3 classes (cat, cow, dog)" in repr(copy)


def test_a_classifier_goes_with_a_package(project: Path, tmp_path: Path) -> None:
    (tmp_path / "segmenter").mkdir()
    with pytest.raises(
        ValueError, match=r"has a segmenter alone, which wsss\.load_segmenter reads"
    ):
        wsss.load_classifier(tmp_path)
    shutil.copytree(project / "models/classifier", tmp_path / "classifier")
    assert wsss.load_classifier(tmp_path).class_names == ("cat", "cow", "dog")


def test_what_is_no_classifier_is_refused_with_the_way_out(project: Path, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("{}")
    (tmp_path / "model.onnx").write_text("")
    for place, wrong in (
        (project / "models/segmenter", "is no classifier, but a segmenter, which wsss.load_segm"),
        (tmp_path, "is a project without a trained classifier"),
        (tmp_path / "model.onnx", "an ONNX file has no layers to look at"),
        (tmp_path / "nothing", "there is no such folder; name models/classifier of a project"),
    ):
        with pytest.raises(ValueError, match=wrong):
            wsss.load_classifier(place)
    with pytest.raises(ValueError, match="the device is 'gpu'; did you mean 'cpu'"):
        wsss.load_classifier(project, device="gpu")


def test_chains_in_every_form(
    project: Path, files: list[Path], classifier: "wsss.Classifier", tmp_path: Path
) -> None:
    maps = wsss.cams(classifier, files[0], ["cat", "dog"])
    refiner = {"name": "pamr", "dilations": [1, 2]}
    wanted = wsss.refine(files[0], maps, refiner)
    same = (
        [refiner],
        REFINERS.settings("pamr").model_validate(refiner),
        [REFINERS.settings("pamr").model_validate(refiner)],
    )
    for chain in same:
        np.testing.assert_array_equal(
            wsss.refine(files[0], maps, chain).scores.scores, wanted.scores.scores
        )
    assert wsss.refine(files[0], maps, []).scores is maps.scores
    two = wsss.refine(files[0], maps, ["pamr", {"name": "regions", "proposals": "superpixels"}])
    assert two.tags == ("cat", "dog")


@pytest.mark.parametrize(
    ("chain", "wrong"),
    [
        ("pamm", "no chain of the project and no refiner is named 'pamm'; did you mean 'pamr'"),
        ([{"name": "pamr", "n_iter": 2}], r"chain.0: .*no key 'n_iter'; did you mean 'n_iters'"),
        ([{"n_iters": 2}], "chain.0 needs a 'name' that says which refiner is meant"),
        ([{"name": "fusion", "sources": {"x": 1}}], "chain.0: fusion goes with maps of other"),
        ([{"name": "regions", "proposals": "tile"}], "no source of proposals is named 'tile'; did"),
        ("voc_pam/x", "no recipe is named 'voc_pam'; did you mean 'voc_pamr'"),
    ],
)
def test_chains_that_are_none(
    chain: Any, wrong: str, files: list[Path], classifier: "wsss.Classifier",
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    maps = wsss.cams(classifier, files[0], ["cat"], "cam", scales=[1.0])
    with pytest.raises(ValueError, match=wrong):
        wsss.refine(files[0], maps, chain)


@pytest.mark.parametrize("in_repository", [True, False])
def test_a_chain_of_a_recipe(
    in_repository: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside a repository those that ship are known, too."""
    monkeypatch.chdir(Path(__file__).parents[2] if in_repository else tmp_path)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (24, 30, 3), dtype=np.uint8)
    maps = wsss.Maps.of(image, {"cat": rng.random((24, 30))})
    by_recipe = wsss.refine(image, maps, "synthetic_cam/crf")
    assert wsss.mask(by_recipe).threshold == 0.5
    with pytest.raises(ValueError, match="the recipe 'synthetic_cam' has no chain 'crff'; did"):
        wsss.refine(image, maps, "synthetic_cam/crff")


def test_images_and_maps_go_together(files: list[Path], classifier: "wsss.Classifier") -> None:
    one = wsss.cams(classifier, files[0], ["cat"], "cam", scales=[1.0])
    with pytest.raises(ValueError, match="images are one, and maps are a list"):
        wsss.refine(files[0], [one], "pamr")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="there are 2 images and maps of 1"):
        wsss.refine(files[:2], [one], "pamr")
    with pytest.raises(ValueError, match=r"images\[0\] must have shape \(48, 64, 3\)"):
        wsss.refine(files[1], one, "pamr")
    with pytest.raises(ValueError, match=r"ndarray is no maps; wsss\.cams makes some"):
        wsss.refine(files[:1], [np.zeros((3, 3))], "pamr")  # type: ignore[list-item]


def test_a_device_that_is_asked_for_is_taken(project: Path, cuda: torch.device) -> None:
    """On a GPU maps are those of the CPU, nearly, and a second method finds the network."""
    file = project / "data/images/first.png"
    both = [
        [
            wsss.cams(model, file, ["cat"], method)["cat"]
            for model in [wsss.load_classifier(project, device)]
            for method in ("cam", "layer_cam", "cam")
        ]
        for device in ("cpu", str(cuda.type))
    ]
    for ours, theirs in zip(*both, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=0.02)
    assert os.environ.get("CUDA_VISIBLE_DEVICES") != ""
