"""Read and write Diptych's model folder: config.json, model.safetensors, tokenizer.json, README.md."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from diptych.data.library_tokenizer import SETTINGS, AnyTokenizer, read_tokenizer
from diptych.data.transforms import Preprocessing
from diptych.embed.model_names import place_of
from diptych.errors import ConfigError, WeightsError
from diptych.files import absence, expanded, new_folder, old_place, utf8
from diptych.model.clip import CLIP
from diptych.model.clip_config import CLIPConfig
from diptych.model.layouts import Tensors
from diptych.model.weights import write_tensors

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
CONFIG, WEIGHTS, TOKENIZER, CARD = "config.json", "model.safetensors", "tokenizer.json", "README.md"
_MAX_JSON_BYTES = 2**20

_CARD = """---
library_name: diptych
pipeline_tag: zero-shot-image-classification
---
# {name}

A CLIP model: an image encoder and a text encoder into one space of {embed_dim} dimensions.

| | |
| --- | --- |
| parameters | {parameters:,} |
| image encoder | {vision} |
| text encoder | {text} |
| activation | {activation} |
| preprocessing | {preprocessing} |
| logit scale | {logit_scale} |

```python
import diptych

model = diptych.load("path/to/this/folder")
model.encode_images(["picture.jpg"]) @ model.encode_texts(["a photo of a cat"]).T
```
"""


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a small JSON file.

    Raises:
        WeightsError: the file is missing, too large, or not a JSON object.
    """
    if not path.is_file():
        raise WeightsError(absence(path))
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise WeightsError(f"{path} has {path.stat().st_size:,} bytes, too many for a configuration")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise WeightsError(f"{path} must hold a JSON object, not {type(values).__name__}")
    return values


def read_description(folder: Path, values: Mapping[str, Any]) -> tuple[CLIPConfig, Preprocessing, AnyTokenizer | None]:
    """Read config.json and tokenizer.json of a Diptych folder.

    Args:
        values: the contents of config.json.
    Raises:
        WeightsError: a file or a field is missing, or the format is newer than this version of Diptych.
        ConfigError: a value is invalid.
    """
    if values["format_version"] != FORMAT_VERSION:
        raise WeightsError(
            f"{folder / CONFIG} has format version {values['format_version']!r}, "
            f"this version of Diptych reads {FORMAT_VERSION}"
        )
    if missing := [name for name in ("model", "preprocessing", "tokenizer") if name not in values]:
        raise WeightsError(f"{folder / CONFIG} lacks {', '.join(missing)}")
    if not isinstance(values["preprocessing"], Mapping):
        raise ConfigError(f"{folder / CONFIG}: preprocessing must be an object")
    try:
        config = CLIPConfig.from_dict(values["model"])
        preprocessing = Preprocessing.from_dict(values["preprocessing"])
    except ConfigError as error:
        raise ConfigError(f"{folder / CONFIG}: {error}") from error
    tokenizer = None
    if values["tokenizer"]:
        require(folder, TOKENIZER)
        tokenizer = read_tokenizer(folder / TOKENIZER, config.text.context_length)
    return config, preprocessing, tokenizer


def require(folder: Path, name: str) -> Path:
    """The path of a required file; WeightsError names the file if it is missing."""
    if not (folder / name).is_file():
        raise WeightsError(absence(folder / name))
    return folder / name


def write_folder(
    folder: Path, clip: CLIP, tokenizer: AnyTokenizer | None, preprocessing: Preprocessing, precision: str = "fp32"
) -> None:
    """Write a model folder under a temporary name, then rename it; see Model.save."""
    tensors = in_precision(clip.state_dict(), precision)
    check_can_save(folder)
    folder = place_of(folder)
    try:
        with new_folder(folder, replace=True) as unfinished:
            _write_files(unfinished, folder.name, clip, tokenizer, preprocessing)
            write_tensors(tensors, unfinished / WEIGHTS)
    except OSError as error:
        raise WeightsError(f"the model cannot be saved in {folder}: {error}") from error


def check_can_save(folder: str | Path) -> None:
    """Check, before a training run, that Model.save can use this folder.

    Raises:
        WeightsError: it is a file, or a folder that holds files that do not belong to a model.
    """
    place = place_of(expanded(folder))
    if not place.name:  # "", "." and "/"
        raise WeightsError(f"a model is saved in a folder with a name of its own, not in {str(folder)!r}")
    for target in (place, old_place(place)):
        if not target.exists():
            continue
        if not target.is_dir():
            raise WeightsError(f"{target} is a file; a model is saved in a folder")
        if others := sorted({path.name for path in target.iterdir()} - {CONFIG, WEIGHTS, TOKENIZER, SETTINGS, CARD}):
            raise WeightsError(
                f"{target} holds other files than a model's ({', '.join(others[:5])}); "
                "move them away, or choose another folder"
            )


def _write_files(
    folder: Path, name: str, clip: CLIP, tokenizer: AnyTokenizer | None, preprocessing: Preprocessing
) -> None:
    config = clip.config
    description = {
        "format_version": FORMAT_VERSION,
        "model": config.to_dict(),
        "preprocessing": preprocessing.to_dict(),
        "tokenizer": TOKENIZER if tokenizer else None,
    }
    (folder / CONFIG).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    card = _CARD.format(
        name=utf8(name),
        embed_dim=config.embed_dim,
        parameters=config.num_parameters(),
        vision=config.vision,
        text=config.text,
        activation=config.activation,
        preprocessing=preprocessing,
        logit_scale=f"{clip.logit_scale.exp().item():.4g}" if hasattr(clip, "logit_scale") else "none",
    )
    (folder / CARD).write_text(card, encoding="utf-8")
    if tokenizer:
        tokenizer.save(folder / TOKENIZER)


def in_precision(tensors: Tensors, precision: str) -> Tensors:
    """The tensors as they are saved: for fp16, those with two dimensions or more are rounded.

    Raises:
        WeightsError: a number is too large for fp16.
        ConfigError: the precision is neither fp32 nor fp16.
    """
    if precision not in ("fp32", "fp16"):
        raise ConfigError(f"a model is saved in fp32 or fp16, not in {precision!r}")
    if precision == "fp32":
        return tensors
    largest = torch.finfo(torch.float16).max
    if large := [name for name, tensor in tensors.items() if tensor.ndim >= 2 and tensor.abs().max() > largest]:
        raise WeightsError(f"{large[0]} holds numbers above {largest:,.0f}, the largest of fp16: save in fp32")
    return {name: tensor.half() if tensor.ndim >= 2 else tensor for name, tensor in tensors.items()}
