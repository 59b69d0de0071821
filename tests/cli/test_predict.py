"""`wsss predict` as a person types it: what is said, what is written, what is refused."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from wsss.artifacts import read_label_png
from wsss.cli.app import app

COLOURS = np.array([[0, 0, 255], [255, 0, 0], [0, 255, 0]], np.uint8)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, colour_segmenter: Callable[..., Path]) -> Path:
    root = tmp_path_factory.mktemp("made")
    colour_segmenter(root)
    (root / "params.yaml").write_text("predict_masks: {scales: [1.0], flip: false}\n")
    return root


@pytest.fixture
def model(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A project beside the current folder, in which are photos and nothing else."""
    monkeypatch.chdir(tmp_path)
    return str(made)


def write(name: str, size: tuple[int, int] = (32, 64), **options: Any) -> np.ndarray:
    """Write an image of random colours; its mask is given."""
    mask = np.random.default_rng(len(name)).integers(0, 3, size).astype(np.uint8)
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(COLOURS[mask]).save(name, **options)
    return mask


def wsss(*arguments: str, code: int = 0, stdin: str = "") -> Any:
    result = CliRunner().invoke(app, ["predict", *arguments, "--device", "cpu"], input=stdin)
    assert result.exit_code == code, result.output
    return result


def test_a_folder_becomes_masks_and_is_not_done_twice(model: str) -> None:
    masks = {name: write(f"photos/{name}.png") for name in ("a", "bb", "c/ddd")}
    said = wsss(model, "photos", "--out", "out").stdout
    for name, mask in masks.items():
        assert np.array_equal(read_label_png(Path("out", f"{name}.png")), mask)
    assert "3 masks in out\n" in said
    shares = np.bincount(np.concatenate([mask.ravel() for mask in masks.values()])) / (3 * 32 * 64)
    names = ("background", "red", "green")
    listed = ", ".join(f"{n} {100 * s:.1f} %" for n, s in zip(names, shares, strict=True))
    assert f"pixels: {listed}\n" in said
    assert "to see the masks over their images, add --overlay to the same command" in said
    again = wsss(model, "photos", "--out", "out", "--overlay").stdout
    assert "3 masks in out\n" in again and "look at the files .overlay.jpg in out" in again
    assert "3 masks in out (0 new, 3 were there)" in wsss(model, "photos", "--out", "out").stdout
    assert Path("out/c/ddd.overlay.jpg").exists()


def test_how_files_were_read_is_said(model: str) -> None:
    mask = write("photos/turned.png", exif=_on_its_side())
    values = np.random.default_rng(0).integers(0, 4000, (32, 64)).astype(np.uint16)
    Image.fromarray(values).save("photos/deep.png")
    said = wsss(model, "photos", "--out", "out").stdout
    assert "read as training images are: 1 16-bit, 1 grey, 1 rotated" in said
    assert "1 images use few of their 16 bits" in said
    assert np.array_equal(read_label_png(Path("out/turned.png")), np.rot90(mask, -1))


def _on_its_side() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def test_a_list_on_stdin_and_tags_for_all(model: str) -> None:
    mask = write("photos/a.png")
    said = wsss(model, "-", "--out", "out", "--tags", "green, red", stdin="photos/a.png\n").stdout
    assert "1 mask in out\n" in said
    assert np.array_equal(read_label_png(Path("out/a.png")), mask)
    wsss(model, "photos/a.png", "--out", "none", "--tags", "none")
    assert not read_label_png(Path("none/a.png")).any()
    failed = wsss(model, "-", "--out", "out", stdin="photos/a.png\nphotos/b.png\n", code=1)
    assert "1 file has no mask, as out/predict.failed.txt says" in failed.stderr
    assert "photos/b.png: there is no such file" in failed.stderr
    assert "1 mask in out" in failed.stdout


def test_tags_of_a_table(model: str) -> None:
    masks = {name: write(f"photos/{name}.png") for name in ("a", "bb", "ccc")}
    Path("tags.csv").write_text("image,tags\na.png,red\nbb.png,none\n")
    said = wsss(model, "photos", "--out", "out", "--tags", "tags.csv").stderr
    assert "tags.csv has no tags of 1 images, of which all classes may be found: 'ccc'" in said
    found = {name: read_label_png(Path(f"out/{name}.png")) for name in masks}
    assert set(np.unique(found["a"])) == {0, 1} and (found["a"][masks["a"] == 1] == 1).all()
    assert not found["bb"].any()
    assert np.array_equal(found["ccc"], masks["ccc"])


