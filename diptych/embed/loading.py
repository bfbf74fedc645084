"""Load a Model from a path: folders of Diptych, Hugging Face and open_clip, and bare weight files."""

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from diptych.data.transforms import Preprocessing
from diptych.embed.model import Model
from diptych.embed.model_description import Description, describe, is_described
from diptych.embed.model_folder import require
from diptych.embed.text_rules import optional_tokenizer, padded_like
from diptych.embed.weight_file_options import Stated
from diptych.errors import ConfigError, WeightsError
from diptych.files import is_there
from diptych.model.build import build_model
from diptych.model.clip import CLIP
from diptych.model.clip_config import CLIPConfig
from diptych.model.device import choose_device, choose_dtype
from diptych.model.inference import Inference, infer, with_activation
from diptych.model.layouts import Tensors, to_diptych
from diptych.model.sharded import INDEX_SUFFIX
from diptych.model.towers import text_side_of
from diptych.model.weights import load_tensors, read_tensors

logger = logging.getLogger(__name__)

# Generic file names: the model in such a file is named after its folder.
_GENERIC_NAMES = ("model", "pytorch_model", "open_clip_model", "open_clip_pytorch_model")


def load_path(
    path: Path,
    place: Path,
    device: str | torch.device | None,
    precision: str,
    stated: Stated,
    *,
    prefer_open_clip: bool = False,
) -> Model:
    """Load the Model in a folder or a weight file, in evaluation mode.

    Args:
        place: the folder that the model is named after, if path is a folder.
        prefer_open_clip: take open_clip's files if the folder also holds Hugging Face's.
    Raises:
        WeightsError: the model is incomplete or damaged; the message names the file.
        ConfigError: its configuration is invalid, or the device or the precision does not exist.
    """
    dtype = choose_dtype(precision, choose_device(device))
    if path.is_dir():
        if stated != Stated():
            raise ConfigError(
                f"{path} is a folder, whose configuration names the activation and the heads: --activation and --heads "
                "belong to a weight file, so leave them out"
            )
        model = _load_folder(path, place, prefer_open_clip)
    else:
        model = _load_file(path, stated)
    _cast(model.clip, dtype)
    model.clip.to(choose_device(device)).eval()
    return model


def _cast(clip: CLIP, dtype: torch.dtype) -> None:
    """Cast the weights. The temperature, the bias and BatchNorm's statistics keep fp32, which costs nothing."""
    scalars = {name: value.data for name, value in clip.named_parameters(recurse=False) if value.ndim == 0}
    clip.to(dtype)
    for name, value in scalars.items():
        clip.get_parameter(name).data = value
    for module in clip.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.float()


def _load_folder(folder: Path, place: Path, prefer_open_clip: bool) -> Model:
    """Load the model in folder, named after place."""
    description = describe(folder, prefer_open_clip)
    names = description.weights
    weights = next((folder / name for name in names if (folder / name).is_file()), None)
    if weights is None:
        weights = require(folder, next((name for name in names if is_there(folder / name)), names[0]))
    clip = _build(description.config, to_diptych(read_tensors(weights)), str(weights))
    name = place.parent.name if place.name == "model" else place.name
    return Model(clip, description.tokenizer, description.preprocessing, name)


def _load_file(path: Path, stated: Stated) -> Model:
    """Load a weight file; the architecture comes from the configuration beside it, else from the weights' shapes."""
    tensors = to_diptych(read_tensors(path))
    name = path.name.removesuffix(INDEX_SUFFIX)
    if not stated.published and is_described(path.parent):
        description = describe(path.parent, prefer_open_clip=path.name.startswith("open_clip"))
        logger.warning(
            "%s: taking architecture, preprocessing and tokenizer from %s beside it", path, description.source
        )
        config = _with_stated(description, stated)
        where = (
            f"{path} (its architecture is that of {description.source.name} beside it; move the file if that belongs "
            "to another model)"
        )
        place = path.resolve().parent
        name = Path(name).stem
        if name in _GENERIC_NAMES or "-of-" in name:
            name = place.parent.name if place.name == "model" else place.name
        return Model(_build(config, tensors, where), description.tokenizer, description.preprocessing, name)
    try:
        inferred = infer(tensors, stated.activation, stated.heads)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    if inferred.notice:
        logger.warning("%s: %s", path, inferred.notice)
    of_open_clip = inferred.published.tokenizer if inferred.published else None
    tokenizer = optional_tokenizer(path.parent, inferred.config, of_open_clip)
    clip = _build(padded_like(inferred.config, tokenizer), tensors, str(path))
    return Model(clip, tokenizer, _usual_preprocessing(path, inferred, warn=not stated.published), Path(name).stem)


def _usual_preprocessing(path: Path, inferred: Inference, *, warn: bool) -> Preprocessing:
    """The preprocessing of the published model with these shapes, or else CLIP's, with a warning."""
    published, size = inferred.published, inferred.config.vision.image_size
    if published is None or published.preprocessing is None:
        if warn:
            logger.warning("%s has no preprocessing beside it; taking CLIP's", path)
        return Preprocessing(size)
    logger.warning("%s has no preprocessing beside it; taking that of %s", path, published.name)
    return Preprocessing(size, **published.preprocessing)


def _with_stated(description: Description, stated: Stated) -> CLIPConfig:
    """The configuration beside a file, overridden by what the user states."""
    config, source = description.config, description.source
    if stated.activation is not None and stated.activation != config.activation:
        logger.warning("%s says %s; taking %s, as stated", source, config.activation, stated.activation)
        config = with_activation(config, stated.activation)
    if stated.heads is None:
        return config
    if "openai" not in text_side_of(config.text).layouts:
        raise ConfigError(f"{source}: --heads does not apply to a text side of this kind")
    vision: Any = config.vision
    text: Any = config.text
    if not hasattr(vision, "heads"):
        raise ConfigError(f"{source}: --heads does not apply to an image tower of this kind")
    heads = (vision.heads, text.heads)
    if heads != stated.heads:
        logger.warning("%s says %s heads; taking %s, as stated", source, heads, stated.heads)
    vision, text = (dataclasses.replace(side, heads=n) for side, n in zip((vision, text), stated.heads, strict=True))
    return dataclasses.replace(config, vision=vision, text=text)


def _build(config: CLIPConfig, tensors: Tensors, where: str) -> CLIP:
    with torch.device("meta"), _NoInitialization():
        clip = cast(CLIP, build_model(config))  # or a predictive model of figure 2, which Model also accepts
    load_tensors(clip, tensors, where)
    return clip


class _NoInitialization(TorchFunctionMode):
    """Skips the initialization of new parameters, because weights are loaded into them.

    On the meta device torch would also import its compiler, which takes seconds, to initialize nothing.
    """

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))
