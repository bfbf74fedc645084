"""The life and death of workers."""

import itertools
import multiprocessing
import os
import signal
import time

import pytest
from loading import PREPROCESSING, Shards, config, make, reader_threads, small_tokenizer

from diptych.data.loader import Loader
from diptych.data.tokenizer import Tokenizer
from diptych.errors import DiptychError


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return small_tokenizer()


def test_close_leaves_nothing_behind(tokenizer):
    loader = Loader(make([50, 50]), tokenizer, PREPROCESSING, config(num_workers=2))
    next(iter(loader))  # the iterator is dropped at once
    assert not multiprocessing.active_children() and not reader_threads()
    batches = iter(loader)
    next(batches)
    assert len(multiprocessing.active_children()) == 2 and len(reader_threads()) == 1
    loader.close()
    assert not multiprocessing.active_children() and not reader_threads()


@pytest.mark.parametrize("prefetched", [0, 20])
def test_a_dead_worker_is_an_error_and_no_hang(tokenizer, prefetched):
    loader = Loader(make([500]), tokenizer, PREPROCESSING, config(num_workers=2, global_batch_size=100))
    batches = iter(loader)
    list(itertools.islice(batches, 1 + prefetched))
    time.sleep(0.2 if prefetched else 0)  # chunks lie ready whose pixels the dead worker can no longer hand over
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    with pytest.raises(DiptychError, match="a process that decodes images died"):
        list(itertools.islice(batches, 100))
    assert not multiprocessing.active_children() and not reader_threads()


def test_workers_ignore_ctrl_c(tokenizer):
    loader = Loader(make([500]), tokenizer, PREPROCESSING, config(num_workers=2, global_batch_size=100))
    batches = iter(loader)
    next(batches)
    for worker in multiprocessing.active_children():
        os.kill(worker.pid, signal.SIGINT)
    assert len(list(itertools.islice(batches, 10))) == 10
    loader.close()


def test_waiting_is_measured(tokenizer):
    class Slow(Shards):
        def read(self, index):
            for item in super().read(index):
                time.sleep(0.02)
                yield item

    slow = Slow(make([60]).contents)
    values = {"global_batch_size": 30, "shuffle_buffer": 0, "chunk_size": 15}
    loader = Loader(slow, tokenizer, PREPROCESSING, config(**values))
    next(batches := iter(loader))
    assert 0.55 < loader.seconds_waited < 10
    waited = loader.seconds_waited
    time.sleep(1.2)  # the model's work, while reading goes on
    next(batches)
    assert loader.seconds_waited - waited < 0.5
