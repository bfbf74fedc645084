"""The pool of processes: crashes, endless loops, large results, odd surroundings; no child outlives its parent."""

import ctypes
import itertools
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path

import pytest
import torch
from loading import PREPROCESSING, make

from diptych.data import processes
from diptych.data.evaluation_batches import evaluation_batches
from diptych.data.processes import NO_ITEM, Pool
from diptych.data.stream import Chunk
from diptych.data.transforms import Preprocessing
from diptych.data.workers import EvaluationDecoder, decode_chunks
from diptych.errors import ConfigError, WorkerError

TESTS = Path(__file__).parents[1]


def double(task: list[int], begin) -> tuple[list[int], torch.Tensor]:
    """Each number twice; some numbers are deadly."""
    for index, number in enumerate(task):
        begin(index)
        if number == -1:
            ctypes.string_at(0)
        elif number == -2:
            while True:
                pass
        elif number == -3:
            raise ConfigError("three")
        elif number == -4:
            raise ZeroDivisionError("four")
    begin(NO_ITEM)
    if task == [-5]:
        os.kill(os.getpid(), signal.SIGKILL)
    return [2 * number for number in task], torch.full((len(task), 3, 2, 2), len(task), dtype=torch.uint8)


def without(task: list[int], index: int, reason: str) -> list[int]:
    assert "SIGSEGV" in reason or "SIGPROF" in reason
    return [*task[:index], 1000, *task[index + 1 :]]


def doubled(tasks: list[list[int]], num_workers: int = 2, slot_bytes: int = 100, context: str = "fork") -> list:
    pool = Pool(double, num_workers, 3, slot_bytes, without, context)
    return [(result, tuple(pixels.shape), set(pixels.flatten().tolist())) for result, pixels in pool.map(iter(tasks))]


def expected(tasks: list[list[int]]) -> list:
    return [([2 * n for n in task], (len(task), 3, 2, 2), {len(task)} if task else set()) for task in tasks]


@pytest.mark.parametrize("slot_bytes", [0, 25, 100])
@pytest.mark.parametrize("num_workers", [1, 3])
def test_results_come_in_order_whatever_way_their_pixels_take(num_workers, slot_bytes):
    tasks = [list(range(n, n + n % 5)) for n in range(40)]
    assert doubled(tasks, num_workers, slot_bytes) == expected(tasks)


def test_spawned_processes_give_the_same():
    tasks = [[n, n + 1] for n in range(5)]
    assert doubled(tasks, 1, context="spawn") == expected(tasks)


def test_an_item_that_crashes_or_never_ends_is_replaced_and_the_others_stay(monkeypatch):
    monkeypatch.setattr(processes, "MAX_ITEM_SECONDS", 0.2)
    tasks = [[n, n + 1, n + 2] for n in range(20)]
    deadly = [list(task) for task in tasks]
    for task, index, number in ((3, 0, -1), (4, 2, -1), (10, 1, -1), (10, 2, -1), (11, 1, -2), (19, 2, -1)):
        tasks[task][index], deadly[task][index] = 1000, number
    assert doubled(deadly) == expected(tasks)


def test_errors_in_a_worker_reach_the_caller_and_other_deaths_end_the_work():
    with pytest.raises(ConfigError, match="three"):
        doubled([[1], [-3], [2]])
    with pytest.raises(WorkerError, match="ZeroDivisionError: four"):
        doubled([[1], [-4], [2]])
    with pytest.raises(WorkerError, match="died: it was ended by SIGKILL"):
        doubled([[1], [-5], [2]])
    with pytest.raises(WorkerError, match="cannot be sent"):
        doubled([[1], [lambda: None], [2]])


class Crashing(EvaluationDecoder):
    def __call__(self, chunk, begin):
        def noted(index: int) -> None:
            begin(index)
            if index != NO_ITEM and chunk.items[index][1].key in ("k3", "k9"):
                ctypes.string_at(0)

        return super().__call__(chunk, noted)


def test_a_picture_that_crashes_its_decoder_is_broken():
    items = [("0.tar", item) for item in make([12]).contents[0]]
    chunks = (Chunk(0, start, items[start : start + 4], False) for start in range(0, 12, 4))
    parts = list(decode_chunks(chunks, Crashing(PREPROCESSING), 2, 4, 4))
    assert [key for part in parts for key in part.keys] == [f"k{n}" for n in range(12) if n not in (3, 9)]
    broken = [(one.key, one.shard, one.reason) for part in parts for one in part.broken]
    assert broken == [(key, "0.tar", "its decoder crashes (SIGSEGV)") for key in ("k3", "k9")]


