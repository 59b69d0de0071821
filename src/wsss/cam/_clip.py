"""CLIP as a source of maps: its weights, the words it is asked with, its tokens and attention."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from wsss.checks import did_you_mean, full_key
from wsss.loading.normalisation import Normalisation
from wsss.seeding import derive_seed
from wsss.settings import Settings, expand_path

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from wsss.models.classifier import Classifier

__all__ = ["Clip", "ClipSettings", "attention", "on_one_scale", "stretched"]

LEAST_WEIGHT = 0.01


class ClipSettings(Settings):
    """Which CLIP, and the words that stand for classes and background."""

    class_keys = ("class_texts",)

    model_name: str = "ViT-B-16-quickgelu"
    """A plain vision transformer of open_clip; OpenAI's weights need one that ends in
    -quickgelu."""
    weights: str = "openai"
    """A tag of open_clip, fetched from the hub once, a file (.safetensors, .pt), $VARS expanded, or
    'none' (random). Files are state dicts; OpenAI's own .pt is a program, which is not run: take
    open_clip_model.safetensors of timm/vit_base_patch16_clip_224.openai."""
    prompts: tuple[str, ...] = Field(default=("a clean origami {}.",), min_length=1)
    """Sentences about a word, {}; the features of several are averaged."""
    class_texts: dict[str, str] = Field(default={})
    """Class name: the words that stand for it in the prompts, such as 'bird avian' for bird. Other
    classes go by their names, with spaces for underscores."""
    background: tuple[str, ...] = Field(
        default=(
            *("sky", "cloud", "ground", "grass", "field", "tree", "forest", "mountain", "rock"),
            *("sand", "snow", "water", "sea", "river", "road", "street", "railway", "bridge"),
            *("building", "house", "wall", "floor", "window", "fence", "sign"),
        ),
        min_length=1,
    )
    """Words for what surrounds the classes and is none of them; it takes evidence from them. Words
    that stand for a class of the data are left out."""

    @field_validator("prompts")
    @classmethod
    def _one_gap(cls, prompts: tuple[str, ...]) -> tuple[str, ...]:
        for prompt in prompts:
            if prompt.count("{}") != 1:
                raise ValueError(
                    f"a prompt has one {{}} where the word goes, but one is '{prompt}'"
                )
        return prompts


class Clip:
    """A frozen CLIP whose image side is a plain vision transformer (Radford et al., ICML 2021).

    Args:
        settings: which one, and its words.

    Attributes:
        blocks: of the image side's transformer, first to last.
        logit_scale: what cosines are multiplied by ahead of a softmax; about 100.

    Raises:
        ImportError: open_clip is not installed.
        ValueError: there are no such weights, they do not fit, or the model is of another kind.
    """

    def __init__(self, settings: ClipSettings) -> None:
        try:
            import open_clip
        except ImportError:
            raise ImportError(
                f"{full_key('method')} needs CLIP, which is not installed: "
                "pip install open_clip_torch"
            ) from None
        self.settings = settings
        self.net, self.normalisation = _load(settings)
        self._tokenizer: Any = open_clip.get_tokenizer(settings.model_name)
        self._texts: dict[tuple[str, ...], Tensor] = {}
        self.blocks: list[Any] = list(self.net.visual.transformer.resblocks)
        self.logit_scale = float(self.net.logit_scale.exp())

    def to(self, device: "torch.device") -> "Clip":
        """Move the weights; return self."""
        self.net.to(device)
        self._texts = {names: features.to(device) for names, features in self._texts.items()}
        return self

    def check_layers(self, count: int, setting: str) -> int:
        """`count`, if there are so many blocks; a ValueError that names `setting` if not."""
        if count > len(self.blocks):
            raise ValueError(
                f"{full_key(f'method.{setting}')} is {count}, but {self.settings.model_name} has "
                f"{len(self.blocks)} blocks"
            )
        return count

    def words(self, class_names: Sequence[str]) -> list[str]:
        """What stands for each class, and after these for the background.

        Raises:
            ValueError: `class_texts` names a class that there is not, or no background is left.
        """
        unknown = [name for name in self.settings.class_texts if name not in class_names]
        if unknown:
            raise ValueError(
                f"{full_key('method.class_texts')} names '{unknown[0]}', which is no class of the "
                "classifier; " + did_you_mean(unknown[0], class_names)
            )
        named = [name.replace("_", " ") for name in class_names]
        texts = [
            self.settings.class_texts.get(name, word)
            for name, word in zip(class_names, named, strict=True)
        ]
        taken = {text.casefold() for text in (*named, *texts)}
        background = [word for word in self.settings.background if word.casefold() not in taken]
        if not background:
            raise ValueError(
                f"every word of {full_key('method.background')} stands for a class; add words that "
                "stand for none"
            )
        return texts + background

    def texts(self, class_names: Sequence[str]) -> "Tensor":
        """(K + N, E) float32 of length 1, the features of `words`; made once."""
        import torch
        from torch.nn import functional

        names = tuple(class_names)
        if names not in self._texts:
            words = self.words(names)
            device = self.net.logit_scale.device
            exact = torch.autocast(device.type, enabled=False)
            # Not an inference tensor, which could not take part in a backward pass later on.
            with torch.inference_mode(False), torch.no_grad(), exact:
                total = torch.zeros((), device=device)
                for prompt in self.settings.prompts:
                    tokens = self._tokenizer([prompt.replace("{}", word) for word in words])
                    features = self.net.encode_text(tokens.to(device)).float()
                    total = total + functional.normalize(features, dim=1)
                self._texts[names] = functional.normalize(total, dim=1)
        return self._texts[names]

    def grid(self, images: "Tensor") -> tuple[int, int]:
        """(h, w) patches of images, whose sides are rounded up to whole ones."""
        high, wide = self.net.visual.patch_size
        return -(-images.shape[2] // high), -(-images.shape[3] // wide)

    def embed(self, model: "Classifier", images: "Tensor") -> "Tensor":
        """Images to the tokens ahead of the first block.

        Args:
            model: whose normalisation the images have.
            images: (B, 3, H, W) of any size; stretched to whole patches.

        Returns:
            (B, 1 + h w, D), the class token first. Position embeddings are interpolated
            bicubically to the grid.
        """
        import torch
        from timm.layers import resample_abs_pos_embed
        from torch.nn import functional

        visual, grid = self.net.visual, self.grid(images)
        images = self.normalisation.convert(images, model.backbone.normalisation)
        size = tuple(n * patch for n, patch in zip(grid, visual.patch_size, strict=True))
        if size != tuple(images.shape[2:]):
            images = functional.interpolate(images, size, mode="bicubic", align_corners=False)
        patches = visual.conv1(images).flatten(2).transpose(1, 2)
        first = visual.class_embedding.to(patches.dtype).expand(len(images), 1, -1)
        positions = resample_abs_pos_embed(
            visual.positional_embedding[None], list(grid), old_size=list(visual.grid_size)
        )
        tokens: Tensor = visual.ln_pre(torch.cat([first, patches], dim=1) + positions)
        return tokens

    def project(self, tokens: "Tensor") -> "Tensor":
        """(B, n, D) of the last block to (B, n, E) float32, the space of texts."""
        visual = self.net.visual
        projected: Tensor = visual.ln_post(tokens) @ visual.proj
        return projected.float()

    @staticmethod
    def cosines(features: "Tensor", texts: "Tensor") -> "Tensor":
        """(..., E) features and (T, E) texts of length 1 to (..., T), always in float32.

        They differ in the third digit, and are multiplied by 100 ahead of a softmax.
        """
        import torch
        from torch.nn import functional

        with torch.autocast(features.device.type, enabled=False):
            return functional.normalize(features.float(), dim=-1) @ texts.T

    @staticmethod
    def heads(block: Any, normed: "Tensor") -> "Tensor":
        """(B, N, D) tokens after ln_1 to (3, B, heads, N, d): queries, keys and values."""
        from torch.nn import functional

        attn = block.attn
        made = functional.linear(normed, attn.in_proj_weight, attn.in_proj_bias)
        return made.reshape(*made.shape[:2], 3, attn.num_heads, -1).permute(2, 0, 3, 1, 4)

    @staticmethod
    def attended(block: Any, values: "Tensor") -> "Tensor":
        """(B, heads, N, d) values, weighted by attention, to what the block adds: (B, N, D)."""
        added: Tensor = block.ls_1(block.attn.out_proj(values.transpose(1, 2).flatten(2)))
        return added

    @staticmethod
    def fed_forward(block: Any, tokens: "Tensor") -> "Tensor":
        """Tokens after the block's attention to those that leave it."""
        left: Tensor = tokens + block.ls_2(block.mlp(block.ln_2(tokens)))
        return left


