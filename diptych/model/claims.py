"""What a file of PyTorch's may claim: it unpacks to no more than it holds, and so do the tensors in it."""

import zipfile
from pathlib import Path
from typing import Any

import torch

from diptych.errors import WeightsError
from diptych.model.torchscript import top_folder


def refuse_bombs(path: Path) -> None:
    """PyTorch stores all but programs uncompressed: what would unpack to more than the file was made to harm.

    Raises:
        WeightsError: names the member that is compressed, or the size that is claimed.
    """
    with zipfile.ZipFile(path) as archive:
        programs = f"{top_folder(archive)}code/"  # they are never read
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
    """Whether it is a tensor with every number of its own."""
    return isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_meta


def check_stored(value: Any, num_bytes: int, where: str) -> None:
    """Refuse tensors that claim more numbers than a file of so many bytes stores for them, in nested dicts and lists.

    A few stored numbers can be repeated (a stride of 0) to a tensor that no copy of it would have room for.

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
