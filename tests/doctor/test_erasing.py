"""A classifier that finds a class without its object, and one that does not."""

from typing import Any

import numpy as np
import pytest

from wsss.artifacts import Proposals, read_image, write_proposals
from wsss.config.params import parse_params
from wsss.doctor import erasing
from wsss.doctor.erasing import erased_image


def proposals_of(run: Any) -> None:
    """One per object, and one of all the rest."""
    run.tree["make_proposals"] = {"mine": {"name": "superpixels"}}
    for sample in run.samples():
        mask = run.objects[sample.name]
        found = Proposals.from_masks(np.stack([mask > 0, mask == 0]))
        write_proposals(run.paths.proposals / f"mine/{sample.name}.npz", found)


@pytest.mark.parametrize("context", [True, False])
def test_a_class_that_is_found_without_its_object(
    run: Any, context: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A classifier that goes by the background, and one that goes by the object."""
    proposals_of(run)
    (run.paths.classifier).mkdir(parents=True)
    (run.paths.classifier / "model.json").touch()
    asked = []

    def probabilities(image: np.ndarray) -> np.ndarray:
        asked.append(image)
        seen = 1.0 if context else float(image.max() > 120 - 1)  # pixels of any object
        return np.full(3, 0.9 * seen)

    monkeypatch.setattr(erasing, "_classifier", lambda made: probabilities)
    found = [item for item in run.check(erase=5).findings if item.name == "survives_erasing"]
    assert len(asked) == 2 * 5 * 3
    assert len(found) == 3 * context
    if context:
        assert found[0].numbers == {"left": 1, "images": 5}
        assert "'boat'" in found[0].text and 1 in run.sample(found[0].images[0]).class_ids
        assert not found[0].needs_truth
    asked.clear()
    assert (
        not [i for i in run.check(erase=0).findings if i.name == "survives_erasing"] and not asked
    )


def test_the_real_classifier_is_asked(run: Any) -> None:
    from wsss.models.classifier import Classifier, save_classifier
    from wsss.models.timm_backbone import TimmBackbone

    proposals_of(run)
    settings = parse_params(
        {"train_classifier": {"backbone": {"model_name": "resnet10t"}}}
    ).train_classifier.backbone
    model = Classifier(TimmBackbone(settings), run.manifest.class_names)
    with torch_no_grad():
        model.head.weight.fill_(1.0)  # it says yes to anything
    run.paths.classifier.mkdir(parents=True)
    save_classifier(model, settings, "multi_label", run.paths.classifier)
    found = [item for item in run.check(erase=4).findings if item.name == "survives_erasing"]
    assert len(found) == 3 and all(item.numbers["left"] > 0.9 for item in found)


def torch_no_grad() -> Any:
    import torch

    return torch.no_grad()


def test_what_is_erased_is_the_object_alone(run: Any) -> None:
    sample = next(item for item in run.samples() if item.class_ids == (2,))
    image = read_image(run.paths.images / sample.image)
    own = run.objects[sample.name] > 0
    erased = erased_image(image, own)
    np.testing.assert_array_equal(erased[~own], image[~own])
    assert len(np.unique(erased[own].reshape(-1, 3), axis=0)) == 1
    assert abs(int(erased[own][0, 0]) - image[~own][:, 0].mean()) <= 0.5
