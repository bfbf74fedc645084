"""The ONNX graphs of the image towers: the network's input or raw pixels in, features before the projection out."""

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

from diptych.model.antialiased_resnet import POWER, SMALLEST, AntialiasedResNet, WeightNormConv2d
from diptych.model.compact_resnet import BasicBlock, CompactResNet
from diptych.model.graphs.graph_writer import GraphWriter
from diptych.model.graphs.transformer_graph import write_normed_mlp, write_transformer
from diptych.model.modified_resnet import AttentionPool, Bottleneck, ModifiedResNet
from diptych.model.siglip_vit import SiglipVisionTransformer
from diptych.model.vision_transformer import VisionTransformer


@dataclasses.dataclass(frozen=True)
class Images:
    """The input of an image tower's graph.

    Attributes:
        name: (N, 3, R, R), pixels uint8 or the network's input float32.
        size: R.
        factor, offset: float64 (3,): the network's input is name x factor + offset. None if it is `name` itself.
    """

    name: str
    size: int
    factor: torch.Tensor | None = None
    offset: torch.Tensor | None = None


def write_vision_transformer(graph: GraphWriter, images: Images, tower: VisionTransformer) -> tuple[str, str]:
    """Features (N, W) and their projection (N, E), not normalized."""
    positions = tower.positional_embedding.detach().double().clone()
    positions[0] += tower.class_embedding.detach()
    x, kernel, constant = _write_patches(graph, images, tower.conv1)
    positions[1:] += constant
    # The class token is a patch of zeros, whose product is zero: one addition gives it its embedding.
    x = graph.op("Pad", x, graph.constant([0, 1, 0, 0, 0, 0]))
    x = graph.op("Add", graph.product(x, kernel), graph.constant(positions[None]))
    if isinstance(tower.ln_pre, nn.LayerNorm):
        x = graph.layer_norm(x, tower.ln_pre)
    if tower.pooling == "class":
        x = write_transformer(graph, x, tower.transformer, graph.first)
        features = graph.layer_norm(graph.op("Squeeze", x, graph.constant([1])), tower.ln_post)
        return features, graph.product(features, tower.proj)
    x = write_transformer(graph, x, tower.transformer, None)
    x = graph.op("Slice", x, graph.constant([1]), graph.constant([len(positions)]), graph.constant([1]))
    if tower.pooling == "mean":
        features = graph.layer_norm(graph.op("ReduceMean", x, axes=[1], keepdims=0), tower.ln_post)
    else:
        features = graph.op("ReduceMean", graph.layer_norm(x, tower.ln_post), axes=[1], keepdims=0)
    return features, graph.product(features, tower.proj)


def write_siglip_vision_transformer(
    graph: GraphWriter, images: Images, tower: SiglipVisionTransformer
) -> tuple[str, str]:
    """Features (N, W), twice: there is no projection."""
    x, kernel, constant = _write_patches(graph, images, tower.conv1)
    bias = cast(nn.Parameter, tower.conv1.bias).detach().double()
    positions = tower.positional_embedding.detach().double() + constant + bias
    x = graph.op("Add", graph.product(x, kernel), graph.constant(positions[None]))
    x = graph.layer_norm(write_transformer(graph, x, tower.transformer, None), tower.ln_post)
    pool, width = tower.attn_pool, len(tower.attn_pool.probe)
    weights, biases = pool.attn.in_proj_weight.detach().double(), pool.attn.in_proj_bias.detach().double()
    probe = weights[:width] @ pool.probe.detach().double() + biases[:width]  # the same query for every image
    k, v = (graph.linear(x, weights[part], biases[part]) for part in (slice(width, 2 * width), slice(2 * width, None)))
    count = graph.op("Slice", graph.op("Shape", x), *(graph.constant([place]) for place in (0, 1, 0)))
    shape = graph.op("Concat", count, graph.constant([1, width]), axis=0)
    q = graph.op("Expand", graph.constant(probe[None, None]), shape)
    attended = graph.attention(q, k, v, pool.attn.heads, pool.attn.depth)
    pooled = graph.linear(attended, pool.attn.out_proj.weight, pool.attn.out_proj.bias)
    pooled = graph.op("Add", pooled, write_normed_mlp(graph, pooled, pool.ln, pool.mlp))
    features = graph.op("Squeeze", pooled, graph.constant([1]))
    return features, features


