import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from wsss import sources
from wsss.artifacts import contents, fingerprint
from wsss.settings import Settings


def test_fingerprint_follows_values_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("1")

    def key(value: object = 1) -> str:
        return fingerprint(value, {"b": 2, "a": 1}, files=[tmp_path / "in"])

    first = key()
    assert first == key()
    assert first == fingerprint(1, {"a": 1, "b": 2}, files=[tmp_path / "in"])
    assert first != key(2)
    (tmp_path / "in" / "a").write_text("2")
    assert first != key()
    (tmp_path / "in" / "a").write_text("1")
    (tmp_path / "in" / "a").rename(tmp_path / "in" / "b")
    assert first != key()


def test_contents_are_the_same_wherever_a_folder_lies(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep/x").write_text("1")
    shutil.copytree(folder, tmp_path / "elsewhere/b")
    assert contents(folder) == contents(tmp_path / "elsewhere/b")
    (folder / "deep/x").rename(folder / "x")
    assert contents(folder) != contents(tmp_path / "elsewhere/b")
    assert contents(tmp_path / "nothing") not in (contents(folder), contents(folder / "x"))


def test_many_files_are_hashed_as_few_are(tmp_path: Path) -> None:
    for at in range(70):
        (tmp_path / f"{at:03}").write_text(str(at))
    first = contents(tmp_path)
    (tmp_path / "069").write_text("x")
    assert contents(tmp_path) != first
    (tmp_path / "069").write_text("69")
    assert contents(tmp_path) == first


class Network(Settings):
    weights: str = "none"


class Nested(Settings):
    networks: dict[str, Network]
    checkpoint: str = ""
    folder: str = ""


class TestFilesThatSettingsName:
    def test_are_those_that_exist(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HERE", str(tmp_path))
        monkeypatch.delenv("NOWHERE", raising=False)
        (tmp_path / "a").mkdir()
        (tmp_path / "b.pth").write_text("b")
        names = ("none", "hub", "$HERE/b.pth", "${HERE}/c.pth", "$NOWHERE/b.pth", "")
        networks = {f"{at}": Network(weights=name) for at, name in enumerate(names)}
        settings = Nested(networks=networks, checkpoint="$HERE/a", folder="a")
        assert settings.files() == [tmp_path / "b.pth", tmp_path / "a"]

    def test_count_with_their_contents_wherever_they_are(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings = Nested(checkpoint="$HERE/sam", networks={"a": Network(weights="$HERE/w.pth")})
        keys = set()
        for place, change in (
            ("one", None),
            ("same", None),
            ("notes", "sam/.cache/time"),
            ("content", "sam/model"),
            ("weights", "w.pth"),
            ("name", "sam/further"),
        ):
            here = tmp_path / place
            (here / "sam/.cache").mkdir(parents=True)
            for name in ("sam/model", "sam/.cache/time", "w.pth"):
                (here / name).write_text("as it was")
            if change:
                (here / change).write_text("as it is")
            monkeypatch.setenv("HERE", str(here))
            keys.add(key := fingerprint(settings))
            assert fingerprint(settings) == key
            assert fingerprint([settings]) not in keys
            if place == "notes":
                assert len(keys) == 1
        assert len(keys) == 4

    def test_are_read_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        read: list[Path] = []
        digest = sources._hash

        def counted(file: str) -> str:
            read.append(Path(file))
            return digest(file)

        monkeypatch.setattr(sources, "_hash", counted)
        file = tmp_path / "w.pth"
        file.write_text("1")
        os.utime(file, (1, 1))
        values: list[Any] = [Network(weights=str(file)), Nested(checkpoint=str(file), networks={})]
        for _ in range(2):
            fingerprint(*values)
        assert read == [file]
        file.write_text("another")
        os.utime(file, (2, 2))
        fingerprint(*values)
        assert read == [file, file]
