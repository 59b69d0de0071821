"""Names of runs."""

from wsss.tracking.naming import LONGEST, changed_settings, short_name


def test_what_changed_is_what_differs_and_what_is_new() -> None:
    settings = {"a": "1", "b": "2", "c": "3"}
    assert changed_settings(settings, {"a": "1", "b": "0"}) == {"b": "2", "c": "3"}
    assert changed_settings(settings, {"a": "1", "b": "0"}, added=False) == {"b": "2"}
    assert changed_settings(settings, settings) == {}


def test_a_name_is_as_short_as_tells_settings_apart() -> None:
    for value in ("13", "13.0"):
        assert short_name({"refine.chains.crf.0.sigma_rgb": value}) == "sigma_rgb=13"
    two = {"train_classifier.epochs": "3", "train_segmenter.epochs": "4", "x.lr": "0.1"}
    assert short_name(two) == "train_classifier.epochs=3, train_segmenter.epochs=4, lr=0.1"
    same = {"refine.chains.crf.0.n_iters": "3", "refine.chains.crf.1.n_iters": "4"}
    assert short_name(same) == "refine.chains.crf.0.n_iters=3, refine.chains.crf.1.n_iters=4"
    assert short_name({"train_classifier.method.name": "puzzle"}) == "method=puzzle"
    assert short_name({}) == ""


def test_a_name_of_many_settings_says_how_many_are_left_out() -> None:
    many = {f"section.setting_{number}": str(number) for number in range(30)}
    name = short_name(many)
    assert len(name) <= LONGEST
    shown = name.count("=")
    assert name.endswith(f", +{30 - shown}")
    long = short_name({"a.path": "/a" * 200, "b.path": "/b" * 200})
    assert len(long) <= LONGEST
    assert short_name({"k" * 300: "1"})[:3] == "kkk"
