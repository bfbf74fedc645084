"""What all scripts in benchmarks/ share: arguments, fair timing against a peer, and the last line in JSON.

    arguments = common.parse_arguments(__doc__, peers=["open_clip"])       # --peer NAME, --json, --repeats
    seconds, peer_seconds = common.time_alternately(ours, theirs, repeats=arguments.repeats)
    common.report(arguments, benchmark="tokenizer", unit="captions/s", ours=n / seconds, peer=n / peer_seconds)

Ours and the peer's run in turn in one process, so that a slow minute of the machine hits both; medians are compared.
Scripts are run from anywhere as `python benchmarks/NAME.py`; Python then finds this module beside them.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from diptych.evaluate.provenance import commit, machine

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"


def parser(
    description: str | None, peers: Sequence[str], repeats: int = 5, alone: bool = False
) -> argparse.ArgumentParser:
    """The parser with the common options, for scripts that add their own; `peers` are the names that --peer takes.

    With an empty `peers`, the script has no peer and --peer is refused. With `alone`, --peer none measures ours alone.
    """
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    choices = [*peers, *["none"] * alone]
    made.add_argument("--peer", choices=choices, default=peers[0] if peers else None, help="whom to measure against")
    made.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    made.add_argument(
        "--repeats", type=int, default=repeats, help="alternating measurements of each side (%(default)s)"
    )
    return made


def parse_arguments(description: str | None, peers: Sequence[str], repeats: int = 5) -> argparse.Namespace:
    """Parse the common options alone: `.peer`, `.json`, `.repeats`."""
    return parser(description, peers, repeats).parse_args()


def time_once(run: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def time_alternately(
    ours: Callable[[], object], peer: Callable[[], object] | None, repeats: int = 5
) -> tuple[float, float | None]:
    """Median seconds per call of two functions that run in turn: ours, peer, peer, ours, ours, peer, ...

    Without a peer, ours alone. Warm up before the call whatever both sides should have warm.
    """
    ours_seconds, peer_seconds = [], []
    for repeat in range(repeats):
        turns = [(ours, ours_seconds)] + ([(peer, peer_seconds)] if peer else [])
        for run, seconds in turns if repeat % 2 == 0 else reversed(turns):
            seconds.append(time_once(run))
    return statistics.median(ours_seconds), statistics.median(peer_seconds) if peer else None


def report(
    arguments: argparse.Namespace, *, benchmark: str, unit: str, ours: float, peer: float | None = None, **details: Any
) -> None:
    """Print the figures in words and, with --json, one JSON object as the last line.

    Args:
        arguments: what `parse_arguments` gave.
        benchmark: name of the script.
        unit: of both figures, "something/s": more is better.
        ours, peer: the figures; `ratio` is ours over the peer's, above 1 is faster. Without a peer both are null.
        details: further numbers or settings, JSON-serialisable.
    """
    ratio = ours / peer if peer else None
    versus = f", {arguments.peer}: {peer:,.0f} {unit}, ratio {ratio:.2f}" if peer and ratio else ""
    print(f"{benchmark}: diptych: {ours:,.0f} {unit}{versus}")
    if arguments.json:
        figures = {
            "benchmark": benchmark,
            "unit": unit,
            "ours": ours,
            "peer": peer,
            "peer_name": arguments.peer,
            "ratio": ratio,
        }
        print(json.dumps({**figures, **details, "machine": machine(), "commit": commit()}))
