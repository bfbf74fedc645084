"""The layout of open_clip: open_clip_config.json, weights, and a tokenizer where it is not OpenAI's."""

from pathlib import Path
from typing import Any

import torch

from diptych.convert.openai_tokenizer import is_openai
from diptych.convert.options import Options
from diptych.convert.sidecar_files import required_tokenizer, write_json, write_tokenizer
from diptych.data.library_tokenizer import AnyTokenizer, LibraryTokenizer
from diptych.embed.foreign_config import OPEN_CLIP_CONFIG
from diptych.embed.library_encoder import LibraryEncoder
from diptych.embed.model import Model
from diptych.embed.model_folder import in_precision
from diptych.model.layouts import to_open_clip
from diptych.model.open_clip_config import open_clip_config
from diptych.model.weights import write_tensors

WEIGHTS_FILE = "open_clip_model.safetensors"
_OWN_CLEANINGS = ("whitespace", "lower", "canonicalize")  # open_clip's names


def write(model: Model, folder: Path, options: Options) -> None:
    """Write open_clip_config.json, open_clip_model.safetensors and, unless OpenAI's, tokenizer.json with its settings.

    Raises:
        ConfigError: open_clip has no such model, or it came without a tokenizer.
        WeightsError: a weight is too large for fp16.
    """
    tokenizer, config, images = required_tokenizer(model), model.clip.config, model.preprocessing
    values = {
        "model_cfg": open_clip_config(config, _tokenizer_values(tokenizer)),
        "preprocess_cfg": {
            "size": images.image_size,
            "mode": "RGB",
            "mean": list(images.mean),
            "std": list(images.std),
            "interpolation": images.interpolation,
            "resize_mode": "squash" if images.resize == "squash" else "shortest",
        },
    }
    tensors = to_open_clip(model.clip.state_dict(), config)
    write_json(folder / OPEN_CLIP_CONFIG, values)
    write_tensors(in_precision(tensors, options.precision), folder / WEIGHTS_FILE)
    if not is_openai(tokenizer):
        write_tokenizer(folder, tokenizer)


def _tokenizer_values(tokenizer: AnyTokenizer) -> dict[str, Any]:
    """The text_cfg fields with which open_clip loads the folder's tokenizer; {} for OpenAI's, its own."""
    if is_openai(tokenizer):
        return {}
    values: dict[str, Any] = {"hf_tokenizer_name": "."}  # of a local folder, any name means the folder itself
    if isinstance(tokenizer, LibraryTokenizer):
        kwargs: dict[str, Any] = {}
        if tokenizer.rules.cleaning in _OWN_CLEANINGS:
            kwargs["clean"] = tokenizer.rules.cleaning
        if tokenizer.rules.zeroed is not None:
            kwargs["strip_sep_token"] = True
        values |= {"tokenizer_kwargs": kwargs} if kwargs else {}
    return values


def open_again(folder: Path) -> LibraryEncoder:
    """The model as open_clip loads it."""
    from diptych.embed.open_clip import open_open_clip

    return open_open_clip(str(folder), torch.device("cpu"))
