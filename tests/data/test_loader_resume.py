"""Exact resume: whatever the stop, the number of workers and the source, the rest is as if never stopped."""

import contextlib
import io
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from loading import (
    AUGMENTATION,
    PREPROCESSING,
    Shards,
    assert_equal,
    config,
    make,
    small_tokenizer,
    take,
)

from diptych.data.loader import Loader, LoaderConfig
from diptych.data.open_source import open_source
from diptych.data.stream import ChunkStream
from diptych.data.tokenizer import Tokenizer
from diptych.data.transforms import Preprocessing
from diptych.errors import ConfigError, DataError
from diptych.records import Broken, Sample

TINY = Path(__file__).resolve().parents[3] / "shared" / "data" / "tiny-imagenet" / "train"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return small_tokenizer()


def check_resume(make_loader, count: int, stops: list[int], workers: tuple[int, ...]) -> None:
    """Stopped after each of `stops` batches, resumed with each number of workers: the rest is as if never stopped."""
    batches, states = take(make_loader(0), count)
    for stop, num_workers in itertools.product(stops, workers):
        saved = io.BytesIO()
        torch.save(states[stop], saved)
        loader = make_loader(num_workers)
        loader.load_state_dict(torch.load(io.BytesIO(saved.getvalue()), weights_only=True))
        rest, later = take(loader, count - stop)
        loader.close()
        assert_equal(rest, batches[stop:])
        for state, expected in zip(later, states[stop:], strict=True):
            assert state["num_seen"] == expected["num_seen"] and state["lanes"].keys() == expected["lanes"].keys()
            for lane, values in state["lanes"].items():
                assert values["tally"] == expected["lanes"][lane]["tally"]
                assert values["position"]["epoch"] == expected["lanes"][lane]["position"]["epoch"]


RESUMES = {
    "shuffled": ([13, 5, 9, 21], {}),
    "in order": ([13, 5, 9, 21], {"shuffle_buffer": 0}),
    "buffer larger than the set": ([13, 5], {"shuffle_buffer": 1000}),
    "buffer of one": ([13, 5], {"shuffle_buffer": 1}),
    "buffer full by its bytes": ([13, 5, 9, 21], {"shuffle_buffer": 30, "shuffle_buffer_bytes": 3000}),
    "batch larger than the set": ([3, 2], {"global_batch_size": 17}),
    "chunk larger than a batch": ([30, 30], {"chunk_size": 25, "global_batch_size": 3}),
    "chunk larger than the set": ([6, 5], {"chunk_size": 64, "global_batch_size": 4}),
    "empty shards": ([0, 9, 0, 0, 7, 0], {}),
    "one sample": ([1], {"global_batch_size": 2}),
    "lanes": ([13, 5, 9, 21, 2], {"lanes": 3}),
    "more lanes than a batch has pairs": ([13, 5, 9, 21, 2], {"lanes": 5, "global_batch_size": 3}),
    "lanes with empty shards": ([0, 9, 0, 7], {"lanes": 4}),
}


@pytest.mark.parametrize("broken_every", [0, 3])
@pytest.mark.parametrize("name", RESUMES)
def test_resume_at_every_batch(tokenizer, name, broken_every):
    sizes, changes = RESUMES[name]

    def make_loader(num_workers):
        source = make(sizes, broken_every if name != "one sample" else 0)
        return Loader(source, tokenizer, PREPROCESSING, config(num_workers=num_workers, **changes), AUGMENTATION)

    check_resume(make_loader, 14, list(range(15)), (0,))


@pytest.mark.parametrize(("saving_workers", "lanes"), [(1, 1), (2, 1), (2, 3)])
def test_resume_across_numbers_of_workers(tokenizer, saving_workers, lanes):
    def make_loader(num_workers):
        source = make([13, 5, 0, 9, 21], broken_every=4)
        return Loader(source, tokenizer, PREPROCESSING, config(num_workers=num_workers, lanes=lanes), AUGMENTATION)

    batches, states = take(make_loader(0), 16)
    with contextlib.closing(make_loader(saving_workers)) as loader:
        ours, later = take(loader, 16)
    assert_equal(ours, batches)
    assert str(later) == str(states)
    check_resume(make_loader, 16, [1, 6, 13], (0, 1, 2))


