"""Configs and table rows of the text sides: the Transformer, and its alternatives in the paper's figure 2.

    CLIPConfig(256, vision, TextConfig(77, 4096, width=256))              # CLIP
    CLIPConfig(256, vision, BagOfWordsConfig(77, 4096, width=256))        # contrastive, over a bag of words
    CLIPConfig(256, vision, WordPredictionConfig(77, 4096))               # predicts the caption's words
    CLIPConfig(256, vision, CaptionDecoderConfig(77, 4096, 256))          # predicts the caption, word by word
    CLIPConfig(256, vision, NoTextConfig())                               # no text side: compares images with images

Source: CLIP paper, section 2.3 and figure 2.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

from diptych.errors import ConfigError
from diptych.model.sizes import block_flops, check_heads, check_number, check_size, num_block_parameters
from diptych.model.tower import TextSide, stack_depth

if TYPE_CHECKING:
    from torch import nn

    from diptych.model.clip_config import CLIPConfig


@dataclasses.dataclass(frozen=True, slots=True)
class TextConfig:
    """The text Transformer (CLIP paper, section 2.4): causal, pooled at the first end-of-text token."""

    context_length: int = 77
    vocab_size: int = 49_408
    width: int = 512
    heads: int = 0
    layers: int = 12

    def __post_init__(self) -> None:
        for name in ("context_length", "vocab_size", "width", "layers"):
            check_size("text", name, getattr(self, name))
        object.__setattr__(self, "heads", check_heads("text", self.width, self.heads))

    def num_parameters(self, embed_dim: int) -> int:
        """Parameters of the tower with its projection to embed_dim."""
        outside = self.width * (self.vocab_size + self.context_length + 2 + embed_dim)
        return outside + num_block_parameters(self.width, self.layers)


@dataclasses.dataclass(frozen=True, slots=True)
class BagOfWordsConfig:
    """A text encoder that ignores the order of a caption's words: see diptych.model.bag_of_words."""

    context_length: int = 77
    vocab_size: int = 49_408
    width: int = 512

    def __post_init__(self) -> None:
        for name in ("context_length", "vocab_size", "width"):
            check_size("text", name, getattr(self, name))

    def num_parameters(self, embed_dim: int) -> int:
        """Parameters of the tower with its projection to embed_dim."""
        return self.width * (self.vocab_size + embed_dim)


@dataclasses.dataclass(frozen=True, slots=True)
class WordPredictionConfig:
    """A softmax over the vocabulary, computed from the image's features (embed_dim): see diptych.model.bag_of_words."""

    context_length: int = 77
    vocab_size: int = 49_408

    def __post_init__(self) -> None:
        for name in ("context_length", "vocab_size"):
            check_size("text", name, getattr(self, name))

    def num_parameters(self, embed_dim: int) -> int:
        """Parameters of the softmax."""
        return self.vocab_size * (embed_dim + 1)


@dataclasses.dataclass(frozen=True, slots=True)
class CaptionDecoderConfig:
    """A Transformer language model that reads the image first: see diptych.model.caption_decoder.

    Attributes:
        heads: attention heads; 0 means width // 64.
        prefix_tokens: tokens that represent the image; 4 as in the paper's `LM RN50` (appendix A.2).
    """

    context_length: int = 77
    vocab_size: int = 49_408
    width: int = 512
    heads: int = 0
    layers: int = 12
    prefix_tokens: int = 4

    def __post_init__(self) -> None:
        for name in ("context_length", "vocab_size", "width", "layers", "prefix_tokens"):
            check_size("text", name, getattr(self, name))
        object.__setattr__(self, "heads", check_heads("text", self.width, self.heads))

    def num_parameters(self, embed_dim: int) -> int:
        """Parameters of the language model with its projection from embed_dim; output and input share one table."""
        outside = self.width * (self.vocab_size + self.context_length + 2 + self.prefix_tokens * (embed_dim + 1))
        return outside + num_block_parameters(self.width, self.layers)


@dataclasses.dataclass(frozen=True, slots=True)
class NoTextConfig:
    """No text side: the copy detector compares images with images. See diptych.model.image_encoder.

    Attributes:
        temperature: fixed; 0.07 in CLIP paper, appendix C.
    """

    temperature: float = 0.07

    def __post_init__(self) -> None:
        if not 1e-3 <= check_number("text.temperature", self.temperature) <= 1e3:
            raise ConfigError(f"text.temperature must lie between 0.001 and 1000, not {self.temperature}")

    @property
    def context_length(self) -> int:
        """0: there are no texts."""
        return 0

    @property
    def vocab_size(self) -> int:
        """0: there are no texts."""
        return 0

    def num_parameters(self, embed_dim: int) -> int:
        """0: there is no network."""
        return 0


def _build_clip(config: "CLIPConfig") -> "nn.Module":
    from diptych.model.clip import CLIP  # imports torch, which configs must not need; so do those below

    return CLIP(config)


def _build_bag_of_words(config: "CLIPConfig") -> "nn.Module":
    from diptych.model.bag_of_words import BagOfWordsCLIP

    return BagOfWordsCLIP(config)


def _build_word_prediction(config: "CLIPConfig") -> "nn.Module":
    from diptych.model.bag_of_words import WordPrediction

    return WordPrediction(config)


def _build_caption_decoder(config: "CLIPConfig") -> "nn.Module":
    from diptych.model.caption_decoder import CaptionDecoder

    return CaptionDecoder(config)


def _build_image_encoder(config: "CLIPConfig") -> "nn.Module":
    from diptych.model.image_encoder import ImageEncoder

    return ImageEncoder(config)


def _blocks(network: Any) -> "list[nn.Module]":
    return list(network.transformer.resblocks)


def _depth(name: str, config: Any) -> int:
    """Layers above a parameter. Without a Transformer, the token embedding is below everything else."""
    below = r"(?:token_embedding\.weight|positional_embedding)$"
    return stack_depth(name, getattr(config, "layers", 0), r"transformer\.resblocks\.(\d+)\.", below)


def _flops(config: TextConfig, embed_dim: int, tokens: float) -> float:
    return block_flops(config.width, config.layers, tokens, 4 * config.width) + 2 * config.width * embed_dim


TRANSFORMER = TextSide(
    kind="transformer",
    config=TextConfig,
    build=_build_clip,
    depth=_depth,
    blocks=_blocks,
    flops=_flops,
    layouts=("openai", "open_clip", "huggingface"),
)
BAG_OF_WORDS = TextSide(kind="bag_of_words", config=BagOfWordsConfig, build=_build_bag_of_words, depth=_depth)
WORD_PREDICTION = TextSide(
    kind="word_prediction",
    config=WordPredictionConfig,
    build=_build_word_prediction,
    depth=_depth,
    predicts=True,
    reads_templates=False,
)
CAPTION_DECODER = TextSide(
    kind="caption_decoder",
    config=CaptionDecoderConfig,
    build=_build_caption_decoder,
    depth=_depth,
    predicts=True,
    blocks=_blocks,
)
IMAGES_ONLY = TextSide(
    kind="none",
    config=NoTextConfig,
    build=_build_image_encoder,
    depth=_depth,
    images_only=True,
    flops=lambda config, embed_dim, tokens: 0.0,
    reads_templates=False,
)
