"""What the project that a model is of knows beside it: settings, chains, thresholds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsss.artifacts import Paths, read_classes, read_json
from wsss.artifacts.background import usual_threshold
from wsss.config.params import Params, parse_params
from wsss.config.yaml_text import load_yaml, read_text

__all__ = ["Project"]


@dataclass(frozen=True)
class Project:
    """A folder with params.yaml.

    Attributes:
        paths: of it.
        params: its settings.
        has_background: whether a pixel of its data may show none of the classes.
    """

    paths: Paths
    params: Params
    has_background: bool = True

    @classmethod
    def around(cls, folder: Path) -> "Project | None":
        """The project in whose models/ a folder lies; None of any other folder.

        Raises:
            ConfigError: params.yaml has a mistake.
        """
        for root in folder.absolute().parents:
            models, file = Paths(root).classifier.parent, root / "params.yaml"
            if models in folder.absolute().parents and file.is_file():
                params = parse_params(load_yaml(read_text(file), str(file)), str(file))
                splits = Paths(root).splits
                known = (splits / "classes.json").is_file()
                return cls(Paths(root), params, read_classes(splits)[1] if known else True)
        return None

    def threshold(self, chain: str | None) -> float:
        """The score above which maps show a class, as the project has it.

        Args:
            chain: of refine.chains that the maps came through; None of maps as they were made.

        Returns:
            The one that is set, or that evaluation chose on the selection split; of neither the
            usual one.
        """
        wanted = self.params.make_pseudo_masks
        usual = usual_threshold(self.params.refine.chains.get(chain or "", ()))
        if chain == wanted.chain and wanted.threshold != "selected":
            return usual if wanted.threshold == "usual" else wanted.threshold
        report = self.paths.report(
            "evaluate_cams" if chain is None else f"evaluate_refined_{chain}"
        )
        found: dict[str, Any] = read_json(report) if report.is_file() else {}
        return float(found.get("threshold", usual))
