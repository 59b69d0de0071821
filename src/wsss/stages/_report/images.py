"""The gallery: the same images across stages, under one slider."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsss.artifacts import Sample, has_file, read_image, read_label_png, read_score_map
from wsss.evaluate import Counts
from wsss.evaluate.metrics import iou
from wsss.report.frame import Section, data_uri, escape
from wsss.report.layers import SIZES, mask_layer, outline_layer, photo, score_layer
from wsss.report.overlays import COLOURS
from wsss.stages._report.choosing import Group
from wsss.stages._report.known import Known

__all__ = ["BUDGET", "gallery_data", "image_section"]

BUDGET = 13_000_000
"""Bytes of all pictures of the gallery; as text in a page they take a third more."""

CHAINS = 4  # of which all are shown; of more, the one that masks are made from


@dataclass(frozen=True)
class _Stage:
    key: str
    title: str
    kind: str
    folder: Path = Path()


def _stages(known: Known) -> list[_Stage]:
    """What the slider goes through, of which there is a file of any image."""
    chain, chains = known.params.make_pseudo_masks.chain, known.params.refine.chains
    shown = [_Stage("image", "image", "image")]
    for target in known.targets:
        picture = target.stage.picture
        if picture is None:
            continue
        if target.stage.foreach and target.entry != chain and len(chains) > CHAINS:
            continue
        folder = known.paths.root / target.outs(known.params)[0]
        folder = folder / known.shown_split if picture.split else folder
        suffix = ".npz" if picture.kind == "scores" else ".png"
        if any(has_file(folder / f"{sample.name}{suffix}") for sample in known.samples):
            title = picture.heading.replace("{entry}", target.entry)
            shown.append(_Stage(target.report, title, picture.kind, folder))
    if known.image_scores:
        shown.append(_Stage("truth", "ground truth", "truth"))
    return shown


def gallery_data(known: Known, groups: Sequence[Group], long_side: int) -> dict[str, Any]:
    """What the page's script shows: stages, images with their layers, and groups of images.

    Args:
        known: all that there is.
        groups: of images; the first has all.
        long_side: of a picture, in pixels; where all would be too large, less.
    """
    stages = _stages(known)
    by_name = {sample.name: sample for sample in known.samples}
    samples = [by_name[name] for name in groups[0].images]
    at = {sample.name: place for place, sample in enumerate(samples)}
    images = [_image(known, sample, stages, long_side) for sample in samples]
    layers = sum(len(text) for image in images for text in image["layers"].values()) * 3 // 4
    return {
        "stages": [{"key": item.key, "title": item.title, "kind": item.kind} for item in stages],
        "images": images,
        "photos": _photos(known, samples, long_side, BUDGET - layers),
        "groups": {
            group.key: {
                "about": group.about + _count(group),
                "images": [at[name] for name in group.images],
            }
            for group in groups
        },
    }


def _count(group: Group) -> str:
    shown = len(group.images)
    return "" if shown == group.count else f" Shown are {shown} of {group.count}."


def _photos(known: Known, samples: Sequence[Sample], long_side: int, budget: int) -> list[bytes]:
    """The photographs, as large as all of them together may be."""
    found: list[bytes] = []
    for size in SIZES:
        found = []
        for sample in samples:
            found.append(photo(read_image(known.paths.images / sample.image), long_side, size))
            if sum(map(len, found)) > budget and size != SIZES[-1]:
                break
        else:
            break
    return found


def _image(
    known: Known, sample: Sample, stages: Sequence[_Stage], long_side: int
) -> dict[str, Any]:
    layers = {}
    for stage in stages:
        drawn = _layer(known, sample, stage, long_side)
        if drawn:
            layers[stage.key] = base64.b64encode(drawn).decode()
    truth = known.truth(sample) if known.image_scores else None
    if truth is not None:
        layers["outline"] = base64.b64encode(outline_layer(truth, long_side)).decode()
    return {"name": sample.name, "layers": layers, "facts": _facts(known, sample)}


def _layer(known: Known, sample: Sample, stage: _Stage, long_side: int) -> bytes:
    if stage.kind == "scores":
        path = stage.folder / f"{sample.name}.npz"
        return score_layer(read_score_map(path), sample.size) if has_file(path) else b""
    if stage.kind == "mask":
        path = stage.folder / f"{sample.name}.png"
        return mask_layer(read_label_png(path), long_side) if has_file(path) else b""
    if stage.kind == "truth":
        truth = known.truth(sample)
        return b"" if truth is None else mask_layer(truth, long_side)
    return b""


def _facts(known: Known, sample: Sample) -> list[tuple[str, str]]:
    names = known.manifest.class_names
    tags = ", ".join(names[at - 1] for at in sample.class_ids) or "none"
    facts = [("Tags", tags), ("Split", known.shown_split)]
    found = known.image_scores.get(sample.name)
    if found is None:
        return [*facts, ("Ground truth", "none")]
    values = iou(Counts.of(found.matrix[:, :-1]))
    per_class = ", ".join(
        f"{name} {value:.2f}"
        for name, value in zip(("background", *names), values.tolist(), strict=True)
        if not np.isnan(value)
    )
    failures = found.failures
    return [
        *facts,
        ("IoU of the foreground", "unknown" if np.isnan(found.iou) else f"{found.iou:.3f}"),
        ("IoU by class", per_class),
        ("Objects missed, merged", f"{failures.missed}, {failures.merged}"),
        ("Of the mask on background", f"{failures.leak:.0%} beside its object, "
                                      f"{failures.context:.0%} elsewhere"),
    ]  # fmt: skip


def image_section(known: Known, groups: Sequence[Group], data: dict[str, Any]) -> Section:
    """The gallery, with the view of one image.

    Args:
        known: all that there is.
        groups: as of `choose`.
        data: as of `gallery_data`; its photographs are taken out of it, into the page.
    """
    photos: Sequence[bytes] = data.pop("photos")
    stages: Sequence[Mapping[str, str]] = data["stages"]
    if not data["images"]:
        text = "No image is shown: report.images is 0, or no image is there."
        return Section("images", "Images", f'<p class="card none">{text}</p>')
    most = len(stages) - 1
    start = max(at for at, stage in enumerate(stages) if stage["key"] != "truth")
    choices = "".join(
        f'<button type="button" data-choice="{group.key}" aria-pressed="{str(not at).lower()}">'
        f"{escape(group.title)} ({len(group.images)})</button>"
        for at, group in enumerate([*groups[1:], groups[0]])
    )
    items = "".join(
        _item(at, image, picture)
        for at, (image, picture) in enumerate(zip(data["images"], photos, strict=True))
    )
    shown = sorted({at for sample in known.samples for at in sample.class_ids})
    key = "".join(
        f'<li style="--k:{_colour(class_id)}">{escape(known.manifest.class_names[class_id - 1])}'
        "</li>"
        for class_id in shown
    )
    outlined = bool(known.image_scores)
    without = (
        ""
        if outlined
        else '<p class="card none">No image that is shown has a ground truth, so none is best or '
        "worst, and how masks fail is not known. The most uncertain ones are.</p>"
    )
    body = (
        "<p>Move the slider, which all images follow, from the photograph to the ground truth; "
        "open one to see it large, with its numbers.</p>"
        f"{without}"
        f'<div class="choices" role="group" aria-label="Which images">{choices}</div>'
        f'<div class="controls">{_slider("stage", most, start, stages)}'
        f"{_check('outline', outlined)}</div>"
        f'<ul class="key" aria-label="Colours of the classes">{key}'
        f'<li style="--k:{_colour(255)}">ignored</li></ul>'
        f'<p class="quiet" id="chosen" role="status" tabindex="-1">{escape(groups[0].about)}</p>'
        f'<h3 id="gallery-title" class="skip">Gallery</h3>'
        f'<ul class="gallery" id="gallery">{items}</ul>'
        f"<noscript><p>Without JavaScript the photographs alone are shown.</p></noscript>"
        f"{_viewer(most, start, stages, outlined=outlined)}"
    )
    return Section("images", "The same images at every stage", body, "Images")


def _item(at: int, image: Mapping[str, Any], picture: bytes) -> str:
    facts = dict(image["facts"])
    score = facts.get("IoU of the foreground")
    said = f"IoU {score}" if score else ""
    name = escape(image["name"])
    return (
        f'<li><button type="button" aria-label="{name}: {escape(facts["Tags"])}. {said}">'
        f'<span class="picture" data-at="{at}">'
        f'<img alt="" loading="lazy" decoding="async" src="{data_uri(picture, "image/jpeg")}">'
        '<img alt=""><img alt=""></span>'
        f'<span class="text"><b>{name}</b>{escape(facts["Tags"])}<br>{said}</span></button></li>'
    )


def _slider(name: str, most: int, start: int, stages: Sequence[Mapping[str, str]]) -> str:
    return (
        f'<div class="slider"><label for="{name}">Stage</label>'
        f'<input type="range" id="{name}" min="0" max="{most}" step="1" value="{start}" '
        f'aria-valuetext="{escape(stages[start]["title"])}">'
        f'<output id="{name}-name" for="{name}">{escape(stages[start]["title"])}</output></div>'
    )


def _check(name: str, there: bool) -> str:
    hidden = "" if there else " hidden"
    return (
        f'<label class="check"{hidden}><input type="checkbox" id="{name}"'
        f"{' checked' if there else ''}> Outline of the ground truth</label>"
    )


def _viewer(most: int, start: int, stages: Sequence[Mapping[str, str]], *, outlined: bool) -> str:
    return (
        '<dialog id="viewer" aria-labelledby="viewer-title"><div class="dialog-head">'
        '<h3 id="viewer-title">Image</h3>'
        '<button type="button" id="viewer-before" aria-label="Image before">←</button>'
        '<button type="button" id="viewer-after" aria-label="Next image">→</button>'
        '<button type="button" id="viewer-close" aria-label="Close">✕</button></div>'
        f"{_slider('viewer-stage', most, start, stages)}{_check('viewer-outline', outlined)}"
        '<div class="picture" id="viewer-picture"><img alt="" src="data:,"><img alt="">'
        '<img alt=""></div>'
        '<p class="quiet" id="viewer-missing" hidden>This stage made nothing of the image.</p>'
        '<dl id="viewer-facts"></dl>'
        '<p class="small quiet">Arrow keys move the slider; Page Up and Page Down go to other '
        "images; Escape closes.</p></dialog>"
    )


def _colour(class_id: int) -> str:
    red, green, blue = COLOURS[class_id].tolist()
    return f"rgb({red} {green} {blue})"
