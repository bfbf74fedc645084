"""The layout of sentence-transformers: transformers' files, the modules that run them, and unit norm at the end."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from diptych.convert import write_huggingface
from diptych.convert.options import Options
from diptych.convert.sidecar_files import write_json
from diptych.embed.library_encoder import LibraryEncoder, import_library
from diptych.embed.model import Model

_NORMALIZE = "1_Normalize"
_MODULES = "sentence_transformers.base.modules"


def write(model: Model, folder: Path, options: Options) -> None:
    """Write transformers' files, modules.json, sentence_bert_config.json and config_sentence_transformers.json.

    Raises:
        ConfigError: as for --to huggingface.
    """
    write_huggingface.write(model, folder, options)
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": f"{_MODULES}.transformer.Transformer"},
        {"idx": 1, "name": "1", "path": _NORMALIZE, "type": f"{_MODULES}.normalize.Normalize"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules, indent=2) + "\n", encoding="utf-8")
    (folder / _NORMALIZE).mkdir()
    write_json(folder / _NORMALIZE / "config.json", {})
    ways = {
        modality: {"method": f"get_{modality}_features", "method_output_name": "pooler_output"}
        for modality in ("text", "image")
    }
    settings: dict[str, Any] = {
        "transformer_task": "feature-extraction",
        "modality_config": ways,
        "module_output_name": "sentence_embedding",
        "processor_kwargs": {"backend": "pil"},  # exact; torchvision's resizing rounds otherwise
        "processing_kwargs": {"text": {"padding": "max_length", "truncation": True}},
    }
    write_json(folder / "sentence_bert_config.json", settings)
    versions = {"model_type": "SentenceTransformer", "similarity_fn_name": "cosine", "prompts": {}}
    write_json(folder / "config_sentence_transformers.json", versions | {"default_prompt_name": None})


def open_again(folder: Path) -> LibraryEncoder:
    """The model as sentence-transformers loads it."""
    library = import_library("sentence_transformers", "sentence-transformers")
    model = library.SentenceTransformer(str(folder), device="cpu")

    def images(pixels: torch.Tensor) -> torch.Tensor:
        return model({"pixel_values": pixels, "modality": "image"})["sentence_embedding"]

    def texts(words: Sequence[str]) -> torch.Tensor:
        return torch.from_numpy(model.encode(list(words), show_progress_bar=False))

    return LibraryEncoder(
        model[0].model,
        folder.name,
        prepare=lambda image: model.preprocess([image])["pixel_values"][0],
        keeps_center="shortest_edge" in dict(model[0].processor.image_processor.size),
        images=images,
        texts=texts,
        features=None,
        preprocessing=str(model[0].processor.image_processor),
        tokenizing=str(model[0].processor.tokenizer),
        library="transformers",
        tokenize=lambda words: model.preprocess(list(words))["input_ids"],
    )
