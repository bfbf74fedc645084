"""Zero-shot tasks on the playground: each image has one correct name among the candidates.

Images have the distribution of the training scenes of their kind, but come from random streams that no training sample
uses. Only the held-out tasks show combinations that never occur in training. Templates resemble the captions without
copying them, and written words are quoted (the paper's prompts and ensembles, section 3.1.4).
"""

import dataclasses
import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

from diptych.data.playground.render import render
from diptych.data.playground.scene import (
    Scene,
    count_scene,
    draw_scene,
    facts,
    relation_scene,
    single_scene,
    word_scene,
)
from diptych.data.playground.source import check_arguments, fingerprint, stream
from diptych.data.playground.vocabulary import (
    ALL_PAIRS,
    COLOURS,
    COUNTS,
    HELD_OUT_COUNTS,
    HELD_OUT_PAIRS,
    NUMBERS,
    POSITIONS,
    RELATIONS,
    SHAPES,
    WORDS,
    plural,
    with_article,
)
from diptych.data.source import Source
from diptych.errors import ConfigError
from diptych.evalsets.benchmark import Benchmark
from diptych.records import Sample

SHARD_SIZE = 1000

NOUN_TEMPLATES = (
    *("a {c}.", "a picture of a {c}.", "an image of a {c}.", "an image showing a {c}"),
    *("there is a {c} here", "a drawing of a {c}.", "this is a {c}."),
)
COLOUR_TEMPLATES = (
    *("a {c} shape.", "a picture of a {c} shape.", "an image showing a {c} object", "a {c} thing"),
    *("there is a {c} shape here", "a drawing of a {c} object.", "this is a {c} shape."),
)
COUNT_TEMPLATES = ("{c}.", "a picture of {c}.", "an image of {c}.", "an image showing {c}", "it shows {c}.", "just {c}")
POSITION_TEMPLATES = (
    *("a shape at the {c}.", "a picture of a shape at the {c}.", "an object at the {c}", "at the {c}, a shape"),
    *("there is a shape at the {c}", "a thing at the {c}.", "an image of an object at the {c}."),
)
WORD_TEMPLATES = (
    *('the word "{c}".', "the word {c}", 'a picture of the word "{c}".', "the written word {c}"),
    *('text that says "{c}"', "the text {c}", "an image of the word {c}."),
)
DIGIT_TEMPLATES = (
    *("a handwritten digit {c}.", "a handwritten {c}", "the digit {c} written by hand", "the handwritten number {c}"),
    *("the number {c} written by hand.", "a picture of a handwritten {c}.", "an image of the digit {c}."),
)

# Ordered pairs that occur in training. Each occurs with four relations, so the objects alone do not give the answer.
RELATION_PAIRS = (
    (("red", "circle"), ("blue", "square")),
    (("green", "star"), ("yellow", "triangle")),
    (("purple", "heart"), ("orange", "moon")),
    (("pink", "cross"), ("cyan", "ring")),
    (("yellow", "square"), ("purple", "circle")),
    (("blue", "star"), ("green", "heart")),
)
_HELD_OUT_PAIRS = tuple(pair for pair in ALL_PAIRS if pair in HELD_OUT_PAIRS)
_HELD_OUT_COUNTS = tuple(sorted(HELD_OUT_COUNTS))
_COUNT_CANDIDATES = tuple((count, *pair) for pair in sorted({t[1:] for t in HELD_OUT_COUNTS}) for count in COUNTS)


class Task(NamedTuple):
    """A task: its candidates, its templates, and the function that draws sample `index` of a split and its label."""

    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    draw: Callable[[random.Random, int, str], tuple[Scene, int]]


