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
from diptych.model.sizes import (
    ACTIVATIONS,
    MLP_RATIO,
    NORM_EPS,
    block_flops,
    check_choice,
    check_eps,
    check_flag,
    check_heads,
    check_number,
    check_size,
    described,
    num_block_parameters,
)
from diptych.model.tower import TextSide, stack_depth

if TYPE_CHECKING:
    from torch import nn

    from diptych.model.clip_config import CLIPConfig


# Fields that came after the first release, with their defaults; files and names leave such a field out.
_NEWER = {
    "mlp_ratio": MLP_RATIO,
    "causal": True,
    "pooling": "end",
    "projection": "plain",
    "norm_eps": NORM_EPS,
    "pad_id": 0,
    "activation": None,
}
_POOLINGS = ("end", "last")
_PROJECTIONS = ("plain", "biased", "none")


@dataclasses.dataclass(frozen=True, slots=True)
class TextConfig:
    """The text Transformer (CLIP paper, section 2.4): causal, pooled at the first end-of-text token.

    CLIPA and SigLIP have no causal mask and are pooled at the last position of the context, which is padding.

    Attributes:
        heads: attention heads; 0 means width // 64.
        mlp_ratio: hidden channels of an MLP over the width, rounded to a whole number of channels.
        causal: no token attends to a later one.
        pooling: "end", at a text's end; or "last", at the last position of the context.
        projection: "plain"; "biased", with a bias; or "none", if the embedding's channels are the tower's width.
        norm_eps: epsilon of the LayerNorms.
        pad_id: token that fills the context after a text; it matters unless the tower is causal and pooled at the end.
        activation: of the MLPs, if it is not the whole model's; None means the model's.
    """

    context_length: int = 77
    vocab_size: int = 49_408
    width: int = 512
    heads: int = 0
    layers: int = 12
    mlp_ratio: float = MLP_RATIO
    causal: bool = True
    pooling: str = "end"
    projection: str = "plain"
    norm_eps: float = NORM_EPS
    pad_id: int = 0
    activation: str | None = None

    def __post_init__(self) -> None:
        for name in ("context_length", "vocab_size", "width", "layers"):
            check_size("text", name, getattr(self, name))
        check_number("text.mlp_ratio", self.mlp_ratio)
        object.__setattr__(self, "mlp_ratio", check_size("text", "mlp_width", self.mlp_width) / self.width)
        object.__setattr__(self, "heads", check_heads("text", self.width, self.heads))
        check_flag("text.causal", self.causal)
        check_choice("text.projection", self.projection, _PROJECTIONS)
        check_choice("text.pooling", self.pooling, _POOLINGS)
        check_choice("text.activation", self.activation, (None, *ACTIVATIONS))
        object.__setattr__(self, "norm_eps", check_eps("text", self.norm_eps))
        if type(self.pad_id) is not int or not 0 <= self.pad_id < self.vocab_size:
            raise ConfigError(f"text.pad_id must be a token from 0 to {self.vocab_size - 1}, not {self.pad_id!r}")

    def __repr__(self) -> str:
        return described(self, _NEWER)

    @property
    def mlp_width(self) -> int:
        """Hidden channels of an MLP."""
        return round(self.width * self.mlp_ratio)

    @property
    def ignores_padding(self) -> bool:
        """Whether nothing after a text's end changes its embedding, so that texts can be cut there."""
        return self.causal and self.pooling == "end"

    def num_parameters(self, embed_dim: int) -> int:
        """Parameters of the tower with its projection to embed_dim."""
        outside = self.width * (self.vocab_size + self.context_length + 2)
        outside += {"plain": self.width, "biased": self.width + 1, "none": 0}[self.projection] * embed_dim
        return outside + num_block_parameters(self.width, self.layers, self.mlp_width)


def siglip_text(text: TextConfig, *, norm_eps: float | None = None, activation: str | None = None) -> TextConfig:
    """The text tower with SigLIP's form: no causal mask, and pooling at the last position, mostly with a bias."""
    return dataclasses.replace(
        text,
        causal=False,
        pooling="last",
        projection="none" if text.projection == "none" else "biased",
        norm_eps=text.norm_eps if norm_eps is None else norm_eps,
        activation=text.activation if activation is None else activation,
    )


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
    tokens = tokens if config.ignores_padding else config.context_length
    projection = 0 if config.projection == "none" else 2 * config.width * embed_dim
    return block_flops(config.width, config.layers, tokens, config.mlp_width) + projection


def _check(config: TextConfig, embed_dim: int) -> None:
    if config.projection == "none" and embed_dim != config.width:
        raise ConfigError(
            f"model.embed_dim is {embed_dim} and text.width {config.width}: without a projection they must be equal"
        )


TRANSFORMER = TextSide(
    kind="transformer",
    config=TextConfig,
    build=_build_clip,
    depth=_depth,
    blocks=_blocks,
    flops=_flops,
    layouts=("openai", "open_clip", "huggingface"),
    omitted=_NEWER,
    check=_check,
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
