"""Checks and counts that the configs of all towers share."""

from diptych.errors import ConfigError

HEAD_DIM = 64

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
        ConfigError: it is none; names the field, which is one of _LIMITS.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"{owner}.{name} must be a whole number, not {value!r}")
    if not 1 <= value <= _LIMITS[name]:
        raise ConfigError(f"{owner}.{name} must lie between 1 and {_LIMITS[name]}, not {value}")
    return value


def check_heads(owner: str, width: int, heads: int) -> int:
    """Return the number of heads, width // 64 where it is 0.

    Raises:
        ConfigError: the heads do not divide the width.
    """
    heads = check_size(owner, "heads", heads or max(1, width // HEAD_DIM))
    if width % heads:
        raise ConfigError(f"{owner}.heads = {heads} must divide the attention's width {width}")
    return heads


def num_block_parameters(width: int, layers: int, mlp_width: int = 0) -> int:
    """Parameters of a stack of Transformer blocks: attention 4w² + 4w, MLP 2wm + w + m, two LayerNorms 4w.

    An MLP is 4w wide where mlp_width is 0.
    """
    mlp_width = mlp_width or 4 * width
    return layers * (4 * width**2 + 9 * width + mlp_width * (2 * width + 1))
