"""Reference vectors in a file: what a model gave for the 32 images and 64 texts, on a machine that has the weights.

The file is a .npz of plain arrays: `numpy.load` reads it, too. It is never unpickled, and its sizes are checked before
anything is allocated. Of preprocessed pixels it holds 1,024 numbers of each image at fixed places: a digest would
change with the last bit of a division, and says nothing about the size of a difference.
"""

import dataclasses
import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from diptych.embed.check.check_images import CheckImage
from diptych.embed.check.check_texts import CheckText
from diptych.errors import DataError
from diptych.files import cache_folder, new_file, open_regular, writing

SUFFIX = ".npz"
FORMAT_VERSION = 1
NUM_SAMPLES = 1024
_PACKAGED = Path(__file__).parents[2] / "assets" / "references"
_ABOUT = "about"
_DTYPES = {
    "pixels": np.float32,
    "features": np.float32,
    "images": np.float32,
    "texts": np.float32,
    "token_ids": np.int64,
    "token_lengths": np.int64,
    _ABOUT: np.uint8,
}
_REQUIRED = ("pixels", "images")
_MAX_BYTES = 64 * 2**20
_MAX_ABOUT_BYTES = 2**20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reference:
    """Recorded vectors.

    Attributes:
        name, made_by, library: of the model, see Stages.
        precision: in which it computed.
        weights: digest of its weights, see `weights_digest`.
        versions: of the libraries that made the vectors.
        decoded: a digest of the decoded pixels of each image.
        pixel_shape: shape of the network's input, (3, R, R).
        pixels: (32, 1024) float32, numbers of it at fixed places.
        features: (32, W) float32; None if the model does not show them.
        images, texts: (32, E) and (64, E) float32 of unit norm; texts is None for a model without texts.
        tokens: 64 arrays of ids; None if the model does not show them.
        logit_scale, logit_bias: see Stages.
        inputs: a digest of the names of the images and of the texts, which may change with Diptych's version.
    """

    name: str
    made_by: str
    library: str
    precision: str
    weights: str
    versions: Mapping[str, str]
    decoded: Sequence[str]
    pixel_shape: Sequence[int]
    pixels: np.ndarray
    features: np.ndarray | None
    images: np.ndarray
    texts: np.ndarray | None
    tokens: list[np.ndarray] | None
    logit_scale: float | None
    logit_bias: float | None
    inputs: str


_STORED_AS_JSON = (
    *("name", "made_by", "library", "precision", "weights", "versions", "decoded", "pixel_shape"),
    *("logit_scale", "logit_bias", "inputs"),
)


def inputs_digest(images: Sequence[CheckImage], texts: Sequence[CheckText]) -> str:
    """A digest of which images and texts there are. The images' pixels have their own digests."""
    names = [[image.name for image in images], [text.text for text in texts]]
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()


def sampled(pixels: np.ndarray) -> np.ndarray:
    """1,024 numbers of an array at places that depend on its size alone; with repetitions if it has fewer."""
    places = np.random.default_rng(pixels.size).integers(0, pixels.size, NUM_SAMPLES)
    return pixels.ravel()[places].astype(np.float32)


def write_reference(path: Path, reference: Reference) -> None:
    """Write the file; it replaces an older one.

    Raises:
        DataError: the file cannot be written.
    """
    values = {name: getattr(reference, name) for name in _STORED_AS_JSON} | {"format_version": FORMAT_VERSION}
    arrays = {"pixels": reference.pixels, "images": reference.images}
    arrays |= {name: array for name in ("features", "texts") if (array := getattr(reference, name)) is not None}
    if reference.tokens is not None:
        arrays["token_ids"] = np.concatenate(reference.tokens).astype(np.int64)
        arrays["token_lengths"] = np.array([len(ids) for ids in reference.tokens], np.int64)
    arrays[_ABOUT] = np.frombuffer(json.dumps(values).encode(), np.uint8)
    contents: dict[str, Any] = {name: np.ascontiguousarray(array, _DTYPES[name]) for name, array in arrays.items()}
    with writing(path), new_file(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, **contents)


def read_reference(path: Path) -> Reference:
    """Read the file.

    Raises:
        DataError: it is missing, damaged, too large, or not such a file.
    """
    try:
        with open_regular(path) as file:
            arrays = _read_arrays(file)
        values = _read_about(arrays)
        if missing := [name for name in _REQUIRED if name not in arrays]:
            raise ValueError(f"it lacks {', '.join(missing)}")
        reference = Reference(
            **{name: values[name] for name in _STORED_AS_JSON},
            **{name: arrays.get(name) for name in ("pixels", "features", "images", "texts")},  # type: ignore[arg-type]
            tokens=_split(arrays),
        )
        _check(reference)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile, NotImplementedError, RecursionError) as error:
        raise DataError(
            f"{path} holds no reference vectors, or is damaged: {error}; make it again with check --record"
        ) from error
    return reference


