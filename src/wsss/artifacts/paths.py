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

    def chain_scores(self, chain: str) -> Path:
        """What the maps of a chain score on each class, for the choice among chains."""
        return self.root / "data/chain_scores" / chain / "scores.json"

    @property
    def pseudo_masks(self) -> Path:
        return self.root / "data/pseudo_masks"

    @property
    def segmenter(self) -> Path:
        return self.root / "models/segmenter"

    @property
    def predictions(self) -> Path:
        return self.root / "data/predictions"

    def of_images(self) -> list[Path]:
        """The folders that hold a file of each image, or of some, of those that are there."""
        data = self.root / "data"
        named = [
            folder
            for kind in ("further_cams", "predictions", "proposals", "refined")
            for folder in sorted((data / kind).glob("[!.]*"))
        ]
        partial = self.annotations / "partial/seeds"
        single = [self.images, self.masks, self.annotations / "masks", partial, self.cams]
        return [folder for folder in (*single, *named, self.pseudo_masks) if folder.is_dir()]

    def report(self, name: str, suffix: str = ".json") -> Path:
        return self.root / "reports" / f"{name}{suffix}"
