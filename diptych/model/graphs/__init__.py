"""ONNX graphs of the towers: what other runtimes compute, without torch.

    write_image_graph(clip, preprocessing, Path("image.onnx"))
    write_text_graph(clip, Path("text.onnx"))

A new kind of tower needs a row in IMAGE_GRAPHS or TEXT_GRAPHS; without one its models run on torch alone.
"""

from pathlib import Path
from typing import Any

import torch

from diptych.errors import ConfigError
from diptych.model.graphs.graph_writer import GraphWriter
from diptych.model.graphs.image_graphs import IMAGE_GRAPHS, Images
from diptych.model.graphs.text_graphs import TEXT_GRAPHS
from diptych.model.towers import text_side_of, tower_of

__all__ = ["has_image_graph", "has_text_graph", "write_image_graph", "write_text_graph"]

PIXELS, TOKENS = "pixels", "tokens"
EMBEDDINGS, FEATURES = "embeddings", "features"


def has_image_graph(model: Any) -> bool:
    """Whether the model's image tower has a graph."""
    return tower_of(model.config.vision).kind in IMAGE_GRAPHS


def has_text_graph(model: Any) -> bool:
    """Whether the model's text side has a graph."""
    return text_side_of(model.config.text).kind in TEXT_GRAPHS


def write_image_graph(
    model: Any,
    path: Path,
    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None,
    graph: GraphWriter | None = None,
    notes: dict[str, str] | None = None,
    input_name: str = PIXELS,
    output_names: tuple[str, str | None] = (EMBEDDINGS, FEATURES),
) -> None:
    """Write the graph of the image tower.

    Its outputs are the embeddings (N, E) of unit norm and the features (N, W) before the projection, both float32.

    Args:
        model: a network of diptych.model.
        path: the file to write.
        normalization: mean and std per channel: the input is uint8 (N, 3, R, R) and the graph normalizes it. None: the
            input is float32 (N, 3, R, R), normalized already.
        graph: dialect and precision; by default fp32 for ONNX Runtime.
        notes: stored in the file as its metadata.
        input_name: name of the input.
        output_names: names of embeddings and features; None leaves the features out.
    Raises:
        ConfigError: the image tower has no graph.
        WeightsError: the file cannot be written.
    """
    row, size = tower_of(model.config.vision), model.config.vision.image_size
    if row.kind not in IMAGE_GRAPHS:
        raise ConfigError(f"there is no ONNX graph of the image tower {row.title}; use the backend torch")
    graph = graph or GraphWriter()
    images = Images(input_name, size)
    if normalization is not None:
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in normalization)
        images = Images(input_name, size, 1 / (255 * std), -mean / std)
    features, projected = IMAGE_GRAPHS[row.kind](graph, images, model.visual)
    embeddings = graph.unit_norm(projected)
    dims = model.config.embed_dim, model.config.vision.features_dim
    graph.save(
        path,
        [(input_name, "float32" if normalization is None else "uint8", ["N", 3, size, size])],
        [
            (node, name, ["N", dim])
            for node, name, dim in zip((embeddings, features), output_names, dims, strict=True)
            if name is not None
        ],
        notes or {},
    )


def write_text_graph(
    model: Any,
    path: Path,
    graph: GraphWriter | None = None,
    notes: dict[str, str] | None = None,
    input_name: str = TOKENS,
    output_name: str = EMBEDDINGS,
) -> None:
    """Write the graph of the text side: tokens int64 (N, L) of any length -> embeddings (N, E) of unit norm.

    Raises:
        ConfigError: the text side has no graph.
        WeightsError: the file cannot be written.
    """
    row = text_side_of(model.config.text)
    if row.kind not in TEXT_GRAPHS:
        raise ConfigError(f"there is no ONNX graph of the text side {row.kind!r}; use the backend torch")
    graph = graph or GraphWriter()
    embeddings = graph.unit_norm(TEXT_GRAPHS[row.kind](graph, input_name, model))
    graph.save(
        path,
        [(input_name, "int64", ["N", "L"])],
        [(embeddings, output_name, ["N", model.config.embed_dim])],
        notes or {},
    )
