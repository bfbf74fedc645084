"""Render docs/orange.jpg, the picture that the README classifies: a lit sphere with the pores of a peel, on a table.

python docs/make_orange.py
"""

from pathlib import Path

import numpy as np
from PIL import Image

PICTURE = Path(__file__).with_name("orange.jpg")
SIZE = 256
_SIDE = 2 * SIZE  # rendered at twice the size, so that edges come out smooth
_LIGHT = np.array([-0.5, -0.65, 0.6]) / np.linalg.norm([-0.5, -0.65, 0.6])


def render() -> Image.Image:
    """The picture; the same at every call."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:_SIDE, 0:_SIDE] / _SIDE

    def noise(grain: int) -> np.ndarray:
        """Random values from -0.5 to 0.5, smooth over so many pixels."""
        small = Image.fromarray((rng.random((_SIDE // grain, _SIDE // grain)) * 255).astype("uint8"))
        return np.asarray(small.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)) / 255 - 0.5

    wall = np.stack([0.72 - 0.1 * y, 0.76 - 0.1 * y, 0.70 - 0.1 * y], -1)
    grain = 0.03 * np.sin(40 * (y + 0.1 * noise(60))) + 0.04 * noise(6)
    table = np.stack([0.45 + 0.25 * y + grain, 0.30 + 0.18 * y + grain, 0.18 + 0.12 * y + grain], -1)
    shadow = np.exp(-((((x - 0.58) / 0.33) ** 2 + ((y - 0.81) / 0.07) ** 2) ** 1.2)) * (y > 0.55)
    ground = np.where((y > 0.62)[..., None], table, wall) * (1 - 0.65 * shadow[..., None])

    u, v = (x - 0.5) / 0.3, (y - 0.52) / 0.3  # the sphere's own coordinates
    depth = np.sqrt(np.clip(1 - u * u - v * v, 0, 1))
    pores = 0.22 * noise(7) + 0.12 * noise(4)
    normal = np.stack([u + 0.6 * pores, v + 0.12 * noise(7), depth], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-6
    half = _LIGHT + np.array([0, 0, 1])
    matt = np.clip(normal @ _LIGHT, 0, 1)[..., None]
    shine = np.clip(normal @ (half / np.linalg.norm(half)), 0, 1)[..., None] ** 28
    peel = np.stack([np.full_like(u, 0.98), 0.53 + 0.06 * noise(40), 0.05 + 0.02 * noise(40)], -1)
    stem = 0.75 * np.exp(-(((u + 0.05) / 0.07) ** 2 + ((v + 0.72) / 0.045) ** 2))[..., None]
    orange = (peel * (0.28 + 0.85 * matt) + 0.38 * shine) * (1 - stem) + np.array([0.2, 0.3, 0.1]) * stem

    pixels = np.where((u * u + v * v < 1)[..., None], orange, ground)
    large = Image.fromarray((np.clip(pixels, 0, 1) * 255).astype("uint8"))
    return large.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    render().save(PICTURE, quality=88)
