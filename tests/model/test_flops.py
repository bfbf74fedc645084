"""Operations from the config against what torch counts while the model runs."""

import dataclasses

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from training import MODEL

from diptych.errors import ConfigError
from diptych.model.clip import CLIP
from diptych.model.clip_config import (
    CLIPConfig,
    CompactResNetConfig,
    ResNetConfig,
    SiglipViTConfig,
    TextConfig,
    ViTConfig,
)
from diptych.model.flops import flops_per_pair, image_flops, text_flops
from diptych.model.presets import PRESETS

TEXT = TextConfig(24, 300, 64, layers=3)
MODELS = [
    MODEL,
    CLIPConfig(32, ResNetConfig(64, 8, (2, 1, 3, 1)), TEXT),
    CLIPConfig(32, ViTConfig(48, 8, 128, 3), TEXT),
    CLIPConfig(32, ViTConfig(48, 8, 128, 3, mlp_ratio=2.5), TEXT),
    CLIPConfig(48, CompactResNetConfig(32, (8, 8, 32), (1, 2, 2)), TEXT),
    CLIPConfig(32, ViTConfig(48, 8, 128, 3, ln_pre=False, pooling="mean"), dataclasses.replace(TEXT, mlp_ratio=3.0)),
]
SIGLIP = CLIPConfig(
    128,
    SiglipViTConfig(50, 8, 128, 3, mlp_ratio=3.0),
    dataclasses.replace(TEXT, causal=False, pooling="last", projection="biased"),
    logit_bias=-10.0,
)
PAIRS, TOKENS = 2, 9


def counted(run) -> int:
    # The counter does not know the fused kernel for attention; its plain form is products.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize("config", MODELS)
def test_forward_is_what_torch_counts(config):
    clip = CLIP(config)
    images = torch.randn(PAIRS, 3, *[config.vision.image_size] * 2)
    tokens = torch.randint(1, 200, (PAIRS, TOKENS))
    with torch.no_grad():
        assert counted(lambda: clip.encode_image(images)) == PAIRS * image_flops(config)
        lengths = torch.full((PAIRS,), TOKENS)
        assert counted(lambda: clip.encode_text(tokens, lengths)) == PAIRS * text_flops(config, TOKENS)


def test_a_siglip_computes_the_whole_context_and_one_query_for_all_images():
    clip, width = CLIP(SIGLIP), SIGLIP.vision.width
    images, tokens = torch.randn(PAIRS, 3, 50, 50), torch.randint(1, 200, (PAIRS, TOKENS))
    with torch.no_grad():
        assert counted(lambda: clip.encode_image(images)) == PAIRS * image_flops(SIGLIP) + 2 * width**2
        kept = torch.arange(9).expand(PAIRS, -1)
        assert counted(lambda: clip.encode_image(images, kept)) == PAIRS * image_flops(SIGLIP, 0.75) + 2 * width**2
        lengths = torch.full((PAIRS,), TOKENS)
        assert counted(lambda: clip.encode_text(tokens, lengths)) == PAIRS * text_flops(SIGLIP, TOKENS)
    assert text_flops(SIGLIP, TOKENS) == text_flops(SIGLIP, 24)


@pytest.mark.parametrize("config", [*MODELS, PRESETS["ViT-B/32"]])
def test_with_backward_is_what_torch_counts_but_for_the_first_layer(config):
    with torch.device("meta"):
        clip = CLIP(config)
        images = torch.randn(PAIRS, 3, *[config.vision.image_size] * 2)

    def run() -> None:
        clip.encode_image(images).sum().backward()

    # No gradient goes into the pictures: a third of the first layer is not computed.
    assert counted(run) == pytest.approx(3 * PAIRS * image_flops(config), rel=0.05)


def test_known_sizes():
    # The usual numbers of multiplications for a picture, as fvcore counts open_clip's image towers: 4.4e9 and 17.6e9,
    # less what the last block leaves out.
    assert image_flops(PRESETS["ViT-B/32"]) / 2 == pytest.approx(4.4e9 * (1 - 0.8 / 12), rel=0.03)
    assert image_flops(PRESETS["ViT-B/16"]) / 2 == pytest.approx(17.6e9 * (1 - 0.8 / 12), rel=0.03)


def test_patches_left_out_and_captions_that_cannot_be():
    config = MODELS[2]
    half = image_flops(config, 0.5)
    smaller = dataclasses.replace(config, vision=ViTConfig(48, 8, 128, 3))
    assert half < 0.6 * image_flops(smaller)
    assert flops_per_pair(config, TOKENS) == 3 * (image_flops(config) + text_flops(config, TOKENS))
    for tokens in (0, 25, float("nan")):
        with pytest.raises(ConfigError, match="tokens"):
            text_flops(config, tokens)