@dataclasses.dataclass(frozen=True)
class TaskSource(Source):
    """The labeled images of one task, a Source; the attributes are those of `playground_tasks`."""

    task: str
    num_samples: int = dataclasses.field()  # otherwise Source.num_samples would become its default value
    seed: int
    size: int
    split: str

    def __len__(self) -> int:
        return self.num_samples

    @property
    def shards(self) -> tuple[str, ...]:
        """Names of the shards, in their fixed order."""
        number = -(-self.num_samples // SHARD_SIZE)
        return tuple(f"{self.task}-{self.split}-{index:05d}" for index in range(number))

    @property
    def fingerprint(self) -> str:
        """A short hash of everything that determines the images and labels."""
        return fingerprint("task", *dataclasses.astuple(self))

    def read(self, index: int) -> Iterator[Sample]:
        """Yield the labeled images of a shard in their fixed order."""
        start = index * SHARD_SIZE
        for number in range(start, min(start + SHARD_SIZE, self.num_samples)):
            rng = stream(self.seed, "task", self.task, self.split, number)
            scene, label = TASKS[self.task].draw(rng, number, self.split)
            key = f"{self.task}-{self.split}-{number:06d}"
            yield Sample(key, render(scene, self.size), label=label, metadata=facts(scene))


def playground_tasks(seed: int = 0, size: int = 64, num_samples: int = 1000, split: str = "test") -> list[Benchmark]:
    """Return the zero-shot tasks of the playground, in the order of `TASKS`.

    Args:
        seed: of the images; the tasks do not depend on it.
        size: width and height of the images in pixels, as in training.
        num_samples: images per task.
        split: "test", or "validation" for choices made during development. The two use different handwritten digits.
    Raises:
        ConfigError: the split is unknown, or a number is out of range.
    """
    check_arguments(size, split)
    if num_samples < 1:
        raise ConfigError(f"playground_tasks: num_samples={num_samples} must be at least 1")
    benchmarks = []
    for name, task in TASKS.items():
        source = TaskSource(name, num_samples, seed, size, split)
        digest = fingerprint(source.fingerprint, task.class_names, task.templates)
        benchmarks.append(Benchmark(name, split, task.class_names, task.templates, source, digest, whole=True))
    return benchmarks


def _shape(rng: random.Random, index: int, split: str) -> tuple[Scene, int]:
    scene = draw_scene(rng, "single", split)
    return scene, SHAPES.index(scene.things[0].shape)


def _colour(rng: random.Random, index: int, split: str) -> tuple[Scene, int]:
    scene = draw_scene(rng, "single", split)
    return scene, tuple(COLOURS).index(scene.things[0].colour)


def _count(rng: random.Random, index: int, split: str) -> tuple[Scene, int]:
    scene = draw_scene(rng, "count", split)
    return scene, COUNTS.index(len(scene.things))


def _position(rng: random.Random, index: int, split: str) -> tuple[Scene, int]:
    scene = draw_scene(rng, "single", split)
    return scene, POSITIONS.index(scene.position)


def _relation(rng: random.Random, index: int, split: str) -> tuple[Scene, int]:
    label = index % (len(RELATION_PAIRS) * len(RELATIONS))
    first, second = RELATION_PAIRS[label // len(RELATIONS)]
    return relation_scene(rng, first, second, RELATIONS[label % len(RELATIONS)]), label


def _word(rng: random.Random, index: int, split: str) -> tuple[Scene, int]:
    label = index % len(WORDS)
    return word_scene(rng, WORDS[label]), label


def _digit(rng: random.Random, index: int, split: str) -> tuple[Scene, int]:
    scene = draw_scene(rng, "digit", split)
    assert scene.digit is not None
    return scene, scene.digit


def _held_out_colour_shape(rng: random.Random, index: int, split: str) -> tuple[Scene, int]:
    pair = _HELD_OUT_PAIRS[index % len(_HELD_OUT_PAIRS)]
    return single_scene(rng, *pair), ALL_PAIRS.index(pair)


def _held_out_count(rng: random.Random, index: int, split: str) -> tuple[Scene, int]:
    triple = _HELD_OUT_COUNTS[index % len(_HELD_OUT_COUNTS)]
    return count_scene(rng, *triple), _COUNT_CANDIDATES.index(triple)


def _counted(count: int, colour: str, shape: str) -> str:
    return f"{NUMBERS[count]} {colour} {shape if count == 1 else plural(shape)}"


_RELATION_NAMES = tuple(
    f"{' '.join(first)} {relation} {with_article(' '.join(second))}"
    for first, second in RELATION_PAIRS
    for relation in RELATIONS
)
_COUNT_NAMES = tuple(f"{NUMBERS[count]} {'shape' if count == 1 else 'shapes'}" for count in COUNTS)
_PAIR_NAMES = tuple(" ".join(pair) for pair in ALL_PAIRS)

TASKS: dict[str, Task] = {
    "shape": Task(SHAPES, NOUN_TEMPLATES, _shape),
    "colour": Task(tuple(COLOURS), COLOUR_TEMPLATES, _colour),
    "count": Task(_COUNT_NAMES, COUNT_TEMPLATES, _count),
    "position": Task(POSITIONS, POSITION_TEMPLATES, _position),
    "relation": Task(_RELATION_NAMES, NOUN_TEMPLATES, _relation),
    "word": Task(WORDS, WORD_TEMPLATES, _word),
    "digit": Task(NUMBERS, DIGIT_TEMPLATES, _digit),
    "held_out_colour_shape": Task(_PAIR_NAMES, NOUN_TEMPLATES, _held_out_colour_shape),
    "held_out_count": Task(tuple(_counted(*triple) for triple in _COUNT_CANDIDATES), COUNT_TEMPLATES, _held_out_count),
}
