"""What data are called: the same as long as their images and tags are."""

from dataclasses import replace
from pathlib import Path

from wsss.artifacts import Manifest, Paths, Sample
from wsss.config.params import parse_params
from wsss.pipeline.names import data_digest

SAMPLES = tuple(Sample(name, f"{name}.png", (4, 6), (1,)) for name in "abcdef")


def digest(
    root: Path, train: str, selection: str, val: str, tags: dict[str, int] | None = None, **own: int
) -> str:
    """Of images by their letters."""
    known = {
        item.name: replace(item, class_ids=((tags or {}).get(item.name, 1),)) for item in SAMPLES
    }
    lists = {"train": train, "selection": selection, "val": val}
    splits = {split: tuple(known[name] for name in names) for split, names in lists.items()}
    Manifest(("cat", "dog"), splits).write(Paths(root).splits)
    dataset = {"name": "folder", "root": "/photos", "val_share": own.pop("val_share", 0.2)}
    values = {"base": {"rng_seed": own.pop("seed", 0)}, "prepare_data": {"dataset": dataset} | own}
    return data_digest(parse_params(values), Paths(root))


def test_data_are_the_same_whatever_chance_holds_out_and_annotators_give(tmp_path: Path) -> None:
    before = digest(tmp_path, "abc", "d", "ef")
    assert digest(tmp_path, "dba", "c", "fe", seed=1) == before
    assert digest(tmp_path, "abc", "d", "ef", pixel_labels=2) == before
    others = [
        digest(tmp_path, "abe", "d", "cf"),
        digest(tmp_path, "abc", "", "ef"),
        digest(tmp_path, "abc", "d", "ef", {"e": 2}),
        digest(tmp_path, "abc", "d", "ef", long_side_max=64),
    ]
    assert before not in others and len(set(others)) == len(others)
