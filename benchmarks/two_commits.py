"""The same benchmark of this checkout and of another one, in turn: how much a change cost or gained.

    git worktree add ../before COMMIT
    python benchmarks/two_commits.py --rounds 5 ../before ours benchmarks/train_step.py --against --repeats 1 --json

Each checkout runs its own script; the last line that it prints is a JSON object, of which KEY is read ("ours", or
"results.0.ours" for a value inside).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="a checkout of the other commit")
    parser.add_argument("key", help="of the benchmark's JSON object, with dots")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each (%(default)s)")
    parser.add_argument("benchmark", nargs=argparse.REMAINDER, help="script and its options")
    arguments = parser.parse_args()
    values: dict[str, list[float]] = {"other": [], "this": []}
    for number in range(arguments.rounds):
        for name, root in (("other", arguments.other.resolve()), ("this", ROOT)):
            value = measure(root, arguments.benchmark, arguments.key)
            values[name].append(value)
            print(f"round {number + 1}, {name}: {value:.4g}", flush=True)
    medians = {name: statistics.median(several) for name, several in values.items()}
    ratios = [this / other for this, other in zip(values["this"], values["other"], strict=True)]
    print(f"medians {medians}; this / other: median {statistics.median(ratios):.3f} of {len(ratios)} rounds")


def measure(root: Path, benchmark: list[str], key: str) -> float:
    """One run of a checkout's script with its package."""
    script, *options = benchmark
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, str(root / script), *options], env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    value = json.loads(done.stdout.strip().splitlines()[-1])
    for part in key.split("."):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return float(value)


if __name__ == "__main__":
    main()
