"""Sections of params.yaml from pseudo masks to predictions."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

from wsss.artifacts.background import BackgroundSettings
from wsss.config.kernels import CrfKernelSettings
from wsss.config.sections import AugmentSettings, FixedBackbone, Precision, TrainSettings
from wsss.registry import NETWORKS, PIXEL_LOSSES, TAG_FORMS
from wsss.settings import Named, Settings, explain

__all__ = [
    "WEIGHTS_SUFFIXES",
    "PER_CLASS",
    "ClassCropSettings",
    "PerClassSettings",
    "PredictMasksSettings",
    "PseudoMaskSettings",
    "RetrievalSettings",
    "SegmenterAugmentSettings",
    "SegmenterSettings",
    "TrainSegmenterSettings",
]

if TYPE_CHECKING:
    PixelLossChoice: TypeAlias = Named
    TagFormChoice: TypeAlias = Named
else:
    PixelLossChoice = PIXEL_LOSSES.choice()
    TagFormChoice = TAG_FORMS.choice()


PER_CLASS = "per_class"
"""In place of a chain in make_pseudo_masks.chain: each class is taken from its best one."""


class PerClassSettings(Settings):
    """How the best chain of each class is found."""

    chosen_on: Literal["selection", "given"] = "selection"
    """The images that chains are compared on: those of the selection split that have masks, or
    those of train and selection whose mask annotators gave or corrected to learn from."""
    shrinkage: float = Field(default=20, ge=0)
    """Images of a class at which its own IoU counts as much as how good a chain is on the whole;
    with fewer, less. 0 trusts each class alone, however few images show it."""


class PseudoMaskSettings(BackgroundSettings):
    read_when: ClassVar[Mapping[str, Any]] = {
        **BackgroundSettings.read_when,
        "per_class": ("chain", (PER_CLASS,)),
        "threshold": ("background", ("constant",)),
    }

    chain: str = "crf"
    """The refine chain that masks are made from; per_class takes each class from the chain that
    finds it best."""
    per_class: PerClassSettings = PerClassSettings()
    """How the best chain of each class is found, where chain is per_class."""
    threshold: float | Literal["selected", "usual"] = "selected"
    """The score of the constant background, in [0, 1]; 'selected' takes the best of the selection
    split, which needs some masks, 'usual' what suits the chain: 0.5 after a dense CRF and
    what else has let a background compete, 0.4 else."""
    ignore_margin: float = Field(default=0.05, ge=0, lt=1)
    """A pixel whose winner leads the runner-up by less, background included, is ignored (255).
    Scores are compared after their odds are divided by the threshold's, which becomes 0.5."""
    ignore_below: float = Field(default=0, ge=0, lt=1)
    """A pixel whose winner has a smaller share of the sum of scores, the background's 1 - max
    among them, is ignored; 0.95 in CLIP-ES. Of a dense CRF these shares are its probabilities."""
    ignore_below_prob: float = Field(default=0, ge=0, le=1)
    """A pixel won by a class whose probability in its image, as the classifier has it, is smaller
    is ignored: what it has not recognised, it cannot have found."""
    min_area_share: float = Field(default=0, ge=0, lt=1)
    """A class that covers less of its image than this share is ignored there."""

    @field_validator("threshold")
    @classmethod
    def _range(cls, value: float | str) -> float | str:
        if not isinstance(value, str) and not 0 <= value <= 1:
            raise ValueError("a threshold lies in [0, 1], or is 'selected' or 'usual'")
        return value

    @property
    def selects_threshold(self) -> bool:
        """Whether the threshold is chosen on masks of the selection split."""
        if self.chain == PER_CLASS and self.per_class.chosen_on == "given":
            return False
        return self.background == "constant" and self.threshold == "selected"

    def towards(self, *, background: bool) -> tuple[str, Literal["raise", "lower", "change"]]:
        """The setting that moves the border between classes and background, and how.

        Args:
            background: whether more pixels are to be background, or of a class.
        """
        key, raising = "threshold", background
        if self.background == "power":
            key, raising = "alpha", not background
        elif self.background == "object":
            return "make_pseudo_masks.object_source", "change"
        elif self.background == "none":
            key = "ignore_margin"
        elif self.chain == PER_CLASS:
            return "make_pseudo_masks.chain", "change"
        return f"make_pseudo_masks.{key}", "raise" if raising else "lower"

    def without_doubt(self) -> Self:
        """The same, but no pixel of a class or the background is ignored."""
        keys = ("ignore_margin", "ignore_below", "ignore_below_prob", "min_area_share")
        return self.model_copy(update=dict.fromkeys(keys, 0.0))

    @model_validator(mode="after")
    def _thresholds_compete(self) -> Self:
        if self.chain == PER_CLASS and self.background == "constant":
            if self.threshold != "selected":
                raise ValueError(
                    f"threshold is {self.threshold}, but with chain: {PER_CLASS} each class has "
                    "that of its chain; set it to selected"
                )
        elif self.chain == PER_CLASS:
            raise ValueError(
                f"background is {self.background}, but with chain: {PER_CLASS} chains compete by "
                "their thresholds; set it to constant"
            )
        return self


WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


class SegmenterSettings(Settings):
    arch: str = "deeplabv3plus"
    """Any architecture of segmentation-models-pytorch, or a network of this project: deeplabv2,
    enc_dec_unpool, frozen_decoder, unet_small."""
    encoder: str = "classifier"
    """'classifier' for the classifier's backbone, or a name of segmentation-models-pytorch; of
    deeplabv2 one of timm. The other networks of this project have their own."""
    encoder_weights: str = "classifier"
    """'classifier' (what train_classifier learned), 'backbone' (the file or hub weights the
    classifier started from), 'none', 'hub', a pretrained name such as 'imagenet', or a file."""
    arch_kwargs: dict[str, Any] = Field(default={})
    """Further arguments of segmentation_models_pytorch.create_model, or the settings of a network
    of this project."""
    freeze_batchnorm: bool = False
    """Batch norm of the encoder keeps its running statistics and affine values."""
    frozen_stages: NonNegativeInt = 0
    """The encoder's first stages that keep their weights and cost no backward pass: 0 none, 1 the
    stem, down to half of the image's size, 2 also the next, to a quarter, and so on. The first of
    deeplabv2 goes down to a quarter."""

    @property
    def network(self) -> Any:
        """The settings of a network of this project; None of segmentation-models-pytorch's."""
        if self.arch not in NETWORKS.names():
            return None
        return NETWORKS.settings(self.arch).model_validate(self.arch_kwargs)

    def models_within(self) -> list[type[Settings]]:
        """As of `Settings`, with those of the network, which stand in arch_kwargs."""
        network = self.network
        return super().models_within() + ([] if network is None else network.models_within())

    @property
    def weights_are_a_file(self) -> bool:
        """Whether encoder_weights names one."""
        return Path(self.encoder_weights).suffix in WEIGHTS_SUFFIXES

    @model_validator(mode="after")
    def _network_fits(self) -> Self:
        network = None
        if self.arch in NETWORKS.names():
            outer = create_model("Outer", arch_kwargs=(NETWORKS.settings(self.arch), ...))
            given = {"arch_kwargs": self.arch_kwargs}
            try:
                network = outer.model_validate(given).arch_kwargs  # type: ignore[attr-defined]
            except ValidationError as error:
                lines = str(explain(error, "", outer, given)).split("\n")
                raise ValueError("; ".join(line.removeprefix(": ") for line in lines)) from None
        if network is None:
            return self
        if network.encoder_is != "chosen" and self.encoder != "classifier":
            raise ValueError(
                f"encoder is '{self.encoder}', but {self.arch} has its own; leave it at "
                "'classifier'"
            )
        weights = f"encoder_weights is '{self.encoder_weights}', but {self.arch}"
        known = ("classifier", "backbone", "hub", "none")
        if not network.pretrained and self.encoder_weights != "none":
            raise ValueError(f"{weights} starts from random values; set it to 'none'")
        if network.encoder_is == "frozen":
            if self.encoder_weights != "classifier":
                raise ValueError(
                    f"{weights} has weights where arch_kwargs.backbones names them; leave it at "
                    "'classifier'"
                )
            if self.frozen_stages or self.freeze_batchnorm:
                raise ValueError(
                    f"no backbone of {self.arch} learns; set frozen_stages to 0 and "
                    "freeze_batchnorm to false"
                )
        elif self.encoder_weights not in known and not self.weights_are_a_file:
            raise ValueError(
                f"{weights} takes {', '.join(known)} or a file that ends in "
                f"{', '.join(WEIGHTS_SUFFIXES)}"
            )
        return self


class ClassCropSettings(Settings):
    """Crops that are placed so as to show a class that they might otherwise miss."""

    class_keys = ("classes",)

    share: float = Field(default=0, ge=0, le=1)
    """Share of the crops that are drawn for a class: the class first, then an image whose label
    map has it, then a pixel of it that the crop must show. 0.33 is a car in every third crop."""
    classes: tuple[str, ...] = Field(default=())
    """The classes to draw from, all alike; empty is all that label maps have."""


class SegmenterAugmentSettings(AugmentSettings):
    class_crops: ClassCropSettings = ClassCropSettings()


