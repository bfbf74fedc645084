"""Several processes and several hosts: torchrun's rendezvous, a rank killed in the middle, the job that goes on."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from training import SHORT

from diptych import load
from diptych.train import read_log

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
NUM_STEPS = 40

RUN = """
import os, pathlib, sys
from training import tiny_config
from diptych.train import CheckpointConfig, fit
from diptych.train.config import ParallelConfig
out = pathlib.Path(sys.argv[1])
(out.parent / f"pid-{os.environ['RANK']}").write_text(str(os.getpid()))
checkpoint = CheckpointConfig(every_steps=5, sharded=sys.argv[3] == "sharded")
parallel = ParallelConfig(weights=sys.argv[3])
fit(tiny_config(out, int(sys.argv[2]), checkpoint=checkpoint, parallel=parallel, data=("playground:4000",)))
"""


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}:{TESTS}", "OMP_NUM_THREADS": "1", "LOGLEVEL": "ERROR", **more}


def start(tmp_path: Path, out: str, weights: str, *options: str, prefix: tuple[str, ...] = (), **more: str):
    script = tmp_path / "run.py"
    script.write_text(RUN)
    command = [*prefix, *TORCHRUN, *options, str(script), str(tmp_path / out), str(NUM_STEPS), weights]
    with (tmp_path / f"{out}-{len(list(tmp_path.glob('*.txt')))}.txt").open("w") as output:
        return subprocess.Popen(command, env=environment(**more), stdout=output, stderr=subprocess.STDOUT)


def messages(tmp_path: Path) -> str:
    return "\n".join(path.read_text()[-3000:] for path in sorted(tmp_path.glob("*.txt")))


def losses(folder: Path) -> dict[int, float]:
    return {row["step"]: row["loss"] for row in read_log(folder)}


def kill_one_rank_at(step: int, folder: Path, rank: int, job: subprocess.Popen) -> None:
    """kill -9 of a worker, not of torchrun, once the run has made so many steps."""
    deadline = time.monotonic() + 200
    while job.poll() is None and time.monotonic() < deadline:
        if (folder / "log.jsonl").exists() and any(row["step"] >= step for row in read_log(folder)):
            os.kill(int((folder.parent / f"pid-{rank}").read_text()), signal.SIGKILL)
            return
        time.sleep(0.02)
    pytest.fail(f"no step {step}; {messages(folder.parent)}")


@pytest.mark.long
@pytest.mark.parametrize("weights", ["replicated", "sharded"])
def test_a_killed_rank_is_started_again_by_torchrun_and_the_losses_are_the_same(tmp_path, weights):
    options = ("--standalone", "--nproc-per-node", "2", "--max-restarts", "2")
    undisturbed = start(tmp_path, "undisturbed", weights, *options)
    assert undisturbed.wait(300) == 0, messages(tmp_path)
    disturbed = start(tmp_path, "disturbed", weights, *options)
    try:
        kill_one_rank_at(NUM_STEPS // 2 + 2, tmp_path / "disturbed", 1, disturbed)
        assert disturbed.wait(200) == 0, messages(tmp_path)
    finally:
        disturbed.terminate()
    assert len(losses(tmp_path / "undisturbed")) == NUM_STEPS
    assert losses(tmp_path / "disturbed") == losses(tmp_path / "undisturbed")


@pytest.mark.long
def test_the_command_line_under_torchrun_trains_one_model(tmp_path):
    command = [*TORCHRUN, "--standalone", "--nproc-per-node", "2", "-m", "diptych", "train", "playground:4000"]
    together, alone = tmp_path / "together", tmp_path / "alone"
    done = subprocess.run(
        [*command, *SHORT, "--out", str(together)], env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    subprocess.run(
        [sys.executable, "-m", "diptych", "train", "playground:4000", *SHORT, "--out", str(alone)],
        env=environment(),
        check=True,
        capture_output=True,
        timeout=300,
    )
    # One rank writes: a log without doubled rows, one model, one set of results; the curve is that of one process.
    steps = [row["step"] for row in read_log(together)]
    assert steps == sorted(set(steps)) == [row["step"] for row in read_log(alone)]
    assert losses(together) == pytest.approx(losses(alone), rel=0.02)
    results = [[json.loads(line) for line in (folder / "results.jsonl").open()] for folder in (together, alone)]
    assert [one["dataset"] for one in results[0]] == [one["dataset"] for one in results[1]]
    assert load(together / "model").clip.config == load(alone / "model").clip.config
    assert (done.stdout + done.stderr).count("step 8/8") == 1


@contextlib.contextmanager
def two_hosts() -> Iterator[list[tuple[tuple[str, ...], str, str]]]:
    """Two network namespaces joined by a cable: (prefix of a command there, its address, its interface) of each."""
    names = [f"diptych{os.getpid()}{letter}" for letter in "ab"]

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    try:
        for name in names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("link", "add", "cable0", "netns", names[0], "type", "veth", "peer", "name", "cable1", "netns", names[1])
        for number, name in enumerate(names):
            ip("-n", name, "address", "add", f"10.77.0.{number + 1}/24", "dev", f"cable{number}")
            ip("-n", name, "link", "set", f"cable{number}", "up")
        yield [
            (("ip", "netns", "exec", name), f"10.77.0.{number + 1}", f"cable{number}")
            for number, name in enumerate(names)
        ]
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"network namespaces need root and iproute2 here: {error}")
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


@pytest.mark.long
def test_two_hosts_train_together_and_one_loses_its_rank(tmp_path):
    whole = start(tmp_path, "one-host", "replicated", "--standalone", "--nproc-per-node", "2")
    assert whole.wait(300) == 0, messages(tmp_path)
    with two_hosts() as hosts:
        jobs = []
        for number, (prefix, address, interface) in enumerate(hosts):
            options = ("--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "2", "--local-addr", address)
            rendezvous = ("--rdzv-backend", "c10d", "--rdzv-endpoint", f"{hosts[0][1]}:29400", "--rdzv-id", "test")
            # The first one keeps the list of who takes part; by itself torchrun knows that from a host's name only.
            rendezvous += ("--rdzv-conf", f"is_host={int(number == 0)}")
            jobs.append(
                start(
                    tmp_path,
                    "two-hosts",
                    "replicated",
                    *options,
                    *rendezvous,
                    prefix=prefix,
                    GLOO_SOCKET_IFNAME=interface,
                )
            )
        try:
            kill_one_rank_at(NUM_STEPS // 2 + 2, tmp_path / "two-hosts", 1, jobs[0])
            assert [job.wait(300) for job in jobs] == [0, 0], messages(tmp_path)
        finally:
            for job in jobs:
                job.terminate()
    # Lanes, not ranks or hosts, decide which pairs come when: the curve is that of one host with two processes.
    assert losses(tmp_path / "two-hosts") == losses(tmp_path / "one-host")
