"""Published weights: their licences, and what they were trained on. The one table of them.

Weights of timm say theirs themselves; here is what others do not say in a form to be read.
"""

import re
from dataclasses import dataclass
from typing import Any

__all__ = ["NON_COMMERCIAL", "UNKNOWN", "WeightsFacts", "known_weights"]

UNKNOWN = "unknown"
"""Of a licence that nobody has named."""

NON_COMMERCIAL = re.compile(r"non-?commercial|research|(^|-)nc(-|$)|amlr|seer", re.IGNORECASE)
"""Found in the name of a licence that does not allow every use."""


@dataclass(frozen=True)
class WeightsFacts:
    """What is known of weights.

    Attributes:
        what: which weights they are.
        licence: its name, such as apache-2.0, or `UNKNOWN`.
        trained_on: the images.
        pixels: what of these images was labelled pixel by pixel: "none", or what; "unknown".
    """

    what: str
    licence: str = UNKNOWN
    trained_on: str = "unknown"
    pixels: str = "unknown"


_SAM = "SA-1B, 11 million photographs"
_SAM_PIXELS = "1.1 billion masks of SA-1B, made by a model that annotators corrected"
_WIT = "400 million images with texts of the web (OpenAI)"
_LAION = "LAION, images with texts of the web"

_FILES = {
    "sam_vit_b_01ec64.pth": WeightsFacts("SAM ViT-B", "apache-2.0", _SAM, _SAM_PIXELS),
    "sam_vit_l_0b3195.pth": WeightsFacts("SAM ViT-L", "apache-2.0", _SAM, _SAM_PIXELS),
    "sam_vit_h_4b8939.pth": WeightsFacts("SAM ViT-H", "apache-2.0", _SAM, _SAM_PIXELS),
    "mobile_sam.pt": WeightsFacts(
        "MobileSAM", "apache-2.0", f"a part of {_SAM}; taught by SAM ViT-H", _SAM_PIXELS
    ),
    "mobilenetv2_100_timm_tfsame.safetensors": WeightsFacts(
        "MobileNetV2 of google-coral/edgetpu, for timm", "apache-2.0", "ImageNet-1k", "none"
    ),
}
"""By the names under which their authors publish the files."""

_METHODS = {
    "sam2": WeightsFacts(
        "SAM 2", "apache-2.0", f"SA-V, videos, and {_SAM}", f"masks of SA-V and {_SAM_PIXELS}"
    ),
    "sam3": WeightsFacts(
        "SAM 3", "SAM License (Meta)", "SA-Co, images and videos", "masks of SA-Co, of concepts"
    ),
}
"""Networks that come in one kind of weights, by the name of the method that takes them."""

_CLIP = (
    (r"openai", WeightsFacts("CLIP of OpenAI", "mit", _WIT, "none")),
    (r"laion", WeightsFacts("CLIP of LAION", "mit", _LAION, "none")),
)

_IMAGES = {
    "in1k": "ImageNet-1k",
    "in12k": "ImageNet-12k",
    "in21k": "ImageNet-21k",
    "in22k": "ImageNet-22k",
    "lvd142m": "LVD-142M (Meta), without labels",
    "lvd1689m": "LVD-1689M (Meta), without labels",
    "sat493m": "SAT-493M (Maxar), satellite images without labels",
    "openai": _WIT,
    "laion2b": _LAION,
    "laion400m": _LAION,
    "jft": "JFT (Google)",
    "ig1b": "photographs of Instagram with hashtags",
    "yfcc100m": "YFCC100M",
    "fcmae": "ImageNet-1k, without labels",
    "mae": "ImageNet-1k, without labels",
    "dino": "ImageNet-1k, without labels",
    "sa1b": _SAM,
}
"""Parts of the tags of timm's weights, such as augreg_in21k_ft_in1k."""


def known_weights(weights: str, model_name: str = "", method: str = "") -> WeightsFacts | None:
    """What is known of weights that a setting names.

    Args:
        weights: "hub" (timm's), a tag of open_clip, or the name or path of a file or folder.
        model_name: of the network, for "hub" and for tags.
        method: the name of the method or source of proposals that takes them.

    Returns:
        None of a file of one's own, and of what timm does not know.

    Example:
        >>> known_weights("$WEIGHTS/sam_vit_b_01ec64.pth", method="sam").licence
        'apache-2.0'
        >>> known_weights("hub", "resnet18").trained_on
        'ImageNet-1k'
        >>> known_weights("mine.pth") is None
        True
    """
    if weights == "hub":
        return _of_timm(model_name)
    name = weights.rstrip("/").rpartition("/")[2]
    if name in _FILES:
        return _FILES[name]
    if method in _METHODS:
        return _METHODS[method]
    if method in ("clip_es", "text_seeds"):
        for pattern, facts in _CLIP:
            if re.search(pattern, name):
                return facts
    return None


def _of_timm(model_name: str) -> WeightsFacts | None:
    from timm.models import get_pretrained_cfg

    config: Any = get_pretrained_cfg(model_name)
    if config is None:
        return None
    tag = str(config.tag or "")
    parts = re.split(r"[_\d]*ft_|_", tag)
    images = dict.fromkeys(_IMAGES[part] for part in parts if part in _IMAGES)
    masks = "sa1b" in parts
    licence = str(config.license or UNKNOWN).lower()
    return WeightsFacts(
        f"{model_name.partition('.')[0]}.{tag} of timm",
        UNKNOWN if licence in ("", "unknown", "other") else licence,
        ", then ".join(images) or f"see timm's page of {config.hf_hub_id or model_name}",
        _SAM_PIXELS if masks else "none" if images else UNKNOWN,
    )