def test_resume_of_a_resumed_run(tokenizer):
    def make_loader():
        return Loader(make([13, 5, 9, 21], 5), tokenizer, PREPROCESSING, config(), AUGMENTATION)

    batches, _ = take(make_loader(), 20)
    state, ours = make_loader().state_dict(), []
    for _ in range(10):
        loader = make_loader()
        loader.load_state_dict(state)
        ours += take(loader, 2)[0]
        state = loader.state_dict()
    assert_equal(ours, batches)


def test_iterating_again_goes_on_after_the_last_batch(tokenizer):
    loader = Loader(make([13, 5, 9]), tokenizer, PREPROCESSING, config(), AUGMENTATION)
    expected, _ = take(Loader(make([13, 5, 9]), tokenizer, PREPROCESSING, config(), AUGMENTATION), 6)
    first, second = take(loader, 2)[0], take(loader, 1)[0]
    iterator = iter(loader)
    third = [next(iterator)]
    loader.close()
    assert_equal(first + second + third + take(loader, 2)[0], expected)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(40))
def test_resume_at_random(tokenizer, seed):
    rng = np.random.default_rng(seed)
    sizes = [*rng.integers(0, 40, rng.integers(1, 9)).tolist(), int(rng.integers(1, 9))]
    changes = {
        "global_batch_size": int(rng.integers(1, 30)),
        "shuffle_buffer": int(rng.integers(0, 60)),
        "chunk_size": int(rng.integers(1, 30)),
        "seed": int(rng.integers(0, 2**60)),
        "lanes": int(rng.integers(1, 5)),
    }
    broken_every = int(rng.choice([0, 3, 5, 11]))

    def make_loader(num_workers):
        source = make(sizes, broken_every)
        return Loader(
            source, tokenizer, PREPROCESSING, config(**changes, num_workers=num_workers, max_broken=1), AUGMENTATION
        )

    check_resume(make_loader, 20, rng.integers(0, 20, 4).tolist(), (0, int(rng.integers(1, 4))))


def test_resume_beside_a_shard_that_breaks_off(tokenizer):
    def make_loader(num_workers):
        source = make([13, 5, 9, 21])
        source.contents[2].append(Broken("end", "2.tar", "the rest of the shard is lost", rest_lost=True))
        return Loader(source, tokenizer, PREPROCESSING, config(num_workers=num_workers), AUGMENTATION)

    check_resume(make_loader, 14, list(range(15)), (0,))
    states = take(make_loader(0), 14)[1]
    lost = [dict(state["lanes"]["0"]["tally"]["lost"]) for state in states]
    assert lost[0] == {} and lost[-1] == {0: 1, 1: 1}  # once in each epoch


def weighted(rng: np.random.Generator, count: int) -> list[Sample]:
    """Small pictures and large ones, as arrays and as bytes."""
    sizes = np.where(rng.random(count) < 0.2, 9000, 90) + rng.integers(0, 10, count)
    return [
        Sample(f"{n}", np.zeros((1, size, 3), np.uint8) if n % 5 == 0 else bytes(int(size)), ("x" * int(n % 50),))
        for n, size in enumerate(sizes)
    ]


def weight(item: Sample) -> int:
    return (len(item.image) if isinstance(item.image, bytes) else item.image.nbytes) + sum(map(len, item.texts))


def test_the_shuffle_buffer_is_bounded_in_bytes_and_restarts_exactly():
    source = Shards([weighted(np.random.default_rng(shard), 60) for shard in range(4)])
    values = {"seed": 0, "shuffle_buffer": 40, "shuffle_buffer_bytes": 20_000, "chunk_size": 7}
    run = list(itertools.islice(ChunkStream(source, **values), 80))
    fullest, largest = 0, max(weight(item) for shard in source.contents for item in shard)
    counts = set()
    for position, chunk in run:
        order = np.random.default_rng(np.random.SeedSequence([0, chunk.epoch]).spawn(2)[0]).permutation(4)
        held = sum(weight(source.contents[order[shard]][item]) for shard, item in position.buffer.tolist())
        fullest = max(fullest, held)
        counts.add(len(position.buffer))
    assert 20_000 <= fullest < 20_000 + largest  # full, and never by more than one item beyond
    assert min(counts - {0}) < 10 < max(counts)  # now a few large ones, now many small ones
    epoch = [item.key for _, chunk in run if chunk.epoch == 1 for _, item in chunk.items]
    assert sorted(epoch) == sorted(item.key for shard in source.contents for item in shard)
    for start in range(0, 80, 3):
        again = itertools.islice(ChunkStream(source, **values, position=run[start][0]), 80 - start)
        for (_, chunk), (_, expected) in zip(again, run[start:], strict=True):
            assert (chunk.epoch, chunk.start, chunk.last) == (expected.epoch, expected.start, expected.last)
            assert [(shard, item.key) for shard, item in chunk.items] == [(s, i.key) for s, i in expected.items]


