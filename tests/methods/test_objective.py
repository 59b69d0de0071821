"""The losses against published numbers, loops and closed forms."""

import math

import pytest
import torch
from torch.nn import functional

from wsss.methods.cam import CamSettings
from wsss.methods.objective import Objective, entropy, map_variance
from wsss.models.classifier import ClassifierOutput

MULTI_LABEL = Objective("multi_label")


def output(logits: torch.Tensor, maps: torch.Tensor) -> ClassifierOutput:
    return ClassifierOutput(logits, maps, maps)


def test_multi_label_matches_the_published_number() -> None:
    loss = MULTI_LABEL.classification(torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 0.0]]))
    assert loss.item() == pytest.approx(0.220095, abs=1e-6)


def test_single_label_is_the_log_of_the_softmax() -> None:
    logits = torch.randn(5, 4)
    labels = torch.eye(4)[[0, 3, 1, 1, 2]]
    by_hand = -(logits.softmax(dim=1).log() * labels).sum(dim=1).mean()
    loss = Objective("single_label").classification(logits, labels)
    torch.testing.assert_close(loss, by_hand)


def test_entropy_matches_the_published_number() -> None:
    probs = MULTI_LABEL.probs(torch.tensor([[0.0, 2.0]]))
    assert entropy(probs).item() == pytest.approx(0.529221, abs=1e-6)


def test_entropy_is_largest_at_a_half_and_nothing_where_certain() -> None:
    assert entropy(torch.full((2, 3), 0.5)).item() == pytest.approx(math.log(2), abs=1e-4)
    assert entropy(torch.tensor([[0.0, 1.0]])).item() == pytest.approx(0, abs=2e-5)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([(1, 2)], 0.01178),
        ([(y, x) for y in range(4) for x in range(4)], 0.625),
        ([(0, 0), (3, 3)], 1.1210),
        ([(0, 3), (3, 0)], 1.1210),
    ],
)
def test_map_variance_matches_the_published_numbers(
    cells: list[tuple[int, int]], expected: float
) -> None:
    maps = torch.zeros(1, 1, 4, 4)
    for y, x in cells:
        maps[0, 0, y, x] = 1
    assert map_variance(maps).item() == pytest.approx(expected, abs=5e-5)


def test_map_variance_knows_height_from_width() -> None:
    """Against a loop, on maps that are not square."""
    maps = torch.rand(2, 3, 3, 5, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros(2, 3)
    for b in range(2):
        for c in range(3):
            q = (maps[b, c] + 1e-3).numpy().astype(float)
            q /= q.sum()
            at = [(2 * i / 3 - 1, 2 * j / 5 - 1, q[i, j]) for i in range(3) for j in range(5)]
            v, u = sum(y * w for y, _, w in at), sum(x * w for _, x, w in at)
            expected[b, c] = sum(w * ((y - v) ** 2 + (x - u) ** 2) for y, x, w in at)
    torch.testing.assert_close(map_variance(maps), expected)
    torch.testing.assert_close(map_variance(maps.transpose(2, 3)), expected)


def test_concentration_is_of_tagged_classes_per_image() -> None:
    maps = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(0)) * 3
    labels = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    found = output(torch.zeros(2, 3), maps)
    losses = MULTI_LABEL(found, [(1.0, labels)], CamSettings(concentration_weight=1))
    spreads = map_variance(maps.relu().softmax(dim=1))
    torch.testing.assert_close(losses["concentration"], (spreads[0, 0] + spreads[0, 2]) / 2)


def test_concentration_draws_the_mass_together() -> None:
    maps = torch.zeros(1, 2, 5, 5)
    maps[0, 0, 1, 1] = maps[0, 0, 4, 4] = 1
    maps[0, 0, 2, 1] = 1.5
    maps.requires_grad_()
    settings = CamSettings(concentration_weight=1)
    losses = MULTI_LABEL(
        output(torch.zeros(1, 2), maps), [(1.0, torch.tensor([[1.0, 0.0]]))], settings
    )
    losses["concentration"].backward()
    assert maps.grad is not None
    assert maps.grad[0, 0, 4, 4] > 0 > maps.grad[0, 0, 2, 1]  # descent lowers the far cell


def test_without_weights_the_loss_is_classification_alone() -> None:
    logits, labels = torch.randn(3, 2), torch.tensor([[1.0, 0], [0, 1], [1, 1]])
    found = output(logits, torch.full((3, 2, 2, 2), float("nan")))  # not even looked at
    losses = MULTI_LABEL(found, [(1.0, labels)], CamSettings())
    assert set(losses) == {"loss"}
    assert torch.equal(losses["loss"], MULTI_LABEL.classification(logits, labels))


def test_targets_are_weighted() -> None:
    logits, a, b = torch.randn(3, 2), torch.zeros(3, 2), torch.ones(3, 2)
    found = output(logits, torch.zeros(3, 2, 2, 2))
    loss = MULTI_LABEL(found, [(0.3, a), (0.7, b)], CamSettings())["loss"]
    expected = 0.3 * MULTI_LABEL.classification(logits, a)
    torch.testing.assert_close(loss, expected + 0.7 * MULTI_LABEL.classification(logits, b))


def test_tags_that_are_certain_have_the_plain_loss_to_the_last_bit() -> None:
    rng = torch.Generator().manual_seed(0)
    for _ in range(20):
        logits = torch.randn(7, 13, generator=rng) * 5
        labels = (torch.rand(7, 13, generator=rng) < 0.3).float()
        ours, plain = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        loss = MULTI_LABEL.classification(ours, labels)
        wanted = functional.binary_cross_entropy_with_logits(plain, labels)
        assert torch.equal(loss, wanted)
        for value in (loss, wanted):
            value.backward()
        assert torch.equal(ours.grad, plain.grad)  # type: ignore[arg-type]


def test_the_mean_is_over_known_tags() -> None:
    logits = torch.tensor([[2.0, -1.0, 7.0], [-9.0, 0.0, 3.0]])
    labels = torch.tensor([[1.0, 0.0, math.nan], [math.nan, math.nan, math.nan]])
    assert MULTI_LABEL.classification(logits, labels).item() == pytest.approx(0.220095, abs=1e-6)
    assert MULTI_LABEL.classification(logits, labels * math.nan).item() == 0


def test_what_is_unknown_of_one_image_is_unknown_of_a_mixture() -> None:
    logits = torch.tensor([[2.0, -1.0]], requires_grad=True)
    a, b = torch.tensor([[1.0, math.nan]]), torch.tensor([[0.0, 1.0]])
    found = output(logits, torch.zeros(1, 2, 2, 2))
    settings = CamSettings(entropy_weight=1, concentration_weight=1)
    losses = MULTI_LABEL(found, [(0.25, a), (0.75, b)], settings)
    losses["loss"].backward()
    assert logits.grad is not None and logits.grad[0, 1] == 0 and logits.grad[0, 0] != 0
    alone = MULTI_LABEL.probs(logits[:, :1])
    torch.testing.assert_close(losses["entropy"], entropy(alone))
