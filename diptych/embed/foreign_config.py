"""Read Hugging Face's preprocessor_config.json and open_clip's open_clip_config.json."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diptych.data.transforms import Preprocessing
from diptych.embed.model_folder import read_json
from diptych.errors import ConfigError
from diptych.model.clip_config import CLIPConfig
from diptych.model.open_clip_config import config_from_open_clip, only_known, open_clip_object

logger = logging.getLogger(__name__)

PREPROCESSOR, OPEN_CLIP_CONFIG = "preprocessor_config.json", "open_clip_config.json"
_PROCESSOR = "processor_config.json"
_PIL_INTERPOLATIONS = {2: "bilinear", 3: "bicubic"}
_STEPS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")
_HALVES = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_center_crop": False}
_KINDS: Mapping[str, dict[str, Any]] = {
    **{kind: {} for kind in ("CLIP", "ChineseCLIP", "Bit")},
    "Siglip": _HALVES,
    "ViT": _HALVES | {"resample": 2},
}
"""Image processors of transformers that differ from CLIP's only in their defaults, with these defaults."""
_PREPROCESS = ("size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color")


def huggingface_preprocessing(folder: Path, image_size: int, siglip: bool = False) -> Preprocessing:
    """The preprocessing that a Hugging Face folder states; if it states none, CLIP's or SigLIP's, with a warning.

    Raises:
        ConfigError: the file asks for a step that Diptych does not support.
    """
    if (folder / PREPROCESSOR).is_file():
        values = read_json(folder / PREPROCESSOR)
    elif (folder / _PROCESSOR).is_file():
        values = open_clip_object(read_json(folder / _PROCESSOR), "image_processor")
    else:
        name = "SigLIP" if siglip else "CLIP"
        logger.warning("%s lacks %s; taking %s's preprocessing", folder, PREPROCESSOR, name)
        values = {"image_processor_type": f"{'Siglip' if siglip else 'CLIP'}ImageProcessor"}
    try:
        return _read_processor(values, image_size)
    except ConfigError as error:
        raise ConfigError(f"{folder}: {error}. transformers prepares images so: give hf:{folder}") from error


def _read_processor(values: Mapping[str, Any], image_size: int) -> Preprocessing:
    """The preprocessing of an image processor of transformers; missing values are the defaults of its kind."""
    stated = values.get("image_processor_type") or values.get("feature_extractor_type") or "CLIP"
    kind = re.sub(r"(ImageProcessor(Fast|Pil)?|FeatureExtractor)$", "", str(stated))
    if kind not in _KINDS:
        raise ConfigError(f"images prepared by a {stated} are not supported")
    values = _KINDS[kind] | dict(values)
    size, crop = values.get("size", image_size), values.get("crop_size", image_size)
    squash = (isinstance(size, Mapping) and "height" in size) or (kind == "Siglip" and "size" not in values)
    steps = [step for step in _STEPS if step != "do_center_crop" or not squash]
    skipped = [step for step in steps if not values.get(step, True)]
    factor = values.get("rescale_factor", 1 / 255)
    if skipped or values.get("do_pad") or not isinstance(factor, float) or abs(factor * 255 - 1) > 1e-6:
        difference = f"without {', '.join(skipped)}" if skipped else "with do_pad" if values.get("do_pad") else ""
        raise ConfigError(f"a preprocessing {difference or 'without division by 255'} is not supported")
    if _side(size) != image_size or (values.get("do_center_crop", True) and _side(crop) != image_size):
        raise ConfigError(f"resizing to {size} and cropping to {crop} is not supported for {image_size} pixels")
    resample = values.get("resample", 3)
    if not isinstance(resample, int) or resample not in _PIL_INTERPOLATIONS:
        raise ConfigError(f"resample {resample!r} is not supported, only 2 (bilinear) and 3 (bicubic)")
    return Preprocessing(
        image_size,
        _triple(values.get("image_mean", Preprocessing.mean)),
        _triple(values.get("image_std", Preprocessing.std)),
        _PIL_INTERPOLATIONS[resample],
        "squash" if squash else "shortest_floor",
    )


def _side(size: Any) -> Any:
    """224 for 224, {"shortest_edge": 224} and {"height": 224, "width": 224}; any other value is returned unchanged."""
    if isinstance(size, Mapping) and set(size) in ({"shortest_edge"}, {"height", "width"}):
        sides = list(size.values())
        return sides[0] if all(side == sides[0] for side in sides) else size
    return size


def _triple(values: Any) -> Any:
    """Convert a JSON list to a tuple; Preprocessing checks its values."""
    return tuple(values) if isinstance(values, list) else values


def read_open_clip(values: Mapping[str, Any]) -> tuple[CLIPConfig, Preprocessing]:
    """The architecture (with its activation) and the preprocessing of an open_clip_config.json.

    Raises:
        ConfigError: it describes a model that Diptych's towers do not compute.
    """
    try:
        model = open_clip_object(values, "model_cfg")
        images = open_clip_object(values, "preprocess_cfg")
        only_known(images, "preprocess_cfg", _PREPROCESS)
        config = config_from_open_clip(model)
        preprocessing = Preprocessing(
            config.vision.image_size,
            _triple(images.get("mean", Preprocessing.mean)),
            _triple(images.get("std", Preprocessing.std)),
            images.get("interpolation", "bicubic"),
            images.get("resize_mode", "shortest"),
        )
    except ConfigError as error:
        raise ConfigError(f"{OPEN_CLIP_CONFIG}: {error}") from error
    except (TypeError, ValueError, ArithmeticError) as error:  # Python's JSON also accepts NaN and infinity
        raise ConfigError(f"{OPEN_CLIP_CONFIG} has a value of the wrong type: {error}") from error
    side = config.vision.image_size
    for field, supported in {"size": (side, [side, side]), "mode": ("RGB",)}.items():
        if (value := images.get(field, supported[0])) not in supported:
            raise ConfigError(
                f"{OPEN_CLIP_CONFIG}: preprocess_cfg.{field} = {value!r} is not supported, only {supported[0]!r}"
            )
    return config, preprocessing
