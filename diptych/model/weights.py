"""Weight files: read foreign files without running code from them, write safetensors, fill a model."""

import argparse
import contextlib
import re
import warnings
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save_file
from torch import nn

from diptych.errors import WeightsError
from diptych.files import absence, expanded, is_there, new_file, utf8
from diptych.model.claims import check_stored, is_dense, refuse_bombs
from diptych.model.containers import unwrap
from diptych.model.file_kinds import is_safetensors, refusal, safetensors_refusal
from diptych.model.layouts import Tensors
from diptych.model.sharded import find_index, read_shards
from diptych.model.torchscript import is_torchscript, read_torchscript

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
# Objects that trainers save along with weights: options, numbers, paths. Creating one runs no code from the file.
_HARMLESS: list[Any] = [
    argparse.Namespace,
    defaultdict,
    *((kind, f"pathlib.{kind.__name__}") for kind in (PurePosixPath, PureWindowsPath)),
    *((PurePosixPath, name) for name in ("pathlib.PosixPath", "pathlib._local.PosixPath")),
    *((PureWindowsPath, name) for name in ("pathlib.WindowsPath", "pathlib._local.WindowsPath")),
    np.dtype,
    *(type(np.dtype(name)) for name in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")),
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]
_SHOWN = 8


def read_tensors(path: str | Path) -> Tensors:
    """The named tensors of a weight file, on the CPU, as they are stored; nothing in the file is executed.

    Reads safetensors, PyTorch's own files through weights_only (a state dict, or a training checkpoint that holds one:
    diptych.model.containers), TorchScript archives such as OpenAI's, and all shards of an index (*.index.json). The
    contents decide, not the name.

    Raises:
        WeightsError: there is no such file, or it is damaged, lies about its size, or holds something else; the
            message says what.
    """
    path = expanded(path)
    if not path.is_file():
        raise WeightsError(absence(path) if is_there(path) else f"there is no weight file {path}")
    if index := find_index(path):
        return read_shards(index, _read_file)
    return _read_file(path)


def _read_file(path: Path) -> Tensors:
    """The tensors of one file."""
    if reason := refusal(path):
        raise WeightsError(f"{path} cannot be read as weights: {reason}")
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"{path} does not end in one of {', '.join(SUFFIXES)}")
    try:
        with path.open("rb") as file:
            pickled = file.read(2) in (b"PK", b"\x80\x02")
        if is_safetensors(path) or (path.suffix == ".safetensors" and not pickled):
            # load_file maps the file into memory, but it cannot open names that are not UTF-8.
            return load_file(path) if utf8(str(path)) == str(path) else load(path.read_bytes())
        zipped = zipfile.is_zipfile(path)
        if zipped:
            refuse_bombs(path)
        if zipped and is_torchscript(path):
            contents: Any = read_torchscript(path)
        else:
            # Passed as an open file: newer versions of PyTorch would infer the kind of file from its name.
            with quiet_pickles(), torch.serialization.safe_globals(_HARMLESS), path.open("rb") as file:
                contents = torch.load(file, map_location="cpu", weights_only=True)
    except (MemoryError, WeightsError):
        raise
    except Exception as error:  # a damaged file can raise anything in the readers
        raise WeightsError(f"{path} cannot be read as weights: {_reason(path, error)}") from error
    return _state_dict(contents, path)


@contextlib.contextmanager
def quiet_pickles() -> Iterator[None]:
    """Silence PyTorch's warning about a pickle's protocol: the pickle is read anyway, or refused with an error."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
        yield


def _reason(path: Path, error: Exception) -> str:
    """Why a file could not be read. PyTorch's message, which advises to disable its protection, is not passed on."""
    if is_safetensors(path) and (truncated := safetensors_refusal(path)):
        return truncated
    if names := _refused_names(path, error):
        return (
            f"its pickle names {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}, which is code, and Diptych "
            "reads only tensors, numbers and text. In the program that wrote the file, save model.state_dict() and "
            "nothing else, preferably as safetensors"
        )
    lines = str(error).strip().splitlines()
    if isinstance(error, EOFError) or not lines:
        return f"it is truncated or damaged ({path.stat().st_size:,} bytes): download it again"
    return "it is damaged, or not a PyTorch file" if "weights_only" in str(error) else lines[0]


