"""Models of other libraries as Encoders: the numbers are the libraries' own."""

import json

import numpy as np
import peers  # noqa: F401  (before open_clip)
import pytest
import tokenizers
import torch
from pictures import noise
from PIL import Image

from diptych.data.tokenizer import Tokenizer
from diptych.embed import load
from diptych.embed import open_clip as ours
from diptych.errors import InputError, WeightsError

transformers = pytest.importorskip("transformers")
PICTURES = [noise(50, 40, seed) for seed in range(3)]
TEXTS = ["a cat", "a dog on a red car"]


def small(config, text, vision):
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    return config(
        text_config=text(**sizes, vocab_size=600, max_position_embeddings=16).to_dict(),
        vision_config=vision(**sizes, image_size=32, patch_size=8).to_dict(),
    )


@pytest.fixture(scope="module", params=["clip", "siglip"])
def folder(request, tmp_path_factory):
    """A small model with preprocessor and tokenizer, saved as transformers saves it."""
    path = tmp_path_factory.mktemp(request.param)
    if request.param == "clip":
        config = small(transformers.CLIPConfig, transformers.CLIPTextConfig, transformers.CLIPVisionConfig)
        network, kind = transformers.CLIPModel(config), "CLIPImageProcessor"
    else:
        config = small(transformers.SiglipConfig, transformers.SiglipTextConfig, transformers.SiglipVisionConfig)
        network, kind = transformers.SiglipModel(config), "SiglipImageProcessor"
    network.save_pretrained(path)
    size = {"shortest_edge": 32} if request.param == "clip" else {"height": 32, "width": 32}
    processor = {"image_processor_type": kind, "size": size, "crop_size": {"height": 32, "width": 32}}
    (path / "preprocessor_config.json").write_text(json.dumps(processor))
    Tokenizer.train(["a cat", "a dog on a red car", "blue"] * 3, 600).save(path / "tokenizer.json")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<|endoftext|>", "model_max_length": 16}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    return path


