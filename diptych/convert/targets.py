"""The targets of a conversion: what each can hold, and how its library loads the folder again.

This module imports neither torch nor any of the libraries: the command's help is made from it.
"""

import dataclasses
import difflib
from collections.abc import Mapping

from diptych.errors import ConfigError

PRECISIONS = ("fp32", "fp16", "int8")
PIXELS = ("float32", "uint8")
_SAFETENSORS, _FP32 = ("fp32", "fp16"), ("fp32",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """One library or runtime.

    Attributes:
        name: the value of --to.
        title: the library, in words.
        holds: which models it can hold, in words.
        libraries: modules that must be importable, because the conversion writes with them and ends with loading the
            folder there.
        install: the command that installs it.
        precisions: in which the weights can be stored.
        crop: how the library rounds half pixels of the center crop, a value of Preprocessing.resize; None for graphs,
            which take prepared images.
        loading: the lines of Python that load `folder` and compute `images` and `texts`, for photo.jpg and one text.
        pixels: inputs that the image tower can have.
    """

    name: str
    title: str
    holds: str
    libraries: tuple[str, ...]
    install: str
    precisions: tuple[str, ...]
    crop: str | None
    loading: str
    pixels: tuple[str, ...] = ("float32",)


_OPENAI = """
import clip
import torch
from PIL import Image

model, preprocess = clip.load(f"{folder}/model.pt", device="cpu")
with torch.no_grad():
    images = model.encode_image(preprocess(Image.open("photo.jpg"))[None])
    texts = model.encode_text(clip.tokenize(["a photo of a cat"]))
"""
_OPEN_CLIP = """
import open_clip
import torch
from PIL import Image

model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
with torch.no_grad():
    images = model.eval().encode_image(preprocess(Image.open("photo.jpg"))[None], normalize=True)
    texts = model.encode_text(tokenizer(["a photo of a cat"]), normalize=True)
"""
_HUGGINGFACE = """
import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor

model = AutoModel.from_pretrained(folder).eval()
processor = AutoProcessor.from_pretrained(folder, backend="pil")  # exact; torchvision's resizing rounds otherwise
inputs = processor(
    images=Image.open("photo.jpg"),
    text=["a photo of a cat"],
    padding="max_length",
    truncation=True,
    return_tensors="pt",
)
with torch.no_grad():
    outputs = model(**inputs)
images, texts = outputs.image_embeds, outputs.text_embeds
"""
_SENTENCE_TRANSFORMERS = """
from PIL import Image
from sentence_transformers import SentenceTransformer

model = SentenceTransformer(folder, device="cpu")
images = model.encode([Image.open("photo.jpg")])
texts = model.encode(["a photo of a cat"])
"""
_PREPARED = """
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer

prepare = AutoImageProcessor.from_pretrained(folder, backend="pil")
tokenize = AutoTokenizer.from_pretrained(folder)
pixel_values = prepare(images=[Image.open("photo.jpg")], return_tensors="np")["pixel_values"]
input_ids = tokenize(["a photo of a cat"], padding="max_length", truncation=True, return_tensors="np")["input_ids"]
"""
_ONNX = f"""
import onnxruntime
{_PREPARED.lstrip()}
vision, text = (onnxruntime.InferenceSession(f"{{folder}}/onnx/{{name}}_model.onnx") for name in ("vision", "text"))
images = vision.run(["image_embeds"], {{"pixel_values": pixel_values}})[0]
texts = text.run(["text_embeds"], {{"input_ids": input_ids}})[0]
"""
_TORCH_EXPORT = f"""
import torch
{_PREPARED.lstrip()}
vision, text = (torch.export.load(f"{{folder}}/{{name}}_model.pt2").module() for name in ("vision", "text"))
with torch.no_grad():
    images = vision(torch.from_numpy(pixel_values))
    texts = text(torch.from_numpy(input_ids))
"""
_OPENVINO = f"""
import openvino
{_PREPARED.lstrip()}
core = openvino.Core()
exact = {{"INFERENCE_PRECISION_HINT": "f32"}}  # without it, processors with bf16 compute in bf16
vision, text = (
    core.compile_model(core.read_model(f"{{folder}}/{{name}}_model.xml"), "CPU", exact) for name in ("vision", "text")
)
images = vision({{"pixel_values": pixel_values}})["image_embeds"]
texts = text({{"input_ids": input_ids}})["text_embeds"]
"""

_ROWS = (
    Target(
        name="openai",
        title="OpenAI's clip",
        holds="ViTs and ResNets as in the paper: quick_gelu, heads of 64 channels, 77 tokens, OpenAI's tokenizer and "
        "preprocessing; its code computes with matrices of fp16",
        libraries=("clip",),
        install="pip install git+https://github.com/openai/CLIP.git",
        precisions=("fp32", "fp16"),
        crop="shortest",
        loading=_OPENAI,
    ),
    Target(
        name="open_clip",
        title="open_clip",
        holds="ViTs, ResNets and CLIPA with any activation and tokenizer; SigLIPs of published sizes",
        libraries=("open_clip",),
        install="pip install open_clip_torch",
        precisions=_SAFETENSORS,
        crop="shortest",
        loading=_OPEN_CLIP,
    ),
    Target(
        name="huggingface",
        title="transformers of Hugging Face",
        holds="ViTs with a class token, and SigLIPs, with any activation and tokenizer; no ResNets, no CLIPA",
        libraries=("transformers",),
        install="pip install transformers",
        precisions=_SAFETENSORS,
        crop="shortest_floor",
        loading=_HUGGINGFACE,
    ),
    Target(
        name="sentence-transformers",
        title="sentence-transformers (from 5.4 on)",
        holds="the same models as huggingface; embeddings have unit norm",
        libraries=("sentence_transformers",),
        install="pip install sentence-transformers",
        precisions=_SAFETENSORS,
        crop="shortest_floor",
        loading=_SENTENCE_TRANSFORMERS,
    ),
    Target(
        name="onnx",
        title="ONNX, for ONNX Runtime and transformers.js",
        holds="all CLIPs and SigLIPs of Diptych; any batch, any length of texts; embeddings have unit norm",
        libraries=("onnx", "onnxruntime"),
        install="pip install 'diptych[onnx]'",
        precisions=PRECISIONS,
        crop=None,
        loading=_ONNX,
        pixels=PIXELS,
    ),
    Target(
        name="torch-export",
        title="torch.export",
        holds="all CLIPs and SigLIPs of Diptych; any batch, any length of texts; embeddings have unit norm",
        libraries=("torch",),
        install="pip install torch",
        precisions=_FP32,
        crop=None,
        loading=_TORCH_EXPORT,
    ),
    Target(
        name="openvino",
        title="OpenVINO",
        holds="all CLIPs and SigLIPs of Diptych; any batch, any length of texts; embeddings have unit norm",
        libraries=("onnx", "openvino"),
        install="pip install 'diptych[openvino]'",
        precisions=_SAFETENSORS,
        crop=None,
        loading=_OPENVINO,
    ),
)
TARGETS: Mapping[str, Target] = {row.name: row for row in _ROWS}
"""By the value of --to."""


def get_target(name: str) -> Target:
    """The row of a target.

    Raises:
        ConfigError: there is none of this name; the message lists all.
    """
    if name in TARGETS:
        return TARGETS[name]
    near = difflib.get_close_matches(str(name).lower().replace("_", "-"), [*TARGETS, "hf"], 1, 0.6)
    hint = f"; did you mean {'huggingface' if near == ['hf'] else near[0]}?" if near else ""
    raise ConfigError(f"there is no target {name!r}{hint} A model is converted to {', '.join(TARGETS)}")


def check_options(target: Target, precision: str, pixels: str) -> None:
    """Refuse options that the target does not have.

    Raises:
        ConfigError: the message lists what it has.
    """
    if precision not in target.precisions:
        able = [row.name for row in TARGETS.values() if precision in row.precisions]
        others = f"; {precision} is written for {', '.join(able)}" if able else ""
        raise ConfigError(
            f"{target.name} stores weights in {' or '.join(target.precisions)}, not in {precision}{others}"
        )
    if pixels not in target.pixels:
        raise ConfigError(f"{target.name} takes pixels in {' or '.join(target.pixels)}, not in {pixels}")