def _refused_names(path: Path, error: Exception) -> list[str]:
    """The classes and functions that a pickle names and that are refused, such as os.system."""
    if type(error).__name__ == "UnpicklingError":  # what weights_only refuses
        with contextlib.suppress(Exception):  # works only for a complete zip archive
            classes = [item for item in _HARMLESS if not isinstance(item, tuple)]
            harmless = {f"{cls.__module__}.{cls.__qualname__}" for cls in classes}
            harmless |= {item[1] for item in _HARMLESS if isinstance(item, tuple)}
            refused = sorted(set(torch.serialization.get_unsafe_globals_in_checkpoint(path)) - harmless)
            if refused:
                return refused
    return re.findall(r"(?:GLOBAL|global:?|function|class) (?!global|GLOBAL)([\w.]+)", str(error))[:1]


def _state_dict(contents: Any, path: Path) -> Tensors:
    contents = unwrap(contents, path)
    for name, value in contents.items():
        if not isinstance(name, str) or not is_dense(value):
            raise WeightsError(f"{path}: {name!r} is {type(value).__name__}, not a dense tensor with a name")
        check_stored(value, path.stat().st_size, f"{path}: {name}")
    return contents


def write_tensors(tensors: Mapping[str, torch.Tensor], path: str | Path) -> None:
    """Write tensors as safetensors: the file is complete, or the old one is untouched.

    Raises:
        WeightsError: the file cannot be written (a full disk, a missing folder).
    """
    path = expanded(path)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        with new_file(path, durable=True) as unfinished:
            unfinished.touch()
            mode = unfinished.stat().st_mode
            save_file(plain, unfinished, metadata={"format": "pt"})
            unfinished.chmod(mode)  # safetensors creates files that only their owner can read
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be written: {error}") from error


def load_tensors(model: nn.Module, tensors: Mapping[str, torch.Tensor], where: str | Path) -> None:
    """Fill a model with tensors in its own names, cast to the types of its parameters.

    A model on the meta device takes the tensors as its parameters, without initializing any first.

    Args:
        where: the source of the tensors, for the message.
    Raises:
        WeightsError: names are missing or extra, shapes differ (all of them are listed), or the numbers are quantized;
            the model is unchanged.
    """
    expected = model.state_dict()
    missing = [name for name in expected if name not in tensors]
    extra = [name for name in tensors if name not in expected]
    wrong = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    whole = [
        f"{name} ({str(tensors[name].dtype).removeprefix('torch.')})"
        for name, tensor in expected.items()
        if name in tensors and tensor.is_floating_point() and not tensors[name].is_floating_point()
    ]
    if whole:
        raise WeightsError(
            f"{where}: {len(whole)} of {len(expected)} tensors hold no floating-point numbers, such as {whole[0]}: "
            "these weights are quantized, and their scales are not read here; give the same model in fp32, fp16 or bf16"
        )
    problems = [
        f"{len(names)} {label}: {', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''}"
        for label, names in (("missing", missing), ("extra", extra), ("of the wrong shape", wrong))
        if names
    ]
    if problems:
        raise WeightsError(f"{where} does not fit the model ({len(expected)} tensors): {'; '.join(problems)}")
    empty = any(tensor.is_meta for tensor in expected.values())
    # Files may be mapped into memory; parameters must not change or vanish with the file, hence copies.
    cast = {name: tensors[name].to(like.dtype, copy=empty) for name, like in expected.items()}
    model.load_state_dict(cast, assign=empty)
