"""Checkpoints of several ranks: written as shards by W of them, read whole by any number, or failing in all at once."""

import contextlib
import itertools
import resource
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import run_ranks
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from diptych import distributed
from diptych.errors import CheckpointError
from diptych.train import CheckpointConfig
from diptych.train.checkpoint import Checkpoints

# Rows that 2, 3 and 4 ranks cut evenly, unevenly, and into shards of which some are empty; and no dimension at all.
SHAPES = {"even": (12, 3), "uneven": (7, 2), "fewer": (2, 5), "one": (1,)}
SHARDED, FULL = CheckpointConfig(sharded=True), CheckpointConfig(sharded=False)


def example(value: float = 0.0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {name: torch.randn(shape, generator=generator) + value for name, shape in SHAPES.items()}


def state_here(value: float = 0.0) -> dict[str, Any]:
    """The example as DTensors, with what else a run's state holds: each rank's own plain values, rank 0's counting."""
    mesh = init_device_mesh("cpu", (distributed.world_size(),))
    tensors = example(value)
    return {
        "model": {name: distribute_tensor(tensor, mesh, [Shard(0)]) for name, tensor in tensors.items()},
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "groups": [{"lr": 0.5, "betas": (0.9, 0.98)}]},
        "whole": distribute_tensor(tensors["uneven"], mesh, [Replicate()]),
        "columns": distribute_tensor(tensors["even"], mesh, [Shard(1)]),
        "scale": torch.tensor(2.5),
        "loader": {"rank": distributed.rank()},
    }


def as_written(state: dict[str, Any], step: int, value: float = 0.0) -> bool:
    tensors = example(value)
    assert set(state) == {"model", "optimizer", "whole", "columns", "scale", "loader", "step"}
    assert not any(isinstance(tensor, DTensor) for tensor in state["model"].values())
    assert all(torch.equal(state["model"][name], tensor) for name, tensor in tensors.items())
    assert torch.equal(state["whole"], tensors["uneven"]) and torch.equal(state["columns"], tensors["even"])
    assert state["optimizer"] == {"state": {0: {"step": 3.0}}, "groups": [{"lr": 0.5, "betas": (0.9, 0.98)}]}
    assert (state["scale"], state["loader"], state["step"]) == (2.5, {"rank": 0}, step)
    return True


def write_steps(folder: Path, config: CheckpointConfig, steps: list[int]) -> list[str]:
    checkpoints = Checkpoints(folder, config)
    return [checkpoints.write(step, state_here(step)).name for step in steps]


def read(folder: Path) -> tuple[int, bool]:
    """Which step the ranks take, and whether it is what was written."""
    state = Checkpoints(folder, SHARDED).newest()
    return state["step"], as_written(state, state["step"], state["step"])


@pytest.mark.parametrize("config", [SHARDED, FULL], ids=["sharded", "full"])
@pytest.mark.parametrize("writers", [2, 3])
def test_any_number_of_ranks_reads_what_others_wrote(tmp_path, config, writers):
    names = run_ranks(writers, write_steps, tmp_path, config, [1, 2, 3])
    suffix = "" if config.sharded else ".pt"
    assert names == [[f"step-{step:09d}{suffix}" for step in (1, 2, 3)]] * writers
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step-00000000{step}{suffix}" for step in (2, 3)]
    if config.sharded:
        files = sorted(path.name for path in (tmp_path / names[0][-1]).iterdir())
        assert files == [f"rank-{rank}-of-{writers}.pt" for rank in range(writers)]
    assert read(tmp_path) == (3, True)
    assert run_ranks(4, read, tmp_path) == [(3, True)] * 4
    # What one rank wrote, and a run that changes its format in the middle.
    assert run_ranks(1, write_steps, tmp_path, SHARDED, [4]) == [["step-000000004"]]
    assert run_ranks(2, read, tmp_path) == [(4, True)] * 2


def test_a_shard_holds_its_rows_alone(tmp_path):
    run_ranks(2, write_steps, tmp_path, SHARDED, [1])
    shards = [torch.load(path, weights_only=True) for path in sorted(tmp_path.glob("step-*/*"))]
    rows = [
        {place[-1]: (part["begin"], len(part["tensor"])) for place, part in shard["rows"].items()} for shard in shards
    ]
    assert rows[0] == {"even": (0, 6), "uneven": (0, 4), "fewer": (0, 1), "one": (0, 1)}
    assert rows[1] == {"even": (6, 6), "uneven": (4, 3), "fewer": (1, 1), "one": (1, 0)}
    assert shards[0]["rest"] is not None and shards[1]["rest"] is None


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def rot(path: Path) -> None:
    """One bit in the middle of a tensor, which only a checksum shows."""
    tensor = max(torch.load(path, weights_only=True)["rows"].values(), key=lambda part: part["tensor"].numel())[
        "tensor"
    ]
    data = bytearray(path.read_bytes())
    data[data.index(tensor.numpy().tobytes()) + 5] ^= 1
    path.write_bytes(data)


def swap(path: Path) -> None:
    """The shard of another step in its place."""
    path.write_bytes((path.parents[1] / "step-000000001" / path.name).read_bytes())


