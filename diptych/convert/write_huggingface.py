"""The layout of transformers: CLIPModel or SiglipModel with processor and tokenizer."""

from pathlib import Path

import torch

from diptych.convert.options import Options
from diptych.convert.sidecar_files import required_tokenizer, write_json, write_preprocessor, write_tokenizer
from diptych.embed.library_encoder import LibraryEncoder
from diptych.embed.model import Model
from diptych.embed.model_folder import CONFIG, WEIGHTS, in_precision
from diptych.model.huggingface_config import is_siglip
from diptych.model.layouts import huggingface_config, to_huggingface
from diptych.model.weights import write_tensors


def write(model: Model, folder: Path, options: Options) -> None:
    """Write config.json, model.safetensors, preprocessor_config.json, tokenizer.json and tokenizer_config.json.

    Raises:
        ConfigError: neither CLIPModel nor SiglipModel computes this model, or it came without a tokenizer.
        WeightsError: a weight is too large for fp16.
    """
    tokenizer, config = required_tokenizer(model), model.clip.config
    # Weights stored in fp16 are computed in fp32, unless the library is told otherwise.
    values = huggingface_config(config) | {"dtype": "float32"}
    processor = "SiglipProcessor" if is_siglip(config) else "CLIPProcessor"
    tensors = to_huggingface(model.clip.state_dict(), config)
    write_json(folder / CONFIG, values)
    write_tensors(in_precision(tensors, options.precision), folder / WEIGHTS)
    write_preprocessor(folder, model.preprocessing, processor)
    write_tokenizer(folder, tokenizer, processor)


def open_again(folder: Path) -> LibraryEncoder:
    """The model as transformers loads it."""
    from diptych.embed.huggingface import open_huggingface

    return open_huggingface(str(folder), torch.device("cpu"))
