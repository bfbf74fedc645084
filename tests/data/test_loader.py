"""The loader: what a batch is, broken samples, ranks, evaluation."""

import dataclasses
import itertools
import logging
import multiprocessing

import numpy as np
import pytest
import torch
from loading import (
    AUGMENTATION,
    PREPROCESSING,
    Shards,
    assert_equal,
    config,
    keys,
    make,
    picture,
    reader_threads,
    small_tokenizer,
    take,
)

from diptych.data.evaluation_batches import evaluation_batches
from diptych.data.loader import Loader, LoaderConfig
from diptych.data.open_source import open_source
from diptych.data.shards import write_shards
from diptych.data.tokenizer import Tokenizer
from diptych.data.transforms import Augmentation, decode_image, evaluation_pixels, training_pixels
from diptych.errors import ConfigError, DataError
from diptych.records import Broken, Sample


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return small_tokenizer()


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
    loader = Loader(source, tokenizer, PREPROCESSING, config(global_batch_size=28))
    epochs = [batch.keys for batch in itertools.islice(loader, 4)]
    assert all(sorted(epoch) == sorted(f"k{n}" for n in range(28)) for epoch in epochs)
    assert len(set(epochs)) == 4
    assert loader.epoch == 3 and loader.num_seen == 112


def test_captions_and_pixels_are_drawn_anew_in_each_epoch(tokenizer):
    loader = Loader(make([28]), tokenizer, PREPROCESSING, config(global_batch_size=28), AUGMENTATION)
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
    batch = next(iter(Loader(source, tokenizer, PREPROCESSING, config(global_batch_size=2))))
    assert batch.tokens.shape == (2, 16) and (batch.tokens[:, -1] == tokenizer.eot).all()


def test_seed_and_chunk_size(tokenizer):
    def run(**changes):
        return take(Loader(make([20, 20, 20], 6), tokenizer, PREPROCESSING, config(**changes), AUGMENTATION), 12)[0]

    assert_equal(run(), run(chunk_size=1))
    assert_equal(run(), run(chunk_size=50))
    assert keys(run()) != keys(run(seed=1))


def test_shuffling(tokenizer):
    source = make([40] * 5)
    plain = keys(take(Loader(source, tokenizer, PREPROCESSING, config(shuffle_buffer=0, global_batch_size=200)), 1)[0])
    assert plain == [f"k{n}" for n in range(200)]
    shuffled = keys(
        take(Loader(source, tokenizer, PREPROCESSING, config(shuffle_buffer=80, global_batch_size=200)), 1)[0]
    )
    numbers = np.array([int(key[1:]) for key in shuffled])
    assert len(set(numbers[:40] // 40)) >= 2  # shards are mixed
    assert np.abs(np.diff(numbers)).mean() > 20  # neighbours are parted; 67 would be perfect, 1 not at all


# ---- broken samples


def test_broken_samples_are_counted_named_and_skipped(tokenizer, caplog):
    source = make([20, 20], broken_every=4)
    loader = Loader(source, tokenizer, PREPROCESSING, config(global_batch_size=30))
    with caplog.at_level(logging.WARNING, "diptych"):
        batches, _ = take(loader, 3)
    bad = {f"k{n}" for n in range(40) if n % 4 == 1}
    assert set(keys(batches)) == {f"k{n}" for n in range(40)} - bad
    reasons = loader.broken
    assert reasons.pop("caption is not UTF-8") == 12 and reasons.pop("the caption is empty") == 9
    assert list(reasons.values()) == [9] and "truncated" in next(iter(reasons))
    skipped = [record.getMessage() for record in caplog.records if record.getMessage().startswith("skipped")]
    assert len(skipped) == 10  # each once, although three epochs met them
    assert "skipped k1 in 0.tar: caption is not UTF-8" in skipped
    assert any("epoch 1 ends: 20 of 80 samples were broken" in record.getMessage() for record in caplog.records)


def test_the_log_is_not_flooded(tokenizer, caplog):
    source = make([600], broken_every=3)
    loader = Loader(source, tokenizer, PREPROCESSING, config(global_batch_size=400))
    with caplog.at_level(logging.WARNING, "diptych"):
        take(loader, 1)
    assert 50 <= len(caplog.records) < 60
    assert sum(loader.broken.values()) == 200


@pytest.mark.parametrize("num_workers", [0, 1])
def test_too_many_broken_samples_stop_the_run(tokenizer, num_workers):
    source = make([30, 30], broken_every=4)
    loader = Loader(source, tokenizer, PREPROCESSING, config(max_broken=0.2, num_workers=num_workers))
    with pytest.raises(
        DataError, match=r"(?s)15 of 60 samples .* 0.2 .*\n  5 x caption is not UTF-8 \(e.g. k\d+ in \d.tar"
    ):
        for _ in loader:
            assert loader.epoch == 0
    source = make([3000], broken_every=4)
    loader = Loader(
        source, tokenizer, PREPROCESSING, config(max_broken=0.2, global_batch_size=50, num_workers=num_workers)
    )
    with pytest.raises(DataError, match=r"of 100[0-3] samples"):
        take(loader, 100)


def test_a_run_that_goes_bad_later_is_stopped(tokenizer):
    source = make([60])
    loader = Loader(source, tokenizer, PREPROCESSING, config(global_batch_size=60, max_broken=0.2, shuffle_buffer=5))
    batches = iter(loader)
    next(batches)
    source.contents[0][:] = [Broken("k", "0.tar", "the disk is gone")] * 60
    with pytest.raises(DataError, match="the disk is gone"):
        list(itertools.islice(batches, 5))


def test_cut_shards_stop_the_run(tokenizer, tmp_path):
    samples = [sample for shard in make([120]).contents for sample in shard]
    paths = write_shards(samples, tmp_path, shard_size=30)
    for path in paths[:2]:
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 10 + 100])
    loader = Loader(open_source(tmp_path), tokenizer, PREPROCESSING, config(max_broken=0.5))
    take(loader, 60)  # half of the shards, as max_broken allows, in every epoch
    assert loader.epoch >= 3
    paths[2].write_bytes(paths[2].read_bytes()[:10_000])
    loader = Loader(open_source(tmp_path), tokenizer, PREPROCESSING, config(max_broken=0.5))
    says = r"(?s)3 of 4 shards break off in the middle, .* 0\.5 .*\n  3 x the rest of the shard is lost.*\.tar"
    with pytest.raises(DataError, match=says):
        take(loader, 60)


