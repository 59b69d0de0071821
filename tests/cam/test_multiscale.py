"""Multi-scale CAMs against a plain loop, and against the symmetries they must have."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from wsss.artifacts import ScoreMap
from wsss.cam._gradients import without_backward
from wsss.cam.cam import LinearHeadCam, LinearHeadCamSettings
from wsss.cam.layer_cam import LayerCam, LayerCamSettings
from wsss.cam.multiscale import _Sum, multiscale_cams, shared_cams, whole_cells
from wsss.config.sections import BackboneSettings
from wsss.models.classifier import Classifier
from wsss.models.timm_backbone import TimmBackbone

METHOD = LinearHeadCam(LinearHeadCamSettings())
SCALES = (0.5, 1.0, 1.5)


@pytest.fixture(scope="module")
def model() -> Classifier:
    torch.manual_seed(0)
    backbone = TimmBackbone(BackboneSettings(model_name="resnet10t", output_stride=16))
    model = Classifier(backbone, ("a", "b", "c", "d")).eval()
    nn.init.normal_(model.head.weight)  # strong maps, so that differences show
    return model


def cams_of(
    model: Classifier, images: torch.Tensor, class_ids: list[tuple[int, ...]], **changes: object
) -> tuple[list[torch.Tensor], torch.Tensor]:
    settings = {"scales": SCALES, "flip": True, "align_corners": False, "grid": (16, 24)} | changes
    with torch.inference_mode():
        return multiscale_cams(model, METHOD, images, class_ids, **settings)


def on_grid(
    maps: torch.Tensor, size: tuple[int, int], grid: tuple[int, int], corners: bool
) -> torch.Tensor:
    """A map at the middle of each cell of a grid, an axis at a time by `numpy.interp`."""
    values = maps.detach().double().numpy()
    for axis, (pixels, cells) in enumerate(zip(size, grid, strict=True), 2):
        places = (np.arange(cells) + 0.5) * pixels / cells - 0.5  # in pixels of the image
        known = np.arange(values.shape[axis])
        if corners:
            own = known * (pixels - 1) / (len(known) - 1)
        else:
            own = (known + 0.5) * pixels / len(known) - 0.5
        values = np.apply_along_axis(
            lambda row, o=own, p=places: np.interp(p, o, row), axis, values
        )
    return torch.from_numpy(values).float()


def plain_loop(
    model: Classifier, image: torch.Tensor, ids: tuple[int, ...], corners: bool
) -> torch.Tensor:
    """One image, one scale and one mirror image at a time; all classes, then the present ones."""
    total = torch.zeros(1, 4, 16, 24)
    for scale in SCALES:
        size = whole_cells(tuple(image.shape[2:]), scale, 16, corners)
        scaled = functional.interpolate(
            image, size, mode="bilinear", align_corners=corners, antialias=scale < 1
        )
        for mirrored in (False, True):
            view = scaled.flip(-1) if mirrored else scaled
            features = model.backbone(view)
            maps = torch.einsum("kd,bdhw->bkhw", model.head.weight[:, :, 0, 0], features).relu()
            maps = maps.flip(-1) if mirrored else maps
            total += on_grid(maps, (64, 96), (16, 24), corners)
    kept = total[0, [number - 1 for number in ids]]
    return kept / (kept.amax(dim=(1, 2), keepdim=True) + 1e-5)


@pytest.mark.parametrize("corners", [False, True])
def test_batches_equal_a_plain_loop(model: Classifier, corners: bool) -> None:
    images = torch.randn(3, 3, 64, 96)
    ids = [(1, 3), (2,), (1, 2, 4)]
    cams, _ = cams_of(model, images, ids, align_corners=corners)
    for index, cam in enumerate(cams):
        with torch.inference_mode():
            wanted = plain_loop(model, images[index : index + 1], ids[index], corners)
        torch.testing.assert_close(cam, wanted, atol=1e-4, rtol=0)


def test_running_few_together_changes_nothing(model: Classifier) -> None:
    images = torch.randn(3, 3, 64, 96)
    ids = [(1, 3), (2,), (1, 2, 4)]
    whole, logits = cams_of(model, images, ids)
    parts, logits_of_parts = cams_of(model, images, ids, max_pixels=2 * 64 * 96)
    for cam, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(cam, other, atol=1e-5, rtol=0)
    torch.testing.assert_close(logits, logits_of_parts, atol=1e-5, rtol=1e-5)


def test_mirrored_image_gives_mirrored_cam(model: Classifier) -> None:
    images = torch.randn(2, 3, 64, 96)
    ids = [(1, 2), (4,)]
    plain, logits = cams_of(model, images, ids)
    mirrored, mirrored_logits = cams_of(model, images.flip(-1), ids)
    for cam, other in zip(plain, mirrored, strict=True):
        torch.testing.assert_close(cam, other.flip(-1), atol=1e-4, rtol=0)
    torch.testing.assert_close(logits, mirrored_logits, atol=1e-4, rtol=1e-4)


def test_range_and_present_classes(model: Classifier) -> None:
    cams, logits = cams_of(model, torch.randn(3, 3, 64, 96), [(2,), (), (1, 2, 3, 4)])
    assert [tuple(cam.shape) for cam in cams] == [(1, 16, 24), (0, 16, 24), (4, 16, 24)]
    assert logits.shape == (3, 4)
    for cam in cams:
        assert cam.min() >= 0 if cam.numel() else True
        assert cam.max() <= 1 if cam.numel() else True


def test_no_tags_at_all(model: Classifier) -> None:
    cams, logits = cams_of(model, torch.randn(1, 3, 64, 96), [()])
    assert cams[0].shape == (0, 16, 24)
    assert torch.isfinite(logits).all()


def test_one_hot_feature_gives_one_hot_map() -> None:
    """F = one patch of channel c, W = e_c: the map of c has that one hot cell."""

    class OneHot(nn.Module):
        output_stride = 16

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            features = torch.zeros(len(images), 2, images.shape[2] // 16, images.shape[3] // 16)
            features[:, 1, 1, 2] = 5
            return features

    backbone = OneHot()
    backbone.num_features = 2  # type: ignore[assignment]
    model = Classifier(backbone, ("a", "b"))  # type: ignore[arg-type]
    model.head.weight.data = torch.eye(2)[:, :, None, None]
    cams, logits = cams_of(
        model, torch.zeros(1, 3, 64, 96), [(1, 2)], scales=(1.0,), flip=False, grid=(4, 6)
    )
    wanted = torch.zeros(2, 4, 6)
    wanted[1, 1, 2] = 1
    torch.testing.assert_close(cams[0], wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(logits, torch.tensor([[0, 5 / 24]]))


@pytest.mark.parametrize("further", [SCALES, (1.0, 2.0)])
def test_methods_that_share_forward_passes_give_what_each_gives_alone(
    model: Classifier, further: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = [METHOD, without_backward(LayerCam(LayerCamSettings()), model)]
    images, ids, scales = torch.randn(3, 3, 64, 96), [(1, 3), (), (1, 2, 4)], [SCALES, further]
    views = {"flip": True, "align_corners": False, "grid": (16, 24), "max_pixels": 2 * 64 * 96}
    passes: list[object] = []
    forward = Classifier.forward

    def counted(self: Classifier, images: torch.Tensor) -> object:
        passes.append(images.shape)
        return forward(self, images)

    monkeypatch.setattr(Classifier, "forward", counted)
    with torch.inference_mode():
        wanted = [
            multiscale_cams(model, method, images, ids, scales=own, **views)
            for method, own in zip(methods, scales, strict=True)
        ]
        apart = passes.copy()
        passes.clear()
        asked = [(model, method) for method in methods]
        found = shared_cams(asked, images, ids, scales=scales, stretch=[True, True], **views)
    assert set(passes) == set(apart) and len(passes) < len(apart)
    for (cams, logits), (wanted_cams, wanted_logits) in zip(found, wanted, strict=True):
        assert torch.equal(logits, wanted_logits)
        for cam, wanted_cam in zip(cams, wanted_cams, strict=True):
            assert torch.equal(cam, wanted_cam)


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("stride", [1, 4, 8, 16])
def test_a_map_stays_where_it_is(corners: bool, stride: int) -> None:
    """A map of each place's own x and y, stored at any stride, has them at image size, too."""
    size, cells = (129, 257), (9, 17)
    grid = tuple(-(-side // stride) for side in size)
    summed = _Sum(1, 1, grid, False, size if corners else None, False)
    axes = []
    for number, pixels in zip(cells, size, strict=True):
        middles = ((torch.arange(number) + 0.5) / number * pixels - 0.5) / (pixels - 1)
        axes.append(torch.linspace(0, 1, number) if corners else middles)
    summed.add(torch.stack(torch.meshgrid(*axes, indexing="ij")), torch.zeros(1, 2))
    scores = summed.maps().clamp(0, 1).numpy()
    stored = ScoreMap(np.array([1, 2], np.uint8), scores, size, np.ones(2, np.float32))
    full = stored.full_scores()
    for axis, pixels in enumerate(size):
        inner = np.arange(pixels)[stride + 8 : -stride - 8]
        found = full[axis].mean(axis=1 - axis)[inner] * (pixels - 1)
        np.testing.assert_allclose(found, inner, atol=0.35)
