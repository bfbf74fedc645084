"""One small model of each kind, and its gradients with and without half-precision copies of the weights."""

import torch
from model_tools import random_pairs

from diptych.model.clip import CLIP, normalised
from diptych.model.clip_config import CLIPConfig, CompactResNetConfig, ResNetConfig, TextConfig, ViTConfig
from diptych.objective import contrastive_loss
from diptych.train.precision import WorkingWeights

TEXT = TextConfig(vocab_size=500, width=128, layers=2)
CONFIGS = {
    "vit": CLIPConfig(64, ViTConfig(64, 16, width=128, layers=3), TEXT),
    "gelu": CLIPConfig(64, ViTConfig(64, 16, width=128, layers=3), TEXT, activation="gelu"),
    "resnet": CLIPConfig(64, ResNetConfig(64, 16, (1, 1, 1, 1)), TEXT),
    "compact": CLIPConfig(64, CompactResNetConfig(64, (16, 32, 64), (1, 1, 1)), TEXT),
}


def gradients(model: CLIP, working: WorkingWeights | None, *, autocast: bool = False) -> dict[str, torch.Tensor]:
    images, tokens = random_pairs(model, n=8)

    def call(method: str, *args: torch.Tensor) -> torch.Tensor:
        return working.run(method, *args) if working else getattr(model, method)(*args)

    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        embeddings = [normalised(call("encode_image", images)), normalised(call("encode_text", tokens))]
    contrastive_loss(*embeddings, model.logit_scale.exp()).backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def whole(gradients: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients.values()])
