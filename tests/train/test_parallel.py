"""Several ranks leave the gradient that one process has: replicated and sharded, in micro-batches, with BatchNorm."""

import pytest
import torch
from predictive_models import DECODER, WORDS, made
from ranks import run_ranks
from test_step import RESNET, VIT, network
from training import batch_of, tiny_config

from diptych import distributed
from diptych.records import Batch
from diptych.train.config import ParallelConfig
from diptych.train.parallel import Towers
from diptych.train.state import whole_state
from diptych.train.step import ContrastiveStep, PredictiveStep


def gradients(model: str, parallel: ParallelConfig, micro: int | None, rows: list[int], objective: str) -> dict:
    """Loss, gradients and running statistics of one global batch, of which each rank takes its rows, uneven ones."""
    clip = network({"vit": VIT, "resnet": RESNET}[model.removesuffix(" recomputed")])
    clip.checkpoint_activations(model.endswith("recomputed"))
    config = tiny_config("run", model=clip.config, micro_batch_size=micro)
    if objective == "sigmoid":
        clip.logit_bias = torch.nn.Parameter(torch.tensor(-5.0, dtype=torch.float64))
        object.__setattr__(config, "objective", objective)  # the model's own configuration has no bias
    whole = batch_of(sum(rows))
    begin = sum(rows[: distributed.rank()])
    mine = slice(begin, begin + rows[distributed.rank()]) if distributed.world_size() > 1 else slice(None)
    batch = Batch(whole.images[mine], whole.tokens[mine], whole.lengths[mine], whole.keys[mine])
    step = ContrastiveStep(Towers(clip, parallel, torch.float64), config)
    for _ in range(2):  # gradients add up until they are forgotten: the second time shows that nothing is left over
        for parameter in clip.parameters():
            parameter.grad = None
        loss = step(batch, 0)
    found = {name: parameter.grad for name, parameter in clip.named_parameters()}
    found = {name: grad.full_tensor() if hasattr(grad, "full_tensor") else grad for name, grad in found.items()}
    running = {name: value for name, value in whole_state(clip).items() if "running" in name}
    return {
        "loss": loss,
        "gradients": {name: grad.detach().clone() for name, grad in found.items()},
        "running": running,
    }


@pytest.mark.parametrize(
    ("model", "weights", "micro", "rows", "objective"),
    [
        ("vit", "replicated", None, [6, 5], "contrastive"),
        ("vit", "replicated", 2, [5, 2, 3, 4], "contrastive"),
        ("vit", "replicated", 3, [6, 5], "sigmoid"),
        ("vit", "sharded", None, [6, 5], "contrastive"),
        ("vit", "sharded", 2, [6, 3], "contrastive"),
        ("resnet", "replicated", None, [6, 5], "contrastive"),
        ("resnet", "sharded", None, [6, 5], "contrastive"),
        ("vit recomputed", "sharded", 3, [6, 5], "contrastive"),
        ("resnet recomputed", "sharded", None, [6, 5], "contrastive"),
    ],
)
def test_ranks_leave_the_gradient_of_one_process(model, weights, micro, rows, objective):
    words = (model, ParallelConfig(weights), micro, rows, objective)
    one = gradients(*words)
    for several in run_ranks(len(rows), gradients, *words):
        torch.testing.assert_close(several["loss"], one["loss"], rtol=1e-10, atol=0)
        for part in ("gradients", "running"):
            for name, value in one[part].items():
                torch.testing.assert_close(several[part][name], value, rtol=1e-8, atol=1e-12, msg=name)


def test_local_batch_norm_differs_and_still_counts_the_loss_of_all():
    words = ("resnet", ParallelConfig(batch_norm="local"), None, [6, 6], "contrastive")
    one, (two, other) = gradients(*words), run_ranks(2, gradients, *words)
    assert two["loss"] == other["loss"] != one["loss"]
    assert two["loss"] == pytest.approx(one["loss"].item(), rel=0.5)


def predictive_gradients(config, training: bool, micro: int | None, rows: list[int]) -> dict:
    """Loss and gradients of a model that predicts captions, of which each rank takes its rows, uneven ones."""
    model = made(config).double().train(training)
    whole = batch_of(sum(rows))
    begin = sum(rows[: distributed.rank()])
    mine = slice(begin, begin + rows[distributed.rank()]) if distributed.world_size() > 1 else slice(None)
    batch = Batch(whole.images[mine], whole.tokens[mine], whole.lengths[mine], whole.keys[mine])
    run = tiny_config("run", model=config, objective="prediction", micro_batch_size=micro)
    loss = PredictiveStep(model, run, torch.float64)(batch, 0)
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return {"loss": loss, "gradients": gradients}


@pytest.mark.parametrize("config", [WORDS, DECODER], ids=["words", "decoder"])
@pytest.mark.parametrize(("micro", "rows"), [(None, [6, 5]), (2, [5, 2, 4])])
def test_ranks_that_predict_leave_the_gradient_of_one_process(config, micro, rows):
    training = micro is None  # each micro-batch has a BatchNorm of its own
    one = predictive_gradients(config, training, None, rows)
    assert one["gradients"]
    for found in run_ranks(len(rows), predictive_gradients, config, training, micro, rows):
        torch.testing.assert_close(found["loss"], one["loss"], rtol=1e-6, atol=0)
        # Losses are summed in fp32, whatever the weights are.
        torch.testing.assert_close(found["gradients"], one["gradients"], rtol=1e-4, atol=1e-7)