class RetrievalSettings(Settings):
    """Proposals of an image take the class of the training regions that are most like them.

    A region is a connected part of a class, or of the background, in the pseudo mask of a training
    image. Nothing is trained: of train_segmenter no other setting has an effect, and of
    predict_masks neither have scales and flip.
    """

    proposals: str = Field(default="superpixels", min_length=1)
    """An entry of make_proposals."""
    backbone: FixedBackbone = Field(default="classifier")
    """What gives the features: 'classifier', as train_classifier left it, or any timm model with
    the keys of train_classifier.backbone."""
    long_side: PositiveInt = 512
    """Longer side of the images of which features are made, in pixels."""
    erosions: NonNegativeInt = 20
    """By how many pixels regions are made smaller on all sides, of an image whose longer side is
    512; of others in proportion."""
    min_area: NonNegativeInt = 300
    """Pixels that must be left of a region, of such an image."""
    trim_share: float = Field(default=0.25, ge=0, lt=1)
    """Share of the regions of each class that are left out, those farthest from their mean."""
    neighbours: PositiveInt = 25
    """Regions that have a vote on a proposal."""
    nms_iou: float = Field(default=0.4, ge=0, le=1)
    """A proposal is left out if its intersection over union with a better one of its class is
    larger."""


class TrainSegmenterSettings(TrainSettings):
    model: SegmenterSettings = SegmenterSettings()
    retrieval: RetrievalSettings | None = None
    """In place of a network: regions to compare proposals with. null trains `model`."""
    augment: SegmenterAugmentSettings = SegmenterAugmentSettings()
    losses: tuple[PixelLossChoice, ...] = Field(
        default_factory=lambda: (PIXEL_LOSSES.default("cross_entropy"),), min_length=1
    )
    """What labelled pixels teach; the losses are summed by their weights."""
    tags_only: TagFormChoice = Field(default_factory=lambda: TAG_FORMS.default("pseudo_masks"))
    """What images without a whole mask of an annotator teach."""
    given_share: float = Field(default=0, ge=0, lt=1)
    """Share of images with a mask of an annotator in every batch; 0 leaves it to chance."""
    given_weight: PositiveFloat = 1
    """How much a pixel of such a mask counts, where others count 1."""
    images_per_epoch: NonNegativeInt = 0
    """Crops in an epoch, so that trainings on more and on fewer images take as many steps; 0 is one
    of each training image."""
    ema_decay: float = Field(default=0, ge=0, lt=1)
    """Scored, kept and asked for labels is the running mean of the weights, which keeps this share
    of itself in each step; 0.999 is usual. 0 keeps the weights as trained."""
    eval_long_side: NonNegativeInt = 320
    """Longer side of selection images when scored, in pixels. 0 follows the images: the median
    longer side of the training images."""

    @field_validator("losses")
    @classmethod
    def _different(cls, losses: tuple[Named, ...]) -> tuple[Named, ...]:
        names = [loss.name for loss in losses]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"'{name}' is there twice; give it once, with the sum of weights")
        return losses

    def check_given(self, *, masks: bool, seeds: bool) -> None:
        """Raise ValueError if annotators gave nothing of what these settings learn from.

        Args:
            masks: whether a training image has a whole mask.
            seeds: whether one has points or scribbles.
        """
        if self.retrieval is not None:
            return
        if self.given_share and not masks:
            raise ValueError(
                f"train_segmenter.given_share is {self.given_share:g}, but no training image has "
                "the mask of an annotator; set prepare_data.pixel_labels, or this to 0"
            )
        if getattr(self.tags_only, "needs_given", False) and not masks and not seeds:
            raise ValueError(
                f"train_segmenter.tags_only.name is '{self.tags_only.name}', but no training image "
                "has a mask, points or scribbles of an annotator, and nothing else teaches it; set "
                "prepare_data.pixel_labels, or this to pseudo_masks"
            )


class PredictMasksSettings(Settings):
    read_when: ClassVar[Mapping[str, Any]] = {
        "window_overlap": ("window", None),
        "filter_long_side": ("filter_recall", None),
    }

    splits: tuple[Literal["train", "selection", "val"], ...] = Field(default=("val",), min_length=1)
    """The splits whose images are predicted, besides those of prepare_data.scored_sets."""
    scales: tuple[PositiveFloat, ...] = Field(default=(0.75, 1.0, 1.25), min_length=1)
    flip: bool = True
    batch_size: PositiveInt = 16
    """Images of one size, or windows of one image, that run together."""
    window: NonNegativeInt = 0
    """Side of the windows that larger images are cut into, in pixels of the image, best a multiple
    of 32; each is predicted at all scales. 0 runs images whole. For images too large for memory."""
    window_overlap: float = Field(default=0.5, ge=0, lt=1)
    """Share of a window that the next one covers again."""
    precision: Precision = "32-true"
    """As of train_classifier."""
    crf: CrfKernelSettings | None = None
    """A dense CRF over the probabilities of each image, or window; null is without."""
    filter_recall: float = Field(default=0, ge=0, le=1)
    """Classes whose probability for the image, by the classifier, is too low are left out. Too low
    is what loses a class on no more of the selection split's images than this recall allows, such
    as 0.99; 0 leaves out none."""
    filter_long_side: NonNegativeInt = 320
    """Longer side of an image when the classifier looks at it, in pixels. 0 follows the images: the
    median longer side of the training images."""
