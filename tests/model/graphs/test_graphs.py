"""The ONNX graphs compute what torch computes: every tower, every dialect, batches and lengths of any size."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from diptych.errors import ConfigError
from diptych.model.antialiased_resnet_config import AntialiasedResNetConfig
from diptych.model.build import build_model
from diptych.model.clip import normalised
from diptych.model.clip_config import CLIPConfig, ResNetConfig, TextConfig, ViTConfig
from diptych.model.compact_resnet_config import CompactResNetConfig
from diptych.model.graphs import write_image_graph, write_text_graph
from diptych.model.graphs.graph_writer import GraphWriter
from diptych.model.siglip_vit_config import SiglipViTConfig
from diptych.model.text_config import BagOfWordsConfig, NoTextConfig

TEXT = TextConfig(context_length=20, vocab_size=100, width=128, layers=3)
CONFIGS = {
    "vit": CLIPConfig(48, ViTConfig(32, 8, 128, 3), TEXT),
    "vit, wide heads and MLPs": CLIPConfig(48, ViTConfig(28, 14, 160, 2, heads=2, mlp_ratio=4.3), TEXT, "gelu"),
    "vit, averaged": CLIPConfig(48, ViTConfig(32, 8, 128, 2, ln_pre=False, pooling="mean"), TEXT, "gelu"),
    "vit, normalized and averaged": CLIPConfig(48, ViTConfig(32, 8, 128, 2, pooling="mean_of_normalized"), TEXT),
    "siglip_vit": CLIPConfig(128, SiglipViTConfig(34, 8, 128, 2), TEXT, "gelu_tanh"),
    "resnet": CLIPConfig(48, ResNetConfig(64, 32, (1, 2, 1, 1)), TEXT),
    "compact_resnet": CLIPConfig(48, CompactResNetConfig(32, (32, 32, 64, 64), (1, 2, 1, 1)), TEXT),
    "antialiased_resnet": CLIPConfig(48, AntialiasedResNetConfig(32, (16, 24, 32, 32), (1, 2, 1, 1)), NoTextConfig()),
}
MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)


def random_model(config: CLIPConfig, seed: int = 0) -> torch.nn.Module:
    """A model in evaluation mode whose every number is random: zeros and ones of a fresh one would hide errors."""
    torch.manual_seed(seed)
    model = build_model(config)
    for value in [*model.parameters(), *model.buffers()]:
        if value.is_floating_point() and value.ndim == 1:
            value.data.add_(0.2 * torch.randn_like(value))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # variances so small that eps matters, and gains to match
            module.running_var = 10 ** torch.empty_like(module.weight).uniform_(-4.5, -3)
            module.weight.data *= module.running_var.sqrt()
    return model.eval()


def run(path: Path, **inputs: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def reference_images(model: torch.nn.Module, pixels: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    with torch.inference_mode():
        features = model.image_features((pixels / 255 - mean) / std)
        return normalised(model.visual.project(features)).numpy(), features.numpy()


def random_texts(config: CLIPConfig, n: int, length: int, seed: int) -> torch.Tensor:
    """Tokens (N, L), each text with its end (the largest id) somewhere, and other tokens after it."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, config.text.vocab_size - 1, (n, length), generator=generator)
    ends = torch.randint(1, length, (n,), generator=generator)
    tokens[torch.arange(n), ends] = config.text.vocab_size - 1
    tokens[0, -1] = config.text.vocab_size - 1  # a second end in the first text does not count
    return tokens


