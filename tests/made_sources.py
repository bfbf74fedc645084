"""A source of generated images, some of them broken, and an encoder of means, for tests of stores."""

import numpy as np
import torch

from diptych.data.source import Source
from diptych.records import Broken, Sample


class Noise(Source):
    """Shards of some images each; of every seven items one is broken."""

    shards, fingerprint = (), ""

    def __init__(self, num_shards=5, per_shard=50, name="noise"):
        self.shards = tuple(map(str, range(num_shards)))
        self.fingerprint, self.per_shard = f"{name} {num_shards} {per_shard}", per_shard

    def read(self, index):
        rng = np.random.default_rng(index)
        for number in range(self.per_shard + index):
            pixels = rng.integers(256, size=(8, 8, 3), dtype=np.uint8)
            key = f"{index}/{number} ä"
            if number % 7 == 3:
                yield Broken(key, str(index), "made so")
            else:
                label = number if number % 5 else None
                yield Sample(key, pixels, ("hi",) * (number % 3), label, {"n": number} if number % 2 else {})


class Means:
    """Vectors of 48 numbers: the image in 4 x 4 pixels."""

    name = "means"

    def __init__(self, mark="means"):
        self.image_fingerprint, self.calls = mark, 0

    def encode_images(self, images):
        self.calls += len(images)
        pixels = np.stack([np.asarray(one.resize((4, 4)), np.float32).reshape(-1) for one in images])
        return torch.nn.functional.normalize(torch.tensor(pixels) + 1, dim=1)


def digests(store):
    """All that a store holds, shard by shard."""
    return [(shard.folder.name, shard.num_rows, shard.num_items, dict(shard.digests)) for shard in store.shards]
