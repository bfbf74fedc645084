"""Shared code of the archive readers: lists and tables by line, safe paths, classes by name, seeded sampling."""

import csv
import dataclasses
import functools
import hashlib
import io
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from diptych.data.image_files import PassedOver, is_hidden_folder, list_class_folders, walk_images
from diptych.data.parquet_process import FREE_MEMORY, MAX_SECONDS, call
from diptych.data.samples import decode_text, read_file
from diptych.data.source import Source
from diptych.data.tables import FolderSource
from diptych.errors import DataError
from diptych.evalsets.archive_registry import Layout
from diptych.evalsets.prompts import Prompts, get_prompts, plain_name

logger = logging.getLogger(__name__)

SEED = 2021  # for the subsets whose sampling rule the paper does not state
_MAX_BYTES = 1 << 30


# ---- locating an archive's files and splits


def either(read: Callable[[Path, str], Source], *needs: str) -> tuple[Layout, ...]:
    """Layouts of one archive that may lack its top folder or have other file names: one layout for each of `needs`."""
    return tuple(Layout(read, (need,)) for need in needs)


def below(
    read: Callable[[Path, str], Source],
    needs: Sequence[str],
    inner: Sequence[str],
    words: Callable[[Path], Prompts] | None = None,
    read_fold: Callable[[Path, str, int], Source] | None = None,
) -> tuple[Layout, ...]:
    """Layouts of an archive whose files lie in the set's folder, or in a folder inside it that unpacking created.

    Args:
        read: the reader; it gets the folder with the files.
        needs: glob patterns that this folder must match.
        inner: possible names of a folder inside the set's folder; "*" is a wildcard.
        words: as in Layout.
        read_fold: as in Layout.
    """
    layouts = [Layout(read, tuple(needs), words, read_fold)]
    for name in inner:
        layouts.append(
            Layout(
                functools.partial(_read_inside, read, name),
                tuple(f"{name}/{need}" for need in needs),
                words and functools.partial(_words_inside, words, name),
                read_fold and functools.partial(_read_fold_inside, read_fold, name),
            )
        )
    return tuple(layouts)


def _read_inside(read: Callable[[Path, str], Source], name: str, folder: Path, split: str) -> Source:
    return read(_folder_inside(folder, name), split)


def _words_inside(words: Callable[[Path], Prompts], name: str, folder: Path) -> Prompts:
    return words(_folder_inside(folder, name))


def _read_fold_inside(
    read: Callable[[Path, str, int], Source], name: str, folder: Path, split: str, fold: int
) -> Source:
    return read(_folder_inside(folder, name), split, fold)


def _folder_inside(folder: Path, name: str) -> Path:
    return next(path for path in sorted(folder.glob(name)) if path.is_dir())


def check_split(title: str, split: str, *known: str) -> None:
    """DataError for a split that the set's authors do not provide."""
    if split not in known:
        raise DataError(f"{title} as published has no split {split!r}; it has: {', '.join(known)}")


def choose_split(title: str, split: str, names: Mapping[str, str]) -> str:
    """The archive's name of a split; DataError if the set has no such split."""
    check_split(title, split, *names)
    return names[split]


def inner(folder: Path, *names: str) -> Path:
    """The first of these inner folders that exists; else the folder itself (the archive's top folder is missing)."""
    return next((folder / name for name in names if (folder / name).is_dir()), folder)


def find_file(folder: Path, *names: str) -> Path:
    """The first of these files that exists; DataError if none does."""
    return _find(folder, names, Path.is_file)


def find_folder(folder: Path, *names: str) -> Path:
    """The first of these folders that exists; DataError if none does."""
    return _find(folder, names, Path.is_dir)


def _find(folder: Path, names: Sequence[str], exists: Callable[[Path], bool]) -> Path:
    for name in names:
        if exists(folder / name):
            return folder / name
    raise DataError(f"{folder} lacks {' or '.join(names)}; unpack all of the set's archives there")


def folders_of(base: Path) -> list[str]:
    """The names of the visible folders in a folder, sorted; DataError if it is not a folder."""
    if not base.is_dir():
        raise DataError(f"there is no folder {base}; unpack the set's archive there")
    return list_class_folders(base)


def walk_files(folder: Path, suffixes: Sequence[str]) -> Iterator[str]:
    """The visible files below a folder with one of the suffixes: paths relative to it, with "/", sorted."""
    paths = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not is_hidden_folder(name)]
        prefix = "" if (relative := Path(parent).relative_to(folder).as_posix()) == "." else relative + "/"
        paths += [
            prefix + name for name in files if not name.startswith(".") and name.lower().endswith(tuple(suffixes))
        ]
    yield from sorted(paths)


