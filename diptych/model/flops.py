"""Count the operations per pair: the matrix products and convolutions of both towers, from the config."""

from diptych.errors import ConfigError
from diptych.model.clip_config import CLIPConfig
from diptych.model.towers import text_side_of, tower_of


def flops_per_pair(config: CLIPConfig, caption_tokens: float, patch_dropout: float = 0.0) -> float:
    """Floating-point operations of training on one pair: forward, and twice as many backward.

    Counts what this package computes: texts only up to their end, and the last Transformer block only at the output
    position. Not counted: recomputation by activation checkpointing and gradient caching, and the loss, whose cost
    depends on the batch size.

    Args:
        caption_tokens: tokens of a caption with its start and end; a mean is accurate enough, because attention is a
            small part.
        patch_dropout: share of a ViT's patches left out.
    Returns:
        operations; a multiplication and an addition are two.
    """
    return 3 * (image_flops(config, patch_dropout) + text_flops(config, caption_tokens))


def image_flops(config: CLIPConfig, patch_dropout: float = 0.0) -> float:
    """Operations of the image tower, forward, for one image."""
    return tower_of(config.vision).flops(config.vision, config.embed_dim, patch_dropout)


def text_flops(config: CLIPConfig, caption_tokens: float) -> float:
    """Operations of the text tower, forward, for one caption of `caption_tokens` tokens.

    For a model of images only: of the image tower, for the copy that takes the caption's place.

    Raises:
        ConfigError: caption_tokens is out of range, or the text side is not a Transformer.
    """
    text, side = config.text, text_side_of(config.text)
    if side.images_only:  # the other half of a pair is an image
        return image_flops(config)
    count = side.flops
    if count is None:
        raise ConfigError(f"operations are counted only for a text Transformer, not for {type(text).__name__}")
    if not 1 <= caption_tokens <= text.context_length:
        raise ConfigError(f"captions have from 1 to {text.context_length} tokens, not {caption_tokens}")
    return count(text, config.embed_dim, caption_tokens)
