"""Shared tools of the model tests: random weights, the distance that measures parity, and an attack."""

import os

import torch

from diptych.model.clip import CLIP
from diptych.model.clip_config import CLIPConfig


@torch.no_grad()
def random_clip(config: CLIPConfig, seed: int = 0) -> CLIP:
    """A model with random non-zero weights, gains, biases and running statistics; signals do not vanish in it."""
    with torch.device("meta"):
        model = CLIP(config)
    model.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            tensor.zero_()
        elif name.endswith("running_var") or (tensor.dim() == 1 and name.endswith("weight")):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
        elif name == "logit_scale":
            tensor.fill_(3.3)
        elif name == "logit_bias":
            tensor.fill_(-9.7)
        elif tensor.dim() == 1:
            tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
        else:
            fan_in = len(tensor) if name.endswith("proj") else tensor[0].numel()
            tensor.copy_(fan_in**-0.5 * torch.randn(tensor.shape, generator=generator))
    return model.eval()


def distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """||a - b|| / ||b||."""
    return ((ours - theirs).norm() / theirs.norm()).item()


def random_pairs(model: CLIP, n: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalized images (n, 3, R, R) and texts (n, 77) with the end at different places, zero-padded."""
    generator = torch.Generator().manual_seed(1)
    size, vocab = model.config.vision.image_size, model.config.text.vocab_size
    images = torch.randn(n, 3, size, size, generator=generator)
    tokens = torch.zeros(n, model.config.text.context_length, dtype=torch.int64)
    for row in range(n):
        length = 7 + 5 * row
        tokens[row, :length] = torch.randint(1, vocab - 2, (length,), generator=generator)
        tokens[row, 0], tokens[row, length - 1] = vocab - 2, vocab - 1
    return images, tokens


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class Exploit:
    """A pickle that would run a command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)