# ---- reading files


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """The non-blank lines of a list: ("<path>:<line number>", stripped line).

    Raises:
        DataError: the file is missing, over 1 GiB, or not UTF-8.
    """
    for number, line in enumerate(_text(path).split("\n"), 1):
        if line.strip():
            yield f"{path}:{number}", line.strip()


def table(path: Path, needs: Sequence[str] = (), separator: str = ",") -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a table with a header: ("<path>:<line number>", {column: value}).

    Args:
        path: a UTF-8 file.
        needs: required columns.
        separator: with a comma, fields may be quoted. Any other character occurs in no field, and quotes are ordinary
            characters.
    Raises:
        DataError: the file is missing or has no rows, a column is missing, or a row has too few fields. With commas,
            too many fields are also an error, since a comma may belong to an unquoted field.
    """
    text = io.StringIO(_text(path), newline="")
    if separator == ",":
        reader = csv.reader(text, strict=True)
    else:
        reader = csv.reader(text, delimiter=separator, quoting=csv.QUOTE_NONE, strict=True)
    header: list[str] = []
    count = 0
    try:
        for record in reader:
            where, fields = f"{path}:{reader.line_num}", [field.strip() for field in record]
            if not any(fields):
                continue
            if not header:
                header = fields
                if absent := [name for name in needs if name not in header]:
                    raise DataError(f"{where} has no column {', '.join(absent)}; it has: {', '.join(header)[:200]}")
                continue
            if separator == "," and len(fields) != len(header):
                raise DataError(f"{where} has {len(fields)} fields, the header has {len(header)}")
            row = dict(zip(header, fields, strict=False))
            if not set(needs) <= set(row):
                raise corrupt(where, separator.join(record))
            count += 1
            yield where, row
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num} is damaged: {error}") from None
    if not count:
        raise DataError(f"{path} has no rows")


def read_json(path: Path, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """The value of a JSON file; DataError if it is missing, not UTF-8, or not JSON."""
    text = _text(path)
    try:
        return json.loads(text, object_hook=object_hook)
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged and cannot be parsed: {error!r:.200}") from None


def load_mat(path: Path, *variables: str) -> list[Any]:
    """Variables of a MATLAB file up to version 7.2, with cells and structs as arrays, lists and dicts.

    Raises:
        DataError: the file is missing or broken, or has no such variable.
    """
    import scipy.io

    if not path.is_file():
        raise DataError(f"{path} is missing: unpack the whole archive there")
    try:
        memory_limit = FREE_MEMORY + 16 * path.stat().st_size
        call(try_matlab, path, *variables, num_bytes=memory_limit, seconds=MAX_SECONDS)
        content = scipy.io.loadmat(path, simplify_cells=True, variable_names=variables)
    except Exception as error:  # SciPy's parser raises many kinds of errors
        raise DataError(f"{path} cannot be read as a MATLAB file: {error}") from None
    if absent := [name for name in variables if name not in content]:
        raise DataError(f"{path} has no variable {', '.join(absent)}")
    return [content[name] for name in variables]


def try_matlab(path: str, *variables: str) -> tuple[None, bytes]:
    """Runs in another process: reads a MATLAB file and drops the content, to show whether reading it crashes."""
    import scipy.io

    scipy.io.loadmat(path, simplify_cells=True, variable_names=variables)
    return None, b""


def _text(path: Path) -> str:
    return decode_text(read_file(path, _MAX_BYTES), str(path)).removeprefix("\ufeff")


def corrupt(where: str, line: str) -> DataError:
    """The error for a line that does not have the format of its list."""
    return DataError(f"{where} cannot be parsed: {line[:80]!r}")


def inside(name: str, where: str) -> str:
    """A file name from a list, with "/"; DataError if it is empty or leads out of the set's folder.

    Backslashes count as separators, since a list may have been written on Windows.
    """
    path = PurePosixPath(name.strip().replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name or ":" in path.parts[0]:
        raise DataError(f"{where}: {name[:80]!r} leads out of the set's folder; the list is damaged")
    return path.as_posix()


def number(text: str, where: str, first: int, last: int) -> int:
    """An integer from a list; DataError if it is not an integer from `first` to `last`, both included."""
    if not (text.isascii() and text.lstrip("-").isdigit() and len(text) < 10 and first <= int(text) <= last):
        raise DataError(f"{where}: {text[:40]!r} should be a number from {first} to {last}")
    return int(text)


def field(row: Any, name: str, kind: type, where: str) -> Any:
    """One value of a parsed row; DataError if it is missing or has another type. Text is converted to int or float."""
    value = row.get(name) if isinstance(row, Mapping) else None
    if isinstance(value, str) and kind in (int, float):
        try:
            value = kind(value)
        except ValueError:
            raise DataError(f"{where}: {name} is {value!r:.40}, which is not a number") from None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DataError(f"{where}: {name} is missing or not of type {kind.__name__}: {value!r:.40}")
    return value


# ---- classes and sampling


@dataclasses.dataclass(frozen=True)
class ClassIndex:
    """The class indices of a row of the prompts table, by the names in an archive.

    Attributes:
        row: the row of the prompts table.
        other: archive name -> name in the prompts table, if they differ in more than case, spaces and punctuation.
    """

    row: str
    other: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [plain_name(synonyms[0]) for synonyms in get_prompts(self.row).class_names]
        object.__setattr__(self, "_labels", {name: label for label, name in enumerate(names)})

    def get(self, name: str) -> int | None:
        """The class index of an archive's class; None if the prompts table has no such class."""
        labels: dict[str, int] = self.__dict__["_labels"]
        return labels.get(plain_name(self.other.get(name, name)))

    def label(self, name: str, where: str) -> int:
        """The class index of an archive's class; DataError if the prompts table has no such class."""
        if (label := self.get(name)) is None:
            count = len(self.__dict__["_labels"])
            raise DataError(f"{where}: {name[:80]!r} is none of the {count} classes of {self.row}")
        return label

    def order(self, names: Iterable[str], where: str) -> tuple[int, ...]:
        """The class index of each class in an archive's list of classes.

        Raises:
            DataError: a class is unknown, duplicate or missing; the message names the first such class.
        """
        listed: dict[int, str] = {}
        for name in names:
            label = self.label(name, where)
            if label in listed:
                raise DataError(f"{where}: {listed[label]!r} and {name!r} are the same class")
            listed[label] = name
        classes = get_prompts(self.row).class_names
        if (absent := next((label for label in range(len(classes)) if label not in listed), None)) is not None:
            raise DataError(f"{where} has {len(listed)} classes of {len(classes)}, and lacks {classes[absent][0]!r}")
        return tuple(listed)


