"""ONNX graphs of both towers in ONNX's own operators: any batch, any length of texts, positions inside."""

from pathlib import Path

from diptych.convert.graph_files import IMAGES, PIXELS, TEXTS, TOKENS, require_text_tower, write_beside
from diptych.convert.options import Options
from diptych.embed.graph_encoder import GraphEncoder
from diptych.embed.model import Model
from diptych.embed.onnx_folder import GRAPHS, TEXT, VISION
from diptych.model.graphs import write_image_graph, write_text_graph
from diptych.model.graphs.graph_writer import GraphWriter


def write_graphs(model: Model, folder: Path, options: Options) -> None:
    """Write vision_model.onnx and text_model.onnx; weights above 1 GiB stand beside each, in NAME.data.

    Raises:
        ConfigError: a tower has no graph, or onnx is not installed.
    """
    images = model.preprocessing
    normalization = (images.mean, images.std) if options.pixels == "uint8" else None
    write_image_graph(
        model.clip,
        folder / VISION,
        normalization,
        GraphWriter("standard", options.precision),
        input_name=PIXELS,
        output_names=(IMAGES, None),
    )
    write_text_graph(
        model.clip, folder / TEXT, GraphWriter("standard", options.precision), input_name=TOKENS, output_name=TEXTS
    )


def write(model: Model, folder: Path, options: Options) -> None:
    """Write the two graphs into onnx/, and config.json, preprocessor_config.json and tokenizer.json.

    Raises:
        ConfigError: a tower has no graph, or the model came without a tokenizer.
    """
    require_text_tower(model)
    (folder / GRAPHS).mkdir()
    write_graphs(model, folder / GRAPHS, options)
    write_beside(model, folder, options)


def open_again(folder: Path) -> GraphEncoder:
    """The model as ONNX Runtime computes it."""
    from diptych.embed.onnx_folder import open_onnx

    return open_onnx(str(folder))
