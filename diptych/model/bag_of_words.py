"""Captions as bags of words: as the text side of a CLIP, and as the target of prediction from the image.

A bag is the set of a caption's different words. Words are the tokenizer's tokens: a rare word counts as its pieces.

Source: CLIP paper, section 2.3 and figure 2; prediction as in Joulin et al. 2016 (arXiv 1511.02251).
"""

import torch
from torch import nn

from diptych.errors import ConfigError, ShapeError
from diptych.model.clip import DualEncoder
from diptych.model.clip_config import CLIPConfig
from diptych.model.image_half import ImageHalf, build_image_tower
from diptych.model.text_config import BagOfWordsConfig, WordPredictionConfig


def bag_of_words(tokens: torch.Tensor, lengths: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """The different words of each text, each with an equal weight.

    Args:
        tokens: int (N, L): SOT, the words, EOT, padding.
        lengths: int (N,), tokens of each text with its start and end; computed from tokens if None.
    Returns:
        words int64 (N, L), and their weights float32 (N, L), which sum to 1 for a text, or to 0 if it has no words.
        Positions without a word, or with a repeated word, have the weight 0.
    Raises:
        ShapeError: tokens and lengths differ in N.
    """
    if lengths is None:
        lengths = tokens.argmax(dim=-1) + 1
    if tokens.ndim != 2 or lengths.shape != tokens.shape[:1]:
        raise ShapeError(f"tokens {tuple(tokens.shape)} and lengths {tuple(lengths.shape)}: give (N, L) and (N,)")
    places = torch.arange(tokens.shape[1], device=tokens.device)
    inside = (places > 0) & (places < lengths.to(tokens.device)[:, None] - 1)
    # -1 means no word and is sorted to the front; of equal adjacent words the first counts.
    words = torch.where(inside, tokens.long(), -1).sort(dim=1).values
    counts = words >= 0
    counts[:, 1:] &= words[:, 1:] != words[:, :-1]
    shares = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    return words.clamp(min=0), shares


class BagOfWordsCLIP(DualEncoder):
    """A CLIP whose text encoder is the mean of a caption's word vectors and a linear projection."""

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        if not isinstance(config.text, BagOfWordsConfig):
            raise ConfigError(f"a BagOfWordsCLIP needs a BagOfWordsConfig as its text, not {config.text}")
        width = config.text.width
        self._add_images_and_temperature(config)
        self.token_embedding = nn.Embedding(config.text.vocab_size, width)
        self.text_projection = nn.Parameter(torch.empty(width, config.embed_dim))
        nn.init.normal_(self.token_embedding.weight, std=width**-0.5)
        nn.init.normal_(self.text_projection, std=width**-0.5)

    def encode_text(self, tokens: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Tokens int (N, L), lengths int (N,) -> (N, E) features in the shared space, not normalized."""
        words, shares = bag_of_words(tokens, lengths)
        vectors = self.token_embedding(words)
        return torch.bmm(shares.to(vectors.dtype)[:, None], vectors)[:, 0] @ self.text_projection


class WordPrediction(ImageHalf):
    """Predicts the bag of words of an image's caption with one softmax over the vocabulary.

    Joulin et al. sum the log-probabilities of a caption's words; here they are averaged, so that each image has the
    same weight. The softmax has one vector per word in the E-dimensional space where a CLIP compares images and texts.
    """

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        if not isinstance(config.text, WordPredictionConfig):
            raise ConfigError(f"a WordPrediction needs a WordPredictionConfig as its text, not {config.text}")
        self.config = config
        self.visual = build_image_tower(config)
        # The name makes the optimizer treat it as an embedding table.
        self.token_embedding = nn.Linear(config.embed_dim, config.text.vocab_size)
        nn.init.normal_(self.token_embedding.weight, std=config.embed_dim**-0.5)
        nn.init.zeros_(self.token_embedding.bias)

    def losses(self, images: torch.Tensor, tokens: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Minus the mean log-probability of the words of each caption.

        Args:
            images: float (N, 3, R, R), normalized.
            tokens: int (N, L).
            lengths: int (N,), see bag_of_words.
        Returns:
            float32 (N,), nats per word; 0 for a caption without words.
        """
        words, shares = bag_of_words(tokens, lengths)
        return -(shares * self._log_probabilities(self.encode_image(images)).gather(1, words)).sum(dim=1)

    forward = losses  # DistributedDataParallel and FSDP2 hook into forward

    def text_scores(
        self, image_embeddings: torch.Tensor, tokens: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> torch.Tensor:
        """How well texts fit images: the mean log-probability of a text's different words.

        Args:
            image_embeddings: (N, E), from encode_image.
            tokens: int (K, L), K texts.
            lengths: int (K,).
        Returns:
            float32 (N, K), nats.
        """
        words, shares = bag_of_words(tokens, lengths)
        bags = shares.new_zeros(len(tokens), self.token_embedding.out_features).scatter_add_(1, words, shares)
        return self._log_probabilities(image_embeddings) @ bags.T

    def _log_probabilities(self, image_embeddings: torch.Tensor) -> torch.Tensor:
        """(N, E) -> float32 (N, V)."""
        return self.token_embedding(image_embeddings).float().log_softmax(dim=-1)
