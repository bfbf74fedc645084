"""Recognize files that are not weights by their first bytes: a failed download, an archive, an image."""

import json
import zipfile
from pathlib import Path

from diptych.files import HEAD, stand_in

_PACKED = {
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ\x00": "an xz archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a rar archive",
}
_OTHERS = {
    b"\x89HDF": "an HDF5 file (Keras, TensorFlow)",
    b"GGUF": "a GGUF file (llama.cpp)",
    b"\x93NUMPY": "a NumPy array",
    b"\x89PNG": "an image (PNG)",
    b"\xff\xd8\xff": "an image (JPEG)",
    b"%PDF": "a PDF document",
    b"PAR1": "a Parquet table",
    b"\x08\x07\x12": "an ONNX model",
    b"\x08\x08\x12": "an ONNX model",
}
_TORCH_FORMS = "PyTorch's own file, a TorchScript archive or safetensors"


def refusal(path: Path) -> str | None:
    """What the file is and what to do ("it is ...") if it cannot be weights; None if it may be."""
    size = path.stat().st_size
    if size == 0:
        return "it is empty (0 bytes): the download or the copy failed; download it again"
    with path.open("rb") as file:
        head = file.read(HEAD)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if reason := stand_in(head, size, "weights"):
        return reason
    for start, kind in _PACKED.items():
        if head.startswith(start):
            return f"it is {kind}: unpack it and give the weight file inside"
    for start, kind in _OTHERS.items():
        if head.startswith(start):
            return f"it is {kind}; weights are read from {_TORCH_FORMS}"
    if head[257:262] == b"ustar":
        return "it is a tar archive: unpack it and give the weight file inside"
    if text.startswith((b"{", b"[")) and _is_text(head):
        return f"it is text (JSON) of {size:,} bytes, not the weights: {head[:80].decode(errors='replace')!r}"
    if size < HEAD and _is_text(head):
        return f"it is text of {size} bytes, not the weights: {head[:80].decode(errors='replace')!r}"
    return _zip_refusal(path, size) if head.startswith(b"PK") else None


def _zip_refusal(path: Path, size: int) -> str | None:
    try:
        if not zipfile.is_zipfile(path):
            return (
                f"it is truncated: a PyTorch archive without its end ({size:,} bytes); download it again and "
                "compare its size with the source's"
            )
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        return f"it is a damaged zip archive: {error}"
    if not any(name.endswith("data.pkl") for name in names):
        shown = ", ".join(names[:4]) or "nothing"
        return f"it is a zip archive of {shown}{', ...' if len(names) > 4 else ''}, not PyTorch's: unpack it"
    return None


def is_safetensors(path: Path) -> bool:
    """Whether the file begins like safetensors: the length of a header, then the header, a JSON object."""
    with path.open("rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < 2**40


def safetensors_refusal(path: Path) -> str | None:
    """Why a file that begins like safetensors is incomplete, in words; None if its sizes agree."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length + 8 > size:
            return f"it is truncated: its header alone has {length:,} bytes, the file has {size:,}; download it again"
        if length > 100 * 2**20:
            return None
        try:
            header = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            end = 8 + length + max(ends, default=0)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
            return None
    if isinstance(end, int) and end > size:
        return f"it is truncated: it has {size:,} of {end:,} bytes; download it again"
    return None


def _is_text(head: bytes) -> bool:
    try:
        return head.decode("utf-8", errors="strict").isprintable() or all(
            byte >= 32 or byte in b"\t\r\n" for byte in head
        )
    except UnicodeDecodeError:
        return False
