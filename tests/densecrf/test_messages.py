"""Whatever a message tells to write is written here, and must give what was meant.

Code stands in backticks in a message. It is taken out of the message, evaluated on what was passed,
and the call made again. A message with code that no case here brings up fails the last test.
"""

import ast
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wsss.densecrf as dcrf
from wsss.densecrf import bilateral_filter, dense_crf, reference, utils

torch = pytest.importorskip("torch")

from wsss.densecrf import DenseCrfLoss, torch_crf  # noqa: E402

HEIGHT, WIDTH, LABELS = 3, 4, 2
POINTS = HEIGHT * WIDTH
RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
PROBS = RNG.dirichlet(np.ones(LABELS), (HEIGHT, WIDTH)).transpose(2, 0, 1).astype(np.float32)
UNARY = -np.log(PROBS).reshape(LABELS, POINTS)
FEATURES = RNG.normal(size=(5, POINTS)).astype(np.float32)
VALUES = RNG.uniform(size=(3, POINTS)).astype(np.float32)
LABEL_MAP = np.array([[1, 2, 3, 255], [3, 3, 255, 1]], np.uint8)


def new_crf() -> dcrf.DenseCRF2D:
    return dcrf.DenseCRF2D(WIDTH, HEIGHT, LABELS)


def with_unary(u: Any, crf: dcrf.DenseCRF | None = None) -> np.ndarray:
    crf = crf or new_crf()
    crf.setUnaryEnergy(u)
    return crf.inference(1)


def with_features(features: Any, crf: dcrf.DenseCRF | None = None) -> np.ndarray:
    crf = crf or new_crf()
    crf.setUnaryEnergy(UNARY)
    crf.addPairwiseEnergy(features, 3)
    return crf.inference(2)


def with_image(rgbim: Any, crf: Any = None) -> np.ndarray:
    crf = crf or new_crf()
    crf.setUnaryEnergy(UNARY)
    crf.addPairwiseBilateral(20, 15, rgbim, 3)
    return crf.inference(2)


def with_object(unary: Any) -> np.ndarray:
    crf = new_crf()
    crf.setUnary(unary)
    return crf.inference(1)


def divergence(Q: Any) -> np.ndarray:
    crf = new_crf()
    crf.setUnaryEnergy(UNARY)
    return np.array(crf.klDivergence(Q))


def loss(images: Any, probs: Any, roi: Any = None, unlabelled: Any = None, **settings: Any) -> Any:
    return DenseCrfLoss(1.0, **settings)(images, probs, roi, unlabelled).detach()


@dataclass
class Case:
    """A call that is refused, or warned of, and what of its arguments was meant otherwise."""

    call: Callable[..., Any]
    given: dict[str, Any]
    meant: dict[str, Any]


