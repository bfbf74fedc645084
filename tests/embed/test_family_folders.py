"""Folders and files of SigLIP, SigLIP 2 and CLIPA as open_clip and transformers write them, and back again.

Each is loaded by Diptych's own towers and by its library: same embeddings of images and texts. Then Diptych writes the
library's layout, which the library loads.
"""

import dataclasses
import json
import logging

import peers  # noqa: F401  (before open_clip)
import pytest
import torch
from embedding import make_pictures
from family_folders import ODD_TEXTS, write_tokenizer
from family_peers import open_clip_cfg, open_clip_peer, scaled_down, transformers_peer
from model_tools import distance, random_clip, same
from safetensors.torch import load_file

from diptych.data.transforms import Preprocessing
from diptych.embed import Model, load
from diptych.embed.about import about
from diptych.errors import ConfigError, WeightsError
from diptych.model.layouts import huggingface_config, to_diptych, to_huggingface, to_open_clip
from diptych.model.weights import write_tensors

open_clip = pytest.importorskip("open_clip")
transformers = pytest.importorskip("transformers")
KINDS = {"ViT-B-16-SigLIP": "siglip", "ViT-SO400M-14-SigLIP": "siglip", "ViT-B-16-SigLIP2": "siglip2"}
ALL = KINDS | {"ViT-L-14-CLIPA": "clipa"}
KWARGS = {"siglip": {"clean": "canonicalize"}, "siglip2": {"clean": "canonicalize"}, "clipa": {"strip_sep_token": True}}
HALVES = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
IMAGENET = {
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "interpolation": "bilinear",
    "resize_mode": "squash",
}


def open_clip_folder(folder, name):
    """A small model in open_clip's form; returns its own configuration."""
    kind = ALL[name]
    model = random_clip(scaled_down(name))
    values = open_clip_cfg(model.config)
    values["text_cfg"] |= {"hf_tokenizer_name": "somewhere/else", "tokenizer_kwargs": KWARGS[kind]}
    images = IMAGENET if kind == "clipa" else HALVES
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": values, "preprocess_cfg": images}))
    write_tokenizer(folder, kind)
    write_tensors(open_clip_peer(model).state_dict(), folder / "open_clip_model.safetensors")
    return model.config


def embeddings_of_open_clip(folder):
    """What open_clip computes with a folder: its transforms, its tokenizer, its network."""
    model, _, prepare = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenize = open_clip.get_tokenizer(f"local-dir:{folder}")
    from PIL import Image

    with torch.no_grad():
        pixels = torch.stack([prepare(Image.fromarray(picture)) for picture in make_pictures()])
        images = model.eval().encode_image(pixels, normalize=True)
        return images, model.encode_text(tokenize(ODD_TEXTS), normalize=True), model


@pytest.fixture
def known_to_us(monkeypatch):
    """Let Diptych know the small towers that the tests register in timm."""
    from family_peers import register_timm

    import diptych.model.open_clip_config as ours

    names = {}
    plain = ours.siglip_tower
    for name in KINDS:
        config = scaled_down(name)
        names[register_timm(config.vision, config.activation)] = config.vision, config.activation
    monkeypatch.setattr(ours, "TIMM_SIGLIP", (*names, *ours.TIMM_SIGLIP))
    monkeypatch.setattr(ours, "siglip_tower", lambda name: names.get(name) or plain(name))


