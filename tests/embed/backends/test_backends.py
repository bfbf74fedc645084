"""Back ends: the same vectors as fp32 torch, or not used; compiled once, and again when the model changes."""

import importlib.util
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from made_sources import digests
from pictures import noise

import diptych
from diptych.data.tokenizer import Tokenizer
from diptych.data.transforms import Preprocessing
from diptych.embed.backends.backend_model import BackendModel
from diptych.embed.backends.compiled_cache import compiled_folder
from diptych.embed.backends.self_test import LEAST_COSINE, probe_pixels, worst_cosine
from diptych.embed.embed_source import embed_source
from diptych.embed.model import Model
from diptych.errors import ConfigError, InputError, WeightsError
from diptych.model.build import build_model
from diptych.model.clip_config import CLIPConfig, TextConfig, ViTConfig

TEXTS = ["a cat", "two dogs on a very long beach in the evening", "", "A CAT"]
CONFIG = CLIPConfig(64, ViTConfig(32, 8, 128, 3), TextConfig(40, 600, 128, layers=2))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["a photo of a cat", "two dogs play on the beach"] * 3, 600, 40)


def save_model(folder: Path, tokenizer: Tokenizer, *, spread: float = 0.0, seed: int = 0) -> Model:
    """A random model in a folder. A spread of 3 makes weights that differ by factors of a thousand."""
    torch.manual_seed(seed)
    clip = build_model(CONFIG)
    for value in clip.parameters():
        if value.ndim == 1:
            value.data.add_(0.1 * torch.randn_like(value))
    for block in [*clip.visual.transformer.resblocks, *clip.transformer.resblocks]:
        block.mlp.c_fc.weight.data *= (spread * torch.randn_like(block.mlp.c_fc.weight)).exp()
        block.mlp.c_proj.weight.data *= (spread * torch.randn_like(block.mlp.c_proj.weight)).exp()
    model = Model(clip.eval(), tokenizer, Preprocessing(32), "model")
    model.save(folder)
    return model


def worst(vectors: torch.Tensor, reference: torch.Tensor) -> float:
    return float((vectors * reference).sum(1).min())


@pytest.mark.parametrize(
    ("backend", "precision", "least"),
    [("onnx", "fp32", 0.999999), ("onnx", "int8", 0.999), ("openvino", "fp32", 0.999999)],
)
def test_a_back_end_gives_torchs_vectors(
    tmp_path: Path, tokenizer: Tokenizer, backend: str, precision: str, least: float
) -> None:
    save_model(tmp_path / "model", tokenizer)
    reference = diptych.load(tmp_path / "model")
    for _ in range(2):  # compiled, then found
        model = diptych.load(tmp_path / "model", backend=backend, precision=precision)
        assert isinstance(model, BackendModel)
        images = [noise(60, 40 + i, seed=i) for i in range(5)]
        assert worst(model.encode_images(images), reference.encode_images(images)) > least
        features = model.image_features(images), reference.image_features(images)
        assert worst(*(torch.nn.functional.normalize(side, dim=1) for side in features)) > least
        assert worst(model.encode_texts(TEXTS), reference.encode_texts(TEXTS)) > least
        assert model.logit_scale == pytest.approx(reference.logit_scale)
    assert model.about.image_fingerprint == f"{reference.about.image_fingerprint}-{backend}-{precision}"
    assert model.encode_images([]).shape == (0, 64)
    assert model.encode_texts([]).shape == (0, 64)


def test_commands_measure_a_back_end_as_they_measure_torch(tmp_path: Path) -> None:
    results = {}
    for backend in ("torch", "onnx"):
        model = diptych.load("default", backend=backend)
        classifier = diptych.ZeroShotClassifier(model, ["red", "green", "a blue circle"])
        results[backend] = classifier.predict_proba([noise(70, 90), noise(64, 64)])
    np.testing.assert_allclose(results["onnx"], results["torch"], atol=1e-4)