def cases() -> Iterator[tuple[str, Case]]:
    def case(name: str, call: Callable[..., Any], given: dict, meant: dict) -> tuple[str, Case]:
        return name, Case(call, given, meant)

    # ---- Axes in another order.
    planes = UNARY.reshape(LABELS, HEIGHT, WIDTH)
    orders = {
        "label-first": planes,
        "label-last": planes.transpose(1, 2, 0),
        "width-before-height": planes.transpose(0, 2, 1),
        "width-height-label": planes.transpose(2, 1, 0),
        "points-first": UNARY.T,
        "a-batch": planes.transpose(1, 2, 0)[None],
        "a-batch-of-rows": UNARY[None],
    }
    for name, u in orders.items():
        yield case(f"unary-{name}", with_unary, {"u": u}, {"u": UNARY})
        tensor = torch.from_numpy(np.ascontiguousarray(u))
        yield case(f"unary-tensor-{name}", with_unary, {"u": tensor}, {"u": UNARY})
        yield case(f"unary-list-{name}", with_unary, {"u": u.tolist()}, {"u": UNARY})
        q = np.exp(-u)
        yield case(f"divergence-{name}", divergence, {"Q": q}, {"Q": np.exp(-UNARY)})
    square = np.arange(8.0).reshape(2, 2, 2)
    for name, u in {"first": square, "last": square.transpose(1, 2, 0)}.items():
        given = {"u": u, "crf": dcrf.DenseCRF2D(2, 2, 2)}
        yield case(
            f"unary-of-a-square-label-{name}", with_unary, given, {"u": square.reshape(2, 4)}
        )
    grid = FEATURES.reshape(5, HEIGHT, WIDTH)
    for name, features in {
        "first": grid,
        "last": grid.transpose(1, 2, 0),
        "width-height": grid.transpose(2, 1, 0),
        "width-before-height": grid.transpose(0, 2, 1),
        "of-points": FEATURES.T,
    }.items():
        yield case(
            f"features-{name}", with_features, {"features": features}, {"features": FEATURES}
        )
    wanted = {"images": IMAGE, "probs": PROBS}
    for name, probs in {
        "label-last": PROBS.transpose(1, 2, 0),
        "swapped": PROBS.transpose(0, 2, 1),
        "swapped-label-last": PROBS.transpose(2, 1, 0),
        "flat": PROBS.reshape(LABELS, POINTS),
        "a-batch": PROBS[None],
    }.items():
        yield case(f"probs-{name}", dense_crf, {"images": IMAGE, "probs": probs}, wanted)
        given = {"images": [IMAGE, IMAGE], "probs": [PROBS, probs]}
        meant = {"images": [IMAGE] * 2, "probs": [PROBS] * 2}
        yield case(f"probs-in-a-list-{name}", dense_crf, given, meant)
        tensors = {
            "images": torch.from_numpy(IMAGE),
            "probs": torch.from_numpy(np.ascontiguousarray(probs)),
        }
        yield case(f"probs-tensor-{name}", dense_crf, tensors, wanted)
    first = IMAGE.transpose(2, 0, 1)
    alpha = np.concatenate([IMAGE, IMAGE[..., :1]], axis=2)
    for name, image in {"channel-first": first, "with-alpha": alpha}.items():
        yield case(f"image-{name}", with_image, {"rgbim": image}, {"rgbim": IMAGE})
        yield case(f"images-{name}", dense_crf, {"images": image, "probs": PROBS}, wanted)
    tensors = {"images": torch.from_numpy(first.copy()), "probs": torch.from_numpy(PROBS)}
    yield case("images-tensor-channel-first", dense_crf, tensors, wanted)
    given = {"rgbim": IMAGE, "crf": dcrf.DenseCRF2D(HEIGHT, WIDTH, LABELS)}
    yield case("size-swapped", with_image, given, {"crf": new_crf()})
    filtered = {"features": FEATURES, "values": VALUES}
    yield case("values-of-points", bilateral_filter, {**filtered, "values": VALUES.T}, filtered)
    row = {"features": FEATURES, "values": VALUES[0]}
    yield case("values-flat", bilateral_filter, row, {**filtered, "values": VALUES[:1]})
    row = {"features": FEATURES[0], "values": VALUES}
    yield case("features-flat", bilateral_filter, row, {**filtered, "features": FEATURES[:1]})

    # ---- Values in another range, or of another type.
    for name, image in {
        "float": IMAGE.astype(np.float32),
        "int": IMAGE.astype(np.int64),
        "unit": (IMAGE / 255).astype(np.float32),
        "half": (IMAGE / 255).astype(np.float16),
        "off-by-rounding": IMAGE - 1e-4 * (IMAGE > 0),
    }.items():
        yield case(f"image-{name}", with_image, {"rgbim": image}, {"rgbim": IMAGE})
        yield case(f"image-list-{name}", with_image, {"rgbim": image.tolist()}, {"rgbim": IMAGE})
        tensors = {"images": torch.from_numpy(image), "probs": torch.from_numpy(PROBS)}
        yield case(f"images-tensor-{name}", dense_crf, tensors, wanted)
    mask = IMAGE > 127
    white = {"rgbim": (mask * 255).astype(np.uint8)}
    yield case("image-bool", with_image, {"rgbim": mask}, white)
    yield case("unary-object", with_object, {"unary": UNARY}, {"unary": dcrf.ConstUnary(UNARY)})
    tensor = torch.from_numpy(UNARY).requires_grad_()
    yield case("unary-requires-grad", with_unary, {"u": tensor}, {"u": UNARY})
    named = {"images": torch.from_numpy(IMAGE), "probs": torch.from_numpy(PROBS)}
    leaf = torch.from_numpy(PROBS).requires_grad_()
    yield case("probs-require-grad", dense_crf, {**named, "probs": leaf}, wanted)
    yield case("probs-no-tensor", dense_crf, {**named, "probs": PROBS}, wanted)
    yield case("images-no-tensor", dense_crf, {**named, "images": IMAGE}, wanted)
    for option, sigma in (
        ("compat_gaussian", "sigma_gaussian"),
        ("compat_bilateral", "sigma_xy"),
        ("compat_bilateral", "sigma_rgb"),
    ):
        yield case(f"no-{sigma}", dense_crf, {**wanted, sigma: 0}, {**wanted, option: 0})
    labels = {"labels": LABEL_MAP, "n_labels": 3, "gt_prob": 0.7}
    unsure = np.where(LABEL_MAP == 255, 0, LABEL_MAP.astype(int))
    yield case("labels-ignored", utils.unary_from_labels, labels, {**labels, "labels": unsure})
    from_0 = np.where(LABEL_MAP == 255, 255, LABEL_MAP - 1).astype(np.uint8)
    given = {**labels, "labels": from_0, "zero_unsure": False}
    meant = {"labels": unsure, "zero_unsure": True}
    yield case("labels-ignored-from-0", utils.unary_from_labels, given, meant)
    given = {**labels, "labels": unsure.astype(float).tolist()}
    yield case("labels-float", utils.unary_from_labels, given, {**labels, "labels": unsure})
    bilateral = {"sdims": (3, 4), "schan": (13,), "img": IMAGE, "chdim": 2}
    yield case(
        "schan-short", utils.create_pairwise_bilateral, bilateral, {**bilateral, "schan": 13}
    )

    # ---- The loss.
    images = torch.from_numpy(IMAGE).permute(2, 0, 1)[None].contiguous()
    probs = torch.from_numpy(PROBS)[None]
    batch = {"images": images, "probs": probs}
    yield case("loss-channel-last", loss, {**batch, "images": images.permute(0, 2, 3, 1)}, batch)
    grey = {**batch, "images": images[:, :1]}
    yield case("loss-grey", loss, {**batch, "images": images[:, 0]}, grey)
    yield case("loss-int", loss, {**batch, "images": images.long()}, batch)
    many = {**batch, "images": images.repeat(1, 85, 1, 1)}
    yield case("loss-of-255-channels", loss, many, {**many, "exact": True})
    unlabelled = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    unlabelled[0, 1] = True
    gated = {**batch, "unlabelled": unlabelled, "gated": True}
    yield case("loss-not-gated", loss, {**gated, "gated": False}, gated)
    marked = {**gated, "unlabelled": unlabelled.long() * 255}
    yield case("loss-label-map", loss, marked, gated)
    leaf = images.float().requires_grad_()
    yield case("loss-images-require-grad", loss, {**batch, "images": leaf}, batch)
    narrow = {"images": images[..., :1], "probs": probs[..., :1]}
    yield case("loss-narrow", loss, narrow, {**narrow, "scale_factor": 1})
    logits = {**batch, "probs": probs.log() * 3}
    yield case("loss-logits", loss, logits, {**batch, "probs": (probs.log() * 3).softmax(1)})
    unit = {**batch, "images": images / 255}
    yield case("loss-unit", loss, unit, {**unit, "image_max": 1})
    bright = {**batch, "images": images.float(), "image_max": 1}
    yield case("loss-not-unit", loss, bright, {**bright, "image_max": 255})
    roi = {**batch, "roi": unlabelled.float() * 255}
    yield case("loss-roi", loss, roi, {**batch, "roi": unlabelled})


