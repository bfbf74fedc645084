"""How to decode beside the model: in its thread, in threads, in processes, or a process per core. One alternating run.

python benchmarks/decode_overlap.py photos/ --model default --rounds 5
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import diptych
from diptych.data.open_images import open_images
from diptych.embed.embed_source import embed_source
from diptych.processor import num_cores

CORES = num_cores()
WAYS = {
    "in the model's thread": {"num_threads": 0},
    "1 thread": {"num_threads": 1},
    f"{CORES} threads (default)": {"num_threads": CORES},
    f"{2 * CORES} threads": {"num_threads": 2 * CORES},
    "1 process": {"num_workers": 1},
    f"{CORES} processes": {"num_workers": CORES},
    f"{CORES} encoding processes": {"num_processes": CORES},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", help="images, as in diptych embed")
    parser.add_argument("--model", default="default")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    source = open_images(arguments.images)
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(arguments.rounds):
        for way, options in WAYS.items():
            # A model for each: a back end that has computed in this process cannot compute in its forks.
            model = diptych.load(arguments.model, "cpu", arguments.precision, backend=arguments.backend)
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                store = embed_source(
                    source, model, Path(folder) / "store", batch_size=64, rows_per_shard=256, **options
                )
                rates[way].append(len(store) / (time.perf_counter() - start))
    base = statistics.median(rates["in the model's thread"])
    print(f"{model!r}, {len(store)} images, {CORES} cores, median of {arguments.rounds}")
    for way, values in rates.items():
        median = statistics.median(values)
        print(f"{way:28} {median:8.1f} images/s  {median / base:5.2f}  (best {max(values):.1f})")


if __name__ == "__main__":
    main()
