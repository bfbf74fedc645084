"""Parity with the reference implementations: ViTs against transformers' CLIPModel, ResNets against open_clip.

All weights, gains and running statistics are random and non-zero. ViT-B/32 and RN50 have their full size, the other
seven the same structure with a quarter of the width and fewer layers.
"""

import dataclasses

import peers  # noqa: F401
import pytest
import torch
from model_tools import distance, random_clip, random_pairs
from torch import nn

from diptych.model.clip import CLIP
from diptych.model.clip_config import CLIPConfig, ResNetConfig
from diptych.model.layouts import huggingface_config, to_diptych, to_huggingface
from diptych.model.presets import PRESETS

transformers = pytest.importorskip("transformers")
open_clip = pytest.importorskip("open_clip")

FULL = ("RN50", "ViT-B/32")
NINE = ("RN50", "RN101", "RN50x4", "RN50x16", "RN50x64", "ViT-B/32", "ViT-B/16", "ViT-L/14", "ViT-L/14@336px")


def scaled_down(name: str) -> CLIPConfig:
    """The preset with a quarter of the width and a few layers; patches, heads' width and pooling stay."""
    config = PRESETS[name]
    text = dataclasses.replace(config.text, vocab_size=1000, width=config.text.width // 4, layers=2, heads=0)
    if isinstance(config.vision, ResNetConfig):
        layers = tuple(-(-layer // 8) for layer in config.vision.layers)
        vision = ResNetConfig(96, config.vision.width // 4, layers)
    else:
        vision = dataclasses.replace(config.vision, width=config.vision.width // 4, layers=2, heads=0)
    return dataclasses.replace(config, vision=vision, text=text)


def peer_of(model: CLIP) -> nn.Module:
    """The reference implementation's model with the same weights and types."""
    config, weights = model.config, model.state_dict()
    if isinstance(config.vision, ResNetConfig):
        with torch.device("meta"):
            peer = open_clip_model(config)
        peer.load_state_dict({name: tensor.clone() for name, tensor in weights.items()}, assign=True)
        peer.attn_mask = torch.full((77, 77), -torch.inf).triu(1)
    else:
        with torch.device("meta"):
            peer = transformers.CLIPModel(transformers.CLIPConfig(**huggingface_config(config)))
        peer.load_state_dict(to_huggingface(weights, config), assign=True, strict=False)
        for tower in (peer.text_model, peer.vision_model):
            tower.embeddings.position_ids = torch.arange(len(tower.embeddings.position_embedding.weight))[None]
    return peer.eval()


def open_clip_model(config: CLIPConfig) -> nn.Module:
    text = {name: getattr(config.text, name) for name in ("context_length", "vocab_size", "width", "heads", "layers")}
    vision = dataclasses.asdict(config.vision)
    vision = {key: vision.get(key) for key in ("layers", "width", "image_size", "patch_size")}
    return open_clip.CLIP(config.embed_dim, vision, text, quick_gelu=config.activation == "quick_gelu")


def outputs(model: nn.Module, images: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if isinstance(model, transformers.CLIPModel):
        image = model.get_image_features(pixel_values=images).pooler_output
        return image, model.get_text_features(input_ids=tokens).pooler_output
    return model.encode_image(images), model.encode_text(tokens)


def gradients(model: nn.Module, images: torch.Tensor, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    """Gradients of a fixed random function of both outputs, in our names."""
    generator = torch.Generator().manual_seed(2)
    for output in outputs(model, images, tokens):
        (output * torch.randn(output.shape, generator=generator, dtype=output.dtype)).sum().backward()
    return to_diptych({name: p.grad for name, p in model.named_parameters() if p.grad is not None})


@torch.no_grad()
def check_outputs(model: CLIP, peer: nn.Module) -> None:
    images, tokens = random_pairs(model)
    for ours, theirs in zip(outputs(model, images, tokens), outputs(peer, images, tokens), strict=True):
        assert theirs.std() > 1e-3
        assert distance(ours, theirs) <= 1e-5


@pytest.mark.parametrize("name", NINE)
def test_outputs_and_gradients(name):
    model = random_clip(PRESETS[name] if name in FULL else scaled_down(name))
    peer = peer_of(model)
    check_outputs(model, peer)
    images, tokens = random_pairs(model, n=1 if name in FULL else 2)
    if isinstance(peer, transformers.CLIPModel):
        tokens = tokens[:, :20]  # unlike open_clip it takes shorter texts, and is slow at 77
    check_gradients(model.double(), peer.double(), images.double(), tokens)


def check_gradients(model: CLIP, peer: nn.Module, images: torch.Tensor, tokens: torch.Tensor) -> None:
    ours, theirs = gradients(model, images, tokens), gradients(peer, images, tokens)
    assert ours.keys() == theirs.keys() == dict(model.named_parameters()).keys() - {"logit_scale"}
    for key, gradient in theirs.items():
        if key == "visual.attnpool.k_proj.bias":
            # One number added to all keys' scores does not change a softmax: the gradient is zero but for rounding.
            assert max(gradient.norm(), ours[key].norm()) < 1e-9 * theirs["visual.attnpool.q_proj.bias"].norm()
        else:
            assert distance(ours[key], gradient) <= 1e-9, key


def test_resnet_gradients_and_statistics_while_training():
    model = random_clip(scaled_down("RN50x4")).double()
    peer = peer_of(model).train()
    model.train()
    images, tokens = random_pairs(model)
    check_gradients(model, peer, images.double(), tokens)
    for name, buffer in peer.named_buffers():
        if name in dict(model.named_buffers()):
            assert torch.allclose(model.get_buffer(name).double(), buffer.double(), rtol=1e-12), name


@pytest.mark.parametrize("name", ["RN101", "ViT-B/16"])
def test_gelu(name):
    config = dataclasses.replace(scaled_down(name), activation="gelu")
    model = random_clip(config)
    check_outputs(model, peer_of(model))


@pytest.mark.parametrize("name", NINE)
def test_names_shapes_and_counts_are_open_clips(name):
    with torch.device("meta"):
        ours, theirs = CLIP(PRESETS[name]), open_clip_model(PRESETS[name])
    shapes = {key: tensor.shape for key, tensor in theirs.state_dict().items()}
    assert {key: tensor.shape for key, tensor in ours.state_dict().items()} == shapes
    assert sum(p.numel() for p in theirs.parameters()) == PRESETS[name].num_parameters()


@pytest.mark.parametrize("name", ["RN50x4", "ViT-B/16"])
def test_initialisation_is_the_reference_code_s(name):
    torch.manual_seed(0)
    config = scaled_down(name)
    ours, theirs = CLIP(config).state_dict(), open_clip_model(config).state_dict()
    for key, tensor in theirs.items():
        if tensor.is_floating_point() and tensor.numel() > 1 and tensor.std() > 0:
            tolerance = 4 * tensor.numel() ** -0.5
            assert ours[key].std() / tensor.std() == pytest.approx(1, abs=tolerance), key
            assert abs(ours[key].mean() - tensor.mean()) < 2 * tolerance * tensor.std(), key
            assert ours[key].abs().max() / tensor.abs().max() == pytest.approx(1, abs=0.5), key
        else:
            assert torch.equal(ours[key], tensor), key