def test_a_model_of_transformers_gives_its_own_numbers(folder):
    encoder = load(f"hf:{folder}", "cpu")
    network = transformers.AutoModel.from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    with torch.inference_mode():
        pixels = processor(images=PICTURES, return_tensors="pt")["pixel_values"]
        pooled = network.vision_model(pixel_values=pixels).pooler_output
        theirs = network.get_image_features(pixel_values=pixels)
        theirs = theirs if isinstance(theirs, torch.Tensor) else theirs.pooler_output
    torch.testing.assert_close(
        encoder.encode_images(PICTURES), torch.nn.functional.normalize(theirs, dim=1), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(encoder.image_features(PICTURES), pooled, atol=1e-5, rtol=0)
    texts = encoder.encode_texts(TEXTS)
    assert texts.shape == (2, encoder.encode_images(PICTURES).shape[1])
    torch.testing.assert_close(texts.norm(dim=1), torch.ones(2))
    assert encoder.name == folder.name and encoder.logit_scale >= 1


def test_the_fingerprint_changes_with_weights_and_preprocessing(folder, tmp_path):
    first = load(f"hf:{folder}", "cpu")
    assert first.image_fingerprint == load(f"hf:{folder}", "cpu").image_fingerprint
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    processor = json.loads((folder / "preprocessor_config.json").read_text()) | {"image_mean": [0.1, 0.2, 0.3]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    assert first.image_fingerprint != load(f"hf:{tmp_path}", "cpu").image_fingerprint


def test_unknown_preprocessing_is_an_error(folder, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(WeightsError, match="cannot be loaded with its preprocessor"):
        load(f"hf:{tmp_path}", "cpu")


def test_a_model_of_open_clip_gives_its_own_numbers(tmp_path, monkeypatch):
    open_clip = pytest.importorskip("open_clip")
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
    }
    (tmp_path / "tiny-test.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tiny-test.json")
    network, _, prepare = open_clip.create_model_and_transforms("tiny-test")
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    encoder = load(f"open_clip:tiny-test@{tmp_path / 'weights.pt'}", "cpu")
    with torch.inference_mode():
        theirs = network.eval().encode_image(torch.stack([prepare(picture) for picture in PICTURES]), normalize=True)
        their_texts = network.encode_text(open_clip.get_tokenizer("tiny-test")(TEXTS), normalize=True)
    torch.testing.assert_close(encoder.encode_images(PICTURES), theirs, atol=1e-5, rtol=0)
    torch.testing.assert_close(encoder.encode_texts(TEXTS), their_texts, atol=1e-5, rtol=0)
    features = encoder.image_features(PICTURES)
    assert features.shape == (3, 64)
    projected = torch.nn.functional.normalize(features @ network.visual.proj, dim=1)
    torch.testing.assert_close(projected, theirs, atol=1e-5, rtol=0)
    with pytest.raises(WeightsError, match="names no weights"):
        load("open_clip:tiny-test", "cpu")
    with pytest.raises(WeightsError, match="has no architecture no-such; known are "):
        load("open_clip:no-such@openai", "cpu")


@pytest.fixture
def weights(tmp_path):
    """A small model's weights in a file, as open_clip's own training leaves them."""
    open_clip = pytest.importorskip("open_clip")
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
    }
    (tmp_path / "tiny-file.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tiny-file.json")
    torch.save(open_clip.create_model("tiny-file").state_dict(), tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


SIGLIP = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear", "resize_mode": "squash"}


def test_a_weight_file_of_open_clip_says_what_is_assumed_and_takes_what_is_stated(weights, caplog):
    assumed = load(f"open_clip:tiny-file@{weights}", "cpu")
    [notice] = [record.getMessage() for record in caplog.records if record.name.startswith("diptych")]
    assert (
        "weights.pt does not say how its images were prepared; assumed, at 32 x 32 pixels: mean (0.48145466," in notice
    )
    assert "std (0.26862954," in notice and "interpolation bicubic, resize_mode shortest" in notice
    # What the notice tells to write is read, and is what was assumed.
    beside = weights.with_name("open_clip_config.json")
    beside.write_text(notice[notice.index('{"preprocess_cfg"') :])
    caplog.clear()
    same = load(f"open_clip:tiny-file@{weights}", "cpu")
    assert not caplog.records and same.image_fingerprint == assumed.image_fingerprint
    beside.write_text(json.dumps({"preprocess_cfg": SIGLIP | {"size": 32}}))
    stated = load(f"open_clip:tiny-file@{weights}", "cpu")
    assert not caplog.records and stated.image_fingerprint != assumed.image_fingerprint
    # The same pixels, prepared by hand, into the other model.
    pixels = [np.asarray(one.resize((32, 32), Image.Resampling.BILINEAR), np.float64) / 255 for one in PICTURES]
    prepared = torch.tensor(np.stack(pixels).transpose(0, 3, 1, 2) * 2 - 1, dtype=torch.float32)
    with torch.inference_mode():
        theirs = torch.nn.functional.normalize(stated._network.encode_image(prepared), dim=1)
    torch.testing.assert_close(stated.encode_images(PICTURES), theirs, atol=1e-4, rtol=0)


def test_a_part_of_the_preprocessing_stated_leaves_a_notice_of_the_others(weights, caplog):
    weights.with_name("open_clip_config.json").write_text(json.dumps({"preprocess_cfg": {"mean": [0.5, 0.5, 0.5]}}))
    load(f"open_clip:tiny-file@{weights}", "cpu")
    [notice] = [record.getMessage() for record in caplog.records if record.name.startswith("diptych")]
    assert (
        "pixels: std (0.26862954," in notice and '{"preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.26' in notice
    )


@pytest.mark.parametrize(
    ("stated", "problem"),
    [
        ({}, "has no object preprocess_cfg"),
        ({"preprocess_cfg": {"mean": 0.5}}, "preprocess_cfg.mean is 0.5; it should be three numbers"),
        ({"preprocess_cfg": {"std": [0.5, "0.5", 0.5]}}, "preprocess_cfg.std is"),
        ({"preprocess_cfg": {"interpolation": "magic"}}, "cannot be loaded"),
        (
            {"preprocess_cfg": SIGLIP | {"size": 64}},
            "states images of 64 x 64 pixels; this arch.* takes 32 x 32",
        ),
    ],
)
def test_damaged_preprocessing_beside_a_weight_file_is_an_error(weights, stated, problem):
    weights.with_name("open_clip_config.json").write_text(json.dumps(stated))
    with pytest.raises(WeightsError, match=problem):
        load(f"open_clip:tiny-file@{weights}", "cpu")


def test_a_file_of_an_architecture_with_other_preprocessing_is_refused():
    """All published SigLIP weights of open_clip take mean 0.5: the usual one would give wrong numbers."""
    open_clip = pytest.importorskip("open_clip")
    usual = {"size": 224, "mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    usual |= {"interpolation": "bicubic", "resize_mode": "shortest"}
    siglip, vit = (ours._published(open_clip, name) for name in ("ViT-B-16-SigLIP", "ViT-B-32"))
    assert len(siglip) >= 1 and len(vit) > 5
    ours._check_preprocessing("w.pt", {}, usual, vit)
    ours._check_preprocessing("w.pt", {}, usual, [])  # one's own architecture
    with pytest.raises(WeightsError, match=r"take another mean .* open_clip_config.json .*\[0.5, 0.5, 0.5\]"):
        ours._check_preprocessing("w.pt", {}, usual, siglip)
    stated = {key: siglip[0][key] for key in ("mean", "std", "interpolation", "resize_mode")}
    ours._check_preprocessing("w.pt", stated, usual | stated, siglip)


def test_an_object_of_one_s_own(tmp_path, monkeypatch):
    (tmp_path / "mine_for_test.py").write_text(
        "import torch\n"
        "class Mine:\n"
        "    def encode_images(self, pictures):\n"
        "        return torch.nn.functional.normalize(torch.ones(len(pictures), 4), dim=1)\n"
        "ready = Mine()\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    for name in ("Mine", "ready"):
        encoder = load(f"python:mine_for_test:{name}")
        assert encoder.name == name
        assert np.allclose(encoder.encode_images([Image.new("RGB", (4, 4))]), 0.5)
    for wrong in ("python:mine_for_test:absent", "python:no_such_module_here:x", "python:mine_for_test:number"):
        with pytest.raises(InputError, match=r"python:"):
            load(wrong)


def test_other_names_are_diptych_s_own():
    assert load("default").name == "default"
    with pytest.raises(WeightsError, match="there is no model folder"):
        load("hf:")


def test_a_folder_and_hf_folder_give_the_same_numbers_at_every_size(tmp_path):
    """transformers rounds half a pixel of the centre crop down, torchvision to even: a folder of its own follows it."""
    sizes = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = transformers.CLIPConfig(
        text_config=sizes | {"vocab_size": 600, "max_position_embeddings": 16, "eos_token_id": 2},
        vision_config=sizes | {"image_size": 32, "patch_size": 16},
        projection_dim=16,
    )
    transformers.CLIPModel(config).save_pretrained(tmp_path)
    processor = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 32}, "crop_size": 32}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    tokenizer = Tokenizer.train(["a cat", "a dog on a red car", "blue"] * 3, 600)
    tokenizer.save(tmp_path / "tokenizer.json")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<|endoftext|>", "model_max_length": 16}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    own, theirs = load(tmp_path, "cpu"), load(f"hf:{tmp_path}", "cpu")
    sides = [(32, 32 + n) for n in range(9)] + [(35, 32), (33, 100), (101, 47), (7, 5), (224, 227), (31, 33)]
    pictures = [noise(height, width, seed) for seed, (height, width) in enumerate(sides)]
    torch.testing.assert_close(own.encode_images(pictures), theirs.encode_images(pictures), atol=1e-5, rtol=0)
    torch.testing.assert_close(own.encode_texts(TEXTS), theirs.encode_texts(TEXTS), atol=1e-5, rtol=0)


def test_siglip_lower_cases_and_fills_up_to_its_length(tmp_path):
    """A tokenizer that keeps capitals, as Gemma's in SigLIP 2: the texts are lower-cased, as they were in training."""
    config = small(transformers.SiglipConfig, transformers.SiglipTextConfig, transformers.SiglipVisionConfig)
    network = transformers.SiglipModel(config).eval()
    network.save_pretrained(tmp_path)
    processor = {"image_processor_type": "SiglipImageProcessor", "size": {"height": 32, "width": 32}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    words = tokenizers.models.WordLevel(
        {word: id for id, word in enumerate(["<pad>", "<unk>", "a", "cat", "Cat", "A"])}
        | {f"w{n}": n + 6 for n in range(20)},
        unk_token="<unk>",
    )
    fast = tokenizers.Tokenizer(words)
    fast.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    fast.save(str(tmp_path / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "model_input_names": ["input_ids"]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    encoder = load(f"hf:{tmp_path}", "cpu")
    with torch.inference_mode():
        theirs = network.get_text_features(input_ids=torch.tensor([[2, 3] + [0] * 14]))
        theirs = theirs if isinstance(theirs, torch.Tensor) else theirs.pooler_output
    texts = encoder.encode_texts(["a cat", "A Cat"])
    torch.testing.assert_close(texts, torch.nn.functional.normalize(theirs, dim=1).expand(2, -1), atol=1e-5, rtol=0)


def test_weights_that_are_missing_are_not_made_up(folder, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, tmp_path / "part")
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("text_model.encoder")}
    save_file(kept, tmp_path / "part" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"is incomplete: .*tensors of a .* are missing"):
        load(f"hf:{tmp_path / 'part'}")
