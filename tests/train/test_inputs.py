"""What a configuration names: the captions that a vocabulary is learned from."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterator

import pytest

from diptych.data.source import Source
from diptych.data.tokenizer import Tokenizer
from diptych.records import Broken, Sample
from diptych.train.inputs import spread_captions


@dataclasses.dataclass
class Topics(Source):
    """A source with a topic per shard; it counts what is read."""

    sizes: list[int]
    fingerprint: str = "topics"
    shards = ()

    def __post_init__(self) -> None:
        self.shards = [f"{number}.tar" for number in range(len(self.sizes))]
        self.num_read = 0

    def read(self, index: int) -> Iterator[Sample | Broken]:
        yield Broken("first", self.shards[index], "no picture")
        for number in range(self.sizes[index]):
            self.num_read += 1
            yield Sample(f"{index}/{number}", b"", (f"topic{index} {number}",))


def counts(captions: list[str], source: Topics) -> list[int]:
    found = Counter(caption.split()[0] for caption in captions)
    return [found[f"topic{number}"] for number in range(len(source.sizes))]


@pytest.mark.parametrize(
    ("sizes", "limit", "expected"),
    [
        ([100] * 4, 40, [10] * 4),
        ([100] * 4, 1000, [100] * 4),  # all there is
        ([100] * 4, 42, [11, 11, 10, 10]),
        ([100, 100, 100, 4], 40, [12, 12, 12, 4]),  # a short last shard
        ([100, 0, 100], 40, [27, 0, 13]),
        ([2, 3, 2, 500], 100, [2, 3, 2, 93]),  # nearly all in one
        ([500, 2, 3, 2], 100, [93, 2, 3, 2]),
        ([2, 500, 400, 2, 500], 300, [2, 105, 105, 2, 86]),
        ([5] * 10, 3, [1, 0, 0, 1, 0, 0, 1, 0, 0, 0]),
        ([], 10, []),
        ([0, 0], 10, [0, 0]),
    ],
)
def test_captions_come_evenly_from_all_shards(sizes, limit, expected):
    source = Topics(sizes)
    captions = spread_captions(source, limit)
    assert counts(captions, source) == expected
    assert captions == spread_captions(Topics(sizes), limit)
    order = [tuple(int(word.removeprefix("topic")) for word in caption.split()) for caption in captions]
    assert order == sorted(order)


def test_no_more_is_read_than_is_wanted():
    source = Topics([1000] * 7 + [30])
    assert len(spread_captions(source, 700)) == 700 and source.num_read == 700
    source = Topics([10, *[1000] * 7])
    assert len(spread_captions(source, 800)) == 800 and source.num_read < 1600


def test_several_captions_of_a_picture_count_each():
    source = Topics([2])
    source.read = lambda index: itertools.repeat(Sample("k", b"", ("one", "two", "three")), 5)
    assert spread_captions(source, 7) == ["one", "two", "three", "one", "two", "three", "one"]


def test_a_vocabulary_of_sorted_data_knows_all_topics():
    words = ["zebra", "yacht", "xylophone"]
    source = Topics([300] * 3)
    source.read = lambda index: (Sample(f"{n}", b"", (f"{words[index]} {n}",)) for n in range(300))
    tokenizer = Tokenizer.train(spread_captions(source, 300), vocab_size=560)
    assert [len(tokenizer.encode(word)) for word in words] == [1, 1, 1]
