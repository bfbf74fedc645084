"""A language model of captions that reads the image first: the paper's first attempt, and the slowest in figure 2.

Source: CLIP paper, section 2.3 and figure 2; the image as a prefix of tokens as in appendix A.2 (`LM RN50`).
"""

import dataclasses
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F

from diptych.errors import ConfigError, ShapeError
from diptych.model.attention import Block, Transformer, attend
from diptych.model.clip_config import CLIPConfig
from diptych.model.image_half import ImageHalf, build_image_tower
from diptych.model.packing import pack_texts
from diptych.model.recompute import recomputed
from diptych.model.text_config import CaptionDecoderConfig
from diptych.model.text_transformer import initialise_block

_MAX_NODES = 512  # in a tree; attention costs grow with their square
_LOGITS_AT_ONCE = 2**25  # elements; 128 MiB


class CaptionDecoder(ImageHalf):
    """A causal Transformer that reads a few tokens of the image, then predicts the caption's tokens, end included.

    A linear map turns the image's embedding (E dimensions) into the first tokens of the sequence. Input and output
    share one table of token vectors, as in GPT-2. The blocks are those of the text encoder.
    """

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        text = config.text
        if not isinstance(text, CaptionDecoderConfig):
            raise ConfigError(f"a CaptionDecoder needs a CaptionDecoderConfig as its text, not {text}")
        self.config = config
        self.visual = build_image_tower(config)
        self.prefix_tokens = text.prefix_tokens
        self.prefix = nn.Linear(config.embed_dim, text.prefix_tokens * text.width)
        self.token_embedding = nn.Embedding(text.vocab_size, text.width)
        self.positional_embedding = nn.Parameter(torch.empty(text.context_length, text.width))
        self.transformer = Transformer(text.width, text.layers, text.heads, config.activation)
        self.ln_final = nn.LayerNorm(text.width)
        nn.init.normal_(self.prefix.weight, std=config.embed_dim**-0.5)
        nn.init.zeros_(self.prefix.bias)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        for block in self._blocks():
            initialise_block(block, text.width, text.layers)

    def losses(self, images: torch.Tensor, tokens: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Cross-entropy of each caption: the mean over its tokens, so that long captions weigh no more than short ones.

        Args:
            images: float (N, 3, R, R), normalized.
            tokens: int (N, L): SOT, words, EOT, padding. SOT is an input only, EOT a target only.
            lengths: int (N,), tokens of each caption with its start and end; computed from tokens if None.
        Returns:
            float32 (N,), nats per token.
        """
        if lengths is None:
            lengths = tokens.argmax(dim=-1) + 1
        self._check_length(int(lengths.max()))
        packing, order = pack_texts(lengths.cpu() - 1 + self.prefix_tokens, tokens.device)
        prefix, tokens, read = self._prefix(self.encode_image(images))[order], tokens[order].long(), lengths - 1
        read = read.to(tokens.device)[order]
        rows, targets, kept = [], [], []
        for _, texts, _, length in packing.spans():
            longest = length - self.prefix_tokens
            words = self.token_embedding(tokens[texts, :longest]) + self.positional_embedding[:longest]
            rows.append(torch.cat([prefix[texts].to(words.dtype), words], dim=1).flatten(0, 1))
            predicts = torch.arange(longest, device=tokens.device) < read[texts, None]
            kept.append(F.pad(predicts, (self.prefix_tokens, 0)).flatten())
            targets.append(tokens[texts, 1 : longest + 1][predicts])
        x = torch.cat(rows)
        for block in self._blocks():
            x = recomputed(block, x, packing) if self.transformer.checkpointing else block(x, packing)
        logits = F.linear(self.ln_final(x[torch.cat(kept)]), self.token_embedding.weight)
        each = F.cross_entropy(logits.float(), torch.cat(targets), reduction="none")
        owner = torch.arange(len(tokens), device=tokens.device).repeat_interleave(read)
        sums = torch.zeros(len(tokens), device=each.device).index_add(0, order[owner], each)
        return sums / (lengths - 1).to(sums.device)

    forward = losses  # DistributedDataParallel and FSDP2 hook into forward

    @torch.no_grad()
    def text_scores(
        self, image_embeddings: torch.Tensor, tokens: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Log-likelihood of texts given images: the sum over their tokens, EOT included.

        Common beginnings of texts are computed once, as a tree whose nodes attend to their ancestors and the image. A
        set of prompts from one template costs about half as much this way.

        Args:
            image_embeddings: (N, E), from encode_image.
            tokens: int (K, L), K texts.
            lengths: int (K,).
        Returns:
            float32 (N, K), nats.
        """
        if lengths is None:
            lengths = tokens.argmax(dim=-1) + 1
        self._check_length(int(lengths.max()))
        texts = [tuple(row[:length]) for row, length in zip(tokens.tolist(), lengths.tolist(), strict=True)]
        prefix = self._prefix(image_embeddings)
        scores = torch.empty(len(prefix), len(texts), device=prefix.device)
        for columns, tree in build_trees(texts, _MAX_NODES):
            at_once = max(1, _LOGITS_AT_ONCE // (len(tree.tokens) * len(self.token_embedding.weight)))
            for rows in torch.arange(len(prefix), device=prefix.device).split(at_once):
                scores[rows[:, None], torch.tensor(columns, device=rows.device)] = self._tree_scores(prefix[rows], tree)
        return scores

    def _tree_scores(self, prefix: torch.Tensor, tree: "Tree") -> torch.Tensor:
        """(n, P, W) -> float32 (n, K): the log-likelihoods of a tree's texts after each image."""
        device, (n, start, width) = prefix.device, prefix.shape
        words = self.token_embedding(torch.tensor(tree.tokens, device=device))
        words = words + self.positional_embedding[torch.tensor(tree.depths, device=device)]
        x = torch.cat([prefix.to(words.dtype), words.expand(n, -1, -1)], dim=1)
        length = x.shape[1]
        seen = torch.ones(length, length, dtype=torch.bool, device=device).tril()
        seen[start:, start:] = tree.ancestors().to(device)
        for block in self._blocks():
            x = _block_over_tree(block, x.reshape(n * length, width), n, seen).view(n, length, width)
        logits = F.linear(self.ln_final(x[:, start:]), self.token_embedding.weight).float()
        parents, edges = torch.tensor(tree.edges, device=device).T
        gained = logits[:, parents, edges] - logits.logsumexp(dim=-1)[:, parents]
        paths = torch.zeros(len(tree.edges), len(tree.paths), device=device)
        for column, path in enumerate(tree.paths):
            paths[path, column] = 1.0
        return gained @ paths

    def _prefix(self, image_embeddings: torch.Tensor) -> torch.Tensor:
        """(N, E) -> (N, P, W): the image as tokens."""
        return self.prefix(image_embeddings.to(self.prefix.weight.dtype)).unflatten(1, (self.prefix_tokens, -1))

    def _blocks(self) -> list[Block]:
        return cast(list[Block], list(self.transformer.resblocks))

    def _check_length(self, longest: int) -> None:
        if longest > (context := len(self.positional_embedding)):
            raise ShapeError(f"texts of {longest} tokens exceed the context of {context}")


def _block_over_tree(block: Block, x: torch.Tensor, n: int, seen: torch.Tensor) -> torch.Tensor:
    """A block on n sequences of length L, (n · L, W) -> (n · L, W); `seen`, bool (L, L): i attends to j."""
    attention, length, width, dtype = block.attn, len(seen), x.shape[-1], block.mlp.c_fc.weight.dtype
    qkv = F.linear(block.ln_1(x).to(dtype), attention.in_proj_weight, attention.in_proj_bias)
    q, k, v = qkv.view(n, length, 3, attention.heads, width // attention.heads).permute(2, 0, 3, 1, 4)
    attended = attend(q, k, v, seen=seen[None, None]).transpose(1, 2).reshape(n * length, width)
    x = x + attention.out_proj(attended)
    return x + block.mlp(block.ln_2(x).to(dtype))


@dataclasses.dataclass
class Tree:
    """Texts that share their beginnings: a node for each input token.

    Attributes:
        tokens, depths, parents: one entry per node, parents before children; -1 is the root's parent.
        edges: (node, next token) pairs, each to be predicted once.
        paths: the indices of each text's edges.
    """

    tokens: list[int] = dataclasses.field(default_factory=list)
    depths: list[int] = dataclasses.field(default_factory=list)
    parents: list[int] = dataclasses.field(default_factory=list)
    edges: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    paths: list[list[int]] = dataclasses.field(default_factory=list)

    def ancestors(self) -> torch.Tensor:
        """bool (M, M): whether node i attends to node j; a node attends to itself."""
        seen = torch.zeros(len(self.tokens), len(self.tokens), dtype=torch.bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                seen[node] = seen[parent]
            seen[node, node] = True
        return seen


def build_trees(texts: list[tuple[int, ...]], max_nodes: int) -> list[tuple[list[int], Tree]]:
    """Group texts into trees of at most about `max_nodes` nodes; texts that are adjacent in sorted order stay together.

    Args:
        texts: token ids with SOT and EOT; the last is only a target.
    Returns:
        for each tree: the indices of its texts in the order of its paths, and the Tree.
    """
    trees: list[tuple[list[int], Tree]] = []
    nodes: dict[tuple[int, ...], int] = {}
    edges: dict[tuple[int, ...], int] = {}
    for index in sorted(range(len(texts)), key=lambda i: texts[i]):
        if not trees or len(trees[-1][1].tokens) + len(texts[index]) > max_nodes:
            nodes, edges = {}, {}
            trees.append(([], Tree()))
        columns, tree = trees[-1]
        text, path = texts[index], []
        for end in range(1, len(text)):
            before, until = text[:end], text[: end + 1]
            if before not in nodes:
                nodes[before] = len(tree.tokens)
                tree.tokens.append(text[end - 1])
                tree.depths.append(end - 1)
                tree.parents.append(nodes.get(before[:-1], -1))
            if until not in edges:
                edges[until] = len(tree.edges)
                tree.edges.append((nodes[before], text[end]))
            path.append(edges[until])
        columns.append(index)
        tree.paths.append(path)
    return trees