def test_a_geotiff_gives_a_geotiff(model: str) -> None:
    mask = np.random.default_rng(0).integers(0, 3, (32, 64)).astype(np.uint8)
    tags = {33550: (0.5, 0.5, 0.0), 33922: (0.0, 0.0, 0.0, 500000.0, 5600000.0, 0.0)}
    keys = (1, 1, 0, 1, 3072, 0, 1, 25832)
    extra = [(code, "d", len(value), value, True) for code, value in tags.items()]
    extra.append((34735, "H", len(keys), keys, True))
    Path("maps").mkdir()
    tifffile.imwrite("maps/a.tif", COLOURS[mask], photometric="rgb", extratags=extra)
    tifffile.imwrite("maps/b.tif", COLOURS[mask], photometric="rgb")
    wsss(model, "maps", "--out", "out")
    with Image.open("out/a.tif") as found:
        held: Any = found
        assert np.array_equal(np.asarray(found), mask)
        assert held.tag_v2[34735] == keys
        assert {code: held.tag_v2[code] for code in tags} == tags
    assert np.array_equal(read_label_png(Path("out/b.png")), mask)
    assert not Path("out/a.png").exists() and not Path("out/b.tif").exists()


def test_settings_in_place_of_the_models(model: str) -> None:
    values = np.random.default_rng(0).integers(0, 3, (32, 64))
    layers = np.zeros((32, 64, 5), np.uint16)
    for band, colour in ((4, 1), (2, 2), (0, 0)):
        layers[..., band] = (values == colour) * 1000
    Path("maps").mkdir()
    options: dict[str, Any] = {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite("maps/a.tif", layers, **options)
    failed = wsss(model, "maps", "--out", "out", code=1).stderr
    assert "set prepare_data.bands" in failed
    assert "--set 'prepare_data.bands=[0, 1, 2]'" in failed
    settings = ("prepare_data.bands=[4, 2, 0]", "prepare_data.pixel_range=[0, 1000]")
    options_ = [part for item in settings for part in ("--set", item)]
    said = wsss(model, "maps", "--out", "out", *options_, code=1).stderr
    assert "out holds masks of other settings (prepare_data.bands was null and is [4, 2, 0]" in said
    wsss(model, "maps", "--out", "other", *options_)
    assert np.array_equal(read_label_png(Path("other/a.png")), values)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere", "a.png", "--out", "out"), "nowhere is no model: there is no such file"),
        (("MODEL", "b.png", "--out", "out"), "there is no file b.png"),
        (("MODEL", "a.png", "--out", "a.png"), "--out a.png is a file; name a folder"),
        (("MODEL", "a.png", "--out", "out", "--tags", "rde"), "did you mean 'red'"),
        (("MODEL", "a.png", "--out", "out", "--tags", "t.csv"), "there is no file of tags t.csv"),
        (("MODEL", "a.png", "--out", "out", "--every", "3"), "--every 3 is of videos"),
        (("MODEL", "a.png", "--out", "out", "--set", "predict_masks.windw=3"), "did you mean"),
        (("MODEL", "a.png", "--out", "out", "--set", "predict_masks.window"), "must be key=value"),
        (("MODEL", "a.png", "--out", "."), "1 files are there that no prediction has made"),
    ],
)
def test_what_is_wrong_is_said_before_the_work(
    model: str, arguments: tuple[str, ...], said: str
) -> None:
    write("a.png")
    before = Path("a.png").read_bytes()
    result = wsss(*(model if item == "MODEL" else item for item in arguments), code=1)
    assert said in " ".join(result.stderr.split()), result.stderr
    assert Path("a.png").read_bytes() == before
    assert not list(Path().glob("out/*.png"))


def test_videos_need_what_reads_them(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.mp4").touch()
    monkeypatch.setattr("wsss.prediction.reading.find_spec", lambda name: None)
    said = wsss(model, "a.mp4", "--out", "out", code=1).stderr
    assert "pip install 'wsss[video]'" in said


def test_ctrl_c_is_told(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from wsss.prediction.served import ServedModel

    write("a.png")

    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ServedModel, "predict", stopped)
    said = wsss(model, "a.png", "--out", "out", code=130).stderr
    assert "wsss predict was stopped by Ctrl-C. What is done is kept" in said


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom wsss.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'mlflow', 'torch', 'numpy', 'scipy'} & sys.modules.keys()))\n"
    )
    command = [sys.executable, "-c", code, "predict", "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_record_says_what_the_values_mean(model: str) -> None:
    write("a.png")
    wsss(model, "a.png", "--out", "out")
    known = json.loads(Path("out/predict.json").read_text())
    assert known["classes"][0] == {"id": 1, "name": "red", "colour": [128, 0, 0]}
    assert known["settings"]["scales"] == [1.0] and known["has_background"] is True
