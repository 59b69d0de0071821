"""The weights that a model comes from, by its settings, each with its licence."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wsss.checks import did_you_mean
from wsss.models.known_weights import NON_COMMERCIAL, UNKNOWN, WeightsFacts, known_weights
from wsss.sources import find_source

__all__ = ["Weights", "with_licences", "weights_of"]

_KEYS = ("weights", "checkpoint", "encoder_weights")
_NOT_FILES = ("", "none", "classifier", "backbone")
"""Random values, and weights that stand elsewhere in the settings."""


@dataclass(frozen=True)
class Weights:
    """Weights that a model or its masks come from.

    Attributes:
        key: the setting that names them.
        setting: "hub", a tag, or the last part of a path.
        facts: what is known of them.
        said_by: who said the licence: "known", the file itself, or a person; "" of an unknown one.
    """

    key: str
    setting: str
    facts: WeightsFacts
    said_by: str

    @property
    def licence(self) -> str:
        """Its name, or "unknown"."""
        return self.facts.licence

    @property
    def is_unknown(self) -> bool:
        """Whether nobody has named the licence."""
        return self.licence == UNKNOWN

    @property
    def is_limited(self) -> bool:
        """Whether the licence is known not to allow every use."""
        return bool(NON_COMMERCIAL.search(self.licence))


def weights_of(recipe: Mapping[str, Any]) -> list[Weights]:
    """Find the weights that settings name, at any depth, sorted by key.

    A network whose weights are 'none' starts from random values, and has none.

    Args:
        recipe: plain settings of params.yaml by section: those that a model depends on.
    """
    found = []
    for key, holder in sorted(_holders(recipe, "")):
        for name in _KEYS:
            text = holder.get(name)
            if isinstance(text, str) and text not in _NOT_FILES:
                found.append(_weights(f"{key}.{name}", text, holder))
    return found


def with_licences(weights: list[Weights], named: Mapping[str, str]) -> list[Weights]:
    """Weights with licences that a person names.

    Args:
        weights: as they are known.
        named: a licence by the key of weights, or by their setting, such as the name of a file.

    Raises:
        ValueError: no weights are called so, or their licence is known and is another one.
    """
    names = {name for item in weights for name in (item.key, item.setting)}
    for name, licence in named.items():
        if name not in names:
            known = did_you_mean(name, names) if names else "there are none"
            raise ValueError(f"--licence names '{name}', which is none of the weights; {known}")
        if not licence.strip() or licence.strip().lower() == UNKNOWN:
            raise ValueError(
                f"--licence names no licence of '{name}'; write --licence '{name}=apache-2.0', or "
                "leave it out, and the card says that it is unknown"
            )
    found = []
    for item in weights:
        licence = named.get(item.key, named.get(item.setting, "")).strip()
        if not licence or licence.lower() == item.licence.lower():
            found.append(item)
            continue
        if not item.is_unknown:
            raise ValueError(
                f"the weights of {item.key} ({item.facts.what}) are under {item.licence}, which "
                f"--licence would replace with {licence}; a licence that is known is not left out. "
                f"Drop --licence '{item.key}=...', or take other weights"
            )
        facts = replace(item.facts, licence=licence)
        found.append(replace(item, facts=facts, said_by="a person"))
    return found


def _holders(tree: Any, key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The mappings in settings that name weights, with their dotted keys."""
    if isinstance(tree, Mapping):
        if any(name in tree for name in _KEYS):
            yield key, tree
        for name, value in tree.items():
            yield from _holders(value, f"{key}.{name}" if key else str(name))
    elif isinstance(tree, list | tuple):
        for at, value in enumerate(tree):
            yield from _holders(value, f"{key}.{at}")


def _weights(key: str, text: str, holder: Mapping[str, Any]) -> Weights:
    model = str(holder.get("model_name") or holder.get("encoder") or "")
    method = str(holder.get("name") or "")
    setting = Path(text).name if "/" in text or text.startswith(("~", "$")) else text
    facts = known_weights(text, model.removeprefix("tu-"), method)
    if facts is None:
        facts = WeightsFacts(f"{model or method} weights '{setting}'".strip())
    said_by = "known" if facts.licence != UNKNOWN else ""
    if not said_by and (own := _own_licence(text)):
        facts, said_by = replace(facts, licence=own), "the file"
    return Weights(key, setting, facts, said_by)


def _own_licence(text: str) -> str:
    """The licence that a file says of itself, or the README.md of its folder in its front matter.

    The folder of a single file counts where its README.md names the file.
    """
    place = find_source(text)
    if place is None:
        return ""
    if place.suffix == ".safetensors" and place.is_file():
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(place, "numpy") as file:
                metadata = file.metadata() or {}
        except (OSError, SafetensorError):
            metadata = {}
        if licence := metadata.get("license") or metadata.get("licence"):
            return str(licence)
    readme = (place if place.is_dir() else place.parent) / "README.md"
    try:
        page = readme.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    if place.is_file() and place.name not in page:
        return ""
    front = re.match(r"---\n(.*?)\n---", page, re.DOTALL)
    said = re.search(r"^licen[sc]e:\s*['\"]?([^'\"\n]+)", front[1], re.MULTILINE) if front else None
    name = said[1].strip() if said else ""
    return "" if name.lower() in ("", "other", UNKNOWN) else name
