"""The architecture of a CLIP as frozen records: what a model folder's config.json holds.

Records check themselves when they are made, so a configuration that exists can be built: `from_dict` is safe on files
of unknown origin.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from diptych.errors import ConfigError
from diptych.model.sizes import check_heads, check_size, num_block_parameters
from diptych.model.text_config import KINDS, PREDICTIVE, OtherTextConfig

ACTIVATIONS = ("quick_gelu", "gelu")
MAX_PARAMETERS = 20_000_000_000
RESNET_STRIDE = 32
MLP_RATIO = 4.0  # of all Transformers but the largest
_MAX_STAGES = 8
_MAX_NUMBER = 1e30  # holds in float32


def _check_number(name: str, value: object) -> float:
    """Return value if it is a finite number; name the field otherwise."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= _MAX_NUMBER:
        raise ConfigError(f"{name} must be a finite number, not {value!r}")
    return float(value)


@dataclasses.dataclass(frozen=True, slots=True)
class ViTConfig:
    """A Vision Transformer (CLIP paper, section 2.4) on square pictures cut into square patches.

    Attributes:
        heads: attention heads; 0 stands for width // 64.
        mlp_ratio: channels within an MLP over the width, as a whole number of channels makes it: 4 but in the largest
            models (ViT-g, ViT-bigG, ViT-e).
    """

    image_size: int
    patch_size: int
    width: int
    layers: int
    heads: int = 0
    mlp_ratio: float = MLP_RATIO

    def __post_init__(self) -> None:
        for name in ("image_size", "patch_size", "width", "layers"):
            check_size("vision", name, getattr(self, name))
        _check_number("vision.mlp_ratio", self.mlp_ratio)
        object.__setattr__(self, "mlp_ratio", check_size("vision", "mlp_width", self.mlp_width) / self.width)
        object.__setattr__(self, "heads", check_heads("vision", self.width, self.heads))
        if self.image_size % self.patch_size:
            raise ConfigError(f"vision.patch_size {self.patch_size} must divide vision.image_size {self.image_size}")

    @property
    def features_dim(self) -> int:
        """Channels of the image features before the projection."""
        return self.width

    @property
    def mlp_width(self) -> int:
        """Channels within an MLP."""
        return round(self.width * self.mlp_ratio)

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size

    def num_parameters(self, embed_dim: int) -> int:
        """Parameters of the tower with its projection to embed_dim."""
        tokens = self.grid**2 + 1
        patches = 3 * self.patch_size**2 * self.width
        blocks = num_block_parameters(self.width, self.layers, self.mlp_width)
        return patches + self.width * (1 + tokens + 4 + embed_dim) + blocks


@dataclasses.dataclass(frozen=True, slots=True)
class ResNetConfig:
    """CLIP's modified ResNet (CLIP paper, section 2.4): ResNet-D stem, anti-aliased strides, attention pooling.

    Attributes:
        width: channels of the stem; the features have 32 times as many.
        layers: bottleneck blocks in each of the four stages.
        heads: heads of the attention pooling; 0 stands for width * 32 // 64.
    """

    image_size: int
    width: int
    layers: tuple[int, int, int, int]
    heads: int = 0

    def __post_init__(self) -> None:
        for name in ("image_size", "width"):
            check_size("vision", name, getattr(self, name))
        if not isinstance(self.layers, list | tuple) or len(self.layers) != 4:
            raise ConfigError(f"vision.layers of a ResNet must be four numbers, not {self.layers!r}")
        object.__setattr__(self, "layers", tuple(check_size("vision", "layers", layer) for layer in self.layers))
        object.__setattr__(self, "heads", check_heads("vision", self.features_dim, self.heads))
        if self.width % 2:
            raise ConfigError(f"vision.width of a ResNet must be even (the stem has half as many), not {self.width}")
        if self.image_size % RESNET_STRIDE:
            raise ConfigError(f"vision.image_size of a ResNet must be a multiple of 32, not {self.image_size}")

    @property
    def features_dim(self) -> int:
        """Channels of the image features before the projection."""
        return self.width * 32

    @property
    def grid(self) -> int:
        """Positions along one side of the last feature map."""
        return self.image_size // RESNET_STRIDE

    def num_parameters(self, embed_dim: int) -> int:
        """Parameters of the tower with its projection to embed_dim (running statistics are buffers)."""
        half, features = self.width // 2, self.features_dim
        total = 9 * (3 * half + half * half + half * self.width) + 4 * half + 2 * self.width
        channels = self.width
        for stage, blocks in enumerate(self.layers):
            planes = self.width * 2**stage
            block = 9 * planes**2 + 4 * planes**2 + 12 * planes
            total += blocks * (block + 4 * planes**2) + planes * channels - 4 * planes**2
            total += 4 * planes * channels + 8 * planes
            channels = 4 * planes
        return total + _num_pool_parameters(self.grid, features, embed_dim)