@pytest.mark.parametrize("contents", [[], [[]], [[], [], []]])
def test_an_empty_source_ends_in_an_error(tokenizer, contents):
    with pytest.raises(DataError, match=r"no samples|0 shards"):
        next(iter(Loader(Shards(contents), tokenizer, PREPROCESSING, config())))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_source_without_a_usable_sample_ends_in_an_error(tokenizer, num_workers):
    source = Shards([[Sample(f"k{n}", b"no picture", ("text",)) for n in range(9)]])
    loader = Loader(source, tokenizer, PREPROCESSING, config(max_broken=1.0, num_workers=num_workers))
    with pytest.raises(DataError, match=r"(?s)epoch 0 had no usable sample.*9 x not a JPEG"):
        next(iter(loader))


@pytest.mark.parametrize("texts", [(), ("",), (" \t", "\n")])
def test_samples_without_a_caption_are_broken(tokenizer, texts):
    source = Shards([[Sample("good", picture(0), (" ", "a photo")), Sample("bad", picture(1), texts)]])
    loader = Loader(source, tokenizer, PREPROCESSING, config(max_broken=1.0))
    assert set(keys(take(loader, 2)[0])) == {"good"} and sum(loader.broken.values()) > 0


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("error", [RuntimeError("a mistake in the program"), MemoryError("no memory is left")])
def test_errors_of_the_source_reach_the_consumer(tokenizer, num_workers, error):
    class Failing(Shards):
        def read(self, index):
            yield from super().read(index)
            raise error

    loader = Loader(Failing(make([30]).contents), tokenizer, PREPROCESSING, config(num_workers=num_workers))
    with pytest.raises(type(error), match=str(error)):
        take(loader, 20)


# ---- the configuration


@pytest.mark.parametrize(
    "changes",
    [
        {"global_batch_size": 0},
        {"global_batch_size": 2.5},
        {"shuffle_buffer": -1},
        {"shuffle_buffer_bytes": 0},
        {"num_workers": -1},
        {"num_workers": 10**6},
        {"max_broken": 1.5},
        {"max_broken": float("nan")},
        {"seed": -1},
        {"chunk_size": 0},
        {"chunk_size": True},
        {"lanes": 0},
    ],
)
def test_absurd_configs(changes):
    with pytest.raises(ConfigError, match=f"{next(iter(changes))} is {next(iter(changes.values()))}"):
        LoaderConfig(**changes)


# ---- evaluation


@pytest.mark.parametrize("num_workers", [0, 2])
def test_evaluation_batches(num_workers, caplog):
    source = make([9, 0, 14], broken_every=5)
    with caplog.at_level(logging.WARNING, "diptych"):
        batches = list(evaluation_batches(source, PREPROCESSING, batch_size=8, num_workers=num_workers))
    items = [item for shard in source.contents for item in shard]
    good = [(place, item) for place, item in enumerate(items) if isinstance(item, Sample) and len(item.image) > 200]
    assert len(good) < len(items) == 23
    assert [place for batch in batches for place in batch.places.tolist()] == [place for place, _ in good]
    known = [dataclasses.replace(sample, image=b"") for _, sample in good]
    assert [sample for batch in batches for sample in batch.samples] == known
    good = [sample for _, sample in good]
    images = torch.cat([batch.images for batch in batches])
    expected = torch.stack([evaluation_pixels(decode_image(sample.image), PREPROCESSING) for sample in good])
    assert torch.equal(images, expected)
    assert any("4 of 23 samples were broken" in record.getMessage() for record in caplog.records)
    assert not multiprocessing.active_children() and not reader_threads()


def test_evaluation_needs_samples_and_no_labels():
    sample = Sample("k", picture(0), ("text",), metadata={"place": "here"})
    [batch] = evaluation_batches(Shards([[sample]]), PREPROCESSING)
    assert batch.samples == (dataclasses.replace(sample, image=b""),) and len(batch.images) == 1
    with pytest.raises(DataError, match="no samples"):
        list(evaluation_batches(Shards([[]]), PREPROCESSING))


def test_evaluation_of_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    [batch] = evaluation_batches(Shards([[Sample("k", pixels, label=3)]]), PREPROCESSING)
    assert np.array_equal(batch.images[0].permute(1, 2, 0).numpy(), pixels) and batch.samples[0].label == 3
