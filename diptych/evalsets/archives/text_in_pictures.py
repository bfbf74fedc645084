"""Archives of text in images, for table 14: SVHN, as single digits and as whole numbers; and IIIT5K."""

import dataclasses
import functools
from pathlib import Path

import numpy as np

from diptych.data.samples import fingerprint
from diptych.data.source import Source
from diptych.errors import DataError
from diptych.evalsets.archive_registry import register
from diptych.evalsets.archives.hdf5 import read_digit_struct
from diptych.evalsets.archives.reading import check_split, either, find_file, inner, inside, load_mat
from diptych.evalsets.set_sources import ArraySource, Entry, ListedSource


def read_svhn(folder: Path, split: str) -> Source:
    """Format 2 of SVHN: train_32x32.mat and test_32x32.mat, single digits of 32 x 32 pixels. Label 10 means zero."""
    check_split("SVHN", split, "train", "test")
    path = find_file(folder, f"{split}_32x32.mat")
    [digits] = load_mat(path, "y")
    labels = np.atleast_1d(digits).astype(np.int64)
    if labels.ndim != 1 or labels.min(initial=1) < 1 or labels.max(initial=1) > 10:
        raise DataError(f"{path}: y should be a column of numbers from 1 to 10")
    digest = fingerprint([path], [path.name])
    return ArraySource(split, _Cropped(path, len(labels)), labels % 10, digest, (path,))


def not_the_digits(folder: Path, split: str) -> Source:
    """Always raises DataError: SVHN's card is about single digits, not about the whole numbers of format 1."""
    raise DataError(
        f"{folder} has SVHN's whole numbers (format 1), which have no common classes; get the single digits, "
        "train_32x32.mat and test_32x32.mat (format 2), and put them there"
    )


def read_svhn_numbers(folder: Path, split: str) -> Source:
    """Format 1 of SVHN: train/1.png, ..., with train/digitStruct.mat, an HDF5 file; the same in test.

    The label is the whole house number, as in table 14; metadata has it as "text" ("012" has label 12).

    Raises:
        DataError: h5py is not installed, digitStruct.mat is missing or broken, or no such split.
    """
    check_split("SVHN", split, "train", "test")
    path = find_file(folder, f"{split}/digitStruct.mat")
    entries = [
        Entry(f"{split}/{inside(name, str(path))}", int(text), metadata={"text": text})
        for name, text in read_digit_struct(path)
    ]
    return ListedSource(folder, entries)


def read_iiit5k(folder: Path, split: str) -> Source:
    """IIIT5K: traindata.mat or testdata.mat, with the words, and for each image lexicons of 50 and of 1,000 words.

    The label is the word's position in the image's lexicon of 1,000 words. Metadata has "lexicon" and "text", the word.
    """
    check_split("IIIT5K", split, "train", "test")
    folder = inner(folder, "IIIT5K", "IIIT5K-Word_V3.0/IIIT5K")
    path = find_file(folder, f"{split}data.mat")
    [rows] = load_mat(path, f"{split}data")
    known: dict[str, str] = {}  # keeps one copy of each word, since lexicons share words
    entries = []
    for count, row in enumerate([rows] if isinstance(rows, dict) else rows, 1):
        where = f"{path}, word {count}"
        if not isinstance(row, dict) or not {"ImgName", "GroundTruth", "mediumLexi"} <= set(row):
            raise DataError(f"{where} lacks ImgName, GroundTruth or mediumLexi")
        text = str(row["GroundTruth"])
        lexicon = tuple(known.setdefault(word, word) for word in map(str, np.atleast_1d(row["mediumLexi"])))
        plain = [word.lower() for word in lexicon]
        if text.lower() not in plain:
            raise DataError(f"{where}: its lexicon lacks the word itself, {text[:40]!r}")
        label = plain.index(text.lower())
        entries.append(Entry(inside(str(row["ImgName"]), where), label, metadata={"text": text, "lexicon": lexicon}))
    return ListedSource(folder, entries)


@dataclasses.dataclass(frozen=True)
class _Cropped:
    """Slices of the digits. The file can only be read as a whole (up to 230 MB); each process caches one copy."""

    path: Path
    count: int

    def __call__(self, first: int, last: int) -> np.ndarray:
        return np.ascontiguousarray(_digits(self.path, self.count)[..., first:last].transpose(3, 0, 1, 2))


@functools.lru_cache(maxsize=1)
def _digits(path: Path, count: int) -> np.ndarray:
    [pixels] = load_mat(path, "X")
    if pixels.dtype != np.uint8 or pixels.size != count * 32 * 32 * 3 or pixels.shape[:3] != (32, 32, 3):
        raise DataError(f"{path}: X is {pixels.dtype} {pixels.shape}, not uint8 (32, 32, 3, {count})")
    return pixels.reshape(32, 32, 3, count)


register(
    {
        "SVHN": (
            *either(read_svhn, "test_32x32.mat", "train_32x32.mat"),
            *either(not_the_digits, "test/digitStruct.mat", "train/digitStruct.mat"),
        ),
        "SVHN-Numbers": either(read_svhn_numbers, "test/digitStruct.mat", "train/digitStruct.mat"),
        "IIIT5K": either(read_iiit5k, "testdata.mat", "IIIT5K/testdata.mat", "IIIT5K-Word_V3.0/IIIT5K/testdata.mat"),
    }
)