CASES = dict(cases())


def message_of(case: Case) -> str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            case.call(**case.given)
        except ValueError as error:
            return str(error)
    assert caught, "neither refused nor warned of"
    return str(caught[0].message)


def codes_of(message: str) -> list[str]:
    return re.findall("`([^`]+)`", message)


def follow(code: str, given: dict[str, Any]) -> dict[str, Any]:
    """The arguments with what `code` changes: name=value, or an expression of an argument."""
    names = {**vars(dcrf), **given, "np": np, "torch": torch, "n_labels": LABELS}
    setting = re.fullmatch(r"(\w+)=(.+)", code)
    if setting:
        return {**given, setting[1]: eval(setting[2], names)}
    changed = eval(code, names)
    if isinstance(changed, dcrf.DenseCRF2D):
        return {**given, "crf": changed}
    # What it is made of: `u`, or an element of a list, `probs[1]`.
    tree = ast.parse(code, mode="eval")
    used = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    target = next(name for name in used if name in given)
    if isinstance(given[target], list) and isinstance(given[target][0], np.ndarray):
        index = int(re.search(rf"{target}\[(\d+)\]", code)[1])
        elements = list(given[target])
        elements[index] = changed
        return {**given, target: elements}
    return {**given, target: changed}


def same(found: Any, expected: Any) -> bool:
    if isinstance(expected, list):
        return all(same(f, e) for f, e in zip(found, expected, strict=True))
    found, expected = np.asarray(found), np.asarray(expected)
    return found.shape == expected.shape and np.allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_code_in_a_message_gives_what_was_meant(name) -> None:
    case = CASES[name]
    message = message_of(case)
    expected = case.call(**{**case.given, **case.meant})
    codes = codes_of(message)
    assert codes, message
    settings = [code for code in codes if re.fullmatch(r"\w+=.+", code)]
    others = [code for code in codes if code not in settings]
    # Settings go with what else is to be written. Several expressions are alternatives, each with
    # the layout that it is for: one of them is meant.
    answers = []
    for other in others or [None]:
        given = dict(case.given) if other is None else follow(other, case.given)
        for setting in settings:
            given = follow(setting, given)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # followed, it must not be warned of any more
            try:
                answers.append(case.call(**given))
            except ValueError:
                answers.append(None)
    assert any(answer is not None and same(answer, expected) for answer in answers), message
    assert len(answers) == 1 or message.count("; if it is") == len(answers), message


