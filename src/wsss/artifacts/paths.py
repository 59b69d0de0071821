"""Where the stages keep their files."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Paths"]


@dataclass(frozen=True)
class Paths:
    """Where the stages keep their files, below one root (the project, or a trial's folder)."""

    root: Path

    @property
    def images(self) -> Path:
        return self.root / "data/images"

    @property
    def masks(self) -> Path:
        """Ground truth. Evaluation alone reads it."""
        return self.root / "data/masks"

    @property
    def annotations(self) -> Path:
        """What annotators gave besides tags, to learn from."""
        return self.root / "data/annotations"

    @property
    def splits(self) -> Path:
        return self.root / "data/splits"

    @property
    def teachers(self) -> Path:
        return self.root / "models/teachers"

    @property
    def classifier(self) -> Path:
        return self.root / "models/classifier"

    @property
    def cams(self) -> Path:
        return self.root / "data/cams"

    @property
    def further_cams(self) -> Path:
        return self.root / "data/further_cams"

    @property
    def proposals(self) -> Path:
        return self.root / "data/proposals"

    @property
    def affinities(self) -> Path:
        return self.root / "models/affinities"

    def refined(self, chain: str) -> Path:
        return self.root / "data/refined" / chain

    @property
    def pseudo_masks(self) -> Path:
        return self.root / "data/pseudo_masks"

    @property
    def segmenter(self) -> Path:
        return self.root / "models/segmenter"

    @property
    def predictions(self) -> Path:
        return self.root / "data/predictions"

    def report(self, name: str, suffix: str = ".json") -> Path:
        return self.root / "reports" / f"{name}{suffix}"
