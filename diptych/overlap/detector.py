"""Copy detectors: encoders whose cosine says how likely two images are copies of one photograph."""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import ImageOps

from diptych.data.decoding import decode_image
from diptych.embed.about import About, about
from diptych.embed.encoder import Encoder, ImageInput
from diptych.embed.engine import PixelEncoder
from diptych.embed.loading import Stated, load_path
from diptych.embed.resolver import load
from diptych.errors import ImageError
from diptych.overlap.hash_detectors import HASHES, load_hash

DEFAULT = "default"
SHIPPED = Path(__file__).parents[1] / "assets" / "copy_detector"


@dataclasses.dataclass(frozen=True)
class Detector:
    """A copy detector: an encoder, and the views of an evaluation image that are searched.

    Attributes:
        encoder: embeds images; the cosine of two embeddings is their score.
        mirrored: also search the mirror image of each evaluation image, because a detector that was not trained on
            mirror images misses them; the larger score counts.
    """

    encoder: Encoder
    mirrored: bool = True

    @property
    def name(self) -> str:
        """Name of the encoder."""
        return self.encoder.name

    @property
    def views(self) -> dict[str, Encoder]:
        """The encoders of evaluation images, by the name of the view."""
        views: dict[str, Encoder] = {"as_it_is": self.encoder}
        return {**views, "mirrored": mirrored(self.encoder)} if self.mirrored else views


def load_detector(
    name: str | Path = DEFAULT, device: str | torch.device | None = None, *, mirrored: bool = True
) -> Detector:
    """Load a copy detector.

    Args:
        name: "default", the detector that comes with Diptych; "pdq" or "phash", hashes of images (extra: overlap); or
            any model that `diptych.load` takes.
        device: as in `diptych.load`.
        mirrored: see Detector.
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
    return Detector(encoder, mirrored)


def mirrored(encoder: Encoder) -> Encoder:
    """An encoder of the mirror image (left and right exchanged) of each image."""
    return _MirroredPixels(encoder) if isinstance(encoder, PixelEncoder) else _Mirrored(encoder)


class _Mirrored:
    """Mirrors images and then encodes them."""

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder
        self.name = f"{encoder.name} (mirrored)"

    @property
    def about(self) -> About:
        """The encoder's record, with a fingerprint of its own."""
        record = about(self._encoder)
        if record.image_fingerprint is None:
            return record
        fingerprint = hashlib.sha256(f"mirrored {record.image_fingerprint}".encode()).hexdigest()
        return dataclasses.replace(record, image_fingerprint=fingerprint)

    def encode_images(self, images: Iterable[ImageInput], /, **options: Any) -> torch.Tensor:
        """N images -> (N, E) float32 on the CPU, unit norm."""
        return self._encoder.encode_images([_mirror(image) for image in images], **options)

    def encode_texts(self, texts: Sequence[str], /) -> torch.Tensor:
        """As the encoder does: texts have no mirror image."""
        return self._encoder.encode_texts(texts)


class _MirroredPixels(_Mirrored):
    """Mirrors pixels that worker processes have prepared, which costs nothing."""

    @property
    def preprocessing(self) -> Any:
        """The encoder's."""
        return self._encoder.preprocessing

    def encode_pixels(self, images: torch.Tensor, /) -> torch.Tensor:
        """uint8 (N, 3, R, R) -> (N, E) float32, unit norm."""
        return self._encoder.encode_pixels(images.flip(-1))


def _mirror(image: ImageInput) -> ImageInput:
    """The mirror image; an image that cannot be decoded as it is, for the encoder to refuse."""
    try:
        return ImageOps.mirror(decode_image(image))
    except ImageError:
        return image
