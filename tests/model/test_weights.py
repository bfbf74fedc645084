"""Layouts and weight files: lossless both ways, exchanged with transformers and open_clip, and everything hostile."""

import copy
import dataclasses
import io
import json
import pickle
import struct
import subprocess
import sys
import zipfile

import peers  # noqa: F401
import pytest
import torch
from model_tools import Exploit, distance, random_clip, random_pairs, same
from safetensors.torch import save_file

from diptych.errors import ConfigError, WeightsError
from diptych.model.clip import CLIP
from diptych.model.clip_config import CLIPConfig, CompactResNetConfig, ResNetConfig, TextConfig, ViTConfig
from diptych.model.inference import infer_config
from diptych.model.layouts import (
    config_from_huggingface,
    huggingface_config,
    to_custom_text,
    to_diptych,
    to_huggingface,
)
from diptych.model.presets import PRESETS
from diptych.model.weights import load_tensors, read_tensors, write_tensors

TEXT = TextConfig(vocab_size=300, width=128, layers=2)
VIT = CLIPConfig(64, ViTConfig(64, 16, width=192, layers=3), TEXT)
RESNET = CLIPConfig(96, ResNetConfig(96, 16, (1, 2, 1, 1)), TEXT)


@pytest.fixture(scope="module", params=[VIT, RESNET], ids=["vit", "resnet"])
def model(request):
    return random_clip(request.param)


@pytest.fixture(scope="module")
def vit():
    return random_clip(VIT)


def wrapped(tensors):
    return {f"module.{name}": tensor for name, tensor in tensors.items()}


# ---- layouts


@pytest.mark.parametrize("form", [dict, to_custom_text, wrapped], ids=["openai", "custom_text", "wrapped"])
def test_round_trip_of_openai_layouts(model, form):
    weights = model.state_dict()
    assert same(to_diptych(form(weights)), weights)


def test_round_trip_of_the_huggingface_layout(vit):
    weights = vit.state_dict()
    theirs = to_huggingface(weights, vit.config)
    assert sum(tensor.numel() for tensor in theirs.values()) == sum(tensor.numel() for tensor in weights.values())
    assert same(to_diptych(theirs), weights)
    assert same(to_huggingface(to_diptych(theirs), vit.config), theirs)


def test_a_resnet_has_no_huggingface_layout():
    model = CLIP(RESNET)
    for convert in (lambda: to_huggingface(model.state_dict(), RESNET), lambda: huggingface_config(RESNET)):
        with pytest.raises(ConfigError, match="ResNet"):
            convert()


def test_what_is_no_parameter_is_left_out(model):
    extras = {
        "input_resolution": torch.tensor(64),
        "context_length": torch.tensor(77),
        "vocab_size": torch.tensor(300),
        "attn_mask": torch.zeros(77, 77),
    }
    assert same(to_diptych(model.state_dict() | extras), model.state_dict())


def test_the_architecture_is_inferred_from_shapes(model):
    assert infer_config(model.state_dict()) == model.config
    assert infer_config(model.state_dict(), "gelu").activation == "gelu"


@pytest.mark.parametrize("layers", [(1, 1, 1), (1, 2, 3)])
def test_a_compact_tower_is_inferred(layers):
    clip = CLIP(CLIPConfig(32, CompactResNetConfig(32, (16, 64, 128), layers), TEXT))
    assert infer_config(clip.state_dict()) == clip.config
    assert sum(one.numel() for one in clip.parameters()) == clip.config.num_parameters()


@pytest.mark.parametrize("name", ["RN50x16", "ViT-L/14@336px"])
def test_the_paper_s_architectures_are_inferred(name):
    with torch.device("meta"):
        weights = CLIP(PRESETS[name]).state_dict()
    assert infer_config(weights) == PRESETS[name]


def test_inference_names_what_it_lacks():
    with pytest.raises(WeightsError, match=r"not the weights of a CLIP: positional_embedding is missing .*fc\.weight"):
        infer_config({"fc.weight": torch.zeros(2, 2)})
    weights = CLIP(VIT).state_dict()
    with pytest.raises(WeightsError, match="16 rows"):
        infer_config(weights | {"visual.positional_embedding": torch.zeros(16, 192)})
    with pytest.raises(WeightsError, match="2 dimensions"):
        infer_config(weights | {"text_projection": torch.zeros(4)})