def test_int8_that_loses_too_much_falls_back_with_a_notice(
    tmp_path: Path, tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    save_model(tmp_path / "model", tokenizer, spread=3.0)
    with caplog.at_level(logging.WARNING):
        model = diptych.load(tmp_path / "model", backend="onnx", precision="int8")
    assert model.about.precision == "fp32"
    assert "the worst cosine is" in caplog.text and "fp32 is used instead" in caplog.text
    reference = diptych.load(tmp_path / "model")
    assert worst(model.encode_texts(TEXTS), reference.encode_texts(TEXTS)) > 0.9999


def test_a_changed_model_is_compiled_again(tmp_path: Path, tokenizer: Tokenizer) -> None:
    save_model(tmp_path / "model", tokenizer)
    before = diptych.load(tmp_path / "model", backend="onnx")
    save_model(tmp_path / "model", tokenizer, seed=1)
    after = diptych.load(tmp_path / "model", backend="onnx")
    reference = diptych.load(tmp_path / "model")
    assert worst(after.encode_texts(TEXTS), reference.encode_texts(TEXTS)) > 0.99999
    assert worst(before.encode_texts(TEXTS), reference.encode_texts(TEXTS)) < 0.9


def test_a_copy_keeps_its_own_name(tmp_path: Path, tokenizer: Tokenizer) -> None:
    for name in ("first", "second"):
        save_model(tmp_path / name, tokenizer)
    assert [diptych.load(tmp_path / name, backend="onnx").name for name in ("first", "second")] == ["first", "second"]


def test_what_stands_beside_a_weight_file_is_part_of_it(tmp_path: Path, tokenizer: Tokenizer) -> None:
    save_model(tmp_path / "model", tokenizer)
    image, file = [noise(60, 40)], tmp_path / "model" / "model.safetensors"
    before = diptych.load(file, backend="onnx").encode_images(image)
    config = tmp_path / "model" / "config.json"
    config.write_text(config.read_text().replace('"quick_gelu"', '"gelu"'))
    after = diptych.load(file, backend="onnx").encode_images(image)
    assert worst(after, diptych.load(file).encode_images(image)) > 0.999999
    assert not torch.equal(after, before)


def test_why_there_are_no_texts_is_said_as_on_torch(tmp_path: Path, tokenizer: Tokenizer) -> None:
    save_model(tmp_path / "model", tokenizer)
    model = diptych.load(tmp_path / "model")
    Model(model.clip, None, model.preprocessing, "model").save(tmp_path / "mute")
    for backend in ("torch", "onnx"):
        mute = diptych.load(tmp_path / "mute", backend=backend)
        assert "without a tokenizer" in mute.about.no_texts
        with pytest.raises(WeightsError, match="without a tokenizer"):
            mute.encode_texts(TEXTS)


@pytest.mark.parametrize("file", ["*/record.json", "*/image.onnx", "*/text.onnx.data", "sources/*.json"])
def test_a_damaged_cache_is_made_again(tmp_path: Path, tokenizer: Tokenizer, file: str) -> None:
    save_model(tmp_path / "model", tokenizer)
    diptych.load(tmp_path / "model", backend="onnx")
    folder = compiled_folder()
    assert folder is not None
    (path,) = folder.glob(file)
    size = path.stat().st_size
    os.truncate(path, size - 40)
    model = diptych.load(tmp_path / "model", backend="onnx")
    reference = diptych.load(tmp_path / "model")
    assert worst(model.encode_texts(TEXTS), reference.encode_texts(TEXTS)) > 0.99999
    assert path.stat().st_size == pytest.approx(size, abs=30)  # rounding and times may differ


def test_auto_takes_the_fastest_and_remembers_it(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(tmp_path / "model", tokenizer)
    rates = {"torch": 1.0, "onnx": 3.0, "openvino": 2.0}
    kinds = iter(["torch", "onnx", "openvino"])
    monkeypatch.setattr("diptych.embed.backends.choose_backend._rate", lambda run, size: rates[next(kinds)])
    for _ in range(2):  # the second load would ask for a fourth rate
        model = diptych.load(tmp_path / "model", backend="auto", precision="fp32")
        assert (model.compiled.record.backend, model.compiled.record.precision) == ("onnx", "fp32")


def test_auto_measures_what_is_there(tmp_path: Path) -> None:
    model = diptych.load("default", backend="auto")
    assert model.about.precision == "fp32"
    reference = diptych.load("default")
    assert worst(model.encode_texts(TEXTS), reference.encode_texts(TEXTS)) > 0.99999


def test_wrong_requests_say_what_to_do(tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="backend must be one of torch, onnx, openvino, auto"):
        diptych.load("default", backend="tensorrt")
    with pytest.raises(ConfigError, match="openvino computes fp32 or bf16, not int8; int8 is computed by onnx"):
        diptych.load("default", backend="openvino", precision="int8")
    with pytest.raises(ConfigError, match="the backend torch alone"):
        diptych.load("python:oracle:Oracle", backend="onnx")
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "onnxruntime" else found(name, *rest)
    )
    with pytest.raises(ConfigError, match=r"needs onnxruntime: pip install 'diptych\[onnx\]'"):
        diptych.load("default", backend="onnx")


def test_vectors_that_are_not_finite_stop_the_test(tmp_path: Path, tokenizer: Tokenizer) -> None:
    model = save_model(tmp_path / "model", tokenizer)
    model.clip.visual.proj.data[0, 0] = float("nan")
    model.save(tmp_path / "model")
    with pytest.raises(InputError, match="not finite"):
        diptych.load(tmp_path / "model", backend="onnx")
    folder = compiled_folder()
    assert folder is not None and not list(folder.glob("*/record.json"))


def test_worst_cosine_by_hand() -> None:
    reference = np.array([[1.0, 0.0], [0.0, 2.0]])
    assert worst_cosine(np.array([[3.0, 0.0], [0.3, 0.4]]), reference, "images") == pytest.approx(0.8)
    assert worst_cosine(np.array([[3.0, 0.0], [0.0, np.nan]]), reference, "images") == -1
    assert worst_cosine(np.zeros((2, 2)), reference, "images") == -1
    assert LEAST_COSINE == 0.999
    assert len(np.unique(probe_pixels(16).reshape(16, -1), axis=0)) == 16


def test_a_compiled_model_opens_without_torch(tmp_path: Path, tokenizer: Tokenizer) -> None:
    save_model(tmp_path / "model", tokenizer)
    folder = diptych.load(tmp_path / "model", backend="onnx").compiled.folder
    code = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from diptych.embed.backends.compiled_model import CompiledModel\n"
        f"compiled = CompiledModel(Path({str(folder)!r}), once=True)\n"
        "assert compiled.embed_pixels(np.zeros((1, 3, 32, 32), np.uint8)).shape == (1, 64)\n"
        "assert compiled.embed_tokens(np.array([[1, 5, 599]])).shape == (1, 64)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ, timeout=60)


def test_an_unreadable_record_is_named(tmp_path: Path) -> None:
    from diptych.embed.backends.compiled_model import CompiledModel

    with pytest.raises(WeightsError, match=r"record\.json cannot be read"):
        CompiledModel(tmp_path)


def test_a_back_end_works_in_forked_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for number in range(24):
        noise(60, 40 + number, seed=number).save(tmp_path / f"{number:02}.png")
        (tmp_path / f"{number:02}.txt").write_text("noise")
    model = diptych.load("default", backend="onnx")
    model.encode_images([noise(60, 40)])  # its threads exist before the fork
    source = diptych.open_source(tmp_path)
    settings = {"batch_size": 4, "rows_per_shard": 4}
    here = embed_source(source, model, tmp_path / "here", **settings)
    forked = embed_source(source, model, tmp_path / "forked", **settings, num_processes=2)
    assert digests(forked) == digests(here) and len(here) == 24


def test_a_pickled_back_end_is_loaded_again_and_checked(tmp_path: Path, tokenizer: Tokenizer) -> None:
    save_model(tmp_path / "model", tokenizer)
    model = diptych.load(tmp_path / "model", backend="onnx")
    content = pickle.dumps(model)
    assert len(content) < 5000  # the model's name, not its weights
    again = pickle.loads(content)  # noqa: S301
    assert torch.equal(again.encode_texts(TEXTS), model.encode_texts(TEXTS))
    save_model(tmp_path / "model", tokenizer, seed=1)
    with pytest.raises(WeightsError, match="gives other vectors on"):
        pickle.loads(content)  # noqa: S301
