"""`wsss data list` and `wsss data get`."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from wsss import downloads
from wsss.cli.app import app
from wsss.downloads import DATA_SETS


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["data", *arguments])
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture(autouse=True)
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_list_names_all_with_size_and_licence():
    code, text = run("list")
    assert code == 0
    for name, data_set in DATA_SETS.items():
        assert f"{name}: {data_set.about}" in text and data_set.licence in text
    assert "1907 MiB to fetch" in text and "ask for it at the page" in text


def test_get_says_where_it_lies_and_what_to_paste(tmp_path, monkeypatch):
    asked = []

    def get_data_set(name, folder, table):
        asked.append((name, folder))
        return folder / name, len(asked) == 1

    monkeypatch.setattr(downloads, "get_data_set", get_data_set)
    code, text = run("get", "pets", "--to", "in/here")
    assert code == 0 and "in/here/pets: fetched" in text
    assert f"root: {tmp_path}/in/here/pets" in text and "CC BY-SA" in text
    assert "no checksum" not in text
    assert "it is there already" in run("get", "pets", "--to", "in/here")[1]
    assert "nobody has published a checksum" in run("get", "stanford_background", "--to", "x")[1]
    assert asked[0] == ("pets", Path("in/here"))


@pytest.mark.parametrize(
    ("name", "words"), [("pet", "did you mean 'pets'?"), ("smoke5k", "ask its authors")]
)
def test_what_cannot_be_fetched_fails_in_plain_words(name, words):
    code, text = run("get", name, "--to", "x")
    assert code == 1 and words in text and "Traceback" not in text


def test_ctrl_c_says_that_the_same_command_goes_on(monkeypatch):
    def get_data_set(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(downloads, "get_data_set", get_data_set)
    code, text = run("get", "pets", "--to", "x")
    assert code == 130 and "what was fetched is kept in x; the same command goes on" in text
