"""The stages of a check, and how much two models may differ in each of them.

This module does not import torch, so that the command line can print the tolerances in its help.
"""

import dataclasses
from collections.abc import Mapping

from diptych.errors import ConfigError

DECODED, PIXELS, TOKENS, FEATURES = "decoded pixels", "preprocessed pixels", "tokens", "features"
IMAGES, TEXTS, PROBABILITIES = "image embeddings", "text embeddings", "probabilities"
STAGES = (DECODED, PIXELS, TOKENS, FEATURES, IMAGES, TEXTS, PROBABILITIES)
"""In the order in which a difference arises."""


@dataclasses.dataclass(frozen=True)
class Limit:
    """How much one item of a stage may differ.

    Attributes:
        relative: largest absolute difference, as a share of the largest absolute value of the stage in the reference.
        cosine: smallest cosine between an item and the same item of the reference; None where it is not asked.
    """

    relative: float
    cosine: float | None = None

    def __str__(self) -> str:
        if not self.relative:
            return "exact"
        return f"{self.relative:g}" + ("" if self.cosine is None else f", cos {self.cosine:.6g}")


_TOWERS = {
    "fp32": Limit(1e-5, 0.999999),
    "fp16": Limit(1e-2, 0.999),
    "bf16": Limit(5e-2, 0.999),
    "int8": Limit(1e-1, 0.999),
}
_PIXELS_LIMIT, _PROBABILITIES_LIMIT = Limit(1e-5), Limit(1e-5)
PRECISIONS = tuple(_TOWERS)


def limits(precision: str) -> Mapping[str, Limit]:
    """The limit of each stage.

    Files, preprocessing, tokens and the logit scale do not depend on the precision of the towers: they are compared as
    in fp32.

    Args:
        precision: the one that the model computes in, one of PRECISIONS.
    Raises:
        ConfigError: there is no such precision.
    """
    if precision not in _TOWERS:
        raise ConfigError(f"no tolerance is stated for the precision {precision!r}, only for {', '.join(_TOWERS)}")
    towers = _TOWERS[precision]
    return {
        DECODED: Limit(0),
        PIXELS: _PIXELS_LIMIT,
        TOKENS: Limit(0),
        FEATURES: towers,
        IMAGES: towers,
        TEXTS: towers,
        PROBABILITIES: _PROBABILITIES_LIMIT,
    }


def tolerances_sentence() -> str:
    """All tolerances in words, for the help."""
    towers = "; ".join(f"{precision} {limit}" for precision, limit in _TOWERS.items())
    return (
        "Tolerances: decoded pixels and tokens are equal exactly; preprocessed pixels and probabilities within "
        f"{_PIXELS_LIMIT} of the largest value; features and embeddings by the precision: {towers}."
    )