def test_inference_refuses_absurd_shapes():
    weights = CLIP(VIT).state_dict() | {"token_embedding.weight": torch.zeros(1, 1).expand(10**9, 10**4)}
    with pytest.raises(ConfigError, match=r"text\.(vocab_size|width)"):
        infer_config(weights)


# ---- exchange with the peers


@torch.no_grad()
def test_transformers_reads_our_export(vit, tmp_path):
    transformers = pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text(json.dumps(huggingface_config(vit.config)))
    write_tensors(to_huggingface(vit.state_dict(), vit.config), tmp_path / "model.safetensors")
    theirs, report = transformers.CLIPModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    images, tokens = random_pairs(vit)
    output = theirs(pixel_values=images, input_ids=tokens)
    image_embeddings, text_embeddings, scale = vit(images, tokens)
    assert torch.allclose(output.image_embeds, image_embeddings, atol=1e-6)
    assert torch.allclose(output.text_embeds, text_embeddings, atol=1e-6)
    assert torch.allclose(output.logits_per_image, scale * image_embeddings @ text_embeddings.T, atol=1e-4)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@torch.no_grad()
def test_we_read_a_folder_of_transformers(tmp_path, activation):
    transformers = pytest.importorskip("transformers")
    # A ViT-bigG's MLPs are not four times as wide either.
    vision = dataclasses.replace(VIT.vision, mlp_ratio=2.5) if activation == "gelu" else VIT.vision
    config = CLIPConfig(64, vision, TEXT, activation)
    theirs = transformers.CLIPModel(transformers.CLIPConfig(**huggingface_config(config))).eval()
    theirs.save_pretrained(tmp_path)
    assert config_from_huggingface(json.loads((tmp_path / "config.json").read_text())) == config
    ours = CLIP(config).eval()
    load_tensors(ours, to_diptych(read_tensors(tmp_path / "model.safetensors")), tmp_path)
    images, tokens = random_pairs(ours)
    output = theirs(pixel_values=images, input_ids=tokens)
    assert torch.allclose(output.image_embeds, ours(images, tokens)[0], atol=1e-6)
    assert torch.allclose(output.text_embeds, ours(images, tokens)[1], atol=1e-6)


def test_the_default_huggingface_config_is_vit_b_32():
    transformers = pytest.importorskip("transformers")
    assert config_from_huggingface(transformers.CLIPConfig().to_dict()) == PRESETS["ViT-B/32"]
    assert config_from_huggingface({"model_type": "clip"}) == PRESETS["ViT-B/32"]


def test_huggingface_configs_of_other_forms_are_refused():
    good = huggingface_config(VIT)
    for change, field in [
        ({"model_type": "siglip2"}, "model_type"),
        ({"projection_dim": "64"}, "embed_dim"),
        ({"vision_config": 3}, "vision_config"),
        ({"vision_config": good["vision_config"] | {"hidden_act": "gelu"}}, "hidden_act"),
        ({"vision_config": good["vision_config"] | {"num_channels": 4}}, "num_channels"),
        ({"vision_config": good["vision_config"] | {"intermediate_size": "768"}}, "vision.mlp_width"),
        ({"vision_config": good["vision_config"] | {"intermediate_size": 0}}, "vision.mlp_width"),
        ({"vision_config": good["vision_config"] | {"hidden_size": 0}}, "vision.width"),
        ({"text_config": good["text_config"] | {"intermediate_size": 0}}, "text.mlp_width"),
        ({"text_config": good["text_config"] | {"hidden_size": None}}, "text.width"),
        ({"text_config": good["text_config"] | {"hidden_size": 10**7}}, "text.width"),
    ]:
        with pytest.raises(ConfigError, match=field):
            config_from_huggingface(good | change)


