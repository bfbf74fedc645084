"""The ONNX graphs of the text sides: tokens of any length in, embeddings out."""

from collections.abc import Callable
from typing import Any

import numpy as np

from diptych.model.clip import CLIP
from diptych.model.graphs.graph_writer import GraphWriter
from diptych.model.graphs.transformer_graph import Masks, write_transformer

_EXCLUDED = -1e9  # added to a logit: its share in the softmax is zero


def write_text_transformer(graph: GraphWriter, tokens: str, model: CLIP) -> str:
    """Tokens int (N, L), L at most the context length -> features (N, E) in the shared space, not normalized.

    Each text is read at its largest token, the end of the text; the attention is causal, so what follows has no effect.
    """
    context = len(model.positional_embedding)
    zero, one = graph.constant([0]), graph.constant([1])
    length = graph.op("Slice", graph.op("Shape", tokens), one, graph.constant([2]), zero)
    positions = graph.op("Slice", graph.constant(model.positional_embedding), zero, length, zero)
    words = graph.op("Gather", graph.constant(model.token_embedding.weight), tokens)
    x = graph.op("Add", words, positions)
    ends = graph.op("ArgMax", tokens, axis=1, keepdims=1)  # of equal tokens the first
    causal = graph.constant(np.triu(np.full((context, context), _EXCLUDED, np.float32), 1))
    both = graph.op("Concat", length, length, axis=0)
    everywhere = graph.op("Slice", causal, graph.constant([0, 0]), both, graph.constant([0, 1]))
    at_ends = graph.op("Reshape", graph.op("Gather", everywhere, ends), graph.constant([0, 1, 1, -1]))
    # GatherND takes row ends[i] of text i.
    x = write_transformer(
        graph,
        x,
        model.transformer,
        lambda rows: graph.op("GatherND", rows, graph.op("Unsqueeze", ends, graph.constant([2])), batch_dims=1),
        Masks(everywhere, at_ends),
    )
    pooled = graph.layer_norm(graph.op("Squeeze", x, one), model.ln_final)
    return graph.product(pooled, model.text_projection)


TEXT_GRAPHS: dict[str, Callable[[GraphWriter, str, Any], str]] = {"transformer": write_text_transformer}
"""By the text side's kind: a graph, its input and the whole network -> the name of the features."""
