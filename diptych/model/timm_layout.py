"""timm's names of SigLIP's image tower, under visual.trunk in open_clip's files, to Diptych's and back."""

import re
from collections.abc import Mapping

import torch

Tensors = dict[str, torch.Tensor]

TRUNK = "visual.trunk."
_OUTSIDE = {
    "pos_embed": "positional_embedding",
    "patch_embed.proj": "conv1",
    "norm": "ln_post",
    "attn_pool.latent": "attn_pool.probe",
    "attn_pool.proj": "attn_pool.attn.out_proj",
    "attn_pool.norm": "attn_pool.ln",
    "attn_pool.mlp.fc1": "attn_pool.mlp.c_fc",
    "attn_pool.mlp.fc2": "attn_pool.mlp.c_proj",
}
_BLOCK = {
    "norm1": "ln_1",
    "norm2": "ln_2",
    "attn.proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_JOINED = {"attn.qkv": "attn.in_proj"}  # one matrix for queries, keys and values; its name has no dot before its kind
_QUERY, _KEYS = "attn_pool.q", "attn_pool.kv"
_POOLED = "attn_pool.attn.in_proj"
_LAYER = re.compile(r"blocks\.(\d+)\.(.+)")
_KIND = re.compile(r"(.+)\.(weight|bias)")


def names_from_timm(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """open_clip's names of a SigLIP -> Diptych's, for the image tower alone.

    A tower with any other part (such as PE-Core's) keeps all its names.
    """
    result: Tensors = {}
    for name, tensor in tensors.items():
        if not name.startswith(TRUNK):
            result[name] = tensor
            continue
        part = name.removeprefix(TRUNK)
        stem, kind = match.groups() if (match := _KIND.fullmatch(part)) else (part, "")
        if stem in (_QUERY, _KEYS):
            keys = tensors.get(f"{TRUNK}{_KEYS}.{kind}")
            if stem == _QUERY and keys is not None:
                result[f"visual.{_POOLED}_{kind}"] = torch.cat([tensor, keys])
            continue
        ours = _ours(stem, kind)
        if ours is None:
            return dict(tensors)
        result[f"visual.{ours}"] = _reshaped(ours, tensor)
    return result


def _ours(stem: str, kind: str) -> str | None:
    """Diptych's name of a part of the trunk; None for a part that SigLIP does not have."""
    if stem in _OUTSIDE:
        return f"{_OUTSIDE[stem]}.{kind}" if kind else _OUTSIDE[stem]
    if not (layer := _LAYER.fullmatch(stem)):
        return None
    number, part = layer.groups()
    if part in _JOINED:
        return f"transformer.resblocks.{number}.{_JOINED[part]}_{kind}"
    return f"transformer.resblocks.{number}.{_BLOCK[part]}.{kind}" if part in _BLOCK else None


def _reshaped(ours: str, tensor: torch.Tensor) -> torch.Tensor:
    """Without timm's leading dimensions of size 1."""
    if ours == "positional_embedding" and tensor.ndim == 3 and len(tensor) == 1:
        return tensor[0]
    if ours == "attn_pool.probe" and tensor.shape[:-1] == (1, 1):
        return tensor.flatten()
    return tensor


def names_to_timm(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """Diptych's state dict of a SigLIP -> open_clip's names, for the image tower alone; the tensors are copies."""
    outside = {ours: theirs for theirs, ours in _OUTSIDE.items()}
    blocks = {ours: theirs for theirs, ours in (_BLOCK | _JOINED).items()}
    result: Tensors = {}
    for name, tensor in tensors.items():
        if not name.startswith("visual."):
            result[name] = tensor
            continue
        part = name.removeprefix("visual.")
        stem, kind = match.groups() if (match := re.fullmatch(r"(.+)[._](weight|bias)", part)) else (part, "")
        if stem == _POOLED:
            width = len(tensor) // 3
            result[f"{TRUNK}{_QUERY}.{kind}"], result[f"{TRUNK}{_KEYS}.{kind}"] = tensor[:width], tensor[width:]
        elif stem == "positional_embedding":
            result[f"{TRUNK}{outside[stem]}"] = tensor[None]
        elif stem == "attn_pool.probe":
            result[f"{TRUNK}{outside[stem]}"] = tensor[None, None]
        elif stem in outside:
            result[f"{TRUNK}{outside[stem]}.{kind}"] = tensor
        else:
            _, _, number, part = stem.split(".", 3)
            result[f"{TRUNK}blocks.{number}.{blocks[part]}.{kind}"] = tensor
    return {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in result.items()}
