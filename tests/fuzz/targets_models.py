"""Weight files, tokenizers, model folders of all makes."""

import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import peers  # noqa: F401  (before torchvision)
import torch
from embedding import VIT, make_vit, small_tokenizer
from safetensors.torch import save
from target import Seed, Target

from diptych.data.tokenizer import Tokenizer
from diptych.embed import load
from diptych.model.inference import infer_config
from diptych.model.layouts import huggingface_config, to_diptych, to_huggingface
from diptych.model.weights import read_tensors, write_tensors

RAN = 77
"""Exit status of the process in which code of a model folder ran."""


class Exploit:
    """A pickle that ends the process that trusts it."""

    def __reduce__(self) -> tuple:
        return os._exit, (RAN,)


def torch_file(contents: object, **options: object) -> bytes:
    """As torch.save writes it."""
    stream = io.BytesIO()
    torch.save(contents, stream, **options)
    return stream.getvalue()


def archive_of(contents: bytes) -> bytes:
    """A TorchScript archive with this pickle."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/constants.pkl", b"")
        archive.writestr("archive/data.pkl", contents)
    return stream.getvalue()


def bomb_of(size: int) -> bytes:
    """A compressed archive that unpacks to so many bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(size))
        archive.writestr("archive/version", b"3\n")
    return stream.getvalue()


def several_disks(archive: bytes) -> bytes:
    """A zip archive that says it has a second part elsewhere: Python raises where it is asked what the file is."""
    return archive[:-22] + struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 2) + archive[-22:]


# ---- weight files


def whole_model() -> dict[str, torch.Tensor]:
    """The tensors of a small CLIP."""
    return {name: tensor.half().contiguous() for name, tensor in make_vit().clip.state_dict().items()}


def weight_seeds(folder: Path) -> list[Seed]:
    """Every container; pickles that would run something, bombs, a Git LFS pointer and a page of HTML."""
    tensors = whole_model()
    few = {"a": torch.arange(64.0), "b": torch.ones(3, 5).half(), "c": torch.zeros((), dtype=torch.int64)}
    script = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(3, 2)), script)
    repeated = {"a": torch.zeros(1).expand(1 << 40)}
    sound = [
        *(Seed("a.safetensors", save(few)), Seed("a.safetensors", save(tensors)), Seed("a.pt", torch_file(few))),
        *(Seed("a.bin", torch_file(few)), Seed("a.pt", torch_file({"state_dict": few, "epoch": 3, "args": None}))),
        *(Seed("a.bin", torch_file(few, _use_new_zipfile_serialization=False)), Seed("a.pt", script.getvalue())),
    ]
    hostile = [
        several_disks(torch_file(few)),
        *(torch_file({"a": Exploit()}), torch_file(Exploit(), _use_new_zipfile_serialization=False)),
        *(pickle.dumps(Exploit(), protocol=2), archive_of(pickle.dumps(Exploit())), torch_file(repeated)),
        archive_of(b"\x80\x02Nr\xff\xff\xff\x3f."),  # asks for a table of 2**30 entries
        *(
            bomb_of(200 << 20),
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            b"<!doctype html>",
        ),
    ]
    return sound + [Seed("a.pt", data, sound=False) for data in hostile]


def check_weights(path: Path) -> None:
    """Named dense tensors, of which an architecture is inferred or not."""
    tensors = read_tensors(path)
    for name, tensor in tensors.items():
        assert isinstance(name, str) and tensor.nbytes <= path.stat().st_size
    if "logit_scale" in tensors or len(tensors) > 10:
        infer_config(to_diptych(tensors))


def check_bare_file(path: Path) -> None:
    """A model from a weight file alone."""
    model = load(path)
    assert model.encode_images([np.zeros((9, 9, 3), np.uint8)]).shape[0] == 1


def bare_seeds(folder: Path) -> list[Seed]:
    """A whole model as safetensors: its header can be changed."""
    return [Seed("a.safetensors", save(whole_model()))]


def index_seeds(folder: Path) -> list[Seed]:
    """A model in two files with their index, each of the three changed while the others stay."""
    tensors = whole_model()
    halves = dict(list(tensors.items())[:20]), dict(list(tensors.items())[20:])
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    (folder / "sharded").mkdir()
    for name, half in zip(names, halves, strict=True):
        (folder / "sharded" / name).write_bytes(save(half))
    places = {tensor: name for name, half in zip(names, halves, strict=True) for tensor in half}
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    odd = [{**places, "logit_scale": name} for name in ("../x.safetensors", "/etc/passwd", "", ".", 7, None)]
    odd += [{}, dict.fromkeys(places, "model.safetensors.index.json"), {**places, "more": names[0]}]
    written = [Seed(f"sharded/{INDEX}", json.dumps(index).encode())]
    written += [Seed(f"sharded/{name}", (folder / "sharded" / name).read_bytes()) for name in names]
    (folder / "sharded" / INDEX).write_bytes(written[0].data)
    more = [json.dumps({"weight_map": one}).encode() for one in odd] + [b"[" * 100_000, b'{"weight_map": null}']
    return [*written, *(Seed(f"sharded/{INDEX}", data, sound=False) for data in more)]


