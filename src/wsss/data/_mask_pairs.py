"""Which mask is which image's: named alike, or by a rule that the names of masks show."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from wsss.checks import full_key
from wsss.data._base import RawSample
from wsss.data._layouts import kind_of_files, split_of_word
from wsss.data._matching import Names
from wsss.data.listing import list_images, missing_folder, some

__all__ = ["missing_masks", "pair_masks", "refuse_lossy_masks", "refuse_masks_among_images"]

_LOSSY = frozenset(
    {".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx"}
)
_SAMPLE = 300  # masks by which the rule is found
_BESIDE = re.compile(
    r"(?:(.+?)[ _.-]?(?:masks?|seg|segmentation|gt|ground_?truth)|(?:masks?|gt)[ _.-](.+))", re.I
)

Affixes = tuple[str, str]
"""What stands before and behind an image's name in its mask's."""


def pair_masks(
    names: Names,
    folder: Path,
    key: str,
    class_ids: Mapping[str, Sequence[int]] | None = None,
    *,
    lossy: bool | None = None,
) -> tuple[dict[str, Path], list[str]]:
    """Find the masks of images.

    A mask is named as its image, whatever their suffixes, and lies in the same folders, as far as
    both have any. Where that is not so, text that stands before or behind the names of images in
    those of masks, such as "_mask", is found from the names.

    Args:
        names: the images.
        folder: of the masks.
        key: what names it in params.yaml, for errors.
        class_ids: the tags of the images that are used, of which those without a mask are counted;
            None where the caller counts them.
        lossy: whether it is said what blurred values mean, so that masks may be JPEGs; None where
            no setting can say it.

    Returns:
        Masks by image, and what a person must know of them.

    Raises:
        ConfigError: the folder does not exist.
        ValueError: it holds no masks, JPEGs, several for an image, or none that fits any.
    """
    if not folder.is_dir():
        raise missing_folder(folder, key)
    try:
        listing = list_images(folder, key)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None
    refuse_lossy_masks(listing.files.values(), key, lossy=lossy)
    pairs = {name: listing.files[name] for name in names.files if name in listing.files}
    rest = [name for name in listing.files if name not in pairs]
    warnings = listing.warnings
    if rest:
        free = {name: path for name, path in names.files.items() if name not in pairs}
        others = _other_names(Names(free, names.folder), rest, key, are_alike=bool(pairs))
        pairs |= {name: listing.files[mask] for name, mask in others.items()}
        found = [(name, mask) for name, mask in others.items() if not name.endswith(mask)]
        if found:
            name, mask = found[0]
            file = listing.files[mask].relative_to(folder)
            warnings.append(
                f"{key}: {len(found)} masks are not named as their images are and are taken by "
                f"what their names have in common, such as {file} for '{name}'"
            )
    left = sorted(set(listing.files.values()) - set(pairs.values()))
    missing = [name for name in class_ids or () if name not in pairs]
    stray = f"'{left[0].relative_to(folder)}'" if left else ""
    if not pairs:
        image = next(iter(class_ids or names.files))
        raise ValueError(
            f"{key}: none of the {len(listing.files)} files in {folder} fits an image: it has "
            f"{stray}, where an image is '{image}'; a mask is named as its image: {image}.png"
        )
    if class_ids and missing and (left or not _other_splits(pairs, missing)):
        empty = sum(not class_ids[name] for name in missing)
        warnings.append(
            f"{key}: {len(missing)} of {len(class_ids)} images have no mask, such as "
            f"'{missing[0]}' ({empty} of them have no class); they are not evaluated"
        )
    if left:
        warnings.append(
            f"{key}: {len(left)} of {len(listing.files)} files fit no image, such as {stray}"
        )
    return pairs, warnings


def refuse_lossy_masks(files: Iterable[Path], key: str, *, lossy: bool | None = None) -> None:
    """Raise ValueError where masks are JPEGs, unless it is said what blurred values mean.

    Args:
        files: the masks.
        key: what names their folder in params.yaml.
        lossy: see `pair_masks`.
    """
    blurred = [path for path in files if path.suffix.lower() in _LOSSY]
    if blurred and not lossy:
        raise ValueError(
            f"{key}: {len(blurred)} masks are JPEGs, such as {blurred[0]}, which blur the values "
            "at edges; export them as PNG"
            + f', or set {full_key("dataset.mask_values")}: {{"0-127": 0, "128-255": 1}}'
            * (lossy is not None)
        )


def missing_masks(splits: Mapping[str, Sequence[RawSample]], *folders: Path) -> list[str]:
    """Say how many images have no mask, of the splits in which some have one, or of all.

    Args:
        splits: the samples.
        folders: where their masks lie.
    """
    where = " and ".join(map(str, folders))
    samples = [sample for found in splits.values() for sample in found]
    if samples and not any(sample.mask for sample in samples):
        return [f"no image has a mask in {where}, so that nothing can be evaluated"]
    said = []
    for split, found in splits.items():
        without = [sample.name for sample in found if not sample.mask]
        if 0 < len(without) < len(found):
            said.append(
                f"{len(without)} of {len(found)} images of {split} have no mask in {where}, such "
                f"as '{without[0]}'; they are not evaluated"
            )
    return said


def refuse_masks_among_images(files: Mapping[str, Path], key: str) -> None:
    """Raise ValueError if images are, by name, the masks of others in their folder.

    Args:
        files: the images by name.
        key: what names the folder of masks in params.yaml.
    """
    masks = []
    for name in files:
        folder, slash, base = name.rpartition("/")
        found = _BESIDE.fullmatch(base)
        if found and folder + slash + (found[1] or found[2]) in files:
            masks.append(name)
    if masks:
        raise ValueError(
            f"{len(masks)} images look like the masks of others, such as {files[masks[0]]}; put "
            f"masks into a folder of their own and set {key} to it, or rename what is none"
        )


def _other_splits(pairs: Collection[str], missing: Collection[str]) -> bool:
    """Whether the images without a mask are all in splits of which no image has one."""
    # of images that lie in no folder the name says nothing, even where it is train_1
    tops = [{name.rpartition("/")[0].partition("/")[0] for name in x} for x in (pairs, missing)]
    return not tops[0] & tops[1] and all(map(split_of_word, tops[1]))


def _other_names(names: Names, masks: list[str], key: str, *, are_alike: bool) -> dict[str, str]:
    """The mask of each image that is named by a rule; masks that fit none are left out.

    Args:
        names: the images that have none.
        masks: that no image is named as.
        key: see `pair_masks`.
        are_alike: whether others are named as their images: then what all images have in common
            is part of their names, and tells them from what the other masks are of.
    """
    found = _by_affixes(names, masks, key)
    if found or are_alike:
        return found
    cores = _cores(names.files)
    if len(set(cores.values())) < len(cores):
        return {}
    owner = {core: name for name, core in cores.items()}
    shorter = Names({core: names.files[name] for core, name in owner.items()}, names.folder)
    return {owner[core]: mask for core, mask in _by_affixes(shorter, masks, key, owner).items()}


def _by_affixes(
    names: Names, masks: list[str], key: str, called: Mapping[str, str] = MappingProxyType({})
) -> dict[str, str]:
    """See `_other_names`; `called` has the names of images, where those of `names` are shorter."""
    sample = masks[:: max(1, len(masks) // _SAMPLE)]
    votes = Counter[Affixes]()
    for mask in sample:
        votes.update(_affixes(names, mask))
    rules = [
        rule
        for rule, count in votes.most_common()
        if rule == ("", "") or count > 1 or kind_of_files("_".join(rule)) == "masks"
    ]
    entries: dict[str, list[str]] = {}
    for mask in masks:
        folder, slash, base = mask.rpartition("/")
        for before, behind in rules:
            core = base.removeprefix(before).removesuffix(behind)
            if (
                core
                and before + core + behind == base
                and names.match([folder + slash + core], elsewhere=False)
            ):
                entries.setdefault(folder + slash + core, []).append(mask)
                break
    pairs: dict[str, list[str]] = {}
    for entry, name in names.match(entries, elsewhere=False).items():
        pairs.setdefault(name, []).extend(entries[entry])
    several = [name for name, found in pairs.items() if len(found) > 1]
    if several:
        listing = some(pairs[several[0]], 3)
        raise ValueError(
            f"{key}: {len(several)} images have several masks, such as "
            f"'{called.get(several[0], several[0])}': {listing}; "
            "leave one for each in the folder, with all classes in it"
        )
    return {name: found[0] for name, found in pairs.items()}


def _affixes(names: Names, mask: str) -> set[Affixes]:
    """What may stand around an image's name in a mask's: of the longest names that fit."""
    folder, slash, base = mask.rpartition("/")
    cuts = [
        at
        for at in range(len(base) + 1)
        if at in (0, len(base)) or _kind(base[at - 1]) != _kind(base[at])
    ]
    candidates = {
        (base[:start], base[end:]): base[start:end]
        for start in cuts
        for end in cuts
        if start < end
        and _is_affix(base[:start], base[:start][-1:])
        and _is_affix(base[end:], base[end : end + 1])
    }
    fits = {
        rule: core
        for rule, core in candidates.items()
        if names.match([folder + slash + core], elsewhere=False)
    }
    longest = max(map(len, fits.values()), default=0)
    return {rule for rule, core in fits.items() if len(core) == longest}


def _is_affix(text: str, edge: str) -> bool:
    """Whether text beside an image's name in its mask's is no part of another name.

    Args:
        text: before or behind the name.
        edge: its letter next to the name.
    """
    if not text:
        return True
    has_letter = re.search(r"[^\W\d_]", text) is not None
    return has_letter and (not edge.isalnum() or kind_of_files(text) == "masks")


def _kind(letter: str) -> int:
    return 0 if letter.isdigit() else 1 if letter.isalpha() else 2


def _cores(files: Mapping[str, Path]) -> dict[str, str]:
    """The names of images without what all begin and end with, such as "IMG_"."""
    bases = [name.rpartition("/")[2] for name in files]
    before = re.sub(r"[^\W_]*$", "", _common(bases)) if len(bases) > 1 else ""
    behind = _common([base[::-1] for base in bases])[::-1] if len(bases) > 1 else ""
    behind = re.sub(r"^[^\W_]*", "", behind)
    return {
        name: name.rpartition("/")[0]
        + "/" * ("/" in name)
        + name.rpartition("/")[2].removeprefix(before).removesuffix(behind)
        for name in files
    }


def _common(texts: list[str]) -> str:
    first, last = min(texts), max(texts)
    return first[: next((at for at, x in enumerate(first) if last[at : at + 1] != x), len(first))]
