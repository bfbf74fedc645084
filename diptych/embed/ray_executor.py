"""Map a function over shards on the machines of a Ray cluster: the same function that `map_shards` runs here.

    embed_source(source, encoder, folder, executor=ray_executor("auto"))

Every machine must see the input and the output folder under the same paths, and have the same versions of Diptych and
Python. A shard whose machine is lost is computed again on another one. Shards are written whole and renamed into
place, so nothing is lost and nothing is written twice.
"""

import contextlib
import logging
import os
import platform
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from diptych.embed.executor import Executor, portable
from diptych.embed.library_encoder import first_line
from diptych.errors import ConfigError, DataError, WorkerError

S = TypeVar("S")
R = TypeVar("R")

logger = logging.getLogger(__name__)


def ray_executor(address: str = "auto", *, cpus_per_shard: float = 1, gpus_per_shard: float = 0) -> Executor:
    """An executor on a Ray cluster.

    Args:
        address: of the cluster: "auto" for the one that this machine belongs to, "host:port", or "ray://host:port".
            "local" starts one on this machine.
        cpus_per_shard, gpus_per_shard: what a process that works on a shard gets; it computes with as many threads.
    Raises:
        ConfigError: ray is not installed, or there is no cluster at the address.
    """
    ray = _connected(address)

    def map_on_ray(
        function: Callable[[S], R],
        shards: Sequence[S],
        /,
        *,
        is_finished: Callable[[S], bool] | None = None,
        num_processes: int = 1,
    ) -> Iterator[tuple[S, R]]:
        """Yield each unfinished shard with its result, in the order of the shards; see `Executor`.

        `num_processes` has no effect: the cluster runs as many processes as its cores allow.
        """
        pending = [shard for shard in shards if is_finished is None or not is_finished(shard)]
        if pending:
            yield from _on_cluster(ray, function, pending, cpus_per_shard, gpus_per_shard)

    return map_on_ray


def _on_cluster(
    ray: Any, function: Callable[[S], R], shards: list[S], cpus: float, gpus: float
) -> Iterator[tuple[S, R]]:
    """Yield each shard with its result, in their order."""
    rows = ray.data.from_items([{"place": place} for place in range(len(shards))], override_num_blocks=len(shards))
    # Held here until the end: a process that Ray starts again reads them again.
    sent = ray.put(function), ray.put(shards)
    results = rows.map_batches(
        _Worker,
        batch_size=1,
        batch_format="default",
        fn_constructor_args=(*sent, max(1, int(cpus)), str(Path.cwd())),
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(len(shards), _places(ray, cpus, gpus))),
        **{name: number for name, number in (("num_cpus", cpus), ("num_gpus", gpus)) if number},
    )
    with contextlib.closing(_in_order(results, len(shards))) as answers:
        for place, (value, error) in answers:
            if error is not None:
                raise error
            yield shards[place], value


class _Worker:
    """An actor: holds the function, so that a model is sent to a machine and opened there once."""

    def __init__(self, function: Any, shards: Any, threads: int, folder: str) -> None:
        self.folder = folder
        os.environ["OMP_NUM_THREADS"] = str(threads)
        import ray
        import torch

        torch.set_num_threads(threads)
        self.function, self.shards = (
            ray.get(part) if isinstance(part, ray.ObjectRef) else part for part in (function, shards)
        )

    def enter_folder(self) -> None:
        """Relative paths mean the same as where the work began.

        Raises:
            DataError: this machine has no such folder.
        """
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise DataError(
                f"{platform.node()} has no folder {self.folder} ({error.strerror}): all machines of the cluster must "
                "see the input and the output under the same paths"
            ) from error

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """One shard: its place among the pending ones -> (result, error)."""
        import numpy as np

        (place,) = batch["place"]
        answer = np.empty(1, dtype=object)
        try:
            self.enter_folder()
            answer[0] = self.function(self.shards[int(place)]), None
        except Exception as error:
            answer[0] = None, portable(error)
        return {"place": batch["place"], "answer": answer}


def _connected(address: str) -> Any:
    """The module ray, connected to the cluster and quiet."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigError(
            f"a Ray cluster needs the library ray: pip install 'diptych[ray]' ({first_line(error)})"
        ) from error
    if not ray.is_initialized():
        try:
            ray.init(address=None if address == "local" else address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError, OSError, TimeoutError) as error:
            raise ConfigError(
                f"there is no Ray cluster at {address!r} ({first_line(error)}): start one with `ray start --head`, and "
                "give its address"
            ) from error
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    for name in ("ray.data", "ray._private", "ray._common"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return ray


def _places(ray: Any, cpus: float, gpus: float) -> int:
    """How many shards the cluster can work on at the same time.

    Raises:
        ConfigError: no machine of it can hold one.
    """
    total = ray.cluster_resources()
    places = [int(total.get(name, 0) / need) for name, need in (("CPU", cpus), ("GPU", gpus)) if need]
    if not places or min(places) < 1:
        raise ConfigError(f"the Ray cluster has {total.get('CPU', 0):g} CPUs and {total.get('GPU', 0):g} GPUs: too few")
    return min(places)


def _in_order(results: Any, count: int) -> Generator[tuple[int, Any]]:
    """The place and the answer of each shard, by place, as soon as all before it are there."""
    waiting: dict[int, Any] = {}
    expected = 0
    try:
        for row in results.iter_rows():
            waiting[int(row["place"])] = row["answer"]
            while expected in waiting:
                yield expected, waiting.pop(expected)
                expected += 1
    except GeneratorExit:
        raise
    except Exception as error:  # Ray's own: the cluster is gone, or a machine ran out of memory again and again
        raise WorkerError(
            f"the Ray cluster failed: {first_line(error)}; finished shards are kept, run it again to resume"
        ) from error
    if expected != count:
        raise WorkerError(f"the Ray cluster returned {expected} of {count} shards; run it again to resume")