def test_the_layout_is_named_where_two_would_fit() -> None:
    message = message_of(CASES["unary-of-a-square-label-first"])
    assert "if it is (n_labels, height, width), pass `u.reshape(n_labels, -1)`" in message
    transposed = "`u.transpose(2, 0, 1).reshape(n_labels, -1)`"
    assert f"if it is (height, width, n_labels), pass {transposed}" in message


# ---- Advice in words.


def test_a_larger_sigma_by_the_factor_that_is_named_is_enough() -> None:
    rows = np.linspace(0, 1, 2 * POINTS).reshape(2, POINTS)
    for scale in (1e13, 3e14, 1e20, 3e37):
        for dim in (1, 2):
            features = rows[:dim] * scale
            for call in (
                lambda f: bilateral_filter(f, VALUES),
                with_features,
                lambda f: torch_crf.TorchLattice.build(torch.from_numpy(f), [POINTS]),
            ):
                with pytest.raises(ValueError, match="larger by a factor of") as refused:
                    call(features)
                call(features / float(re.search(r"factor of (\S+)", str(refused.value))[1]))
    for sigma in (1e-14, 1e-42):
        crf = new_crf()
        with pytest.raises(ValueError, match="larger by a factor of") as refused:
            crf.addPairwiseGaussian(sigma, 3)
        crf.addPairwiseGaussian(sigma * float(re.search(r"of (\S+)", str(refused.value))[1]), 3)


