"""The architecture of a CLIP as frozen records: what a model folder's config.json holds.

A record validates itself when it is created, so every configuration that exists can be built. `from_dict` is safe on
files of unknown origin. The towers' configs are defined next to their rows (diptych.model.towers) and re-exported here.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from diptych.errors import ConfigError
from diptych.model.compact_resnet_config import CompactResNetConfig
from diptych.model.modified_resnet_config import ResNetConfig
from diptych.model.siglip_vit_config import SiglipViTConfig
from diptych.model.sizes import ACTIVATIONS, check_number, check_size
from diptych.model.text_config import TextConfig
from diptych.model.tower import ImageConfig, TextSideConfig
from diptych.model.towers import TEXT_SIDES, TOWERS, text_side_of, tower_of
from diptych.model.vision_transformer_config import ViTConfig

__all__ = [
    "ACTIVATIONS",
    "CLIPConfig",
    "CompactResNetConfig",
    "ResNetConfig",
    "SiglipViTConfig",
    "TextConfig",
    "ViTConfig",
]

MAX_PARAMETERS = 20_000_000_000
_PLAIN = "transformer"  # config.json has no kind for this text side


@dataclasses.dataclass(frozen=True, slots=True)
class CLIPConfig:
    """Both towers, the size of the space they share, and the activation of their Transformers.

    Attributes:
        text: the Transformer, or one of its alternatives from the paper's figure 2 (diptych.model.text_config).
        activation: "quick_gelu" (all of OpenAI's weights), "gelu" (most of open_clip's), or "gelu_tanh", its
            approximation by a tanh (SigLIP of Hugging Face).
        logit_bias: initial bias of SigLIP's sigmoid loss (-10 in the paper); None for a model without a bias.
    """

    embed_dim: int
    vision: ImageConfig
    text: TextSideConfig = TextConfig()  # noqa: RUF009  (frozen)
    activation: str = "quick_gelu"
    logit_bias: float | None = None

    def __post_init__(self) -> None:
        check_size("model", "embed_dim", self.embed_dim)
        try:
            tower, text_side = tower_of(self.vision), text_side_of(self.text)
        except LookupError:
            raise ConfigError("model.vision must be a vision tower's config, and model.text a text side's") from None
        tower.check(self.vision, self.embed_dim)
        text_side.check(self.text, self.embed_dim)
        if self.activation not in ACTIVATIONS:
            raise ConfigError(f"model.activation must be one of {', '.join(ACTIVATIONS)}, not {self.activation!r}")
        if self.logit_bias is not None:
            object.__setattr__(self, "logit_bias", check_number("model.logit_bias", self.logit_bias))
            if text_side.predicts or text_side.images_only:
                raise ConfigError("model.logit_bias belongs to a contrastive model of images and texts")
        if self.num_parameters() > MAX_PARAMETERS:
            raise ConfigError(
                f"a model of {self.num_parameters():,} parameters is above the limit of {MAX_PARAMETERS:,}: "
                f"check vision ({self.vision}) and text ({self.text})"
            )

    def num_parameters(self) -> int:
        """Number of parameters of the whole model, temperature and bias included; nothing is allocated."""
        towers = self.vision.num_parameters(self.embed_dim) + self.text.num_parameters(self.embed_dim)
        side = text_side_of(self.text)
        return towers + (not (side.predicts or side.images_only)) + (self.logit_bias is not None)

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain JSON types.

        Vision has its kind, and so does a text side other than the Transformer. A bias appears only if the model has
        one. A field in a row's `omitted` (such as a ViT's mlp_ratio of 4) is left out, so that older versions read the
        models that they can build.
        """
        result = dataclasses.asdict(self)
        if self.logit_bias is None:
            del result["logit_bias"]
        tower, text_side = tower_of(self.vision), text_side_of(self.text)
        for side, row in (("vision", tower), ("text", text_side)):
            for name, value in row.omitted.items():
                if result[side][name] == value:
                    del result[side][name]
        vision = {key: list(value) if isinstance(value, tuple) else value for key, value in result["vision"].items()}
        text_kind = {} if text_side.kind == _PLAIN else {"kind": text_side.kind}
        return result | {"vision": {"kind": tower.kind} | vision, "text": text_kind | result["text"]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "CLIPConfig":
        """Read what to_dict wrote.

        Raises:
            ConfigError: a key is unknown or missing, a type is wrong, or a size is absurd; the field is named.
        """
        values = _fields(cls, values, "model")
        vision = values.pop("vision")
        row = TOWERS.get(str(vision.get("kind"))) if isinstance(vision, Mapping) else None
        if row is None:
            raise ConfigError(f"model.vision must be an object of kind {' or '.join(TOWERS)}, not {vision!r}")
        tower = _record(row.config, vision, "vision")
        return cls(vision=tower, text=_text_side(values.pop("text", {})), **values)


def _text_side(values: object) -> TextSideConfig:
    """The config of the text side, from its object in config.json."""
    if not isinstance(values, Mapping) or "kind" not in values:
        return _record(TEXT_SIDES[_PLAIN].config, values, "text")
    kinds = [kind for kind in TEXT_SIDES if kind != _PLAIN]
    if str(values["kind"]) not in kinds:
        raise ConfigError(f"model.text.kind must be {' or '.join(kinds)}, or not there, not {values['kind']!r}")
    return _record(TEXT_SIDES[str(values["kind"])].config, values, "text")


def _record(config: type, values: object, owner: str) -> Any:
    """A tower's config, from its object in config.json; the kind is known."""
    if isinstance(values, Mapping):
        values = {key: value for key, value in values.items() if key != "kind"}
    return config(**_fields(config, values, owner))


def _fields(kind: type, values: object, owner: str) -> dict[str, Any]:
    """Check that values is an object with exactly the fields of kind."""
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
