"""Perceptual hashes as copy detectors: PDQ and pHash, each an Encoder of images.

A hash of B bits becomes a vector of +-1/sqrt(B), so that the cosine of two vectors is 1 - 2 * hamming / B: embedding,
storing and exact search work as with any other encoder. The default of imagehash's documentation, a distance of up to
10 of 64 bits, is a cosine of 0.6875; PDQ's, 31 of 256 bits, is 0.758.

A blank image has no structure that a hash could describe: its bits are rounding errors, or the same for all blank
images.

Source: PDQ, Meta's ThreatExchange, through pdqhash; pHash, through imagehash.
"""

import importlib
import importlib.metadata
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from diptych.embed.about import About
from diptych.embed.encoder import ImageInput
from diptych.embed.image_batches import OnError, embed_pictures
from diptych.errors import ConfigError, InputError

_BATCH = 64


class HashDetector:
    """An Encoder whose vectors are the bits of a hash.

    Attributes:
        name: name of the detector in results.
        num_bits: width of a vector.
        image_fingerprint: the hash, its library and the versions that its bits depend on.
        about: what evaluation and search ask an encoder for.
    """

    def __init__(self, name: str, package: str, num_bits: int, bits: Callable[[Image.Image], np.ndarray]) -> None:
        """Wrap a hash function.

        Args:
            name: name of the hash.
            package: the library's distribution, whose version marks the vectors.
            num_bits: length of the hash.
            bits: an RGB image -> bool (num_bits,).
        """
        self.name, self.num_bits, self._bits = name, num_bits, bits
        versions = (
            f"{package} {importlib.metadata.version(package)}, pillow {Image.__version__}, numpy {np.__version__}"
        )
        self.image_fingerprint = f"{name} of {num_bits} bits, {versions}"
        self.about = About(no_texts="is a hash of images", image_fingerprint=self.image_fingerprint, device="cpu")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.image_fingerprint!r})"

    def encode_images(self, images: Iterable[ImageInput], /, *, on_error: OnError = "raise") -> torch.Tensor:
        """N images -> (N, num_bits) float32, unit norm; `on_error` as in Model.encode_images."""
        return embed_pictures(images, self._prepare, lambda rows: rows, batch_size=_BATCH, on_error=on_error)

    def encode_texts(self, texts: Sequence[str], /) -> torch.Tensor:
        """Always raises.

        Raises:
            InputError: a hash describes images only.
        """
        raise InputError(f"{self.name} is a hash of images; it encodes no texts")

    def _prepare(self, image: Image.Image) -> torch.Tensor:
        signs = np.where(self._bits(image), np.float32(1), np.float32(-1))
        return torch.from_numpy(signs / np.float32(math.sqrt(self.num_bits)))


def load_hash(name: str) -> HashDetector:
    """A hash detector by its name.

    Args:
        name: "pdq" (256 bits) or "phash" (64 bits).
    Raises:
        ConfigError: there is no such hash, or its library is not installed.
    """
    if name == "pdq":
        pdqhash = _library("pdqhash")
        return HashDetector(name, "pdqhash", 256, lambda image: pdqhash.compute(np.asarray(image))[0] > 0)
    if name == "phash":
        imagehash = _library("imagehash")
        return HashDetector(name, "imagehash", 64, lambda image: imagehash.phash(image).hash.ravel())
    raise ConfigError(f"there is no hash detector {name!r}; there are: {', '.join(HASHES)}")


def _library(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(f"this detector needs {module}: pip install 'diptych[overlap]' ({error})") from error


HASHES = ("pdq", "phash")
"""Names that `load_hash` knows."""
