"""A model from wherever it is: a project, a package, MLflow's registry or a run of it, a file."""

import importlib
import re
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from wsss.artifacts import Paths, contents, read_json
from wsss.checks import did_you_mean
from wsss.commands import or_pull, run_command
from wsss.config.sections import MachineSettings
from wsss.prediction._base import Model
from wsss.prediction.changing import changed_images, with_changes
from wsss.prediction.files import ModelFiles
from wsss.prediction.package import PREDICTION, read_package
from wsss.prediction.project import read_segmenter

__all__ = ["PACKAGE", "machine_of", "open_model"]

_FORMS = (
    "name models/segmenter of a project, a package, a registered model such as "
    "models:/wsss@champion, a run's such as runs:/<run>/model, or an .onnx file"
)
PACKAGE = "artifacts/package"
"""Where a model of MLflow has its package."""


def open_model(
    place: str | Path, device: str = "auto", settings: Mapping[str, Any] | None = None
) -> Model:
    """Open a trained segmenter, whole: what it needs is in memory, or lies where it stays.

    Args:
        place: one of

            - a folder models/segmenter, or the project that has one: it predicts as predict_masks
              of the project's params.yaml; a copy elsewhere as the defaults of predict_masks say;
            - a package, as a version of `wsss models register` has one, or a model of MLflow with
              one in it;
            - "models:/NAME", "models:/NAME@ALIAS" or "models:/NAME/NUMBER", or
              "runs:/RUN/PATH", of the MLflow of MLFLOW_TRACKING_URI, else of the project in the
              current folder;
            - an .onnx file.
        device: auto takes a GPU if there is one; or cpu, cuda, mps.
        settings: values that replace the model's, by their keys in params.yaml, such as
            {"predict_masks.window": 1024}; see `wsss.prediction.changing`.

    Raises:
        ValueError: there is no model, it is damaged, or there is no such device or setting; the
            text says what to name.
        ConnectionError: MLflow cannot be asked.
    """
    machine = machine_of(device)
    text = str(place)
    if text.startswith(("models:/", "runs:/")):
        return _from_mlflow(text, machine, settings or {})
    path = Path(place).expanduser()
    if path.suffix == ".onnx" and path.is_file():
        inside = [key for key in settings or () if not key.startswith("prepare_data.")]
        if inside:
            raise ValueError(
                f"'{inside[0]}' of {text} is within the file; change it before `wsss export`"
            )
        model: Any = importlib.import_module("wsss.prediction.onnx_model").OnnxModel(path)
        if settings:
            model.about["images"] = changed_images(model.about["images"], settings)
        found: Model = model
        return found
    return _opened(_files_at(path, text, machine), text, machine, settings or {})


def machine_of(device: str) -> MachineSettings:
    """Where a model runs, of auto, cpu, cuda or mps. Raises ValueError where there is none such."""
    known = get_args(MachineSettings.model_fields["accelerator"].annotation)
    if device not in known:
        raise ValueError(f"the device is '{device}'; {did_you_mean(device, known)}")
    if device in ("cuda", "mps"):
        from wsss.loading.devices import check_devices

        check_devices(device, 1)
    return MachineSettings(accelerator=device)  # type: ignore[arg-type]


def _files_at(path: Path, text: str, machine: MachineSettings) -> ModelFiles:
    """What a folder holds that is a model, or has one in it."""
    if not path.exists():
        name = re.fullmatch(r"[^/:@]+@[^/:@]+", text)
        hint = f"for a registered model write models:/{text}" if name else _FORMS
        raise ValueError(f"{text} is no model: there is no such file or folder; {hint}")
    if path.is_file():
        raise ValueError(f"{text} is a file that is no model; {_FORMS}")
    if (path / PREDICTION).exists():
        return read_package(path)
    if (path / "MLmodel").exists() and (path / PACKAGE).is_dir():
        return _of_mlflow_model(path)
    if (path / "model.json").exists():
        return read_segmenter(path, machine.accelerator)
    if (Paths(path).segmenter / "model.json").exists():
        return read_segmenter(Paths(path).segmenter, machine.accelerator)
    if (path / "params.yaml").exists():
        raise ValueError(
            f"{text} is a project without a trained segmenter: {Paths(path).segmenter} is not "
            f"there; `{run_command(path, 'train_segmenter')}` trains one{or_pull(path)}"
        )
    raise ValueError(f"{text} is a folder that holds no model; {_FORMS}")


def _from_mlflow(text: str, machine: MachineSettings, settings: Mapping[str, Any]) -> Model:
    from wsss.prediction.store import ModelStore, Wanted

    store = ModelStore(Path())
    # held by the model: a source of mask proposals may read files of the package later
    folder = tempfile.TemporaryDirectory(prefix="wsss-")
    if text.startswith("models:/"):
        version = store.find(Wanted.read(text))
        files = read_package(store.fetch(version, Path(folder.name)))
        scores = {
            key: float(value) for key, value in version.tags.items() if key.endswith("/mean_iou")
        }
        about = {"version": version.label, "scores": scores}
    else:
        run = re.fullmatch(r"runs:/([^/]+)/(.+)", text)
        if run is None:
            raise ValueError(f"'{text}' names no model of a run; write runs:/<run>/model")
        fetched = store.fetch_run(run[1], run[2], Path(folder.name))
        files, about = _files_at(fetched, text, machine), {"run": run[1]}
    model: Any = _opened(replace(files, about=files.about | about), text, machine, settings)
    model.held = folder
    found: Model = model
    return found


def _of_mlflow_model(folder: Path) -> ModelFiles:
    """The package in a model of MLflow, which has to be the one that was put there."""
    from wsss.config.yaml_text import load_yaml, read_text

    package, file = folder / PACKAGE, folder / "MLmodel"
    known = load_yaml(read_text(file), str(file)).get("metadata") or {}
    if known.get("package") not in (None, contents(package)):
        raise ValueError(
            f"what {folder} holds is not what was registered: the hash of its package is "
            f"{contents(package)[:12]}… and was {known['package'][:12]}…; fetch it again"
        )
    files = read_package(package)
    scores = {"scores": known["scores"]} if known.get("scores") else {}
    return replace(files, about=files.about | scores)


def _opened(
    files: ModelFiles, text: str, machine: MachineSettings, settings: Mapping[str, Any]
) -> Model:
    if settings:
        files = with_changes(files, settings)
    from wsss.prediction.served import ServedModel

    spec = read_json(files.segmenter / "model.json")
    known = {key: spec[key] for key in ("arch", "encoder") if spec.get(key)}
    how = files.settings.model_dump(mode="json", exclude={"splits"})
    about = {"place": text, **known, **files.about, "settings": how, "key": files.key()}
    return ServedModel(replace(files, about=about), machine)
