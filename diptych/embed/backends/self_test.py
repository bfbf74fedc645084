"""The inputs on which a back end must agree with fp32 torch before it is used, and the agreement."""

import numpy as np

from diptych.errors import InputError

LEAST_COSINE = 0.999
"""The worst cosine with fp32 torch's vectors at which a back end may be used."""
NUM_PROBES = 16
PROBE_TEXTS = (
    "a photo of a cat.",
    "a photo of a dog.",
    "Two children play football on a wet beach at sunset, and a man with a red umbrella watches them.",
    "a",
    "satellite photo of permanent crop land",
    "the number 7",
    "ein Foto von einem Fahrrad",
    "a photo of the person's café: ☕ & 🍰!",
    "x" * 60,
    "aerial view of an industrial area; many grey roofs, three chimneys, a river and a railway line with a long train",
    "",
    "THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG",
    "no",
    "a low resolution photo of the 1998 Nissan 240SX Coupe",
    "3.14159 2.71828 1.41421",
    "a painting in the style of cubism, oil on canvas",
)


def probe_pixels(size: int) -> np.ndarray:
    """NUM_PROBES images, uint8 (N, 3, size, size), the same everywhere: smooth scenes, edges, noise, flat ones."""
    random = np.random.default_rng(20210226)
    y, x = np.meshgrid(*[np.linspace(0, 1, size)] * 2, indexing="ij")
    images = np.empty((NUM_PROBES, 3, size, size))
    for number in range(NUM_PROBES):
        waves = random.normal(size=(3, 6, 3)) * np.array([1, 9, 9])
        for channel in range(3):
            images[number, channel] = sum(
                weight * np.sin(across * x + down * y + shift)
                for shift, (weight, across, down) in enumerate(waves[channel])
            )
        if number % 4 == 1:  # edges
            images[number] = np.sign(images[number])
        if number % 4 == 2:
            images[number] += random.normal(size=images[number].shape)
    images = 127.5 + 60 * images
    images[3], images[7], images[11] = 0, 255, images[11] / 20  # black, white, dark
    return images.clip(0, 255).astype(np.uint8)


def worst_cosine(vectors: np.ndarray, reference: np.ndarray, what: str) -> float:
    """The lowest cosine of a row of vectors (N, E) with the same row of the reference (N, E).

    Raises:
        InputError: a reference vector is not finite: the model itself is broken.
    """
    if not np.isfinite(reference).all():
        raise InputError(f"the model gives vectors of {what} that are not finite; check its weights")
    vectors, reference = vectors.astype(np.float64), reference.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(reference, axis=1)
        cosines = (vectors * reference).sum(axis=1) / norms
    return float(np.nan_to_num(cosines, nan=-1.0).min())
