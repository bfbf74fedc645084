"""The architecture of a bare state dict: from its shapes, the published models of those shapes, and options."""

import dataclasses
import math
from collections.abc import Mapping

import torch

from diptych.errors import WeightsError
from diptych.model.config import (
    RESNET_STRIDE,
    CLIPConfig,
    CompactResNetConfig,
    ResNetConfig,
    TextConfig,
    VisionConfig,
    ViTConfig,
)
from diptych.model.families import foreign_family
from diptych.model.published import find_published, usual_heads

Heads = tuple[int, int]
HOW_TO_STATE = "--heads IMAGE,TEXT and --activation quick_gelu or gelu (heads=(IMAGE, TEXT), activation=... in Python)"


@dataclasses.dataclass(frozen=True)
class Inference:
    """What a state dict is taken for.

    Attributes:
        config: the architecture.
        notice: in words, what its shapes do not tell and was assumed; empty where nothing was.
    """

    config: CLIPConfig
    notice: str


def infer_config(
    tensors: Mapping[str, torch.Tensor], activation: str | None = None, heads: Heads | None = None
) -> CLIPConfig:
    """The architecture alone; see `infer`."""
    return infer(tensors, activation, heads).config


def infer(tensors: Mapping[str, torch.Tensor], activation: str | None = None, heads: Heads | None = None) -> Inference:
    """The architecture that a state dict in Diptych's names belongs to.

    Shapes do not tell heads, activation, pooling, or the mask of the text Transformer. Heads and activation are those
    of the published model of these shapes; where there is none, each head has the usual width and the activation is
    quick_gelu. The notice says so. A bias starts where it stands.

    Args:
        activation: "quick_gelu" or "gelu", where it is known.
        heads: of the image tower and of the text tower, where they are known.
    Raises:
        WeightsError: a tensor that tells the architecture is missing or has an impossible shape.
        ConfigError: the shapes describe no model that could be built, or the heads do not fit them.
    """
    if sentence := foreign_family(tensors):
        raise WeightsError(sentence)
    context_length, _ = _shape(tensors, "positional_embedding", 2)
    vocab_size, width = _shape(tensors, "token_embedding.weight", 2)
    _, embed_dim = _shape(tensors, "text_projection", 2)
    vision, bias = _infer_vision(tensors, heads), _infer_bias(tensors)
    layers = _count(tensors, "transformer.resblocks")
    text = TextConfig(context_length, vocab_size, width, heads[1] if heads else 0, layers)
    config = CLIPConfig(embed_dim, vision, text, activation or "quick_gelu", bias)
    published = find_published(config)
    if published is not None:
        usual = published.config if heads is None else config
        config = dataclasses.replace(usual, activation=activation or published.config.activation, logit_bias=bias)
        return Inference(
            config, "" if activation else _activation_notice(published.name, published.activations, config)
        )
    return Inference(config, _notice(config, activation, heads))


def _activation_notice(name: str, activations: str, config: CLIPConfig) -> str:
    return (
        f"it has the shapes of {name} and does not name its activation; taking {config.activation}. It "
        f"is {activations}: state another with --activation (activation=... in Python)"
    )


def _notice(config: CLIPConfig, activation: str | None, heads: Heads | None) -> str:
    """What is assumed of an architecture that nobody published."""
    assumed = []
    if heads is None:
        assumed.append(f"{config.vision.heads} heads in the image tower and {_text_heads(config)} in the text tower")
    if activation is None:
        assumed.append(f"taking {config.activation} as activation")
    if isinstance(config.vision, ViTConfig):
        assumed.append("pictures pooled at the class token")
    assumed.append("a causal mask and pooling at the largest token id in the text tower")
    return (
        f"its shapes are those of no published model and do not tell all: assumed are {', '.join(assumed)}. Wrong ones "
        f"give wrong numbers without an error: state what is right with {HOW_TO_STATE}, or put the model's own "
        "configuration file beside the weights"
    )


def _text_heads(config: CLIPConfig) -> int:
    assert isinstance(config.text, TextConfig)
    return config.text.heads


def _infer_bias(tensors: Mapping[str, torch.Tensor]) -> float | None:
    if "logit_bias" not in tensors:
        return None
    _shape(tensors, "logit_bias", 0)
    return tensors["logit_bias"].item()


def _infer_vision(tensors: Mapping[str, torch.Tensor], heads: Heads | None) -> VisionConfig:
    given = heads[0] if heads else 0
    if "visual.proj" in tensors:
        width, _, patch_size, _ = _shape(tensors, "visual.conv1.weight", 4)
        grid = _grid(tensors, "visual.positional_embedding")
        layers = _count(tensors, "visual.transformer.resblocks")
        hidden, _ = _shape(tensors, "visual.transformer.resblocks.0.mlp.c_fc.weight", 2)
        return ViTConfig(grid * patch_size, patch_size, width, layers, given or _usual(width), hidden / width)
    grid = _grid(tensors, "visual.attnpool.positional_embedding")
    if stages := _count(tensors, "visual.stages"):
        widths = tuple(_shape(tensors, f"visual.stages.{stage}.0.conv1.weight", 4)[0] for stage in range(stages))
        blocks = tuple(_count(tensors, f"visual.stages.{stage}") for stage in range(stages))
        return CompactResNetConfig(grid * 2**stages, widths, blocks, given)
    width, *_ = _shape(tensors, "visual.layer1.0.conv1.weight", 4)
    one, two, three, four = (_count(tensors, f"visual.layer{stage}") for stage in (1, 2, 3, 4))
    return ResNetConfig(grid * RESNET_STRIDE, width, (one, two, three, four), given)


def _usual(width: int) -> int:
    """0, which the config resolves, where the usual heads do not divide the width."""
    heads = usual_heads(width)
    return 0 if width % heads else heads


def _shape(tensors: Mapping[str, torch.Tensor], name: str, dimensions: int) -> tuple[int, ...]:
    if name not in tensors:
        raise WeightsError(f"these are not the weights of a CLIP: {name} is missing (found {_sample(tensors)})")
    if tensors[name].dim() != dimensions:
        raise WeightsError(f"{name} must have {dimensions} dimensions, not the shape {tuple(tensors[name].shape)}")
    return tuple(tensors[name].shape)


def _sample(names: Mapping[str, object]) -> str:
    return f"{', '.join(list(names)[:5])}, ... {len(names)} names" if names else "nothing"


def _grid(tensors: Mapping[str, torch.Tensor], name: str) -> int:
    """Positions along one side, from a positional embedding of grid² + 1 rows."""
    rows, _ = _shape(tensors, name, 2)
    grid = math.isqrt(max(0, rows - 1))
    if grid**2 + 1 != rows:
        raise WeightsError(f"{name} has {rows} rows, which is no square of patches and a class token")
    return grid


def _count(tensors: Mapping[str, torch.Tensor], prefix: str) -> int:
    """Number of different N among the names prefix.N.*."""
    start = f"{prefix}."
    return len({name[len(start) :].split(".", 1)[0] for name in tensors if name.startswith(start)})
