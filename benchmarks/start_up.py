"""What one photograph costs in a process of its own, beside `import torch` alone and beside open_clip.

python benchmarks/start_up.py [--repeats 5] [--json]

Processor time (user and system) and time on the clock, the median of several runs, one after the other in turn. The
model's own arithmetic is measured inside a process: embedding the photograph and the labels, once warm.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
LABELS = ("cat", "dog")
ARITHMETIC = """
import sys, time
import diptych
model = diptych.load("default")
for _ in range(2):
    start = time.process_time()
    classifier = diptych.ZeroShotClassifier(model, ["cat", "dog"])
    classifier.predict_proba([sys.argv[1]])
    seconds = time.process_time() - start
print(seconds)
"""
# The same work by the peer: ViT-B-32 has random weights, so that neither a download nor reading a file is timed.
PEER = """
import sys
sys.path.insert(0, sys.argv[2])
import peers, torch, open_clip
from PIL import Image
model, _, prepare = open_clip.create_model_and_transforms("ViT-B-32")
model.eval()
tokens = open_clip.get_tokenizer("ViT-B-32")([f"a photo of a {name}." for name in ("cat", "dog")])
with torch.inference_mode():
    image = model.encode_image(prepare(Image.open(sys.argv[1]).convert("RGB"))[None], normalize=True)
    text = model.encode_text(tokens, normalize=True)
    print((100 * image @ text.T).softmax(dim=-1))
"""


def measure(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Processor seconds and seconds on the clock of a process."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, seconds


def main() -> None:
    """Measure in turn, print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--no-peer", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "photo.jpg"
        pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((640, 480)).save(photo)
        environment = {**os.environ, "XDG_CACHE_HOME": folder}
        python, classify = [sys.executable], ["-m", "diptych", "classify", str(photo), "--labels"]
        commands = {
            "import torch": [*python, "-c", "import torch"],
            "diptych classify": [*python, *classify, ",".join(LABELS)],
            "diptych --version": [*python, "-m", "diptych", "--version"],
        }
        if not options.no_peer:
            commands["open_clip"] = [*python, "-c", PEER, str(photo), str(ROOT / "tests")]
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(options.repeats + 1):
            for name, command in commands.items():
                times[name].append(measure(command, environment))
        arithmetic = float(subprocess.check_output([*python, "-c", ARITHMETIC, str(photo)], env=environment))
    median = {
        name: [statistics.median(column) for column in zip(*runs[1:], strict=True)] for name, runs in times.items()
    }
    allowed = 1.25 * median["import torch"][0] + arithmetic
    found = {
        "seconds": median,
        "arithmetic": arithmetic,
        "goal": allowed,
        "share": median["diptych classify"][0] / allowed,
    }
    if options.json:
        print(json.dumps(found))
        return
    for name, (processor, clock) in median.items():
        print(f"{name:20} {processor:6.2f} s of processor time, {clock:6.2f} s on the clock")
    print(f"{'arithmetic':20} {arithmetic:6.2f} s of processor time")
    print(f"1.25 times import torch and the arithmetic are {allowed:.2f} s; classify takes {found['share']:.0%} of it")


if __name__ == "__main__":
    main()
