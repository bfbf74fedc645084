"""Checkpoints of one process: whole or absent, kept by policy, read newest first."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from disks import fill, limited_file_size, make_read_only, small_disk

from diptych.errors import CheckpointError, ConfigError
from diptych.records import Result
from diptych.train import CheckpointConfig
from diptych.train.checkpoint import Checkpoints, mean_score

FORMATS = pytest.mark.parametrize("sharded", [False, True], ids=["full", "sharded"])


def state(value: float = 0.0, length: int = 10) -> dict[str, Any]:
    return {"weights": torch.full((length,), float(value)), "more": [{"lr": 0.5, 3: (1, None)}]}


def steps(checkpoints: Checkpoints) -> list[int]:
    return [int(path.name[5:14]) for path in checkpoints.paths()]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def data_of(path: Path) -> Path:
    """The file that holds a checkpoint's tensors."""
    return path / "rank-0-of-1.pt" if path.is_dir() else path


@FORMATS
def test_what_was_written_comes_back_and_nothing_else_is_left(tmp_path, sharded):
    checkpoints = Checkpoints(tmp_path / "new", CheckpointConfig(sharded=sharded))
    assert checkpoints.newest() is None and "no checkpoint yet" in checkpoints.last_good()
    path = checkpoints.write(7, state(0.25))
    assert names(tmp_path / "new") == [path.name] == ["step-000000007" if sharded else "step-000000007.pt"]
    saved = checkpoints.newest()
    assert saved["step"] == 7 and torch.equal(saved["weights"], state(0.25)["weights"])
    assert saved["more"] == [{"lr": 0.5, 3: (1, None)}]
    assert checkpoints.last_good().endswith(path.name)


@FORMATS
def test_the_same_step_may_be_written_again(tmp_path, sharded):
    checkpoints = Checkpoints(tmp_path, CheckpointConfig(sharded=sharded))
    for value in (1.0, 2.0):
        path = checkpoints.write(3, state(value))
    assert names(tmp_path) == [path.name] and checkpoints.newest()["weights"][0] == 2.0


def test_a_file_of_before_and_a_folder_of_now_lie_side_by_side(tmp_path):
    """A run may change its format on the way, also at a step that it makes again."""
    torch.save({**state(1.0), "step": 5}, tmp_path / "step-000000005.pt")
    sharded = Checkpoints(tmp_path, CheckpointConfig(sharded=True, keep=2))
    assert sharded.newest()["step"] == 5
    sharded.write(6, state(2.0))
    assert steps(sharded) == [5, 6] and sharded.newest()["step"] == 6
    Checkpoints(tmp_path, CheckpointConfig(keep=2)).write(10, state(3.0))
    assert names(tmp_path) == ["step-000000006", "step-000000010.pt"] and sharded.newest()["step"] == 10


# ---- which ones stay


@FORMATS
@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, [7, 8]),
        ({"keep": 1}, [8]),
        ({"keep": 20}, [1, 2, 3, 4, 5, 6, 7, 8]),
        ({"keep_every_steps": 3}, [3, 6, 7, 8]),
        ({"keep_best": "accuracy"}, [2, 7, 8]),
        ({"keep": 1, "keep_every_steps": 5, "keep_best": "accuracy"}, [2, 5, 8]),
    ],
)
def test_what_the_policy_keeps(tmp_path, sharded, changes, kept):
    checkpoints = Checkpoints(tmp_path, CheckpointConfig(sharded=sharded, **changes))
    for step, score in enumerate((0.1, 0.9, 0.3, 0.9, 0.2, 0.1, 0.0, 0.5), start=1):
        checkpoints.write(step, state(step), score=score)
    assert steps(checkpoints) == kept
    assert all(torch.load(data_of(path), weights_only=True)["step"] for path in checkpoints.paths())


