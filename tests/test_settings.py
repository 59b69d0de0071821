"""The wording of mistakes: each message names the key, the value, the rule and the way out."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from wsss.config.params import Params, load_params, parse_params
from wsss.config.yaml_text import load_yaml
from wsss.settings import ConfigError, Settings, expand_path, unread


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_params(load_yaml(text, "params.yaml"))
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "refine: {chains: {crf: [{name: dense_crf, sigma_yx: 3}]}}",
            "params.yaml: refine.chains.crf.0 has no key 'sigma_yx'; did you mean 'sigma_xy'?",
        ),
        (
            "train_clasifier: {}",
            (
                "params.yaml: the top level has no key 'train_clasifier'; "
                "did you mean 'train_classifier'?"
            ),
        ),
        (
            "train_classifier: {optimizer: {lrr: 1}}",
            "params.yaml: train_classifier.optimizer has no key 'lrr'; did you mean 'lr'?",
        ),
        (
            "prepare_data: {dataset: {name: synthetik}}",
            "params.yaml: prepare_data.dataset.name is 'synthetik'; did you mean 'synthetic'?",
        ),
        (
            "train_classifier: {epochs: five}",
            "params.yaml: train_classifier.epochs must be a whole number, but is 'five'",
        ),
        (
            "train_classifier: {batch_size: 2.5}",
            "params.yaml: train_classifier.batch_size must be a whole number, but is 2.5",
        ),
        (
            "train_classifier: {optimizer: {lr: -1}}",
            "params.yaml: train_classifier.optimizer.lr must be greater than 0, but is -1",
        ),
        (
            "train_classifier: {optimizer: {algorithm: sdg}}",
            (
                "params.yaml: train_classifier.optimizer.algorithm must be 'sgd' or 'adamw', "
                "but is 'sdg'"
            ),
        ),
        (
            "train_classifier: {backbone: {mean: [1, 2]}}",
            "params.yaml: train_classifier.backbone.mean.2 is missing; add it",
        ),
        (
            "generate_cams: {scales: []}",
            "params.yaml: generate_cams.scales must have at least 1 item, but has 0",
        ),
        ("generate_cams:", "params.yaml: generate_cams must be a mapping, but is empty (null)"),
        (
            "make_pseudo_masks: {threshold: high}",
            (
                "params.yaml: make_pseudo_masks.threshold must be a number or 'selected' or "
                "'usual', but is 'high'"
            ),
        ),
        (
            "make_pseudo_masks: {threshold: 2}",
            (
                "params.yaml: make_pseudo_masks.threshold is 2; "
                "a threshold lies in [0, 1], or is 'selected' or 'usual'"
            ),
        ),
        (
            "make_pseudo_masks: {chain: crff}",
            (
                "params.yaml: make_pseudo_masks.chain is 'crff', which refine.chains "
                "does not have; did you mean 'crf'?"
            ),
        ),
        (
            "make_pseudo_masks: {background: object}",
            (
                "params.yaml: make_pseudo_masks: background: object needs an object map; set "
                "object_source to a name in further_cams, such as one whose method is ccam"
            ),
        ),
        (
            "make_pseudo_masks: {background: object, object_source: ccam}",
            (
                "params.yaml: make_pseudo_masks.object_source names 'ccam', which further_cams "
                "does not have; add it there"
            ),
        ),
        (
            "further_cams: {ccam: {}}\n"
            "refine: {chains: {crf: [{name: dense_crf, object_source: cam}]}}",
            (
                "params.yaml: refine.chains.crf.0.object_source names 'cam', which further_cams "
                "does not have; did you mean 'ccam'?"
            ),
        ),
        (
            "further_cams: {ccam: {}}\n"
            "refine: {chains: {crf: [], two: [{name: pamr}, {name: fusion, sources: {cam: 1}}]}}",
            (
                "params.yaml: refine.chains.two.1.sources names 'cam', which further_cams "
                "does not have; did you mean 'ccam'?"
            ),
        ),
        *(
            (
                f"{section}: {{a b: {{{value}}}}}",
                f"params.yaml: {what} 'a b' names a folder; use letters, digits and _",
            )
            for section, what, value in (
                ("train_teachers", "teacher", ""),
                ("further_cams", "source", ""),
                ("make_proposals", "source", "name: superpixels"),
                ("train_affinities", "network", ""),
            )
        ),
        ("- 1", "params.yaml: the top level must be sections, but is a list"),
        ("", "params.yaml: the top level must be sections, but is empty"),
    ],
)
def test_message(text: str, message: str) -> None:
    assert refusal(text) == message


def test_an_unknown_refiner_in_a_chain_is_named_by_its_place() -> None:
    message = refusal("refine: {chains: {none: [], crf: [{name: dense_crff}]}}")
    assert "refine.chains.crf.0.name is 'dense_crff'" in message
    assert "dense_crf" in message.partition(";")[2]


def test_all_mistakes_are_told_at_once() -> None:
    message = refusal(
        "train_classifier: {epochs: 0, optimizer: {lrr: 1}}\nmachine: {num_workers: -1}\nrefin: 1"
    )
    keys = ["train_classifier.epochs", "'lrr'", "machine.num_workers", "'refin'"]
    assert len(message.splitlines()) == len(keys)
    assert all(key in message for key in keys)


def test_a_missing_section_has_its_defaults() -> None:
    assert parse_params({}) == Params()
    assert parse_params({"refine": {"chains": {"crf": []}}}).evaluate == Params().evaluate


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Params().base.rng_seed = 3  # type: ignore[misc]


def test_exponents_and_words_are_read_as_yaml_1_2() -> None:
    text = "a: 1e-4\nb: no\nc: 010\nd: on\ne: 1_0\nf: null\ng: .5"
    assert yaml.safe_load(text)["a"] == "1e-4"  # the trap: YAML 1.1 needs the dot
    read = load_yaml(text, "x")
    assert read["a"] == 1e-4
    assert (read["b"], read["c"], read["d"]) == ("no", 10, "on")
    assert (read["f"], read["g"]) == (None, 0.5)


def test_no_is_still_false_where_a_switch_stands() -> None:
    params = parse_params(load_yaml("generate_cams: {flip: no, align_corners: on}", "x"))
    assert (params.generate_cams.flip, params.generate_cams.align_corners) == (False, True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"base: {}\nmachine:\n  devices: 1\n  devices: 2\n",
            "line 4: the key 'devices' stands twice",
        ),
        (b"base: {}\nmachine: {}\nbase: {}\n", "line 3: the key 'base' stands twice"),
        ("recipe: é".encode("latin-1"), "is not UTF-8 text (byte 8 is 0xe9); save it as UTF-8"),
        (b"base: [1\nmachine: 2\n", "params.yaml, line 2: not valid YAML"),
        (b"base:\n\trng_seed: 1\n", "params.yaml, line 2: not valid YAML"),
        (b"base: {}\n---\nbase: {}\n", "params.yaml, line 2: not valid YAML"),
        (b"base: !!python/object:os.system {}\n", "params.yaml, line 1: not valid YAML"),
    ],
)
def test_a_file_that_can_not_be_read(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_params(path)
    assert message in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not here; run from the project's root; `wsss init`"):
        load_params(tmp_path / "params.yaml")


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(b"\xef\xbb\xbfbase: {rng_seed: 7}\n")
    assert load_params(path).base.rng_seed == 7


@pytest.mark.parametrize("value", ["$SET/a b", "${SET}/a b", "~/x/../a b", "/plain/a b"])
def test_paths_are_expanded(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SET", "/plain")
    monkeypatch.setenv("HOME", "/home/of")
    wanted = "/home/of/x/../a b" if value[0] == "~" else "/plain/a b"
    assert expand_path(value, "k") == Path(wanted)


@pytest.mark.parametrize("content", [None, ""])
def test_an_unset_variable_is_named_with_both_ways_out(
    monkeypatch: pytest.MonkeyPatch, content: Any
) -> None:
    monkeypatch.delenv("UNSET", raising=False)
    if content is not None:
        monkeypatch.setenv("UNSET", content)
    with pytest.raises(ConfigError) as caught:
        expand_path("$UNSET/data", "prepare_data.dataset.root")
    for part in ("UNSET", "export UNSET=", "--set prepare_data.dataset.root="):
        assert part in str(caught.value)


def _kinds(kind: type[Settings] = Settings) -> Iterator[type[Settings]]:
    for own in kind.__subclasses__():
        yield own
        yield from _kinds(own)


def test_keys_that_count_for_some_values_of_another_are_keys() -> None:
    declared = [kind for kind in _kinds() if kind.read_when]
    assert len({kind.__name__ for kind in declared}) > 10
    for kind in declared:
        for key, (other, values) in kind.read_when.items():
            assert {key, other} <= kind.model_fields.keys(), (kind, key)
            adapter: TypeAdapter[Any] = TypeAdapter(kind.model_fields[other].annotation)
            for value in values or ():
                adapter.validate_python(value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "refine: {chains: {crf: [{name: dense_crf, alpha: 32}]}}",
            "refine.chains.crf.0.alpha is 32, but counts only where background is 'power', and "
            "that is 'constant'",
        ),
        (
            "refine: {chains: {crf: [{name: dense_crf, preset: psa, threshold: 0.6}]}}",
            "refine.chains.crf.0.threshold is 0.6, but counts only where background is "
            "'constant', and that is 'power'",
        ),
        (
            "refine: {chains: {crf: [{name: dense_crf, preset: psa, gt_prob: 0.99}]}}",
            "refine.chains.crf.0.gt_prob is 0.99, but counts only where unary is 'labels', and "
            "that is 'soft'",
        ),
        (
            "train_classifier: {augment: {crop_share: 0.5}}",
            "train_classifier.augment.crop_share is 0.5, but counts only where crop_size is 0, "
            "and that is 256",
        ),
        (
            "predict_masks: {window_overlap: 0.25}",
            "predict_masks.window_overlap is 0.25, but counts only where window is above 0, and "
            "that is 0",
        ),
        ("refine: {chains: {crf: [{name: dense_crf, preset: irn, gt_prob: 0.9}]}}", None),
        ("refine: {chains: {crf: [{name: dense_crf, background: power, alpha: 32}]}}", None),
        ("refine: {chains: {crf: [{name: dense_crf, threshold: 0.3, background: power}]}}", None),
    ],
)
def test_a_key_that_counts_for_nothing_is_told(text: str, told: str | None) -> None:
    found = list(unread(parse_params(load_yaml(text, "params.yaml")), ""))
    assert found == ([] if told is None else [told])
