"""Checks that a PyTorch file, and each tensor in it, unpacks to no more bytes than the file holds."""

import zipfile
from pathlib import Path
from typing import Any

import torch

from diptych.errors import WeightsError
from diptych.model.torchscript import top_folder


def refuse_bombs(path: Path) -> None:
    """Refuse a zip file that unpacks to more than its own size.

    PyTorch stores everything but programs uncompressed, so only a harmful file would do that.

    Raises:
        WeightsError: names the compressed member or the claimed size.
    """
    with zipfile.ZipFile(path) as archive:
        programs = f"{top_folder(archive)}code/"  # programs are never read
        members = [member for member in archive.infolist() if not member.filename.startswith(programs)]
    if packed := [member.filename for member in members if member.compress_type != zipfile.ZIP_STORED]:
        raise WeightsError(
            f"{path}: {packed[0]} is compressed and could unpack to any size; PyTorch stores it as it is"
        )
    unpacked = sum(member.file_size for member in members)
    if unpacked > path.stat().st_size:
        raise WeightsError(
            f"{path} claims to unpack to {unpacked:,} bytes, more than the file's {path.stat().st_size:,}"
        )


def is_dense(value: Any) -> bool:
    """Whether value is a strided tensor with data: not sparse, not on the meta device."""
    return isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_meta


def check_stored(value: Any, num_bytes: int, where: str) -> None:
    """Refuse tensors that claim more numbers than the file stores for them, also in nested dicts and lists.

    A stride of 0 can repeat a few stored numbers into a tensor too large to copy.

    Args:
        num_bytes: size of the file.
        where: name of the value, for the message.
    Raises:
        WeightsError: names the tensor.
    """
    if isinstance(value, dict | list | tuple):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            check_stored(item, num_bytes, f"{where}.{key}" if where else str(key))
    elif isinstance(value, torch.Tensor):
        if not is_dense(value):
            raise WeightsError(f"{where} is a tensor of the layout {value.layout}, which is not read")
        if value.nbytes > min(value.untyped_storage().nbytes(), num_bytes):
            raise WeightsError(f"{where} claims the shape {tuple(value.shape)}, more than is stored for it")
