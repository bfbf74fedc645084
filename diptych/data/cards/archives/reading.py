"""What the readers of archives share: lists with line numbers, safe paths, classes by name, seeded choice."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from diptych.data.cards.layouts import Layout
from diptych.data.cards.prompts import get_prompts, plain_name
from diptych.data.samples import IMAGE_EXTENSIONS, decode_text, read_file
from diptych.data.sources import Source
from diptych.errors import DataError

SEED = 2021  # of the subsets whose rule the paper does not state
_MAX_LIST_BYTES = 256 << 20


def either(read: Callable[[Path, str], Source], *needs: str) -> tuple[Layout, ...]:
    """Layouts of one archive that has its top folder, or has lost it, or has one name or another for its first file."""
    return tuple(Layout(read, (need,)) for need in needs)


def check_split(split: str, title: str, *known: str) -> None:
    """DataError for a split that the set's authors do not provide."""
    if split not in known:
        raise DataError(f"{title} as published has no split {split!r}; it has {' and '.join(known)}")


def inner(folder: Path, *names: str) -> Path:
    """The first of these folders inside that is there; without any, the folder itself (the archive's top is lost)."""
    return next((folder / name for name in names if (folder / name).is_dir()), folder)


def find(folder: Path, *names: str) -> Path:
    """The first of these files that is there.

    Raises:
        DataError: none of them is.
    """
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder} lacks {' or '.join(names)}: unpack the whole archive there")


def lines(path: Path, ends: str | None = None) -> Iterator[tuple[str, str]]:
    """The lines of a list that are not blank, without these ends, each after "<path>:<its number>".

    Args:
        path: UTF-8.
        ends: the characters to strip; all white space if None.
    Raises:
        DataError: the file is missing, over 256 MiB, or not UTF-8.
    """
    text = decode_text(read_file(path, _MAX_LIST_BYTES), str(path)).removeprefix("\ufeff")
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"{path}:{number}", line.strip(ends)


def table(path: Path, columns: Sequence[str], separator: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The rows of a list with a header, each after "<path>:<its line>", with the wanted columns in this order.

    Raises:
        DataError: the file is missing, a column is, or a row has too few.
    """
    rows = lines(path, "\r\n")  # empty fields at the ends count
    where, first = next(rows, (str(path), ""))
    header = [name.strip() for name in first.split(separator)]
    if absent := [name for name in columns if name not in header]:
        raise DataError(f"{where} has no column {', '.join(absent)}; it has: {first[:200]}")
    places = [header.index(name) for name in columns]
    for where, line in rows:
        fields = [field.strip() for field in line.split(separator)]
        if max(places) >= len(fields):
            raise corrupt(where, line)
        yield where, tuple(fields[place] for place in places)


def corrupt(where: str, line: str) -> DataError:
    """The error for a line that is not what its list consists of."""
    return DataError(f"{where} cannot be understood: {line[:80]!r}")


def safe(name: str, where: str) -> str:
    """The name of a file as a list has it, if it is relative and has no part that leads upwards.

    Raises:
        DataError: it would leave the folder, or is none at all.
    """
    path = PurePosixPath(name.strip())
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in name or "\\" in name:
        raise DataError(f"{where}: {name[:80]!r} leads out of the set's folder")
    return path.as_posix()


def number(text: str, where: str, first: int, last: int) -> int:
    """An integer of a list that must lie between two, both included.

    Raises:
        DataError: it is none, or lies outside.
    """
    if not (text.isascii() and text.lstrip("-").isdigit() and len(text) < 10 and first <= int(text) <= last):
        raise DataError(f"{where}: {text[:40]!r} should be a number from {first} to {last}")
    return int(text)


@dataclasses.dataclass(frozen=True)
class ClassIndex:
    """The classes of a prompts table, by the names that an archive has for them.

    Attributes:
        row: of the prompts table.
        other: the archive's name -> the table's, where they differ in more than case, spaces and punctuation.
    """

    row: str
    other: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [plain_name(several[0]) for several in get_prompts(self.row).class_names]
        object.__setattr__(self, "_labels", {name: label for label, name in enumerate(names)})

    def label(self, name: str, where: str) -> int:
        """The class index of an archive's class.

        Raises:
            DataError: the table has no such class.
        """
        labels: dict[str, int] = self.__dict__["_labels"]
        try:
            return labels[plain_name(self.other.get(name, name))]
        except KeyError:
            raise DataError(f"{where}: {name[:80]!r} is none of the {len(labels)} classes of {self.row}") from None

    def order(self, names: Iterable[str], where: str) -> tuple[int, ...]:
        """The class index of each class that an archive lists.

        Raises:
            DataError: one of them is unknown or there twice, or one is missing; the message names the first.
        """
        found: dict[int, str] = {}
        for name in names:
            label = self.label(name, where)
            if label in found:
                raise DataError(f"{where}: {found[label]!r} and {name!r} are the same class")
            found[label] = name
        several = get_prompts(self.row).class_names
        if (absent := next((label for label in range(len(several)) if label not in found), None)) is not None:
            raise DataError(f"{where} has {len(found)} classes of {len(several)}, and lacks {several[absent][0]!r}")
        return tuple(found)


def pictures(folder: Path) -> list[str]:
    """The names of the picture files in a folder, sorted. Other files are passed over.

    Raises:
        DataError: no such folder.
    """
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror}") from None
    return sorted(name for name in names if name.lower().endswith(tuple(f".{end}" for end in IMAGE_EXTENSIONS)))


def shuffled(names: Iterable[str], seed: int = SEED) -> list[str]:
    """The names in an order that depends on them and on the seed alone: that of SHA-256 of "<seed>/<name>"."""
    return sorted(names, key=lambda name: (hashlib.sha256(f"{seed}/{name}".encode()).digest(), name))


def load_mat(path: Path, *variables: str) -> list[Any]:
    """Variables of a MATLAB file up to version 7.2, with cells and structs as arrays, lists and dicts.

    Raises:
        DataError: the file is missing or broken, or has no such variable.
    """
    import scipy.io

    if not path.is_file():
        raise DataError(f"{path} is missing: unpack the whole archive there")
    try:
        content = scipy.io.loadmat(path, simplify_cells=True, variable_names=variables)
    except Exception as error:  # its parser raises whatever it meets
        raise DataError(f"{path} cannot be read as a MATLAB file: {error}") from None
    if absent := [name for name in variables if name not in content]:
        raise DataError(f"{path} has no variable {', '.join(absent)}")
    return [content[name] for name in variables]