def _write_patches(graph: GraphWriter, images: Images, conv: nn.Conv2d) -> tuple[str, torch.Tensor, torch.Tensor]:
    """The patches (N, P, K), the matrix (K, W) that they are multiplied by, and what is added to the product (W,).

    The normalization is affine, so it is part of the matrix and of the constant.
    """
    patch, width = int(conv.kernel_size[0]), conv.out_channels
    grid, x = images.size // patch, images.name
    if images.size % patch:  # pixels after the last whole patch are left out
        end = graph.constant([grid * patch] * 2)
        x = graph.op("Slice", x, graph.constant([0, 0]), end, graph.constant([2, 3]))
    x = graph.op("Reshape", x, graph.constant([0, 3, grid, patch, grid, patch]))
    x = graph.op("Transpose", x, perm=[0, 2, 4, 1, 3, 5])
    x = graph.op("Reshape", x, graph.constant([0, grid**2, 3 * patch**2]))
    kernel, constant = conv.weight.detach().double(), torch.zeros(width, dtype=torch.float64)
    if images.factor is not None and images.offset is not None:
        x = graph.op("Cast", x, to=1)
        constant = (kernel * images.offset[:, None, None]).sum((1, 2, 3))
        kernel = kernel * images.factor[:, None, None]
    return x, kernel.reshape(width, -1).T, constant


def write_modified_resnet(graph: GraphWriter, images: Images, tower: ModifiedResNet) -> tuple[str, str]:
    """Features (N, W) and their projection (N, E), not normalized."""
    x = _normalized(graph, images)
    for conv, norm in ((tower.conv1, tower.bn1), (tower.conv2, tower.bn2), (tower.conv3, tower.bn3)):
        x = graph.op("Relu", graph.normalized_convolution(x, conv, norm))
    x = graph.average_pool(x, 2)
    for stage in (tower.layer1, tower.layer2, tower.layer3, tower.layer4):
        for block in stage:
            x = _write_bottleneck(graph, x, cast(Bottleneck, block))
    return _write_attention_pool(graph, x, tower.attnpool)


def _write_bottleneck(graph: GraphWriter, x: str, block: Bottleneck) -> str:
    out = graph.op("Relu", graph.normalized_convolution(x, block.conv1, block.bn1))
    out = graph.op("Relu", graph.normalized_convolution(out, block.conv2, block.bn2))
    out = graph.average_pool(out, block.stride) if block.stride > 1 else out
    out = graph.normalized_convolution(out, block.conv3, block.bn3)
    if block.downsample is not None:
        _, conv, norm = block.downsample
        x = graph.average_pool(x, block.stride) if block.stride > 1 else x
        x = graph.normalized_convolution(x, cast(nn.Conv2d, conv), cast(nn.BatchNorm2d, norm))
    return graph.op("Relu", graph.op("Add", out, x))


def write_compact_resnet(graph: GraphWriter, images: Images, tower: CompactResNet) -> tuple[str, str]:
    """Features (N, W) and their projection (N, E), not normalized."""
    x = graph.op("Relu", graph.normalized_convolution(_normalized(graph, images), tower.conv1, tower.bn1))
    for number, stage in enumerate(tower.stages):
        x = graph.average_pool(x, 2) if number else x
        for block in cast(nn.Sequential, stage):
            x = _write_basic_block(graph, x, cast(BasicBlock, block))
    return _write_attention_pool(graph, x, tower.attnpool)


def _write_basic_block(graph: GraphWriter, x: str, block: BasicBlock) -> str:
    out = graph.op("Relu", graph.normalized_convolution(x, block.conv1, block.bn1))
    out = graph.normalized_convolution(out, block.conv2, block.bn2)
    if block.shortcut is not None:
        conv, norm = block.shortcut
        x = graph.normalized_convolution(x, cast(nn.Conv2d, conv), cast(nn.BatchNorm2d, norm))
    return graph.op("Relu", graph.op("Add", out, x))


