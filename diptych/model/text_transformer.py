"""The text tower of a CLIP."""

from typing import cast

import torch
from torch import nn
from torch.nn import functional as F

from diptych.errors import ShapeError
from diptych.model.attention import Block, Transformer
from diptych.model.packing import Packing, pack_texts
from diptych.model.products import linear
from diptych.model.text_config import TextConfig


class TextTransformer(nn.Module):
    """A Transformer over tokens: causal and pooled at the first end-of-text token, unless its config says otherwise.

    Abstract base: in OpenAI's files the text tower's names have no prefix, so CLIP inherits from this class.

    Source: CLIP paper, section 2.4; initialized as the reference code does.
    """

    def __init__(self, config: TextConfig, embed_dim: int, activation: str) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context_length, config.width))
        self.transformer = Transformer(
            config.width, config.layers, config.heads, activation, config.mlp_width, config.norm_eps
        )
        self.ln_final = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.text_config = config
        self.text_projection = _empty_projection(config, embed_dim)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        if isinstance(self.text_projection, nn.Linear):
            nn.init.normal_(self.text_projection.weight, std=config.width**-0.5)
            nn.init.zeros_(self.text_projection.bias)
        elif self.text_projection is not None:
            nn.init.normal_(self.text_projection, std=config.width**-0.5)
        for block in self.transformer.resblocks:
            initialise_block(cast(Block, block), config.width, config.layers)

    def encode_text(self, tokens: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Features of texts in the shared space, not normalized.

        If the attention is causal and each text is pooled at its end, tokens after the end are cut off: the result is
        the same, and captions are far shorter than the context. Large batches are computed in groups of similar length.
        Otherwise the padding matters: each text fills the whole context.

        Args:
            tokens: int (N, L), L at most the context length; the end of text is the largest id of a row, unless lengths
                are given or texts are pooled at the last position.
            lengths: int (N,), tokens of each text with its start and end; what follows them is taken as padding. If
                None, they are computed from tokens; a text that is pooled at the last position then fills its row.
        Returns:
            (N, E) float.
        """
        if not self.text_config.ignores_padding:
            return self._encode_whole_context(tokens, lengths)
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
        pooled = self._project(self.transformer(x, packing))
        return torch.empty_like(pooled).index_copy(0, order, pooled)

    def encode_rows(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens int (N, L) -> (N, E), as encode_text without lengths.

        No step depends on the values of the tokens, so torch.export can trace it: all rows are computed at the length
        L. encode_text is faster for texts of different lengths.
        """
        if not self.text_config.ignores_padding:
            return self._encode_whole_context(tokens, None)
        n, length = tokens.shape
        x = (self.token_embedding(tokens) + self.positional_embedding[:length]).flatten(0, 1)
        return self._project(self.transformer(x, Packing(((n, length),), tokens.argmax(dim=-1), causal=True)))

    def _encode_whole_context(self, tokens: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
        """Tokens int (N, L) -> (N, E), with padding up to the context's end."""
        config, (n, longest) = self.text_config, tokens.shape
        context, at_end = config.context_length, config.pooling == "end"
        if longest > context:
            raise ShapeError(f"texts of {longest} tokens exceed the context of {context}")
        if lengths is None:
            lengths = tokens.argmax(dim=-1) + 1 if at_end else None
        else:
            lengths = lengths.to(tokens.device)
            after = torch.arange(longest, device=tokens.device) >= lengths[:, None]
            tokens = tokens.masked_fill(after, config.pad_id)
        tokens = F.pad(tokens, (0, context - longest), value=config.pad_id)
        last = torch.full((n,), context - 1, device=tokens.device)
        positions = last if lengths is None or not at_end else lengths - 1
        x = (self.token_embedding(tokens) + self.positional_embedding).flatten(0, 1)
        return self._project(self.transformer(x, Packing(((n, context),), positions, config.causal)))

    def _project(self, pooled: torch.Tensor) -> torch.Tensor:
        """The output of the blocks (N, W) -> (N, E)."""
        projection = self.text_projection
        pooled = self.ln_final(pooled)
        if projection is None:
            return pooled
        if isinstance(projection, nn.Linear):
            return linear(pooled.to(projection.weight.dtype), projection.weight, projection.bias)
        return pooled.to(projection.dtype) @ projection


def _empty_projection(config: TextConfig, embed_dim: int) -> nn.Parameter | nn.Linear | None:
    """As in open_clip: with a bias it is a layer, whose matrix is stored the other way round."""
    if config.projection == "none":
        return None
    if config.projection == "biased":
        return nn.Linear(config.width, embed_dim)
    return nn.Parameter(torch.empty(config.width, embed_dim))


def initialise_block(block: Block, width: int, layers: int) -> None:
    """The reference code's initial weights of a block in a text Transformer of `layers` layers."""
    out_std = width**-0.5 * (2 * layers) ** -0.5
    nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
    nn.init.normal_(block.attn.out_proj.weight, std=out_std)
    nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
    nn.init.normal_(block.mlp.c_proj.weight, std=out_std)
