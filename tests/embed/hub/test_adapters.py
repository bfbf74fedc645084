"""Published models that another library computes: by their own names, on the files that were fetched and verified."""

import json

import peers  # noqa: F401
import pytest
import torch
from embedding import TEXTS, make_pictures, make_vit
from hub_server import Repository
from published import open_clip_files
from safetensors.torch import save

from diptych.data.transforms import Preprocessing
from diptych.embed import Model, load, load_model
from diptych.embed.library_encoder import LibraryEncoder
from diptych.errors import ConfigError, WeightsError

pytest.importorskip("huggingface_hub")


@pytest.fixture
def apple(hub):
    """A family that runs through open_clip, with the weights of a small CLIP."""
    hub.repositories["apple/MobileCLIP-S1-OpenCLIP"] = Repository(open_clip_files(), license="apple-amlr")
    return hub


def test_a_family_of_open_clip(apple):
    pytest.importorskip("open_clip")
    model = load("MobileCLIP-S1/datacompdr", "cpu")
    assert isinstance(model, LibraryEncoder) and model.name == "MobileCLIP-S1 datacompdr"
    ours = make_vit()
    ours = Model(ours.clip, ours.tokenizer, Preprocessing(48, (0.5,) * 3, (0.25,) * 3))
    difference = model.encode_images(make_pictures()) - ours.encode_images(make_pictures())
    assert difference.abs().max() <= 1e-5
    apple.requests.clear()
    assert load("apple/MobileCLIP-S1-OpenCLIP", "cpu").fingerprint == model.fingerprint
    assert apple.requests == []


def test_its_vectors_do_not_depend_on_where_the_cache_is(apple, tmp_path, monkeypatch):
    pytest.importorskip("open_clip")
    first = load("MobileCLIP-S1/datacompdr", "cpu").fingerprint
    monkeypatch.setenv("HF_HOME", str(tmp_path / "elsewhere"))
    assert load("MobileCLIP-S1/datacompdr", "cpu").fingerprint == first


def test_what_it_cannot_do_is_said(apple):
    pytest.importorskip("open_clip")
    with pytest.raises(ConfigError, match="compute in fp32 here, not in bf16"):
        load("MobileCLIP-S1/datacompdr", "cpu", "bf16")
    with pytest.raises(WeightsError, match="computed by another library"):
        load_model("MobileCLIP-S1/datacompdr", device="cpu")
    with pytest.raises(ConfigError, match="published with its own"):
        load("MobileCLIP-S1/datacompdr", activation="gelu")


def test_a_siglip_in_transformers_layout(hub):
    transformers = pytest.importorskip("transformers")
    sides = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.SiglipConfig(
        vision_config={**sides, "image_size": 32, "patch_size": 16},
        text_config={**sides, "vocab_size": 600, "max_position_embeddings": 16},
    )
    torch.manual_seed(0)
    network = transformers.SiglipModel(config).eval()
    processor = {"image_processor_type": "SiglipImageProcessor", "size": {"height": 32, "width": 32}}
    hub.repositories["google/siglip-base-patch16-224"] = Repository(
        {
            "config.json": json.dumps(config.to_dict(), default=str).encode(),
            "model.safetensors": save(
                {name: tensor.clone().contiguous() for name, tensor in network.state_dict().items()}, {"format": "pt"}
            ),
            "preprocessor_config.json": json.dumps(processor).encode(),
        },
        license="apache-2.0",
    )
    model = load("google/siglip-base-patch16-224", "cpu")
    assert model.name == "ViT-B-16-SigLIP webli"
    pixels = transformers.AutoImageProcessor.from_pretrained(model_folder(hub), use_fast=False)(
        images=list(make_pictures()), return_tensors="pt"
    )["pixel_values"]
    with torch.inference_mode():
        features = network.get_image_features(pixel_values=pixels)
    features = features if isinstance(features, torch.Tensor) else features.pooler_output
    expected = torch.nn.functional.normalize(features, dim=-1)
    assert (model.encode_images(make_pictures()) - expected).abs().max() <= 1e-5


def model_folder(hub) -> str:
    from diptych.embed.hub import fetch

    return str(fetch("google/siglip-base-patch16-224").path)


def test_native_models_need_no_other_library(hub):
    """In a process that cannot import them."""
    import os
    import subprocess
    import sys
    from pathlib import Path

    code = (
        "import sys\n"
        "for name in ('open_clip', 'transformers', 'timm', 'torchvision'): sys.modules[name] = None\n"
        "import diptych\n"
        f"model = diptych.load('ViT-B-32/laion2b_s34b_b79k', 'cpu'); print(model.encode_texts({TEXTS!r}).shape)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "[4, 64]" in done.stdout