@pytest.mark.parametrize("custom_text", [False, True])
@torch.no_grad()
def test_open_clip_reads_ours_and_we_read_open_clip_s(model, tmp_path, custom_text):
    open_clip = pytest.importorskip("open_clip")
    vision = {"image_size": model.config.vision.image_size, "width": model.config.vision.width}
    vision |= {"layers": model.config.vision.layers, "patch_size": getattr(model.config.vision, "patch_size", None)}
    text = {"vocab_size": 300, "width": 128, "heads": 2, "layers": 2}
    kind = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
    theirs = kind(model.config.embed_dim, vision, text, quick_gelu=True).eval()

    # theirs to ours, through the checkpoint that open_clip's trainer writes
    torch.save({"epoch": 3, "name": "run", "state_dict": wrapped(theirs.state_dict())}, tmp_path / "epoch_3.pt")
    ours = CLIP(model.config).eval()
    load_tensors(ours, to_diptych(read_tensors(tmp_path / "epoch_3.pt")), "epoch_3.pt")
    images, tokens = random_pairs(ours)
    assert torch.allclose(theirs.encode_image(images), ours.encode_image(images), atol=1e-5)
    assert torch.allclose(theirs.encode_text(tokens), ours.encode_text(tokens), atol=1e-5)

    # ours to theirs
    weights = model.state_dict()
    theirs.load_state_dict(to_custom_text(weights) if custom_text else weights)
    assert distance(model.encode_image(images), theirs.encode_image(images)) < 1e-5
    assert distance(model.encode_text(tokens), theirs.encode_text(tokens)) < 1e-5


# ---- files


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".bin"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_files_give_back_what_was_written(vit, tmp_path, suffix, dtype):
    weights = {name: tensor.to(dtype) for name, tensor in vit.state_dict().items()}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        write_tensors(weights, path)
    else:
        torch.save(weights, path)
    assert same(read_tensors(path), weights)
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_a_file_that_cannot_be_written_leaves_the_old_one(vit, tmp_path):
    path = tmp_path / "model.safetensors"
    write_tensors({"a": torch.ones(3)}, path)
    with pytest.raises(WeightsError, match="cannot be written"):
        write_tensors({"a": torch.ones(3)}, tmp_path / "missing" / "model.safetensors")
    code = (  # a limit on the size of files behaves like a full disk
        "import resource, signal, sys, torch; from diptych.model.weights import write_tensors;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000));"
        "write_tensors({'a': torch.zeros(10**6)}, sys.argv[1])"
    )
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert run.returncode and "WeightsError" in run.stderr
    assert torch.equal(read_tensors(path)["a"], torch.ones(3))
    assert [item.name for item in tmp_path.iterdir()] == ["model.safetensors"]


def test_loading_lists_everything_that_does_not_fit(vit):
    weights = vit.state_dict()
    before = {name: tensor.clone() for name, tensor in weights.items()}
    broken = {name: torch.zeros_like(tensor) for name, tensor in weights.items() if not name.startswith("visual.ln")}
    broken |= {f"extra.{index}": torch.zeros(1) for index in range(20)}
    broken["text_projection"] = torch.zeros(64, 128)
    with pytest.raises(WeightsError) as error:
        load_tensors(vit, broken, "broken.pt")
    message = str(error.value)
    assert message.startswith("broken.pt")
    assert "4 missing: visual.ln_pre.weight, visual.ln_pre.bias, visual.ln_post.weight, visual.ln_post.bias" in message
    assert "20 extra: extra.0" in message and "extra.7, ..." in message and "extra.8" not in message
    assert "1 of the wrong shape: text_projection (64, 128) instead of (128, 64)" in message
    assert same(vit.state_dict(), before)


def test_a_model_without_memory_takes_the_tensors(vit):
    with torch.device("meta"):
        empty = CLIP(VIT)
    half = {name: tensor.half() for name, tensor in vit.state_dict().items()}
    load_tensors(empty, half, "half")
    assert {parameter.dtype for parameter in empty.parameters()} == {torch.float32}
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in empty.parameters())
    assert same(empty.state_dict(), {name: tensor.float() for name, tensor in half.items()})


# ---- bad files


