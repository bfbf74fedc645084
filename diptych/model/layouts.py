"""Convert between the common layouts of CLIP state dicts, without loss in either direction.

Diptych uses the names of OpenAI and open_clip. open_clip's CustomTextCLIP adds the prefix "text." to the text tower.
Hugging Face has its own names, separate matrices for queries, keys and values, and transposed projections.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, cast

import torch

from diptych.errors import ConfigError
from diptych.model.clip_config import CLIPConfig, TextConfig, ViTConfig
from diptych.model.containers import without_prefix
from diptych.model.sizes import check_size
from diptych.model.towers import text_side_of, tower_of

Tensors = dict[str, torch.Tensor]

# Entries that are no parameters: constants in OpenAI's archives, buffers of old Hugging Face and open_clip versions.
IGNORED = (
    "input_resolution",
    "context_length",
    "vocab_size",
    "attn_mask",
    "text.attn_mask",
    "text_model.embeddings.position_ids",
    "vision_model.embeddings.position_ids",
)
_NUMBERS = {"logit_scale", "logit_bias"}
_TEXT_NAMES = ("token_embedding.", "positional_embedding", "transformer.", "ln_final.", "text_projection")

_HF_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_HF_OUTSIDE = {
    "logit_scale": "logit_scale",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "text_projection": "text_projection.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "visual.proj": "visual_projection.weight",
}
_TRANSPOSED = ("visual.proj", "text_projection")
_HF_TOWERS = {"transformer.": "text_model.encoder.layers.", "visual.transformer.": "vision_model.encoder.layers."}
_HF_LAYER = re.compile(
    r"(?P<tower>(?:text|vision)_model\.encoder\.layers\.)(?P<layer>\d+)\.(?P<part>.+)\.(?P<kind>weight|bias)"
)
_HF_COMMON = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "num_hidden_layers": 12}
_HF_DEFAULTS: dict[str, dict[str, Any]] = {
    "vision": _HF_COMMON
    | {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
    | {"image_size": 224, "patch_size": 32, "num_channels": 3},
    "text": _HF_COMMON
    | {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8}
    | {"max_position_embeddings": 77, "vocab_size": 49_408},
}


def to_huggingface(tensors: Mapping[str, torch.Tensor], config: CLIPConfig) -> Tensors:
    """Diptych's state dict of a ViT model -> that of transformers' CLIPModel; the tensors are copies.

    Raises:
        ConfigError: the image tower is a ResNet, the text side is not a Transformer, or the logits have a bias.
    """
    _require_towers(config)
    result: Tensors = {}
    for name, tensor in tensors.items():
        if name in _HF_OUTSIDE:
            result[_HF_OUTSIDE[name]] = tensor.T if name in _TRANSPOSED else tensor
            continue
        tower, rest = name.split("resblocks.")
        layer, part = rest.split(".", 1)
        stem, kind = re.split(r"[._](?=weight$|bias$)", part)
        prefix = f"{_HF_TOWERS[tower]}{layer}"
        if stem == "attn.in_proj":
            result |= {f"{prefix}.self_attn.{p}_proj.{kind}": t for p, t in zip("qkv", tensor.chunk(3), strict=True)}
        else:
            result[f"{prefix}.{_HF_BLOCK[stem]}.{kind}"] = tensor
    return {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in result.items()}


def to_custom_text(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """Diptych's state dict -> that of open_clip's CustomTextCLIP, whose text tower has the prefix "text.".

    Raises:
        ConfigError: the text side is not a Transformer with a projection.
    """
    if not all(any(name.startswith(part) for name in tensors) for part in _TEXT_NAMES):
        raise ConfigError("only Diptych's layout supports text sides other than the Transformer: keep the model in it")
    return {f"text.{name}" if name.startswith(_TEXT_NAMES) else name: tensor for name, tensor in tensors.items()}


def to_diptych(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """A state dict in any known layout -> Diptych's names; the names tell the layout.

    Prefixes of wrappers ("module.", "model.") are removed and the names in IGNORED left out. Unknown names stay;
    load_tensors reports them.
    """
    names = without_prefix(tensors)
    result = {names[name]: tensor for name, tensor in tensors.items() if names[name] not in IGNORED}
    for name in _NUMBERS & result.keys():
        if result[name].shape == (1,):  # FSDP and other wrappers store scalars so
            result[name] = result[name].reshape(())
    if any(name.startswith(("vision_model.", "text_model.")) for name in result):
        return _from_huggingface(result)
    return {_without_text_prefix(name): tensor for name, tensor in result.items()}


def _without_text_prefix(name: str) -> str:
    rest = name.removeprefix("text.")
    return rest if rest.startswith(_TEXT_NAMES) else name


def _from_huggingface(tensors: Tensors) -> Tensors:
    outside = {theirs: ours for ours, theirs in _HF_OUTSIDE.items()}
    towers = {theirs: ours for ours, theirs in _HF_TOWERS.items()}
    blocks = {theirs: ours for ours, theirs in _HF_BLOCK.items()}
    result: Tensors = {}
    for name, tensor in tensors.items():
        match = _HF_LAYER.fullmatch(name)
        if name in outside:
            ours = outside[name]
            result[ours] = tensor.T.contiguous() if ours in _TRANSPOSED else tensor
        elif match and match["part"] in blocks:
            result[f"{towers[match['tower']]}resblocks.{match['layer']}.{blocks[match['part']]}.{match['kind']}"] = (
                tensor
            )
        elif match and match["part"] == "self_attn.q_proj":
            names = [name.replace("q_proj", f"{part}_proj") for part in "qkv"]
            ours = f"{towers[match['tower']]}resblocks.{match['layer']}.attn.in_proj_{match['kind']}"
            if all(other in tensors for other in names):
                result[ours] = torch.cat([tensors[other] for other in names])
        elif not (match and match["part"] in ("self_attn.k_proj", "self_attn.v_proj")):
            result[name] = tensor
    return result


def huggingface_config(config: CLIPConfig) -> dict[str, Any]:
    """The config.json of transformers' CLIPModel for this architecture.

    Raises:
        ConfigError: the image tower is a ResNet, the text side is not a Transformer, or the logits have a bias.
    """
    vision, text = _require_towers(config)
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": config.embed_dim,
        "logit_scale_init_value": math.log(1 / 0.07),
        "vision_config": {
            "model_type": "clip_vision_model",
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            **_huggingface_tower(config, vision, vision.mlp_width),
        },
        "text_config": {
            "model_type": "clip_text_model",
            "max_position_embeddings": text.context_length,
            "vocab_size": text.vocab_size,
            "bos_token_id": text.vocab_size - 2,
            "pad_token_id": 0,
            # In transformers, 2 means "pool at the largest token id of the text", as all CLIPs do.
            "eos_token_id": 2,
            **_huggingface_tower(config, text, 4 * text.width),
        },
    }


def _huggingface_tower(config: CLIPConfig, tower: ViTConfig | TextConfig, mlp_width: int) -> dict[str, Any]:
    return {
        "hidden_size": tower.width,
        "intermediate_size": mlp_width,
        "num_hidden_layers": tower.layers,
        "num_attention_heads": tower.heads,
        "projection_dim": config.embed_dim,
        "hidden_act": config.activation,
        "layer_norm_eps": 1e-5,
    }


def config_from_huggingface(values: Mapping[str, Any]) -> CLIPConfig:
    """The architecture of a Hugging Face folder, from its config.json; missing fields get transformers' defaults.

    Raises:
        ConfigError: it is not a CLIP, or a variant that Diptych does not support.
    """
    if values.get("model_type") != "clip":
        raise ConfigError(f"model_type must be 'clip', not {values.get('model_type')!r}")
    vision, text = (_huggingface_values(values, name) for name in ("vision", "text"))
    if vision["hidden_act"] != text["hidden_act"]:
        raise ConfigError(f"hidden_act differs between the towers: {vision['hidden_act']}, {text['hidden_act']}")
    text_side = TextConfig(
        text["max_position_embeddings"],
        text["vocab_size"],
        text["hidden_size"],
        text["num_attention_heads"],
        text["num_hidden_layers"],
    )
    if text.get("is_causal", True) is not True:
        raise ConfigError("a text tower without a causal mask (text_config.is_causal) is not supported")
    if values.get("quantization_config"):
        raise ConfigError("its weights are quantized (quantization_config), which is not supported")
    mlp_width = check_size("vision", "mlp_width", vision["intermediate_size"])
    config = CLIPConfig(
        values.get("projection_dim", 512),
        ViTConfig(
            vision["image_size"],
            vision["patch_size"],
            vision["hidden_size"],
            vision["num_hidden_layers"],
            vision["num_attention_heads"],
            mlp_width / check_size("vision", "width", vision["hidden_size"]),
        ),
        text_side,
        text["hidden_act"],
    )
    both = {"layer_norm_eps": 1e-5}
    for name, tower, expected in (
        ("vision", vision, both | {"num_channels": 3}),
        ("text", text, both | {"intermediate_size": 4 * text_side.width}),
    ):
        for field, value in expected.items():
            if tower[field] != value:
                raise ConfigError(f"{name}_config.{field} = {tower[field]!r} is not supported, only {value}")
    return config


def _huggingface_values(values: Mapping[str, Any], tower: str) -> dict[str, Any]:
    """A tower's values in config.json. An old `*_config_dict` replaces `*_config`, as in transformers."""
    old = values.get(f"{tower}_config_dict")
    stated = values.get(f"{tower}_config") or {} if old is None else old
    if not isinstance(stated, Mapping):
        raise ConfigError(f"{tower}_config{'' if old is None else '_dict'} must be an object, not {stated!r:.60}")
    return _HF_DEFAULTS[tower] | dict(stated)


def _require_towers(config: CLIPConfig) -> tuple[ViTConfig, TextConfig]:
    tower = tower_of(config.vision)
    if "huggingface" not in text_side_of(config.text).layouts:
        raise ConfigError(
            f"only Diptych's layout supports the text side {config.text}: keep the model in Diptych's layout"
        )
    if "huggingface" not in tower.layouts:
        others = "Diptych's or open_clip's" if "open_clip" in tower.layouts else "Diptych's"
        raise ConfigError(f"the Hugging Face layout has no {tower.title} image tower; keep the model in {others}")
    if config.logit_bias is not None:
        raise ConfigError("the Hugging Face layout has no logit_bias; keep the model in Diptych's or open_clip's")
    return cast(ViTConfig, config.vision), cast(TextConfig, config.text)  # the layout has one form of each