def find_reference(weights: str) -> tuple[Path, Reference] | None:
    """The recorded vectors for weights, in the package or in the user's folder; None if there are none.

    Raises:
        DataError: a file in one of these folders is damaged.
    """
    for path in _recorded_files():
        with open_regular(path) as file:
            try:
                matches = _read_about(_read_arrays(file, only=_ABOUT)).get("weights") == weights
            except (ValueError, KeyError, TypeError, zipfile.BadZipFile, NotImplementedError, RecursionError):
                matches = True  # read_reference says what is wrong
        if matches:
            return path, read_reference(path)
    return None


def reference_folders() -> list[Path]:
    """The folders in which recorded vectors are looked for: the package's, then the user's."""
    cache = cache_folder()
    return [_PACKAGED, *([] if cache is None else [cache / "diptych" / "references"])]


def _recorded_files() -> Iterator[Path]:
    for folder in reference_folders():
        if folder.is_dir():
            yield from sorted(path for path in folder.iterdir() if path.suffix == SUFFIX and path.is_file())


def _read_arrays(file: BinaryIO, only: str | None = None) -> dict[str, np.ndarray]:
    """The arrays, each after its header was compared with its size and type."""
    arrays = {}
    with zipfile.ZipFile(file) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        if unknown := sorted(set(members) - set(_DTYPES)):
            raise ValueError(f"it holds {', '.join(unknown)!r:.80}")
        if sum(member.file_size for member in members.values()) > _MAX_BYTES:
            raise ValueError(f"it is larger than {_MAX_BYTES:,} bytes")
        for name, member in members.items():
            if only is None or name == only:
                with archive.open(member) as opened:
                    arrays[name] = _read_array(opened, name, member.file_size)  # type: ignore[arg-type]
    return arrays


def _read_array(file: BinaryIO, name: str, num_bytes: int) -> np.ndarray:
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError(f"{name} has another format")
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    expected = np.dtype(_DTYPES[name])
    size = expected.itemsize * int(np.prod(shape, dtype=object))
    if dtype != expected or is_fortran or len(shape) > 2 or min(shape, default=1) < 0 or size > num_bytes:
        raise ValueError(f"{name} is {dtype} {shape}")
    return np.frombuffer(file.read(size), expected).reshape(shape)


def _read_about(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    content = arrays[_ABOUT].tobytes()
    if len(content) > _MAX_ABOUT_BYTES:
        raise ValueError("its description is too long")
    values = json.loads(content)
    if not isinstance(values, dict) or values.get("format_version") != FORMAT_VERSION:
        raise ValueError("it has another format_version")
    return values


def _split(arrays: Mapping[str, np.ndarray]) -> list[np.ndarray] | None:
    if "token_ids" not in arrays:
        return None
    ids, lengths = arrays["token_ids"], arrays["token_lengths"]
    if ids.ndim != 1 or lengths.ndim != 1 or (lengths < 0).any() or int(lengths.sum()) != len(ids):
        raise ValueError("its token_lengths do not fit its token_ids")
    return np.split(ids, np.cumsum(lengths)[:-1])


def _check(reference: Reference) -> None:
    """Check types and sizes of what a damaged or made-up file may hold."""
    words = (reference.name, reference.made_by, reference.library, reference.precision, reference.weights)
    if not all(isinstance(word, str) for word in (*words, reference.inputs, *reference.decoded)):
        raise ValueError("a word in its description is not a text")
    scales = (reference.logit_scale, reference.logit_bias)
    if not all(scale is None or isinstance(scale, int | float) for scale in scales):
        raise ValueError("its logit_scale is not a number")
    if not all(isinstance(side, int) for side in reference.pixel_shape):
        raise ValueError("its pixel_shape is not a shape")
    num_images = len(reference.decoded)
    for name in ("pixels", "features", "images"):
        array = getattr(reference, name)
        if array is not None and (array.ndim != 2 or len(array) != num_images):
            raise ValueError(f"its {name} are not one row for each image")
    if reference.texts is not None and reference.texts.ndim != 2:
        raise ValueError("its texts are not one row for each text")
