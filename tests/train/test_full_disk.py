"""Runs whose disk fills up in the middle: one error in words, what was saved is whole, and the run goes on later."""

import logging
import re
import threading
from pathlib import Path

import pytest
from disks import fill, limited_file_size, make_read_only, small_disk
from training import tiny_config

from diptych.errors import DiptychError, TrainingError
from diptych.records import Result
from diptych.report.page import write_page
from diptych.train import CheckpointConfig, TrainConfig, fit, read_log
from diptych.train.checkpoint import Checkpoints
from diptych.train.log import TrainLog

DISK = 24_000_000


class Measure:
    """An evaluator that fills the disk at its first call, and yields so many results at each."""

    def __init__(self, disk: Path | None = None, num_results: int = 40) -> None:
        self.disk, self.num_results = disk, num_results

    def __call__(self, encoder) -> list[Result]:
        if self.disk is not None:
            fill(self.disk)
        return [Result("t", "d", "test", "norm", 1.0, 1, None, None, None, "single", "m")] * self.num_results


def losses(config: TrainConfig) -> dict[int, float]:
    return {row["step"]: row["loss"] for row in read_log(config.out)}


def config_on(disk: Path) -> TrainConfig:
    every_five = CheckpointConfig(every_steps=5, every_minutes=60)
    return tiny_config(disk / "run", 12, checkpoint=every_five, evaluate_steps=7)


def check_and_free(disk: Path, config: TrainConfig, step: int) -> None:
    """The checkpoint of that step is whole, and nothing half-written is left."""
    assert not list((disk / "run").rglob("*.partial"))
    assert Checkpoints(disk / "run" / "checkpoints", config.checkpoint).newest()["step"] == step
    (disk / "filler").unlink()


def test_a_disk_that_is_full_under_evaluations_then_a_checkpoint_then_the_model(tmp_path, monkeypatch):
    whole = config_on(tmp_path)
    fit(whole, [Measure()])
    with small_disk(tmp_path / "disk", DISK) as disk:
        config, write = config_on(disk), Checkpoints.write
        with pytest.raises(TrainingError, match=r"cannot write .*evaluations\.jsonl: No space left .*--resume"):
            fit(config, [Measure(disk)])
        check_and_free(disk, config, 5)
        # TensorBoard's file is full with it, which does not matter.
        with pytest.raises(TrainingError, match=r"cannot write (checkpoint )?.*(step-000000010|log\.jsonl).*--resume"):
            fit(config, [Measure(disk, num_results=0)], resume=True)
        check_and_free(disk, config, 5)

        def write_and_fill(self, step, state, **kwargs):
            path = write(self, step, state, **kwargs)
            if step == config.num_steps:
                fill(disk)
            return path

        monkeypatch.setattr(Checkpoints, "write", write_and_fill)
        with pytest.raises(DiptychError, match=r"model.* cannot be (saved|written)"):
            fit(config, [Measure()], resume=True)
        assert not (disk / "run" / "model").exists()
        check_and_free(disk, config, config.num_steps)
        run = fit(config, [Measure()], resume=True)
        assert run.finished and losses(config) == losses(whole)
        for name in ("evaluations.jsonl", "model/model.safetensors"):
            assert len((run.folder / name).read_bytes()) == len((Path(whole.out) / name).read_bytes())


ROW = dict.fromkeys(("loss", "lr", "scale", "gradient_norm", "pairs_per_second", "share_waiting"), 0.5)


def test_a_full_disk_under_the_log_is_an_error_in_words(tmp_path):
    log = TrainLog(tmp_path, 10, 0)
    with limited_file_size(100), pytest.raises(TrainingError, match=r"cannot write .*log\.jsonl.*--resume"):
        for step in range(1, 10):
            log.row({"step": step, **ROW})
    log.close()


def test_a_full_disk_when_a_run_is_resumed_keeps_the_rows(tmp_path):
    log = TrainLog(tmp_path, 10, 0)
    for step in range(1, 10):
        log.row({"step": step, **ROW})
    log.close()
    before = (tmp_path / "log.jsonl").read_text()
    with limited_file_size(100), pytest.raises(TrainingError, match=r"cannot write .*log\.jsonl.*--resume"):
        TrainLog(tmp_path, 10, 9)
    assert (tmp_path / "log.jsonl").read_text() == before
    assert not re.search("partial", " ".join(path.name for path in tmp_path.iterdir()))


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("when", ["before", "after"])
def test_tensorboard_gives_up_and_the_run_goes_on(tmp_path, caplog, when):
    """Its writer works in a thread of its own; the error shows as one warning, not as a traceback."""
    pytest.importorskip("tensorboard")
    caplog.set_level(logging.WARNING, "diptych")
    before = threading.excepthook
    (tmp_path / "tensorboard").mkdir()
    with small_disk(tmp_path / "tensorboard", 8192) as disk:
        if when == "before":
            fill(disk)
        log = TrainLog(tmp_path, 10, 0)
        log.row({"step": 1, **ROW})
        if when == "after":
            fill(disk)
        for step in range(2, 200):
            log.row({"step": step, **ROW})
        log.results(200, Measure()(None))
        log.close()
    assert len(read_log(tmp_path)) == 199
    assert caplog.text.count("no more TensorBoard log") == 1
    assert threading.excepthook is before


@pytest.mark.parametrize("state", ["full", "read-only", "name too long", "a folder there"])
def test_a_page_that_cannot_be_written_names_its_file(tmp_path, state):
    reason = {"full": "No space", "read-only": "Read-only", "name too long": "File name too long"}.get(
        state, "director"
    )
    with small_disk(tmp_path / "disk", 1 << 16) as disk:
        path = disk / ("x" * 300 if state == "name too long" else "report.html")
        if state == "full":
            fill(disk)
        elif state == "read-only":
            make_read_only(disk)
        elif state == "a folder there":
            path.mkdir()
        with pytest.raises(DiptychError, match=rf"cannot write .*/disk/\S+: .*{reason}.*repeat the command"):
            write_page("<p>" * 1000, path)
        assert not list(disk.glob(".*"))
