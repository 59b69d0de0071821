"""The classification losses against the published number and a loop."""

import pytest
import torch

from wsss.stages.train_classifier import classification_loss


def test_multi_label_matches_the_published_number() -> None:
    loss = classification_loss(
        "multi_label", torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 0.0]])
    )
    assert loss.item() == pytest.approx(0.220095, abs=1e-6)


def test_single_label_is_the_log_of_the_softmax() -> None:
    logits = torch.randn(5, 4)
    labels = torch.eye(4)[[0, 3, 1, 1, 2]]
    by_hand = -(logits.softmax(dim=1).log() * labels).sum(dim=1).mean()
    torch.testing.assert_close(classification_loss("single_label", logits, labels), by_hand)