@pytest.mark.parametrize("name", ALL)
def test_an_open_clip_folder(name, tmp_path, known_to_us):
    config = open_clip_folder(tmp_path, name)
    images, texts, network = embeddings_of_open_clip(tmp_path)
    model = load(tmp_path)
    assert model.clip.config == config if ALL[name] != "siglip" else model.tokenizer.pad_id == 1
    assert distance(model.encode_images(make_pictures()), images) <= 1e-5
    assert distance(model.encode_texts(ODD_TEXTS, truncate=True), texts) <= 1e-5
    assert model.logit_scale == pytest.approx(network.logit_scale.exp().item(), rel=1e-6)
    bias = None if network.logit_bias is None else pytest.approx(network.logit_bias.item(), rel=1e-6)
    assert model.logit_bias == about(model).logit_bias == bias
    # The adapter states the same bias, and a folder of Diptych gives the same numbers.
    assert about(load(f"open_clip:{tmp_path}")).logit_bias == bias
    model.save(tmp_path / "own")
    again = load(tmp_path / "own")
    assert torch.equal(again.encode_texts(ODD_TEXTS, truncate=True), model.encode_texts(ODD_TEXTS, truncate=True))
    assert torch.equal(again.encode_images(make_pictures()), model.encode_images(make_pictures()))
    assert again.fingerprint == model.fingerprint and again.preprocessing == model.preprocessing
    # Out again: open_clip loads what Diptych writes.
    tensors = to_open_clip(again.clip.state_dict(), again.clip.config)
    assert same(tensors, load_file(tmp_path / "open_clip_model.safetensors"))
    assert same(to_diptych(tensors), again.clip.state_dict())


@pytest.mark.parametrize("name", KINDS)
def test_a_hugging_face_folder(name, tmp_path):
    """With transformers' processor and Siglip2Tokenizer; its other tokenizers are in test_library_tokenizer.py."""
    config = scaled_down(name)
    text = dataclasses.replace(config.text, activation=None, pad_id=0)
    config = dataclasses.replace(config, activation="gelu_tanh", text=text)
    model = random_clip(config)
    peer = transformers_peer(model)
    peer.save_pretrained(tmp_path)
    size = {"height": config.vision.image_size, "width": config.vision.image_size}
    transformers.SiglipImageProcessor(size=size).save_pretrained(tmp_path)
    write_tokenizer(tmp_path, "siglip2", tokenizer_class="Siglip2Tokenizer")
    ours, theirs = load(tmp_path), load(f"hf:{tmp_path}")
    assert ours.clip.config == config and about(ours).logit_bias == about(theirs).logit_bias == pytest.approx(-9.7)
    assert ours.preprocessing == Preprocessing(config.vision.image_size, (0.5,) * 3, (0.5,) * 3, resize="squash")
    assert distance(ours.encode_images(make_pictures()), theirs.encode_images(make_pictures())) <= 1e-5
    texts = ours.encode_texts(ODD_TEXTS, truncate=True)
    assert distance(texts, theirs.encode_texts(ODD_TEXTS)) <= 1e-5
    # Out again: the same tensors and configuration, and transformers misses nothing.
    tensors = to_huggingface(ours.clip.state_dict(), ours.clip.config)
    assert same(tensors, load_file(tmp_path / "model.safetensors"))
    assert same(to_diptych(tensors), ours.clip.state_dict())
    out = tmp_path / "out"
    out.mkdir()
    write_tensors(tensors, out / "model.safetensors")
    (out / "config.json").write_text(json.dumps(huggingface_config(ours.clip.config)))
    again, report = transformers.SiglipModel.from_pretrained(out, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    tokens, _ = ours.tokenizer(ODD_TEXTS, truncate=True, pad_to=config.text.context_length)
    with torch.no_grad():
        encoded = again.get_text_features(input_ids=tokens.long()).pooler_output
    assert distance(texts, torch.nn.functional.normalize(encoded, dim=-1)) <= 1e-5
    ours.save(tmp_path / "own")
    assert torch.equal(load(tmp_path / "own").encode_texts(ODD_TEXTS, truncate=True), texts)


def test_a_folder_without_a_processor_or_a_tokenizer(tmp_path, caplog):
    config = scaled_down("ViT-B-16-SigLIP")
    model = random_clip(config)
    transformers_peer(model).save_pretrained(tmp_path)
    (tmp_path / "spiece.model").write_bytes(b"\n\x00")
    with caplog.at_level(logging.WARNING, "diptych"):
        loaded = load(tmp_path)
    assert "lacks preprocessor_config.json; taking SigLIP's preprocessing" in caplog.text
    assert "Its spiece.model is a SentencePiece model" in caplog.text
    assert loaded.preprocessing == Preprocessing(48, (0.5,) * 3, (0.5,) * 3, resize="squash")
    with pytest.raises(WeightsError, match="came without a tokenizer"):
        loaded.encode_texts(["a cat"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"padding_side": "left"}, "padded on the left"),
        ({"tokenizer_class": "SiglipTokenizer", "do_lower_case": False}, "do_lower_case = false"),
    ],
)
def test_texts_prepared_in_a_way_that_cannot_be_followed(tmp_path, changes, words):
    transformers_peer(random_clip(scaled_down("ViT-B-16-SigLIP2"))).save_pretrained(tmp_path)
    write_tokenizer(tmp_path, "siglip2", **changes)
    with pytest.raises(ConfigError, match=rf"{words}.*transformers computes it: give hf:"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("section", "changes", "words"),
    [
        ("vision_config", {"vision_use_head": False}, "vision_use_head"),
        ("vision_config", {"hidden_act": "relu"}, "activation"),
        ("text_config", {"projection_size": 64}, "projection_size"),
        ("text_config", {"layer_norm_eps": 2}, "norm_eps"),
        ("text_config", {"pad_token_id": 10**6}, "pad_id"),
    ],
)
def test_a_siglip_configuration_that_cannot_be_followed(tmp_path, section, changes, words):
    values = huggingface_config(random_clip(scaled_down("ViT-B-16-SigLIP2")).config)
    values[section] |= changes
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=rf"{words}.*give hf:"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("section", "changes", "words"),
    [
        ("vision_cfg", {"timm_model_name": "vit_base_mci_224"}, "only SigLIP's towers"),
        ("vision_cfg", {"timm_pool": "avg"}, "timm_pool"),
        ("vision_cfg", {"image_size": 512}, "takes 224 pixels"),
        ("text_cfg", {"pool_type": "eos"}, "pool_type"),
        ("text_cfg", {"act_kwargs": {"approximate": "none"}}, "act_kwargs"),
        ("text_cfg", {"norm_kwargs": {"bias": False}}, "norm_kwargs has bias"),
        ("text_cfg", {"ls_init_value": 1e-4}, "ls_init_value"),
    ],
)
def test_an_open_clip_configuration_that_cannot_be_followed(tmp_path, section, changes, words):
    values = open_clip.get_model_config("ViT-B-16-SigLIP")
    values[section] |= changes
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": values, "preprocess_cfg": {}}))
    with pytest.raises(ConfigError, match=rf"{words}.*open_clip computes it: give open_clip:"):
        load(tmp_path)


