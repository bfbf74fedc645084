"""Several ranks leave the gradient that one process has: replicated and sharded, in micro-batches, with BatchNorm."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).parent

# Each rank takes its rows of one global batch, uneven ones, and rank 0 writes what the ranks' gradients are together.
RANK = """
import sys
import torch
from test_step import RESNET, VIT, batch_of, network
from training import tiny_config
from diptych import distributed
from diptych.records import Batch
from diptych.train.config import ParallelConfig
from diptych.train.parallel import Towers
from diptych.train.state import whole_state
from diptych.train.step import ContrastiveStep

out, model, weights, batch_norm, micro, rows, objective = sys.argv[1:]
distributed.start(torch.device("cpu"))
clip = network({"vit": VIT, "resnet": RESNET}[model])
config = tiny_config(out, model=clip.config, micro_batch_size=eval(micro), objective=objective)
if objective == "sigmoid":
    clip.logit_bias = torch.nn.Parameter(torch.tensor(-5.0, dtype=torch.float64))
rows = eval(rows)
whole = batch_of(sum(rows))
begin = sum(rows[: distributed.rank()])
mine = slice(begin, begin + rows[distributed.rank()]) if distributed.world_size() > 1 else slice(None)
batch = Batch(whole.images[mine], whole.tokens[mine], whole.lengths[mine], whole.keys[mine])
step = ContrastiveStep(Towers(clip, ParallelConfig(weights, batch_norm), torch.float64), config)
for repeat in range(2):  # gradients add up until they are forgotten: the second time shows that nothing is left over
    for parameter in clip.parameters():
        parameter.grad = None
    loss = step(batch, 0)
gradients = {name: parameter.grad for name, parameter in clip.named_parameters()}
gradients = {name: grad.full_tensor() if hasattr(grad, "full_tensor") else grad for name, grad in gradients.items()}
losses = distributed.gather_objects(loss.item())
buffers = {name: value for name, value in clip.named_buffers() if "running" in name}
if distributed.is_main():
    assert len(set(losses)) == 1, losses
    torch.save({"loss": loss, "gradients": gradients, "buffers": buffers}, out)
distributed.stop()
"""


def run(tmp_path: Path, world_size: int, *words: str) -> dict:
    script, out = tmp_path / "rank.py", tmp_path / f"{world_size}.pt"
    script.write_text(RANK)
    environment = {**os.environ, "PYTHONPATH": f"{TESTS.parent}:{TESTS}", "OMP_NUM_THREADS": "1", "LOGLEVEL": "ERROR"}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world_size)]
    command = [sys.executable, *(torchrun if world_size > 1 else ()), str(script), str(out), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(out, weights_only=True)


@pytest.mark.parametrize(
    ("model", "weights", "micro", "rows", "objective"),
    [
        ("vit", "replicated", "None", [6, 5], "contrastive"),
        ("vit", "replicated", "2", [5, 2, 3, 4], "contrastive"),
        ("vit", "replicated", "3", [6, 5], "sigmoid"),
        ("vit", "sharded", "None", [6, 5], "contrastive"),
        ("vit", "sharded", "2", [6, 3], "contrastive"),
        ("resnet", "replicated", "None", [6, 5], "contrastive"),
        ("resnet", "sharded", "None", [6, 5], "contrastive"),
    ],
)
def test_ranks_leave_the_gradient_of_one_process(tmp_path, model, weights, micro, rows, objective):
    words = (model, weights, "synchronised", micro, repr(rows), objective)
    one, several = run(tmp_path, 1, *words), run(tmp_path, len(rows), *words)
    torch.testing.assert_close(several["loss"], one["loss"], rtol=1e-10, atol=0)
    for name, gradient in one["gradients"].items():
        torch.testing.assert_close(several["gradients"][name], gradient, rtol=1e-8, atol=1e-12, msg=name)
    for name, value in one["buffers"].items():
        torch.testing.assert_close(several["buffers"][name], value, rtol=1e-9, atol=1e-12, msg=name)


def test_local_batch_norm_differs_and_still_counts_the_loss_of_all(tmp_path):
    words = ("resnet", "replicated", "local", "None", "[6, 6]", "contrastive")
    one, two = run(tmp_path, 1, *words), run(tmp_path, 2, *words)
    assert two["loss"] != one["loss"] and two["loss"] == pytest.approx(one["loss"].item(), rel=0.5)