def test_the_best_is_remembered_over_a_resume_and_dethroned_by_a_better_one(tmp_path):
    config = CheckpointConfig(keep=1, keep_best="accuracy")
    for step, score in ((1, 0.5), (2, 0.1)):
        Checkpoints(tmp_path, config).write(step, state(), score=score)
    resumed = Checkpoints(tmp_path, config)
    resumed.write(3, state(), score=float("nan"))
    resumed.write(4, state())
    assert steps(resumed) == [1, 4]
    resumed.write(5, state(), score=0.6)
    resumed.write(6, state(), score=0.55)
    assert steps(resumed) == [5, 6]
    assert json.loads((tmp_path / "scores.json").read_text()) == {"metric": "accuracy", "scores": {"5": 0.6, "6": 0.55}}
    # Another metric's scores say nothing.
    other = Checkpoints(tmp_path, CheckpointConfig(keep=1, keep_best="recall_at_1"))
    other.write(7, state(), score=0.01)
    assert steps(other) == [7]


def test_a_broken_file_of_scores_is_a_warning(tmp_path, caplog):
    config = CheckpointConfig(keep=1, keep_best="accuracy")
    Checkpoints(tmp_path, config).write(1, state(), score=0.5)
    (tmp_path / "scores.json").write_text('{"metric": "accuracy", "sco')
    checkpoints = Checkpoints(tmp_path, config)
    assert "best checkpoint is unknown" in caplog.text
    checkpoints.write(2, state(), score=0.2)
    checkpoints.write(3, state(), score=0.1)
    assert steps(checkpoints) == [2, 3]


def test_due_by_steps_by_time_and_after_the_best_measurement(tmp_path):
    checkpoints = Checkpoints(tmp_path, CheckpointConfig(every_steps=10, every_minutes=60, keep_best="accuracy"))
    due = []
    for step, score in ((3, 0.5), (5, 0.4), (7, 0.6), (9, 0.6)):
        checkpoints.measured(step, score)
        due.append(checkpoints.due(step))
        if due[-1]:
            checkpoints.write(step, state())
    assert due == [True, False, True, False]
    assert [step for step in range(11, 31) if checkpoints.due(step)] == [20, 30]
    assert all(Checkpoints(tmp_path, CheckpointConfig(every_minutes=1e-9)).due(step) for step in (1, 2))


def test_a_score_is_the_mean_of_its_metric():
    def result(metric: str, value: float) -> Result:
        return Result("t", "d", "test", metric, value, 1, None, None, None, "single", "model")

    results = [result("accuracy", 0.2), result("recall_at_1", 0.9), result("accuracy", 0.4)]
    assert mean_score(results, "accuracy") == pytest.approx(0.3)
    with pytest.raises(ConfigError, match="keep_best is 'acuracy', but the evaluators measure accuracy, recall_at_1"):
        mean_score(results, "acuracy")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"every_steps": 0}, "every_steps is 0"),
        ({"keep": 0}, "keep 0; both must be at least 1"),
        ({"every_minutes": 0}, "every_minutes is 0"),
        ({"every_minutes": float("nan")}, "every_minutes is nan"),
        ({"keep_every_steps": 0}, "keep_every_steps is 0"),
        ({"keep_best": ""}, "keep_best is empty"),
    ],
)
def test_contradictions_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        CheckpointConfig(**changes)


# ---- what goes wrong


@FORMATS
def test_a_full_disk_is_one_clear_error_and_the_old_checkpoint_stays(tmp_path, sharded):
    checkpoints = Checkpoints(tmp_path / "checkpoints", CheckpointConfig(sharded=sharded))
    good = checkpoints.write(1, state())
    said = r"cannot write checkpoint .*MiB free.*last good.*step-000000001"
    with limited_file_size(100_000), pytest.raises(CheckpointError, match=said):
        checkpoints.write(2, state(length=1_000_000))
    assert names(tmp_path / "checkpoints") == [good.name]
    assert checkpoints.newest()["step"] == 1


