"""A small random model in the layouts in which models are published, and the catalogue's names for it."""

import json

from embedding import VIT, make_vit, small_tokenizer
from safetensors.torch import save

from diptych.model.layouts import huggingface_config, to_huggingface

LAION = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
NAME = "ViT-B-32/laion2b_s34b_b79k"
WEIGHTS = "open_clip_model.safetensors"


def open_clip_files() -> dict[str, bytes]:
    """The repository as open_clip pushes it, with files beside it that must not be fetched."""
    clip, vision, text = make_vit().clip, VIT.vision, VIT.text
    config = {
        "model_cfg": {
            "embed_dim": VIT.embed_dim,
            "quick_gelu": True,
            "vision_cfg": {"image_size": 48, "patch_size": 16, "width": vision.width, "layers": vision.layers},
            "text_cfg": {
                "context_length": text.context_length,
                "vocab_size": text.vocab_size,
                "width": text.width,
                "heads": text.heads,
                "layers": text.layers,
            },
        },
        "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
    }
    return {
        "open_clip_config.json": json.dumps(config).encode(),
        WEIGHTS: save({name: tensor.contiguous() for name, tensor in clip.state_dict().items()}),
        "tokenizer.json": tokenizer_file(),
        # An image tower of timm, as in the repositories timm/...; code; and weights in a pickle.
        "config.json": json.dumps({"architecture": "vit_base_patch32_clip_224"}).encode(),
        "model.safetensors": b"not to be fetched",
        "open_clip_pytorch_model.bin": b"not to be fetched",
        "modeling.py": b"raise SystemExit",
        "README.md": b"# a model",
    }


def huggingface_files() -> dict[str, bytes]:
    """The repository as transformers pushes it."""
    tensors = to_huggingface(make_vit().clip.state_dict(), VIT)
    return {
        "config.json": json.dumps(huggingface_config(VIT)).encode(),
        "model.safetensors": save({name: tensor.contiguous() for name, tensor in tensors.items()}, {"format": "pt"}),
        "preprocessor_config.json": json.dumps({"size": {"shortest_edge": 48}, "crop_size": 48}).encode(),
        "tokenizer.json": tokenizer_file(),
        "pytorch_model.bin": b"not to be fetched",
    }


def tokenizer_file() -> bytes:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        small_tokenizer().save(Path(folder) / "tokenizer.json")
        return (Path(folder) / "tokenizer.json").read_bytes()
