"""A trained classifier from wherever it is, with what its project knows beside it."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsss.api.project import Project
from wsss.artifacts import Paths, read_json
from wsss.commands import or_pull, run_command
from wsss.config.sections import GenerateCamsSettings
from wsss.prediction.changing import image_settings
from wsss.prediction.files import ModelFiles
from wsss.prediction.opening import PACKAGE, machine_of
from wsss.prediction.package import CLASSIFIER, PREDICTION, SEGMENTER, read_package

if TYPE_CHECKING:
    from wsss.cam.making import CamMaker
    from wsss.models.classifier import Classifier as Network

__all__ = ["Classifier", "load_classifier"]

_FORMS = (
    "name models/classifier of a project, the project, a package with a classifier in it, or a "
    "registered model such as models:/wsss@champion"
)


@dataclass
class Classifier:
    """A classifier that `wsss.load_classifier` has read.

    Attributes:
        network: in eval mode, on the CPU.
        loss: that it was trained with: multi_label, or single_label of classes that exclude one
            another.
        place: where it was.
        device: where maps are made: auto, cpu, cuda or mps.
        project: in whose models/ it lies; None of one elsewhere.
        package: what else a package holds that it came in; None of any other.
    """

    network: "Network"
    loss: str
    place: str
    device: str = "auto"
    project: Project | None = None
    package: ModelFiles | None = None
    _made: "tuple[GenerateCamsSettings, CamMaker] | None" = field(default=None, init=False)

    @property
    def class_names(self) -> tuple[str, ...]:
        """K names; class id c is class_names[c - 1]. They are stored with its weights."""
        return self.network.class_names

    @property
    def settings(self) -> GenerateCamsSettings:
        """How `wsss.cams` makes maps unless told otherwise: as generate_cams of the project."""
        return self.project.params.generate_cams if self.project else GenerateCamsSettings()

    @property
    def has_background(self) -> bool:
        """Whether a pixel may show none of the classes."""
        known = self.package or self.project
        return known is None or known.has_background

    @property
    def image_settings(self) -> dict[str, Any]:
        """How images became what it has learned from: settings of prepare_data."""
        if self.package is not None:
            return image_settings(self.package.about.get("images") or {})
        values = self.project.params.prepare_data.model_dump(mode="json") if self.project else {}
        return image_settings(values)

    @property
    def is_the_projects(self) -> bool:
        """Whether the project's own maps are made with it."""
        here = Path(self.place).absolute()
        return self.project is not None and self.project.paths.classifier == here

    def maker(self, settings: GenerateCamsSettings) -> "CamMaker":
        """What makes maps with these settings; the last one is kept."""
        from copy import deepcopy

        from wsss.cam.making import CamMaker
        from wsss.loading.devices import make_fabric

        if self._made is None or self._made[0] != settings:
            fabric = make_fabric(machine_of(self.device), settings.precision)
            on_cpu = fabric.device.type == "cpu"
            network = self.network if on_cpu else deepcopy(self.network)
            self._made = settings, CamMaker(network, settings, fabric)
        return self._made[1]

    def __repr__(self) -> str:
        names = ", ".join(self.class_names[:8]) + (", ..." if len(self.class_names) > 8 else "")
        backbone = type(self.network.backbone.net).__name__
        return f"<Classifier {backbone} of {len(self.class_names)} classes ({names}), {self.place}>"


def load_classifier(place: str | Path, device: str = "auto") -> Classifier:
    """Read a trained classifier, whose class activation maps `wsss.cams` makes.

    Args:
        place: one of

            - a folder models/classifier, or models/teachers/NAME, of a project: settings of maps,
              refine chains and thresholds are then those of its params.yaml and reports, and what
              its data say of a background; a copy elsewhere has the defaults;
            - the project that has one;
            - a package, as `wsss models register` makes one for a segmenter with a filter of
              classes; or "models:/NAME@ALIAS", "runs:/RUN/PATH", of one in MLflow. It says what
              images and a background are; settings of maps are the defaults.
        device: auto takes a GPU if there is one; or cpu, cuda, mps.

    Raises:
        ValueError: there is no classifier, it is damaged, or there is no such device.
        ConnectionError: MLflow cannot be asked.
    """
    from wsss.models.classifier import load_classifier as read

    machine_of(device)
    text = str(place)
    if text.startswith(("models:/", "runs:/")):
        with tempfile.TemporaryDirectory(prefix="wsss-") as folder:
            found = _find(_fetched(text, Path(folder)), text)
            return Classifier(*read(found), text, device, package=_package_of(found))
    found = _find(Path(place).expanduser(), text)
    around, package = Project.around(found), _package_of(found)
    return Classifier(*read(found), str(found), device, around, package)


def _package_of(classifier: Path) -> ModelFiles | None:
    """What a package says that a classifier lies in; None of one that lies in none."""
    folder = classifier.parent
    return read_package(folder) if (folder / PREDICTION).is_file() else None


def _fetched(text: str, folder: Path) -> Path:
    """The package of a model of MLflow."""
    from wsss.prediction.store import ModelStore, Wanted

    store = ModelStore(Path())
    if text.startswith("models:/"):
        return store.fetch(store.find(Wanted.read(text)), folder)
    run, _, path = text.removeprefix("runs:/").partition("/")
    if not path:
        raise ValueError(f"'{text}' names no model of a run; write runs:/<run>/model")
    return store.fetch_run(run, path, folder)


def _find(path: Path, text: str) -> Path:
    """The folder of the classifier in a folder."""
    if not path.exists():
        raise ValueError(f"{text}: there is no such folder; {_FORMS}")
    if path.is_file():
        hint = "an ONNX file has no layers to look at; " if path.suffix == ".onnx" else ""
        raise ValueError(f"{text} is a file; {hint}{_FORMS}")
    package = path / PACKAGE if (path / PACKAGE).is_dir() else path
    for folder in (path, Paths(path).classifier, package / CLASSIFIER):
        if (folder / "model.json").is_file():
            spec: dict[str, Any] = read_json(folder / "model.json")
            if "head" in spec and "class_names" in spec:
                return folder
            raise ValueError(
                f"{folder} is no classifier, but a segmenter, which wsss.load_segmenter reads; "
                f"{_FORMS}"
            )
    if (package / SEGMENTER).is_dir():
        raise ValueError(
            f"{text} has a segmenter alone, which wsss.load_segmenter reads; a classifier goes "
            "with it where predict_masks.filter_recall is above 0"
        )
    if (path / "params.yaml").is_file():
        raise ValueError(
            f"{text} is a project without a trained classifier: {Paths(path).classifier} is not "
            f"there; `{run_command(path, 'train_classifier')}` trains one{or_pull(path)}"
        )
    raise ValueError(f"{text} holds no classifier; {_FORMS}")
