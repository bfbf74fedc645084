"""Memory stays flat while a source is embedded, however many images it has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

RUN = """
import resource, sys, threading, time
from pathlib import Path
import numpy as np, torch
sys.path[:0] = ["tests"]
from colours import encoded
from PIL import Image
from diptych.data.source import Source
from diptych.data.transforms import Preprocessing
from diptych.embed.embed_source import embed_source
from diptych.records import Broken, Sample

number, folder = int(sys.argv[1]), sys.argv[2]
image = encoded(Image.new("RGB", (24, 20), (200, 30, 90)))
PAGE = resource.getpagesize()

def rss():
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE >> 20

class Many(Source):
    shards = tuple(map(str, range(100)))
    fingerprint = "many"

    def read(self, index):
        for place in range(number // 100):
            key = f"{index}/{place} of a name that is as long as names of files are"
            yield Broken(key, str(index), "made so") if place % 50 == 7 else Sample(key, bytes(image))

class Means:
    name = image_fingerprint = "means"
    preprocessing = Preprocessing(8)
    num = 0
    peaks = [0, 0]

    def encode_images(self, images):
        raise NotImplementedError

    def encode_pixels(self, images):
        self.num += len(images)
        half = int(self.num > 0.5 * number)
        if self.num > 0.1 * number:  # after the start
            self.peaks[half] = max(self.peaks[half], rss())
        return torch.nn.functional.normalize(images.float().flatten(1) + 1, dim=1)

means = Means()
store = embed_source(Many(), means, folder, batch_size=64, rows_per_shard=1024)
assert len(store) + store.num_broken == number and store.is_complete
print(*means.peaks)
"""


def peaks(number, folder):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", RUN, str(number), str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return [int(word) for word in done.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [20_000, pytest.param(200_000, marks=pytest.mark.long)])
def test_the_second_half_needs_no_more_memory_than_the_first(tmp_path, number):
    first, second = peaks(number, tmp_path / "store")
    assert first > 50 and second - first <= 8, f"{first} MiB, then {second} MiB"
