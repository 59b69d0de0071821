"""What the page shows is what `wsss` gives, and a move makes anew what depends on it alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import wsss
from wsss.config.segmentation import PseudoMaskSettings
from wsss.demo.session import Session
from wsss.demo.sources import Sources, open_sources
from wsss.registry import CAM_METHODS

MASKS = PseudoMaskSettings(threshold=0.4, ignore_margin=0.1)


@pytest.fixture(scope="module")
def sources(project: Path) -> Sources:
    return open_sources(str(project))


@pytest.fixture
def image(project: Path) -> Path:
    return project / "data/images/first.png"


@pytest.fixture
def session(sources: Sources, image: Path) -> Session:
    return Session(sources, image)


def test_it_shows_what_the_functions_give(sources: Sources, image: Path, session: Session) -> None:
    classifier, tags = sources.classifier, ("boat", "balloon")
    shown = session.show(tags, sources.chains["crf"], MASKS)
    maps = wsss.cams(classifier, image, tags)
    refined = wsss.refine(image, maps, "crf")
    mask = wsss.mask(refined, 0.4, ignore_margin=0.1)
    assert shown.maps.tags == maps.tags == tags
    np.testing.assert_array_equal(shown.maps.scores.scores, maps.scores.scores)
    np.testing.assert_array_equal(shown.refined.scores.scores, refined.scores.scores)
    np.testing.assert_array_equal(shown.mask.labels, mask.labels)
    assert len(np.unique(mask.labels)) > 1
    found = session.predicted()
    assert found is not None and session.predicted() is found
    predicted = wsss.predict(sources.segmenter, image)
    np.testing.assert_array_equal(found.labels, predicted.labels)
    assert session.picture.name == "first" and shown.mask.threshold == 0.4


def test_its_tags_are_those_of_the_classifier(sources: Sources, session: Session) -> None:
    everything = wsss.cams(
        sources.classifier, session.picture.pixels(), sources.classifier.class_names
    )
    assert session.probs == pytest.approx(everything.probs)
    assert session.found == ("boat", "balloon")


def moved(settings: Any, at: int, **values: Any) -> list[Any]:
    return [
        entry.model_copy(update=values) if place == at else entry
        for place, entry in enumerate(settings)
    ]


def test_a_move_makes_anew_what_depends_on_it(sources: Sources, session: Session) -> None:
    tags, chain = ("boat",), sources.chains["crf"]
    begun = session.show(tags, chain, MASKS)
    assert list(begun.seconds) == ["maps", "0 pamr", "1 dense_crf", "mask"]
    assert session.show(tags, chain, MASKS).seconds == {}
    lower = session.show(tags, chain, MASKS.model_copy(update={"threshold": 0.1}))
    assert list(lower.seconds) == ["mask"] and lower.refined is begun.refined
    last = session.show(tags, moved(chain, 1, n_iters=4), MASKS)
    assert list(last.seconds) == ["1 dense_crf", "mask"] and last.maps is begun.maps
    first = session.show(tags, moved(chain, 0, n_iters=3), MASKS)
    assert list(first.seconds) == ["0 pamr", "1 dense_crf", "mask"]
    other = session.show(("boat", "sheep"), chain, MASKS)
    assert list(other.seconds) == ["maps", "0 pamr", "1 dense_crf", "mask"]
    again = session.show(tags, chain, MASKS)
    np.testing.assert_array_equal(again.mask.labels, begun.mask.labels)
    assert list(again.seconds) == ["0 pamr", "1 dense_crf", "mask"]


def test_what_is_kept_is_what_a_fresh_one_makes(sources: Sources, image: Path) -> None:
    """In any order of moves."""
    chains = [
        sources.chains["crf"],
        moved(sources.chains["crf"], 1, sigma_xy=9.0),
        sources.chains["none"],
        moved(sources.chains["crf"], 0, n_iters=2),
        sources.chains["regions"],
        sources.chains["crf"][:1],
    ]
    kept = Session(sources, image)
    rng = np.random.default_rng(0)
    for number in rng.integers(0, len(chains), 12):
        tags = [("boat",), ("boat", "balloon"), ()][rng.integers(3)]
        masks = MASKS.model_copy(update={"threshold": float(rng.choice([0.2, 0.5]))})
        found = kept.show(tags, chains[number], masks).mask.labels
        fresh = Session(sources, image).show(tags, chains[number], masks).mask.labels
        np.testing.assert_array_equal(found, fresh)


def test_proposals_are_made_once(sources: Sources, session: Session, monkeypatch: Any) -> None:
    from wsss.registry import PROPOSALS

    built: list[str] = []
    build = PROPOSALS.build

    def counted(settings: Any, *args: Any) -> Any:
        built.append(settings.name)
        return build(settings, *args)

    monkeypatch.setattr(PROPOSALS, "build", counted)
    chain = sources.chains["regions"]
    for threshold in (0.3, 0.6):
        session.show(("boat",), moved(chain, 0, threshold=threshold), MASKS)
    assert built == ["superpixels"]


def test_maps_of_gradients_are_of_the_tags_alone(project: Path, image: Path) -> None:
    sources = open_sources(str(project))
    project_of = sources.classifier.project
    assert project_of is not None
    method: Any = CAM_METHODS.settings("grad_cam")
    cams = project_of.params.generate_cams.model_copy(update={"method": method(layers=("stage3",))})
    params = project_of.params.model_copy(update={"generate_cams": cams})
    object.__setattr__(project_of, "params", params)
    session = Session(sources, image)
    shown = session.show(("sheep",), (), MASKS)
    wanted = wsss.cams(
        sources.classifier, image, ("sheep",), {"name": "grad_cam", "layers": ["stage3"]}
    )
    assert sources.one_by_one
    np.testing.assert_array_equal(shown.maps.scores.scores, wanted.scores.scores)
    plain = wsss.cams(sources.classifier, image, ("sheep",), "cam")
    assert session.probs["sheep"] == pytest.approx(plain.probs["sheep"])


def test_a_wrong_tag_leaves_what_was_made(sources: Sources, session: Session) -> None:
    shown = session.show(("boat",), sources.chains["crf"], MASKS)
    with pytest.raises(ValueError, match=r"name 'ship', which is no class"):
        session.show(("ship",), sources.chains["crf"], MASKS)
    with pytest.raises(ValueError, match=r"chain\.0.*fusion goes with maps of other classifiers"):
        session.show(("boat",), sources.refine.chains["elsewhere"], MASKS)
    again = session.show(("boat",), sources.chains["crf"], MASKS)
    np.testing.assert_array_equal(again.mask.labels, shown.mask.labels)


def test_large_images_shrink_as_prepare_data_shrinks_them(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = open_sources(str(project))
    known = {**sources.classifier.image_settings, "long_side_max": 64}
    monkeypatch.setattr(type(sources.classifier), "image_settings", known)
    large = Image.open(project / "data/images/second.png").resize((200, 100))
    session = Session(sources, large)
    assert session.picture.pixels().shape == (32, 64, 3)
    assert session.show(("boat",), (), MASKS).mask.labels.shape == (32, 64)