def test_chunks_of_large_pictures_are_small_and_change_no_batch(tokenizer, monkeypatch):
    def make_loader(num_workers):
        values = config(num_workers=num_workers, chunk_size=20)
        return Loader(make([13, 5, 9, 21], 5), tokenizer, PREPROCESSING, values, AUGMENTATION)

    batches, states = take(make_loader(0), 10)
    monkeypatch.setattr("diptych.data.stream._MAX_CHUNK_BYTES", 1500)  # three of these pictures
    ours, later = take(make_loader(0), 10)
    assert_equal(ours, batches)
    used = [max(state["lanes"]["0"]["used"] for state in run) for run in (later, states)]
    assert used[0] <= 5 < used[1]
    check_resume(make_loader, 10, list(range(11)), (0,))


def test_resume_rereads_only_the_shards_it_needs(tokenizer):
    def make_loader():
        source = make([10] * 30)
        return source, Loader(source, tokenizer, PREPROCESSING, config(global_batch_size=20, shuffle_buffer=5))

    _, states = take(make_loader()[1], 11)
    source, loader = make_loader()
    loader.load_state_dict(states[11])
    next(iter(loader))
    loader.close()
    order = np.random.default_rng(np.random.SeedSequence([0, 0]).spawn(2)[0]).permutation(30)
    assert not any(source.taken[shard] for shard in order[:20])


def test_a_state_that_does_not_belong_is_refused(tokenizer):
    def make_loader(**changes):
        return Loader(make([9, 1, 1]), tokenizer, PREPROCESSING, config(**changes))

    state = make_loader().state_dict()
    for name in ("seed", "global_batch_size", "shuffle_buffer", "shuffle_buffer_bytes", "chunk_size", "lanes"):
        with pytest.raises(ConfigError, match=f"{name} was .* and is 3"):
            make_loader(**{name: 3}).load_state_dict(state)
    others = [
        (
            Loader(make([9, 1, 1], fingerprint="other"), tokenizer, PREPROCESSING, config()),
            "pairs are not those that the run started with: the names or sizes",
        ),
        (Loader(make([9]), tokenizer, Preprocessing(16), config()), "preprocessing"),
        (Loader(make([9]), tokenizer, PREPROCESSING, config(), AUGMENTATION), "augmentation"),
    ]
    for loader, says in others:
        with pytest.raises(ConfigError, match=says):
            loader.load_state_dict(state)
    with pytest.raises(ConfigError, match="version 0"):
        make_loader().load_state_dict({**state, "version": 0})
    make_loader(num_workers=2, max_broken=0.2).load_state_dict(state)


def test_a_source_that_shrank_is_noticed(tokenizer):
    state = take(Loader(make([9, 9]), tokenizer, PREPROCESSING, config()), 1)[1][1]
    loader = Loader(make([1, 1]), tokenizer, PREPROCESSING, config())
    loader.load_state_dict(state)
    with pytest.raises(DataError, match=r"fewer than .* items it had when the state was saved"):
        next(iter(loader))


def test_resume_on_real_shards(tokenizer):
    if not TINY.is_dir():
        pytest.skip(f"{TINY} is not there")

    def make_loader(num_workers):
        values = {"global_batch_size": 100, "shuffle_buffer": 500, "chunk_size": 32, "num_workers": num_workers}
        return Loader(
            open_source(TINY / "3.tar.gz"), tokenizer, Preprocessing(32), LoaderConfig(**values), AUGMENTATION
        )

    check_resume(make_loader, 6, [3], (0, 2))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_random_numbers_of_the_caller_are_left_alone(tokenizer, num_workers):
    before = torch.get_rng_state(), str(np.random.get_state())
    take(Loader(make([9]), tokenizer, PREPROCESSING, config(num_workers=num_workers), AUGMENTATION), 3)
    assert torch.equal(torch.get_rng_state(), before[0]) and str(np.random.get_state()) == before[1]
