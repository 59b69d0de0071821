"""Registering the project's segmenter: what the version says, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from wsss.artifacts import Paths, contents, read_json
from wsss.config.params import load_params
from wsss.prediction.store import PACKAGE, ModelStore
from wsss.serving.registering import register_segmenter
from wsss.tracking import tracking_uri
from wsss.tracking.registered import Version


def register(root: Path, name: str = "wsss") -> tuple[Version, bool]:
    return register_segmenter(root, load_params(root / "params.yaml"), name)


def test_a_version_has_recipe_data_and_scores(project: Path) -> None:
    version, is_new = register(project)
    assert is_new and version.label == "wsss/1"
    (listed,) = ModelStore(project).versions()
    report = read_json(project / "reports/evaluate_segmenter.json")
    lock = yaml.safe_load((project / "dvc.lock").read_text())["stages"]
    tags = listed.tags
    assert float(tags["val/mean_iou"]) == report["val"]["mean_iou"]
    assert json.loads(tags["val/iou"]) == report["val"]["iou"]
    assert tags["val/images"] == "4"
    assert tags["recipe"] == "synthetic_cam"
    assert tags["classes"] == "x, y" and tags["background"] == "true"
    assert tags["segmenter"] == contents(Paths(project).segmenter)
    assert len(tags["git.rev"]) == 40
    deps = {item["path"]: item["md5"] for item in lock["train_segmenter"]["deps"]}
    assert tags["upstream.data/images"] == deps["data/images"]
    assert "upstream.data/masks" in tags

    from mlflow.tracking import MlflowClient

    run = MlflowClient(tracking_uri(project)).get_run(listed.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["val/mean_iou"] == report["val"]["mean_iou"]
    assert run.data.metrics["classes/val/iou/x"] == report["val"]["iou"]["x"]
    assert run.data.params["predict_masks.scales"] == "[1.0]"
    assert run.data.tags["stage"] == "register_model"


def test_texts_go_into_the_package(project: Path, tmp_path: Path) -> None:
    params = load_params(project / "params.yaml")
    version, _ = register_segmenter(project, params, "wsss", {"card.md": "# A card\n"})
    folder = ModelStore(project).fetch(version, tmp_path)
    assert (folder / "card.md").read_text() == "# A card\n"
    assert register_segmenter(project, params, "wsss", {"card.md": "# A card\n"})[1] is False
    assert register_segmenter(project, params, "wsss", {"card.md": "# Another\n"})[1] is True


def test_the_command_takes_a_card_along(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wsss.cli.models import register as command

    monkeypatch.chdir(project)
    command(licence=["data=cc0-1.0"])
    (version,) = ModelStore(project).versions()
    card = read_json(ModelStore(project).fetch(version, tmp_path) / "card.json")
    report = read_json(project / "reports/evaluate_segmenter.json")
    assert card["scores"]["val"]["mean_iou"] == report["val"]["mean_iou"]
    assert card["classes"] == ["x", "y"] and "cc0-1.0" in card["licences"]
    command(licence=["data=cc0-1.0"])
    assert len(ModelStore(project).versions()) == 1


def test_the_same_model_is_registered_once(
    project: Path, train: Callable[[Path, int], None]
) -> None:
    register(project)
    assert register(project)[1] is False
    assert register(project, "other")[0].label == "other/1"
    train(project, 1)
    version, is_new = register(project)
    assert is_new and version.label == "wsss/2"
    assert [item.label for item in ModelStore(project).versions("wsss")] == ["wsss/1", "wsss/2"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("model", "models/segmenter is another than predict_masks has read"),
        ("settings", "predict_masks.flip of params.yaml is another"),
        ("report", "is not the one that `dvc repro` made"),
        ("no report", "evaluate_segmenter.json is not there"),
        ("no lock", "dvc.lock does not know it"),
    ],
)
def test_a_stale_report_is_refused_with_what_mends_it(
    project: Path, change: str, said: str, train: Callable[[Path, int], None]
) -> None:
    report, params = project / "reports/evaluate_segmenter.json", project / "params.yaml"
    if change == "model":
        weights = Paths(project).segmenter / "weights.safetensors"
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(data)
    elif change == "settings":
        params.write_text(params.read_text().replace("flip: true", "flip: false"))
    elif change == "report":
        report.write_text(report.read_text().replace("0.", "0.9"))
    elif change == "no report":
        report.unlink()
    else:
        (project / "dvc.lock").unlink()
    with pytest.raises(ValueError, match=said) as error:
        register(project)
    assert "run `dvc repro evaluate_segmenter`" in str(error.value)
    assert ModelStore(project).versions() == []
    train(project, 5)  # what the command does
    assert register(project)[1]


def test_no_segmenter_is_said(project: Path) -> None:
    shutil.rmtree(Paths(project).segmenter)
    with pytest.raises(ValueError, match=r"no segmenter in .*dvc repro evaluate_segmenter.*pull"):
        register(project)


def test_a_project_without_dvc_is_told_to_become_one(project: Path) -> None:
    (project / ".dvc").rmdir()
    (project / "dvc.lock").unlink()
    commands = "`wsss run evaluate_segmenter`, `dvc init` and `dvc commit --force`"
    with pytest.raises(ValueError, match=f"dvc.lock does not know it; run {commands}"):
        register(project)
    shutil.rmtree(Paths(project).segmenter)
    with pytest.raises(ValueError, match=r"`wsss run evaluate_segmenter` trains and scores one$"):
        register(project)


def test_a_model_that_predicts_something_else_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wsss.prediction import Predicted
    from wsss.prediction.served import ServedModel

    predict = ServedModel.predict
    monkeypatch.setattr(
        ServedModel,
        "predict",
        lambda self, images: [Predicted((found.mask + 1) % 3) for found in predict(self, images)],
    )
    said = r"a\.png, in \d+ % of its pixels; run `dvc repro --single-item --force predict_masks`"
    with pytest.raises(ValueError, match=said):
        register(project)
    assert ModelStore(project).versions() == []


def test_no_place_of_this_machine_is_in_the_model(
    project: Path, rescore: Callable[[Path], None]
) -> None:
    values = yaml.safe_load((project / "params.yaml").read_text())
    photos = project.parent / "home" / "photos"
    photos.mkdir(parents=True)
    values["prepare_data"] = {"dataset": {"name": "folder", "root": str(photos)}}
    (project / "params.yaml").write_text(yaml.safe_dump(values))
    rescore(project)
    version, _ = register(project)
    folder = project / "mlartifacts" / "fetched"
    folder.mkdir()
    package = ModelStore(project).fetch(version, folder)
    recipe = read_json(package / "recipe.json")
    assert recipe["prepare_data"]["dataset"]["root"] == "photos"
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri(project))
    model = Path(client.download_artifacts(version.run_id, "model"))
    for file in model.rglob("*"):
        if file.is_file():
            assert str(project.parent).encode() not in file.read_bytes(), file
    assert version.tags[PACKAGE] == contents(package)
    assert "wsss[pipeline]==" in (model / "requirements.txt").read_text()
