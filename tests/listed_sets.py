"""A set whose samples are in memory, and an encoder that counts the images that it encodes."""

import dataclasses

import numpy as np
import torch
from pictures import noise

from diptych.data.source import Source
from diptych.evalsets.benchmark import Benchmark
from diptych.records import Sample


@dataclasses.dataclass(frozen=True)
class Listed(Source):
    items: tuple
    fingerprint: str = "pictures"
    shards: tuple[str, ...] = ("memory",)

    def read(self, index):
        yield from self.items


def pictures(n=7, mark="pictures"):
    items = [
        Sample(f"p{i}", np.asarray(noise(40, 30, i)), (f"text {i}",) * (i % 3), i % 2, {"place": i} if i else {})
        for i in range(n)
    ]
    return Benchmark("set", "test", ("cat", "dog"), ("a {c}",), Listed(tuple(items), mark), mark)


class Counting:
    """An image encoder that counts what it encodes."""

    name = "mean colour"

    def __init__(self, mark="one"):
        self.image_fingerprint, self.calls = mark, 0

    def encode_images(self, images):
        self.calls += len(images)
        means = torch.tensor(np.stack([np.asarray(one, np.float32).mean(axis=(0, 1)) for one in images]))
        return torch.nn.functional.normalize(means, dim=1)


@dataclasses.dataclass(frozen=True)
class Nothing(Source):
    fingerprint: str = "nothing"
    shards: tuple[str, ...] = ()

    def read(self, index):
        yield Sample("", None, (), 0, {})
