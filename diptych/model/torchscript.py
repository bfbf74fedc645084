"""Read the tensors of a TorchScript archive, such as OpenAI's, without running the program inside it.

The archive is a zip file: code/ holds the program, data.pkl the module tree as a pickle, data/N the bytes of storage N.
The unpickler here can build nothing but that tree and tensors.
"""

import pickle
import zipfile
from collections import OrderedDict, deque
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


_MAX_NAMES, _MAX_NAME_LENGTH = 100_000, 500  # the paper's largest model has a few thousand names


class _Module:
    """Stands for every class that the archive's program defines; its attributes are parameters and submodules."""


def top_folder(archive: zipfile.ZipFile) -> str:
    """The folder, with its slash, in which PyTorch looks for the members of an archive: that of the first one."""
    return "".join(archive.namelist()[:1]).partition("/")[0] + "/"


def is_torchscript(path: Path) -> bool:
    """Whether a zip file holds a TorchScript program in addition to tensors."""
    with zipfile.ZipFile(path) as archive:
        return f"{top_folder(archive)}constants.pkl" in archive.namelist()


def read_torchscript(path: Path) -> dict[str, torch.Tensor]:
    """Parameters and buffers of the archive's root module under their dotted names.

    Raises:
        WeightsError: the pickle asks for anything but modules and tensors, or for more memory than available, or its
            tree of modules is endless.
    """
    with zipfile.ZipFile(path) as archive:
        folder = top_folder(archive)
        if f"{folder}data.pkl" not in archive.namelist():
            raise WeightsError(f"{path} is a TorchScript archive without data.pkl")
        with archive.open(f"{folder}data.pkl") as file:
            try:
                root = _Unpickler(file, archive, folder).load()
            except MemoryError as error:  # a few damaged bytes of a pickle can ask for gigabytes
                raise WeightsError(
                    f"{path} cannot be read as weights: its data.pkl asks for more memory than is available; the file "
                    "is damaged, or too large for this machine"
                ) from error
    return _tensors(root, path)


def _tensors(root: _Module, path: Path) -> dict[str, torch.Tensor]:
    """All tensors in the tree, by dotted name.

    A module may contain itself, so a few bytes could make an endless tree; hence the limits.
    """
    result: dict[str, torch.Tensor] = {}
    num_names = 0
    waiting = deque([("", root)])
    while waiting:
        prefix, module = waiting.popleft()
        for name, value in vars(module).items():
            num_names += 1
            if num_names > _MAX_NAMES or len(prefix) + len(name) > _MAX_NAME_LENGTH:
                raise WeightsError(f"{path} has more names of modules and tensors, or longer ones, than any model")
            if isinstance(value, torch.Tensor):
                result[prefix + name] = value
            elif isinstance(value, _Module):
                waiting.append((f"{prefix}{name}.", value))
    return result


class _Unpickler(pickle.Unpickler):
    """Builds modules and tensors, and refuses every other class or function."""

    def __init__(self, file: Any, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(file)
        self._archive = archive
        self._folder = folder
        self._storages: dict[str, torch.Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        """The classes and functions that a pickle may name."""
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
