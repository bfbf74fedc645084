"""What one photograph costs in a process of its own, beside `import torch` alone and beside open_clip.

python benchmarks/start_up.py [--repeats 5] [--json]

Time on the clock and processor time (user and system), the median of several runs, one after the other in turn. The
first run of each command, which compiles the model and embeds the labels, is left out and reported apart. ViT-B/32 has
random weights and OpenAI's vocabulary. rclip, the fastest such tool known, publishes 0.50 to 0.52 s for a text query
(its pull request 274); it cannot be run here without its weights.
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

from diptych.evaluate.provenance import commit, machine

ROOT = Path(__file__).resolve().parents[1]
LABELS = ("cat", "dog")
MAKE_MODEL = """
import sys
import torch
from diptych.data.tokenizer import Tokenizer
from diptych.data.transforms import Preprocessing
from diptych.embed import Model
from diptych.model.build import build_model
from diptych.model.presets import get_preset
torch.manual_seed(0)
Model(build_model(get_preset("ViT-B/32")), Tokenizer.openai(), Preprocessing(), "ViT-B-32").save(sys.argv[1])
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
        python, model = [sys.executable], Path(folder) / "ViT-B-32"
        subprocess.run([*python, "-c", MAKE_MODEL, str(model)], check=True, env=environment)
        classify = [*python, "-m", "diptych", "classify", str(photo), "--labels"]
        commands = {"import torch": [*python, "-c", "import torch"], "diptych --version": [*classify[:3], "--version"]}
        for name, words in (("default", []), ("ViT-B/32", ["--model", str(model)])):
            commands[f"classify, {name}"] = [*classify, ",".join(LABELS), *words]
            # {run} gives labels that were never embedded before.
            commands[f"classify, {name}, new labels"] = [*classify, "{run},dog", *words]
            commands[f"classify, {name}, torch"] = [*classify, ",".join(LABELS), *words, "--backend", "torch"]
        if not options.no_peer:
            commands["open_clip, ViT-B/32"] = [*python, "-c", PEER, str(photo), str(ROOT / "tests")]
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for run in range(options.repeats + 1):
            for name, command in commands.items():
                words = [word.replace("{run}", f"cat {run}") for word in command]
                times[name].append(measure(words, environment))
    median = {
        name: [statistics.median(column) for column in zip(*runs[1:], strict=True)] for name, runs in times.items()
    }
    shares = {name: clock / median["import torch"][1] for name, (_, clock) in median.items()}
    if options.json:
        where = {"machine": machine("cpu"), "commit": commit()}
        print(json.dumps({"seconds": median, "share of import torch": shares, "run": where}))
        return
    for name, (processor, clock) in median.items():
        first = times[name][0][1]
        print(
            f"{name:32} {clock:6.2f} s on the clock, {processor:6.2f} s of processor time; "
            f"{shares[name]:4.0%} of import torch; the first run {first:.2f} s"
        )


if __name__ == "__main__":
    main()
