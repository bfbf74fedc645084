"""Convert between the common layouts of state dicts, without loss in either direction.

Diptych uses the names of OpenAI and open_clip. open_clip's CustomTextCLIP adds the prefix "text." to the text tower,
and has timm's names for SigLIP's image tower (diptych.model.timm_layout). Hugging Face has its own names for all
(diptych.model.huggingface_layout).
"""

from collections.abc import Mapping

import torch

from diptych.errors import ConfigError
from diptych.model.clip_config import CLIPConfig
from diptych.model.containers import without_prefix
from diptych.model.huggingface_config import (
    config_from_huggingface,
    huggingface_config,
    is_siglip,
    require_huggingface,
)
from diptych.model.huggingface_layout import is_huggingface, names_from_huggingface, names_to_huggingface
from diptych.model.timm_layout import names_from_timm, names_to_timm
from diptych.model.towers import text_side_of, tower_of

__all__ = [
    "IGNORED",
    "Tensors",
    "config_from_huggingface",
    "huggingface_config",
    "to_custom_text",
    "to_diptych",
    "to_huggingface",
    "to_open_clip",
]

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


def to_huggingface(tensors: Mapping[str, torch.Tensor], config: CLIPConfig) -> Tensors:
    """Diptych's state dict -> that of transformers' CLIPModel or SiglipModel; the tensors are copies.

    Raises:
        ConfigError: neither of the two computes this model; the message names the part that they do not have.
    """
    require_huggingface(config)
    return names_to_huggingface(tensors, is_siglip(config))


def to_open_clip(tensors: Mapping[str, torch.Tensor], config: CLIPConfig) -> Tensors:
    """Diptych's state dict -> that of open_clip's model: CustomTextCLIP for a SigLIP, otherwise CLIP.

    Raises:
        ConfigError: open_clip has no such tower.
    """
    tower, side = tower_of(config.vision), text_side_of(config.text)
    if "open_clip" not in tower.layouts or "open_clip" not in side.layouts:
        what = f"image tower {tower.title}" if "open_clip" not in tower.layouts else f"text side {side.kind}"
        raise ConfigError(f"open_clip's layout has no {what}; keep the model in Diptych's")
    return names_to_timm(to_custom_text(tensors)) if is_siglip(config) else dict(tensors)


def to_custom_text(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """Diptych's state dict -> that of open_clip's CustomTextCLIP, whose text tower has the prefix "text.".

    Raises:
        ConfigError: the text side is not a Transformer.
    """
    names = _TEXT_NAMES[:-1]  # a SigLIP may lack the projection
    if "prefix.weight" in tensors or not all(any(name.startswith(part) for name in tensors) for part in names):
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
        if result[name].shape == (1,):  # SigLIP of Hugging Face, FSDP and other wrappers store scalars so
            result[name] = result[name].reshape(())
    if is_huggingface(result):
        return names_from_huggingface(result)
    return names_from_timm({_without_text_prefix(name): tensor for name, tensor in result.items()})


def _without_text_prefix(name: str) -> str:
    rest = name.removeprefix("text.")
    return rest if rest.startswith(_TEXT_NAMES) else name
