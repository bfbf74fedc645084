"""One function over shards in processes: ordered, restarted once, and never orphaned."""

import multiprocessing
import os
import signal
import time

import pytest

from diptych.embed.executor import map_shards
from diptych.errors import DataError, WorkerError


def squared(shard):
    time.sleep(0.01 * (shard % 3))
    return shard**2


@pytest.mark.parametrize("num_processes", [1, 2, 5, 50])
def test_results_come_in_the_order_of_the_shards(num_processes):
    assert list(map_shards(squared, range(12), num_processes=num_processes)) == [(n, n**2) for n in range(12)]
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("num_processes", [1, 3])
def test_finished_shards_are_skipped(tmp_path, num_processes):
    def work(shard):
        (tmp_path / str(shard)).touch(exist_ok=False)
        return os.getpid() != parent

    parent, is_finished = os.getpid(), lambda shard: (tmp_path / str(shard)).exists()
    assert dict(map_shards(work, "abc", is_finished=is_finished, num_processes=num_processes)) == dict.fromkeys(
        "abc", num_processes > 1
    )
    assert list(map_shards(work, "cbda", is_finished=is_finished, num_processes=num_processes)) == [("d", False)]
    assert list(map_shards(work, "", num_processes=num_processes)) == []


def test_a_shard_whose_process_is_killed_once_is_tried_again(tmp_path):
    def work(shard):
        if shard == 2 and not (tmp_path / "killed").exists():
            (tmp_path / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return shard

    assert [result for _, result in map_shards(work, range(6), num_processes=2)] == list(range(6))


@pytest.mark.parametrize(
    ("end", "how"), [(lambda: os.kill(os.getpid(), signal.SIGSEGV), "SIGSEGV"), (lambda: os._exit(3), "exit code 3")]
)
def test_a_shard_whose_process_is_killed_twice_is_an_error(end, how):
    def work(shard):
        return end() if shard == 3 else shard

    with pytest.raises(WorkerError, match=f"worked on 3 was ended 2 times, the last time by {how}"):
        list(map_shards(work, range(6), num_processes=2))
    assert not multiprocessing.active_children()


def test_errors_keep_their_kind_and_all_processes_end():
    def work(shard):
        if shard == 1:
            raise DataError("shard 1 is broken; fetch it again")
        time.sleep(60 if shard else 0)
        raise ValueError("words")

    with pytest.raises(DataError, match="fetch it again"):
        list(map_shards(work, [1, 2, 3], num_processes=3))
    with pytest.raises(WorkerError, match="ValueError: words"):
        list(map_shards(work, [0, 2], num_processes=2))
    assert not multiprocessing.active_children()


def test_who_stops_listening_leaves_no_process():
    def work(shard):
        time.sleep(60 if shard else 0)

    results = map_shards(work, range(3), num_processes=3)
    assert next(results) == (0, None)
    results.close()
    assert not multiprocessing.active_children()
