"""A source in memory and short ways to load from it, for the tests of the loader."""

import dataclasses
import functools
import io
import itertools
import threading
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image

from diptych.data.loader import Loader, LoaderConfig
from diptych.data.source import Source
from diptych.data.tokenizer import Tokenizer
from diptych.data.transforms import Augmentation, Preprocessing
from diptych.records import Broken, Sample

PREPROCESSING = Preprocessing(8)
AUGMENTATION = Augmentation(rescale=(0.5, 1.0), flip=0.5, colour=0.2)


def picture(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (10, 14, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@dataclasses.dataclass
class Shards(Source):
    """A source in memory that records what is read from it."""

    contents: list[list[Sample | Broken]]
    fingerprint: str = "shards"
    shards = ()

    def __post_init__(self) -> None:
        self.shards = [f"{i}.tar" for i in range(len(self.contents))]
        self.taken = [0] * len(self.contents)

    def read(self, index: int) -> Iterator[Sample | Broken]:
        for item in self.contents[index]:
            self.taken[index] += 1
            yield item


def make(sizes: list[int], broken_every: int = 0, **more: object) -> Shards:
    """Shards of images with three captions each. Every n-th image is broken, in one of three ways."""
    contents: list[list[Sample | Broken]] = []
    number = itertools.count()
    for shard, size in enumerate(sizes):
        items: list[Sample | Broken] = []
        for _ in range(size):
            n = next(number)
            key, texts = f"k{n}", (f"a photo {n}", f"one more picture {n}", f"{n}")
            if broken_every and n % broken_every == 1:
                kind = n // broken_every % 3
                if kind == 0:
                    items.append(Broken(key, f"{shard}.tar", "caption is not UTF-8"))
                else:
                    items.append(
                        Sample(key, picture(n)[:200] if kind == 1 else picture(n), texts if kind == 1 else (" ",))
                    )
            else:
                items.append(Sample(key, picture(n), texts, label=n % 5, metadata={"n": n}))
        contents.append(items)
    return Shards(contents, **more)


@functools.cache
def small_tokenizer() -> Tokenizer:
    """A tokenizer trained on a few words."""
    return Tokenizer.train(["a photo 1 2 3 4 5 6 7 8 9 0", "one more picture"] * 3, vocab_size=560, context_length=16)


def config(**changes: object) -> LoaderConfig:
    """A small configuration, with one lane unless the test sets another number."""
    values = {"global_batch_size": 7, "shuffle_buffer": 10, "num_workers": 0, "max_broken": 0.5, "chunk_size": 4}
    return LoaderConfig(**{**values, "lanes": 1, **changes})


def take(loader: Loader, count: int) -> list:
    """`count` batches, and the state before the first and after each."""
    states, batches = [loader.state_dict()], []
    for batch in itertools.islice(loader, count):
        batches.append(batch)
        states.append(loader.state_dict())
    return [batches, states]


def assert_equal(ours: list, theirs: list) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys == b.keys
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.tokens, b.tokens) and torch.equal(a.lengths, b.lengths)


def keys(batches: list) -> list[str]:
    return [key for batch in batches for key in batch.keys]


def reader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "diptych-reader"]
