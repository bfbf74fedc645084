"""Copies of the weights in half precision: the gradients they give, and where those arrive."""

import copy

import pytest
import torch
from half_precision import CONFIGS, gradients, whole
from model_tools import distance, random_clip, random_pairs
from torch import nn

from diptych.errors import ShapeError
from diptych.model.clip import CLIP
from diptych.train.precision import WorkingWeights


@pytest.fixture(params=CONFIGS)
def model(request) -> CLIP:
    return random_clip(CONFIGS[request.param]).train()


def test_the_gradient_is_as_exact_as_autocast_s(model):
    states = [copy.deepcopy(model) for _ in range(2)]
    exact = whole(gradients(model, None))
    ours = gradients(states[0], WorkingWeights(states[0], torch.bfloat16))
    theirs = whole(gradients(states[1], None, autocast=True))
    assert all(gradient.dtype == torch.float32 for gradient in ours.values())
    assert 0 < distance(whole(ours), exact) < 1.3 * distance(theirs, exact) + 1e-3


def test_the_products_see_half_precision_and_the_stream_does_not():
    model = random_clip(CONFIGS["vit"]).train()
    seen: dict[str, torch.dtype] = {}
    block = model.visual.transformer.resblocks[1]
    for name, module in (("stream", block), ("attention", block.attn), ("norm", block.ln_1), ("mlp", block.mlp)):
        module.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0].dtype}))
    WorkingWeights(model, torch.bfloat16).run("encode_image", random_pairs(model)[0])
    half, full = torch.bfloat16, torch.float32
    assert seen == {"stream": full, "norm": full, "attention": half, "mlp": half}


def test_the_module_keeps_its_parameters_whatever_happens(model):
    before = dict(model.named_parameters())
    working = WorkingWeights(model, torch.bfloat16)
    working.run("encode_image", random_pairs(model)[0])
    with pytest.raises(ShapeError):
        working.run("encode_image", torch.zeros(1, 3, 5, 5))
    after = dict(model.named_parameters())
    assert before.keys() == after.keys() and all(before[name] is after[name] for name in before)
    assert all(parameter.dtype == torch.float32 for parameter in after.values())


def test_refresh_follows_the_masters():
    model = random_clip(CONFIGS["vit"])
    images, _ = random_pairs(model)
    working = WorkingWeights(model, torch.bfloat16)
    before = working.run("encode_image", images)
    with torch.no_grad():
        model.visual.proj.mul_(2)
    working.refresh()
    assert torch.equal(working.run("encode_image", images), 2 * before)


def test_in_full_precision_nothing_is_copied():
    model = random_clip(CONFIGS["resnet"])
    images, _ = random_pairs(model)
    assert torch.equal(WorkingWeights(model, torch.float32).run("encode_image", images), model.encode_image(images))


def test_micro_batches_add_up_and_a_locked_tower_gets_nothing():
    model = random_clip(CONFIGS["vit"]).train()
    model.visual.requires_grad_(False)
    images, tokens = random_pairs(model, n=4)
    working = WorkingWeights(model, torch.bfloat16)
    assert not working.run("encode_image", images).requires_grad
    for part in tokens.split(2):
        working.run("encode_text", part).float().square().sum().backward()
    twice = model.text_projection.grad.clone()
    model.zero_grad()
    working.run("encode_text", tokens).float().square().sum().backward()
    assert distance(twice, model.text_projection.grad) < 0.01
    assert all(parameter.grad is None for parameter in model.visual.parameters())


class Tower(nn.Module):
    """What the trainer gives to DistributedDataParallel."""

    def __init__(self, model: CLIP) -> None:
        super().__init__()
        self.visual = model.visual
        self._working = WorkingWeights(model, torch.bfloat16)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        embeddings: torch.Tensor = self._working.run("encode_image", images)
        return embeddings


def test_inside_distributed_data_parallel(tmp_path):
    model = random_clip(CONFIGS["vit"]).train()
    images, _ = random_pairs(model, n=4)
    alone = Tower(copy.deepcopy(model))
    for part in images.split(2):
        alone(part).float().square().sum().backward()
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(Tower(model))
        with wrapped.no_sync():
            wrapped(images[:2]).float().square().sum().backward()
        wrapped(images[2:]).float().square().sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    for name, parameter in model.visual.named_parameters():
        assert torch.equal(parameter.grad, alone.visual.get_parameter(name).grad), name
