"""The configuration files of others: Hugging Face's preprocessor_config.json and open_clip's open_clip_config.json."""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diptych.data.transforms import Preprocessing
from diptych.embed.folder import read_json
from diptych.errors import ConfigError
from diptych.model.config import CLIPConfig, ResNetConfig, TextConfig, ViTConfig

logger = logging.getLogger(__name__)

PREPROCESSOR, OPEN_CLIP_CONFIG = "preprocessor_config.json", "open_clip_config.json"
_PROCESSOR = "processor_config.json"
_PIL_INTERPOLATIONS = {2: "bilinear", 3: "bicubic"}
_STEPS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")
_VISION_DEFAULTS = {"image_size": 224, "patch_size": 16, "width": 768, "layers": 12, "head_width": 64}


def huggingface_preprocessing(folder: Path, image_size: int) -> Preprocessing:
    """What a Hugging Face folder says about pictures; CLIP's preprocessing, with a notice, where it says nothing.

    Raises:
        ConfigError: the file asks for something that Diptych does not do.
    """
    if (folder / PREPROCESSOR).is_file():
        values = read_json(folder / PREPROCESSOR)
    elif (folder / _PROCESSOR).is_file():
        values = read_json(folder / _PROCESSOR).get("image_processor") or {}
    else:
        logger.warning("%s lacks %s; taking CLIP's preprocessing", folder, PREPROCESSOR)
        return Preprocessing(image_size)
    default = Preprocessing(image_size)
    skipped = [step for step in _STEPS if not values.get(step, True)]
    if skipped or abs(values.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-6:
        raise ConfigError(
            f"{folder}: a preprocessing without {', '.join(skipped) or 'division by 255'} is not supported"
        )
    crop, size = _side(values.get("crop_size", image_size)), _side(values.get("size", image_size))
    if crop != image_size or size != image_size:
        raise ConfigError(
            f"{folder}: resizing to {size} and cropping to {crop} is not supported for {image_size} pixels"
        )
    if (resample := values.get("resample", 3)) not in _PIL_INTERPOLATIONS:
        raise ConfigError(f"{folder}: resample {resample!r} is not supported, only 2 (bilinear) and 3 (bicubic)")
    return Preprocessing(
        image_size,
        tuple(values.get("image_mean", default.mean)),
        tuple(values.get("image_std", default.std)),
        _PIL_INTERPOLATIONS[resample],
    )


def _side(size: Any) -> Any:
    """224, {"shortest_edge": 224} and {"height": 224, "width": 224} say the same; anything else comes back as it is."""
    if isinstance(size, Mapping) and len(set(size.values())) == 1:
        return next(iter(size.values()))
    return size


def read_open_clip(values: Mapping[str, Any]) -> tuple[CLIPConfig, Preprocessing]:
    """The architecture, with its activation, and the preprocessing that an open_clip_config.json describes.

    Raises:
        ConfigError: it describes a model that is no CLIP of the paper's form.
    """
    model = _object(values, "model_cfg", ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text"))
    vision = _VISION_DEFAULTS | _object(model, "vision_cfg", tuple(_VISION_DEFAULTS))
    text = _object(model, "text_cfg", tuple(field.name for field in dataclasses.fields(TextConfig)))
    pictures = _object(
        values, "preprocess_cfg", ("size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color")
    )
    head_width = vision.pop("head_width")
    tower: ViTConfig | ResNetConfig
    try:
        if isinstance(vision["layers"], list):
            vision.pop("patch_size")
            tower = ResNetConfig(**vision, heads=vision["width"] * 32 // head_width)
        else:
            tower = ViTConfig(**vision, heads=vision["width"] // head_width)
        config = CLIPConfig(
            model.get("embed_dim", 0), tower, TextConfig(**text), "quick_gelu" if model.get("quick_gelu") else "gelu"
        )
        preprocessing = Preprocessing(
            tower.image_size,
            tuple(pictures.get("mean", Preprocessing.mean)),
            tuple(pictures.get("std", Preprocessing.std)),
            pictures.get("interpolation", "bicubic"),
            pictures.get("resize_mode", "shortest"),
        )
    except (TypeError, ZeroDivisionError) as error:
        raise ConfigError(f"{OPEN_CLIP_CONFIG} has a value of the wrong type: {error}") from error
    return config, preprocessing


def _object(values: Mapping[str, Any], name: str, known: tuple[str, ...]) -> dict[str, Any]:
    """The object called name, which may have only known fields."""
    found = values.get(name) or {}
    if not isinstance(found, Mapping):
        raise ConfigError(f"{OPEN_CLIP_CONFIG}: {name} must be an object")
    if unknown := sorted(set(found) - set(known)):
        raise ConfigError(f"{OPEN_CLIP_CONFIG}: {name} has {', '.join(unknown)}, which Diptych's CLIP has not")
    return dict(found)
