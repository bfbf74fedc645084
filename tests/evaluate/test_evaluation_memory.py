"""Evaluation's memory does not grow with the set: pictures pass through, vectors go to disk."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import resource, sys
from pathlib import Path
import numpy as np, torch
from diptych.data.source import Source
from diptych.evalsets.benchmark import Benchmark
from diptych.evaluate.encoded_set import encode_set
from diptych.evaluate.tasks.task import Setting
from diptych.evaluate.tasks.zero_shot import measure_zero_shot
from diptych.records import Sample

class Noise(Source):
    shards, fingerprint = (), ""
    def __init__(self, count):
        self.shards, self.fingerprint = tuple(map(str, range(count // 1000))), str(count)
    def read(self, index):
        rng = np.random.default_rng(index)
        for number in range(1000):
            yield Sample(f"{index}/{number}", rng.integers(256, size=(48, 48, 3), dtype=np.uint8), (), number % 2)

class Means:
    name = image_fingerprint = fingerprint = "means"
    def encode_images(self, pictures):
        rows = torch.tensor(np.stack([np.asarray(one, np.float32).mean(axis=0).reshape(-1) for one in pictures]))
        return torch.nn.functional.normalize(rows, dim=1)
    def encode_texts(self, texts):
        return torch.nn.functional.normalize(torch.tensor([[float(len(text))] + [1.0] * 143 for text in texts]), dim=1)

def measure(count):
    benchmark = Benchmark("noise", "test", ("cat", "fish"), ("a {c}",), Noise(count), str(count))
    encoded = encode_set(Means(), benchmark, cache=Path(sys.argv[1]))
    assert measure_zero_shot(Means(), benchmark, encoded, Setting(Path()), ("ensemble",)).results[0].n == count
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

small = measure(2000)
print(measure(20000) - small)
"""


def test_ten_times_the_pictures_take_hardly_more_memory(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parents[2],
        env={"OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
    )
    # 18,000 more pictures are 124 MB of pixels; vectors (10 MB, mapped), keys and labels stay: 46 MB at first.
    assert float(done.stdout) < 80
