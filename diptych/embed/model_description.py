"""Read the configuration of a model folder: Diptych's, Hugging Face's or open_clip's."""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diptych.data.library_tokenizer import AnyTokenizer
from diptych.data.tokenizer import Tokenizer
from diptych.data.transforms import Preprocessing
from diptych.embed.foreign_config import OPEN_CLIP_CONFIG, huggingface_preprocessing, read_open_clip
from diptych.embed.model_folder import CONFIG, WEIGHTS, read_description, read_json
from diptych.embed.remote_code import asked_code, remote_code_sentence
from diptych.embed.text_rules import OPENAI_VOCABULARY, optional_tokenizer, padded_like, siglip_tokenizer
from diptych.errors import ConfigError, WeightsError
from diptych.files import is_there
from diptych.model.clip_config import CLIPConfig
from diptych.model.huggingface_config import KINDS, config_from_huggingface, is_siglip
from diptych.model.open_clip_config import open_clip_object
from diptych.model.sharded import INDEX_SUFFIX

logger = logging.getLogger(__name__)

_DIPTYCH = (WEIGHTS,)
HUGGINGFACE_WEIGHTS = tuple(f"{name}{end}" for name in (WEIGHTS, "pytorch_model.bin") for end in ("", INDEX_SUFFIX))
_OPEN_CLIP = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")


@dataclasses.dataclass(frozen=True)
class Description:
    """Everything about a model except its weights.

    Attributes:
        source: the configuration file that defines the architecture.
        weights: possible names of the weight file in such a folder, the preferred one first.
    """

    config: CLIPConfig
    preprocessing: Preprocessing
    tokenizer: AnyTokenizer | None
    source: Path
    weights: tuple[str, ...]


def describe(folder: Path, prefer_open_clip: bool = False) -> Description:
    """Read the configuration of a folder.

    Args:
        prefer_open_clip: take open_clip's configuration if the folder also holds Hugging Face's, as LAION's do.
    Raises:
        WeightsError: the folder holds no configuration of a CLIP; the message says what is there and what to do.
        ConfigError: it describes a model that Diptych's CLIP does not support.
    """
    values = read_json(folder / CONFIG) if is_there(folder / CONFIG) else {}
    open_clip = (folder / OPEN_CLIP_CONFIG).is_file()
    if "format_version" in values:
        return Description(*read_description(folder, values), folder / CONFIG, _DIPTYCH)
    if values.get("model_type") in KINDS and not (prefer_open_clip and open_clip):
        return _describe_huggingface(folder, values)
    if open_clip:
        return _describe_open_clip(folder)
    raise WeightsError(f"{folder} is no model folder: {_problem(folder, values)}")


def is_described(folder: Path) -> bool:
    """Whether a folder has a configuration for `describe`, supported or not."""
    if (folder / OPEN_CLIP_CONFIG).is_file():
        return True
    values = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    return "format_version" in values or values.get("model_type") in KINDS


def _describe_huggingface(folder: Path, values: Mapping[str, Any]) -> Description:
    try:
        config = config_from_huggingface(values)
        siglip = is_siglip(config)
        tokenizer = siglip_tokenizer(folder, config) if siglip else optional_tokenizer(folder, config)
    except ConfigError as error:
        raise ConfigError(f"{folder / CONFIG}: {error}. transformers computes it: give hf:{folder}") from error
    if siglip:
        config = padded_like(config, tokenizer)
    else:
        _check_end_of_text(folder, values, config, tokenizer)
    preprocessing = huggingface_preprocessing(folder, config.vision.image_size, siglip)
    return Description(config, preprocessing, tokenizer, folder / CONFIG, HUGGINGFACE_WEIGHTS)


def _describe_open_clip(folder: Path) -> Description:
    values = read_json(folder / OPEN_CLIP_CONFIG)
    try:
        config, preprocessing = read_open_clip(values)
        tokenizer = optional_tokenizer(folder, config, _tokenizer_kwargs(values))
    except ConfigError as error:
        raise ConfigError(
            f"{folder / OPEN_CLIP_CONFIG}: {error}. open_clip computes it: give open_clip:{folder}"
        ) from error
    config = padded_like(config, tokenizer)
    return Description(config, preprocessing, tokenizer, folder / OPEN_CLIP_CONFIG, _OPEN_CLIP)


def _tokenizer_kwargs(values: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The tokenizer_kwargs of an open_clip_config.json if its tokenizer is one of Hugging Face's, else None."""
    text = open_clip_object(open_clip_object(values, "model_cfg"), "text_cfg")
    return open_clip_object(text, "tokenizer_kwargs") if text.get("hf_tokenizer_name") else None


def _check_end_of_text(
    folder: Path, values: Mapping[str, Any], config: CLIPConfig, tokenizer: AnyTokenizer | None
) -> None:
    """transformers pools a text at the token eos_token_id. The value 2 means the largest id, where Diptych pools."""
    old = values.get("text_config_dict")
    stated = values.get("text_config") if old is None else old
    end = stated.get("eos_token_id", OPENAI_VOCABULARY - 1) if isinstance(stated, Mapping) else OPENAI_VOCABULARY - 1
    if isinstance(tokenizer, Tokenizer) and end not in (2, tokenizer.eot):
        raise WeightsError(
            f"{folder / CONFIG}: text_config.eos_token_id is {end!r}, at which transformers reads a text, and the "
            f"tokenizer ends texts with {tokenizer.eot}: write that number, or 2 (the largest id), or give hf:{folder}"
        )


def _problem(folder: Path, values: Mapping[str, Any]) -> str:
    """Why a folder is not a CLIP folder, and what to do."""
    kind = values.get("model_type")
    if code := asked_code(values):
        return remote_code_sentence(f"the {kind} in it", code)
    if kind:
        return f"its {CONFIG} describes no CLIP but a {kind}, which transformers computes: give hf:{folder}"
    run = f"; a run keeps its model in {folder / 'model'}" if (folder / "model" / CONFIG).is_file() else ""
    if (folder / CONFIG).is_file() or run:
        return (f"its {CONFIG} describes no CLIP" if (folder / CONFIG).is_file() else f"it lacks {CONFIG}") + run
    files = sorted(path.name for path in folder.iterdir() if path.suffix in (".pt", ".pth", ".bin", ".safetensors"))
    return f"it lacks {CONFIG}" + (f"; a weight file is given by its own path, {folder / files[0]}" if files else "")
