"""The tensors of a TorchScript archive, such as OpenAI published, without running the program inside it.

The archive is a zip file: code/ holds the program, data.pkl the module tree as a pickle, data/N the bytes of storage N.
Here the pickle is read with an unpickler that knows only how to build that tree and tensors.
"""

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from diptych.errors import WeightsError

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}


class _Module:
    """Stands for every class that the archive's program defines; its attributes are parameters and submodules."""


def is_torchscript(path: Path) -> bool:
    """Whether a zip file holds a TorchScript program beside its tensors."""
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, torch.Tensor]:
    """Parameters and buffers of the archive's root module under their dotted names.

    Raises:
        WeightsError: the pickle asks for anything but modules and tensors.
    """
    with zipfile.ZipFile(path) as archive:
        name = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
        if name is None:
            raise WeightsError(f"{path} is a TorchScript archive without data.pkl")
        with archive.open(name) as file:
            root = _Unpickler(file, archive, name.removesuffix("data.pkl")).load()
    return _tensors(root, "")


def _tensors(module: _Module, prefix: str) -> dict[str, torch.Tensor]:
    result: dict[str, torch.Tensor] = {}
    for name, value in vars(module).items():
        if isinstance(value, torch.Tensor):
            result[prefix + name] = value
        elif isinstance(value, _Module):
            result |= _tensors(value, f"{prefix}{name}.")
    return result


class _Unpickler(pickle.Unpickler):
    """Builds modules and tensors, and refuses every other class or function."""

    def __init__(self, file: Any, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(file)
        self._archive = archive
        self._folder = folder
        self._storages: dict[str, torch.Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        """The only things that a pickle may name."""
        if module.split(".")[0] == "__torch__":
            return _Module
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if module == "torch.jit._pickle" and name.startswith("build_"):
            return list
        raise WeightsError(f"the archive asks for {module}.{name}, which no weights need; it is not trusted")

    def persistent_load(self, pid: Any) -> torch.Tensor:
        """The flat storage that a tensor refers to."""
        _, dtype, key, *_ = pid
        if key not in self._storages:
            stored = bytearray(self._archive.read(f"{self._folder}data/{key}"))
            self._storages[key] = torch.frombuffer(stored, dtype=dtype) if stored else torch.empty(0, dtype=dtype)
        return self._storages[key]


def _rebuild(
    storage: torch.Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> torch.Tensor:
    return storage.as_strided(size, stride, offset)