# ---- surroundings

_EVALUATE = f"""
    import ctypes, sys
    sys.path.insert(0, {str(TESTS)!r})
    from pathlib import Path
    from disks import small_disk
    from loading import *
    from diptych.data.evaluation_batches import evaluation_batches

    if {{small_shm}}:
        libc, new_mounts, private, below = ctypes.CDLL(None), 0x20000, 1 << 18, 1 << 14
        if libc.unshare(new_mounts) or libc.mount(b"none", b"/", None, private | below, None):
            sys.exit(77)
        small_disk(Path("/dev/shm"), 1 << 12).__enter__()  # until this process ends, and for it alone
    print(sum(int(batch.images.sum()) for batch in evaluation_batches(make([60]), Preprocessing(224), 16, 2)))
"""


def evaluate(small_shm: bool, folder_for_temporary_files: Path) -> int:
    """The sum of all pixels."""
    script = textwrap.dedent(_EVALUATE.format(small_shm=small_shm))
    values = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(folder_for_temporary_files)}
    done = subprocess.run([sys.executable, "-c", script], env=values, capture_output=True, text=True, timeout=100)
    if done.returncode == 77:
        pytest.skip("no file system can be mounted here")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.fixture(scope="module")
def sum_of_pixels() -> int:
    return sum(int(batch.images.sum()) for batch in evaluation_batches(make([60]), Preprocessing(224), 16, 0))


def test_long_and_unwritable_folders_for_temporary_files(tmp_path, sum_of_pixels):
    long = tmp_path / ("x" * 100) / ("y" * 100)
    long.mkdir(parents=True)
    assert evaluate(False, long) == sum_of_pixels
    assert evaluate(False, Path("/proc")) == sum_of_pixels


@pytest.mark.skipif(sys.platform != "linux", reason="mounts")
def test_a_full_shared_memory_stops_nothing(tmp_path, sum_of_pixels):
    """Docker's /dev/shm has 64 MiB; this one 4 KiB."""
    assert evaluate(True, tmp_path) == sum_of_pixels


# ---- the parent's end


def marked(mark: str) -> list[int]:
    """The processes that live and were started with that in their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue  # it ended, or is another user's
    return found


_TRAIN = f"""
    import sys, threading
    sys.path.insert(0, {str(TESTS)!r})
    from loading import *
    pixels = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")  # so large that pipes are full when their reader dies
    class Large(Shards):
        def read(self, index):
            return (Sample(str(n), buffer.getvalue(), ("a photo",), label=0) for n in range(100_000))
    values = config(num_workers=2, lanes=2, global_batch_size=64, chunk_size=32)
    batches = iter(Loader(Large([[]] * 2), small_tokenizer(), Preprocessing(224), values, Augmentation()))
    def go_on(batches):
        for _ in batches:
            print("batch", flush=True)
    {{}}
"""
_IN_THREAD = "thread = threading.Thread(target=go_on, args=(batches,)); thread.start(); thread.join()"


def kill_and_count(script: str, seconds: float) -> tuple[int, list[int]]:
    """Kill a parent so long after its first batch; how many children it had, and which are there 5 seconds later."""
    mark = f"DIPTYCH_TEST_MARK={uuid.uuid4().hex}"
    name, _, value = mark.partition("=")
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, name: value}) as process:
        assert process.stdout.readline() == b"batch\n"
        time.sleep(seconds)
        children = len(marked(mark)) - 1
        process.kill()
    end = time.monotonic() + 5
    while (left := marked(mark)) and time.monotonic() < end:
        time.sleep(0.05)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return children, left


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("how", ["go_on(batches)", _IN_THREAD], ids=["main thread", "other thread"])
def test_no_child_outlives_a_killed_parent(how):
    assert kill_and_count(_TRAIN.format(how), 0.1) == (2, [])


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_child_outlives_twenty_killed_parents():
    seed = int.from_bytes(os.urandom(4))
    print(f"random seed {seed}")
    chance = random.Random(seed)
    for how in itertools.islice(itertools.cycle(["go_on(batches)", _IN_THREAD]), 20):
        assert kill_and_count(_TRAIN.format(how), chance.uniform(0, 0.5)) == (2, [])
