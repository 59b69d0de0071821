"""Folders that hold a network of transformers: its configuration and its weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from wsss.artifacts import is_of_the_system, read_json

__all__ = ["read_pretrained"]


def read_pretrained(folder: Path, classes: Mapping[str, str], setting: str) -> Any:
    """Read a network from a folder, without the network and without unpickling.

    Args:
        folder: with config.json and model.safetensors, as `save_pretrained` writes them.
        classes: the model_type of configurations that fit, to the class of transformers that
            reads them.
        setting: the key of params.yaml that named the folder.

    Returns:
        The network in eval mode on the CPU, float32, without gradients.

    Raises:
        ImportError: transformers is not installed, or too old.
        ValueError: the folder is not there, holds another kind of model, or lacks weights.
    """
    try:
        import transformers
    except ImportError:
        raise ImportError(
            f'{setting} needs transformers, which is not installed: pip install "wsss[sam]"'
        ) from None
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(
            f"{setting}: {folder} has no config.json; give the folder of a model of transformers, "
            "downloaded with `hf download <model> --local-dir <folder>`"
        )
    kind = read_json(path).get("model_type")
    if kind not in classes:
        raise ValueError(
            f"{setting}: {folder} holds a model of type '{kind}'; types that fit are "
            + ", ".join(classes)
        )
    reader = getattr(transformers, classes[kind], None)
    if reader is None:
        raise ImportError(
            f"{setting} needs {classes[kind]}, which transformers {transformers.__version__} does "
            'not have: pip install -U "wsss[sam]"'
        )
    try:
        network, info = reader.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            dtype=torch.float32,
        )
    except (OSError, RuntimeError, ValueError) as error:
        if is_of_the_system(error):
            raise
        raise ValueError(f"{setting}: {folder} cannot be read: {error}") from None
    missing = sorted(info["missing_keys"])
    if missing:  # transformers fills them with random values
        raise ValueError(
            f"{setting}: {folder} lacks {len(missing)} tensors of {classes[kind]}, such as "
            f"{missing[0]}; download it again"
        )
    return network.requires_grad_(False).eval()