def read_all(folders: list[Path]) -> list[tuple[int, bool]]:
    return [read(folder) for folder in folders]


def test_a_damaged_shard_damages_its_checkpoint_for_all_ranks(tmp_path):
    run_ranks(2, write_steps, tmp_path / "whole", SHARDED, [1, 2])
    folders = []
    for rank, damage in itertools.product((0, 1), (Path.unlink, cut, rot, swap)):
        folders.append(shutil.copytree(tmp_path / "whole", tmp_path / f"{damage.__name__}-{rank}"))
        damage(folders[-1] / "step-000000002" / f"rank-{rank}-of-2.pt")
    assert run_ranks(2, read_all, folders) == [[(1, True)] * len(folders)] * 2
    for folder in folders:
        assert sorted(path.name for path in folder.iterdir()) == ["step-000000001", "step-000000002.damaged"]


# ---- what goes wrong in one rank


@contextlib.contextmanager
def full_disk_here(num_bytes: int = 1000):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_with_a_full_disk(folder: Path, config: CheckpointConfig, rank: int) -> str:
    """The error of step 2 in this rank, where another rank's disk may be full; step 3 goes on as if nothing was."""
    checkpoints = Checkpoints(folder, config)
    checkpoints.write(1, state_here(1))
    with (
        pytest.raises(CheckpointError) as error,
        full_disk_here() if distributed.rank() == rank else contextlib.nullcontext(),
    ):
        checkpoints.write(2, state_here(2))
    assert [path.name for path in checkpoints.paths()] == ["step-000000001" + ("" if config.sharded else ".pt")]
    distributed.barrier()
    assert not list(folder.glob("*.partial"))
    distributed.barrier()
    checkpoints.write(3, state_here(3))
    return str(error.value)


@pytest.mark.parametrize(("config", "rank"), [(SHARDED, 0), (SHARDED, 1), (FULL, 0)])
def test_a_full_disk_in_one_rank_is_the_same_error_in_all(tmp_path, config, rank):
    one, two = run_ranks(2, write_with_a_full_disk, tmp_path, config, rank)
    assert one == two and "cannot write checkpoint" in one and "last good checkpoint is" in one
    assert run_ranks(1, read, tmp_path) == [(3, True)]


def write_apart(folder: Path, config: CheckpointConfig) -> str:
    """Each rank has a folder of its own, as on machines that share no file system."""
    with pytest.raises(CheckpointError) as error:
        Checkpoints(folder / str(distributed.rank()), config).write(1, state_here())
    return str(error.value)


def read_apart(folder: Path) -> str:
    Checkpoints(folder / "0", FULL).write(1, state_here())
    with pytest.raises(CheckpointError) as error:
        Checkpoints(folder / str(distributed.rank()), FULL).newest()
    return str(error.value)


def test_ranks_that_share_no_file_system_are_told_so_and_nothing_is_set_aside(tmp_path):
    one, two = run_ranks(2, write_apart, tmp_path, SHARDED)
    assert one == two and "a file system that all machines share (--out)" in one
    for error in run_ranks(2, read_apart, tmp_path):
        assert "process 1 cannot read" in error and "all machines share" in error
    assert [path.name for path in (tmp_path / "0").iterdir()] == ["step-000000001.pt"]


def due_when_one_clock_says_so(folder: Path) -> list[bool]:
    checkpoints = Checkpoints(
        folder, CheckpointConfig(every_steps=5, every_minutes=1e-3 if distributed.rank() else 60.0)
    )
    answers = [checkpoints.due(1)]
    time.sleep(0.07)
    return [*answers, checkpoints.due(2), checkpoints.due(5)]


def test_ranks_agree_on_what_is_due(tmp_path):
    assert run_ranks(2, due_when_one_clock_says_so, tmp_path) == [[False, True, True]] * 2


# ---- a model under FSDP2


def small_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 3))


def train_sharded(folder: Path, ranks_saw: int) -> dict[str, list]:
    """Two updates of AdamW under fully_shard, and a checkpoint; what each is as a whole."""
    model = small_model()
    for layer in model:
        fully_shard(layer)
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(2):
        model(torch.ones(4, 5)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    Checkpoints(folder, SHARDED).write(2, {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    moments = [optimizer.state[parameter]["exp_avg"] for parameter in model.parameters()]
    assert all(isinstance(tensor, DTensor) for tensor in moments) and distributed.world_size() == ranks_saw
    return {
        "model": [tensor.full_tensor().tolist() for tensor in model.state_dict().values()],
        "moments": [tensor.full_tensor().tolist() for tensor in moments],
    }


def test_a_model_and_its_moments_under_fsdp2(tmp_path):
    whole, _ = run_ranks(2, train_sharded, tmp_path, 2)
    state = Checkpoints(tmp_path, SHARDED).newest()
    assert [tensor.tolist() for tensor in state["model"].values()] == whole["model"]
    assert [entry["exp_avg"].tolist() for entry in state["optimizer"]["state"].values()] == whole["moments"]
    # One rank alone goes on from it, with a plain model.
    model = small_model()
    model.load_state_dict(state["model"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    optimizer.load_state_dict(state["optimizer"])
    assert optimizer.state_dict()["state"][0]["step"] == 2
