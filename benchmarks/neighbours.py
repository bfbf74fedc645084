"""Exact nearest neighbours on the CPU, ours against one torch product with topk of the whole table.

    python benchmarks/neighbours.py --json
    python benchmarks/neighbours.py --items 1000000 --queries 256 --k 100 --json

The peer holds all queries x items scores at once, and orders equal scores as it happens; ours holds a tile, and its
answer is the same for every tiling. --repeats alternating measurements of each side; medians are compared. The share of
rows on which both agree is printed, too.
"""

import common
import numpy as np
import torch

from diptych.embed.neighbours import nearest_neighbours


def main() -> None:
    """Measure random unit vectors."""
    parser = common.parser(__doc__, peers=["torch"], repeats=5)
    parser.add_argument("--items", type=int, default=100_000, help="vectors that are searched (%(default)s)")
    parser.add_argument("--queries", type=int, default=1024, help="vectors that search (%(default)s)")
    parser.add_argument("--dim", type=int, default=512, help="numbers per vector (%(default)s)")
    parser.add_argument("--k", type=int, default=10, help="neighbours per query (%(default)s)")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    queries, items = (
        rng.normal(size=(count, arguments.dim)).astype(np.float32) for count in (arguments.queries, arguments.items)
    )
    for vectors in (queries, items):
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    wanted, table = torch.from_numpy(queries), torch.from_numpy(items)
    ours, theirs = nearest_neighbours(queries, items, arguments.k), (wanted @ table.T).topk(arguments.k)
    seconds, peer_seconds = common.time_alternately(
        lambda: nearest_neighbours(queries, items, arguments.k),
        lambda: (wanted @ table.T).topk(arguments.k),
        repeats=arguments.repeats,
    )
    count = arguments.queries
    agree = float((ours.rows == theirs.indices.numpy()).mean())
    common.report(
        arguments,
        benchmark="neighbours",
        unit="queries/s",
        ours=count / seconds,
        peer=count / peer_seconds,
        items=arguments.items,
        dim=arguments.dim,
        k=arguments.k,
        agree=agree,
    )


if __name__ == "__main__":
    main()
