"""Two trainings in one folder: the second is refused, until the first has ended, however it ended."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from forked import Forked
from training import tiny_config

from diptych.errors import ConfigError
from diptych.train import CheckpointConfig, fit
from diptych.train.folder_lock import FolderLock


def train(out: Path) -> None:
    fit(tiny_config(out, 5000, checkpoint=CheckpointConfig(every_steps=2)))


@pytest.fixture
def training(tmp_path):
    """Another process that trains in tmp_path/run, and has made a checkpoint."""
    process = Forked(tmp_path / "errors.txt", train, tmp_path / "run")
    deadline = time.monotonic() + 100
    while not list((tmp_path / "run").glob("checkpoints/step-*.pt")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    yield process
    process.kill()


def test_a_second_training_is_refused_and_one_that_was_killed_lets_go(training, tmp_path):
    config = tiny_config(tmp_path / "run", 5000, checkpoint=CheckpointConfig(every_steps=2))
    with pytest.raises(ConfigError, match=r"another process is training in .*run: wait"):
        fit(config, resume=True)
    assert training.poll() is None
    training.send_signal(signal.SIGKILL)
    training.wait()
    lock = FolderLock(tmp_path / "run")
    lock.acquire()
    lock.release()


def test_a_training_lets_go_of_its_folder_when_it_fails(tmp_path):
    class Refuses:
        def check(self, model):
            raise ConfigError("not this one")

        def __call__(self, model):
            raise AssertionError("its check has refused")

    with pytest.raises(ConfigError, match="not this one"):
        fit(tiny_config(tmp_path / "run", 2), [Refuses()])
    held = "from diptych.train.folder_lock import FolderLock; from pathlib import Path; import sys; "
    held += "FolderLock(Path(sys.argv[1])).acquire()"
    assert subprocess.run([sys.executable, "-c", held, tmp_path / "run"]).returncode == 0
    assert fit(tiny_config(tmp_path / "run", 2)).finished