INDEX = "model.safetensors.index.json"


def check_index(path: Path) -> None:
    """All tensors, each from a file beside the index, make the model."""
    tensors = read_tensors(path.with_name(INDEX))
    assert sum(tensor.nbytes for tensor in tensors.values()) <= sum(one.stat().st_size for one in path.parent.iterdir())
    assert load(path.with_name(INDEX)).encode_images([np.zeros((9, 9, 3), np.uint8)]).shape[0] == 1


# ---- tokenizers


def tokenizer_seeds(folder: Path) -> list[Seed]:
    """As Diptych saves it; one that nests deeply."""
    small_tokenizer().save(folder / "made.json")
    whole = (folder / "made.json").read_bytes()
    deep = b'{"model": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    return [Seed("tokenizer.json", whole), Seed("tokenizer.json", deep, sound=False)]


def check_tokenizer(path: Path) -> None:
    """It encodes within its own size."""
    tokenizer = Tokenizer.from_file(path, 24)
    for text in ("a photo of a cat", "é 😀 \u202e", "x" * 20):
        assert all(0 <= token < tokenizer.vocab_size for token in tokenizer.encode(text))


# ---- folders


def diptych_seeds(folder: Path) -> list[Seed]:
    """config.json of our own folder."""
    make_vit().save(folder / "model")
    return [Seed("model/config.json", (folder / "model/config.json").read_bytes())]


def huggingface_seeds(folder: Path) -> list[Seed]:
    """config.json and preprocessor_config.json of a CLIP; code of the folder's own is never run."""
    return [seed for seed in write_huggingface(folder / "clip") if "tokenizer" not in seed.name]


def write_huggingface(folder: Path) -> list[Seed]:
    """A folder as transformers has it, with a module that ends the process which imports it."""
    folder.mkdir(exist_ok=True)
    vit = make_vit()
    write_tensors(to_huggingface(vit.clip.state_dict(), VIT), folder / "model.safetensors")
    assert vit.tokenizer is not None
    vit.tokenizer.save(folder / "tokenizer.json")
    (folder / "own.py").write_text(f"import os\nos._exit({RAN})\n")
    config = {**huggingface_config(VIT), "architectures": ["CLIPModel"]}
    kind = {"image_processor_type": "CLIPImageProcessor"}
    processor = {**kind, "size": {"shortest_edge": 48}, "crop_size": {"height": 48, "width": 48}, "resample": 3}
    processor |= {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "do_resize": True}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<|endoftext|>", "model_max_length": 24}
    own = {name: "own.Own" for name in ("AutoConfig", "AutoModel", "AutoImageProcessor", "AutoTokenizer")}
    files = {"config.json": config, "preprocessor_config.json": processor, "tokenizer_config.json": settings}
    for name, values in files.items():
        (folder / name).write_text(json.dumps(values))
    seeds = [Seed(f"clip/{name}", json.dumps(values).encode()) for name, values in files.items()]
    for name, values in files.items():
        mapped = json.dumps({**values, "auto_map": own}).encode()
        seeds.append(Seed(f"clip/{name}", mapped, sound=False))
    stranger = json.dumps({**config, "model_type": "stranger", "auto_map": own}).encode()
    return [*seeds, Seed("clip/config.json", stranger, sound=False)]


def open_clip_seeds(folder: Path) -> list[Seed]:
    """open_clip_config.json."""
    (folder / "oc").mkdir(exist_ok=True)
    vit = make_vit()
    write_tensors(vit.clip.state_dict(), folder / "oc" / "open_clip_model.safetensors")
    vision = {"image_size": 48, "patch_size": 16, "width": 128, "layers": 2}
    text = {"context_length": 24, "vocab_size": 700, "width": 128, "heads": 2, "layers": 2}
    model = {"embed_dim": 64, "vision_cfg": vision, "text_cfg": text, "quick_gelu": True}
    values = {"model_cfg": model, "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}
    return [Seed("oc/open_clip_config.json", json.dumps(values).encode())]


def check_folder(path: Path) -> None:
    """The model encodes a picture."""
    model = load(path.parent)
    vectors = model.encode_images([np.zeros((9, 9, 3), np.uint8)])
    assert vectors.shape[0] == 1 and vectors.dtype == torch.float32


def transformers_seeds(folder: Path) -> list[Seed]:
    """All three files of a folder, each changed while the others stay."""
    return write_huggingface(folder / "clip")


def check_transformers(path: Path) -> None:
    """The same through transformers, which is asked about every question with yes."""
    encoder = load(f"hf:{path.parent}", "cpu")
    assert encoder.encode_images([np.zeros((60, 50, 3), np.uint8)]).shape[0] == 1


MODELS = (
    Target("weights", weight_seeds, check_weights),
    Target("bare-weights", bare_seeds, check_bare_file),
    Target("sharded-weights", index_seeds, check_index),
    Target("tokenizer", tokenizer_seeds, check_tokenizer),
    Target("model-folder", diptych_seeds, check_folder),
    Target("huggingface-folder", huggingface_seeds, check_folder),
    Target("open_clip-folder", open_clip_seeds, check_folder),
    Target("transformers", transformers_seeds, check_transformers, slow=True),
)
