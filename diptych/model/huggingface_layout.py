"""Hugging Face's names of CLIP's and SigLIP's tensors, to Diptych's names and back, without loss.

There queries, keys and values have separate matrices (but not in SigLIP's pooling), and CLIP's projections are
transposed.
"""

import re
from collections.abc import Mapping

import torch

Tensors = dict[str, torch.Tensor]

_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_BOTH = {
    "logit_scale": "logit_scale",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
}
_CLIP = _BOTH | {
    "text_projection": "text_projection.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",  # their spelling
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.proj": "visual_projection.weight",
}
_SIGLIP = _BOTH | {
    "logit_bias": "logit_bias",
    "text_projection.weight": "text_model.head.weight",
    "text_projection.bias": "text_model.head.bias",
    "visual.conv1.bias": "vision_model.embeddings.patch_embedding.bias",
    "visual.attn_pool.probe": "vision_model.head.probe",
    "visual.attn_pool.attn.in_proj_weight": "vision_model.head.attention.in_proj_weight",
    "visual.attn_pool.attn.in_proj_bias": "vision_model.head.attention.in_proj_bias",
    **{
        f"visual.attn_pool.{ours}.{kind}": f"vision_model.head.{theirs}.{kind}"
        for ours, theirs in {
            "attn.out_proj": "attention.out_proj",
            "ln": "layernorm",
            "mlp.c_fc": "mlp.fc1",
            "mlp.c_proj": "mlp.fc2",
        }.items()
        for kind in ("weight", "bias")
    },
}
_TRANSPOSED = ("visual.proj", "text_projection")
# Theirs have leading dimensions of size 1.
_SIGLIP_SHAPES = {"logit_scale": (1,), "logit_bias": (1,), "visual.attn_pool.probe": (1, 1, -1)}
_TOWERS = {"transformer.": "text_model.encoder.layers.", "visual.transformer.": "vision_model.encoder.layers."}
_LAYER = re.compile(
    r"(?P<tower>(?:text|vision)_model\.encoder\.layers\.)(?P<layer>\d+)\.(?P<part>.+)\.(?P<kind>weight|bias)"
)
_PROBE = "vision_model.head.probe"


def is_huggingface(names: Mapping[str, torch.Tensor]) -> bool:
    """Whether these are names of Hugging Face's CLIP, SigLIP or a similar model."""
    return any(name.startswith(("vision_model.", "text_model.")) for name in names)


def names_to_huggingface(tensors: Mapping[str, torch.Tensor], siglip: bool) -> Tensors:
    """Diptych's state dict -> that of transformers' SiglipModel or CLIPModel; the tensors are copies."""
    outside = _SIGLIP if siglip else _CLIP
    result: Tensors = {}
    for name, tensor in tensors.items():
        if name in outside:
            tensor = tensor.T if not siglip and name in _TRANSPOSED else tensor
            shape = _SIGLIP_SHAPES.get(name) if siglip else None
            result[outside[name]] = tensor if shape is None else tensor.reshape(shape)
            continue
        tower, rest = name.split("resblocks.")
        layer, part = rest.split(".", 1)
        stem, kind = re.split(r"[._](?=weight$|bias$)", part)
        prefix = f"{_TOWERS[tower]}{layer}"
        if stem == "attn.in_proj":
            result |= {f"{prefix}.self_attn.{p}_proj.{kind}": t for p, t in zip("qkv", tensor.chunk(3), strict=True)}
        else:
            result[f"{prefix}.{_BLOCK[stem]}.{kind}"] = tensor
    return {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in result.items()}


def names_from_huggingface(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """transformers' state dict -> Diptych's names; unknown names stay.

    A SigLIP of variable resolution (NaFlex), whose patches come flattened, keeps its names.
    """
    siglip = _PROBE in tensors
    patches = tensors.get(_SIGLIP["visual.conv1.weight"])
    if siglip and patches is not None and patches.ndim == 2:
        return dict(tensors)
    outside = {theirs: ours for ours, theirs in (_SIGLIP if siglip else _CLIP).items()}
    towers = {theirs: ours for ours, theirs in _TOWERS.items()}
    blocks = {theirs: ours for ours, theirs in _BLOCK.items()}
    result: Tensors = {}
    for name, tensor in tensors.items():
        match = _LAYER.fullmatch(name)
        if name in outside:
            ours = outside[name]
            result[ours] = tensor.T.contiguous() if ours in _TRANSPOSED else tensor
            if siglip and ours == "visual.attn_pool.probe" and tensor.shape[:-1] == (1, 1):
                result[ours] = tensor.flatten()
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
