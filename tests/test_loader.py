"""The loader: one stream whatever the workers, exact resume, broken samples, the life and death of workers."""

import contextlib
import dataclasses
import io
import itertools
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diptych.data.loader import Loader, LoaderConfig, evaluation_batches
from diptych.data.sources import open_source
from diptych.data.tokenizer import Tokenizer
from diptych.data.transforms import Augmentation, Preprocessing, decode_image, evaluation_pixels, training_pixels
from diptych.errors import ConfigError, DataError, DiptychError
from diptych.records import Broken, Sample

TINY = Path(__file__).resolve().parents[2] / "shared" / "data" / "tiny-imagenet" / "train"
PREPROCESSING = Preprocessing(8)
AUGMENTATION = Augmentation(rescale=(0.5, 1.0), flip=0.5, colour=0.2)


def picture(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (10, 14, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@dataclasses.dataclass
class Shards:
    """A source in memory that notes what is read from it."""

    contents: list[list[Sample | Broken]]
    fingerprint: str = "shards"

    def __post_init__(self) -> None:
        self.shards = [f"{i}.tar" for i in range(len(self.contents))]
        self.taken = [0] * len(self.contents)

    def read(self, index: int) -> Iterator[Sample | Broken]:
        for item in self.contents[index]:
            self.taken[index] += 1
            yield item


def make(sizes: list[int], broken_every: int = 0, **more: object) -> Shards:
    """Shards of pictures with three captions each; every so-many-th is broken, in one of three ways."""
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


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["a photo 1 2 3 4 5 6 7 8 9 0", "one more picture"] * 3, vocab_size=560, context_length=16)


def config(**changes: object) -> LoaderConfig:
    values = {"local_batch_size": 7, "shuffle_buffer": 10, "num_workers": 0, "max_broken": 0.5, "chunk_size": 4}
    return LoaderConfig(**{**values, **changes})


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


# ---- what a batch is


def test_batches_hold_what_the_samples_say(tokenizer):
    source = make([9, 4])
    samples = {sample.key: sample for shard in source.contents for sample in shard}
    centre = Augmentation("centre")
    loader = Loader(source, tokenizer, PREPROCESSING, config(), centre)
    widths = set()
    for batch in itertools.islice(loader, 8):
        assert batch.images.shape == (7, 3, 8, 8) and batch.images.dtype == torch.uint8
        assert batch.tokens.dtype == torch.int32 and batch.lengths.dtype == torch.int64
        assert batch.tokens.shape == (7, batch.lengths.max()) and len(batch) == 7
        widths.add(batch.tokens.shape[1])
        for key, image, tokens, length in zip(batch.keys, batch.images, batch.tokens, batch.lengths, strict=True):
            square = decode_image(samples[key].image)
            assert torch.equal(image, training_pixels(square, PREPROCESSING, centre, np.random.default_rng(0)))
            text = tokenizer.decode(tokens[:length].tolist()).replace(" ", "")  # digits come apart
            assert text in [caption.replace(" ", "") for caption in samples[key].texts]
            assert tokens[length - 1] == tokenizer.eot and not tokens[length:].any()
    assert len(widths) > 1  # padded to the longest of the batch


def test_each_sample_comes_once_per_epoch_in_another_order(tokenizer):
    source = make([9, 4, 0, 1, 14])
    loader = Loader(source, tokenizer, PREPROCESSING, config(local_batch_size=28))
    epochs = [batch.keys for batch in itertools.islice(loader, 4)]
    assert all(sorted(epoch) == sorted(f"k{n}" for n in range(28)) for epoch in epochs)
    assert len(set(epochs)) == 4
    assert loader.epoch == 3 and loader.num_seen == 112


def test_captions_and_pixels_are_drawn_anew_in_each_epoch(tokenizer):
    loader = Loader(make([28]), tokenizer, PREPROCESSING, config(local_batch_size=28), AUGMENTATION)
    texts: dict[str, set] = {}
    images: dict[str, set] = {}
    for batch in itertools.islice(loader, 12):
        for key, image, tokens in zip(batch.keys, batch.images, batch.tokens, strict=True):
            texts.setdefault(key, set()).add(tuple(token for token in tokens.tolist() if token))
            images.setdefault(key, set()).add(image.numpy().tobytes())
    assert np.mean([len(seen) for seen in texts.values()]) > 2.8  # of 3
    assert min(len(seen) for seen in images.values()) == 12


def test_long_captions_are_cut(tokenizer):
    source = Shards([[Sample("k", picture(0), ("photo " * 100,))]])
    batch = next(iter(Loader(source, tokenizer, PREPROCESSING, config(local_batch_size=2))))
    assert batch.tokens.shape == (2, 16) and (batch.tokens[:, -1] == tokenizer.eot).all()


def test_seed_and_chunk_size(tokenizer):
    def run(**changes):
        return take(Loader(make([20, 20, 20], 6), tokenizer, PREPROCESSING, config(**changes), AUGMENTATION), 12)[0]

    assert_equal(run(), run(chunk_size=1))
    assert_equal(run(), run(chunk_size=50))
    assert keys(run()) != keys(run(seed=1))


def test_shuffling(tokenizer):
    source = make([40] * 5)
    plain = keys(take(Loader(source, tokenizer, PREPROCESSING, config(shuffle_buffer=0, local_batch_size=200)), 1)[0])
    assert plain == [f"k{n}" for n in range(200)]
    shuffled = keys(
        take(Loader(source, tokenizer, PREPROCESSING, config(shuffle_buffer=80, local_batch_size=200)), 1)[0]
    )
    numbers = np.array([int(key[1:]) for key in shuffled])
    assert len(set(numbers[:40] // 40)) >= 2  # shards are mixed
    assert np.abs(np.diff(numbers)).mean() > 20  # neighbours are parted; 67 would be perfect, 1 not at all


# ---- resume


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
            assert state["tally"] == expected["tally"] and state["num_seen"] == expected["num_seen"]
            assert state["epoch"] == expected["epoch"]


RESUMES = {
    "shuffled": ([13, 5, 9, 21], {}),
    "in order": ([13, 5, 9, 21], {"shuffle_buffer": 0}),
    "buffer larger than the set": ([13, 5], {"shuffle_buffer": 1000}),
    "buffer of one": ([13, 5], {"shuffle_buffer": 1}),
    "batch larger than the set": ([3, 2], {"local_batch_size": 17}),
    "chunk larger than a batch": ([30, 30], {"chunk_size": 25, "local_batch_size": 3}),
    "chunk larger than the set": ([6, 5], {"chunk_size": 64, "local_batch_size": 4}),
    "empty shards": ([0, 9, 0, 0, 7, 0], {}),
    "one sample": ([1], {"local_batch_size": 2}),
}


@pytest.mark.parametrize("broken_every", [0, 3])
@pytest.mark.parametrize("name", RESUMES)
def test_resume_at_every_batch(tokenizer, name, broken_every):
    sizes, changes = RESUMES[name]

    def make_loader(num_workers):
        source = make(sizes, broken_every if name != "one sample" else 0)
        return Loader(source, tokenizer, PREPROCESSING, config(num_workers=num_workers, **changes), AUGMENTATION)

    check_resume(make_loader, 14, list(range(15)), (0,))


@pytest.mark.parametrize("saving_workers", [1, 2])
def test_resume_across_numbers_of_workers(tokenizer, saving_workers):
    def make_loader(num_workers):
        source = make([13, 5, 0, 9, 21], broken_every=4)
        return Loader(source, tokenizer, PREPROCESSING, config(num_workers=num_workers), AUGMENTATION)

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
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores
@pytest.mark.parametrize("seed", range(40))
def test_resume_at_random(tokenizer, seed):
    rng = np.random.default_rng(seed)
    sizes = [*rng.integers(0, 40, rng.integers(1, 9)).tolist(), int(rng.integers(1, 9))]
    changes = {
        "local_batch_size": int(rng.integers(1, 30)),
        "shuffle_buffer": int(rng.integers(0, 60)),
        "chunk_size": int(rng.integers(1, 30)),
        "seed": int(rng.integers(0, 2**60)),
    }
    broken_every = int(rng.choice([0, 3, 5, 11]))

    def make_loader(num_workers):
        source = make(sizes, broken_every)
        return Loader(
            source, tokenizer, PREPROCESSING, config(**changes, num_workers=num_workers, max_broken=1), AUGMENTATION
        )

    check_resume(make_loader, 20, rng.integers(0, 20, 4).tolist(), (0, int(rng.integers(1, 4))))


def test_resume_rereads_only_the_shards_it_needs(tokenizer):
    def make_loader():
        source = make([10] * 30)
        return source, Loader(source, tokenizer, PREPROCESSING, config(local_batch_size=20, shuffle_buffer=5))

    _, states = take(make_loader()[1], 11)
    source, loader = make_loader()
    loader.load_state_dict(states[11])
    next(iter(loader))
    loader.close()
    order = np.random.default_rng(np.random.SeedSequence([0, 0]).spawn(2)[0]).permutation(30)
    assert not any(source.taken[shard] for shard in order[:20])


def test_a_state_that_does_not_belong_is_refused(tokenizer):
    def make_loader(**changes):
        return Loader(make([9]), tokenizer, PREPROCESSING, config(**changes))

    state = make_loader().state_dict()
    for changes in ({"seed": 1}, {"local_batch_size": 3}, {"shuffle_buffer": 3}, {"chunk_size": 3}):
        name, value = next(iter(changes.items()))
        with pytest.raises(ConfigError, match=f"{name} was .* and is {value}"):
            make_loader(**changes).load_state_dict(state)
    others = [
        (
            Loader(make([9], fingerprint="other"), tokenizer, PREPROCESSING, config()),
            "source was 'shards' and is 'other'",
        ),
        (Loader(make([9]), tokenizer, Preprocessing(16), config()), "preprocessing"),
        (Loader(make([9]), tokenizer, PREPROCESSING, config(), AUGMENTATION), "augmentation"),
        (Loader(make([9, 9]), tokenizer, PREPROCESSING, config(), rank=1, world_size=2), "rank was 0 and is 1"),
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
        values = {"local_batch_size": 100, "shuffle_buffer": 500, "chunk_size": 32, "num_workers": num_workers}
        return Loader(
            open_source(TINY / "3.tar.gz"), tokenizer, Preprocessing(32), LoaderConfig(**values), AUGMENTATION
        )

    check_resume(make_loader, 6, [3], (0, 2))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_random_numbers_of_the_caller_are_left_alone(tokenizer, num_workers):
    before = torch.get_rng_state(), str(np.random.get_state())
    take(Loader(make([9]), tokenizer, PREPROCESSING, config(num_workers=num_workers), AUGMENTATION), 3)
    assert torch.equal(torch.get_rng_state(), before[0]) and str(np.random.get_state()) == before[1]


# ---- broken samples


def test_broken_samples_are_counted_named_and_skipped(tokenizer, caplog):
    source = make([20, 20], broken_every=4)
    loader = Loader(source, tokenizer, PREPROCESSING, config(local_batch_size=30))
    with caplog.at_level(logging.WARNING, "diptych"):
        batches, _ = take(loader, 3)
    bad = {f"k{n}" for n in range(40) if n % 4 == 1}
    assert set(keys(batches)) == {f"k{n}" for n in range(40)} - bad
    reasons = loader.broken
    assert reasons.pop("caption is not UTF-N") == 12 and reasons.pop("the caption is empty") == 9
    assert list(reasons.values()) == [9] and "truncated" in next(iter(reasons))
    skipped = [record.getMessage() for record in caplog.records if record.getMessage().startswith("skipped")]
    assert len(skipped) == 10  # each once, although three epochs met them
    assert "skipped k1 in 0.tar: caption is not UTF-8" in skipped
    assert any("epoch 1 ends: 20 of 80 samples were broken" in record.getMessage() for record in caplog.records)


def test_the_log_is_not_flooded(tokenizer, caplog):
    source = make([600], broken_every=3)
    loader = Loader(source, tokenizer, PREPROCESSING, config(local_batch_size=400))
    with caplog.at_level(logging.WARNING, "diptych"):
        take(loader, 1)
    assert 50 <= len(caplog.records) < 60
    assert sum(loader.broken.values()) == 200


@pytest.mark.parametrize("num_workers", [0, 1])
def test_too_many_broken_samples_stop_the_run(tokenizer, num_workers):
    source = make([30, 30], broken_every=4)
    loader = Loader(source, tokenizer, PREPROCESSING, config(max_broken=0.2, num_workers=num_workers))
    with pytest.raises(
        DataError, match=r"(?s)15 of 60 samples .* 0.2 .*\n  5 x caption is not UTF-N \(e.g. k\d+ in \d.tar"
    ):
        for _ in loader:
            assert loader.epoch == 0
    source = make([3000], broken_every=4)
    loader = Loader(
        source, tokenizer, PREPROCESSING, config(max_broken=0.2, local_batch_size=50, num_workers=num_workers)
    )
    with pytest.raises(DataError, match=r"of 100[0-3] samples"):
        take(loader, 100)


def test_a_run_that_goes_bad_later_is_stopped(tokenizer):
    source = make([60])
    loader = Loader(source, tokenizer, PREPROCESSING, config(local_batch_size=60, max_broken=0.2, shuffle_buffer=5))
    batches = iter(loader)
    next(batches)
    source.contents[0][:] = [Broken("k", "0.tar", "the disk is gone")] * 60
    with pytest.raises(DataError, match="the disk is gone"):
        list(itertools.islice(batches, 5))


@pytest.mark.parametrize("contents", [[], [[]], [[], [], []]])
def test_an_empty_source_ends_in_an_error(tokenizer, contents):
    with pytest.raises(DataError, match=r"no samples|0 shards"):
        next(iter(Loader(Shards(contents), tokenizer, PREPROCESSING, config())))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_source_without_a_usable_sample_ends_in_an_error(tokenizer, num_workers):
    source = Shards([[Sample(f"k{n}", b"no picture", ("text",)) for n in range(9)]])
    loader = Loader(source, tokenizer, PREPROCESSING, config(max_broken=1.0, num_workers=num_workers))
    with pytest.raises(DataError, match=r"(?s)epoch 0 had no usable sample.*9 x no JPEG"):
        next(iter(loader))


@pytest.mark.parametrize("texts", [(), ("",), (" \t", "\n")])
def test_samples_without_a_caption_are_broken(tokenizer, texts):
    source = Shards([[Sample("good", picture(0), (" ", "a photo")), Sample("bad", picture(1), texts)]])
    loader = Loader(source, tokenizer, PREPROCESSING, config(max_broken=1.0))
    assert set(keys(take(loader, 2)[0])) == {"good"} and sum(loader.broken.values()) > 0


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("error", [DataError("shard 1 cannot be opened"), OSError("the disk is gone")])
def test_errors_of_the_source_reach_the_consumer(tokenizer, num_workers, error):
    class Failing(Shards):
        def read(self, index):
            yield from super().read(index)
            raise error

    loader = Loader(Failing(make([30]).contents), tokenizer, PREPROCESSING, config(num_workers=num_workers))
    with pytest.raises(type(error), match=str(error)):
        take(loader, 20)


# ---- ranks


def test_ranks_share_the_shards(tokenizer):
    seen = []
    for rank in range(3):
        loader = Loader(make([4] * 9), tokenizer, PREPROCESSING, config(local_batch_size=12), rank=rank, world_size=3)
        epochs = [set(batch.keys) for batch in itertools.islice(loader, 3)]
        assert all(len(epoch) == 12 for epoch in epochs) and epochs[0] != epochs[1]
        seen.append(epochs)
    for epoch in range(3):
        assert set().union(*(epochs[epoch] for epochs in seen)) == {f"k{n}" for n in range(36)}


def test_ranks_need_shards(tokenizer):
    with pytest.raises(DataError, match="2 shards cannot be shared by 3 processes"):
        next(iter(Loader(make([4, 4]), tokenizer, PREPROCESSING, config(), rank=0, world_size=3)))
    with pytest.raises(ConfigError, match="rank is 3"):
        Loader(make([4, 4]), tokenizer, PREPROCESSING, config(), rank=3, world_size=3)


@pytest.mark.parametrize(
    "changes",
    [
        {"local_batch_size": 0},
        {"local_batch_size": 2.5},
        {"shuffle_buffer": -1},
        {"num_workers": -1},
        {"num_workers": 10**6},
        {"max_broken": 1.5},
        {"max_broken": float("nan")},
        {"seed": -1},
        {"chunk_size": 0},
        {"chunk_size": True},
    ],
)
def test_absurd_configs(changes):
    with pytest.raises(ConfigError, match=f"{next(iter(changes))} is {next(iter(changes.values()))}"):
        LoaderConfig(**changes)


# ---- workers


def reader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "diptych-reader"]


def wait_until(condition, seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_close_leaves_nothing_behind(tokenizer):
    loader = Loader(make([50, 50]), tokenizer, PREPROCESSING, config(num_workers=2))
    next(iter(loader))  # the iterator is dropped at once
    assert not multiprocessing.active_children() and not reader_threads()
    batches = iter(loader)
    next(batches)
    assert len(multiprocessing.active_children()) == 2 and len(reader_threads()) == 1
    loader.close()
    assert not multiprocessing.active_children() and not reader_threads()


def test_a_dead_worker_is_an_error_and_no_hang(tokenizer):
    loader = Loader(make([500]), tokenizer, PREPROCESSING, config(num_workers=2, local_batch_size=100))
    batches = iter(loader)
    next(batches)
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    with pytest.raises(DiptychError, match="a process that decodes pictures died"):
        list(itertools.islice(batches, 100))


def test_workers_ignore_ctrl_c(tokenizer):
    loader = Loader(make([500]), tokenizer, PREPROCESSING, config(num_workers=2, local_batch_size=100))
    batches = iter(loader)
    next(batches)
    for worker in multiprocessing.active_children():
        os.kill(worker.pid, signal.SIGINT)
    assert len(list(itertools.islice(batches, 10))) == 10
    loader.close()


def test_no_orphans_after_kill_9():
    script = textwrap.dedent(f"""
        import sys, multiprocessing, time
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_loader import *
        tokenizer = Tokenizer.train(["a photo"], vocab_size=520)
        batches = iter(Loader(make([500]), tokenizer, PREPROCESSING, config(num_workers=2)))
        next(batches)
        print(*[worker.pid for worker in multiprocessing.active_children()], flush=True)
        time.sleep(600)
    """)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        workers = [int(pid) for pid in process.stdout.readline().split()]
        assert len(workers) == 2
        process.kill()
        assert wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), seconds=30)


def test_waiting_is_measured(tokenizer):
    class Slow(Shards):
        def read(self, index):
            for item in super().read(index):
                time.sleep(0.01)
                yield item

    loader = Loader(Slow(make([60]).contents), tokenizer, PREPROCESSING, config(local_batch_size=30, shuffle_buffer=0))
    next(batches := iter(loader))
    assert 0.25 < loader.seconds_waited < 5
    waited = loader.seconds_waited
    time.sleep(1)  # the model's work, while reading goes on
    next(batches)
    assert loader.seconds_waited - waited < 0.25


# ---- evaluation


@pytest.mark.parametrize("num_workers", [0, 2])
def test_evaluation_batches(num_workers, caplog):
    source = make([9, 0, 14], broken_every=5)
    with caplog.at_level(logging.WARNING, "diptych"):
        batches = list(evaluation_batches(source, PREPROCESSING, batch_size=8, num_workers=num_workers))
    found = [key for names, _, _ in batches for key in names]
    good = [s for shard in source.contents for s in shard if isinstance(s, Sample) and s.label is not None]
    assert found == [sample.key for sample in good]
    assert [label for _, _, labels in batches for label in labels.tolist()] == [sample.label for sample in good]
    assert all(labels.dtype == torch.int64 for _, _, labels in batches)
    images = torch.cat([images for _, images, _ in batches])
    expected = torch.stack([evaluation_pixels(decode_image(sample.image), PREPROCESSING) for sample in good])
    assert torch.equal(images, expected)
    assert any("5 of 23 samples were broken" in record.getMessage() for record in caplog.records)
    assert not multiprocessing.active_children() and not reader_threads()


def test_evaluation_needs_labels_and_samples():
    source = Shards([[Sample("k", picture(0), ("text",))]])
    with pytest.raises(DataError, match=r"(?s)no usable sample.*there is no label"):
        list(evaluation_batches(source, PREPROCESSING))
    with pytest.raises(DataError, match="no samples"):
        list(evaluation_batches(Shards([[]]), PREPROCESSING))


def test_evaluation_of_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    ((_, images, labels),) = evaluation_batches(Shards([[Sample("k", pixels, label=3)]]), PREPROCESSING)
    assert np.array_equal(images[0].permute(1, 2, 0).numpy(), pixels) and labels.tolist() == [3]
