"""From the files that belong together to one Sample: picture, captions, label, metadata.

What every training format shares: which captions count, what is broken, and how large a file may be.
"""

import hashlib
import io
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diptych.data.image_files import IMAGE_EXTENSIONS
from diptych.errors import DataError
from diptych.files import open_regular, utf8
from diptych.records import Broken, Sample

MAX_IMAGE_BYTES = 64 << 20
MAX_TEXT_BYTES = 1 << 20  # of a .txt, .json or .cls
_CAPTION_LISTS = ("captions", "texts")
_CAPTIONS = ("caption", "text")


def make_sample(key: str, shard: str, files: Mapping[str, bytes]) -> Sample | Broken:
    """Join the files of one picture.

    Captions come from the first of these that is there: the list "captions" or "texts" in the .json; the .txt, one
    caption per non-empty line (all of it is one caption where the .json's "caption" says the same); "caption" or "text"
    in the .json.

    Args:
        key: the sample's name in its source.
        shard: the shard it comes from, for messages.
        files: lower-case extension -> content; pictures, "txt", "json", "cls" and "npy" count, others are passed over.
    Returns:
        The sample, or what is wrong with it: no picture, no caption, an empty one, not UTF-8, two labels, ...
    """
    try:
        for extension in ("txt", "json", "cls"):
            if len(files.get(extension, b"")) > MAX_TEXT_BYTES:
                raise DataError(f"its .{extension} is larger than {MAX_TEXT_BYTES >> 10} KiB")
        metadata = _metadata(files["json"]) if "json" in files else {}
        image, label = _image_and_label(files, metadata)
        texts = _texts(files.get("txt"), metadata)
        if texts is None and label is None:
            known = next((name for name in (*_CAPTIONS, *_CAPTION_LISTS) if metadata.get(name) is not None), None)
            if known is not None:
                raise DataError(f"no caption: {known!r} in its .json is {kind_of(metadata[known])}, not text")
            keys = f"; its .json has {', '.join(map(str, metadata))[:100]}, not {' or '.join(_CAPTIONS)}"
            raise DataError(f"no caption (found {_listed(files)}{keys if metadata else ''})")
        return Sample(key, image, clean_texts(texts or ()), label, metadata)
    except DataError as error:
        return Broken(key, shard, str(error))


def clean_texts(texts: Iterable[str]) -> tuple[str, ...]:
    """The captions without surrounding white space; blank ones among others are dropped.

    Raises:
        DataError: there were captions, all of them blank.
    """
    given = tuple(texts)
    kept = tuple(text for text in (text.strip().removeprefix("\ufeff") for text in given) if text)
    if given and not kept:
        raise DataError("empty caption")
    return kept


def kind_of(value: Any) -> str:
    """What JSON has in the place of a caption."""
    if isinstance(value, Mapping):
        return f"an object with {', '.join(map(str, value))[:100] or 'nothing in it'}"
    if isinstance(value, list):
        inside = next((one for one in value if not isinstance(one, str)), None)
        return f"a list with {kind_of(inside)}" if value else "an empty list"
    return "a number" if isinstance(value, int | float) and not isinstance(value, bool) else str(value).lower()


def decode_text(data: bytes, what: str) -> str:
    """UTF-8 to text; DataError names the first byte that is not."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{what} is not UTF-8 (byte {error.start})") from None


def read_file(path: Path, limit: int = MAX_IMAGE_BYTES) -> bytes:
    """The content of a file.

    Raises:
        DataError: no such file, not a regular one (a device, a pipe), larger than `limit` bytes, or not readable.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise DataError(f"{path} is larger than {limit >> 10} KiB")
            return file.read(size)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None


def relative_names(files: Sequence[Path]) -> tuple[str, ...]:
    """The files' names relative to the folder that holds them all, with "/" between the parts; text that UTF-8 has."""
    paths = [path.absolute() for path in files]
    folder = os.path.commonpath([path.parent for path in paths]) if paths else ""
    return tuple(utf8(path.relative_to(folder).as_posix()) for path in paths)


def fingerprint(files: Iterable[Path], names: Iterable[str], *more: str, all_there: bool = True) -> str:
    """SHA-256 over the files' names and sizes, and more text: cheap, and the same wherever the files lie.

    Args:
        files: whose sizes count.
        names: of the files, in the same order.
        more: texts.
        all_there: refuse a file that is not there; else its absence counts.
    Raises:
        DataError: a file is not there, and should be.
    """
    digest = hashlib.sha256()
    for path, name in zip(files, names, strict=True):
        try:
            size: int | None = path.stat().st_size
        except OSError as error:
            size = None
            if all_there:
                raise DataError(f"cannot read {path}: {error.strerror}") from error
        digest.update(f"{name}\0{size}\0".encode("utf-8", "surrogatepass"))
    for text in more:
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def parse_label(value: Any, what: str) -> int:
    """A class index from text or number; DataError for anything but a non-negative integer."""
    if isinstance(value, bytes):
        value = int(value) if value.strip().isdigit() and len(value) < 20 else value
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise DataError(f"{what} is not a class index: {value!r:.40}")
    return value


def _metadata(data: bytes) -> dict[str, Any]:
    try:
        metadata = json.loads(decode_text(data, "its .json"))
    except DataError:
        raise
    except (ValueError, RecursionError) as error:
        raise DataError(f"its .json cannot be parsed: {error}") from None
    if not isinstance(metadata, dict):
        raise DataError("its .json is no object")
    return metadata


def _texts(txt: bytes | None, metadata: Mapping[str, Any]) -> Sequence[str] | None:
    for name in _CAPTION_LISTS:
        listed = metadata.get(name)
        if isinstance(listed, list) and listed and all(isinstance(text, str) for text in listed):
            return listed
    single = next((metadata[name] for name in _CAPTIONS if isinstance(metadata.get(name), str)), None)
    if txt is None:
        return None if single is None else [single]
    text = decode_text(txt, "its caption")
    return [text] if single is not None and single.strip() == text.strip() else text.split("\n")


def _image_and_label(files: Mapping[str, bytes], metadata: Mapping[str, Any]) -> tuple[bytes | np.ndarray, int | None]:
    image: bytes | np.ndarray | None = next((files[name] for name in IMAGE_EXTENSIONS if name in files), None)
    label = parse_label(files["cls"], "its .cls") if "cls" in files else None
    if "npy" in files and (image is None or label is None):
        array = _array(files["npy"])
        if image is None and array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3:
            image = array
        elif label is None and array.size == 1 and array.dtype.kind in "iu":
            label = parse_label(int(array.reshape(())), "its .npy")
    if image is None:
        raise DataError(f"no picture (found {_listed(files)})")
    if len(image) > MAX_IMAGE_BYTES:
        raise DataError(f"its picture is larger than {MAX_IMAGE_BYTES >> 20} MiB")
    if len(image) == 0:
        raise DataError("an empty picture")
    stated = metadata.get("label")
    if isinstance(stated, int) and not isinstance(stated, bool) and stated >= 0:
        if label is not None and stated != label:
            raise DataError(f"labels given twice: {label} in its .cls, {stated} in its .json")
        label = stated
    return image, label


def _array(data: bytes) -> np.ndarray:
    """An .npy file, without pickles and without believing its shape."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
        if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
            raise ValueError("its size is not what its header says")
        return np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape, order="F" if fortran else "C")
    except Exception as error:  # NumPy raises whatever its parser meets
        raise DataError(f"its .npy cannot be read: {error}") from None


def _listed(files: Iterable[str]) -> str:
    return ", ".join(f".{name}"[:40] for name in list(files)[:8]) or "nothing"
