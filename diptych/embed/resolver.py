"""Load models by name, for all commands and for `diptych.load`; FORMS in model_names.py lists the forms of names."""

import dataclasses
import functools
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from diptych.embed.catalogue import find
from diptych.embed.encoder import Encoder
from diptych.embed.graph_encoder import GraphEncoder
from diptych.embed.hub import libraries_offline
from diptych.embed.library_encoder import LibraryEncoder, first_line
from diptych.embed.loading import load_path
from diptych.embed.local_models import LocalModel, fetch_published, local_model, published_model
from diptych.embed.model import Model
from diptych.embed.model_names import PYTHON, check_form, has_prefix, unknown
from diptych.embed.published_weights import check_library_precision, is_native, open_fetched, open_with_library
from diptych.embed.weight_file_options import Stated, parse_heads, stated, stated_backend
from diptych.embed.wrapped_encoder import WrappedEncoder
from diptych.errors import ConfigError, InputError, WeightsError
from diptych.files import expanded
from diptych.model.clip_config import ACTIVATIONS
from diptych.model.device import choose_device
from diptych.model.inference import Heads


def load(
    name: str | Path,
    device: str | torch.device | None = None,
    precision: str = "fp32",
    *,
    backend: str | None = None,
    activation: str | None = None,
    heads: str | Heads | None = None,
) -> Any:  # a Model or another Encoder, depending on the name
    """Load a model by its name, in any form of FORMS.

    Args:
        name: "default", a folder, a weight file, a published model (fetched when it is first used), or hf:,
            open_clip: or python: and what these take. A file or folder of that name is preferred.
        device: by default the GPU if there is one.
        precision: "fp32" (exact), "bf16" (weights cast once), "int8" (backend onnx), or "auto": bf16 if the processor
            supports it.
        backend: "torch"; "onnx" or "openvino", which are compiled at the first use, tested against fp32 torch and kept
            in the user's cache; or "auto", the fastest of them for this model on this machine. None takes the one of
            the command line, else torch.
        activation: "quick_gelu" or "gelu"; only for a weight file, which does not state it.
        heads: of the image tower and the text tower, (16, 12) or "16,12"; only for a weight file.
    Returns:
        A Model in evaluation mode; for names with a prefix, and for published models that another library computes,
        another Encoder.
    Raises:
        WeightsError: there is no such model, it cannot be fetched, or it is incomplete or damaged; the message names
            the file.
        ConfigError: its configuration is invalid, or an option is unknown or does not apply to such a name.
        InputError: the name is empty, or neither a string nor a Path.
    """
    check_form(name)
    options = _with_command_line(_stated(activation, heads))
    backend = backend or stated_backend() or "torch"
    library, _, rest = str(name).partition(":")
    if isinstance(name, str) and has_prefix(name):
        if options != Stated():
            raise ConfigError(
                f"--activation and --heads belong to a weight file, which does not say them; not to {name}"
            )
        if backend not in ("torch", "auto"):
            raise ConfigError(f"{name} is computed by another library, and has the backend torch alone, not {backend}")
        if library == PYTHON:
            return open_python(rest)
        check_library_precision(precision)
        target = choose_device(device)
        with libraries_offline():
            return open_with_library(library, rest, target) or _open_of(library)(rest, target)
    model = local_model(name, options)
    if model is None:
        reference = find(name) if isinstance(name, str) else None
        if reference is None:
            raise WeightsError(unknown(str(name), expanded(name)))
        fetched = fetch_published(reference, options)
        model = published_model(fetched, native=is_native(fetched))
        if model is None:
            if backend not in ("torch", "auto"):
                raise ConfigError(f"{name} is computed by another library, which has the backend torch alone")
            return open_fetched(fetched, choose_device(device), precision)
    return _load_local(dataclasses.replace(model, name=str(name)), device, precision, backend)


