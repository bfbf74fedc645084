"""The model_cfg of open_clip's configurations, to a configuration of Diptych and back.

SigLIP's image towers are named there, not described: timm's names stand for sizes and an activation.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, cast

from diptych.errors import ConfigError
from diptych.model.clip_config import CLIPConfig, ResNetConfig, SiglipViTConfig, TextConfig, ViTConfig
from diptych.model.sizes import MLP_RATIO, NORM_EPS
from diptych.model.towers import text_side_of, tower_of

_MODEL = ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text", "init_logit_bias", "init_logit_scale")
_VISION: dict[str, Any] = {"image_size": 224, "patch_size": 16, "width": 768, "layers": 12}
_VISION_FORM: dict[str, Any] = {
    "head_width": 64,
    "mlp_ratio": 4.0,
    "no_ln_pre": False,
    "pool_type": "tok",
    "final_ln_after_pool": False,
}
_TIMM = ("image_size", "timm_model_name", "timm_model_pretrained", "timm_pool", "timm_proj")
_TEXT_SIZES = ("context_length", "vocab_size", "width", "heads", "layers")
_TEXT_FORM: dict[str, Any] = {
    "mlp_ratio": 4.0,
    "no_causal_mask": False,
    "pool_type": "argmax",
    "proj_bias": False,
    "proj_type": "linear",
    "norm_kwargs": None,
    "act_kwargs": None,
    "pad_id": 0,
}
_TOKENIZER = ("hf_tokenizer_name", "tokenizer_kwargs")
_POOLINGS = {"argmax": "end", "last": "last"}

_TIMM_NAME = re.compile(r"vit_(base|large|so400m|giantopt)_patch(\d+)_siglip_(\d+)")
_SIGLIP_SIZES: dict[str, tuple[int, int, int, int]] = {  # width, layers, heads, width of the MLPs
    "base": (768, 12, 12, 3072),
    "large": (1024, 24, 16, 4096),
    "so400m": (1152, 27, 16, 4304),
    "giantopt": (1536, 40, 16, 6144),
}
TIMM_SIGLIP = (
    *(f"vit_base_patch16_siglip_{size}" for size in (224, 256, 384, 512)),
    *(f"vit_large_patch16_siglip_{size}" for size in (256, 384, 512)),
    *(f"vit_so400m_patch14_siglip_{size}" for size in (224, 378, 384)),
    *(f"vit_so400m_patch16_siglip_{size}" for size in (256, 384, 512)),
    *(f"vit_giantopt_patch16_siglip_{size}" for size in (256, 384)),
    "vit_base_patch32_siglip_256",
)
"""timm's names of SigLIP's image towers of fixed resolution."""
_WITH_GELU = (
    "vit_base_patch16_",
    "vit_large_patch16_siglip_256",
    "vit_large_patch16_siglip_384",
    "vit_so400m_patch14_",
)


def siglip_tower(timm_name: str) -> tuple[SiglipViTConfig, str]:
    """The image tower of a name in TIMM_SIGLIP, and the activation that timm gives it.

    The authors trained all of them with gelu_tanh; timm computes the older ones with gelu.
    """
    size, patch, pixels = cast(re.Match[str], _TIMM_NAME.fullmatch(timm_name)).groups()
    width, layers, heads, mlp_width = _SIGLIP_SIZES[size]
    tower = SiglipViTConfig(int(pixels), int(patch), width, layers, heads, mlp_width / width)
    return tower, "gelu" if timm_name.startswith(_WITH_GELU) else "gelu_tanh"


def config_from_open_clip(model: Mapping[str, Any]) -> CLIPConfig:
    """The architecture that a model_cfg describes.

    Raises:
        ConfigError: it has a field or a value that Diptych's towers do not support.
        TypeError, ValueError, ArithmeticError: a value has the wrong type.
    """
    only_known(model, "model_cfg", _MODEL)
    vision, text = open_clip_object(model, "vision_cfg"), open_clip_object(model, "text_cfg")
    activation = "quick_gelu" if model.get("quick_gelu") else "gelu"
    of_text = _text_activation(text, activation)
    tower: SiglipViTConfig | ViTConfig | ResNetConfig
    if "timm_model_name" in vision:
        tower, activation = _timm_tower(vision)
    else:
        tower = _own_tower(vision)
    side = _text_side(text, None if of_text == activation else of_text)
    return CLIPConfig(model.get("embed_dim", 0), tower, side, activation, model.get("init_logit_bias"))


def _own_tower(vision: dict[str, Any]) -> ViTConfig | ResNetConfig:
    only_known(vision, "vision_cfg", (*_VISION, *_VISION_FORM))
    values, form = _VISION | {key: vision[key] for key in _VISION if key in vision}, _VISION_FORM | vision
    width = values["width"]
    if isinstance(values["layers"], list):
        values.pop("patch_size")
        return ResNetConfig(**values, heads=width * 32 // form["head_width"])
    poolings = {("tok", False): "class", ("tok", True): "class"}
    poolings |= {("avg", True): "mean", ("avg", False): "mean_of_normalized"}
    after = bool(form["final_ln_after_pool"])
    if (form["pool_type"], after) not in poolings:
        raise ConfigError(f"vision_cfg.pool_type = {form['pool_type']!r} is not supported")
    return ViTConfig(
        **values,
        heads=width // form["head_width"],
        mlp_ratio=int(width * form["mlp_ratio"]) / width,  # open_clip rounds the MLP's width down to a whole number
        ln_pre=not form["no_ln_pre"],
        pooling=poolings[form["pool_type"], after],
    )


def _timm_tower(vision: dict[str, Any]) -> tuple[SiglipViTConfig, str]:
    name = vision["timm_model_name"]
    if name not in TIMM_SIGLIP:
        raise ConfigError(f"vision_cfg.timm_model_name = {name!r} is not supported, only SigLIP's towers")
    only_known(vision, "vision_cfg", _TIMM)
    for field, value in (("timm_pool", "map"), ("timm_proj", "none")):
        if vision.get(field) != value:
            raise ConfigError(f"vision_cfg.{field} = {vision.get(field)!r} is not supported for a SigLIP, only {value}")
    tower, activation = siglip_tower(name)
    if (size := vision.get("image_size", tower.image_size)) != tower.image_size:
        raise ConfigError(f"vision_cfg.image_size is {size!r}, and {name} takes {tower.image_size} pixels")
    return tower, activation


def _text_side(text: dict[str, Any], activation: str | None) -> TextConfig:
    only_known(text, "text_cfg", (*_TEXT_SIZES, *_TEXT_FORM, *_TOKENIZER))
    form = _TEXT_FORM | text
    for field, known in (("pool_type", _POOLINGS), ("proj_type", ("linear", "none"))):
        if form[field] not in known:
            raise ConfigError(f"text_cfg.{field} = {form[field]!r} is not supported")
    norm = form["norm_kwargs"] or {}
    only_known(norm, "text_cfg.norm_kwargs", ("eps",))
    sizes = {"heads": 8} | {key: text[key] for key in _TEXT_SIZES if key in text}
    width = sizes.setdefault("width", 512)
    return TextConfig(
        **sizes,
        mlp_ratio=int(width * form["mlp_ratio"]) / width,
        causal=not form["no_causal_mask"],
        pooling=_POOLINGS[form["pool_type"]],
        projection="none" if form["proj_type"] == "none" else "biased" if form["proj_bias"] else "plain",
        norm_eps=norm.get("eps", NORM_EPS),
        pad_id=form["pad_id"],
        activation=activation,
    )


def _text_activation(text: Mapping[str, Any], activation: str) -> str:
    """The activation of the text tower. timm ignores quick_gelu, the text tower does not."""
    stated = text.get("act_kwargs") or {}
    if not stated:
        return activation
    if stated != {"approximate": "tanh"} or activation != "gelu":
        raise ConfigError(f"text_cfg.act_kwargs = {stated!r} is not supported")
    return "gelu_tanh"


def open_clip_config(config: CLIPConfig, tokenizer: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The model_cfg with which open_clip builds this architecture.

    Args:
        tokenizer: the text_cfg fields of a tokenizer of Hugging Face: hf_tokenizer_name and tokenizer_kwargs.
    Raises:
        ConfigError: open_clip has no such tower, or timm no SigLIP of this size.
    """
    tower, side = tower_of(config.vision), text_side_of(config.text)
    if "open_clip" not in tower.layouts or "open_clip" not in side.layouts:
        raise ConfigError(f"open_clip has no {tower.title} with a text side {side.kind}; keep the model in Diptych's")
    text = cast(TextConfig, config.text)
    of_text = text.activation or config.activation
    siglip = tower.family == "siglip"
    values: dict[str, Any] = {
        "embed_dim": config.embed_dim,
        "vision_cfg": _siglip_values(config) if siglip else _own_values(config, of_text),
        "text_cfg": _text_values(text, of_text) | dict(tokenizer or {}),
    }
    if of_text == "quick_gelu":
        values["quick_gelu"] = True
    if siglip:
        values["custom_text"] = True
    if config.logit_bias is not None:
        values["init_logit_bias"] = config.logit_bias
    return values


