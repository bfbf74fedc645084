"""What the readers of original archives share: lists, tables and folders of labels, each checked as it is read."""

import csv
import functools
import hashlib
import io
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from diptych.data.cards.layouts import Layout
from diptych.data.cards.prompts import Prompts, get_prompts, plain_name
from diptych.data.samples import decode_text, read_file
from diptych.data.sources import Source
from diptych.data.tables import FolderSource, walk_pictures
from diptych.errors import DataError

logger = logging.getLogger(__name__)

MAX_ANNOTATION_BYTES = 1 << 30


def below(
    read: Callable[[Path, str], Source],
    needs: Sequence[str],
    inner: Sequence[str],
    words: Callable[[Path], Prompts] | None = None,
    read_fold: Callable[[Path, str, int], Source] | None = None,
) -> tuple[Layout, ...]:
    """Layouts of an archive whose files lie in the set's folder, or in a folder there, where unpacking put them.

    Args:
        read: the reader, of the folder with the files.
        needs: what must be in that folder.
        inner: names that the folder inside the set's folder may have; "*" may stand for a part.
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


def choose_split(title: str, split: str, folders: Mapping[str, str]) -> str:
    """What a split is called in the archive; DataError where the set has none of that name."""
    if split not in folders:
        raise DataError(f"{title} has no split {split!r} of its own; it has: {', '.join(folders)}")
    return folders[split]


def find_file(folder: Path, *names: str) -> Path:
    """The first of the files (or folders) that is there, each relative to the folder; DataError where none is."""
    for name in names:
        if (path := folder / name).exists():
            return path
    raise DataError(f"{folder} lacks {' or '.join(names)}; unpack all of the set's archives there")


def read_json(path: Path, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """A JSON file's value; DataError for one that is missing, not UTF-8 or no JSON."""
    text = decode_text(read_file(path, MAX_ANNOTATION_BYTES), str(path))
    try:
        return json.loads(text, object_hook=object_hook)
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged, it cannot be parsed: {error!r:.200}") from None


def read_lines(path: Path) -> list[str]:
    """A text file's stripped lines, without empty ones; DataError for one that is missing or not UTF-8."""
    text = decode_text(read_file(path, MAX_ANNOTATION_BYTES), str(path)).removeprefix("\ufeff")
    return [line.strip() for line in text.split("\n") if line.strip()]


def read_rows(path: Path) -> list[dict[str, str]]:
    """A CSV file's rows by the header's names; DataError for one that is missing, or has a row of another length."""
    text = decode_text(read_file(path, MAX_ANNOTATION_BYTES), str(path)).removeprefix("\ufeff")
    try:
        records = [record for record in csv.reader(io.StringIO(text, newline=""), strict=True) if record]
    except csv.Error as error:
        raise DataError(f"{path} is damaged: {error}") from None
    if len(records) < 2:
        raise DataError(f"{path} has no rows")
    header, *rows = records
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise DataError(f"{path}, row {number} has {len(row)} fields, the header has {len(header)}")
    return [dict(zip(header, row, strict=True)) for row in rows]


def field(row: Any, name: str, kind: type, where: str) -> Any:
    """One value of a parsed row; DataError where it is missing or of another type. Text becomes a number if asked."""
    value = row.get(name) if isinstance(row, Mapping) else None
    if isinstance(value, str) and kind in (int, float):
        try:
            value = kind(value)
        except ValueError:
            raise DataError(f"{where}: {name} is {value!r:.40}, which is no number") from None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DataError(f"{where}: {name} is missing or no {kind.__name__}: {value!r:.40}")
    return value


def inside(name: str, where: str) -> str:
    """A file's name from an annotation, with "/"; DataError for one that would leave the set's folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name or ":" in path.parts[0]:
        raise DataError(f"{where}: {name!r:.80} leads out of the set's folder; the annotation is damaged")
    return path.as_posix()


def drawn(names: Iterable[str], count: int, seed: str) -> set[str]:
    """`count` of the names, drawn by the SHA-256 of seed and name: the same ones whatever their order.

    Raises:
        DataError: there are fewer.
    """
    ranked = sorted(names, key=lambda name: hashlib.sha256(f"{seed}\0{name}".encode("utf-8", "surrogatepass")).digest())
    if len(ranked) < count:
        raise DataError(f"{seed}: {count} samples should be drawn, but there are {len(ranked)}: is the set complete?")
    return set(ranked[:count])


def folders_of(base: Path) -> list[str]:
    """The names of the folders in a folder, sorted, without hidden ones; DataError where it is no folder."""
    if not base.is_dir():
        raise DataError(f"there is no folder {base}; unpack the set's archive there")
    return sorted(entry.name for entry in base.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def prompts_index(name: str) -> dict[str, int]:
    """Class index by `plain_name` of the class's names in the prompts table."""
    classes = get_prompts(name).class_names
    return {plain_name(one): index for index, names in enumerate(classes) for one in names}


def label_folders(base: Path, index: Callable[[str], int | None], num_classes: int) -> dict[str, int]:
    """The class of each folder in a folder. Classes without a folder are named in the log.

    Args:
        base: the folder that holds one per class.
        index: from a folder's name to its class; None for a folder that is of no class.
        num_classes: that there should be.
    Raises:
        DataError: a folder is of no class, or two are of the same one.
    """
    labels: dict[str, int] = {}
    for name in folders_of(base):
        label = index(name)
        if label is None:
            raise DataError(f"{base} has a folder {name}, which is none of the set's {num_classes} classes")
        if label in labels.values():
            raise DataError(f"{base} has two folders of class {label}, {name} is the second")
        labels[name] = label
    if len(labels) < num_classes:
        absent = sorted(set(range(num_classes)) - set(labels.values()))
        logger.warning("%s: %d of %d classes have no folder: %s", base, len(absent), num_classes, str(absent)[:200])
    return labels


def class_folders(base: Path, index: Callable[[str], int | None], num_classes: int) -> FolderSource:
    """The pictures of a folder per class, sorted; keys are <class folder>/<file>. Raises what `label_folders` does."""
    labels = label_folders(base, index, num_classes)
    names = tuple(sorted(f"{name}/{picture}" for name in labels for picture in walk_pictures(base / name)))
    if not names:
        raise DataError(f"{base} has no pictures in its {len(labels)} folders of classes")
    return FolderSource(base, names, labels)


def walk_files(folder: Path, suffixes: Sequence[str]) -> Iterator[str]:
    """The files below a folder that end in one of the suffixes, relative to it with "/", sorted; no hidden ones."""
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        prefix = "" if (inner := Path(parent).relative_to(folder).as_posix()) == "." else inner + "/"
        found += [
            prefix + name for name in files if not name.startswith(".") and name.lower().endswith(tuple(suffixes))
        ]
    yield from sorted(found)
