"""Images for the tests, made on demand."""

import io

import numpy as np
from PIL import Image


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """A smooth random image; pure noise would make all resize methods look alike."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (max(2, height // 8), max(2, width // 8), 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def painting(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """Noise of several scales: corners and edges everywhere, none of them repeated."""
    layers = [np.asarray(noise(*size, seed=seed)).astype(np.float64)]
    layers.append(np.asarray(noise(size[0] // 3, size[1] // 3, seed + 1000).resize(size, Image.Resampling.NEAREST)))
    return Image.fromarray(np.mean(layers, axis=0).astype(np.uint8))


def encoded(picture: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def gradient(width: int, height: int) -> Image.Image:
    """Red is the column, green is the row."""
    columns, rows = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([columns, rows, np.zeros_like(rows)], axis=2).astype(np.uint8))