def test_a_pickle_cannot_run_anything(tmp_path):
    for name, contents in [("zip.pt", None), ("plain.bin", pickle.dumps({"a": Exploit(tmp_path / "ran")}, protocol=2))]:
        if contents is None:
            torch.save({"a": Exploit(tmp_path / "ran")}, tmp_path / name)
        else:
            (tmp_path / name).write_bytes(contents)
        with pytest.raises(WeightsError, match=name):
            read_tensors(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def header(entries, length=None):
    body = json.dumps(entries).encode()
    return struct.pack("<Q", len(body) if length is None else length) + body


LIES = {
    "offsets beyond the file": header({"a": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 4000]}}) + b"\0" * 40,
    "shape against offsets": header({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 40]}}) + b"\0" * 40,
    "gigantic header": header({}, length=2**62),
    "header beyond the file": header({}, length=10**6),
    "negative offsets": header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}),
    "terabytes": header({"a": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}),
    "overlap": header(
        {
            "a": {"dtype": "F32", "shape": [10], "data_offsets": [0, 40]},
            "b": {"dtype": "F32", "shape": [10], "data_offsets": [0, 40]},
        }
    )
    + b"\0" * 40,
    "no json": struct.pack("<Q", 8) + b"\xff" * 8,
    "empty": b"",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_safetensors_header_that_lies(tmp_path, lie):
    path = tmp_path / "model.safetensors"
    path.write_bytes(LIES[lie])
    with pytest.raises(WeightsError, match=r"model\.safetensors cannot be read"):
        read_tensors(path)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_damaged_file_is_an_error_or_the_same_names(vit, tmp_path, suffix):
    """Cut anywhere, or with bytes changed: never another exception."""
    path, bad = tmp_path / f"good{suffix}", tmp_path / f"bad{suffix}"
    small = {"a": torch.arange(64.0), "b": torch.ones(3, 5)}
    save_file(small, path) if suffix == ".safetensors" else torch.save(small, path)
    contents = path.read_bytes()
    generator = torch.Generator().manual_seed(0)
    for trial in range(60):
        place = int(torch.randint(len(contents), (), generator=generator))
        damaged = bytearray(contents[:place] if trial % 2 else contents)
        for offset in range(min(4, len(damaged) - place)):
            damaged[place + offset] ^= 0x55
        bad.write_bytes(bytes(damaged))
        try:
            tensors = read_tensors(bad)
        except WeightsError as error:
            assert "bad" in str(error)
        else:
            assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())


def test_files_that_are_no_weights(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"a": 3}, tmp_path / "number.pt")
    torch.save({"a": torch.eye(2).to_sparse()}, tmp_path / "sparse.pt")
    (tmp_path / "notes.txt").write_text("hello")
    torch.save([1, 2], tmp_path / "list.txt")
    for name, reason in [
        ("list.pt", "holds list"),
        ("number.pt", "'a' is int"),
        ("sparse.pt", "not a dense tensor"),
        ("notes.txt", "it is text of 5 bytes"),
        ("list.txt", "does not end in"),
        ("missing.pt", "there is no weight file"),
    ]:
        with pytest.raises(WeightsError, match=reason):
            read_tensors(tmp_path / name)


@pytest.mark.parametrize("rename", ["{}", "x/data/code/{}"])
def test_a_compressed_archive_is_refused(tmp_path, rename):
    torch.save({"a": torch.zeros(10**6)}, tmp_path / "plain.pt")
    bomb = io.BytesIO()
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        for member in plain.infolist():
            packed.writestr(rename.format(member.filename), plain.read(member))
    (tmp_path / "bomb.pt").write_bytes(bomb.getvalue())
    with pytest.raises(WeightsError, match="is compressed and could unpack to any size"):
        read_tensors(tmp_path / "bomb.pt")


def test_members_that_share_their_bytes_are_refused(tmp_path):
    path = tmp_path / "shared.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", b"0" * 10_000)
        for index in range(20):
            archive.filelist.append(copy.copy(archive.filelist[0]))
            archive.filelist[-1].filename = f"x/data/{index}"
    with pytest.raises(WeightsError, match="claims to unpack to 210,000 bytes"):
        read_tensors(path)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1).expand(10_000_000, 1900),
        torch.zeros(100).as_strided((91, 10), (1, 1)),
        torch.zeros(10_000_000, 1900, device="meta"),
    ],
    ids=["one number", "overlapping", "meta"],
)
def test_tensors_larger_than_what_is_stored_are_refused(tmp_path, tensor):
    torch.save({"a": tensor}, tmp_path / "huge.pt")
    assert (tmp_path / "huge.pt").stat().st_size < 3_000
    with pytest.raises(
        WeightsError, match=r"huge\.pt: (a claims the shape .*, more than is stored|'a' is Tensor, not a)"
    ):
        read_tensors(tmp_path / "huge.pt")


def test_views_are_read(tmp_path):
    base = torch.arange(24.0).view(4, 6)
    views = {"turned": base.T, "part": base[1:3, ::2], "all": base, "none": base[:0]}
    torch.save(views, tmp_path / "views.pt")
    assert same(read_tensors(tmp_path / "views.pt"), views)