def label_folders(base: Path, index: Callable[[str], int | None], num_classes: int) -> dict[str, int]:
    """The class of each class folder. Classes without a folder are named in the log.

    Args:
        base: the folder that holds the class folders.
        index: maps a folder's name to its class; None for a folder that belongs to no class.
        num_classes: the expected number of classes.
    Raises:
        DataError: a folder belongs to no class, or two belong to the same class.
    """
    labels: dict[str, int] = {}
    for name in folders_of(base):
        label = index(name)
        if label is None:
            raise DataError(f"{base} has a folder {name}, which is none of the set's {num_classes} classes")
        if label in labels.values():
            raise DataError(f"{base} has two folders of class {label}; {name} is the second")
        labels[name] = label
    if len(labels) < num_classes:
        absent = sorted(set(range(num_classes)) - set(labels.values()))
        logger.warning("%s: %d of %d classes have no folder: %s", base, len(absent), num_classes, str(absent)[:200])
    return labels


def walk_classes(base: Path, names: Iterable[str]) -> Iterator[str]:
    """The images in folders below `base`, as <folder>/<file>. Images without a decoder are counted in the log."""
    passed_over = PassedOver(images_only=True)
    for name in names:
        yield from (f"{name}/{image}" for image in walk_images(base / name, passed_over))
    passed_over.log(base)


def class_folders(base: Path, index: Callable[[str], int | None], num_classes: int) -> FolderSource:
    """The images in class folders, sorted; keys are <class folder>/<file>. Raises as `label_folders` does."""
    labels = label_folders(base, index, num_classes)
    names = tuple(sorted(walk_classes(base, labels)))
    if not names:
        raise DataError(f"{base} has no images in its {len(labels)} class folders")
    return FolderSource(base, names, labels)


def shuffled(names: Iterable[str], seed: int = SEED) -> list[str]:
    """The names in the order of SHA-256 of "<seed>/<name>", which depends only on the names and the seed."""

    def rank(name: str) -> tuple[bytes, str]:
        # File systems allow names that are not UTF-8; Python represents their bytes as surrogates.
        return hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogatepass")).digest(), name

    return sorted(names, key=rank)
