"""The ONNX graph of the Transformer that both towers share."""

import dataclasses
from collections.abc import Callable
from typing import cast

from diptych.model.attention import MLP, Block, Transformer
from diptych.model.graphs.graph_writer import GraphWriter


@dataclasses.dataclass(frozen=True)
class Masks:
    """What is added to the logits of the attention.

    Attributes:
        everywhere: (L, L), for all positions.
        at_output: (N, 1, 1, L), for the output positions.
    """

    everywhere: str
    at_output: str


def write_transformer(
    graph: GraphWriter, x: str, network: Transformer, output: Callable[[str], str] | None, masks: Masks | None = None
) -> str:
    """The blocks: x (N, L, W) -> (N, 1, W) at the output positions, or (N, L, W) without any.

    The last block computes keys and values of all positions, and everything else at the output positions only.

    Args:
        output: takes the output positions: (N, L, W) -> (N, 1, W); None for all positions.
        masks: None to attend to everything.
    """
    *blocks, last = cast(list[Block], list(network.resblocks))
    for block in blocks:
        x = _write_block(graph, x, block, masks.everywhere if masks else None)
    if output is None:
        return _write_block(graph, x, last, masks.everywhere if masks else None)
    return _write_block(graph, x, last, masks.at_output if masks else None, output)


def _write_block(
    graph: GraphWriter, x: str, block: Block, mask: str | None, output: Callable[[str], str] = lambda x: x
) -> str:
    attention, mlp = block.attn, block.mlp
    normed = graph.layer_norm(x, block.ln_1)
    x = output(x)
    weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    q, k, v = (
        graph.linear(side, weight, bias)
        for side, weight, bias in zip((output(normed), normed, normed), weights, biases, strict=True)
    )
    attended = graph.attention(q, k, v, attention.heads, attention.depth, mask)
    x = graph.op("Add", x, graph.linear(attended, attention.out_proj.weight, attention.out_proj.bias))
    return graph.op("Add", x, write_mlp(graph, graph.layer_norm(x, block.ln_2), mlp))


def write_mlp(graph: GraphWriter, x: str, mlp: MLP) -> str:
    """(N, L, W) -> (N, L, W)."""
    hidden = graph.activation(graph.linear(x, mlp.c_fc.weight, mlp.c_fc.bias), mlp.activation)
    return graph.linear(hidden, mlp.c_proj.weight, mlp.c_proj.bias)
