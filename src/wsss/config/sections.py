"""Sections of params.yaml as frozen models: `base`, `machine`, maps and their evaluation."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import (
    Discriminator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Tag,
    field_validator,
    model_validator,
)

from wsss.checks import did_you_mean
from wsss.registry import AFFINITIES, CAM_METHODS, METHODS, PROPOSALS, REFINERS
from wsss.settings import Named, Settings

__all__ = [
    "AffinitySettings",
    "AugmentSettings",
    "BackboneSettings",
    "BaseSettings",
    "EvaluateSettings",
    "FixedBackbone",
    "FurtherCamsSettings",
    "GenerateCamsSettings",
    "HeadSettings",
    "MachineSettings",
    "OptimizerSettings",
    "Precision",
    "ProposalChoice",
    "RefineSettings",
    "ReportSettings",
    "TrainClassifierSettings",
    "TrainSettings",
]

if TYPE_CHECKING:
    MethodChoice: TypeAlias = Named
    CamMethodChoice: TypeAlias = Named
    ProposalChoice: TypeAlias = Named
    AffinityChoice: TypeAlias = Named
    RefinerChoice: TypeAlias = Named
else:
    MethodChoice = METHODS.choice()
    CamMethodChoice = CAM_METHODS.choice()
    ProposalChoice = PROPOSALS.choice()
    AffinityChoice = AFFINITIES.choice()
    RefinerChoice = REFINERS.choice()


Precision: TypeAlias = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]


class BaseSettings(Settings):
    rng_seed: NonNegativeInt = 2024
    """The one source of randomness."""
    recipe: str = "synthetic_cam"
    """The recipe these values came from; a tag of every run, without effect on results."""


class MachineSettings(Settings):
    """Where and how fast things run. DVC does not track it, as results do not depend on it; those
    of training depend on the number of devices as on a seed."""

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: PositiveInt = 1
    """Processes that a stage which trains or infers is run in, with a device each. They share each
    batch, so that batch_size and learning rate stay what they are on one device."""
    num_workers: NonNegativeInt | Literal["auto"] = "auto"
    """Processes that load images; auto is one per core, at most 8."""
    checkpoint_minutes: PositiveFloat = 30
    """Training keeps its state so often, besides after each epoch and when a signal stops it."""
    experiment: str = "wsss"
    """The MLflow experiment."""


class BackboneSettings(Settings):
    model_name: str = "resnet18"
    """Any timm model with a feature map, or resnet38d of the PSA family."""
    output_stride: PositiveInt = 16
    """Image pixels per cell of the last feature map: 8, 16 or 32 of most convolutional networks, 8
    of resnet38d, the side of a patch of a vision transformer (14 in DINOv2)."""
    last_stage: int = Field(default=0, ge=0, le=4)
    """The stage, 1 to 4, whose features are taken: nothing behind it is run or learns. Of small
    things the last stages see mostly what is around them. 0 is the whole network."""
    weights: str = "none"
    """'none' (random), 'hub' (timm's), or a file (.safetensors, .pth), $VARS expanded."""
    timm_kwargs: dict[str, Any] = Field(default={})
    """Further arguments of timm.create_model, such as pad_type: same. Transformers that can take
    images of any size do so, unless dynamic_img_size: false."""
    mean: tuple[float, float, float] | None = None
    """Per channel, of an image in [0, 1]; none is what the timm model was trained with."""
    std: tuple[float, float, float] | None = None
    """Per channel, as `mean`."""
    frozen_stages: NonNegativeInt = 0
    """The stem and first stages that keep their weights: 0 none, 1 the stem, 2 also the next."""
    freeze_batchnorm: bool = False
    """Batch norm keeps its running statistics and affine values."""


FixedBackbone: TypeAlias = Annotated[
    Annotated[Literal["classifier"], Tag("named")] | Annotated[BackboneSettings, Tag("settings")],
    Discriminator(lambda value: "named" if isinstance(value, str) else "settings"),
]
"""A backbone that never learns: 'classifier' as it was trained, or the keys of any other; mistakes
in these are told as theirs alone."""


class HeadSettings(Settings):
    """From features to a map and a logit per class."""

    read_when: ClassVar[Mapping[str, Any]] = {"ranked_decay": ("pooling", ("ranked",))}

    kernel_size: Literal[1, 3] = 1
    """Size of the convolution that gives the maps."""
    dropout: float = Field(default=0, ge=0, lt=1)
    """Share of feature channels that are set to 0 in training; 0.5 in PSA and SEAM."""
    pooling: Literal["mean", "max", "ranked"] = "mean"
    """How a map becomes its logit: its mean, its maximum, or a mean weighted by rank."""
    ranked_decay: float = Field(default=0.996, ge=0, le=1)
    """Weight of ranked pooling: the i-th highest cell counts this to the power of i."""


class OptimizerSettings(Settings):
    read_when: ClassVar[Mapping[str, Any]] = {"poly_power": ("schedule", ("poly",))}

    algorithm: Literal["sgd", "adamw"] = "sgd"
    lr: PositiveFloat = 0.01
    """Learning rate of pretrained weights."""
    head_lr_factor: PositiveFloat = 10
    """New layers learn at lr times this."""
    bias_lr_factor: PositiveFloat = 1
    """Biases learn at this times their group's rate; 2 in the PSA family."""
    weight_decay: NonNegativeFloat = 1e-4
    """Not applied to biases and normalisation layers."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of sgd, and adamw's first beta. The PolyOptimizer of PSA, IRN, SC-CAM and SEAM took
    the weight decay as momentum: 0.0005 or 0.0001, with about ten times the rate, is what they
    ran."""
    schedule: Literal["poly", "cosine", "constant"] = "poly"
    poly_power: PositiveFloat = 0.9
    warmup_share: float = Field(default=0, ge=0, lt=1)
    """Share of all steps in which the rate rises linearly from zero."""
    gradient_clip: NonNegativeFloat = 0
    """Largest norm of the gradient; 0 is no limit."""


class AugmentSettings(Settings):
    read_when: ClassVar[Mapping[str, Any]] = {
        "crop_share": ("crop_size", (0,)),
        "long_side_shares": ("long_side", ((0, 0),)),
    }

    crop_size: NonNegativeInt = 256
    """Height and width of a training crop, in pixels. 0 follows the images: `crop_share` times the
    median longer side of the training images, as a multiple of 32."""
    crop_share: PositiveFloat = 0.8
    """Side of a crop that follows the images, as a share of that median. 1 shows whole images:
    a part of one may lack the small thing that it is tagged with."""
    long_side: tuple[NonNegativeInt, NonNegativeInt] = (256, 512)
    """An image's longer side is resized to a length drawn from this range, in pixels. [0, 0]
    follows the images: `long_side_shares` times that median."""
    long_side_shares: tuple[PositiveFloat, PositiveFloat] = (0.8, 1.6)
    """The range of a longer side that follows the images, as shares of that median."""
    flip: bool = True
    jitter: tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat, NonNegativeFloat] = (
        0,
        0,
        0,
        0,
    )
    """Brightness, contrast, saturation, hue, as in torchvision's ColorJitter."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.long_side[0] > self.long_side[1]:
            raise ValueError("long_side is (smallest, largest); swap the two")
        if self.long_side[0] == 0 < self.long_side[1]:
            raise ValueError("long_side is [0, 0] to follow the images, or two lengths above 0")
        if self.long_side_shares[0] > self.long_side_shares[1]:
            raise ValueError("long_side_shares is (smallest, largest); swap the two")
        return self


class TrainSettings(Settings):
    """What training a classifier and training a segmenter share."""

    optimizer: OptimizerSettings = OptimizerSettings()
    augment: AugmentSettings = AugmentSettings()
    batch_size: PositiveInt = 16
    """Images in a step, of all devices together; also images that are scored together on each."""
    epochs: PositiveInt = 5
    precision: Precision = "32-true"
    """What networks compute in. auto is bf16-mixed on GPUs and processors that have bfloat16, where
    it is faster, and 32-true elsewhere, where bf16-mixed takes up to ten times as long."""
    channels_last: bool = True


class TrainClassifierSettings(TrainSettings):
    backbone: BackboneSettings = BackboneSettings()
    head: HeadSettings = HeadSettings()
    method: MethodChoice = Field(default_factory=lambda: METHODS.default("cam"))
    loss: Literal["multi_label", "single_label"] = "multi_label"
    """Sigmoid and binary cross-entropy per class, or softmax over exclusive classes."""
    start_from: str = ""
    """A classifier of train_teachers whose backbone and head are the start; empty is
    backbone.weights."""
    eval_long_side: NonNegativeInt = 320
    """Longer side of selection images when scored, in pixels. 0 follows the images: the median
    longer side of the training images."""


class GenerateCamsSettings(Settings):
    read_when: ClassVar[Mapping[str, Any]] = {"window_overlap": ("window", None)}

    method: CamMethodChoice = Field(default_factory=lambda: CAM_METHODS.default("cam"))
    scales: tuple[PositiveFloat, ...] = Field(default=(0.5, 1.0, 1.5, 2.0), min_length=1)
    flip: bool = True
    align_corners: bool = False
    """How maps are resized: False as IRN and SC-CAM, True as SEAM."""
    batch_size: PositiveInt = 16
    """Images of one size that run together."""
    grid_stride: PositiveInt = 4
    """Image pixels per stored cell of a map."""
    window: NonNegativeInt = 0
    """Side of the windows that an image is run in at each scale, in pixels; 0 runs it whole. For
    images too large for memory, or with objects much smaller than those of training."""
    window_overlap: float = Field(default=0.5, ge=0, lt=1)
    """Share of a window that the next one covers again."""
    precision: Precision = "32-true"
    """As of train_classifier."""


class FurtherCamsSettings(GenerateCamsSettings):
    """A source of maps for the refiner `fusion`, or an object map that tells the background."""

    classifier: str = ""
    """A classifier of train_teachers; empty is that of train_classifier."""


class AffinitySettings(TrainSettings):
    """A network that says which cells belong together, for the refiner of its method."""

    backbone: BackboneSettings = BackboneSettings()
    """Learns with psa, and stays as it is with irn."""
    method: AffinityChoice = Field(default_factory=lambda: AFFINITIES.default("psa"))
    """The head, and the labels it learns from: psa for affinity_net, irn for irn."""


class RefineSettings(Settings):
    chains: dict[str, tuple[RefinerChoice, ...]] = Field(
        default_factory=lambda: {
            "none": (),
            "crf": (REFINERS.default("dense_crf"),),
        },
        min_length=1,
    )
    """Each chain's refiners, in order; an empty chain passes the CAMs through."""
    window: NonNegativeInt = 0
    """Side of the windows that a larger image is refined in, in pixels; 0 refines it whole. For
    images too large for memory: a refiner does not see beyond a window, so make it several times
    sigma_xy and other reaches. Refiners that read proposals or further CAMs always run whole."""
    window_overlap: float = Field(default=0.5, ge=0, lt=1)
    """Share of a window that the next one covers again; 0 leaves seams."""

    @field_validator("chains")
    @classmethod
    def _names(cls, chains: dict[str, Any]) -> dict[str, Any]:
        for name in chains:
            if not name.isidentifier():
                raise ValueError(f"chain '{name}' names files; use letters, digits and underscores")
        return chains


