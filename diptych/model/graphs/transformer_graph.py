"""The ONNX graph of the Transformer that both towers share."""

import copy
import dataclasses
from collections.abc import Callable
from typing import cast

import torch
from torch import nn

from diptych.model.attention import MLP, Block, Transformer
from diptych.model.graphs.balance import balance_factors, has_outliers, normed_sizes, projected_sizes
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
    attention = block.attn
    weights = list(attention.in_proj_weight.detach().double().chunk(3))
    biases = list(attention.in_proj_bias.detach().double().chunk(3))
    out = attention.out_proj.weight.detach().double()
    normed, weights, sizes = _write_norm(graph, x, block.ln_1, weights)
    if graph.precision == "int8":  # the values are averaged, so their channels can be balanced, too
        factors = balance_factors(projected_sizes(sizes, weights[2], biases[2]), [out])
        weights[2], biases[2], out = weights[2] / factors[:, None], biases[2] / factors, out * factors
    x = output(x)
    q, k, v = (
        graph.linear(side, weight, bias)
        for side, weight, bias in zip((output(normed), normed, normed), weights, biases, strict=True)
    )
    attended = graph.attention(q, k, v, attention.heads, attention.depth, mask)
    x = graph.op("Add", x, graph.linear(attended, out, attention.out_proj.bias))
    return graph.op("Add", x, write_normed_mlp(graph, x, block.ln_2, block.mlp))


def write_normed_mlp(graph: GraphWriter, x: str, norm: nn.LayerNorm, mlp: MLP) -> str:
    """LayerNorm and MLP: (N, L, W) -> (N, L, W)."""
    normed, (first,), sizes = _write_norm(graph, x, norm, [mlp.c_fc.weight.detach().double()])
    hidden = graph.activation(graph.linear(normed, first, mlp.c_fc.bias), mlp.activation)
    second = mlp.c_proj.weight.detach().double()
    if graph.precision == "int8":
        hidden_sizes = projected_sizes(sizes, first, mlp.c_fc.bias)
        if has_outliers(hidden_sizes):
            factors = balance_factors(hidden_sizes, [second])
            hidden, second = graph.op("Mul", hidden, graph.constant(1 / factors)), second * factors
    return graph.linear(hidden, second, mlp.c_proj.bias)


def _write_norm(
    graph: GraphWriter, x: str, norm: nn.LayerNorm, weights: list[torch.Tensor]
) -> tuple[str, list[torch.Tensor], torch.Tensor]:
    """A LayerNorm's output, the weights (N, W) after it, balanced if they are rounded, and its channels' sizes."""
    sizes = normed_sizes(norm)
    if graph.precision != "int8":
        return graph.layer_norm(x, norm), weights, sizes
    factors = balance_factors(sizes, weights)
    balanced = copy.deepcopy(norm).double()
    balanced.weight.data /= factors
    balanced.bias.data /= factors
    return graph.layer_norm(x, balanced), [weight * factors for weight in weights], sizes / factors
