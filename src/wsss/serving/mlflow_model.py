"""A package as a model of MLflow, for `mlflow.pyfunc.load_model` and `mlflow models serve`."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import yaml
from mlflow.models import ModelSignature
from mlflow.types import DataType, ParamSchema, ParamSpec, Schema, TensorSpec

from wsss.artifacts import contents, read_json
from wsss.prediction.at_learned_size import predict_at_learned_size
from wsss.prediction.package import PREDICTION, read_package
from wsss.serving.encoded import encoded_image, encoded_mask, images_of

__all__ = ["ARTIFACT", "SegmenterModel", "requirements", "save_model", "signature"]

ARTIFACT = "package"
"""The name of the package among the artifacts of the model."""

_REQUIRED = (
    "torch",
    "torchvision",
    "timm",
    "segmentation-models-pytorch",
    "lightning-fabric",
    "safetensors",
    "numpy",
    "pillow",
    "pydantic",
)


class SegmenterModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Images to masks of class ids; see `wsss.prediction.served.ServedModel`."""

    _skip_type_hint_validation = True  # or MLflow warns whoever loads the model

    def load_context(self, context: Any) -> None:
        """Read the package; MLflow calls it once."""
        from wsss.prediction.served import ServedModel

        self._model = ServedModel(read_package(Path(context.artifacts[ARTIFACT])))

    # MLflow takes a type of model_input for a signature, and has none for what comes here
    def predict(self, context: Any, model_input, params: dict[str, Any] | None = None) -> Any:  # type: ignore[no-untyped-def]
        """Masks of images.

        Args:
            context: of MLflow.
            model_input (Any): as of `wsss.serving.encoded.images_of`.
            params: `crf: false` leaves out the dense CRF that predict_masks was set to.

        Returns:
            Of arrays (N, H, W) uint8 class ids, of images of several sizes N of (H, W) in an array
            of objects; of texts the base64 texts of PNG files with these values.
        """
        images, are_texts = images_of(model_input)
        predicted = predict_at_learned_size(
            self._model, images, crf=(params or {}).get("crf", True)
        )
        masks = [found.mask for found in predicted]
        if are_texts:
            return np.array([encoded_mask(mask) for mask in masks], object)
        if len({mask.shape for mask in masks}) == 1:
            return np.stack(masks)
        found = np.empty(len(masks), object)
        found[:] = masks
        return found


def signature() -> ModelSignature:
    """What the model takes and gives, as MLflow shows it.

    A tensor of uint8 with the shape (-1, -1, -1, 3) says more; MLflow refuses texts then, and a
    served model would take numbers alone, at ten times the bytes of a PNG. A tensor of objects
    takes both, and images of several sizes.
    """
    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(object), (-1,))]),
        outputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1))]),
        params=ParamSchema([ParamSpec("crf", DataType.boolean, True)]),
    )


def requirements() -> list[str]:
    """What the model needs, in the versions that are installed.

    Builds of one's own, such as 2.11.0+cu130, are named by their public version.
    """
    found = [f"wsss[pipeline]=={_version('wsss')}"]
    return [*found, *(f"{name}=={known}" for name in _REQUIRED if (known := _version(name)))]


def save_model(package: Path, folder: Path, example: np.ndarray, metadata: dict[str, Any]) -> None:
    """Write a model of MLflow with a package in it.

    Args:
        package: the folder, which is copied.
        folder: to write; it must not be there.
        example: (H, W, 3) uint8, an image as it may come.
        metadata: plain values that go with it.
    """
    known = read_json(package / PREDICTION)
    mlflow.pyfunc.save_model(
        str(folder),
        python_model=str(Path(__file__).with_name("model_from_code.py")),
        artifacts={ARTIFACT: str(package)},
        signature=signature(),
        input_example=pd.DataFrame({"image": [encoded_image(example)]}),
        pip_requirements=requirements(),
        metadata={
            "class_names": list(known["class_names"]),
            "has_background": known["has_background"],
            "package": contents(package),
            **metadata,
        },
    )
    _forget_places(folder / "MLmodel")


def _forget_places(file: Path) -> None:
    """Leave out of MLflow's description where on this machine the package was."""
    known = yaml.safe_load(file.read_text(encoding="utf-8"))
    flavor = known["flavors"]["python_function"]
    for name, artifact in flavor["artifacts"].items():
        flavor["artifacts"][name] = {**artifact, "uri": artifact["path"]}
    if "model_code_path" in flavor:
        flavor["model_code_path"] = Path(flavor["model_code_path"]).name
    file.write_text(yaml.safe_dump(known, sort_keys=False), encoding="utf-8")


def _version(package: str) -> str:
    try:
        return version(package).partition("+")[0]
    except PackageNotFoundError:
        return ""