def _load_local(model: LocalModel, device: str | torch.device | None, precision: str, backend: str) -> Any:
    """Load a native model on a back end; see `load_path` for torch."""
    target = choose_device(device)

    def on_torch(precision: str) -> Any:
        return load_path(
            model.path, model.place, target, precision, model.stated, prefer_open_clip=model.prefer_open_clip
        )

    if backend == "torch":
        return on_torch(precision)
    from diptych.embed.backends.open_backend import Source, check_backend, open_backend

    check_backend(backend, precision, target)
    if target.type != "cpu":  # the other back ends compute on the CPU
        return on_torch(precision)
    stated = Stated() if model.stated.published else model.stated

    def reload(backend: str, precision: str) -> Callable[[], Any]:
        return functools.partial(
            load, model.name, "cpu", precision, backend=backend, activation=stated.activation, heads=stated.heads
        )

    return open_backend(Source(model.path, model.options, on_torch, reload), backend, precision)


def load_model(
    name: str | Path,
    device: str | torch.device | None = None,
    precision: str = "fp32",
    *,
    activation: str | None = None,
    heads: str | Heads | None = None,
) -> Model:
    """Load a model with a network of Diptych, for training, averaging and saving. See `load`.

    Raises:
        WeightsError: there is no such model, or it belongs to another library.
        ConfigError: as in `load`.
    """
    if isinstance(name, str) and has_prefix(name):
        raise WeightsError(
            f"{name} is computed by another library, and this needs a network of Diptych's own: give the folder or the "
            "weight file of a CLIP by its path, without a prefix"
        )
    model = load(name, device, precision, backend="torch", activation=activation, heads=heads)
    if not isinstance(model, Model):
        raise WeightsError(
            f"{name} is computed by another library, and this needs a network of Diptych's own; `diptych models` shows "
            "which models are native"
        )
    return model


def _with_command_line(arguments: Stated) -> Stated:
    """Fill missing arguments from the options of the command line. Only weight files accept either."""
    command = _stated(*stated())
    return Stated(arguments.activation or command.activation, arguments.heads or command.heads)


def _stated(activation: str | None, heads: str | Heads | None) -> Stated:
    """Check the options of a weight file."""
    if activation is not None and activation not in ACTIVATIONS:
        raise ConfigError(f"activation must be one of {', '.join(ACTIVATIONS)}, not {activation!r}")
    return Stated(activation, None if heads is None else parse_heads(heads))


def _open_of(library: str) -> Callable[[str, torch.device], Encoder]:
    """The function that opens models of another library; the import is deferred until such a model is named."""
    if library == "hf":
        from diptych.embed.huggingface import open_huggingface

        return open_huggingface
    if library == "onnx":
        from diptych.embed.onnx_folder import open_onnx

        return open_onnx
    from diptych.embed.open_clip import open_open_clip

    return open_open_clip


def open_python(name: str) -> Encoder:
    """The object MODULE:NAME; a function or class of that name is called. MODULE may be in the working folder.

    Raises:
        InputError: there is no such object, or it has no encode_images.
    """
    module, _, attribute = name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        named = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"python:{name} is not there ({error}); write python:MODULE:NAME") from error
    try:
        encoder = named() if callable(named) and not hasattr(named, "encode_images") else named
        encoder = encoder() if isinstance(encoder, type) else encoder
    except TypeError as error:
        raise InputError(f"python:{name} cannot be called without arguments: {first_line(error)}") from error
    if not hasattr(encoder, "encode_images"):
        raise InputError(f"python:{name} is a {type(encoder).__name__} without encode_images(images)")
    return as_encoder(encoder, attribute)


def as_encoder(encoder: Any, name: str | None = None) -> Encoder:
    """An Encoder whose vectors are checked: Diptych's encoders are returned unchanged, other objects are wrapped.

    Args:
        encoder: an object with `encode_images` and, optionally, other methods of an Encoder.
        name: used if the object has no name.
    Raises:
        InputError: the object has no `encode_images`.
    """
    if isinstance(encoder, Model | LibraryEncoder | GraphEncoder | WrappedEncoder):
        return encoder
    return WrappedEncoder(encoder, name)