def test_a_softmax_and_a_clip_are_enough() -> None:
    logits = np.array([3.0, -2.0])[:, None, None] * PROBS
    for call in (
        lambda p: dense_crf(IMAGE, p),
        lambda p: dense_crf(torch.from_numpy(IMAGE), torch.from_numpy(p)),
    ):
        with pytest.raises(ValueError, match="apply a softmax to logits first"):
            call(logits)
        call(np.exp(logits) / np.exp(logits).sum(0))
    nowhere = np.zeros((LABELS, POINTS))
    with np.errstate(divide="ignore"):
        for call in (with_unary, lambda u: reference.mean_field(u, [], 1)):
            with pytest.raises(ValueError, match="clip probabilities away from 0 before taking"):
                call(-np.log(nowhere))
            np.testing.assert_allclose(call(-np.log(np.maximum(nowhere, 1e-5))), 0.5)


def test_a_q_from_where_the_message_says_is_taken() -> None:
    crf = new_crf()
    crf.setUnaryEnergy(UNARY)
    with pytest.raises(ValueError, match="take it from startInference, or from inference"):
        crf.stepInference(UNARY.astype(float))
    for q in (crf.startInference()[0], crf.inference(0)):
        crf.stepInference(q)


def test_on_another_device_code_moves_the_tensor() -> None:
    # No GPU is needed to see the code, only to run it.
    meta = torch.from_numpy(IMAGE).to("meta")
    with pytest.raises(ValueError, match=r"`probs.to\(images.device\)` converts"):
        dense_crf(meta, torch.from_numpy(PROBS))
    images, probs = torch.zeros(1, 3, 4, 4), torch.full((1, 2, 4, 4), 0.5)
    with pytest.raises(ValueError, match=r"pass `images.to\(probs.device\)`"):
        DenseCrfLoss()(images.to("meta"), probs)


BY_HAND = {  # other tests of this module
    "{}.to({}.device)",
    "`{}.to(probs.device)`",
}


def source_codes() -> Iterator[tuple[str, str]]:
    """(file and line, code in a message) of the package, a value in it as {}."""
    for path in sorted(Path(dcrf.__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        inner = {
            id(part)
            for node in ast.walk(tree)
            if isinstance(node, ast.JoinedStr)
            for part in node.values
        }
        for node in ast.walk(tree):
            if id(node) in documentation | inner:
                continue
            if isinstance(node, ast.JoinedStr):
                text = "".join(
                    p.value if isinstance(p, ast.Constant) else "{}" for p in node.values
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            else:
                continue
            where = f"{path.name}:{node.lineno}"
            if text.startswith("{x}"):  # a layout
                yield where, text.replace("{x}", "{}").replace("{p}", "{}")
                continue
            if text.startswith(
                (".reshape({}", "np.array({}", "torch.as_tensor", "{}.to({}.device)")
            ):  # a part of others
                yield where, text
                continue
            for code in re.findall("`[^`]+`", text):
                yield where, code
            outside = re.sub("`[^`]*`", "", text)
            assert not re.search(r"\b(np|torch)\.\w+\(|\.(to|detach|reshape)\(|=True", outside), (
                f"{where}: code without backticks in {text!r}"
            )


def test_every_message_with_code_is_brought_up_here() -> None:
    codes = [code for case in CASES.values() for code in codes_of(message_of(case))]
    for where, template in source_codes():
        if template in BY_HAND or template.strip("`") in ("{}", "{}={}"):
            continue
        pattern = re.escape(template.strip("`")).replace(r"\{\}", ".+")
        assert any(re.search(pattern + "$", code) for code in codes), (
            f"{where}: no case of this module brings up {template}"
        )
