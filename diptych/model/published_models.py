"""Published architectures, looked up by shape: they supply what a bare weight file does not say about itself.

Shapes do not determine heads or activation. Names are open_clip's; the tests compare with its configurations.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from diptych.model.clip_config import CLIPConfig, TextConfig, ViTConfig
from diptych.model.open_clip_config import siglip_tower
from diptych.model.presets import PRESETS
from diptych.model.siglip_vit_config import SIGLIP_EPS
from diptych.model.sizes import MLP_RATIO
from diptych.model.vision_transformer_config import HEAD_WIDTHS

_OPENAI = ("RN50", "RN101", "RN50x4", "RN50x16", "RN50x64", "ViT-B/32", "ViT-B/16", "ViT-L/14", "ViT-L/14@336px")
_OPENAI_WEIGHTS = (
    "quick_gelu in OpenAI's, Apple's DFN and Meta's MetaCLIP weights, gelu in most of LAION's and DataComp's"
)


@dataclasses.dataclass(frozen=True)
class Published:
    """One published architecture.

    Attributes:
        name: open_clip's name, or the paper's.
        config: with the activation that most of its published weights have.
        activations: which weights have which activation, in words.
        preprocessing: how its images are prepared, as fields of Preprocessing; None for CLIP's way.
        tokenizer: open_clip's tokenizer_kwargs, if its tokenizer is one of Hugging Face's; None for CLIP's.
    """

    name: str
    config: CLIPConfig
    activations: str
    preprocessing: Mapping[str, Any] | None = None
    tokenizer: Mapping[str, Any] | None = None


def _vit(
    name: str,
    embed_dim: int,
    vision: tuple[int, int, int, int],
    text: tuple[int, int],
    activations: str = "gelu",
    *,
    mlp_ratio: float = 4.0,
) -> Published:
    """A ViT of (image_size, patch_size, width, layers) with a text Transformer of (width, layers)."""
    tower = ViTConfig(*vision, heads=vision[2] // HEAD_WIDTHS.get(vision[2], 64), mlp_ratio=mlp_ratio)
    config = CLIPConfig(embed_dim, tower, TextConfig(width=text[0], layers=text[1]), activations.split()[0])
    return Published(name, config, f"{activations} in its published weights" if " " not in activations else activations)


_HALVES = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "resize": "squash"}
_IMAGENET = {
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "interpolation": "bilinear",
    "resize": "squash",
}
_SIGLIP_TEXTS = {  # width, heads, layers, width of the MLPs
    "base": (768, 12, 12, 3072),
    "large": (1024, 16, 24, 4096),
    "so400m": (1152, 16, 27, 4304),
    "giantopt": (1152, 16, 27, 4304),
}
_VOCABULARIES = {"SigLIP": 32_000, "SigLIP-i18n": 250_000, "SigLIP2": 256_000}


def _clipa(
    name: str,
    embed_dim: int,
    vision: tuple[int, int, int, int],
    text: tuple[int, int],
    *,
    mlp_ratio: float = MLP_RATIO,
) -> Published:
    """A CLIPA of (image_size, patch_size, width, layers) with a text Transformer of (width, layers)."""
    heads = vision[2] // HEAD_WIDTHS.get(vision[2], 64)
    tower = ViTConfig(*vision, heads=heads, mlp_ratio=mlp_ratio, ln_pre=False, pooling="mean")
    side = TextConfig(32, 32_000, text[0], 0, text[1], causal=False, pooling="last")
    config = CLIPConfig(embed_dim, tower, side, "gelu")
    return Published(name, config, "gelu in its published weights", _IMAGENET, {"strip_sep_token": True})


def _siglip(name: str, timm_name: str, family: str, context_length: int = 64, projection: str = "biased") -> Published:
    """A SigLIP with timm's image tower of that name, a text tower of the same size, and its family's vocabulary."""
    tower, activation = siglip_tower(timm_name)
    width, heads, layers, mlp_width = _SIGLIP_TEXTS[timm_name.split("_")[1]]
    second = family == "SigLIP2"
    of_text = "gelu_tanh" if second else "gelu"
    side = TextConfig(
        *(context_length, _VOCABULARIES[family], width, heads, layers, mlp_width / width),
        causal=False,
        pooling="last",
        projection=projection,
        norm_eps=SIGLIP_EPS,
        pad_id=0 if second else 1,
        activation=None if of_text == activation else of_text,
    )
    config = CLIPConfig(tower.width, tower, side, activation, -10.0)
    words = (
        f"{activation} in open_clip ({of_text} in its text tower), gelu_tanh in Hugging Face's and the authors' code"
    )
    return Published(name, config, words, _HALVES, {"clean": "canonicalize"})


PUBLISHED = (
    *(Published(name, PRESETS[name], _OPENAI_WEIGHTS) for name in _OPENAI),
    _vit("ViT-S-16", 384, (224, 16, 384, 12), (384, 12)),
    _vit("ViT-S-32", 384, (224, 32, 384, 12), (384, 12)),
    _vit("ViT-S-16-alt", 256, (224, 16, 384, 12), (256, 10)),
    _vit("ViT-S-32-alt", 256, (224, 32, 384, 12), (256, 10)),
    _vit("ViT-M-16", 512, (224, 16, 512, 12), (512, 12)),
    _vit("ViT-M-32", 512, (224, 32, 512, 12), (512, 12)),
    _vit("ViT-M-32-alt", 384, (224, 32, 512, 12), (384, 12)),
    _vit("ViT-B-32-256", 512, (256, 32, 768, 12), (512, 12)),
    _vit("ViT-B-16-plus", 640, (224, 16, 896, 12), (640, 12)),
    _vit("ViT-B-16-plus-240", 640, (240, 16, 896, 12), (640, 12)),
    _vit("ViT-B-32-plus-256", 640, (256, 32, 896, 12), (640, 12)),
    _vit("ViT-L-14-280", 768, (280, 14, 1024, 24), (768, 12)),
    _vit("ViT-L-16", 768, (224, 16, 1024, 24), (768, 12)),
    _vit("ViT-L-16-320", 768, (320, 16, 1024, 24), (768, 12)),
    _vit(
        "ViT-H-14",
        1024,
        (224, 14, 1280, 32),
        (1024, 24),
        "gelu in LAION's weights, quick_gelu in Apple's DFN and Meta's",
    ),
    _vit("ViT-H-14-378", 1024, (378, 14, 1280, 32), (1024, 24), "quick_gelu in Apple's DFN weights, gelu in others"),
    _vit("ViT-H-16", 1024, (224, 16, 1280, 32), (1024, 24)),
    _vit("ViT-g-14", 1024, (224, 14, 1408, 40), (1024, 24), mlp_ratio=6144 / 1408),
    _vit(
        "ViT-bigG-14",
        1280,
        (224, 14, 1664, 48),
        (1280, 32),
        "gelu in LAION's weights, quick_gelu in Meta's MetaCLIP weights",
        mlp_ratio=8192 / 1664,
    ),
    _vit("ViT-e-14", 1280, (224, 14, 1792, 56), (1280, 36), mlp_ratio=15_360 / 1792),
    _clipa("ViT-L-14-CLIPA", 768, (224, 14, 1024, 24), (768, 12)),
    _clipa("ViT-L-14-CLIPA-336", 768, (336, 14, 1024, 24), (768, 12)),
    _clipa("ViT-H-14-CLIPA", 1024, (224, 14, 1280, 32), (1024, 24)),
    _clipa("ViT-H-14-CLIPA-336", 1024, (336, 14, 1280, 32), (1024, 24)),
    _clipa("ViT-bigG-14-CLIPA", 1280, (224, 14, 1664, 48), (1280, 32), mlp_ratio=8192 / 1664),
    _clipa("ViT-bigG-14-CLIPA-336", 1280, (336, 14, 1664, 48), (1280, 32), mlp_ratio=8192 / 1664),
    _siglip("ViT-B-16-SigLIP", "vit_base_patch16_siglip_224", "SigLIP"),
    *(_siglip(f"ViT-B-16-SigLIP-{size}", f"vit_base_patch16_siglip_{size}", "SigLIP") for size in (256, 384, 512)),
    _siglip("ViT-B-16-SigLIP-i18n-256", "vit_base_patch16_siglip_256", "SigLIP-i18n"),
    *(_siglip(f"ViT-L-16-SigLIP-{size}", f"vit_large_patch16_siglip_{size}", "SigLIP") for size in (256, 384)),
    _siglip("ViT-SO400M-14-SigLIP", "vit_so400m_patch14_siglip_224", "SigLIP", 16),
    # The weights "384" have 27 x 27 patches of 14 pixels: shapes cannot tell 384 pixels from 378.
    _siglip("ViT-SO400M-14-SigLIP-378", "vit_so400m_patch14_siglip_378", "SigLIP"),
    _siglip("ViT-SO400M-16-SigLIP-i18n-256", "vit_so400m_patch16_siglip_256", "SigLIP-i18n", projection="none"),
    _siglip("ViT-B-32-SigLIP2-256", "vit_base_patch32_siglip_256", "SigLIP2"),
    _siglip("ViT-B-16-SigLIP2", "vit_base_patch16_siglip_224", "SigLIP2"),
    *(_siglip(f"ViT-B-16-SigLIP2-{size}", f"vit_base_patch16_siglip_{size}", "SigLIP2") for size in (256, 384, 512)),
    *(_siglip(f"ViT-L-16-SigLIP2-{size}", f"vit_large_patch16_siglip_{size}", "SigLIP2") for size in (256, 384, 512)),
    _siglip("ViT-SO400M-14-SigLIP2", "vit_so400m_patch14_siglip_224", "SigLIP2"),
    _siglip("ViT-SO400M-14-SigLIP2-378", "vit_so400m_patch14_siglip_378", "SigLIP2"),
    *(
        _siglip(f"ViT-SO400M-16-SigLIP2-{size}", f"vit_so400m_patch16_siglip_{size}", "SigLIP2")
        for size in (256, 384, 512)
    ),
    *(_siglip(f"ViT-gopt-16-SigLIP2-{size}", f"vit_giantopt_patch16_siglip_{size}", "SigLIP2") for size in (256, 384)),
)


def find_published(config: CLIPConfig) -> Published | None:
    """The published architecture with the same shapes; whatever shapes do not determine is ignored."""
    return _BY_SHAPES.get(_shapes(config))


def _shapes(config: CLIPConfig) -> tuple[object, ...]:
    """The part of an architecture that shapes determine."""
    vision, text = (_without_form(side) for side in (config.vision, config.text))
    return config.embed_dim, vision, text


def _without_form(side: Any) -> Any:
    """A tower's config with the default of each field that shapes do not determine."""
    fields = {field.name: field.default for field in dataclasses.fields(side)}
    unknown = ("pooling", "causal", "norm_eps", "pad_id", "activation")
    values = {name: fields[name] for name in unknown if name in fields} | ({"heads": 1} if "heads" in fields else {})
    return dataclasses.replace(side, **values)


_BY_SHAPES = {_shapes(row.config): row for row in PUBLISHED}