def attention(queries: "Tensor", keys: "Tensor") -> "Tensor":
    """(..., N, d) each to (..., N, N), softmax(q k^T / sqrt(d)): rows sum to 1."""
    scale: float = queries.shape[-1] ** 0.5
    return (queries @ keys.transpose(-2, -1) / scale).softmax(dim=-1)


def stretched(maps: "Tensor") -> "Tensor":
    """(P, h, w) maps from their least to their greatest score, as [0, 1]; a flat one is 0.

    Example:
        >>> import torch
        >>> stretched(torch.tensor([[[1.0, 2.0, 3.0]], [[4.0, 4.0, 4.0]]]))
        tensor([[[0.0000, 0.5000, 1.0000]],
        <BLANKLINE>
                [[0.0000, 0.0000, 0.0000]]])
    """
    from wsss.models.pooling import peaks

    above = maps - maps.amin(dim=(1, 2), keepdim=True)
    return above / peaks(above)


def on_one_scale(maps: "Tensor", probs: "Tensor") -> "Tensor":
    """Stretched maps that may be added over scales and windows.

    A stretched map peaks at 1 even in a window without the class, so each counts by how likely
    its class is there. At one scale without windows this changes nothing, as a class's map is
    divided by its greatest score in the end.

    Args:
        maps: (P, h, w) in [0, 1].
        probs: (P,) of their classes; less than 0.01 counts as 0.01, so that a class whose rivals
            win everywhere keeps a map.

    Returns:
        (P, h, w).
    """
    return maps * probs.clamp_min(LEAST_WEIGHT)[:, None, None]


