"""ObjectNet's red border, which its authors drew so that nobody trains on the pictures; no measurement should see it.

Source: Barbu et al. (2019); the testbed's and wise-ft's readers cut two pixels off each side, clip-benchmark's copy on
the hub has the border still.
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
_ENOUGH = 100  # of ObjectNet's 113 classes: a set that has them is ObjectNet


def cut(pixels: np.ndarray) -> np.ndarray:
    """uint8 (height, width, 3) without the border -> (height - 4, width - 4, 3)."""
    return np.ascontiguousarray(pixels[BORDER:-BORDER, BORDER:-BORDER])


def is_object_net(class_names: Sequence[str]) -> bool:
    """Whether classes are ObjectNet's, whatever the set is called."""
    return (
        len({plain_name(name) for name in class_names} & {plain_name(name) for name in object_net_names()}) >= _ENOUGH
    )


@dataclasses.dataclass(frozen=True)
class BorderlessSource(WrappedSource):
    """Copies of ObjectNet in other forms, of which some have the border still: where it is there it is cut off."""

    source: Source

    @property
    def fingerprint(self) -> str:
        """The source's own, and that the border is cut off."""
        return hashlib.sha256(f"{self.source.fingerprint} without border".encode()).hexdigest()

    def change(self, item: Sample | Broken, shard: str) -> Sample | Broken:
        """The item without its border; an image that cannot be decoded stays as it is, and is found out later."""
        if isinstance(item, Sample):
            with contextlib.suppress(ImageError):
                pixels = np.asarray(decode_image(item.image))
                if _has_border(pixels):
                    return dataclasses.replace(item, image=cut(pixels))
        return item


def _has_border(pixels: np.ndarray) -> bool:
    """Whether the outermost pixels are red; JPEG may have blurred them."""
    if min(pixels.shape[:2]) <= 2 * BORDER:
        return False
    ring = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]).mean(axis=0)
    return bool(ring[0] > 180 and max(ring[1:]) < 80)
