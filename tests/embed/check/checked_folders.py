"""Small models in the layouts of transformers and open_clip, saved by these libraries, for the tests of checks."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peers  # noqa: F401  (before open_clip and transformers)
import torch
from embedding import VIT, make_vit
from safetensors.torch import load_file, save_file

from diptych.model.layouts import huggingface_config, to_huggingface

OPEN_CLIP = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 48, "layers": 2, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2},
}
PREPROCESSING = {"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28], "resample": 3}


def write_huggingface(folder: Path) -> Path:
    """A random CLIP with its processor and tokenizer, as transformers saves them."""
    import transformers

    model = make_vit()
    network = transformers.CLIPModel(transformers.CLIPConfig(**huggingface_config(VIT)))
    network.load_state_dict(to_huggingface(model.clip.state_dict(), VIT))
    network.save_pretrained(folder)
    transformers.CLIPImageProcessor(size={"shortest_edge": 48}, crop_size=48, **PREPROCESSING).save_pretrained(folder)
    model.tokenizer.save(folder / "tokenizer.json")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<|endoftext|>", "model_max_length": 24}
    settings |= {"model_input_names": ["input_ids", "attention_mask"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def write_open_clip(folder: Path) -> Path:
    """A random CLIP as open_clip pushes one to the hub; its tokenizer is OpenAI's."""
    import open_clip

    torch.manual_seed(0)
    network = open_clip.CLIP(**OPEN_CLIP)
    folder.mkdir(parents=True)
    preprocessing = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25], "interpolation": "bicubic"}
    values = {"model_cfg": OPEN_CLIP, "preprocess_cfg": {"size": 48, "mode": "RGB", **preprocessing}}
    (folder / "open_clip_config.json").write_text(json.dumps(values))
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(tensors, folder / "open_clip_model.safetensors")
    return folder


def copy_of(folder: Path, target: Path) -> Path:
    """A copy of a model folder, to be changed."""
    shutil.copytree(folder, target)
    return target


def change_json(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a JSON file in place."""
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Change the tensors of a Hugging Face folder in place."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file({name: one.contiguous() for name, one in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
