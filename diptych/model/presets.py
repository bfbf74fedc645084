"""Architectures by name: the paper's nine (tables 19 and 20) and the small ones of our recipes."""

import dataclasses

from diptych.errors import ConfigError
from diptych.model.antialiased_resnet_config import AntialiasedResNetConfig
from diptych.model.clip_config import CLIPConfig, CompactResNetConfig, ResNetConfig, TextConfig, ViTConfig
from diptych.model.text_config import NoTextConfig

PRESETS: dict[str, CLIPConfig] = {
    "RN50": CLIPConfig(1024, ResNetConfig(224, 64, (3, 4, 6, 3))),
    "RN101": CLIPConfig(512, ResNetConfig(224, 64, (3, 4, 23, 3))),
    "RN50x4": CLIPConfig(640, ResNetConfig(288, 80, (4, 6, 10, 6)), TextConfig(width=640)),
    "RN50x16": CLIPConfig(768, ResNetConfig(384, 96, (6, 8, 18, 8)), TextConfig(width=768)),
    "RN50x64": CLIPConfig(1024, ResNetConfig(448, 128, (3, 15, 36, 10)), TextConfig(width=1024)),
    "ViT-B/32": CLIPConfig(512, ViTConfig(224, patch_size=32, width=768, layers=12)),
    "ViT-B/16": CLIPConfig(512, ViTConfig(224, patch_size=16, width=768, layers=12)),
    "ViT-L/14": CLIPConfig(768, ViTConfig(224, patch_size=14, width=1024, layers=24), TextConfig(width=768)),
    "ViT-L/14@336px": CLIPConfig(768, ViTConfig(336, patch_size=14, width=1024, layers=24), TextConfig(width=768)),
    "tiny-vit": CLIPConfig(
        256, ViTConfig(64, patch_size=8, width=192, layers=6), TextConfig(vocab_size=4096, width=256, layers=4)
    ),
    "tiny-rn": CLIPConfig(256, ResNetConfig(64, 32, (1, 2, 2, 1)), TextConfig(vocab_size=4096, width=256, layers=2)),
    "compact-rn": CLIPConfig(
        256,
        CompactResNetConfig(64, widths=(32, 64, 128, 256), layers=(1, 1, 1, 1)),
        TextConfig(vocab_size=4096, width=256, layers=2),
    ),
    "playground-compact": CLIPConfig(
        256,
        CompactResNetConfig(64, widths=(24, 48, 96, 192), layers=(1, 1, 1, 1)),
        TextConfig(context_length=32, vocab_size=1024, width=128, layers=2),
    ),
    "playground-rn": CLIPConfig(
        256, ResNetConfig(64, 32, (1, 1, 1, 1)), TextConfig(context_length=32, vocab_size=1024, width=128, layers=2)
    ),
    "copy-detector": CLIPConfig(256, AntialiasedResNetConfig(64, (48, 96, 192, 256), (1, 2, 2, 1)), NoTextConfig()),
    "copy-detector-RN50": CLIPConfig(
        512, AntialiasedResNetConfig(224, (64, 128, 256, 512), (3, 4, 6, 3), 4, 7), NoTextConfig()
    ),
}


def get_preset(name: str) -> CLIPConfig:
    """The architecture of that name; "ViT-B-32", "vit_b_32" and "ViT-L-14-336" mean the paper's names too.

    Raises:
        ConfigError: there is no preset of that name; the known ones are listed.
    """
    by_plain_name = {_plain(known): config for known, config in PRESETS.items()}
    if _plain(name) not in by_plain_name:
        raise ConfigError(f"there is no preset {name!r}; known: {', '.join(PRESETS)}")
    return by_plain_name[_plain(name)]


def _plain(name: str) -> str:
    for separator in "/-_@":
        name = name.replace(separator, "")
    return name.lower().removesuffix("px")


def architecture_name(config: CLIPConfig) -> str:
    """The name of a model's image tower: a preset with the same tower at any image size, or else its numbers."""
    vision = config.vision
    numbers = {field.name: getattr(vision, field.name) for field in dataclasses.fields(vision)}
    for left_out in ((), ("image_size",)):  # an identical tower first, then one of another image size
        for name, preset in PRESETS.items():
            other = {field.name: getattr(preset.vision, field.name) for field in dataclasses.fields(preset.vision)}
            same = other.keys() == numbers.keys() and type(preset.vision) is type(vision)
            if same and all(other[key] == value for key, value in numbers.items() if key not in left_out):
                return name
    kind = type(vision).__name__.removesuffix("Config")
    parts = [f"{name} {value}" for name, value in numbers.items() if name not in ("image_size", "heads")]
    return f"{kind} of {', '.join(parts)}"
