"""Archives of text in pictures, for table 14: SVHN (full numbers), IIIT5K."""

from pathlib import Path
from typing import Any

import numpy as np

from diptych.data.cards.archives.reading import check_split, either, find, inner, load_mat, safe
from diptych.data.cards.layouts import Layout, register
from diptych.data.cards.sources import Entry, ListedSource
from diptych.data.sources import Source
from diptych.errors import DataError


def read_svhn(folder: Path, split: str) -> Source:
    """Format 1 of SVHN: train/1.png, ..., with train/digitStruct.mat, which is HDF5; the same in test.

    The label is the whole number of the house, as the paper reads it, and so is metadata's "text" ("012" has label 12).

    Raises:
        DataError: h5py is not installed, digitStruct.mat is missing or broken, or no such split.
    """
    check_split(split, "SVHN", "train", "test")
    path = find(folder, f"{split}/digitStruct.mat")
    entries = [
        Entry(f"{split}/{safe(name, str(path))}", int(text), metadata={"text": text})
        for name, text in _digit_struct(path)
    ]
    return ListedSource(folder, entries)


def read_svhn_cropped(folder: Path, split: str) -> Source:
    """Format 2 of SVHN has single digits, which the paper does not use: always an error that says so."""
    raise DataError(
        f"{folder} has the cropped digits of SVHN (format 2); the paper reads whole numbers: get format 1, "
        "train.tar.gz and test.tar.gz, and unpack them there"
    )


def read_iiit5k(folder: Path, split: str) -> Source:
    """IIIT5K: traindata.mat or testdata.mat, with the words, and for each picture lexicons of 50 and of 1,000 words.

    The label is the word's place in the picture's lexicon of 1,000, which metadata has as "lexicon", beside "text".
    """
    check_split(split, "IIIT5K", "train", "test")
    folder = inner(folder, "IIIT5K", "IIIT5K-Word_V3.0/IIIT5K")
    path = find(folder, f"{split}data.mat")
    [rows] = load_mat(path, f"{split}data")
    known: dict[str, str] = {}  # the lexicons share their words: one copy of each
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
        entries.append(Entry(safe(str(row["ImgName"]), where), label, metadata={"text": text, "lexicon": lexicon}))
    return ListedSource(folder, entries)


def _digit_struct(path: Path) -> list[tuple[str, str]]:
    """The name and the number of each picture."""
    try:
        import h5py
    except ImportError:
        raise DataError(f"{path} is HDF5: pip install 'diptych[hdf5]'") from None
    try:
        with h5py.File(path, "r") as file:
            names, boxes = file["digitStruct/name"], file["digitStruct/bbox"]
            if len(names) != len(boxes):
                raise ValueError(f"{len(names)} names, {len(boxes)} boxes")
            return [
                ("".join(map(chr, file[name][()].ravel())), _number(file, file[box]["label"]))
                for [name], [box] in zip(names[()], boxes[()], strict=True)
            ]
    except Exception as error:  # h5py raises whatever it meets
        raise DataError(f"{path} cannot be read as the digitStruct of SVHN: {error}") from None


def _number(file: Any, labels: Any) -> str:
    """The digits of a house number: one of them is there itself, several by references; ten means zero."""
    values = labels[()].ravel()
    digits = [int(file[one][()].item()) for one in values] if labels.shape[0] > 1 else [int(values.item())]
    if not all(0 <= digit <= 10 for digit in digits):
        raise ValueError(f"a digit is {digits}")
    return "".join(str(digit % 10) for digit in digits)


register(
    {
        "SVHN": (
            *either(read_svhn, "test/digitStruct.mat", "train/digitStruct.mat"),
            Layout(read_svhn_cropped, ("*_32x32.mat",)),
        ),
        "IIIT5K": either(read_iiit5k, "testdata.mat", "IIIT5K/testdata.mat", "IIIT5K-Word_V3.0/IIIT5K/testdata.mat"),
    }
)
