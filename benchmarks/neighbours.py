"""Nearest neighbours on the CPU, ours against faiss or against one torch product with topk of the whole table.

    python benchmarks/neighbours.py --peer faiss --json
    python benchmarks/neighbours.py --items 1000000 --queries 4096 --json
    OMP_NUM_THREADS=1 python benchmarks/neighbours.py --threads 1 --cpu-time --json     # on a machine with other work

Vectors have unit norm and an effective dimension of --rank, as those of images have; half of the queries are items with
noise. Every --repeats, all sides run in turn; medians are compared: the exact search with fp32 and with int8 selection,
the peer (faiss: IndexFlatIP), the approximate search with its recall, and a bare matrix product, the machine's limit
in the same run. From the rate the hours for 500,000 queries in 400 million vectors are computed.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import common
import numpy as np
import torch

from diptych.embed.engine import EncodedBatch
from diptych.embed.neighbours import nearest_neighbours
from diptych.embed.shard_writer import ShardWriter
from diptych.embed.store import Store, StoreManifest, open_store, shard_name
from diptych.errors import ConfigError
from diptych.overlap.approximate import ApproximateIndex, build_index, measured_recall
from diptych.records import Sample

LARGE = 500_000 * 400_000_000


def main() -> None:
    """Measure made vectors."""
    arguments = _arguments()
    rng = np.random.default_rng(0)
    queries, items = _vectors(rng, arguments)
    k, exact = arguments.k, nearest_neighbours(queries, items, arguments.k)
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    peer, found = _faiss_flat(items, queries, arguments) if arguments.peer == "faiss" else _torch(items, queries, k)
    product = torch.empty(1024, 4096)
    left, right = torch.from_numpy(_unit(rng, 1024, items.shape[1])), torch.from_numpy(_unit(rng, 4096, items.shape[1]))
    sides: dict[str, Callable[[], object]] = {
        "fp32": lambda: nearest_neighbours(queries, items, k),
        "peer": peer,
        "limit": lambda: [torch.mm(left, right.T, out=product) for _ in range(10)],
    }
    details: dict[str, object] = {"agree": float((exact.rows == found).mean())}
    try:
        int8 = nearest_neighbours(queries, items, k, selection="int8")
        assert np.array_equal(int8.rows, exact.rows) and np.array_equal(int8.scores, exact.scores)
        sides["int8"] = lambda: nearest_neighbours(queries, items, k, selection="int8")
    except ConfigError as error:
        details["int8"] = str(error)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.peer == "faiss":
            index, details["index_seconds"] = _index(Path(folder), items, clock)
            scores, copies = index.search(queries, k).scores, len(queries) // 2
            details["recall"], details["first_recall"] = measured_recall(scores, exact.scores)
            details["copies_recall"] = float((scores[:copies, 0] >= exact.scores[:copies, 0]).mean())
            sides["approximate"] = lambda: index.search(queries, k)
        seconds = _in_turn(sides, arguments.repeats, clock)
    _report(arguments, seconds, details)


def _arguments() -> argparse.Namespace:
    parser = common.parser(__doc__, peers=["faiss", "torch"], repeats=5)
    parser.add_argument("--items", type=int, default=400_000, help="vectors that are searched (%(default)s)")
    parser.add_argument("--queries", type=int, default=1024, help="vectors that search (%(default)s)")
    parser.add_argument("--dim", type=int, default=256, help="numbers per vector (%(default)s)")
    parser.add_argument("--rank", type=int, default=58, help="effective dimension (%(default)s)")
    parser.add_argument("--k", type=int, default=5, help="neighbours per query (%(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads (%(default)s)")
    parser.add_argument("--cpu-time", action="store_true", help="processor time, not elapsed time; for one thread")
    arguments = parser.parse_args()
    if arguments.cpu_time and arguments.threads != 1:
        parser.error("--cpu-time needs --threads 1: waiting threads count as busy")
    torch.set_num_threads(arguments.threads)
    return arguments


def _unit(rng: np.random.Generator, count: int, dim: int) -> np.ndarray:
    vectors = rng.standard_normal((count, dim), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _vectors(rng: np.random.Generator, arguments: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Queries and items: a few strong directions and weak noise in all."""
    directions = rng.standard_normal((arguments.rank, arguments.dim), dtype=np.float32)
    count = arguments.queries + arguments.items
    vectors = rng.standard_normal((count, arguments.rank), dtype=np.float32) @ directions
    vectors += 0.1 * arguments.rank**0.5 * rng.standard_normal(vectors.shape, dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries, items = vectors[: arguments.queries], vectors[arguments.queries :]
    copied = len(queries) // 2
    queries[:copied] = items[rng.integers(len(items), size=copied)] + 0.4 * _unit(rng, copied, arguments.dim)
    return queries / np.linalg.norm(queries, axis=1, keepdims=True), items


def _torch(items: np.ndarray, queries: np.ndarray, k: int) -> tuple[Callable[[], object], np.ndarray]:
    wanted, table = torch.from_numpy(queries), torch.from_numpy(items)
    return lambda: (wanted @ table.T).topk(k), (wanted @ table.T).topk(k).indices.numpy()


def _faiss_flat(
    items: np.ndarray, queries: np.ndarray, arguments: argparse.Namespace
) -> tuple[Callable[[], object], np.ndarray]:
    import faiss

    faiss.omp_set_num_threads(arguments.threads)
    flat = faiss.IndexFlatIP(items.shape[1])
    flat.add(items)
    return lambda: flat.search(queries, arguments.k), flat.search(queries, arguments.k)[1]


def _index(folder: Path, items: np.ndarray, clock: Callable[[], float]) -> tuple[ApproximateIndex, float]:
    """The approximate index of a store with these vectors, and the seconds that it took."""
    store = _store(folder, items)
    start = clock()
    index = build_index(store)
    return index, clock() - start


def _store(folder: Path, items: np.ndarray, rows: int = 65_536) -> Store:
    StoreManifest(fingerprint="made", model="made", dim=items.shape[1]).write(folder)
    for number, first in enumerate(range(0, len(items), rows)):
        part = items[first : first + rows]
        (shard := folder / shard_name(number, 0)).mkdir()
        samples = tuple(Sample(str(row), b"") for row in range(len(part)))
        with ShardWriter(shard, items.shape[1]) as writer:
            writer.add(EncodedBatch(np.arange(len(part)), samples, torch.from_numpy(part)))
            writer.finish(len(part), is_last=True)
    return open_store(folder)


def _in_turn(sides: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float]) -> dict[str, float]:
    """Median seconds of each side; every other round runs in the opposite order."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(repeats):
        for name in sides if repeat % 2 == 0 else reversed(sides):
            start = clock()
            sides[name]()
            seconds[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _report(arguments: argparse.Namespace, seconds: dict[str, float], details: dict[str, object]) -> None:
    work = 2e-9 * arguments.queries * arguments.items * arguments.dim
    rates = {name: work / value for name, value in seconds.items() if name not in ("limit", "approximate")}
    limit = 10 * 2e-9 * 1024 * 4096 * arguments.dim / seconds["limit"]
    for name, rate in rates.items():
        hours = 2e-9 * LARGE * arguments.dim / rate / 3600
        print(f"{name}: {rate:.0f} GFLOP/s, {rate / limit:.0%} of the matrix product's; 500 k in 400 M: {hours:,.0f} h")
    if "approximate" in seconds:
        rate = arguments.queries / seconds["approximate"]
        names = {"recall": f"of the {arguments.k} best", "first_recall": "of the best", "copies_recall": "of copies"}
        recalls = ", ".join(f"{words} {details[name]:.3f}" for name, words in names.items())
        print(f"approximate: {rate:,.0f} queries/s, recall {recalls}")
        details["approximate_queries_per_second"] = rate
    common.report(
        arguments,
        benchmark="neighbours",
        unit="queries/s",
        ours=arguments.queries / seconds["fp32"],
        peer=arguments.queries / seconds["peer"],
        items=arguments.items,
        dim=arguments.dim,
        k=arguments.k,
        threads=arguments.threads,
        processor_time=arguments.cpu_time,
        gflops=rates,
        matrix_gflops=limit,
        share={name: rate / limit for name, rate in rates.items()},
        hours_400m_500k={name: 2e-9 * LARGE * arguments.dim / rate / 3600 for name, rate in rates.items()},
        **details,
    )


if __name__ == "__main__":
    main()