@dataclasses.dataclass(frozen=True, slots=True)
class CompactResNetConfig:
    """A ResNet of basic blocks for small pictures, see diptych.model.compact_resnet.

    Attributes:
        widths: channels of each stage; the first works at half the picture's resolution, each next one at half of that.
        layers: basic blocks in each stage.
        heads: heads of the attention pooling; 0 stands for widths[-1] // 64.
    """

    image_size: int
    widths: tuple[int, ...]
    layers: tuple[int, ...]
    heads: int = 0

    def __post_init__(self) -> None:
        check_size("vision", "image_size", self.image_size)
        for name in ("widths", "layers"):
            values, limit = getattr(self, name), "width" if name == "widths" else name
            if not isinstance(values, list | tuple) or not 1 <= len(values) <= _MAX_STAGES:
                raise ConfigError(f"vision.{name} must be 1 to {_MAX_STAGES} numbers, one a stage, not {values!r}")
            object.__setattr__(self, name, tuple(check_size("vision", limit, value) for value in values))
        if len(self.widths) != len(self.layers):
            raise ConfigError(f"vision.widths {self.widths} and vision.layers {self.layers} must be of the same length")
        object.__setattr__(self, "heads", check_heads("vision", self.features_dim, self.heads))
        if self.image_size % 2 ** len(self.widths):
            raise ConfigError(
                f"{len(self.widths)} stages halve the picture as many times: "
                f"vision.image_size must be a multiple of {2 ** len(self.widths)}, not {self.image_size}"
            )

    @property
    def features_dim(self) -> int:
        """Channels of the image features before the projection."""
        return self.widths[-1]

    @property
    def grid(self) -> int:
        """Positions along one side of the last feature map."""
        return self.image_size // 2 ** len(self.widths)

    def num_parameters(self, embed_dim: int) -> int:
        """Parameters of the tower with its projection to embed_dim (running statistics are buffers)."""
        channels = self.widths[0]
        total = 27 * channels + 2 * channels
        for planes, blocks in zip(self.widths, self.layers, strict=True):
            total += blocks * (18 * planes**2 + 4 * planes) - 9 * planes * (planes - channels)
            total += channels * planes + 2 * planes if channels != planes else 0
            channels = planes
        return total + _num_pool_parameters(self.grid, channels, embed_dim)


@dataclasses.dataclass(frozen=True, slots=True)
class TextConfig:
    """The text Transformer (CLIP paper, section 2.4): causal, pooled at the first end-of-text token."""

    context_length: int = 77
    vocab_size: int = 49_408
    width: int = 512
    heads: int = 0
    layers: int = 12

    def __post_init__(self) -> None:
        for name in ("context_length", "vocab_size", "width", "layers"):
            check_size("text", name, getattr(self, name))
        object.__setattr__(self, "heads", check_heads("text", self.width, self.heads))

    def num_parameters(self, embed_dim: int) -> int:
        """Parameters of the tower with its projection to embed_dim."""
        outside = self.width * (self.vocab_size + self.context_length + 2 + embed_dim)
        return outside + num_block_parameters(self.width, self.layers)


VisionConfig = ViTConfig | ResNetConfig | CompactResNetConfig


