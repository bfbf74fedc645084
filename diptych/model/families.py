"""Recognize models that are not CLIPs of the paper's form by their tensor names, and say how to use them."""

import dataclasses
import re
from collections.abc import Mapping

import torch

_HUGGINGFACE = "give the folder that it came in, with its config.json, as hf:FOLDER (needs transformers)"
_WRAP = (
    "it encodes images only: write an object with encode_images and give it as python:MODULE:NAME, which probes can "
    "measure (docs/models.md shows the lines)"
)


def _open_clip(example: str) -> str:
    return f"give it as open_clip:ARCHITECTURE@FILE, such as open_clip:{example}@FILE (needs open_clip_torch)"


@dataclasses.dataclass(frozen=True)
class _Family:
    """One kind of model: at least one tensor name matches `present`, and none matches `absent`."""

    what: str
    way: str
    present: str
    absent: str = r"^$"


# Tried in this order; narrower families come first.
_FAMILIES = (
    _Family("an adapter (LoRA), not a whole model", "merge it into its base model and save that", r"\.lora_[AB]\."),
    _Family(
        "a diffusion model's checkpoint",
        "give the CLIP in a separate file",
        r"^(model\.diffusion_model|first_stage_model|down_blocks)\.",
    ),
    _Family("a CoCa of open_clip", _open_clip("coca_ViT-L-14"), r"^text_decoder\.|^(text\.)?cls_emb$"),
    _Family(
        "a Perception Encoder (PE-Core) of open_clip",
        _open_clip("PE-Core-B-16"),
        r"^visual\.trunk\.attn_pool\.latent$",
    ),
    _Family(
        "a ConvNeXt CLIP of open_clip",
        _open_clip("convnext_base_w"),
        r"^visual\.trunk\.stages\.\d+\.blocks\.\d+\.conv_dw",
    ),
    _Family(
        "an EVA CLIP or a ViTamin of open_clip",
        _open_clip("EVA02-B-16"),
        r"^visual\.trunk\.blocks\.\d+\.(attn\.q_bias|attn\.q_proj|attn\.inner_attn_ln|mlp\.w1|mlp\.fc1_g)",
    ),
    _Family(
        "an EVA CLIP in its authors' layout",
        "take the file that open_clip publishes of it, and " + _open_clip("EVA02-B-16"),
        r"^visual\.blocks\.\d+\.attn\.",
    ),
    _Family(
        "a MobileCLIP in Apple's layout",
        "take the file that is published for open_clip, and " + _open_clip("MobileCLIP-S1"),
        r"^image_encoder\.model\.",
    ),
    _Family(
        "a MobileCLIP of open_clip",
        _open_clip("MobileCLIP-S1"),
        r"^visual\.trunk\.(stem\.\d+\.(conv_scale|conv_kxk|reparam_conv)|stages\.\d+\.blocks\.\d+\.(token_mixer|mlp\.conv))",
    ),
    _Family("a CLIP of open_clip with an image tower of timm", _open_clip("ViTamin-B"), r"^visual\.(trunk|head)\."),
    _Family(
        "a CLIP of open_clip with a text tower of Hugging Face",
        _open_clip("xlm-roberta-base-ViT-B-32"),
        r"^(text\.)?transformer\.(encoder|embeddings|shared|block)\b",
    ),
    _Family(
        "a SigLIP 2 of variable resolution (NaFlex)",
        "take one of fixed resolution, such as google/siglip2-base-patch16-224",
        r"^vision_model\.head\.probe$",
    ),
    _Family(
        "the image half of a CLIP",
        _WRAP,
        r"^(vision_model|visual)\.",
        r"^(text_model\.|text\.|token_embedding\.|transformer\.|bert\.|positional_embedding$)",
    ),
    _Family(
        "a CLIP of open_clip with layer scale, attentional pooling or normalized queries",
        _open_clip("ViT-M-16-alt"),
        r"^visual\.(attn_pool\.(query$|ln_[qk]\.)|transformer\.resblocks\.\d+\.(ls_1\.|attn\.ln_q|attn\.logit_scale))",
    ),
    _Family(
        "a Long-CLIP",
        "Diptych's towers have no second position embedding; its authors' code reads it",
        r"positional_embedding_res$",
    ),
    _Family("an ALIGN of Hugging Face", _HUGGINGFACE, r"^vision_model\.embeddings\.convolution\."),
    _Family("a BLIP of Hugging Face", _HUGGINGFACE, r"^vision_model\.encoder\.layers\.\d+\.self_attn\.qkv\."),
    _Family(
        "a BLIP in its authors' layout",
        "take the model that is published for transformers, and " + _HUGGINGFACE,
        r"^visual_encoder\.",
    ),
    _Family(
        "a CLIP with a BERT as text tower (Chinese-CLIP, AltCLIP)",
        _HUGGINGFACE,
        r"^text_model\.(encoder\.layer\.|roberta\.|embeddings\.word_embeddings)|^bert\.encoder\.",
        r"^bert\.(?!.)|^cls\.predictions",
    ),
    _Family(
        "the text half of a CLIP",
        "it encodes no images, so there is nothing to measure: give the whole model's file",
        r"^(text_model\.|token_embedding\.weight$)",
        r"^(vision_model|visual)\.",
    ),
    _Family("an image tower of timm", _WRAP, r"^(patch_embed\.|stem_0\.|stem\.0\.)|^stages\.\d+\.blocks\."),
    _Family("an image tower (a ViT of Hugging Face)", _WRAP, r"(^|\.)embeddings\.(cls_token|patch_embeddings\.)"),
    _Family("an image tower (a ResNet)", _WRAP, r"^layer1\.0\.conv1\.weight$"),
    _Family(
        "a language model",
        "it encodes no images, so there is nothing to measure",
        r"(^|\.)(embeddings\.word_embeddings|embed_tokens|wte)\.weight$|^shared\.weight$",
    ),
)


def foreign_family(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """What a state dict (in Diptych's names) is and how to use it; None if it may be a CLIP of the paper's form."""
    for family in _FAMILIES:
        present, absent = re.compile(family.present), re.compile(family.absent)
        if any(map(present.search, tensors)) and not any(map(absent.search, tensors)):
            return f"this is {family.what}, whose towers Diptych's CLIP does not support: {family.way}"
    return None
