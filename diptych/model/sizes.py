"""Checks, and counts of parameters and operations, that the configs of all towers share."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from diptych.errors import ConfigError

ACTIVATIONS = ("quick_gelu", "gelu", "gelu_tanh")
HEAD_DIM = 64
MLP_RATIO = 4.0  # of nearly all Transformers
NORM_EPS = 1e-5  # of nearly all LayerNorms; SigLIP's have 1e-6
_MAX_NUMBER = 1e30  # fits float32

_LIMITS = {
    "image_size": 4096,
    "patch_size": 4096,
    "width": 65_536,
    "mlp_width": 1_048_576,
    "layers": 1024,
    "heads": 1024,
    "context_length": 65_536,
    "vocab_size": 10_000_000,
    "embed_dim": 65_536,
    "prefix_tokens": 1024,
}


def check_size(owner: str, name: str, value: object) -> int:
    """Return value if it is a usable size.

    Raises:
        ConfigError: it is not; the message names the field, one of _LIMITS.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"{owner}.{name} must be a whole number, not {value!r}")
    if not 1 <= value <= _LIMITS[name]:
        raise ConfigError(f"{owner}.{name} must lie between 1 and {_LIMITS[name]}, not {value}")
    return value


def check_number(name: str, value: object) -> float:
    """Return value if it is a finite number.

    Raises:
        ConfigError: it is not; the message names the field.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= _MAX_NUMBER:
        raise ConfigError(f"{name} must be a finite number, not {value!r}")
    return float(value)


def check_choice(name: str, value: object, known: tuple[str | None, ...]) -> None:
    """Raise ConfigError unless value is one of the known words."""
    if value not in known:
        raise ConfigError(f"{name} must be one of {', '.join(map(repr, known))}, not {value!r}")


def check_flag(name: str, value: object) -> None:
    """Raise ConfigError unless value is True or False."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be true or false, not {value!r}")


def check_eps(owner: str, value: object) -> float:
    """Return value if a LayerNorm can have it as its epsilon; else raise ConfigError."""
    if not 0 < (eps := check_number(f"{owner}.norm_eps", value)) < 1:
        raise ConfigError(f"{owner}.norm_eps must lie between 0 and 1, not {value!r}")
    return eps


def described(config: Any, omitted: Mapping[str, object]) -> str:
    """A config's repr without newer fields that have their default.

    Fingerprints of embeddings contain it, so those of older models must not change when a field is added.
    """
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    shown = (f"{name}={value!r}" for name, value in values.items() if omitted.get(name, _ALWAYS) != value)
    return f"{type(config).__name__}({', '.join(shown)})"


_ALWAYS = object()


def check_heads(owner: str, width: int, heads: int) -> int:
    """Return the number of heads, width // 64 if it is 0.

    Raises:
        ConfigError: the heads do not divide the width.
    """
    heads = check_size(owner, "heads", heads or max(1, width // HEAD_DIM))
    if width % heads:
        raise ConfigError(f"{owner}.heads = {heads} must divide the attention's width {width}")
    return heads


def num_block_parameters(width: int, layers: int, mlp_width: int = 0) -> int:
    """Parameters of a stack of Transformer blocks: attention 4w² + 4w, MLP 2wm + w + m, two LayerNorms 4w.

    m is 4w if mlp_width is 0.
    """
    mlp_width = mlp_width or 4 * width
    return layers * (4 * width**2 + 9 * width + mlp_width * (2 * width + 1))


def num_pool_parameters(grid: int, width: int, embed_dim: int) -> int:
    """Parameters of an attention pooling, including its projection to embed_dim."""
    return width * (grid**2 + 1) + 3 * width * (width + 1) + (width + 1) * embed_dim


def block_flops(width: int, layers: int, tokens: float, mlp_width: int, one_output: bool = True) -> float:
    """Operations of Transformer blocks over one sequence, forward; a multiplication and an addition are two.

    8 w² + 4 w m per token for the products with weights, 4 w per pair of tokens. With one_output, the last block
    computes keys and values of all tokens, and the rest only at the output position.
    """
    mlp = 4 * width * mlp_width
    whole = tokens * (8 * width**2 + mlp + 4 * width * tokens)
    if not one_output:
        return layers * whole
    last = 4 * width**2 * tokens + 4 * width**2 + mlp + 4 * width * tokens
    return (layers - 1) * whole + last


def convolution_flops(size: int, inputs: int, outputs: int, kernel: int) -> int:
    """Operations of one convolution whose output has size x size positions."""
    return 2 * size**2 * inputs * outputs * kernel**2


def pool_flops(grid: int, width: int, embed_dim: int) -> int:
    """Operations of an attention pooling over a map of grid x grid positions, including its projection to embed_dim."""
    tokens = grid**2 + 1
    query, keys_and_values, attention = 2 * width**2, 4 * width**2 * tokens, 4 * width * tokens
    return query + keys_and_values + attention + 2 * width * embed_dim
