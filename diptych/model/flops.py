"""How many operations a pair costs: the matrix products and convolutions of both towers, counted from the config."""

from diptych.errors import ConfigError
from diptych.model.config import CLIPConfig, CompactResNetConfig, ResNetConfig, TextConfig, ViTConfig


def flops_per_pair(config: CLIPConfig, caption_tokens: float, patch_dropout: float = 0.0) -> float:
    """Floating-point operations of training on one pair: forward, and twice as many backward.

    Counts what this package computes: texts only up to their end, and the last Transformer block only at the position
    that is read. Left out are activation checkpointing and gradient caching, which compute activations again, and the
    loss, whose products with the whole batch depend on its size.

    Args:
        caption_tokens: tokens of a caption with its start and end; a mean is near enough, attention being a small part.
        patch_dropout: share of a ViT's patches left out.
    Returns:
        operations; a multiplication and an addition are two.
    """
    return 3 * (image_flops(config, patch_dropout) + text_flops(config, caption_tokens))


def image_flops(config: CLIPConfig, patch_dropout: float = 0.0) -> float:
    """Operations of the image tower, forward, for one picture."""
    vision = config.vision
    if isinstance(vision, ViTConfig):
        patches = vision.grid**2 - int(patch_dropout * vision.grid**2)
        projection = 2 * vision.width * config.embed_dim
        first = 2 * vision.grid**2 * 3 * vision.patch_size**2 * vision.width
        return first + _transformer(vision.width, vision.layers, patches + 1, vision.mlp_width) + projection
    maps = _modified_resnet(vision) if isinstance(vision, ResNetConfig) else _compact_resnet(vision)
    width, tokens = vision.features_dim, vision.grid**2 + 1
    query, keys_and_values, attention = 2 * width**2, 4 * width**2 * tokens, 4 * width * tokens
    return maps + query + keys_and_values + attention + 2 * width * config.embed_dim


def text_flops(config: CLIPConfig, caption_tokens: float) -> float:
    """Operations of the text tower, forward, for one caption of so many tokens.

    Raises:
        ConfigError: a caption has not so many tokens, or the text side is no Transformer.
    """
    text = config.text
    if not isinstance(text, TextConfig):
        raise ConfigError(f"operations are counted for a text Transformer alone, not for {type(text).__name__}")
    if not 1 <= caption_tokens <= text.context_length:
        raise ConfigError(f"captions have from 1 to {text.context_length} tokens, not {caption_tokens}")
    return _transformer(text.width, text.layers, caption_tokens, 4 * text.width) + 2 * text.width * config.embed_dim


def _transformer(width: int, layers: int, tokens: float, mlp_width: int) -> float:
    """Blocks over one sequence: 8 w² + 4 w m a token for the products with weights, 4 w for each pair of tokens.

    The last block computes keys and values of all tokens, and the rest of the one that is read.
    """
    mlp = 4 * width * mlp_width
    whole = tokens * (8 * width**2 + mlp + 4 * width * tokens)
    last = 4 * width**2 * tokens + 4 * width**2 + mlp + 4 * width * tokens
    return (layers - 1) * whole + last


def _convolution(size: int, inputs: int, outputs: int, kernel: int) -> int:
    """One convolution whose output has size x size places."""
    return 2 * size**2 * inputs * outputs * kernel**2


def _modified_resnet(config: ResNetConfig) -> int:
    half, size = config.width // 2, config.image_size // 2
    total = _convolution(size, 3, half, 3) + _convolution(size, half, half, 3)
    total += _convolution(size, half, config.width, 3)
    size, channels = size // 2, config.width
    for stage, blocks in enumerate(config.layers):
        planes = config.width * 2**stage
        for block in range(blocks):
            # A stride is a pooling after the second convolution, so the third sees the smaller map.
            smaller = size // 2 if stage and not block else size
            total += _convolution(size, channels, planes, 1) + _convolution(size, planes, planes, 3)
            total += _convolution(smaller, planes, 4 * planes, 1)
            total += 0 if block else _convolution(smaller, channels, 4 * planes, 1)
            size, channels = smaller, 4 * planes
    return total


def _compact_resnet(config: CompactResNetConfig) -> int:
    size, channels = config.image_size // 2, config.widths[0]
    total = _convolution(size, 3, channels, 3)
    for stage, (planes, blocks) in enumerate(zip(config.widths, config.layers, strict=True)):
        size //= 2 if stage else 1
        for _ in range(blocks):
            total += _convolution(size, channels, planes, 3) + _convolution(size, planes, planes, 3)
            total += _convolution(size, channels, planes, 1) if channels != planes else 0
            channels = planes
    return total
