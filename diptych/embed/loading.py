"""From a name to a model: Diptych's folders, Hugging Face's and open_clip's, and bare weight files."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from diptych.data.tokenizer import Tokenizer
from diptych.data.transforms import Preprocessing
from diptych.embed.folder import CONFIG, TOKENIZER, WEIGHTS, find_folder, read_description, read_json, require
from diptych.embed.foreign import OPEN_CLIP_CONFIG, huggingface_preprocessing, read_open_clip
from diptych.embed.model import Model
from diptych.errors import ConfigError, DataError, WeightsError
from diptych.model.build import build_model
from diptych.model.clip import CLIP
from diptych.model.config import CLIPConfig
from diptych.model.device import choose_device, has_fast_bf16
from diptych.model.layouts import Tensors, config_from_huggingface, infer_config, to_diptych
from diptych.model.presets import PRESETS
from diptych.model.weights import load_tensors, read_tensors

logger = logging.getLogger(__name__)

OPENAI_VOCABULARY = 49_408
# A folder of the user's that has this name is "./default", or a Path.
DEFAULT = "default"
DEFAULT_FOLDER = Path(__file__).parents[1] / "assets" / DEFAULT


def load(
    name: str | Path,
    device: str | torch.device | None = None,
    precision: str = "fp32",
    *,
    activation: str | None = None,
) -> Model:
    """Load a model.

    Args:
        name: "default", the small model that comes with Diptych; a model folder (Diptych's, Hugging Face's or
            open_clip's); or a weight file (.safetensors, .pt, .bin) in OpenAI's, open_clip's or Hugging Face's layout,
            whose architecture is inferred from its shapes.
        device: by default the GPU where there is one.
        precision: "fp32" (exact), "bf16" (weights cast once), or "auto": bf16 where the processor computes in it.
        activation: "quick_gelu" or "gelu", for a weight file alone: it does not say, and OpenAI's have quick_gelu.
    Returns:
        a Model in evaluation mode.
    Raises:
        WeightsError: there is no such model here, or it is incomplete or damaged; the message names the file.
        ConfigError: its configuration is absurd, or device or precision do not exist.
    """
    shipped = isinstance(name, str) and name == DEFAULT  # Path("default") is the user's own
    path = DEFAULT_FOLDER if shipped else find_folder(Path(name))
    dtype = _dtype(precision, choose_device(device))
    if path.is_dir():
        if activation is not None:
            raise ConfigError(f"{path} is a folder, whose config.json names the activation; give none")
        model = _load_folder(path, path if shipped else Path(name).resolve())
    elif path.is_file():
        model = _load_file(path, activation)
    elif str(name) in PRESETS:
        raise WeightsError(
            f"{name} is an architecture; its weights are not on this machine and Diptych does not download yet: "
            "give the path of a model folder or weight file"
        )
    else:
        raise WeightsError(
            f"there is no model folder, weight file or preset {str(name)!r}: give the path of one, or {DEFAULT!r} for "
            "the small model that comes with Diptych, or train one (diptych train, diptych quickstart)"
        )
    _cast(model.clip, dtype)
    model.clip.to(choose_device(device)).eval()
    return model


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    if precision == "int8":
        raise ConfigError("precision int8 is not available yet; use fp32, bf16 or auto")
    if precision not in ("fp32", "bf16", "auto"):
        raise ConfigError(f"precision must be fp32, bf16 or auto, not {precision!r}")
    fast = precision == "bf16" or (precision == "auto" and has_fast_bf16(device))
    return torch.bfloat16 if fast else torch.float32


def _cast(clip: CLIP, dtype: torch.dtype) -> None:
    """Cast the weights; the temperature, the bias and BatchNorm's statistics stay exact, they cost nothing."""
    exact = {name: one.data for name, one in clip.named_parameters(recurse=False) if one.ndim == 0}
    clip.to(dtype)
    for name, value in exact.items():
        clip.get_parameter(name).data = value
    for module in clip.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.float()


def _load_folder(folder: Path, place: Path) -> Model:
    """The model in folder, named after place."""
    values = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    if "format_version" in values:
        config, preprocessing, tokenizer = read_description(folder, values)
        weights = require(folder, WEIGHTS)
    elif values.get("model_type") == "clip":
        config = config_from_huggingface(values)
        preprocessing = huggingface_preprocessing(folder, config.vision.image_size)
        weights, tokenizer = _first(folder, WEIGHTS, "pytorch_model.bin"), _optional_tokenizer(folder, config)
    elif (folder / OPEN_CLIP_CONFIG).is_file():
        config, preprocessing = read_open_clip(read_json(folder / OPEN_CLIP_CONFIG))
        weights = _first(folder, "open_clip_model.safetensors", "open_clip_pytorch_model.bin")
        tokenizer = _optional_tokenizer(folder, config)
    else:
        hint = f"; a run keeps its model in {folder / 'model'}" if (folder / "model" / CONFIG).is_file() else ""
        problem = f"its {CONFIG} describes no CLIP" if (folder / CONFIG).is_file() else f"it lacks {CONFIG}"
        raise WeightsError(f"{folder} is no model folder: {problem}{hint}")
    clip = _build(config, to_diptych(read_tensors(weights)), weights)
    return Model(clip, tokenizer, preprocessing, place.parent.name if place.name == "model" else place.name)


def _first(folder: Path, *names: str) -> Path:
    return next((folder / name for name in names if (folder / name).is_file()), None) or require(folder, names[0])


def _build(config: CLIPConfig, tensors: Tensors, where: Path) -> CLIP:
    with torch.device("meta"), _NoInitialisation():
        clip = cast(CLIP, build_model(config))  # or one of figure 2's, which a Model takes as well
    load_tensors(clip, tensors, where)
    return clip


class _NoInitialisation(TorchFunctionMode):
    """Leaves new parameters as they are: weights are loaded into them, and on the meta device torch would import its
    compiler, which takes seconds, only to initialise nothing."""

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def _optional_tokenizer(folder: Path, config: CLIPConfig) -> Tokenizer | None:
    if not (folder / TOKENIZER).is_file():
        logger.warning("%s lacks %s: pictures can be encoded, texts cannot", folder, TOKENIZER)
        return None
    return Tokenizer.from_file(folder / TOKENIZER, config.text.context_length)


def _load_file(path: Path, activation: str | None) -> Model:
    tensors = to_diptych(read_tensors(path))
    if activation is None:
        logger.warning("%s does not name its activation; taking quick_gelu, as in OpenAI's weights", path)
    config = infer_config(tensors, activation or "quick_gelu")
    logger.warning("%s has no preprocessing beside it; taking CLIP's", path)
    clip = _build(config, tensors, path)
    return Model(clip, _tokenizer_of_file(path, config), Preprocessing(config.vision.image_size), path.stem)


def _tokenizer_of_file(path: Path, config: CLIPConfig) -> Tokenizer | None:
    """tokenizer.json beside a bare weight file, or OpenAI's from an installed open_clip if the vocabulary fits."""
    if (path.parent / TOKENIZER).is_file() or config.text.vocab_size != OPENAI_VOCABULARY:
        return _optional_tokenizer(path.parent, config)
    try:
        tokenizer = Tokenizer.openai(context_length=config.text.context_length)
    except DataError as error:
        logger.warning("%s has no %s beside it: pictures can be encoded, texts cannot (%s)", path, TOKENIZER, error)
        return None
    logger.warning("%s has no %s beside it; taking OpenAI's", path, TOKENIZER)
    return tokenizer