def _load(settings: ClipSettings) -> tuple[Any, Normalisation]:
    """The network in eval mode without gradients, and the normalisation of its images."""
    import open_clip
    import torch

    from wsss.models.weights import load_matching, read_weights

    name, weights = settings.model_name, settings.weights
    config = _plain_config(name)
    tag = open_clip.get_pretrained_cfg(name, weights)
    is_file = "." in weights or "/" in weights or weights.startswith(("$", "~"))
    if not tag and not is_file and weights != "none":
        tags = open_clip.list_pretrained_tags_by_model(name)
        raise ValueError(
            f"{full_key('method.weights')} '{weights}' is no weights of {name}; "
            f"{did_you_mean(weights, tags)}, none, or a file"
        )
    quick, wanted = bool(config.get("quick_gelu")), bool(tag and tag.get("quick_gelu"))
    if tag and quick != wanted:
        fitting = f"{name}-quickgelu" if wanted else "one without -quickgelu"
        raise ValueError(
            f"{full_key('method.weights')} '{weights}' were trained "
            f"with{'' if wanted else 'out'} QuickGELU, which {name} has{'' if quick else ' not'}; "
            f"choose as model_name {fitting}"
        )
    given = None
    if weights != "none":
        path = _fetched(tag, weights) if tag else expand_path(weights, "method.weights")
        given = read_weights(path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(0, "clip"))
        net = open_clip.CLIP(**config)
    if given is not None:
        load_matching(net, given, f"weights file {path}")
    mean = tag["mean"] if tag else open_clip.OPENAI_DATASET_MEAN
    std = tag["std"] if tag else open_clip.OPENAI_DATASET_STD
    return net.eval().requires_grad_(False), Normalisation(tuple(mean), tuple(std))


def _plain_config(name: str) -> dict[str, Any]:
    """open_clip's description of a model whose image side is a plain vision transformer."""
    import open_clip

    if name not in open_clip.list_models():
        raise ValueError(
            f"{full_key('method.model_name')} '{name}' is no model of open_clip; "
            + did_you_mean(name, open_clip.list_models())
        )
    config: dict[str, Any] = open_clip.get_model_config(name)
    vision = config["vision_cfg"]
    special = ("attentional_pool", "final_ln_after_pool", "qk_norm", "block_type", "scale_attn")
    other = any(vision.get(key) for key in special) or "custom_text" in config
    if other or "hf_model_name" in config["text_cfg"] or not vision.get("patch_size"):
        raise ValueError(
            f"{full_key('method.model_name')} '{name}' is not two plain transformers, of images "
            "and of texts; choose one such as ViT-B-16-quickgelu or ViT-L-14-quickgelu"
        )
    return config


def _fetched(tag: dict[str, Any], name: str) -> Path:
    import open_clip

    try:
        return Path(open_clip.download_pretrained(tag))
    except OSError as error:
        raise ValueError(
            f"{full_key('method.weights')} '{name}' could not be fetched ({error}); give a file "
            "instead"
        ) from None
