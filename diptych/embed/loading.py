"""From a path to a Model: Diptych's folders, Hugging Face's and open_clip's, and bare weight files."""

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from diptych.data.transforms import Preprocessing
from diptych.embed.described import Description, describe, is_described, optional_tokenizer
from diptych.embed.folder import require
from diptych.embed.model import Model
from diptych.errors import ConfigError, WeightsError
from diptych.files import is_there
from diptych.model.build import build_model
from diptych.model.clip import CLIP
from diptych.model.config import CLIPConfig
from diptych.model.device import choose_device, choose_dtype
from diptych.model.inference import Heads, infer
from diptych.model.layouts import Tensors, to_diptych
from diptych.model.sharded import INDEX_SUFFIX
from diptych.model.towers import text_side_of
from diptych.model.weights import load_tensors, read_tensors

logger = logging.getLogger(__name__)

# Names that say nothing: a file of such a name in a model's folder is called after the folder.
_PLAIN_NAMES = ("model", "pytorch_model", "open_clip_model", "open_clip_pytorch_model")


@dataclasses.dataclass(frozen=True)
class Stated:
    """What the user says of a bare weight file, which does not say it; None for what is not stated."""

    activation: str | None = None
    heads: Heads | None = None


def load_path(
    path: Path,
    place: Path,
    device: str | torch.device | None,
    precision: str,
    stated: Stated,
) -> Model:
    """The Model in a folder or a weight file, in evaluation mode.

    Args:
        place: the folder that the model is named after, where path is a folder.
    Raises:
        WeightsError: it is incomplete or damaged; the message names the file.
        ConfigError: its configuration is absurd, or device or precision do not exist.
    """
    dtype = choose_dtype(precision, choose_device(device))
    if path.is_dir():
        if stated != Stated():
            raise ConfigError(
                f"{path} is a folder, whose configuration names the activation and the heads: --activation and --heads "
                "belong to a weight file, so leave them out"
            )
        model = _load_folder(path, place)
    else:
        model = _load_file(path, stated)
    _cast(model.clip, dtype)
    model.clip.to(choose_device(device)).eval()
    return model


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
    found = describe(folder)
    weights = next((folder / name for name in found.weights if (folder / name).is_file()), None)
    if weights is None:
        weights = require(folder, next((name for name in found.weights if is_there(folder / name)), found.weights[0]))
    clip = _build(found.config, to_diptych(read_tensors(weights)), str(weights))
    return Model(clip, found.tokenizer, found.preprocessing, place.parent.name if place.name == "model" else place.name)


def _load_file(path: Path, stated: Stated) -> Model:
    """The model of a weight file, by the configuration beside it; by its shapes where there is none."""
    tensors = to_diptych(read_tensors(path))
    name = path.name.removesuffix(INDEX_SUFFIX)
    if is_described(path.parent):
        found = describe(path.parent, prefer_open_clip=path.name.startswith("open_clip"))
        logger.warning("%s: taking architecture, preprocessing and tokenizer from %s beside it", path, found.source)
        config = _with(found, stated)
        where = (
            f"{path} (its architecture is that of {found.source.name} beside it; move the file if that is another's)"
        )
        place = path.resolve().parent
        name = Path(name).stem
        if name in _PLAIN_NAMES or "-of-" in name:
            name = place.parent.name if place.name == "model" else place.name
        return Model(_build(config, tensors, where), found.tokenizer, found.preprocessing, name)
    try:
        inferred = infer(tensors, stated.activation, stated.heads)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    if inferred.notice:
        logger.warning("%s: %s", path, inferred.notice)
    logger.warning("%s has no preprocessing beside it; taking CLIP's", path)
    clip = _build(inferred.config, tensors, str(path))
    tokenizer = optional_tokenizer(path.parent, inferred.config)
    return Model(clip, tokenizer, Preprocessing(inferred.config.vision.image_size), Path(name).stem)


def _with(found: Description, stated: Stated) -> CLIPConfig:
    """The configuration beside a file, but for what the user states."""
    config = found.config
    if stated.activation is not None and stated.activation != config.activation:
        logger.warning("%s says %s; taking %s, as stated", found.source, config.activation, stated.activation)
        config = dataclasses.replace(config, activation=stated.activation)
    if stated.heads is None:
        return config
    if "openai" not in text_side_of(config.text).layouts:
        raise ConfigError(f"{found.source}: a text side of this kind has no heads to state")
    vision: Any = config.vision
    text: Any = config.text
    if not hasattr(vision, "heads"):
        raise ConfigError(f"{found.source}: an image tower of this kind has no heads to state")
    own = (vision.heads, text.heads)
    if own != stated.heads:
        logger.warning("%s says %s heads; taking %s, as stated", found.source, own, stated.heads)
    vision, text = (dataclasses.replace(side, heads=n) for side, n in zip((vision, text), stated.heads, strict=True))
    return dataclasses.replace(config, vision=vision, text=text)


def _build(config: CLIPConfig, tensors: Tensors, where: str) -> CLIP:
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
