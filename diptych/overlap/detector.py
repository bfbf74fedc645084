"""Copy detectors: encoders whose cosine says how likely two images are copies of one photograph."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from diptych.embed.encoder import Encoder
from diptych.embed.loading import Stated, load_path
from diptych.embed.resolver import load
from diptych.overlap.hash_detectors import HASHES, load_hash
from diptych.overlap.image_views import USUAL_VIEWS, seen_in

DEFAULT = "default"
SHIPPED = Path(__file__).parents[1] / "assets" / "copy_detector"


@dataclasses.dataclass(frozen=True)
class Detector:
    """A copy detector: an encoder, and the views of an evaluation image that are searched.

    Attributes:
        encoder: embeds images; the cosine of two embeddings is their score.
        views: names of views (image_views.py), the first "as_it_is"; the largest score counts.
    """

    encoder: Encoder
    views: tuple[str, ...] = USUAL_VIEWS

    @property
    def name(self) -> str:
        """Name of the encoder."""
        return self.encoder.name

    @property
    def encoders(self) -> dict[str, Encoder]:
        """The encoders of evaluation images, by the name of the view."""
        return {view: seen_in(view, self.encoder) for view in self.views}


def load_detector(
    name: str | Path = DEFAULT, device: str | torch.device | None = None, *, views: Sequence[str] = USUAL_VIEWS
) -> Detector:
    """Load a copy detector.

    Args:
        name: "default", the detector that comes with Diptych; "pdq" or "phash", hashes of images (extra: overlap); or
            any model that `diptych.load` takes.
        device: as in `diptych.load`.
        views: see Detector.
    Raises:
        WeightsError: there is no such model.
        ConfigError: a library is missing.
    """
    encoder: Any
    if name == DEFAULT:
        encoder = load_path(SHIPPED, SHIPPED, device, "fp32", Stated())
    elif name in HASHES:
        encoder = load_hash(str(name))
    else:
        encoder = load(name, device)
    return Detector(encoder, tuple(views))
