"""Narrow the catalogue, and say which model to take for what. Everything is computed from the table."""

import dataclasses
import re
from collections.abc import Callable, Iterable

from diptych.embed.catalogue.catalogue_model import CatalogueModel
from diptych.embed.catalogue.published import MODELS
from diptych.errors import ConfigError

LICENSES = ("permissive", "any")
_UNITS = {"kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30, "b": 1.0, "": 1.0}
# ViT-B/32, the usual choice without a GPU, needs 8.8; the limits leave room above it and above ViT-B/16 (35).
_FAST, _MEDIUM = 13.0, 60.0  # billion operations for an image
_SMALL = 400e6  # bytes of weights in fp32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Advice:
    """A model for a purpose.

    Attributes:
        purpose: the question of a user.
        rule: how the model is chosen from the table.
        model: the most accurate model under a permissive licence.
        restricted: a more accurate one whose licence forbids some uses; None if there is none.
    """

    purpose: str
    rule: str
    model: CatalogueModel
    restricted: CatalogueModel | None


_PURPOSES: tuple[tuple[str, str, Callable[[CatalogueModel], bool]], ...] = (
    ("no GPU", f"an image takes at most {_FAST:.0f} GFLOPs", lambda row: row.architecture.image_gflops <= _FAST),
    ("little memory", f"weights of at most {_SMALL / 1e6:.0f} MB", lambda row: row.num_bytes <= _SMALL),
    ("a small GPU, or many images", f"an image takes at most {_MEDIUM:.0f} GFLOPs",
     lambda row: row.architecture.image_gflops <= _MEDIUM),
    ("many languages", "texts in more languages than English", lambda row: row.multilingual),
    ("many languages, no GPU", f"both, an image takes at most {_FAST:.0f} GFLOPs",
     lambda row: row.multilingual and row.architecture.image_gflops <= _FAST),
    ("best accuracy", "any size", lambda row: True),
)  # fmt: skip


def choose(
    *,
    fits: float | None = None,
    license: str = "any",
    languages: str | None = None,
    family: str | None = None,
    models: Iterable[CatalogueModel] = MODELS,
) -> list[CatalogueModel]:
    """The models that meet all conditions, in the order of the catalogue.

    Args:
        fits: bytes that the weights may take in fp32.
        license: "permissive" or "any".
        languages: "many" for models that were trained on other languages than English; "English" for the others.
        family: part of a family's name, in any case.
    Raises:
        ConfigError: an argument has another value.
    """
    if license not in LICENSES:
        raise ConfigError(f"license must be one of {', '.join(LICENSES)}, not {license!r}")
    if languages is not None and languages.lower() not in ("many", "english"):
        raise ConfigError(f"languages must be many or English, not {languages!r}")
    return [
        row
        for row in models
        if (fits is None or row.num_bytes <= fits)
        and (license == "any" or row.license.terms == "permissive")
        and (languages is None or row.multilingual == (languages.lower() == "many"))
        and (family is None or family.lower() in row.family.name.lower())
    ]


def advise(models: Iterable[CatalogueModel] = MODELS) -> list[Advice]:
    """For each purpose the model with the highest published ImageNet accuracy that meets its rule."""
    rows = [row for row in models if row.imagenet is not None]
    advice = []
    for purpose, rule, meets in _PURPOSES:
        ranked = sorted(filter(meets, rows), key=lambda row: (-(row.imagenet or 0), row.gflops, row.name))
        free = next((row for row in ranked if row.license.terms == "permissive"), None)
        if free is not None:
            first = ranked[0]
            better = first if (first.imagenet or 0) > (free.imagenet or 0) else None
            advice.append(Advice(purpose=purpose, rule=rule, model=free, restricted=better))
    return advice


def parse_size(text: str) -> float:
    """Bytes of a size such as "2GB" (10^9), "800 MB" or "2GiB" (2^30).

    Raises:
        ConfigError: the text is no size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text.lower())
    if match is None or match[2] not in _UNITS:
        raise ConfigError(f"a size is a number with MB, GB, MiB or GiB, such as 2GB, not {text!r}")
    return float(match[1]) * _UNITS[match[2]]
