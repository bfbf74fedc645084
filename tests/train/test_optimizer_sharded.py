"""The optimizer and the average of weights over FSDP2's sharded tensors: two processes against one."""

import pytest
import torch
import torch.distributed as dist
from ranks import run_ranks
from torch import nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from diptych.errors import ConfigError
from diptych.train import OptimizerConfig
from diptych.train.averaging import WeightAverage
from diptych.train.optimizer import Optimizer, build_optimizer

CONFIG = OptimizerConfig(learning_rate=1e-2, weight_decay=0.1)


def make() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 3))  # 5 and 3 rows are shared out unevenly


def full(tensor: torch.Tensor) -> torch.Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach()


def train(
    model: nn.Module, optimizer: Optimizer, average: WeightAverage, steps: range, rows: slice = slice(None)
) -> list[float]:
    norms = []
    for step in steps:
        inputs = torch.randn(4, 6, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(inputs[rows]).square().mean().backward()
        norm, _ = optimizer.step(1.0, 0.1)
        average.update(step)
        norms.append(norm.item())
    return norms


def compare(model: nn.Module, reference: nn.Module) -> None:
    for one, other in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(full(one), other, atol=1e-5)


def check_rank() -> None:
    rank = dist.get_rank()
    reference, model = make(), make()
    for part in (model[0], model[2], model):
        fully_shard(part)
    with pytest.raises(ConfigError, match="Muon needs whole matrices"):
        build_optimizer(model, OptimizerConfig(muon_learning_rate=0.1))
    alone, sharded = build_optimizer(reference, CONFIG), build_optimizer(model, CONFIG)
    averages = [WeightAverage(one, 0.5) for one in (reference, model)]
    expected = train(reference, alone, averages[0], range(3))
    assert train(model, sharded, averages[1], range(3), slice(2 * rank, 2 * rank + 2)) == pytest.approx(expected, 1e-5)
    compare(model, reference)
    with averages[0].applied(), averages[1].applied():
        compare(model, reference)
    compare(model, reference)

    # ---- the statistics go out whole and back into shards
    state = get_optimizer_state_dict(model, sharded.parts["adamw"])
    assert full(state["state"]["0.weight"]["exp_avg_sq"]).shape == (5, 6)
    resumed = build_optimizer(model, CONFIG)
    set_optimizer_state_dict(model, resumed.parts["adamw"], state)
    train(reference, alone, averages[0], range(3, 5))
    train(model, resumed, averages[1], range(3, 5), slice(2 * rank, 2 * rank + 2))
    compare(model, reference)

    # ---- statistics in bf16: parts of the same sharded tensors
    narrow = build_optimizer(model, OptimizerConfig(learning_rate=1e-2, moments="bf16"))
    train(model, narrow, averages[1], range(1))
    moment = narrow.parts["adamw"].state[model[0].weight]["exp_avg_sq"]
    assert isinstance(moment, DTensor) and moment.dtype == torch.bfloat16 and full(moment).isfinite().all()
    dist.barrier()


def test_two_ranks_with_sharded_weights_step_as_one():
    run_ranks(2, check_rank)
