"""From a configuration to a network."""

from torch import nn

from diptych.model.bag_of_words import BagOfWordsCLIP, WordPrediction
from diptych.model.caption_decoder import CaptionDecoder
from diptych.model.clip import CLIP
from diptych.model.config import CLIPConfig, TextConfig
from diptych.model.text_config import PREDICTIVE, BagOfWordsConfig, CaptionDecoderConfig


def build_model(config: CLIPConfig) -> nn.Module:
    """The network that a configuration describes, with fresh weights.

    Returns:
        a dual encoder (CLIP, BagOfWordsCLIP), which has encode_image(images), encode_text(tokens, lengths), logit_scale
        and clip_logit_scale(); or a predictive model (CaptionDecoder, WordPrediction), which has encode_image(images),
        losses(images, tokens, lengths) -> float32 (N,) in nats, and text_scores(image_embeddings, tokens, lengths).
    """
    if isinstance(config.text, TextConfig):
        return CLIP(config)
    if isinstance(config.text, BagOfWordsConfig):
        return BagOfWordsCLIP(config)
    return CaptionDecoder(config) if isinstance(config.text, CaptionDecoderConfig) else WordPrediction(config)


def is_predictive(config: CLIPConfig) -> bool:
    """Whether build_model gives a model that is trained with objective "prediction" and has no temperature."""
    return isinstance(config.text, PREDICTIVE)
