"""What the page does when something on it moves, apart from how it looks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from wsss.config.sections import RefineSettings
from wsss.config.segmentation import PseudoMaskSettings
from wsss.demo.drawing import draw_maps, draw_mask
from wsss.demo.form import Field, fields_of, settings_with
from wsss.demo.session import Shown
from wsss.demo.sources import Sources
from wsss.demo.writing import command_of, yaml_of
from wsss.settings import Named

__all__ = ["Forms", "Pictures", "pictures_of"]

ELSEWHERE = ("chain", "threshold", "object_source")
"""Keys of make_pseudo_masks without a field: two have parts of the page, one needs other maps."""


@dataclass
class Forms:
    """The forms of a page: that of make_pseudo_masks, then one per refiner of each chain.

    Args:
        sources: whose settings they begin with.

    Attributes:
        masks: the fields of make_pseudo_masks.
        chains: by chain the fields of each of its refiners.
    """

    sources: Sources
    masks: list[Field] = field(init=False)
    chains: dict[str, list[list[Field]]] = field(init=False)

    def __post_init__(self) -> None:
        self.masks = fields_of(self.sources.masks, ELSEWHERE)
        self.chains = {
            name: [fields_of(entry) for entry in entries]
            for name, entries in self.sources.chains.items()
        }

    def settings(
        self, chain: str, threshold: float, values: Sequence[Any]
    ) -> tuple[tuple[Named, ...], PseudoMaskSettings]:
        """What the forms say.

        Args:
            chain: that is chosen.
            threshold: of the mask.
            values: of all fields of all forms, in their order.

        Raises:
            ConfigError: a value does not fit.
        """
        rest = iter(values)
        own = {item.key: next(rest) for item in self.masks}
        masks = settings_with(self.sources.masks, own, "make_pseudo_masks")
        refiners: list[Named] = []
        for name, forms in self.chains.items():
            for place, fields in enumerate(forms):
                said = {item.key: next(rest) for item in fields}
                if name == chain:
                    entry = self.sources.chains[name][place]
                    refiners.append(settings_with(entry, said, f"{name}.{place}"))
        update = {"threshold": float(threshold), "chain": chain}
        return tuple(refiners), masks.model_copy(update=update)

    def texts(
        self, chain: str, refiners: Sequence[Named], masks: PseudoMaskSettings
    ) -> tuple[str, str]:
        """These settings as a line of `wsss set`, and as YAML for params.yaml."""
        params = self.sources.project and self.sources.project.params
        refine = params.refine if params else RefineSettings()
        before = params.make_pseudo_masks if params else PseudoMaskSettings()
        made = params.make_proposals if params else ()
        if before.background == "object" and masks.background == self.sources.masks.background:
            kept = ("background", "object_source", "threshold")  # which the page has others for
            masks = masks.model_copy(update={key: getattr(before, key) for key in kept})
        line = command_of(refine, before, chain, refiners, masks, made)
        return (
            line or "# params.yaml has these settings",
            yaml_of(refine, chain, refiners, masks, made),
        )


@dataclass(frozen=True)
class Pictures:
    """What is drawn anew; None of what is as before."""

    mask: Image.Image | None
    refined: Image.Image | None
    maps: Image.Image | None


def pictures_of(shown: Shown, before: Shown | None) -> Pictures:
    """Draw what is not as it was before."""
    return Pictures(
        draw_mask(shown.mask) if before is None or shown.mask is not before.mask else None,
        draw_maps(shown.refined) if before is None or shown.refined is not before.refined else None,
        draw_maps(shown.maps) if before is None or shown.maps is not before.maps else None,
    )
