"""Images that carry a number in their colours, and detectors that read it: the truth of every search is known."""

import hashlib

import numpy as np
import torch

from diptych.data.shards import write_shards
from diptych.overlap.detector import Detector
from diptych.overlap.find import OverlapConfig, find_overlap
from diptych.records import Sample

SIDE = 8


def pixels(number: int) -> np.ndarray:
    """uint8 (8, 8, 3) in one colour, which encodes the number."""
    return np.full((SIDE, SIDE, 3), (number // 65_536, number // 256 % 256, number % 256), np.uint8)


def sample(number: int, key: str | None = None, label: int | None = 0) -> Sample:
    return Sample(f"{number:06d}" if key is None else key, pixels(number), (f"number {number}",), label)


class Knows:
    """A detector whose vectors are equal for equal numbers, and nearly orthogonal otherwise."""

    def __init__(self, name: str = "knows", version: str = "1", dim: int = 64) -> None:
        self.name, self.image_fingerprint, self.dim, self.num_encoded = name, f"{name} {version}", dim, 0

    def encode_images(self, images):
        self.num_encoded += len(images)
        rows = []
        for image in images:
            colour = np.asarray(image)[SIDE // 2, SIDE // 2].tobytes()
            seed = int.from_bytes(hashlib.sha256(colour).digest()[:8], "little")
            rows.append(np.random.default_rng(seed).normal(size=self.dim))
        vectors = torch.tensor(np.array(rows, np.float32)).reshape(len(rows), self.dim)
        return torch.nn.functional.normalize(vectors, dim=1)


def write_set(folder, numbers, split="test", keys=None, shard_size=5000):
    """An evaluation set of two classes in the wds layout."""
    samples = [
        sample(number, None if keys is None else keys[place], number % 2) for place, number in enumerate(numbers)
    ]
    write_shards(samples, folder / split, shard_size)
    (folder / "classnames.txt").write_text("even\nodd\n")
    (folder / "zeroshot_classification_templates.txt").write_text("a {c} number\n")
    return folder


def config(data, *sets, **changes):
    values = {"train": (str(data / "train"),), "out": str(data / "out"), "num_workers": 0}
    values["sets"] = tuple(str(data / name) for name in sets or ("shared", "new"))
    return OverlapConfig(**{**values, **changes})


def find(data, *sets, detector=None, **changes):
    return find_overlap(config(data, *sets, **changes), Detector(detector or Knows()))
