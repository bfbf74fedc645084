"""How many operations a pair costs: the matrix products and convolutions of both towers, counted from the config."""

from diptych.errors import ConfigError
from diptych.model.config import CLIPConfig
from diptych.model.towers import text_side_of, tower_of


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
    return tower_of(config.vision).flops(config.vision, config.embed_dim, patch_dropout)


def text_flops(config: CLIPConfig, caption_tokens: float) -> float:
    """Operations of the text tower, forward, for one caption of so many tokens.

    Raises:
        ConfigError: a caption has not so many tokens, or the text side is no Transformer.
    """
    text, count = config.text, text_side_of(config.text).flops
    if count is None:
        raise ConfigError(f"operations are counted for a text Transformer alone, not for {type(text).__name__}")
    if not 1 <= caption_tokens <= text.context_length:
        raise ConfigError(f"captions have from 1 to {text.context_length} tokens, not {caption_tokens}")
    return count(text, config.embed_dim, caption_tokens)
