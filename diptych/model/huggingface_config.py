"""The config.json of transformers' CLIPModel and SiglipModel, from a configuration and back."""

import math
from collections.abc import Mapping
from typing import Any, cast

from diptych.errors import ConfigError
from diptych.model.clip_config import CLIPConfig, SiglipViTConfig, TextConfig, ViTConfig
from diptych.model.siglip_vit_config import SIGLIP_EPS
from diptych.model.sizes import check_size
from diptych.model.text_config import siglip_text
from diptych.model.towers import text_side_of, tower_of

KINDS = ("clip", "siglip")
"""Values of model_type that Diptych's own towers compute."""

_ACTIVATIONS = {"gelu_tanh": "gelu_pytorch_tanh"}  # the others have the same name there
_COMMON = {"num_hidden_layers": 12, "num_attention_heads": 12, "hidden_size": 768, "intermediate_size": 3072}
_OF_CLIP = _COMMON | {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
_OF_SIGLIP = _COMMON | {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": SIGLIP_EPS}
_DEFAULTS: dict[str, dict[str, dict[str, Any]]] = {
    "clip": {
        "vision": _OF_CLIP | {"image_size": 224, "patch_size": 32, "num_channels": 3},
        "text": _OF_CLIP
        | {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8}
        | {"max_position_embeddings": 77, "vocab_size": 49_408},
    },
    "siglip": {
        "vision": _OF_SIGLIP | {"image_size": 224, "patch_size": 16, "num_channels": 3, "vision_use_head": True},
        "text": _OF_SIGLIP | {"max_position_embeddings": 64, "vocab_size": 32_000, "pad_token_id": 1},
    },
}


def is_siglip(config: CLIPConfig) -> bool:
    """Whether Hugging Face's layout of this model is SiglipModel's."""
    return tower_of(config.vision).family == "siglip"


def require_huggingface(config: CLIPConfig) -> None:
    """Refuse a model that neither CLIPModel nor SiglipModel computes.

    Raises:
        ConfigError: the message names the part that they do not have.
    """
    tower = tower_of(config.vision)
    if "huggingface" not in text_side_of(config.text).layouts:
        raise ConfigError(
            f"only Diptych's layout supports the text side {config.text}: keep the model in Diptych's layout"
        )
    others = "Diptych's or open_clip's" if "open_clip" in tower.layouts else "Diptych's"
    if "huggingface" not in tower.layouts:
        raise ConfigError(f"the Hugging Face layout has no {tower.title} image tower; keep the model in {others}")
    text = cast(TextConfig, config.text)
    if is_siglip(config):
        wanted = siglip_text(text)
        if config.logit_bias is None or text != wanted or text.projection != "biased":
            raise ConfigError(
                "Hugging Face's SiglipModel has a logit_bias, no causal mask, and a projection with a bias at the last "
                f"position; this model's text side is {text}, its logit_bias {config.logit_bias}; keep it in {others}"
            )
        return
    if config.logit_bias is not None:
        raise ConfigError("the Hugging Face layout has no logit_bias; keep the model in Diptych's or open_clip's")
    vision, plain = cast(ViTConfig, config.vision), (text.causal, text.pooling, text.projection)
    if not vision.ln_pre or vision.pooling != "class" or plain != (True, "end", "plain"):
        raise ConfigError(
            "Hugging Face's CLIPModel has a class token, ln_pre, and a causal text tower pooled at the end; this model "
            f"has {vision} and {text}; keep it in {others}"
        )


def huggingface_config(config: CLIPConfig) -> dict[str, Any]:
    """The config.json of transformers' CLIPModel or SiglipModel for this architecture.

    Raises:
        ConfigError: the image tower is a ResNet or of another form than these models', the text side is not a
            Transformer, or a CLIP's logits have a bias.
    """
    require_huggingface(config)
    return _siglip_config(config) if is_siglip(config) else _clip_config(config)


def _clip_config(config: CLIPConfig) -> dict[str, Any]:
    vision, text = cast(ViTConfig, config.vision), cast(TextConfig, config.text)
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": config.embed_dim,
        "logit_scale_init_value": math.log(1 / 0.07),
        "vision_config": {
            "model_type": "clip_vision_model",
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "projection_dim": config.embed_dim,
            **_tower(vision, config.activation, 1e-5),
        },
        "text_config": {
            "model_type": "clip_text_model",
            "max_position_embeddings": text.context_length,
            "vocab_size": text.vocab_size,
            "bos_token_id": text.vocab_size - 2,
            "pad_token_id": 0,
            # In transformers, 2 means "pool at the largest token id of the text", as all CLIPs do.
            "eos_token_id": 2,
            "projection_dim": config.embed_dim,
            **_tower(text, text.activation or config.activation, text.norm_eps),
        },
    }


def _siglip_config(config: CLIPConfig) -> dict[str, Any]:
    vision, text = cast(SiglipViTConfig, config.vision), cast(TextConfig, config.text)
    return {
        "architectures": ["SiglipModel"],
        "model_type": "siglip",
        "initializer_factor": 1.0,
        "vision_config": {
            "model_type": "siglip_vision_model",
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            **_tower(vision, config.activation, vision.norm_eps),
        },
        "text_config": {
            "model_type": "siglip_text_model",
            "max_position_embeddings": text.context_length,
            "vocab_size": text.vocab_size,
            "projection_size": config.embed_dim,
            "pad_token_id": text.pad_id,
            "bos_token_id": None,
            "eos_token_id": None,
            **_tower(text, text.activation or config.activation, text.norm_eps),
        },
    }


def _tower(tower: ViTConfig | SiglipViTConfig | TextConfig, activation: str, norm_eps: float) -> dict[str, Any]:
    return {
        "hidden_size": tower.width,
        "intermediate_size": tower.mlp_width,
        "num_hidden_layers": tower.layers,
        "num_attention_heads": tower.heads,
        "hidden_act": _ACTIVATIONS.get(activation, activation),
        "layer_norm_eps": norm_eps,
    }


def config_from_huggingface(values: Mapping[str, Any]) -> CLIPConfig:
    """The architecture of a Hugging Face folder, from its config.json; missing fields get transformers' defaults.

    Raises:
        ConfigError: it is neither a CLIP nor a SigLIP, or a variant that Diptych does not support.
    """
    kind = values.get("model_type")
    if kind not in KINDS:
        raise ConfigError(f"model_type must be {' or '.join(map(repr, KINDS))}, not {kind!r}")
    vision, text = (_values(values, str(kind), name) for name in ("vision", "text"))
    if values.get("quantization_config"):
        raise ConfigError("its weights are quantized (quantization_config), which is not supported")
    _require("vision", vision, {"num_channels": 3})
    if kind == "siglip":
        return _siglip_from_huggingface(vision, text)
    if text.get("is_causal", True) is not True:
        raise ConfigError("a text tower without a causal mask (text_config.is_causal) is not supported")
    return _clip_from_huggingface(values, vision, text)


def _clip_from_huggingface(values: Mapping[str, Any], vision: dict[str, Any], text: dict[str, Any]) -> CLIPConfig:
    _require("vision", vision, {"layer_norm_eps": 1e-5})
    side = TextConfig(**_text_sizes(text), norm_eps=text["layer_norm_eps"])
    image, of_text = (_activation(tower) for tower in (vision, text))
    if image != of_text:
        raise ConfigError(f"hidden_act differs between the towers: {image}, {of_text}")
    tower = ViTConfig(**_image_sizes(vision))
    return CLIPConfig(values.get("projection_dim", 512), tower, side, image)


def _siglip_from_huggingface(vision: dict[str, Any], text: dict[str, Any]) -> CLIPConfig:
    _require("vision", vision, {"vision_use_head": True})
    tower = SiglipViTConfig(**_image_sizes(vision), norm_eps=vision["layer_norm_eps"])
    if (size := text.get("projection_size") or text["hidden_size"]) != tower.width:
        raise ConfigError(f"text_config.projection_size is {size!r}, vision_config.hidden_size {tower.width}")
    image, of_text = (_activation(values) for values in (vision, text))
    pad_id = text["pad_token_id"] or 0
    side = TextConfig(**_text_sizes(text), pad_id=pad_id)
    side = siglip_text(side, norm_eps=text["layer_norm_eps"], activation=None if of_text == image else of_text)
    return CLIPConfig(tower.width, tower, side, image, logit_bias=-10.0)


def _image_sizes(vision: Mapping[str, Any]) -> dict[str, Any]:
    return {name: vision[name] for name in ("image_size", "patch_size")} | _sizes("vision", vision)


def _text_sizes(text: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "context_length": text["max_position_embeddings"],
        "vocab_size": text["vocab_size"],
        **_sizes("text", text),
    }


def _sizes(tower: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "width": values["hidden_size"],
        "layers": values["num_hidden_layers"],
        "heads": values["num_attention_heads"],
        "mlp_ratio": _mlp_ratio(tower, values),
    }


def _mlp_ratio(tower: str, values: Mapping[str, Any]) -> float:
    mlp_width = check_size(tower, "mlp_width", values["intermediate_size"])
    return mlp_width / check_size(tower, "width", values["hidden_size"])


def _activation(values: Mapping[str, Any]) -> Any:
    ours = {theirs: ours for ours, theirs in _ACTIVATIONS.items()}
    stated = values["hidden_act"]
    return ours.get(stated, stated) if isinstance(stated, str) else stated


def _require(tower: str, values: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    for field, value in expected.items():
        if values[field] != value:
            raise ConfigError(f"{tower}_config.{field} = {values[field]!r} is not supported, only {value}")


def _values(values: Mapping[str, Any], kind: str, tower: str) -> dict[str, Any]:
    """A tower's values in config.json. An old `*_config_dict` replaces `*_config`, as in transformers."""
    old = values.get(f"{tower}_config_dict")
    stated = values.get(f"{tower}_config") or {} if old is None else old
    if not isinstance(stated, Mapping):
        raise ConfigError(f"{tower}_config{'' if old is None else '_dict'} must be an object, not {stated!r:.60}")
    return _DEFAULTS[kind][tower] | dict(stated)
