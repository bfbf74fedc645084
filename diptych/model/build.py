"""Build a network from its configuration."""

from torch import nn

from diptych.model.clip_config import CLIPConfig
from diptych.model.towers import text_side_of


def build_model(config: CLIPConfig) -> nn.Module:
    """The network that a configuration describes, with fresh weights.

    Returns:
        a dual encoder (CLIP, BagOfWordsCLIP), which has encode_image(images), encode_text(tokens, lengths), logit_scale
        and clip_logit_scale(); or a predictive model (CaptionDecoder, WordPrediction), which has encode_image(images),
        losses(images, tokens, lengths) -> float32 (N,) in nats, and text_scores(image_embeddings, tokens, lengths).
    """
    return text_side_of(config.text).build(config)


def is_predictive(config: CLIPConfig) -> bool:
    """Whether build_model gives a model that is trained with objective "prediction" and has no temperature."""
    return text_side_of(config.text).predicts
