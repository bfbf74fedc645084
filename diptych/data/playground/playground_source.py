"""The playground as a Source: sample i depends only on (seed, split, i), so any worker can make any sample."""

import dataclasses
import hashlib
import random
from collections.abc import Iterator

from diptych.data.playground.render import render
from diptych.data.playground.scene import draw_kind, draw_scene, facts
from diptych.data.playground.scene_captions import captions
from diptych.data.playground.scene_vocabulary import KINDS, SPLITS
from diptych.data.source import Source
from diptych.errors import ConfigError
from diptych.records import Sample

# Part of every fingerprint: increase it whenever a change alters pixels or captions.
VERSION = 2
SIZES_ALLOWED = (32, 512)


def make_sample(seed: int, split: str, index: int, size: int = 64, kinds: tuple[str, ...] | None = None) -> Sample:
    """Make one captioned scene.

    Args:
        seed, split, index: determine the sample; two splits never share a random stream.
        size: side of the image in pixels; the scene is the same at every size.
        kinds: draw uniformly from these kinds; None draws from all kinds by their weights.
    Returns:
        Sample: image uint8 (size, size, 3), one to three captions, and the facts of the scene as metadata.
    """
    rng = stream(seed, split, index)
    scene = draw_scene(rng, draw_kind(rng, kinds), split)
    return Sample(f"{split}-{index:08d}", render(scene, size), captions(scene, rng), metadata=facts(scene))


def stream(seed: int, *names: str | int) -> random.Random:
    """Return the random generator for a seed and a sequence of names."""
    text = "/".join(map(str, (seed, *names)))
    return random.Random(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big"))


@dataclasses.dataclass(frozen=True)
class Playground(Source):
    """A seeded source of captioned scenes (see docs/playground.md).

    Attributes:
        num_samples: number of pairs.
        seed: a different seed gives different pairs.
        size: side of the images in pixels, 32 to 512.
        split: "train", "validation" or "test"; handwritten digits are split by image.
        shard_size: pairs per shard.
        kinds: names from KINDS, drawn uniformly; None draws from all kinds by KIND_WEIGHTS.
    Raises:
        ConfigError: an unknown split or kind, or a number out of range.
    """

    num_samples: int = dataclasses.field()  # without `field`, Source.num_samples would be the default
    seed: int = 0
    size: int = 64
    split: str = "train"
    shard_size: int = 1000
    kinds: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_arguments(self.size, self.split)
        if self.num_samples < 1 or self.shard_size < 1:
            raise ConfigError(
                f"Playground: num_samples={self.num_samples} and shard_size={self.shard_size} must be at least 1"
            )
        unknown = sorted(set(self.kinds or ()) - set(KINDS))
        if unknown or self.kinds == ():
            raise ConfigError(f"Playground: kinds={self.kinds} must be None or some of {', '.join(KINDS)}")

    def __len__(self) -> int:
        return self.num_samples

    @property
    def shards(self) -> tuple[str, ...]:
        """Names of the shards, in a fixed order."""
        number = -(-self.num_samples // self.shard_size)
        return tuple(f"playground-{self.split}-{index:05d}" for index in range(number))

    @property
    def fingerprint(self) -> str:
        """A short hash of everything that determines the pairs and their order."""
        return fingerprint("playground", *dataclasses.astuple(self))

    def read(self, index: int) -> Iterator[Sample]:
        """Yield the samples of a shard in a fixed order."""
        start = index * self.shard_size
        for number in range(start, min(start + self.shard_size, self.num_samples)):
            yield make_sample(self.seed, self.split, number, self.size, self.kinds)


def check_arguments(size: int, split: str) -> None:
    """Raise ConfigError if the image size is out of range or the split is unknown."""
    if not SIZES_ALLOWED[0] <= size <= SIZES_ALLOWED[1]:
        raise ConfigError(f"playground: size={size} must be between {SIZES_ALLOWED[0]} and {SIZES_ALLOWED[1]} pixels")
    if split not in SPLITS:
        raise ConfigError(f"playground: split={split!r} must be one of {', '.join(SPLITS)}")


def fingerprint(*values: object) -> str:
    """Return a short hash of the values (by their repr) and of the playground's version."""
    return hashlib.blake2b(repr((VERSION, *values)).encode(), digest_size=8).hexdigest()
