"""What is in weight files as the world saves them: containers, prefixes, shards, and files that are no weights."""

import argparse
import copy
import gzip
import json
import struct
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from embedding import VIT, make_vit
from safetensors.torch import save_file

from diptych.embed import load
from diptych.errors import WeightsError
from diptych.model.layouts import to_diptych, to_huggingface
from diptych.model.weights import read_tensors

NAMES = ("weights.pt", "weights.safetensors", "weights.bin")


@pytest.fixture(scope="module")
def weights():
    return make_vit().clip.state_dict()


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def prefixed(weights, prefix):
    return {prefix + name: tensor for name, tensor in weights.items()}


CONTAINERS = {
    "open_clip's trainer": lambda w: {
        "epoch": 3,
        "name": "run",
        "state_dict": prefixed(w, "module."),
        "optimizer": {
            "state": {0: {"exp_avg": torch.zeros(3), "step": torch.tensor(1.0)}},
            "param_groups": [{"lr": 1}],
        },
        "loss": np.float64(0.5),
        "scaler": {"scale": np.float32(2)},
        "args": argparse.Namespace(lr=1e-3, model="ViT-B-32"),
    },
    "lightning": lambda w: {"epoch": 1, "global_step": 2, "state_dict": prefixed(w, "model."), "hyper_parameters": {}},
    "lightning, compiled": lambda w: {"state_dict": prefixed(w, "clip._orig_mod.")},
    "DeepSpeed": lambda w: {"module": w, "ds_version": "0.1", "lr_scheduler": None},
    "model_state_dict": lambda w: {"model_state_dict": w, "optimizer_state_dict": {}},
    "ema alone": lambda w: {"ema": w, "step": 3},
    "container in a container": lambda w: {"model": {"state_dict": prefixed(w, "module._orig_mod.")}},
    "HF names": lambda w: {"model": prefixed(to_huggingface(w, VIT), "module.clip.")},
    "compiled within": lambda w: {name.replace("transformer.", "transformer._orig_mod."): t for name, t in w.items()},
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_what_trainers_save_is_unwrapped(weights, tmp_path, kind):
    torch.save(CONTAINERS[kind](weights), tmp_path / "epoch.ckpt")
    assert same(to_diptych(read_tensors(tmp_path / "epoch.ckpt")), weights)


def test_a_temperature_with_a_dimension_is_a_number(weights, tmp_path):
    """FSDP takes no parameter without dimensions; open_clip reads such files, too."""
    torch.save({**weights, "logit_scale": weights["logit_scale"][None]}, tmp_path / "weights.pt")
    assert same(to_diptych(read_tensors(tmp_path / "weights.pt")), weights)


@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.bool, torch.int64])
def test_quantised_weights_are_no_weights(weights, tmp_path, kind):
    """Taken as they are, integers of -127 to 127 gave confident labels."""
    name = "visual.transformer.resblocks.0.mlp.c_fc.weight"
    torch.save({**weights, name: (100 * weights[name]).to(kind)}, tmp_path / "weights.pt")
    with pytest.raises(WeightsError, match=rf"1 of {len(weights)} tensors .*c_fc.*quantized.*fp32, fp16 or bf16"):
        load(tmp_path / "weights.pt")


def test_of_several_containers_the_first_is_taken_and_said(weights, tmp_path, caplog):
    other = {name: tensor + 1 for name, tensor in weights.items()}
    torch.save({"ema": other, "model": weights}, tmp_path / "both.pt")
    assert same(read_tensors(tmp_path / "both.pt"), weights)
    assert "holds 'model' and 'ema'; taking 'model'" in caplog.text


def test_two_models_in_one_file_are_an_error(weights):
    with pytest.raises(WeightsError, match=r"2 models, with the prefixes student\., teacher\."):
        to_diptych(prefixed(weights, "student.") | prefixed(weights, "teacher."))


def packed_tar(path):
    with tarfile.open(path, "w") as archive:
        archive.add(__file__, "weights.pt")


def packed_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inside/weights.pt", b"x" * 1000)


