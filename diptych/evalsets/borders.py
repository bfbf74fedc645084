"""ObjectNet's red border. Its authors drew it to mark images that nobody should train on; it is cut before evaluation.

Source: Barbu et al. (2019). The readers of imagenet-testbed and wise-ft cut two pixels off each side; clip-benchmark's
copy on the hub still has the border.
"""

import contextlib
import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

from diptych.data.decoding import decode_image
from diptych.data.source import Source, WrappedSource
from diptych.errors import ImageError
from diptych.evalsets.imagenet_classes import object_net_names
from diptych.evalsets.prompts import plain_name
from diptych.records import Broken, Sample

BORDER = 2
"""Pixels."""
_MIN_SHARED = 100  # a set with this many of ObjectNet's 113 classes is ObjectNet


def cut(pixels: np.ndarray) -> np.ndarray:
    """Cut the border: uint8 (height, width, 3) -> uint8 (height - 4, width - 4, 3)."""
    return np.ascontiguousarray(pixels[BORDER:-BORDER, BORDER:-BORDER])


def is_object_net(class_names: Sequence[str]) -> bool:
    """Whether classes are ObjectNet's. The name of the set is not used."""
    shared = {plain_name(name) for name in class_names} & {plain_name(name) for name in object_net_names()}
    return len(shared) >= _MIN_SHARED


@dataclasses.dataclass(frozen=True)
class BorderlessSource(WrappedSource):
    """A copy of ObjectNet in another form. Some copies still have the border; if an image has it, it is cut off."""

    source: Source

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the source's fingerprint and the fact that the border is cut off."""
        return hashlib.sha256(f"{self.source.fingerprint} without border".encode()).hexdigest()

    def change(self, item: Sample | Broken, shard: str) -> Sample | Broken:
        """The item without its border. An image that cannot be decoded is left unchanged; the consumer reports it."""
        if isinstance(item, Sample):
            with contextlib.suppress(ImageError):
                pixels = np.asarray(decode_image(item.image))
                if _has_border(pixels):
                    return dataclasses.replace(item, image=cut(pixels))
        return item


def _has_border(pixels: np.ndarray) -> bool:
    """Whether the outermost pixels are red, with tolerance for JPEG artifacts."""
    if min(pixels.shape[:2]) <= 2 * BORDER:
        return False
    ring = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]).mean(axis=0)
    return bool(ring[0] > 180 and max(ring[1:]) < 80)
