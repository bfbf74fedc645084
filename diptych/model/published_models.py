"""Published architectures, looked up by shape: they supply what a bare weight file does not say about itself.

Shapes do not determine heads or activation. Names are open_clip's; the tests compare with its configurations.
"""

import dataclasses
from typing import Any

from diptych.model.clip_config import CLIPConfig, TextConfig, ViTConfig
from diptych.model.presets import PRESETS
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
    """

    name: str
    config: CLIPConfig
    activations: str


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
)


def find_published(config: CLIPConfig) -> Published | None:
    """The published architecture with the same shapes; heads and activation of config are ignored."""
    return _BY_SHAPES.get(_shapes(config))


def _shapes(config: CLIPConfig) -> tuple[object, ...]:
    """The part of an architecture that shapes determine."""
    sides: tuple[Any, Any] = (config.vision, config.text)
    vision, text = (dataclasses.replace(side, heads=1) if hasattr(side, "heads") else side for side in sides)
    return config.embed_dim, vision, text


_BY_SHAPES = {_shapes(row.config): row for row in PUBLISHED}
