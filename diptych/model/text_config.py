"""What may stand in a CLIP's text Transformer's place: the text sides of the paper's figure 2.

    CLIPConfig(256, vision, BagOfWordsConfig(77, 4096, width=256))        # contrastive, over a bag of words
    CLIPConfig(256, vision, WordPredictionConfig(77, 4096))               # predicts the caption's words
    CLIPConfig(256, vision, CaptionDecoderConfig(77, 4096, 256))          # predicts the caption, word by word

Source: CLIP paper, section 2.3 and figure 2.
"""

import dataclasses

from diptych.model.sizes import check_heads, check_size, num_block_parameters


@dataclasses.dataclass(frozen=True, slots=True)
class BagOfWordsConfig:
    """A text encoder that knows which words a caption has, and not their order: see diptych.model.bag_of_words."""

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
    """A softmax over the vocabulary, on the image's point of embed_dim dimensions: see diptych.model.bag_of_words."""

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
    """A Transformer language model after the image: see diptych.model.caption_decoder.

    Attributes:
        heads: attention heads; 0 stands for width // 64.
        prefix_tokens: tokens that the image becomes; 4 as in the paper's `LM RN50` (appendix A.2).
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


OtherTextConfig = BagOfWordsConfig | WordPredictionConfig | CaptionDecoderConfig
PREDICTIVE = (WordPredictionConfig, CaptionDecoderConfig)
"""Those without a temperature, trained with objective "prediction"."""

KINDS: dict[str, type[OtherTextConfig]] = {
    "bag_of_words": BagOfWordsConfig,
    "word_prediction": WordPredictionConfig,
    "caption_decoder": CaptionDecoderConfig,
}
"""Names in config.json; a text side without a kind is the Transformer."""
