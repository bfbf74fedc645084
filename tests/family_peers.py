"""The references of each native family, open_clip's and transformers' models, with the weights of one of Diptych's.

timm has SigLIP's towers under names with fixed sizes only. For the tests small ones are registered there, under names
that Diptych does not know.
"""

import dataclasses
import functools

import open_clip
import timm
import torch
import transformers
from torch import nn

from diptych.model.clip import CLIP
from diptych.model.clip_config import CLIPConfig
from diptych.model.layouts import huggingface_config, to_huggingface, to_open_clip
from diptych.model.open_clip_config import open_clip_config
from diptych.model.published_models import PUBLISHED

BY_NAME = {row.name: row.config for row in PUBLISHED}


def scaled_down(name: str, *, width: int = 2, layers: int = 2) -> CLIPConfig:
    """A published model with few heads of the published width in each tower, and few layers; the rest stays.

    Args:
        width: heads of each tower; the vocabulary has 1,000 tokens.
    """
    config = BY_NAME[name]
    sides = []
    for side in (config.vision, config.text):
        head_width = side.width // side.heads
        small = {"width": width * head_width, "heads": width, "layers": layers}
        if not isinstance(side.layers, int):
            raise TypeError(f"{name} is a ResNet")
        sides.append(dataclasses.replace(side, **small))
    vision, text = sides
    patches = 3 if vision.patch_size * 3 <= vision.image_size else 1
    remainder = vision.image_size % vision.patch_size
    vision = dataclasses.replace(vision, image_size=patches * vision.patch_size + remainder)
    text = dataclasses.replace(text, vocab_size=1000, context_length=min(text.context_length, 24))
    siglip = text.projection != "plain"
    return dataclasses.replace(config, embed_dim=vision.width if siglip else 64, vision=vision, text=text)


def transformers_peer(model: CLIP) -> nn.Module:
    """transformers' CLIPModel or SiglipModel, in evaluation mode."""
    values = huggingface_config(model.config)
    kind, config = transformers.CLIPModel, transformers.CLIPConfig
    if values["model_type"] == "siglip":
        kind, config = transformers.SiglipModel, transformers.SiglipConfig
    with torch.device("meta"):
        peer = kind(config(**values))
    peer.load_state_dict(to_huggingface(model.state_dict(), model.config), assign=True, strict=False)
    for tower in (peer.text_model, peer.vision_model):
        tower.embeddings.position_ids = torch.arange(len(tower.embeddings.position_embedding.weight))[None]
    return peer.eval()


@functools.cache
def register_timm(vision, activation: str) -> str:
    """Register a SigLIP's image tower of any size in timm; returns its name."""
    name = f"vit_test_w{vision.width}_l{vision.layers}_p{vision.patch_size}_r{vision.image_size}_{activation}_siglip"

    def make(pretrained=False, **kwargs):
        return timm.models.VisionTransformer(
            img_size=vision.image_size,
            patch_size=vision.patch_size,
            embed_dim=vision.width,
            depth=vision.layers,
            num_heads=vision.heads,
            mlp_ratio=(vision.mlp_width + 0.5) / vision.width,
            class_token=False,
            act_layer=activation,
            **{key: value for key, value in kwargs.items() if key in ("num_classes", "global_pool")},
        )

    make.__name__ = name
    make.__module__ = "timm.models.vision_transformer"
    timm.models.register_model(make)
    return name


def open_clip_cfg(config: CLIPConfig) -> dict:
    """The model_cfg of open_clip for any size of a family."""
    published = next((row for row in PUBLISHED if row.config.vision == config.vision), None)
    if type(config.vision).__name__ != "SiglipViTConfig" or published is not None:
        return open_clip_config(config)
    large = BY_NAME["ViT-B-16-SigLIP"]
    text = dataclasses.replace(config.text, activation=None, projection="biased")
    plain = dataclasses.replace(config, embed_dim=768, vision=large.vision, activation="gelu", text=text)
    values = open_clip_config(plain) | {"embed_dim": config.embed_dim}
    values["text_cfg"]["proj_type"] = "none" if config.text.projection == "none" else "linear"
    values["vision_cfg"] |= {
        "image_size": config.vision.image_size,
        "timm_model_name": register_timm(config.vision, config.activation),
    }
    if (config.text.activation or config.activation) == "gelu_tanh":
        values["text_cfg"]["act_kwargs"] = {"approximate": "tanh"}
    return values


def open_clip_peer(model: CLIP) -> nn.Module:
    """open_clip's CLIP or CustomTextCLIP, in evaluation mode."""
    values = open_clip_cfg(model.config)
    kind = open_clip.CustomTextCLIP if values.pop("custom_text", False) else open_clip.CLIP
    peer = kind(**values)
    tensors = to_open_clip(model.state_dict(), model.config)
    peer.load_state_dict({name: tensor.clone() for name, tensor in tensors.items()})
    dtype = next(model.parameters()).dtype
    return peer.to(dtype).eval()


def outputs(model: nn.Module, images: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Image and text features of a model of Diptych or of a peer."""
    if isinstance(model, transformers.PreTrainedModel):
        image = model.get_image_features(pixel_values=images).pooler_output
        return image, model.get_text_features(input_ids=tokens).pooler_output
    return model.encode_image(images), model.encode_text(tokens)
