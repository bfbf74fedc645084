"""Infer the architecture of a bare state dict from its shapes, the published models with them, and options."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import torch

from diptych.errors import WeightsError
from diptych.model.clip_config import CLIPConfig, TextConfig
from diptych.model.families import foreign_family
from diptych.model.modified_resnet_config import RESNET
from diptych.model.published_models import Published, find_published
from diptych.model.shapes import count_numbers, shape_of
from diptych.model.siglip_vit_config import SIGLIP_EPS
from diptych.model.sizes import NORM_EPS
from diptych.model.towers import TOWERS, tower_of

Heads = tuple[int, int]
HOW_TO_STATE = (
    "--heads IMAGE,TEXT and --activation quick_gelu, gelu or gelu_tanh (heads=(IMAGE, TEXT), activation=... in Python)"
)


@dataclasses.dataclass(frozen=True)
class Inference:
    """The inferred architecture of a state dict.

    Attributes:
        config: the architecture.
        notice: what was assumed because shapes do not determine it, in words; empty if nothing was.
        published: the published model with these shapes; None if there is none.
    """

    config: CLIPConfig
    notice: str
    published: Published | None = None


def infer_config(
    tensors: Mapping[str, torch.Tensor], activation: str | None = None, heads: Heads | None = None
) -> CLIPConfig:
    """The architecture alone; see `infer`."""
    return infer(tensors, activation, heads).config


def infer(tensors: Mapping[str, torch.Tensor], activation: str | None = None, heads: Heads | None = None) -> Inference:
    """The architecture of a state dict in Diptych's names.

    Shapes do not determine heads, activation, pooling, or the mask of the text Transformer. Heads and activation are
    those of the published model with these shapes. If there is none, each head has the usual width and the activation
    is quick_gelu. The notice says so. The initial logit bias is the stored one.

    Args:
        activation: a name in ACTIVATIONS, if known.
        heads: of the image tower and of the text tower, if known.
    Raises:
        WeightsError: a tensor that determines the architecture is missing or has an impossible shape.
        ConfigError: no model has these shapes, or the heads do not fit them.
    """
    if sentence := foreign_family(tensors):
        raise WeightsError(sentence)
    text, embed_dim = _infer_text(tensors, heads)
    vision, bias = _infer_vision(tensors, heads), _infer_bias(tensors)
    usual = "gelu_tanh" if "visual.attn_pool.probe" in tensors else "quick_gelu"
    config = CLIPConfig(embed_dim, vision, text, activation or usual, bias)
    published = find_published(config)
    if published is None:
        return Inference(config, _notice(config, activation, heads))
    known = published.config
    if heads is not None:
        sides: tuple[Any, Any] = known.vision, known.text
        vision, text = (dataclasses.replace(side, heads=n) for side, n in zip(sides, heads, strict=True))
        known = dataclasses.replace(known, vision=vision, text=text)
    config = dataclasses.replace(known, logit_bias=bias)
    if activation:
        return Inference(with_activation(config, activation), "", published)
    return Inference(config, _activation_notice(published.name, published.activations, config), published)


def with_activation(config: CLIPConfig, activation: str) -> CLIPConfig:
    """The configuration with that activation in both towers."""
    text: Any = config.text
    if hasattr(text, "activation"):
        text = dataclasses.replace(text, activation=None)
    return dataclasses.replace(config, text=text, activation=activation)


def _activation_notice(name: str, activations: str, config: CLIPConfig) -> str:
    return (
        f"it has the shapes of {name} and does not name its activation; {config.activation} is assumed. It "
        f"is {activations}: state another with --activation (activation=... in Python)"
    )


def _notice(config: CLIPConfig, activation: str | None, heads: Heads | None) -> str:
    """What is assumed about an unpublished architecture."""
    assumed = []
    if heads is None:
        image, text = (getattr(side, "heads", 0) for side in (config.vision, config.text))
        both = f"{image} heads in the image tower and {text} in the text tower"
        assumed.append(both if image else f"{text} heads in the text tower")
    if activation is None:
        assumed.append(f"{config.activation} as the activation")
    if more := tower_of(config.vision).assumed:
        assumed.append(more)
    assumed.append(
        "a causal mask and pooling at the largest token id in the text tower"
        if getattr(config.text, "causal", True)
        else "no causal mask, padding with the token 0 and pooling at the last position in the text tower"
    )
    return (
        f"its shapes match no published model and do not determine everything; assumed: {', '.join(assumed)}. Wrong "
        f"assumptions give wrong numbers without an error: state what is right with {HOW_TO_STATE}, or put the model's "
        "own configuration file next to the weights"
    )


def _infer_text(tensors: Mapping[str, torch.Tensor], heads: Heads | None) -> tuple[TextConfig, int]:
    """The config of the text tower, and the channels of its embedding.

    SigLIP's image tower, and one without ln_pre (CLIPA's), go with texts without a causal mask.
    """
    context_length, _ = shape_of(tensors, "positional_embedding", 2)
    vocab_size, width = shape_of(tensors, "token_embedding.weight", 2)
    siglip, projection = "visual.attn_pool.probe" in tensors, "plain"
    if "text_projection.weight" in tensors:
        projection, (embed_dim, _) = "biased", shape_of(tensors, "text_projection.weight", 2)
    elif siglip and "text_projection" not in tensors:
        projection, embed_dim = "none", width
    else:
        _, embed_dim = shape_of(tensors, "text_projection", 2)
    hidden, _ = shape_of(tensors, "transformer.resblocks.0.mlp.c_fc.weight", 2)
    causal = not siglip and not ("visual.class_embedding" in tensors and "visual.ln_pre.weight" not in tensors)
    text = TextConfig(
        *(context_length, vocab_size, width, heads[1] if heads else 0),
        layers=count_numbers(tensors, "transformer.resblocks"),
        mlp_ratio=hidden / width,
        causal=causal,
        pooling="end" if causal else "last",
        projection=projection,
        norm_eps=SIGLIP_EPS if siglip else NORM_EPS,
    )
    return text, embed_dim


def _infer_bias(tensors: Mapping[str, torch.Tensor]) -> float | None:
    if "logit_bias" not in tensors:
        return None
    shape_of(tensors, "logit_bias", 0)
    return tensors["logit_bias"].item()


def _infer_vision(tensors: Mapping[str, torch.Tensor], heads: Heads | None) -> Any:
    """The config of the image tower, which is recognized by a tensor name that no other tower has."""
    inferring = [row for row in TOWERS.values() if row.marker is not None and row.infer is not None]
    marked = [row for row in inferring if any(re.fullmatch(str(row.marker), name) for name in tensors)]
    infer = (marked or [RESNET])[0].infer  # RESNET's says what is missing if no tower is recognized
    assert infer is not None
    return infer(tensors, heads[0] if heads else 0)
