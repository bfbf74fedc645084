"""What a large batch costs in memory."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from loading import AUGMENTATION, PREPROCESSING, config, make, small_tokenizer, take

from diptych.data.assembly import Assembly
from diptych.data.loader import Loader
from diptych.data.transforms import Preprocessing
from diptych.data.workers import DecodedChunk

TESTS = Path(__file__).resolve().parents[1]

_PEAK = """
    import sys
    sys.path.insert(0, {tests!r})
    import numpy as np, torch
    from loading import *
    from diptych.data import loader as module

    module._AHEAD_BYTES = 8 << 20

    def resident(name):
        lines = open("/proc/self/status").read().splitlines()
        return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(name))

    class Same(Shards):
        def read(self, index):
            return (Sample(f"{{index}}/{{n}}", pixels, ("a photo",)) for n in range(512))

    def batches(size, count):
        values = config(global_batch_size=size, lanes=4, chunk_size=32, num_workers={num_workers})
        loader = Loader(Same([[]] * 8), small_tokenizer(), Preprocessing(96), values, Augmentation("centre"))
        iterator = iter(loader)
        for _ in range(count):
            batch = next(iterator)
            assert len(batch) == size and all(bool((image == 7).all()) for image in batch.images)
            del batch
        loader.close()

    pixels = np.full((96, 96, 3), 7, np.uint8)
    batches(64, 2)  # what the libraries take at their first use
    before = resident("VmRSS")
    batches(4096, 3)
    print((resident("VmHWM") - before) / (4096 * 3 * 96 * 96))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_large_batch_is_held_once(num_workers):
    """The unit is one batch of 113 MB; each is let go before the next is asked for."""
    script = textwrap.dedent(_PEAK.format(tests=str(TESTS), num_workers=num_workers))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert found.returncode == 0, found.stderr
    assert 0.9 < float(found.stdout) < 1.5


def test_what_is_decoded_ahead_is_bounded_in_bytes():
    """Twice a small batch and a chunk for each lane; of a large one what 512 MiB hold."""

    def ahead(image_size, **changes):
        loader = Loader(make([1] * 8), small_tokenizer(), Preprocessing(image_size), config(**changes))
        return loader._chunks_ahead()

    assert ahead(64, global_batch_size=256, chunk_size=32, lanes=8) == 16 + 8
    assert ahead(224, global_batch_size=32_768, chunk_size=32, lanes=8) == 111  # of 4.8 MB
    assert ahead(64, global_batch_size=32_768, chunk_size=32, lanes=8) == 256  # each holds a file descriptor
    assert ahead(224, global_batch_size=32_768, chunk_size=8192, lanes=1) == 1


def chunk(keys: list[str], tokens: list[list[int]]) -> DecodedChunk:
    images = torch.stack([torch.full((3, 2, 2), int(key), dtype=torch.uint8) for key in keys])
    lengths = np.array([sum(token > 0 for token in row) for row in tokens])
    return DecodedChunk(images, tuple(keys), (), np.array(tokens, np.int32), lengths)


def test_a_batch_fills_up_in_any_order_of_lanes():
    batch = Assembly({2: 2, 3: 0, 5: 3}, image_size=2)
    assert batch.add(5, chunk(["1", "2"], [[7, 0], [7, 8]]), 1) == 1  # the second of the two
    assert batch.add(2, chunk(["3", "4", "5"], [[1, 2, 3, 0], [1, 0, 0, 0], [9, 9, 9, 9]]), 0) == 2  # the third is left
    assert batch.missing == {2: 0, 3: 0, 5: 2} and not batch.complete
    assert batch.add(5, chunk(["6", "7"], [[4], [5]]), 0) == 2 and batch.complete
    done = batch.finish()
    assert done.keys == ("3", "4", "2", "6", "7") and done.images[:, 0, 0, 0].tolist() == [3, 4, 2, 6, 7]
    assert done.tokens.tolist() == [[1, 2, 3], [1, 0, 0], [7, 8, 0], [4, 0, 0], [5, 0, 0]]
    assert done.lengths.tolist() == [3, 1, 2, 1, 1] and done.tokens.is_contiguous()


def test_pinned_memory_changes_no_batch():
    """Without CUDA the option means nothing; with it, a GPU can fetch the tensors while it computes."""
    source, values = make([9, 9]), config(lanes=2)
    plain, _ = take(Loader(source, small_tokenizer(), PREPROCESSING, values, AUGMENTATION), 2)
    pinned, _ = take(Loader(source, small_tokenizer(), PREPROCESSING, values, AUGMENTATION, pin_memory=True), 2)
    for ours, theirs in zip(pinned, plain, strict=True):
        for name in ("images", "tokens", "lengths"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name))
            assert getattr(ours, name).is_pinned() == torch.cuda.is_available()
