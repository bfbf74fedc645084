"""The text half of a CLIP."""

from typing import cast

import torch
from torch import nn

from diptych.errors import ShapeError
from diptych.model.attention import Block, Transformer
from diptych.model.config import TextConfig


class TextTransformer(nn.Module):
    """A causal Transformer over tokens, pooled at the first end-of-text token.

    An abstract half: in OpenAI's files the text tower's names have no prefix, so CLIP inherits them from here.

    Source: CLIP paper, section 2.4; initialised as the reference code does.
    """

    def __init__(self, config: TextConfig, embed_dim: int, activation: str) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context_length, config.width))
        self.transformer = Transformer(config.width, config.layers, config.heads, activation)
        self.ln_final = nn.LayerNorm(config.width)
        self.text_projection = nn.Parameter(torch.empty(config.width, embed_dim))
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        nn.init.normal_(self.text_projection, std=config.width**-0.5)
        for block in self.transformer.resblocks:
            _initialise(cast(Block, block), config.width, config.layers)

    def encode_text(self, tokens: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Texts to points of the shared space, not yet of unit norm.

        The attention is causal and each text is read at its end, so what follows the longest text of the batch is cut
        off: the result is the same, and captions are far shorter than the context.

        Args:
            tokens: int (N, L), L at most the context length; the end of text is the largest id of a row.
            lengths: int (N,), tokens of each text with its start and end; found in tokens where not given.
        Returns:
            (N, E) float.
        """
        ends = tokens.argmax(dim=-1) if lengths is None else lengths - 1
        tokens = tokens[:, : int(ends.max()) + 1]  # lengths on the CPU spare the wait for a GPU here
        context = len(self.positional_embedding)
        if tokens.shape[1] > context:
            raise ShapeError(f"texts of {tokens.shape[1]} tokens exceed the context of {context}")
        x = self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]
        x = self.transformer(x, causal=True)
        pooled = x[torch.arange(len(x), device=x.device), ends.to(x.device)]
        return self.ln_final(pooled) @ self.text_projection


def _initialise(block: Block, width: int, layers: int) -> None:
    out_std = width**-0.5 * (2 * layers) ** -0.5
    nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
    nn.init.normal_(block.attn.out_proj.weight, std=out_std)
    nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
    nn.init.normal_(block.mlp.c_proj.weight, std=out_std)