def write_antialiased_resnet(graph: GraphWriter, images: Images, tower: AntialiasedResNet) -> tuple[str, str]:
    """Features (N, W) and their projection (N, E), not normalized."""
    x = graph.activation(_write_weight_norm(graph, _normalized(graph, images), tower.conv1), "gelu")
    x = graph.op("MaxPool", x, kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
    for stage in tower.stages:
        x = _write_halving(graph, x, channels=_channels(cast(Any, stage)[0]))
        for block in cast(nn.Sequential, stage):
            x = _write_weight_norm_block(graph, x, cast(Any, block))
    x = graph.op("Max", graph.activation(x, "gelu"), graph.constant(SMALLEST))
    x = graph.op("Pow", x, graph.constant(POWER))
    features = graph.op("Pow", graph.op("ReduceMean", x, axes=[2, 3], keepdims=0), graph.constant(1 / POWER))
    return features, graph.linear(features, tower.proj.weight, tower.proj.bias)


def _channels(block: Any) -> int:
    """Channels of a block's input."""
    return block.convs[0].weight.shape[1]


def _write_weight_norm_block(graph: GraphWriter, x: str, block: Any) -> str:
    out = x
    for conv in block.convs:
        out = _write_weight_norm(graph, graph.activation(out, "gelu"), conv)
    return graph.op("Add", out, x if block.shortcut is None else _write_weight_norm(graph, x, block.shortcut))


def _write_weight_norm(graph: GraphWriter, x: str, conv: WeightNormConv2d) -> str:
    directions = conv.weight.detach().double()
    scales = conv.gain.detach().double() / torch.linalg.vector_norm(directions, dim=(1, 2, 3))
    kernel = directions * scales[:, None, None, None]
    return graph.convolution(x, kernel, conv.bias, stride=conv.stride, padding=conv.padding)


def _write_halving(graph: GraphWriter, x: str, channels: int) -> str:
    """The binomial filter (1, 3, 3, 1) / 8 in both directions, with stride 2; see `antialiased_resnet.halve`."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    kernel = (taps[:, None] * taps).expand(channels, 1, 4, 4)
    x = graph.op("Pad", x, graph.constant([0, 0, 1, 1, 0, 0, 1, 1]), mode="edge")
    return graph.convolution(x, kernel, torch.zeros(channels), stride=2, groups=channels)


def _write_attention_pool(graph: GraphWriter, x: str, pool: AttentionPool) -> tuple[str, str]:
    """The map (N, W, grid, grid) -> features (N, W) and their projection (N, E)."""
    positions, width = pool.positional_embedding.shape
    x = graph.op("Reshape", x, graph.constant([0, width, positions - 1]))
    x = graph.op("Transpose", x, perm=[0, 2, 1])
    x = graph.op("Concat", graph.op("ReduceMean", x, axes=[1], keepdims=1), x, axis=1)
    x = graph.op("Add", x, graph.constant(pool.positional_embedding[None]))
    q, k, v = (
        graph.linear(side, layer.weight, layer.bias)
        for side, layer in ((graph.first(x), pool.q_proj), (x, pool.k_proj), (x, pool.v_proj))
    )
    attended = graph.attention(q, k, v, pool.heads, width // pool.heads)
    features = graph.op("Squeeze", attended, graph.constant([1]))
    return features, graph.linear(features, pool.c_proj.weight, pool.c_proj.bias)


def _normalized(graph: GraphWriter, images: Images) -> str:
    """The network's input. A convolution pads it with zeros, so the normalization cannot be part of its weights."""
    if images.factor is None or images.offset is None:
        return images.name
    scaled = graph.op("Mul", graph.op("Cast", images.name, to=1), graph.constant(images.factor[:, None, None]))
    return graph.op("Add", scaled, graph.constant(images.offset[:, None, None]))


IMAGE_GRAPHS: dict[str, Callable[[GraphWriter, Images, Any], tuple[str, str]]] = {
    "vit": write_vision_transformer,
    "siglip_vit": write_siglip_vision_transformer,
    "resnet": write_modified_resnet,
    "compact_resnet": write_compact_resnet,
    "antialiased_resnet": write_antialiased_resnet,
}
"""By the tower's kind: a graph, its input and the network -> the names of features and projection."""
