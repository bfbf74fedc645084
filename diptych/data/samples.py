"""Builds a Sample (image, captions, label, metadata) from the files that belong to it.

These rules are common to all training formats: which captions count, what is broken, and how large a file may be.
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
MAX_TEXT_BYTES = 1 << 20  # for a .txt, .json or .cls
_CAPTION_LISTS = ("captions", "texts")
_CAPTIONS = ("caption", "text")


def make_sample(
    key: str, shard: str, files: Mapping[str, bytes], *, needs_caption: bool = True, images_only: bool = False
) -> Sample | Broken:
    """Build a sample from the files of one image.

    Captions come from the first of these that exists: the list "captions" or "texts" in the .json; the .txt, one
    caption per non-empty line (or the whole .txt as one caption, if the .json's "caption" is the same text); "caption"
    or "text" in the .json.

    Args:
        key: the sample's name in its source.
        shard: the shard it comes from, for messages.
        files: lower-case extension -> content; images, "txt", "json", "cls" and "npy" are used, others are ignored.
        needs_caption: whether an image without caption and label is broken.
        images_only: neither captions nor labels are read, so damaged ones do not matter.
    Returns:
        The sample, or a Broken with the reason: no image, no caption, an empty caption, not UTF-8, two labels, ...
    """
    try:
        if images_only:
            image, _ = _image_and_label({name: files[name] for name in files if name not in ("txt", "json", "cls")}, {})
            return Sample(key, image)
        for extension in ("txt", "json", "cls"):
            if len(files.get(extension, b"")) > MAX_TEXT_BYTES:
                raise DataError(f"its .{extension} is larger than {MAX_TEXT_BYTES >> 10} KiB")
        metadata = _metadata(files["json"]) if "json" in files else {}
        image, label = _image_and_label(files, metadata)
        texts = _texts(files.get("txt"), metadata)
        if needs_caption and texts is None and label is None:
            field = next((name for name in (*_CAPTIONS, *_CAPTION_LISTS) if metadata.get(name) is not None), None)
            if field is not None:
                raise DataError(f"no caption: {field!r} in its .json is {kind_of(metadata[field])}, not text")
            keys = f"; its .json has {', '.join(map(str, metadata))[:100]}, not {' or '.join(_CAPTIONS)}"
            raise DataError(f"no caption (found {_listed(files)}{keys if metadata else ''})")
        return Sample(key, image, clean_texts(texts or ()), label, metadata)
    except DataError as error:
        return Broken(key, shard, str(error))


def clean_texts(texts: Iterable[str]) -> tuple[str, ...]:
    """The captions without surrounding white space; blank ones among others are dropped.

    Raises:
        DataError: there are captions, but all of them are blank.
    """
    captions = tuple(texts)
    cleaned = tuple(text for text in (text.strip().removeprefix("\ufeff") for text in captions) if text)
    if captions and not cleaned:
        raise DataError("empty caption")
    return cleaned


def kind_of(value: Any) -> str:
    """A description of the JSON value that stands where a caption is expected."""
    if isinstance(value, Mapping):
        return f"an object with {', '.join(map(str, value))[:100] or 'nothing in it'}"
    if isinstance(value, list):
        inside = next((item for item in value if not isinstance(item, str)), None)
        return f"a list with {kind_of(inside)}" if value else "an empty list"
    return "a number" if isinstance(value, int | float) and not isinstance(value, bool) else str(value).lower()


def decode_text(data: bytes, what: str) -> str:
    """Decode UTF-8; a DataError gives the position of the first invalid byte."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{what} is not UTF-8 (byte {error.start})") from None


def read_file(path: Path, limit: int = MAX_IMAGE_BYTES) -> bytes:
    """The content of a file.

    Raises:
        DataError: the file is missing, not a regular file (a device, a pipe), larger than `limit` bytes, or unreadable.
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
    """The files' names relative to their common folder, with "/" between the parts; always valid UTF-8."""
    paths = [path.absolute() for path in files]
    folder = os.path.commonpath([path.parent for path in paths]) if paths else ""
    return tuple(utf8(path.relative_to(folder).as_posix()) for path in paths)


def fingerprint(files: Iterable[Path], names: Iterable[str], *more: str, all_there: bool = True) -> str:
    """SHA-256 over the files' names and sizes and more text: cheap, and independent of where the files are stored.

    Args:
        files: the files whose sizes are hashed.
        names: names of the files, in the same order.
        more: further texts to hash.
        all_there: raise an error for a missing file; otherwise its absence is hashed.
    Raises:
        DataError: a file is missing and `all_there` is set.
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
    """A class index from bytes or a number; DataError for anything but a non-negative integer."""
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
        raise DataError("its .json is not an object")
    return metadata


def _texts(txt: bytes | None, metadata: Mapping[str, Any]) -> Sequence[str] | None:
    for name in _CAPTION_LISTS:
        texts = metadata.get(name)
        if isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts):
            return texts
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
        raise DataError(f"no image (found {_listed(files)})")
    if len(image) > MAX_IMAGE_BYTES:
        raise DataError(f"its image is larger than {MAX_IMAGE_BYTES >> 20} MiB")
    if len(image) == 0:
        raise DataError("an empty image")
    stated = metadata.get("label")
    if isinstance(stated, int) and not isinstance(stated, bool) and stated >= 0:
        if label is not None and stated != label:
            raise DataError(f"labels given twice: {label} in its .cls, {stated} in its .json")
        label = stated
    return image, label


def _array(data: bytes) -> np.ndarray:
    """Read an .npy file; pickles are refused, and the shape is checked against the size."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(stream)
        if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
            raise ValueError("its size does not match its header")
        return np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape, order="F" if fortran else "C")
    except Exception as error:  # NumPy's header parser raises any exception
        raise DataError(f"its .npy cannot be read: {error}") from None


def _listed(files: Iterable[str]) -> str:
    return ", ".join(f".{name}"[:40] for name in list(files)[:8]) or "nothing"
