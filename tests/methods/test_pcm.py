"""Classification through the pixel correlation module."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wsss.methods.base import Start
from wsss.methods.objective import Objective
from wsss.methods.pcm import Pcm, PcmMethodSettings
from wsss.models.classifier import Classifier
from wsss.seeding import Step

OBJECTIVE = Objective("multi_label")
STEP = Step(np.random.default_rng(0), 0.5, list("abcd"))


def begin(
    make_model: Callable[..., Classifier], make_start: Callable[..., Start], **values: Any
) -> tuple[Pcm, Classifier]:
    method = Pcm(PcmMethodSettings(**values))
    return method, make_model(method.begin(make_start())).eval()


def test_logits_are_the_means_of_the_sum(
    make_model: Any, make_start: Any, images: Tensor, labels: Tensor
) -> None:
    method, model = begin(make_model, make_start)
    output = model(images, with_stages=True)
    refined = model.parts["pcm"](images, output.stages, output.maps)
    logits = output.maps.mean(dim=(2, 3)) + refined.mean(dim=(2, 3))
    losses = method(model, images, labels, OBJECTIVE, STEP)
    torch.testing.assert_close(losses["loss"], OBJECTIVE.classification(logits, labels))
    assert not torch.allclose(refined.mean(dim=(2, 3)), output.logits, atol=1e-4)


def test_refining_maps_is_the_head_on_refined_features(
    make_model: Any, make_start: Any, images: Tensor
) -> None:
    """fc8(conv6) + fc8(conv6 K), as the thesis writes it."""
    _, model = begin(make_model, make_start)
    output = model(images, with_stages=True)
    refined = model.parts["pcm"](images, output.stages, output.maps)
    features = model.parts["pcm"](images, output.stages, output.features)
    torch.testing.assert_close(model.head(features), refined)


def test_with_nothing_to_refine_logits_are_doubled(
    make_model: Any, make_start: Any, images: Tensor, labels: Tensor
) -> None:
    class Same(nn.Module):
        def forward(self, images: Tensor, stages: tuple[Tensor, ...], maps: Tensor) -> Tensor:
            return maps

    method, model = begin(make_model, make_start)
    model.parts["pcm"] = Same()
    loss = method(model, images, labels, OBJECTIVE, STEP)["loss"]
    expected = OBJECTIVE.classification(2 * model(images).logits, labels)
    torch.testing.assert_close(loss, expected)


def test_the_settings_reach_the_module(make_model: Any, make_start: Any) -> None:
    _, model = begin(make_model, make_start, stages=(1, 2), channels=(3, 4), embedding=5)
    shapes = [tuple(tensor.shape[:2]) for tensor in model.parts["pcm"].parameters()]
    assert shapes == [(3, 64), (4, 128), (5, 10)]
    assert not model.parts["pcm"].settings.relu
    _, model = begin(make_model, make_start)
    assert model.parts["pcm"].embed.weight.shape == (512, 515, 1, 1)
