"""A tiny Pet tree with the true file layout: which image is in which split, of which class."""

import pytest
from PIL import Image

from wsss.config import ConfigError
from wsss.data.oxford_pet import OxfordPet, OxfordPetSettings

BREEDS = ("Abyssinian", "american_bulldog", "Bengal", "staffordshire_bull_terrier")
SPECIES = {"Abyssinian": 1, "american_bulldog": 2, "Bengal": 1, "staffordshire_bull_terrier": 2}
PER_BREED = 10


def _line(breed, number):
    return f"{breed}_{number} {BREEDS.index(breed) + 1} {SPECIES[breed]} 1"


@pytest.fixture
def pets(tmp_path):
    root = tmp_path / "pets"
    (root / "images").mkdir(parents=True)
    (root / "annotations/trimaps").mkdir(parents=True)
    lines = [_line(breed, number) for breed in BREEDS for number in range(PER_BREED)]
    for line in lines:
        name = line.split()[0]
        Image.new("RGB", (4, 3)).save(root / f"images/{name}.jpg")
        (root / f"annotations/trimaps/{name}.png").write_bytes(b"never opened")
        (root / f"annotations/trimaps/._{name}.png").write_bytes(b"of macOS")
    (root / "images/Abyssinian_100.mat").write_bytes(b"no image")
    Image.new("RGB", (4, 3)).save(root / "images/Bengal_999.jpg")  # nobody annotated it
    (root / "annotations/trainval.txt").write_text("\n".join(lines[::2]) + "\n")
    (root / "annotations/test.txt").write_text("\n".join(lines[1::2]) + "\n")
    (root / "annotations/list.txt").write_text(
        "#Image CLASS-ID SPECIES BREED ID\n#ID: 1:37 Class ids\n" + "\n".join(lines) + "\n"
    )
    return root


def _collect(root, rng_seed=0, **settings):
    return OxfordPet(OxfordPetSettings(root=str(root), **settings)).collect(root / "s", rng_seed)


def _names(raw, split):
    return {sample.name for sample in raw.splits[split]}


def _every(raw):
    return [sample for samples in raw.splits.values() for sample in samples]


def test_tags_are_the_species_or_the_breed(pets):
    species, breeds = _collect(pets), _collect(pets, classes="breed")
    assert species.class_names == ("cat", "dog")
    assert breeds.class_names == BREEDS
    assert len(_every(species)) == len(_every(breeds)) == len(BREEDS) * PER_BREED
    for sample in _every(species):
        assert sample.class_ids == (SPECIES[sample.name.rpartition("_")[0]],)
        assert sample.image == pets / f"images/{sample.name}.jpg"
    for sample in _every(breeds):
        assert breeds.class_names[sample.class_ids[0] - 1] == sample.name.rpartition("_")[0]
    assert not species.problems


@pytest.mark.parametrize(("border", "value"), [("ignore", 255), ("pet", None), ("background", 0)])
@pytest.mark.parametrize("classes", ["species", "breed"])
def test_a_trimap_means_the_class_of_its_image(pets, classes, border, value):
    for sample in _every(_collect(pets, classes=classes, border=border)):
        (class_id,) = sample.class_ids
        seam = class_id if value is None else value
        assert sample.mask_values == {1: class_id, 2: 0, 3: seam}
        assert sample.mask == pets / f"annotations/trimaps/{sample.name}.png"


def test_random_split_is_a_fifth_of_each_breed_and_the_same_for_both_kinds_of_classes(pets):
    species, breeds = _collect(pets, 5), _collect(pets, 5, classes="breed")
    for breed in BREEDS:
        assert sum(name.startswith(breed) for name in _names(species, "val")) == 2
    assert _names(species, "val") == _names(breeds, "val")
    assert not _names(species, "val") & _names(species, "train")
    assert _names(_collect(pets, 6), "val") != _names(species, "val")


def test_official_split(pets):
    raw = _collect(pets, split="official")
    listed = {line.split()[0] for line in (pets / "annotations/test.txt").read_text().splitlines()}
    assert _names(raw, "val") == listed
    assert len(_names(raw, "train")) == len(BREEDS) * PER_BREED - len(listed)


def test_list_txt_is_read_where_a_list_is_missing(pets):
    pooled = _collect(pets)
    (pets / "annotations/test.txt").unlink()
    assert _every(_collect(pets)) == _every(pooled)
    with pytest.raises(ConfigError, match=r"no trainval.txt and test.txt.*split to random"):
        _collect(pets, split="official")
    (pets / "annotations/list.txt").unlink()
    with pytest.raises(ConfigError, match=r"nor a list.txt.*root"):
        _collect(pets)


