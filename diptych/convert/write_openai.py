"""The archive of OpenAI's clip: a TorchScript file with the weights. What that code cannot compute is refused."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional as F

from diptych.convert.openai_tokenizer import is_openai
from diptych.convert.options import Options
from diptych.convert.sidecar_files import required_tokenizer
from diptych.data.preprocessing import Preprocessing
from diptych.embed.library_encoder import LibraryEncoder, import_library
from diptych.embed.model import Model
from diptych.embed.model_folder import in_precision
from diptych.errors import ConfigError
from diptych.model.clip_config import CLIPConfig, TextConfig
from diptych.model.layouts import Tensors
from diptych.model.towers import text_side_of, tower_of

ARCHIVE = "model.pt"
_CONTEXT, _HEAD = 77, 64
_FP32_PARTS = ("ln_", "bn", "embedding", "logit_scale", "downsample.1")  # what the library keeps in fp32


def write(model: Model, folder: Path, options: Options) -> None:
    """Write model.pt, which clip.load reads.

    Raises:
        ConfigError: OpenAI's code cannot compute this model; the message names the reason and another target. Or its
            weights would be rounded to fp16, and the precision is fp32.
    """
    _require(model)
    tensors = model.clip.state_dict()
    halves = {name: tensor.half() if _is_half(name) else tensor.float() for name, tensor in tensors.items()}
    if options.precision == "fp32" and not _is_exact(halves, tensors):
        raise ConfigError(
            f"OpenAI's code rounds matrices to fp16 when it loads them, and those of {model.name} have more digits: "
            "give --precision fp16 to accept that, or take --to open_clip, which keeps them"
        )
    in_precision(tensors, "fp16")  # refuses numbers that fp16 cannot hold
    root = _module_tree({name: tensor.cpu().contiguous() for name, tensor in halves.items()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is the format that the library reads
        torch.jit.save(torch.jit.script(root), str(folder / ARCHIVE))


def _is_half(name: str) -> bool:
    return not any(part in name for part in _FP32_PARTS)


def _is_exact(halves: Tensors, tensors: Tensors) -> bool:
    return all(torch.equal(halves[name].to(tensor.dtype), tensor) for name, tensor in tensors.items())


def _module_tree(tensors: Tensors) -> nn.Module:
    """Modules without a program, whose state dict is `tensors`."""
    root = nn.Module()
    for name, tensor in tensors.items():
        *parents, last = name.split(".")
        module = root
        for parent in parents:
            if parent not in module._modules:
                module.add_module(parent, nn.Module())
            module = cast(nn.Module, module._modules[parent])
        module.register_buffer(last, tensor)
    return root


def _require(model: Model) -> None:
    """Refuse what OpenAI's code cannot compute."""
    config, images = model.clip.config, model.preprocessing
    usual = Preprocessing(images.image_size)
    if "openai" not in tower_of(config.vision).layouts or "openai" not in text_side_of(config.text).layouts:
        raise ConfigError(f"OpenAI's code has no {tower_of(config.vision).title} with this text side: take --to onnx")
    reasons = _differences(config)
    if (images.mean, images.std, images.interpolation) != (usual.mean, usual.std, usual.interpolation):
        reasons.append("mean, standard deviation or interpolation of its preprocessing are not CLIP's")
    if images.resize == "squash":
        reasons.append("its preprocessing resizes both sides of an image")
    if not is_openai(required_tokenizer(model)):
        reasons.append("its tokenizer is not OpenAI's")
    if reasons:
        raise ConfigError(
            f"OpenAI's code cannot compute {model.name}: {'; '.join(reasons)}. Take --to open_clip, which holds all of "
            "that"
        )


def _differences(config: CLIPConfig) -> list[str]:
    """What OpenAI's code computes otherwise."""
    vision, text = cast(Any, config.vision), cast(TextConfig, config.text)
    activations = sorted({config.activation, text.activation or config.activation} - {"quick_gelu"})
    is_resnet = isinstance(vision.layers, tuple)
    plain = TextConfig(text.context_length, text.vocab_size, text.width, text.width // _HEAD, text.layers)
    wrong: list[tuple[bool, str]] = [
        (bool(activations), f"its activation is {' and '.join(activations)}, not quick_gelu"),
        (vision.heads != vision.width * (32 if is_resnet else 1) // _HEAD, "its image heads are not 64 channels wide"),
        (text.heads != text.width // _HEAD, "its text heads are not 64 channels wide"),
        (text.context_length != _CONTEXT, f"its texts have up to {text.context_length} tokens, not {_CONTEXT}"),
        (_form(text, plain) != _form(plain, plain), f"its text tower is {text}"),
        (config.logit_bias is not None, "its logits have a bias"),
    ]
    if is_resnet:
        wrong.append((vision.image_size % 32 != 0, f"{vision.image_size} pixels are no multiple of 32"))
    else:
        usual = (vision.ln_pre, vision.pooling, vision.mlp_width) == (True, "class", 4 * vision.width)
        wrong.append((not usual, f"its image tower is {vision}"))
    return [reason for is_wrong, reason in wrong if is_wrong]


def _form(text: TextConfig, plain: TextConfig) -> Sequence[Any]:
    names = ("mlp_ratio", "causal", "pooling", "projection", "norm_eps")
    return [getattr(text, name) for name in names]


def open_again(folder: Path) -> LibraryEncoder:
    """The model as OpenAI's clip loads it; its matrices are those of fp16, computed in fp32."""
    clip = import_library("clip", "git+https://github.com/openai/CLIP.git")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the library's own, of TorchScript
        network, prepare = clip.load(str(folder / ARCHIVE), device="cpu")

    def tokenize(texts: Sequence[str]) -> torch.Tensor:
        return clip.tokenize(list(texts), truncate=True)

    projection: Callable[[torch.Tensor], torch.Tensor] = network.encode_image
    return LibraryEncoder(
        network,
        folder.name,
        prepare=prepare,
        keeps_center=True,
        images=projection,
        texts=lambda texts: F.normalize(network.encode_text(tokenize(texts)), dim=-1),
        features=None,
        preprocessing=str(prepare),
        tokenizing="openai",
        library="openai",
        tokenize=tokenize,
    )
