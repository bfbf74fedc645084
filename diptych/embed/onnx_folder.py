"""onnx:FOLDER: a model as `diptych convert --to onnx` writes it, or in the layout of transformers.js.

    onnx/vision_model.onnx    pixel_values (N, 3, R, R) -> image_embeds (N, E)
    onnx/text_model.onnx      input_ids (N, L) -> text_embeds (N, E)
    config.json, preprocessor_config.json, tokenizer.json

The graphs may be of unknown origin: see diptych.embed.onnx_files.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diptych.data.library_tokenizer import AnyTokenizer, read_tokenizer
from diptych.data.transforms import Preprocessing
from diptych.embed.backends.runtimes import library_version
from diptych.embed.graph_encoder import Graph, GraphEncoder
from diptych.embed.library_encoder import import_library
from diptych.embed.model_description import describe
from diptych.embed.model_folder import CONFIG, TOKENIZER, read_json
from diptych.embed.onnx_files import check_onnx
from diptych.errors import ConfigError, WeightsError
from diptych.files import expanded
from diptych.model.clip_config import CLIPConfig
from diptych.processor import num_threads

VISION, TEXT, GRAPHS = "vision_model.onnx", "text_model.onnx", "onnx"
PIXELS, TOKENS, MASK = "pixel_values", "input_ids", "attention_mask"
IMAGE_OUTPUTS, TEXT_OUTPUTS = ("image_embeds", "pooler_output"), ("text_embeds", "pooler_output")
OURS = "diptych"
"""The key of config.json with what no graph says: architecture, preprocessing and logit scale."""
_SCALARS, _OBJECTS = ("logit_scale", "logit_bias"), ("model", "preprocessing")


def open_onnx(name: str, device: torch.device | None = None) -> GraphEncoder:
    """The encoder in a folder of ONNX graphs, computed by ONNX Runtime on the CPU.

    Raises:
        WeightsError: a file is missing, damaged or not trusted, or the graphs have other inputs or outputs.
        ConfigError: onnx or onnxruntime is not installed, or the folder states no preprocessing that Diptych supports.
    """
    folder = expanded(name)
    if not folder.is_dir():
        raise WeightsError(f"onnx:{name}: there is no folder {folder}; give the folder with the graphs and config.json")
    about = read_about(folder)
    vision, text = _find(folder, VISION), _find(folder, TEXT)
    if vision is None:
        raise WeightsError(f"onnx:{folder} lacks {GRAPHS}/{VISION}, the graph of the image tower")
    images, takes_uint8 = _image_graph(vision)
    return GraphEncoder(
        folder.resolve().name,
        made_by=library_version("onnx"),
        images=images,
        texts=None if text is None else _text_graph(text),
        takes_uint8=takes_uint8,
        fingerprint=_fingerprint(folder),
        **about,
    )


def read_about(folder: Path) -> dict[str, Any]:
    """Arguments of GraphEncoder that stand in config.json and the files beside it.

    What Diptych wrote stands there under "diptych"; without it, the folder is read as one of Hugging Face.

    Raises:
        WeightsError, ConfigError: a file is missing or damaged, or a value is not supported.
    """
    values = read_json(folder / CONFIG)
    if OURS not in values:
        description = describe(folder)
        return _about(description.config, description.preprocessing, description.tokenizer)
    ours = values[OURS]
    if not isinstance(ours, Mapping) or not all(isinstance(ours.get(key), Mapping) for key in _OBJECTS):
        raise WeightsError(f"{folder / CONFIG}: {OURS} must be an object with {' and '.join(_OBJECTS)}")
    scalars = {key: ours.get(key) for key in _SCALARS}
    for key, value in scalars.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise WeightsError(f"{folder / CONFIG}: {OURS}.{key} must be a number, not {value!r:.80}")
    try:
        config = CLIPConfig.from_dict(ours["model"])
        preprocessing = Preprocessing.from_dict(ours["preprocessing"])
    except ConfigError as error:
        raise ConfigError(f"{folder / CONFIG}: {error}") from error
    path = folder / TOKENIZER
    tokenizer = read_tokenizer(path, config.text.context_length) if path.is_file() else None
    return _about(config, preprocessing, tokenizer) | scalars


def _about(config: CLIPConfig, preprocessing: Preprocessing, tokenizer: AnyTokenizer | None) -> dict[str, Any]:
    reads_padding = not getattr(config.text, "ignores_padding", True)
    return {"preprocessing": preprocessing, "tokenizer": tokenizer, "reads_padding": reads_padding}


def _find(folder: Path, name: str) -> Path | None:
    places = (folder / GRAPHS / name, folder / name)
    return next((place for place in places if place.is_file() or place.is_symlink()), None)


def _session(path: Path) -> Any:
    check_onnx(path)
    onnxruntime = import_library("onnxruntime", "onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library raises its own types, which share no base class
        raise WeightsError(f"onnxruntime cannot open {path}: {str(error).strip().splitlines()[0][:300]}") from error


def _image_graph(path: Path) -> tuple[Graph, bool]:
    session = _session(path)
    kinds = {value.name: value.type for value in session.get_inputs()}
    output = _output(path, session, IMAGE_OUTPUTS)
    if set(kinds) != {PIXELS} or kinds[PIXELS] not in ("tensor(float)", "tensor(uint8)"):
        raise WeightsError(f"{path} takes {kinds}; the image graph takes {PIXELS}, float32 or uint8")
    return lambda pixels: _run(path, session, output, {PIXELS: pixels}), kinds[PIXELS] == "tensor(uint8)"


def _text_graph(path: Path) -> Graph:
    session = _session(path)
    names = {value.name for value in session.get_inputs()}
    output = _output(path, session, TEXT_OUTPUTS)
    if TOKENS not in names or not names <= {TOKENS, MASK}:
        raise WeightsError(f"{path} takes {', '.join(sorted(names))}; the text graph takes {TOKENS}, and maybe {MASK}")

    def run(tokens: np.ndarray) -> np.ndarray:
        inputs = {TOKENS: tokens}
        if MASK in names:
            inputs[MASK] = np.ones_like(tokens)
        return _run(path, session, output, inputs)

    return run


def _output(path: Path, session: Any, known: tuple[str, ...]) -> str:
    names = [value.name for value in session.get_outputs()]
    found = next((name for name in known if name in names), None)
    if found is None:
        raise WeightsError(f"{path} gives {', '.join(names)}; the graph gives {' or '.join(known)}")
    return found


def _run(path: Path, session: Any, output: str, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    try:
        (values,) = session.run([output], dict(inputs))
    except Exception as error:
        raise WeightsError(f"onnxruntime cannot compute {path}: {str(error).strip().splitlines()[0][:300]}") from error
    batch = len(next(iter(inputs.values())))
    if values.ndim != 2 or len(values) != batch:
        raise WeightsError(f"{path} gives {output} of the shape {values.shape} for {batch} inputs, not (N, E)")
    return np.asarray(values, dtype=np.float32)


def _fingerprint(folder: Path) -> str:
    """SHA-256 over names and contents of all files that the numbers depend on."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.json"), *folder.glob("*.onnx*"), *(folder / GRAPHS).glob("*.onnx*")]):
        if path.is_file():
            digest.update(path.name.encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