@FORMATS
def test_a_disk_that_fills_up_and_is_freed(tmp_path, sharded):
    with small_disk(tmp_path / "disk", 3_000_000) as disk:
        checkpoints = Checkpoints(disk / "checkpoints", CheckpointConfig(sharded=sharded))
        checkpoints.write(1, state(1.0, 200_000))
        filler = fill(disk)
        for step in (2, 3):
            with pytest.raises(
                CheckpointError, match=r"\(0 MiB free there\).*last good checkpoint is .*step-000000001"
            ):
                checkpoints.write(step, state(2.0, 200_000))
        assert len(names(disk / "checkpoints")) == 1 and checkpoints.newest()["weights"][-1] == 1.0
        filler.unlink()
        checkpoints.write(4, state(4.0, 200_000))
        assert checkpoints.newest()["step"] == 4


@FORMATS
def test_a_folder_that_cannot_be_written_can_still_be_read(tmp_path, sharded):
    with small_disk(tmp_path / "disk", 3_000_000) as disk:
        checkpoints = Checkpoints(disk / "checkpoints", CheckpointConfig(sharded=sharded, keep_best="accuracy"))
        for step in (1, 2):
            newest = checkpoints.write(step, state(step))
        data_of(newest).write_bytes(b"")
        make_read_only(disk)
        with pytest.raises(CheckpointError, match=r"cannot write checkpoint .*Read-only file system"):
            checkpoints.write(3, state())
        with pytest.raises(CheckpointError, match=r"scores\.json: .*Read-only file system"):
            checkpoints.measured(3, 0.5)
        assert checkpoints.newest()["step"] == 1


@FORMATS
def test_a_folder_that_vanished_is_made_again(tmp_path, sharded):
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints", CheckpointConfig(sharded=sharded))
    checkpoints.write(1, state())
    checkpoints.folder.rename(tmp_path / "elsewhere")
    assert checkpoints.newest() is None and checkpoints.paths() == []
    checkpoints.write(2, state())
    assert checkpoints.newest()["step"] == 2
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot write checkpoint .*file"):
        Checkpoints(tmp_path / "file" / "checkpoints", CheckpointConfig(sharded=sharded)).write(3, state())


@FORMATS
def test_what_a_killed_write_left_is_no_checkpoint_and_is_removed(tmp_path, sharded):
    (tmp_path / "step-000000003.partial").mkdir()
    (tmp_path / "step-000000003.partial" / "rank-0-of-2.pt").write_bytes(b"half")
    (tmp_path / "step-000000001.old.partial").mkdir()
    (tmp_path / "step-000000002.partial").write_bytes(b"half")
    checkpoints = Checkpoints(tmp_path, CheckpointConfig(sharded=sharded))
    assert checkpoints.paths() == [] and checkpoints.newest() is None
    path = checkpoints.write(3, state())
    assert names(tmp_path) == [path.name] and checkpoints.newest()["step"] == 3


@FORMATS
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(tmp_path, caplog, sharded):
    checkpoints = Checkpoints(tmp_path, CheckpointConfig(sharded=sharded, keep=2))
    for step in (1, 2, 3):
        checkpoints.write(step, state(step))
    newest = checkpoints.paths()[-1]
    data_of(newest).write_bytes(data_of(newest).read_bytes()[:100])
    assert checkpoints.newest()["step"] == 2
    assert newest.name in caplog.text
    assert newest.with_suffix("").name + ".damaged" in names(tmp_path)
    assert "step-000000002" in checkpoints.last_good()
    # The same step is damaged once more: the one that was set aside makes way.
    checkpoints.write(3, state(3))
    data_of(newest).write_bytes(b"")
    assert checkpoints.newest()["step"] == 2
    data_of(checkpoints.paths()[0]).write_bytes(b"")
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        checkpoints.newest()


@FORMATS
def test_a_rotten_bit_is_found(tmp_path, sharded):
    """torch.load alone would take it for a weight."""
    checkpoints = Checkpoints(tmp_path, CheckpointConfig(sharded=sharded))
    for step in (1, 2):
        file = data_of(checkpoints.write(step, state(step, 1000)))
    data = bytearray(file.read_bytes())
    data[data.index(torch.full((1000,), 2.0).numpy().tobytes()) + 1234] ^= 1
    file.write_bytes(data)
    assert torch.load(file, weights_only=True)
    assert checkpoints.newest()["step"] == 1