@pytest.mark.parametrize("dialect", ["onnxruntime", "standard"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_image_graph_equals_torch(tmp_path: Path, kind: str, dialect: str) -> None:
    config = CONFIGS[kind]
    model = random_model(config)
    write_image_graph(model, tmp_path / "raw.onnx", (MEAN, STD), GraphWriter(dialect))
    write_image_graph(model, tmp_path / "normalized.onnx", None, GraphWriter(dialect), input_name="pixel_values")
    for n in (1, 2, 7):
        size = config.vision.image_size
        pixels = torch.randint(0, 256, (n, 3, size, size), generator=torch.Generator().manual_seed(n)).byte()
        expected = reference_images(model, pixels)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        normalized = ((pixels / 255 - mean) / std).numpy()
        for outputs in (
            run(tmp_path / "raw.onnx", pixels=pixels.numpy()),
            run(tmp_path / "normalized.onnx", pixel_values=normalized),
        ):
            for result, values in zip(outputs, expected, strict=True):
                np.testing.assert_allclose(result, values, atol=1e-5 * abs(values).max(), rtol=0)


@pytest.mark.parametrize("dialect", ["onnxruntime", "standard"])
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_text_graph_equals_torch_at_every_length(tmp_path: Path, activation: str, dialect: str) -> None:
    config = CLIPConfig(48, ViTConfig(32, 8, 64, 1), TEXT, activation)
    model = random_model(config)
    write_text_graph(model, tmp_path / "text.onnx", GraphWriter(dialect))
    for n, length in ((1, 2), (2, 7), (7, 20)):
        tokens = random_texts(config, n, length, seed=length)
        with torch.inference_mode():
            expected = normalised(model.encode_text(tokens)).numpy()
        (result,) = run(tmp_path / "text.onnx", tokens=tokens.numpy())
        np.testing.assert_allclose(result, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("projection", ["plain", "biased", "none"])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("pooling", ["end", "last"])
def test_text_graph_with_padding_equals_torch_at_every_length(
    tmp_path: Path, pooling: str, causal: bool, projection: str
) -> None:
    text = TextConfig(20, 100, 128, layers=2, causal=causal, pooling=pooling, projection=projection, pad_id=3)
    model = random_model(CLIPConfig(128, ViTConfig(32, 8, 64, 1), text, "gelu_tanh"))
    write_text_graph(model, tmp_path / "text.onnx")
    for n, length in ((1, 2), (2, 7), (7, 20)):
        tokens = random_texts(model.config, n, length, seed=length)
        lengths = tokens.argmax(dim=1) + 1
        tokens = tokens.masked_fill(torch.arange(length) >= lengths[:, None], 3)
        with torch.inference_mode():
            expected = normalised(model.encode_text(tokens, lengths)).numpy()
        (result,) = run(tmp_path / "text.onnx", tokens=tokens.numpy())
        np.testing.assert_allclose(result, expected, atol=1e-5, rtol=0)


def test_openvino_reads_the_standard_dialect(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    config = CONFIGS["vit"]
    model = random_model(config)
    write_image_graph(model, tmp_path / "image.onnx", (MEAN, STD), GraphWriter("standard"))
    write_text_graph(model, tmp_path / "text.onnx", GraphWriter("standard"))
    core = openvino.Core()
    pixels = torch.randint(0, 256, (3, 3, 32, 32)).byte()
    precision = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(str(tmp_path / "image.onnx"), "CPU", precision)
    np.testing.assert_allclose(compiled({"pixels": pixels.numpy()})[0], reference_images(model, pixels)[0], atol=1e-5)
    tokens = random_texts(config, 5, 9, seed=1)
    with torch.inference_mode():
        expected = normalised(model.encode_text(tokens)).numpy()
    compiled = core.compile_model(str(tmp_path / "text.onnx"), "CPU", precision)
    np.testing.assert_allclose(compiled({"tokens": tokens.numpy()})[0], expected, atol=1e-5)


@pytest.mark.parametrize("reduced_range", [False, True])
def test_int8_vectors_are_close_and_independent_of_their_batch(tmp_path: Path, reduced_range: bool) -> None:
    config = CLIPConfig(64, ViTConfig(32, 8, 256, 4), TextConfig(20, 100, 128, layers=3))
    model = random_model(config)
    write_image_graph(
        model, tmp_path / "i.onnx", (MEAN, STD), GraphWriter(precision="int8", reduced_range=reduced_range)
    )
    write_text_graph(model, tmp_path / "t.onnx", GraphWriter(precision="int8", reduced_range=reduced_range))
    pixels = torch.randint(0, 256, (6, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
    pixels[0] //= 20  # a dark image beside bright ones
    result = run(tmp_path / "i.onnx", pixels=pixels.numpy())[0]
    assert (result * reference_images(model, pixels)[0]).sum(axis=1).min() > 0.999
    alone = np.concatenate([run(tmp_path / "i.onnx", pixels=pixels[i : i + 1].numpy())[0] for i in range(6)])
    np.testing.assert_allclose(alone, result, atol=2e-6)
    tokens = random_texts(config, 6, 12, seed=2)
    with torch.inference_mode():
        expected = normalised(model.encode_text(tokens)).numpy()
    (result,) = run(tmp_path / "t.onnx", tokens=tokens.numpy())
    assert (result * expected).sum(axis=1).min() > 0.999


def with_outliers(model: torch.nn.Module) -> torch.nn.Module:
    """A few channels after every LayerNorm and within every MLP are far larger, and the weights after them smaller."""
    for block in [*model.visual.transformer.resblocks, *model.transformer.resblocks]:
        norms = ((block.ln_1, block.attn.in_proj_weight), (block.ln_2, block.mlp.c_fc.weight))
        for norm, weight in norms:
            for channel in (3, 50):
                norm.weight.data[channel] = norm.weight.data[channel].abs() * 150
                weight.data[:, channel] /= 150
        block.mlp.c_fc.weight.data[9] *= 100
        block.mlp.c_proj.weight.data[:, 9] /= 100
    return model


def test_int8_survives_outlier_channels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = CLIPConfig(64, ViTConfig(32, 8, 256, 4), TextConfig(20, 100, 128, layers=3))
    model = with_outliers(random_model(config))
    pixels = torch.randint(0, 256, (6, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
    tokens = random_texts(config, 6, 12, seed=2)
    with torch.inference_mode():
        texts = normalised(model.encode_text(tokens)).numpy()

    def worst() -> float:
        write_image_graph(model, tmp_path / "i.onnx", (MEAN, STD), GraphWriter(precision="int8"))
        write_text_graph(model, tmp_path / "t.onnx", GraphWriter(precision="int8"))
        images = (run(tmp_path / "i.onnx", pixels=pixels.numpy())[0] * reference_images(model, pixels)[0]).sum(axis=1)
        return min(images.min(), (run(tmp_path / "t.onnx", tokens=tokens.numpy())[0] * texts).sum(axis=1).min())

    assert worst() > 0.999
    module = "diptych.model.graphs.transformer_graph"
    monkeypatch.setattr(f"{module}.balance_factors", lambda sizes, weights: torch.ones(len(sizes)).double())
    assert worst() < 0.99  # so the outliers are real


def test_large_weights_stand_beside_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.model.graphs.graph_writer._INLINE_BYTES", 1000)
    model = random_model(CONFIGS["vit"])
    write_image_graph(model, tmp_path / "image.onnx", (MEAN, STD))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.onnx", "image.onnx.data"]
    pixels = torch.randint(0, 256, (2, 3, 32, 32)).byte()
    result = run(tmp_path / "image.onnx", pixels=pixels.numpy())[0]
    np.testing.assert_allclose(result, reference_images(model, pixels)[0], atol=1e-5)


def test_a_tower_without_graph_says_so(tmp_path: Path) -> None:
    model = random_model(CLIPConfig(48, ViTConfig(32, 8, 64, 1), BagOfWordsConfig(20, 100, 64)))
    with pytest.raises(ConfigError, match="backend torch"):
        write_text_graph(model, tmp_path / "text.onnx")