def _siglip_values(config: CLIPConfig) -> dict[str, Any]:
    vision = cast(SiglipViTConfig, config.vision)
    towers = {name: siglip_tower(name) for name in TIMM_SIGLIP}
    found = [name for name, (tower, activation) in towers.items() if (tower, activation) == (vision, config.activation)]
    if not found:
        near = [name for name, (tower, _) in towers.items() if tower == vision]
        why = f"{near[0]} computes {towers[near[0]][1]}, not {config.activation}" if near else f"there is no {vision}"
        raise ConfigError(f"open_clip takes SigLIP's image towers from timm, where {why}; keep the model in Diptych's")
    form = {"timm_model_pretrained": False, "timm_pool": "map", "timm_proj": "none"}
    return {"image_size": vision.image_size, "timm_model_name": found[0], **form}


def _own_values(config: CLIPConfig, of_text: str) -> dict[str, Any]:
    vision: Any = config.vision
    if isinstance(vision.layers, tuple):  # a ResNet has a number of blocks for each stage
        values = {"image_size": vision.image_size, "layers": list(vision.layers), "width": vision.width}
        return values | {"head_width": vision.width * 32 // vision.heads}
    vit = cast(ViTConfig, vision)
    if of_text != config.activation:
        raise ConfigError(f"open_clip has one activation for both towers, not {config.activation} and {of_text}")
    values = {name: getattr(vit, name) for name in _VISION} | {"head_width": vit.width // vit.heads}
    if config.activation == "gelu_tanh":
        values["act_kwargs"] = {"approximate": "tanh"}
    if vit.mlp_ratio != MLP_RATIO:
        values["mlp_ratio"] = _rounded_down_to(vit.mlp_width, vit.width)
    if not vit.ln_pre:
        values["no_ln_pre"] = True
    if vit.pooling != "class":
        values |= {"pool_type": "avg", "final_ln_after_pool": vit.pooling == "mean"}
    return values


def _text_values(text: TextConfig, activation: str) -> dict[str, Any]:
    values: dict[str, Any] = {name: getattr(text, name) for name in _TEXT_SIZES}
    if text.mlp_ratio != MLP_RATIO:
        values["mlp_ratio"] = _rounded_down_to(text.mlp_width, text.width)
    if not text.causal:
        values["no_causal_mask"] = True
    if text.pooling == "last":
        values["pool_type"] = "last"
    if text.projection == "biased":
        values["proj_bias"] = True
    if text.projection == "none":
        values["proj_type"] = "none"
    if text.norm_eps != NORM_EPS:
        values["norm_kwargs"] = {"eps": text.norm_eps}
    if activation == "gelu_tanh":
        values["act_kwargs"] = {"approximate": "tanh"}
    if text.pad_id:
        values["pad_id"] = text.pad_id
    return values


def _rounded_down_to(mlp_width: int, width: int) -> float:
    """A ratio that open_clip, which rounds down, turns into this width of the MLPs."""
    return (mlp_width + 0.5) / width


def open_clip_object(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The object values[name], {} if missing; ConfigError for anything else."""
    content = values.get(name) or {}
    if not isinstance(content, Mapping):
        raise ConfigError(f"{name} must be an object, not {content!r}")
    return dict(content)


def only_known(values: Mapping[str, Any], name: str, known: tuple[str, ...]) -> None:
    """Refuse fields that are not read, because they could change the numbers."""
    if unknown := sorted(set(values) - set(known)):
        raise ConfigError(f"{name} has {', '.join(unknown)}, which Diptych's CLIP does not support")


# The fields of a TextConfig that open_clip's text_cfg has under other names, so that a new field is not forgotten.
assert {field.name for field in dataclasses.fields(TextConfig)} == {
    *_TEXT_SIZES,
    *("mlp_ratio", "causal", "pooling", "projection", "norm_eps", "pad_id", "activation"),
}
