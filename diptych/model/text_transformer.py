"""The text tower of a CLIP."""

from typing import cast

import torch
from torch import nn

from diptych.errors import ShapeError
from diptych.model.attention import Block, Transformer
from diptych.model.packing import pack_texts
from diptych.model.text_config import TextConfig


class TextTransformer(nn.Module):
    """A causal Transformer over tokens, pooled at the first end-of-text token.

    Abstract base: in OpenAI's files the text tower's names have no prefix, so CLIP inherits from this class.

    Source: CLIP paper, section 2.4; initialized as the reference code does.
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
            initialise_block(cast(Block, block), config.width, config.layers)

    def encode_text(self, tokens: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Features of texts in the shared space, not normalized.

        The attention is causal and each text is pooled at its end, so tokens after the end are cut off: the result is
        the same, and captions are far shorter than the context. Large batches are computed in groups of similar length.

        Args:
            tokens: int (N, L), L at most the context length; the end of text is the largest id of a row.
            lengths: int (N,), tokens of each text with its start and end; computed from tokens if None.
        Returns:
            (N, E) float.
        """
        if lengths is None:
            lengths = tokens.argmax(dim=-1) + 1
        packing, order = pack_texts(lengths.cpu(), tokens.device)  # lengths on the CPU avoid a GPU sync here
        context, longest = len(self.positional_embedding), packing.groups[-1][1]
        if longest > context:
            raise ShapeError(f"texts of {longest} tokens exceed the context of {context}")
        tokens = tokens[order]
        groups = [tokens[texts, :length] for _, texts, _, length in packing.spans()]
        # One look-up for all groups: each look-up makes a gradient as large as the vocabulary.
        words = self.token_embedding(torch.cat([group.flatten() for group in groups]))
        x = torch.cat(
            [
                (rows.view(*group.shape, words.shape[-1]) + self.positional_embedding[: group.shape[1]]).flatten(0, 1)
                for rows, group in zip(words.split([group.numel() for group in groups]), groups, strict=True)
            ]
        )
        pooled = self.ln_final(self.transformer(x, packing)).to(self.text_projection.dtype) @ self.text_projection
        return torch.empty_like(pooled).index_copy(0, order, pooled)


def initialise_block(block: Block, width: int, layers: int) -> None:
    """The reference code's initial weights of a block in a text Transformer of `layers` layers."""
    out_std = width**-0.5 * (2 * layers) ** -0.5
    nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
    nn.init.normal_(block.attn.out_proj.weight, std=out_std)
    nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
    nn.init.normal_(block.mlp.c_proj.weight, std=out_std)
