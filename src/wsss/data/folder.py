"""Your own images: tags from sub-folders or from a CSV or JSON file, masks if there are any."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wsss.checks import did_you_mean, full_key
from wsss.data._base import Problem, RawDataset, RawSample, source_folder
from wsss.data._class_names import ClassNames, check_known, name_ids, names_of, read_class_names
from wsss.data._folder_settings import FolderSettings
from wsss.data._given import drawn_folders, read_given, values_of
from wsss.data._layouts import Layout, check_splits, read_layout, settle_splits, split_of_word
from wsss.data._marks import REST, Said, ids_of, likely
from wsss.data._mask_pairs import refuse_masks_among_images
from wsss.data._mask_values import MaskValues
from wsss.data._matching import Names
from wsss.data._tables import read_text
from wsss.data._tag_cells import merge_names, refuse_several
from wsss.data._tag_files import TagFile, read_tags
from wsss.data.listing import list_images, some
from wsss.data.splits import hold_out, subset
from wsss.registry import DATASETS
from wsss.settings import ConfigError

__all__ = ["Folder", "FolderSettings"]


@dataclass
class _Found:
    """What is known of the images while they are read.

    Attributes:
        tags: what is said of each image.
        splits: by image, of those that have one.
        called: how the data call each split.
        words: the values of a column of splits.
        problems: images, or entries, that cannot be used.
        warnings: what a person must know.
    """

    tags: dict[str, Said] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)
    called: dict[str, str] = field(default_factory=dict)
    words: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@DATASETS.register(FolderSettings)
class Folder:
    """An image's name is its path within the images' folder, without the suffix."""

    def __init__(self, settings: FolderSettings) -> None:
        self.settings = settings

    def collect(self, scratch: Path, rng_seed: int) -> RawDataset:
        """List images and read tags; see `Dataset.collect`."""
        settings = self.settings
        root = source_folder(settings.root)
        folder = root / settings.images
        drawn = drawn_folders(root, folder, settings)
        listing = list_images(folder, full_key("dataset.images"), without=drawn)
        refuse_masks_among_images(listing.files, full_key("dataset.masks"))
        names = Names(listing.files, folder)
        found = _Found(warnings=listing.warnings)
        known = self._known_classes(root)
        if settings.tags is None:
            self._read_folders(names, known, found)
        else:
            known = self._read_files(root, names, known, found)
        check_splits(settings.splits, names.files, found.words)
        self._read_lists(root, names, found)
        class_names = self._class_names(known, found)
        self._settle_splits(found, names)
        return self._dataset(root, names, class_names, found, scratch, rng_seed)

    def _known_classes(self, root: Path) -> ClassNames:
        """The classes that the settings name; empty where they follow from the tags."""
        classes = self.settings.classes
        if not isinstance(classes, str):
            return classes or ()
        path = root / classes
        if not path.is_file():
            raise ConfigError(
                f"{full_key('dataset.classes')} is '{classes}', but {path} is not a file; a single "
                f"class is written as a list, [{classes}]"
            )
        return read_class_names(path, self.settings.empty_tag)

    def _layout(self, names: Names, known: ClassNames, *, tagged: bool, listed: bool) -> Layout:
        settings = self.settings
        return read_layout(
            names.files,
            classes=names_of(known),
            empty_tag=settings.empty_tag,
            splits=settings.splits,
            tagged=tagged,
            listed=listed or bool(settings.val or settings.selection),
        )

    def _read_folders(self, names: Names, known: ClassNames, found: _Found) -> None:
        layout = self._layout(names, known, tagged=False, listed=False)
        refuse_several(layout.tags.values(), names_of(known), self.settings.empty_tag)
        found.splits, found.called = layout.splits, layout.called
        for name in names.files:
            if layout.called and name not in layout.splits:
                found.problems.append(_outside(name, layout))
            elif name in layout.tags:
                found.tags[name] = {layout.tags[name]: 1}
            else:
                reason = "no tag: it lies in no sub-folder named after a class"
                found.problems.append(Problem(name, reason))

    def _read_files(self, root: Path, names: Names, known: ClassNames, found: _Found) -> ClassNames:
        """Take tags from files; the classes are given back, which a file of names may tell."""
        pattern = self.settings.tags or ""
        paths = [root / pattern]
        if "*" in pattern and not Path(pattern).is_absolute():
            paths = sorted(root.glob(pattern))
        paths = [path for path in paths if path.is_file()]
        if not paths:
            files = sorted(item.name for item in root.iterdir() if item.is_file())
            hint = did_you_mean(pattern, files) if files else f"{root} has no files"
            raise ConfigError(
                f"{full_key('dataset.tags')} is '{pattern}', but {root / pattern} is not a file; "
                f"{hint}"
            )
        self._layout(names, known, tagged=True, listed=True)  # before masks are taken for images
        file = self._join(paths, names, known, found)
        known, said = name_ids(file.tags, known, paths[0], root, self.settings.empty_tag)
        found.warnings += said
        layout = self._layout(names, known, tagged=True, listed=any(file.splits.values()))
        found.splits = self._splits_of_column(file, layout, pattern)
        found.called, found.words = layout.called, set(file.splits.values())
        for name in names.files:
            tags = file.tags.get(name)
            if name not in file.tags:
                reason = f"no tags: {pattern} does not have it"
            elif tags is None:
                reason = f"no tags in {pattern}; write '{self.settings.empty_tag}' for no class"
            elif any(file.splits.values()) and name not in found.splits:
                key = full_key("dataset.splits")
                reason = (
                    f'no split in {pattern}; write train, val or test, or set {key}: {{"": train}}'
                )
            elif layout.called and name not in found.splits:
                found.problems.append(_outside(name, layout))
                continue
            else:
                found.tags[name] = tags
                continue
            found.problems.append(Problem(name, reason))
        return known

    def _join(
        self, paths: Sequence[Path], names: Names, known: ClassNames, found: _Found
    ) -> TagFile:
        joined = TagFile()
        for path in paths:
            inside = path.parent != names.folder and path.is_relative_to(names.folder)
            beside = path.parent.relative_to(names.folder).as_posix() if inside else ""
            words = (self.settings.empty_tag, self.settings.unknown_tags)
            file = read_tags(path, names, beside, names_of(known), *words)
            for name in file.tags.keys() & joined.tags.keys():
                if file.tags[name] != joined.tags[name]:
                    raise ValueError(f"{path} has other tags for '{name}' than a file before it")
            joined.tags |= file.tags
            joined.splits |= file.splits
            found.warnings += file.warnings
            found.problems += [
                Problem(entry, f"{path.name} tags it, but there is no such image, or several")
                for entry in file.unknown
            ]
        return joined

    def _splits_of_column(self, file: TagFile, layout: Layout, pattern: str) -> dict[str, str]:
        """The splits that a file says, and those of folders where it does not."""
        splits = dict(layout.splits)
        meaning = {text: split_of_word(text, self.settings.splits) for text in file.splits.values()}
        layout.called |= {split: text for text, split in meaning.items() if split}
        unknown = sorted(text for text, split in meaning.items() if text and split is None)
        if unknown:
            raise ValueError(
                f"{pattern} has a column of splits with {some([f'{x!r}' for x in unknown])}, which "
                f"name none; say what they mean in {full_key('dataset.splits')}, such as "
                f'{{"{unknown[0]}": train}} (train, val, selection or unused), or rename the column'
            )
        for name, text in file.splits.items():
            split = meaning[text]
            if split and splits.setdefault(name, split) != split:
                raise ValueError(
                    f"'{name}' is in the split '{text}' by {pattern}, but its folder is named "
                    f"after {splits[name]}; move it, or remove the column"
                )
        return splits

    def _read_lists(self, root: Path, names: Names, found: _Found) -> None:
        """The splits that lists name, which override others."""
        listed: dict[str, str] = {}
        for split, file in (("val", self.settings.val), ("selection", self.settings.selection)):
            if file is None:
                continue
            path = root / file
            if not path.is_file():
                raise ConfigError(f"{full_key(f'dataset.{split}')}: {path} is not a file")
            lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
            matched = names.match(dict.fromkeys(lines))
            missing = [line for line in lines if line not in matched]
            if missing:
                raise ValueError(
                    f"{path} lists '{missing[0]}', but there is no such image ({len(missing)} of "
                    f"{len(lines)} lines); images are called {some(list(names.files), 2)}"
                )
            for name in matched.values():
                if listed.setdefault(name, split) != split:
                    raise ValueError(f"'{name}' is in the val and in the selection list; keep one")
        found.splits |= listed

    def _class_names(self, known: ClassNames, found: _Found) -> tuple[str, ...]:
        """The classes, after names that are nearly the same have become one."""
        empty, listing = self.settings.empty_tag, names_of(known)
        counts = Counter(tag for said in found.tags.values() for tag in likely(said))
        counts.update({tag: 0 for said in found.tags.values() for tag in said if tag != REST})
        renamed = merge_names(counts, (*listing, empty))
        if "empty_tag" in self.settings.model_fields_set and empty not in (
            *counts,
            *renamed.values(),
        ):
            found.warnings.append(
                f"no image has the tag '{empty}', which {full_key('dataset.empty_tag')} names; "
                f"{did_you_mean(empty, counts)}"
            )
        if renamed:
            said = some([f"'{old}' is '{new}'" for old, new in sorted(renamed.items())])
            found.warnings.append(f"tags that differ in case or blanks only are one: {said}")
        for name, tags in list(found.tags.items()):
            own = {renamed.get(tag, tag): share for tag, share in tags.items()}
            found.tags[name] = own
            if empty in own and any(share != 0 for tag, share in own.items() if tag != empty):
                del found.tags[name]
                reason = f"it has '{empty}' and other tags, {some(list(own))}; keep what is right"
                found.problems.append(Problem(name, reason))
        used = {tag for said in found.tags.values() for tag in likely(said)} - {empty}
        if not used and not listing:
            reasons = [*found.warnings, *(f"{item.name}: {item.reason}" for item in found.problems)]
            raise ValueError(
                f"no image of {self.settings.root} has a tag; put images into one sub-folder per "
                f"class, or name a CSV or JSON file in {full_key('dataset.tags')}"
                + "".join(f"\n  {reason}" for reason in reasons[:3])
            )
        if not listing and len(used) > max(10, len(found.tags) / 2):
            raise ValueError(
                f"{len(found.tags)} images have {len(used)} different tags, such as "
                f"{some(sorted(used))}, which may be names or texts rather than classes; name the "
                f"right column tags, or list all classes in {full_key('dataset.classes')}"
            )
        if listing:
            check_known(found.tags, listing, empty)
        return listing or tuple(sorted(used))

    def _settle_splits(self, found: _Found, names: Names) -> None:
        if not found.splits:
            return
        bad = {problem.name for problem in found.problems} - found.splits.keys()
        every = {name: found.splits.get(name, "train") for name in names.files if name not in bad}
        try:
            found.splits, said = settle_splits(every, found.tags, found.called)
        except ValueError as error:
            left_out = [f"\n  {item.name}: {item.reason}" for item in found.problems[:2]]
            raise ValueError(f"{error}{''.join(left_out)}") from None
        found.warnings += said
        unused = {name for name, split in found.splits.items() if split == "unused"}
        found.problems = [item for item in found.problems if item.name not in unused]
        found.tags = {name: tags for name, tags in found.tags.items() if name not in unused}

    def _dataset(
        self,
        root: Path,
        names: Names,
        class_names: tuple[str, ...],
        found: _Found,
        scratch: Path,
        rng_seed: int,
    ) -> RawDataset:
        settings = self.settings
        ids = {name: ids_of(said, class_names) for name, said in sorted(found.tags.items())}
        class_ids = {name: own for name, (own, _) in ids.items()}
        given = read_given(root, settings, names, class_names, class_ids, scratch)
        found.warnings += given.warnings
        mask_values = MaskValues(settings.mask_values, class_names)
        scribble_values = MaskValues(settings.scribble_values, class_names, "scribble_values")
        splits: dict[str, list[RawSample]] = {"train": [], "val": []}
        for name, own in class_ids.items():
            mask, scribbles = given.masks.get(name), given.scribbles.get(name)
            values = values_of(mask, mask_values, own)
            strokes = values_of(scribbles, scribble_values, own)
            if values is None or strokes is None:
                unclear = mask_values if values is None else scribble_values
                found.problems.append(Problem(name, unclear.several(own)))
                continue
            sample = RawSample(
                name,
                names.files[name],
                own,
                mask,
                values,
                ids[name][1],
                given.boxes.get(name, ()),
                given.points.get(name, ()),
                scribbles,
                strokes,
            )
            splits.setdefault(found.splits.get(name, "train"), []).append(sample)
        if not splits["val"] and "val" not in found.splits.values() and splits["train"]:
            splits["train"], splits["val"] = hold_out(
                splits["train"], settings.val_share, len(names.files), rng_seed, "val"
            )
        if settings.max_train is not None:
            splits["train"] = subset(splits["train"], settings.max_train, rng_seed)
        return RawDataset(
            class_names,
            splits,
            found.problems,
            found.warnings,
            offers=given.offers,
            has_background=self.settings.background,
        )


def _outside(name: str, layout: Layout) -> Problem:
    folders = some(sorted(layout.called.values()))
    return Problem(name, f"it lies in none of the splits' folders ({folders}); move it into one")
