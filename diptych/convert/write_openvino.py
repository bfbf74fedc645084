"""OpenVINO's files of both towers: the graphs of the ONNX target, in that library's format."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from diptych.convert.graph_files import IMAGES, PIXELS, TEXTS, TOKENS, graph_encoder, require_text_tower, write_beside
from diptych.convert.options import Options
from diptych.convert.write_onnx import write_graphs
from diptych.embed.backends.runtimes import library_version
from diptych.embed.graph_encoder import GraphEncoder
from diptych.embed.library_encoder import import_library
from diptych.embed.model import Model
from diptych.embed.onnx_folder import TEXT, VISION
from diptych.processor import num_threads


def write(model: Model, folder: Path, options: Options) -> None:
    """Write vision_model.xml, text_model.xml, a .bin of weights for each, and the files of the ONNX target.

    Raises:
        ConfigError: a tower has no graph, the model came without a tokenizer, or openvino is not installed.
    """
    require_text_tower(model)
    openvino = import_library("openvino", "'diptych[openvino]'")
    with tempfile.TemporaryDirectory(dir=folder) as graphs:
        write_graphs(model, Path(graphs), Options())
        for name in (VISION, TEXT):
            converted = openvino.convert_model(str(Path(graphs) / name))
            file = (folder / name).with_suffix(".xml")
            openvino.save_model(converted, str(file), compress_to_fp16=options.precision == "fp16")
            del converted  # it keeps the graph's files open
    write_beside(model, folder, options)


def open_again(folder: Path) -> GraphEncoder:
    """The model as OpenVINO reads and computes it."""
    openvino = import_library("openvino", "'diptych[openvino]'")
    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": num_threads()}

    def graph(name: str, input_name: str, output_name: str) -> Any:
        read = core.read_model(str((folder / name).with_suffix(".xml")))
        compiled = core.compile_model(read, "CPU", settings)
        return lambda values: np.array(compiled({input_name: values})[output_name])

    return graph_encoder(folder, library_version("openvino"), graph(VISION, PIXELS, IMAGES), graph(TEXT, TOKENS, TEXTS))