def truncated(path, suffix):
    whole = path.with_name("whole")
    tensors = {"a": torch.zeros(10_000)}
    save_file(tensors, whole) if suffix == ".safetensors" else torch.save(tensors, whole)
    path.write_bytes(whole.read_bytes()[:20_000])


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 605157884\n"
NO_WEIGHTS = {
    "a Git LFS pointer of .* bytes, not the weights of 605,157,884 bytes: run git lfs pull": lambda p: p.write_bytes(
        LFS
    ),
    "a web page": lambda p: p.write_bytes(b"\n<!DOCTYPE html><html><body>404</body></html>" + b" " * 5000),
    "a gzip archive: unpack it": lambda p: p.write_bytes(gzip.compress(b"x" * 999)),
    "a tar archive: unpack it": packed_tar,
    "a zip archive of inside/weights.pt, not PyTorch's": packed_zip,
    r"empty \(0 bytes\)": lambda p: p.write_bytes(b""),
    "text .*JSON.*error": lambda p: p.write_text('{"error": "Repository not found"}'),
    "text of 9 bytes": lambda p: p.write_text("Not Found"),
    "a NumPy array": lambda p: np.save(p.open("wb"), np.zeros(3)),
    "truncated: .*20,000": lambda p: truncated(p, p.suffix),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", NO_WEIGHTS)
def test_a_file_that_is_no_weights_is_named_for_what_it_is(tmp_path, kind, name):
    NO_WEIGHTS[kind](tmp_path / name)
    with pytest.raises(WeightsError, match=rf"{name} cannot be read as weights: it is {kind}"):
        load(tmp_path / name)


class Stranger:
    def __reduce__(self):
        return print, ("hello",)


@pytest.mark.parametrize("legacy", [False, True])
def test_the_object_in_the_way_is_named(tmp_path, legacy, capsys):
    torch.save(
        {"state_dict": {"a": torch.zeros(2)}, "x": Stranger()},
        tmp_path / "w.pt",
        _use_new_zipfile_serialization=not legacy,
    )
    with pytest.raises(WeightsError, match=r"names (builtins\.|__builtin__\.)?print, which is code") as error:
        read_tensors(tmp_path / "w.pt")
    assert "weights_only" not in str(error.value) and "safe_globals" not in str(error.value)
    assert "hello" not in capsys.readouterr().out


def test_contents_decide_not_the_name(tmp_path):
    tensors = {"a": torch.arange(5.0)}
    save_file(tensors, tmp_path / "named.bin")
    torch.save(tensors, tmp_path / "named.safetensors")
    assert same(read_tensors(tmp_path / "named.bin"), tensors)
    assert same(read_tensors(tmp_path / "named.safetensors"), tensors)


# ---- shards


@pytest.fixture(params=["safetensors", "bin"])
def sharded(request, weights, tmp_path):
    """A folder of Diptych's whose weights lie in three files, as transformers shards them."""
    names = list(weights)
    stem = "model" if request.param == "safetensors" else "pytorch_model"
    files = {name: f"{stem}-{place % 3 + 1:05}-of-00003.{request.param}" for place, name in enumerate(names)}
    for file in set(files.values()):
        part = {name: weights[name].contiguous() for name in names if files[name] == file}
        save_file(part, tmp_path / file) if request.param == "safetensors" else torch.save(part, tmp_path / file)
    index = tmp_path / f"{stem}.{request.param}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return index


def test_all_shards_are_read(sharded, weights, caplog):
    assert same(read_tensors(sharded), weights)
    shard = next(path for path in sharded.parent.iterdir() if "-00002-of-" in path.name)
    assert same(read_tensors(shard), weights) and "is one of several shards" in caplog.text
    assert load(sharded).clip.config == VIT


def test_a_missing_shard_is_named(sharded):
    shard = next(path for path in sharded.parent.iterdir() if "-00002-of-" in path.name)
    shard.unlink()
    with pytest.raises(WeightsError, match=rf"1 of them are missing: {shard.name}"):
        read_tensors(sharded)
    sharded.unlink()
    with pytest.raises(WeightsError, match=r"their index .* is not next to it"):
        read_tensors(next(path for path in sharded.parent.iterdir() if "-of-" in path.name))


@pytest.mark.parametrize(
    "file", ["../secret.safetensors", "/etc/passwd", "a/b.bin", "..", "C:\\x.bin", 3, "", "x.index.json"]
)
def test_an_index_stays_in_its_folder(sharded, file):
    values = json.loads(sharded.read_text())
    values["weight_map"][next(iter(values["weight_map"]))] = file
    sharded.write_text(json.dumps(values))
    with pytest.raises(WeightsError, match=r"refusing to read it|names another index"):
        read_tensors(sharded)


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', "no json", '{"weight_map": {"a": ["x"]}}']
)
def test_a_damaged_index_is_an_error(tmp_path, text):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(WeightsError, match="index"):
        read_tensors(tmp_path / "model.safetensors.index.json")


# ---- kinds of models that are not Diptych's own


