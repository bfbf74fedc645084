"""The archive of FER2013: one table with the pixels of every face as text."""

import csv
import dataclasses
from pathlib import Path

import numpy as np

from diptych.data.samples import fingerprint
from diptych.data.source import Source
from diptych.errors import DataError
from diptych.evalsets.archive_registry import register
from diptych.evalsets.archives.reading import check_split, corrupt, either, find_file, inner
from diptych.evalsets.prompts import get_prompts
from diptych.evalsets.set_sources import ArraySource

_SIDE, _MAX_LINE = 48, 1 << 16
_USAGE = {"train": "Training", "val": "PublicTest", "test": "PrivateTest"}


def read_fer2013(folder: Path, split: str) -> Source:
    """fer2013.csv, or the equivalent icml_face_data.csv: Training 28,709, PublicTest and PrivateTest 3,589 each.

    Only the offset of each row in the file is kept in memory. The paper's sizes differ (32,140 and 3,574 in "8"
    classes), but its prompts have the table's seven emotions in the same order.

    Raises:
        DataError: the table or a column is missing, or a row is broken; the message gives its line.
    """
    check_split("FER2013", split, "train", "val", "test")
    folder = inner(folder, "fer2013")
    path = find_file(folder, "fer2013.csv", "icml_face_data.csv")
    offsets, labels = [], []
    with path.open("rb") as file:
        header = [name.strip() for name in _fields(file.readline(_MAX_LINE))]
        if not {"emotion", "pixels", "Usage"} <= set(header):
            raise DataError(f"{path} has the columns {', '.join(header)[:200]}; required: emotion, pixels, Usage")
        emotion, pixels, usage = (header.index(name) for name in ("emotion", "pixels", "Usage"))
        uses = {use.encode(): name for name, use in _USAGE.items()}
        known = {str(label).encode(): label for label in range(len(get_prompts("FER2013").class_names))}
        start = file.tell()
        for count, line in enumerate(iter(lambda: file.readline(_MAX_LINE), b""), 2):
            # No field has a comma, so splitting at commas suffices; it is many times faster than a csv reader.
            fields = [field.strip(b' "\r\n') for field in line.split(b",")]
            if line.strip():
                is_valid = len(fields) == len(header) and fields[emotion] in known and fields[usage] in uses
                if not is_valid or fields[pixels].count(b" ") != _SIDE * _SIDE - 1:
                    raise corrupt(f"{path}:{count}", line[:80].decode(errors="replace"))
                if uses[fields[usage]] == split:
                    offsets.append(start)
                    labels.append(known[fields[emotion]])
            start += len(line)
    if not labels:
        raise DataError(f"{path} has no row whose Usage is {_USAGE[split]}")
    digest = fingerprint([path], [path.name], split)
    return ArraySource(split, _Faces(path, pixels, tuple(offsets)), np.array(labels), digest, (path,))


@dataclasses.dataclass(frozen=True)
class _Faces:
    """Slices of the faces, as three equal channels, from the rows that start at the offsets."""

    path: Path
    column: int
    offsets: tuple[int, ...]

    def __call__(self, first: int, last: int) -> np.ndarray:
        faces = np.empty((last - first, _SIDE, _SIDE, 3), np.uint8)
        with self.path.open("rb") as file:
            for face, offset in zip(faces, self.offsets[first:last], strict=True):
                file.seek(offset)
                line = file.readline(_MAX_LINE)
                try:
                    values = np.array(_fields(line)[self.column].split(), np.int64)
                    if values.min() < 0 or values.max() > 255:
                        raise ValueError("a pixel is not in 0 to 255")
                    face[:] = values.reshape(_SIDE, _SIDE, 1)
                except (ValueError, IndexError, OverflowError) as error:
                    raise DataError(f"{self.path}:{self._line(offset)} is not a face: {error}") from None
        return faces

    def _line(self, offset: int) -> int:
        """The number of the line that starts at an offset."""
        count = 1
        with self.path.open("rb") as file:
            while offset > 0 and (chunk := file.read(min(offset, _MAX_LINE))):
                count += chunk.count(b"\n")
                offset -= len(chunk)
        return count


def _fields(line: bytes) -> list[str]:
    return next(csv.reader([line.decode(errors="replace")]), [])


register(
    {
        "FER2013": either(
            read_fer2013, "fer2013.csv", "icml_face_data.csv", "fer2013/fer2013.csv", "fer2013/icml_face_data.csv"
        )
    }
)