class EvaluateSettings(Settings):
    class_keys = ("class_groups",)

    class_groups: dict[str, tuple[str, ...]] = Field(default={})
    """Named lists of classes; each adds mean_iou_<name> over them and the background."""
    select_by: str = "mean_iou"
    """What chooses a threshold on the selection split: mean_iou, mean_iou_<group>, foreground_iou
    (all classes taken as one) or iou_image_mean (of the foreground, averaged over images)."""
    threshold_step: float = Field(default=0.01, gt=0, le=0.5)

    @field_validator("class_groups")
    @classmethod
    def _group_names(cls, groups: dict[str, Any]) -> dict[str, Any]:
        if "foreground" in groups:
            raise ValueError(
                "no group can be named 'foreground': mean_iou_foreground is the mean of all "
                "classes without the background; take another name"
            )
        return groups

    @model_validator(mode="after")
    def _known_metric(self) -> Self:
        groups = (f"mean_iou_{group}" for group in self.class_groups)
        known = ["mean_iou", "foreground_iou", "iou_image_mean", *groups]
        if self.select_by not in known:
            raise ValueError(f"select_by '{self.select_by}': {did_you_mean(self.select_by, known)}")
        return self


class ReportSettings(Settings):
    images: NonNegativeInt = 60
    """Images of the gallery: the best, the worst, the most uncertain, those of each kind of
    failure, and others of their split in between; 0 is none."""
    long_side: int = Field(default=320, ge=64, le=1024)
    """Of a picture, in pixels. Of many images the pictures are made smaller, so that the page stays
    below 20 MB."""
