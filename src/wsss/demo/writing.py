"""Settings that were found by hand, as params.yaml and `wsss set` take them."""

import shlex
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import yaml

from wsss.config.sections import RefineSettings
from wsss.config.segmentation import PseudoMaskSettings
from wsss.config.yaml_text import flow_text
from wsss.settings import Named, Settings

__all__ = ["command_of", "yaml_of"]


def yaml_of(
    refine: RefineSettings,
    chain: str,
    refiners: Sequence[Named],
    masks: PseudoMaskSettings,
    made: Collection[str] = (),
) -> str:
    """Sections `refine` and `make_pseudo_masks` as params.yaml has them.

    Sources of proposals that it does not make yet come with them.

    Args:
        refine: the section before, whose other chains stay.
        chain: the name of the one that changes.
        refiners: its new ones.
        masks: the new section make_pseudo_masks; its chain becomes that one.
        made: names in make_proposals of params.yaml.
    """
    proposals = _missing_proposals(refiners, made)
    chains = {**refine.chains, chain: tuple(refiners)}
    sections: dict[str, Any] = {"make_proposals": proposals} if proposals else {}
    sections |= {
        "refine": _plain(refine.model_copy(update={"chains": chains})),
        "make_pseudo_masks": _plain(masks.model_copy(update={"chain": chain})),
    }
    return yaml.safe_dump(sections, sort_keys=False, width=100, allow_unicode=True)


def command_of(
    refine: RefineSettings,
    before: PseudoMaskSettings,
    chain: str,
    refiners: Sequence[Named],
    masks: PseudoMaskSettings,
    made: Collection[str] = (),
) -> str:
    """The line of `wsss set` that changes params.yaml so; "" where nothing changes.

    Args:
        refine: section `refine` of params.yaml.
        before: section make_pseudo_masks of params.yaml.
        chain: the name of the chain that changes.
        refiners: its new ones, those of the old in their order if it is there.
        masks: the new section make_pseudo_masks; its chain becomes that one.
        made: names in make_proposals of params.yaml.

    Example:
        >>> section = RefineSettings()
        >>> crf = section.chains["crf"][0].model_copy(update={"sigma_xy": 30})
        >>> masks = PseudoMaskSettings()
        >>> command_of(section, masks, "crf", [crf], masks)
        'wsss set refine.chains.crf.0.sigma_xy=30'
    """
    proposals = _missing_proposals(refiners, made)
    changes: list[tuple[str, Any]] = [
        (f"make_proposals.{name}", source) for name, source in proposals.items()
    ]
    if chain in refine.chains:
        changes += [
            change
            for at, (old, new) in enumerate(zip(refine.chains[chain], refiners, strict=True))
            for change in _changes(f"refine.chains.{chain}.{at}", old, new)
        ]
    else:
        changes += [(f"refine.chains.{chain}", [_plain(entry) for entry in refiners])]
    changes += _changes("make_pseudo_masks", before, masks.model_copy(update={"chain": chain}))
    words = [shlex.quote(f"{key}={flow_text(value)}") for key, value in changes]
    return " ".join(["wsss set", *words]) if words else ""


def _changes(key: str, before: Settings, after: Settings) -> Iterator[tuple[str, Any]]:
    old = _plain(before)
    for name, value in _plain(after).items():
        if value != old[name]:
            yield f"{key}.{name}", value


def _missing_proposals(refiners: Sequence[Named], made: Collection[str]) -> dict[str, Any]:
    """Sources that refiners take by name and params.yaml has not: those of that name."""
    wanted = (getattr(entry, "proposals", "") for entry in refiners)
    return {name: {"name": name} for name in wanted if name and name not in made}


def _plain(settings: Settings) -> dict[str, Any]:
    shortened: dict[str, Any] = _shortened(settings.model_dump(mode="json"))
    return shortened


def _shortened(value: Any) -> Any:
    """Numbers as people write them: 30 for 30.0."""
    if isinstance(value, dict):
        return {key: _shortened(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shortened(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
