"""The ONNX graphs of the text sides: tokens of any length in, embeddings out."""

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import nn

from diptych.model.clip import CLIP
from diptych.model.graphs.graph_writer import GraphWriter
from diptych.model.graphs.transformer_graph import Masks, write_transformer

_EXCLUDED = -1e9  # added to a logit: its share in the softmax is zero


def write_text_transformer(graph: GraphWriter, tokens: str, model: CLIP) -> str:
    """Tokens int (N, L), L at most the context length -> features (N, E) in the shared space, not normalized.

    Tokens after a text's end must be the padding. If padding matters to the model, the graph adds it up to the
    context's end, so that a text gives the same features at any L.
    """
    config = model.text_config
    if not config.ignores_padding:
        tokens = _padded(graph, tokens, config.context_length, config.pad_id)
    ends = graph.op("ArgMax", tokens, axis=1, keepdims=1)  # of equal tokens the first
    length = _length(graph, tokens)
    zero, one, two = (graph.constant([number]) for number in range(3))
    positions = graph.op("Slice", graph.constant(model.positional_embedding), zero, length, zero)
    x = graph.op("Add", graph.op("Gather", graph.constant(model.token_embedding.weight), tokens), positions)

    def at_output(rows: str) -> str:
        """The rows (N, L, W) at each text's output position: (N, 1, W)."""
        if config.pooling == "last":
            end = graph.constant([config.context_length])
            return graph.op("Slice", rows, graph.constant([config.context_length - 1]), end, one)
        return graph.op("GatherND", rows, graph.op("Unsqueeze", ends, two), batch_dims=1)  # row ends[i] of text i

    masks = _causal_masks(graph, length, ends, model) if config.causal else None
    x = write_transformer(graph, x, model.transformer, at_output, masks)
    pooled = graph.layer_norm(graph.op("Squeeze", x, one), model.ln_final)
    projection = model.text_projection
    if projection is None:
        return pooled
    if isinstance(projection, nn.Linear):
        return graph.linear(pooled, projection.weight, projection.bias)
    return graph.product(pooled, projection)


def _causal_masks(graph: GraphWriter, length: str, ends: str, model: CLIP) -> Masks:
    context = len(model.positional_embedding)
    causal = graph.constant(np.triu(np.full((context, context), _EXCLUDED, np.float32), 1))
    both = graph.op("Concat", length, length, axis=0)
    everywhere = graph.op("Slice", causal, graph.constant([0, 0]), both, graph.constant([0, 1]))
    if model.text_config.pooling == "last":
        return Masks(everywhere, graph.constant(np.zeros((1, 1, 1, context), np.float32)))
    at_ends = graph.op("Reshape", graph.op("Gather", everywhere, ends), graph.constant([0, 1, 1, -1]))
    return Masks(everywhere, at_ends)


def _length(graph: GraphWriter, tokens: str) -> str:
    """L of tokens (N, L), as int64 (1,)."""
    return graph.op("Slice", graph.op("Shape", tokens), *(graph.constant([place]) for place in (1, 2, 0)))


def _padded(graph: GraphWriter, tokens: str, context: int, pad_id: int) -> str:
    """Tokens (N, L) -> (N, context)."""
    missing = graph.op("Sub", graph.constant([context]), _length(graph, tokens))
    after = graph.op("Concat", graph.constant([0, 0, 0]), missing, axis=0)
    return graph.op("Pad", tokens, after, graph.constant(np.array(pad_id, np.int64)))


TEXT_GRAPHS: dict[str, Callable[[GraphWriter, str, Any], str]] = {"transformer": write_text_transformer}
"""By the text side's kind: a graph, its input and the whole network -> the name of the features."""
