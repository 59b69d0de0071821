"""What people name: files, folders, patterns and lists, each image once and under its own name."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from wsss.prediction.sources import find_sources


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Writes small images by name below the current folder."""
    monkeypatch.chdir(tmp_path)

    def images(*names: str) -> None:
        for name in names:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4)).save(name)

    return images


def named(*arguments: str, lines: tuple[str, ...] = (), without: str = "") -> dict[str, str]:
    found = find_sources(arguments, lines, Path(without) if without else None)
    return {source.name: str(source.path) for source in found.found}


Write = Callable[..., None]


def test_files_folders_and_patterns(write: Write) -> None:
    write("p/a.jpg", "p/b/c.png", "q/d.png")
    Path("p/notes.txt").touch()
    assert named("p/a.jpg") == {"a": "p/a.jpg"}
    assert named("p") == {"a": "p/a.jpg", "b/c": "p/b/c.png"}
    assert named("p/**/*") == {"a": "p/a.jpg", "c": "p/b/c.png"}
    assert named("*/*.png", "p") == {"a": "p/a.jpg", "b/c": "p/b/c.png", "d": "q/d.png"}
    assert named("p/a.jpg", "./p/../p/a.jpg") == {"a": "p/a.jpg"}
    assert list(named("q/d.png", "p/a.jpg")) == ["a", "d"]
    Path("clip.mp4").touch()
    (source,) = find_sources(["clip.mp4"]).found
    assert source.is_video and source.name == "clip"


def test_a_list_may_name_what_is_not_there(write: Write) -> None:
    write("p/a.jpg", "p/ b.jpg")
    lines = ("p/a.jpg\n", "\n", "p/ b.jpg\r\n", "p/c.jpg\n")
    found = find_sources(["-"], lines)
    assert [source.name for source in found.found] == [" b", "a"]
    assert found.missing == (("p/c.jpg", "there is no such file"),)
    with pytest.raises(ValueError, match=r"none of the 1 files of the list .* such as p/c\.jpg"):
        find_sources(["-"], lines[-1:])


def test_two_of_one_name_are_named_by_their_folders(write: Write) -> None:
    write("x/1/a.jpg", "x/2/a.jpg", "x/2/b.jpg")
    expected = {"1/a": "x/1/a.jpg", "2/a": "x/2/a.jpg", "2/b": "x/2/b.jpg"}
    assert named("x/1", "x/2") == expected
    assert named("x/1/a.jpg", "x/2/a.jpg", "x/2/b.jpg") == expected
    assert named("x/1/a.jpg") == {"a": "x/1/a.jpg"}
    write("x/1/a.png")
    with pytest.raises(ValueError, match=r"x/1/a\.jpg and x/1/a\.png differ in their suffix alone"):
        named("x/1/a.jpg", "x/1/a.png")


def test_masks_that_are_there_are_no_images(write: Write) -> None:
    write("p/a.jpg", "p/out/a.png")
    assert named("p", without="p/out") == {"a": "p/a.jpg"}
    assert named("p/**/*.*", without="p/out") == {"a": "p/a.jpg"}
    assert named("p/*.jpg", without="p") == {"a": "p/a.jpg"}
    assert named("p/a.jpg", without="p") == {"a": "p/a.jpg"}
    for folder in ("p", "."):
        with pytest.raises(ValueError, match=r"p is searched for images, and masks would lie"):
            named("p", without=folder)


def test_the_folder_that_all_are_below(write: Write) -> None:
    write("x/1/a.jpg", "x/2/a.jpg")
    assert find_sources(["x/1/a.jpg", "x/2"]).folder == Path.cwd() / "x"
    assert find_sources(["x/1"]).folder == Path.cwd() / "x/1"


def test_a_file_with_two_names_counts_once(write: Write) -> None:
    write("p/a.jpg")
    Path("p/z.jpg").symlink_to("a.jpg")
    assert list(named("p/a.jpg", "p/z.jpg")) == ["a"]


def test_videos_of_a_folder_are_named_themselves(write: Write) -> None:
    Path("clips/x").mkdir(parents=True)
    Path("clips/x/a.MP4").touch()
    with pytest.raises(ValueError, match=r"such as 'clips/\*\*/\*\.MP4'"):
        named("clips")
    assert named("clips/**/*.MP4") == {"a": "clips/x/a.MP4"}


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("p/b.jpg", r"there is no file p/b\.jpg; p has a\.jpg"),
        ("q", "there is no folder q; did you mean p|there is no folder q; name files"),
        ("phptos", "there is no folder phptos; did you mean photos"),
        ("p/*.tif", r"nothing fits the pattern 'p/\*\.tif'"),
        ("p/*.txt", r"there is no image in p/\*\.txt; name files, folders"),
        ("empty", "empty holds no image"),
    ],
)
def test_what_is_not_there_is_said(write: Write, argument: str, said: str) -> None:
    write("p/a.jpg", "photos/a.jpg")
    Path("empty").mkdir()
    Path("p/a.txt").touch()
    with pytest.raises(ValueError, match=said):
        named(argument)