FAMILIES = {
    "a CoCa of open_clip": (["visual.class_embedding", "text.cls_emb", "text_decoder.ln_final.weight"], "open_clip:"),
    "a Perception Encoder": (
        ["visual.trunk.attn_pool.latent", "visual.trunk.cls_token", "text.token_embedding.weight"],
        "open_clip:",
    ),
    "a SigLIP 2 of variable resolution": (
        ["vision_model.head.probe", "vision_model.embeddings.patch_embedding.weight"],
        "fixed resolution",
    ),
    "a ConvNeXt CLIP": (["visual.trunk.stages.0.blocks.0.conv_dw.weight"], "open_clip:"),
    "an EVA CLIP or a ViTamin": (["visual.trunk.blocks.0.attn.q_proj.weight"], "open_clip:"),
    "a MobileCLIP of open_clip": (["visual.trunk.stages.0.blocks.0.token_mixer.norm.weight"], "open_clip:"),
    "a BLIP of Hugging Face": (
        ["vision_model.encoder.layers.0.self_attn.qkv.weight", "text_model.encoder.layer.0.x"],
        "hf:FOLDER",
    ),
    "an ALIGN": (["vision_model.embeddings.convolution.weight", "text_model.embeddings.x"], "hf:FOLDER"),
    "the image half": (["vision_model.embeddings.class_embedding", "vision_model.x"], "python:MODULE:NAME"),
    "the text half": (["text_model.embeddings.token_embedding.weight"], "whole model"),
    "an image tower of timm": (["patch_embed.proj.weight", "blocks.0.attn.qkv.weight"], "python:MODULE:NAME"),
    "an image tower .a ResNet": (["conv1.weight", "layer1.0.conv1.weight"], "python:MODULE:NAME"),
    "a language model": (["bert.embeddings.word_embeddings.weight"], "nothing to measure"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_another_kind_gets_a_sentence(tmp_path, family):
    names, way = FAMILIES[family]
    torch.save({name: torch.zeros(4, 4) for name in names}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=rf"w\.pt: this is {family}.*{way}"):
        load(tmp_path / "w.pt")


def test_names_that_are_nearly_right(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.pt").write_bytes(b"")
    for name, hint in {
        "weight.pt": r"did you mean weights\.pt",
        "ViT-B/33": "did you mean ViT-B/3?",
        "openclip:ViT-B-32@openai": "did you mean open_clip:ViT-B-32@openai",
        "huggingface:openai/x": "did you mean hf:openai/x",
        "somebody/clip": "did you mean hf-hub:somebody/clip",
        "open-ai/clip-vit-base-patch32": "did you mean openai/clip-vit-base-patch32",
        "https://huggingface.co/openai/clip-vit-base-patch32/tree/main": r"mean hf-hub:openai/clip-vit-base-patch32\?",
        "vit-b_32": r"did you mean ViT-B/32",
        "rn50X4s": r"did you mean RN50x4",
        "something": "A model is 'default', the small model",
    }.items():
        with pytest.raises(WeightsError, match=hint):
            load(name)


def test_old_config_dicts_count_as_in_transformers():
    transformers = pytest.importorskip("transformers")
    from diptych.model.layouts import config_from_huggingface

    values = {
        "model_type": "clip",
        "projection_dim": 64,
        "text_config": {"hidden_size": 256, "num_attention_heads": 4, "num_hidden_layers": 3},
        "vision_config": {"hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 512},
        "text_config_dict": {"hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 512},
        "vision_config_dict": None,
    }
    for change in ({}, {"vision_config_dict": {}}, {"text_config_dict": None, "text_config": {}}):
        old = copy.deepcopy(values | change)
        theirs = transformers.CLIPConfig.from_dict(copy.deepcopy(old))
        ours = config_from_huggingface(old)
        assert (
            ours.text.width == theirs.text_config.hidden_size
            and ours.text.layers == theirs.text_config.num_hidden_layers
        )
        assert ours.text.heads == theirs.text_config.num_attention_heads
        assert ours.vision.width == theirs.vision_config.hidden_size
        assert ours.vision.heads == theirs.vision_config.num_attention_heads
        assert ours.vision.patch_size == theirs.vision_config.patch_size


def test_vocab_and_merges_are_a_tokenizer(tmp_path):
    from embedding import small_tokenizer

    tokenizer = small_tokenizer()
    vit = make_vit()
    vit.save(tmp_path / "m")
    from diptych.data.tokenizer import Tokenizer

    (tmp_path / "vocab.json").write_text(json.dumps({token: id for id, token in enumerate(tokenizer.tokens)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in tokenizer.merges))
    assert Tokenizer.from_vocab_and_merges(tmp_path).fingerprint == tokenizer.fingerprint
    torch.save(vit.clip.state_dict(), tmp_path / "w.pt")
    texts = ["a photo of a cat"]
    assert torch.equal(load(tmp_path / "w.pt").encode_texts(texts), vit.encode_texts(texts))


def test_a_name_too_long_for_a_file_is_a_missing_shard(sharded):
    files = json.loads(sharded.read_text())["weight_map"]
    sharded.write_text(json.dumps({"weight_map": {**files, next(iter(files)): "a" * 5000}}))
    with pytest.raises(WeightsError, match=r"1 of them are missing: a{80}$"):
        read_tensors(sharded)


def test_an_archive_of_several_parts_is_an_error(tmp_path):
    """Its end says so; Python's own module raises where it is asked whether the file is an archive at all."""
    torch.save({"a": torch.ones(3)}, tmp_path / "a.pt")
    whole = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(whole[:-22] + struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 2) + whole[-22:])
    with pytest.raises(WeightsError, match=r"a\.pt cannot be read as weights: it is a damaged zip archive"):
        read_tensors(tmp_path / "a.pt")
