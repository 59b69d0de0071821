"""Score maps of concepts by SAM 3, without the classifier."""

from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from wsss.checks import did_you_mean, full_key
from wsss.registry import CAM_METHODS
from wsss.settings import Named, expand_path

if TYPE_CHECKING:
    from torch import Tensor

    from wsss.models.classifier import Classifier

__all__ = ["Sam3Cam", "Sam3CamSettings"]

_KEY = "method.checkpoint"


class Sam3CamSettings(Named):
    """Which SAM 3, and how it is asked for each class."""

    class_keys = ("prompts",)

    name: Literal["sam3"] = "sam3"
    checkpoint: str
    """A folder with config.json, model.safetensors and the tokenizer, such as a download of
    facebook/sam3; a path that may hold ~ and $VARIABLES."""
    prompts: dict[str, str] = Field(default={})
    """What to ask for, by class name: short nouns such as "tv monitor" for tvmonitor. A class that
    is not here is asked for by its name, with spaces for underscores."""


@CAM_METHODS.register(Sam3CamSettings)
class Sam3Cam:
    """Each tag is a concept that SAM 3 looks for (Carion et al., arXiv 2511.16719).

    A cell's score is the greatest, over the instances found, of the instance's score times the
    probability of its mask there. The image is stretched to the network's own square, 1008 pixels
    wide, so that `scales: [1.0]` is enough. The classifier only gives the logits.

    Needs transformers: `pip install "wsss[sam]"`.
    """

    needs_gradients = False

    def __init__(self, settings: Sam3CamSettings) -> None:
        from wsss.models.pretrained_folder import read_pretrained

        self.settings = settings
        folder = expand_path(settings.checkpoint, _KEY)
        classes = {"sam3": "Sam3Model", "sam3_video": "Sam3Model"}
        self.network = read_pretrained(folder, classes, full_key(_KEY))
        from transformers import AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._concepts: dict[str, dict[str, Any]] = {}

    def __call__(
        self, model: "Classifier", images: "Tensor", rows: "Tensor", columns: "Tensor"
    ) -> "tuple[Tensor, Tensor]":
        import torch

        self._check_prompts(model.class_names)
        network = self.network.to(images.device)
        logits = model(images).logits
        height, width = network.config.vision_config.backbone_feature_sizes[0]
        maps = [images.new_zeros(0, height, width)]
        pairs = zip(rows.tolist(), columns.tolist(), strict=True)
        for row, tags in groupby(pairs, key=lambda pair: pair[0]):
            pixels = self._pixels(images[row : row + 1], model.backbone)
            vision = network.get_vision_features(pixels)
            for _, column in tags:
                concept = self._concept(model.class_names[column])
                found = network(vision_embeds=vision, **concept)
                scores = found.pred_logits.sigmoid() * found.presence_logits.sigmoid()  # (1, n)
                masks = found.pred_masks.sigmoid()  # (1, n, h, w)
                maps.append((masks * scores[..., None, None]).amax(dim=1).float())
        return torch.cat(maps), logits

    def _check_prompts(self, class_names: tuple[str, ...]) -> None:
        for name in self.settings.prompts:
            if name not in class_names:
                raise ValueError(
                    f"{full_key('method.prompts')} has '{name}', which is no class; "
                    + did_you_mean(name, class_names)
                )

    def _pixels(self, images: "Tensor", backbone: Any) -> "Tensor":
        """The classifier's images (B, 3, H, W) as SAM 3 takes them."""
        from torch.nn import functional

        side = self.network.config.vision_config.image_size
        unit = backbone.normalisation.to_unit(images)
        pixels = functional.interpolate(unit, (side, side), mode="bilinear", antialias=True)
        return pixels * 2 - 1  # mean and standard deviation of SAM 3 are one half

    def _concept(self, name: str) -> "dict[str, Any]":
        """The prompt of a class, encoded once."""
        if name not in self._concepts:
            tokens = self.tokenizer(
                self.settings.prompts.get(name, name.replace("_", " ")),
                padding="max_length",
                truncation=True,
                max_length=self.network.config.text_config.max_position_embeddings,
                return_tensors="pt",
            ).to(self.network.device)
            self._concepts[name] = {
                "text_embeds": self.network.get_text_features(**tokens),
                "attention_mask": tokens["attention_mask"],
            }
        return self._concepts[name]