@dataclasses.dataclass(frozen=True, slots=True)
class CLIPConfig:
    """Both towers, the size of the space they share, and the activation of their Transformers.

    Attributes:
        text: the Transformer, or what stands in its place in the paper's figure 2 (diptych.model.text_config).
        activation: "quick_gelu" (all of OpenAI's weights) or "gelu" (most of open_clip's).
        logit_bias: where the bias of SigLIP's sigmoid loss starts (-10 there); None for a model without one.
    """

    embed_dim: int
    vision: VisionConfig
    text: TextConfig | OtherTextConfig = TextConfig()
    activation: str = "quick_gelu"
    logit_bias: float | None = None

    def __post_init__(self) -> None:
        check_size("model", "embed_dim", self.embed_dim)
        if not isinstance(self.vision, VisionConfig) or not isinstance(self.text, TextConfig | OtherTextConfig):
            raise ConfigError("model.vision must be a vision tower's config, and model.text a text side's")
        if self.activation not in ACTIVATIONS:
            raise ConfigError(f"model.activation must be one of {', '.join(ACTIVATIONS)}, not {self.activation!r}")
        if self.logit_bias is not None:
            object.__setattr__(self, "logit_bias", _check_number("model.logit_bias", self.logit_bias))
            if isinstance(self.text, PREDICTIVE):
                raise ConfigError("model.logit_bias belongs to a contrastive model; this text side predicts captions")
        if self.num_parameters() > MAX_PARAMETERS:
            raise ConfigError(
                f"a model of {self.num_parameters():,} parameters is above the limit of {MAX_PARAMETERS:,}: "
                f"check vision ({self.vision}) and text ({self.text})"
            )

    def num_parameters(self) -> int:
        """Number of parameters of the whole model, temperature and bias included; nothing is allocated."""
        towers = self.vision.num_parameters(self.embed_dim) + self.text.num_parameters(self.embed_dim)
        return towers + (not isinstance(self.text, PREDICTIVE)) + (self.logit_bias is not None)

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain JSON types.

        Vision carries its kind, and so does text that is no Transformer; a bias is there only if the model has one, and
        a ViT's mlp_ratio only where it is not 4, so that older versions read what they can build.
        """
        result = dataclasses.asdict(self)
        if self.logit_bias is None:
            del result["logit_bias"]
        if result["vision"].get("mlp_ratio") == MLP_RATIO:
            del result["vision"]["mlp_ratio"]
        vision = {key: list(value) if isinstance(value, tuple) else value for key, value in result["vision"].items()}
        text_kind = next(({"kind": name} for name, kind in KINDS.items() if isinstance(self.text, kind)), {})
        return result | {"vision": {"kind": _kind(self.vision)} | vision, "text": text_kind | result["text"]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "CLIPConfig":
        """Read what to_dict wrote.

        Raises:
            ConfigError: a key is unknown or missing, a type is wrong, or a size is absurd; the field is named.
        """
        values = _fields(cls, values, "model")
        vision = values.pop("vision")
        kind = _KINDS.get(str(vision.get("kind"))) if isinstance(vision, Mapping) else None
        if kind is None:
            raise ConfigError(f"model.vision must be an object of kind {' or '.join(_KINDS)}, not {vision!r}")
        tower = kind(**_fields(kind, {key: value for key, value in vision.items() if key != "kind"}, "vision"))
        return cls(vision=tower, text=_text_side(values.pop("text", {})), **values)


_KINDS: dict[str, type[VisionConfig]] = {
    "vit": ViTConfig,
    "resnet": ResNetConfig,
    "compact_resnet": CompactResNetConfig,
}


def _kind(vision: VisionConfig) -> str:
    return next(name for name, kind in _KINDS.items() if isinstance(vision, kind))


def _text_side(values: object) -> TextConfig | OtherTextConfig:
    """The text side that an object of config.json describes."""
    if not isinstance(values, Mapping) or "kind" not in values:
        return TextConfig(**_fields(TextConfig, values, "text"))
    kind = KINDS.get(str(values["kind"]))
    if kind is None:
        raise ConfigError(f"model.text.kind must be {' or '.join(KINDS)}, or not there, not {values['kind']!r}")
    return kind(**_fields(kind, {key: value for key, value in values.items() if key != "kind"}, "text"))


def _num_pool_parameters(grid: int, width: int, embed_dim: int) -> int:
    """Parameters of an attention pooling with its projection to embed_dim."""
    return width * (grid**2 + 1) + 3 * width * (width + 1) + (width + 1) * embed_dim


def _fields(kind: type, values: object, owner: str) -> dict[str, Any]:
    """Check that values are an object with the fields of kind, and no others."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{owner} must be an object, not {values!r}")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    unknown = [str(name) for name in values if name not in fields]
    missing = [name for name, field in fields.items() if field.default is dataclasses.MISSING and name not in values]
    if unknown:
        raise ConfigError(f"{owner} has unknown fields: {', '.join(unknown)} (known: {', '.join(fields)})")
    if missing:
        raise ConfigError(f"{owner} lacks {', '.join(missing)}")
    return dict(values)