@pytest.mark.parametrize("layout", ["open_clip", "huggingface"])
@pytest.mark.parametrize("name", ALL)
def test_a_bare_file_of_an_unpublished_size(name, layout, tmp_path, caplog):
    """Heads, mask and pooling are assumed and said; what is stated gives the model's numbers."""
    if layout == "huggingface" and ALL[name] == "clipa":
        pytest.skip("transformers has no CLIPA")
    config = scaled_down(name)
    model = random_clip(config)
    write = to_open_clip if layout == "open_clip" else to_huggingface
    write_tensors(write(model.state_dict(), config), tmp_path / "w.safetensors")
    with caplog.at_level(logging.WARNING, "diptych"):
        loaded = load(tmp_path / "w.safetensors", activation=config.activation, heads=(2, 2))
    assert "no causal mask, padding with the token 0 and pooling at the last position" in caplog.text
    text = dataclasses.replace(config.text, activation=None, pad_id=0)
    vision = config.vision
    bias = None if config.logit_bias is None else pytest.approx(-9.7)
    found = loaded.clip.config
    assert (found.vision, found.text) == (vision, text) and found.logit_bias == bias


def test_the_padding_of_tokenizer_and_network_must_agree(tmp_path):
    config = scaled_down("ViT-B-16-SigLIP")
    write_tokenizer(tmp_path, "siglip2")
    from diptych.data.library_tokenizer import LibraryTokenizer, TextRules

    tokenizer = LibraryTokenizer.from_file(tmp_path / "tokenizer.json", 24, TextRules("canonicalize", 0))
    with pytest.raises(WeightsError, match="pads texts with the token 0, the network with 1"):
        Model(random_clip(config), tokenizer, Preprocessing(config.vision.image_size))