def test_max_train_leaves_validation_alone(pets):
    small, whole = _collect(pets, max_train=5), _collect(pets)
    assert len(small.splits["train"]) == 5
    assert small.splits["val"] == whole.splits["val"]


def test_missing_images_and_trimaps(pets):
    (pets / "images/Bengal_3.jpg").unlink()
    (pets / "annotations/trimaps/Bengal_4.png").unlink()
    raw = _collect(pets, split="official")
    assert [problem.name for problem in raw.problems] == ["Bengal_3"]
    assert [item.name for item in _every(raw) if item.mask is None] == ["Bengal_4"]


@pytest.mark.parametrize(
    "line", ["Bengal_1", "Bengal_1 3 1", "Bengal_1 x 1 1", "Bengal_1 0 1 1", "Bengal_1 3 3 1"]
)
def test_a_line_that_is_none_is_named(pets, line):
    path = pets / "annotations/test.txt"
    path.write_text(f"\n# a comment\n{line}\n")
    with pytest.raises(ValueError, match=rf"test\.txt, line 3: '{line}'"):
        _collect(pets)


def test_contradicting_lists(pets):
    with (pets / "annotations/test.txt").open("a") as file:
        file.write(_line("Bengal", 0) + "\n")
    with pytest.raises(ValueError, match="'Bengal_0' twice"):
        _collect(pets, split="official")
    (pets / "annotations/test.txt").write_text("Bombay_1 3 1 2\n")
    with pytest.raises(ValueError, match="breed 3 is both 'Bengal' and 'Bombay'"):
        _collect(pets, classes="breed")
    assert _collect(pets).class_names == ("cat", "dog")
    (pets / "annotations/test.txt").write_text("Bombay_1 6 1 2\n")
    with pytest.raises(ValueError, match="no image in the lists has breed 5"):
        _collect(pets, classes="breed")


def test_folders_that_are_missing_and_trimaps_that_are_few_are_said(pets):
    (pets / "annotations/trimaps/Bengal_4.png").unlink()
    (warning,) = _collect(pets, split="official").warnings
    assert "1 of 20 images of train have no mask" in warning
    (pets / "annotations/trimaps").rename(pets / "annotations/Trimap")
    with pytest.raises(ConfigError, match=r"trimaps is not a folder; did you mean 'Trimap'"):
        _collect(pets)
    (pets / "annotations/Trimap").rename(pets / "xmls")
    assert "no image has a mask" in _collect(pets).warnings[0]
    (pets / "images").rename(pets / "Images")
    with pytest.raises(ConfigError, match=r"images is not a folder; did you mean 'Images'"):
        _collect(pets)


def _write_head(pets, name, kind, corners):
    (pets / "annotations/xmls").mkdir(exist_ok=True)
    sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    box = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    (pets / f"annotations/xmls/{name}.xml").write_text(
        "<annotation><size><width>4</width><height>3</height></size>"
        f"<object><name>{kind}</name><bndbox>{box}</bndbox></object></annotation>"
    )


def test_heads_are_points_and_never_boxes(pets):
    """XMLs count from 1 and hold their last pixel: columns 2 and 3 have their middle at 2."""
    _write_head(pets, "Bengal_0", "cat", (2, 1, 3, 3))
    assert not _collect(pets).offers
    raw = _collect(pets, heads="points", classes="breed")
    assert raw.offers == {"points"}
    found = {sample.name: sample for sample in _every(raw)}
    (point,) = found["Bengal_0"].points
    assert (point.class_id, point.x, point.y) == (3, 2.0, 1.5)
    assert not any(sample.boxes for sample in found.values())
    assert not found["Bengal_1"].points


def test_heads_that_do_not_fit_are_errors(pets):
    with pytest.raises(
        ConfigError, match=r"dataset\.heads is points, but .*xmls has the box of no"
    ):
        _collect(pets, heads="points")
    _write_head(pets, "Bengal_0", "dog", (2, 1, 3, 3))
    with pytest.raises(ValueError, match=r"object 1 is a 'dog', but .* 'Bengal_0' shows a cat"):
        _collect(pets, heads="points")
    _write_head(pets, "Bengal_0", "cat", (3, 1, 2, 3))
    with pytest.raises(ValueError, match="has no box with xmin below xmax"):
        _collect(pets, heads="points")
