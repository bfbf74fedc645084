"""The file of `diptych classify --out`: rows are appended as they are computed, and the same command resumes.

    labels.csv       path,label,probability,label_2,probability_2,...,error,made_by,file,content
    labels.jsonl     {"path", "classes": [{"label", "probability"}], "error", "made_by", "file", "content"}
    labels.parquet   the same columns as the JSON; until all rows are done they are in labels.parquet.unfinished.jsonl

`made_by` holds short digests of what determines the row: model, labels, templates and top_k. Rows made with other
inputs are never mixed with new ones. If a killed process left the last row incomplete, it is removed and made again.

`file` is the absolute path of the image: rows with the same `file` belong to one image, however `path` is spelled.
`content` is the image's size and a short digest: if it changes, the old row is removed and the image is classified
again. Rows of older versions lack both columns; they belong to the image at their `path`, and stay valid.
"""

import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from diptych.errors import DataError, ImageError, InputError
from diptych.evaluate.classify.classified import Classified
from diptych.evaluate.classify.classified_parquet import read_table, write_table
from diptych.evaluate.classify.classified_text import Entry, Origin, RowFormat, csv_format, json_format
from diptych.evaluate.classify.question import Question
from diptych.files import expanded, locked, replaceable, unfinished_name

logger = logging.getLogger(__name__)

SUFFIXES = (".csv", ".jsonl", ".parquet")


class LabelFile:
    """The rows on disk, one per image.

    Attributes:
        path: the file.
        question: labels, templates and top_k of the rows.
    Args:
        path: ends in one of SUFFIXES; the folder is created if it is missing.
    Raises:
        InputError: the path has another suffix, or cannot be written.
        DataError: the file is not a label file, or was made with other labels, templates or top_k.
    """

    def __init__(self, path: str | Path, question: Question) -> None:
        self.path, self.question = expanded(path), question
        suffix = self.path.suffix.lower()
        if suffix not in SUFFIXES:
            raise InputError(f"{path} must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, which says its format")
        self._is_table = suffix == ".parquet"
        self._rows = self.path.with_name(f"{self.path.name}.unfinished.jsonl") if self._is_table else self.path
        self._format: RowFormat = csv_format(question.num_kept) if suffix == ".csv" else json_format()
        self._file: IO[bytes] | None = None
        self._made_by = ""
        self._folders: dict[str, str] = {}  # real path of each folder, links resolved
        self._forget()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.is_dir():
                raise InputError(f"{path} is a folder; name a file in it (--out)")
            replaceable(self._rows)  # raises for a device or a pipe
            self._read_all()  # refuse other labels before a model is loaded
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}; choose another file (--out)") from error

    @property
    def kept_in(self) -> Path:
        """The file that holds the rows until all are done."""
        return self._rows

    @property
    def num_rows(self) -> int:
        """Number of images that have a row."""
        return len(self._done)

    @property
    def num_broken(self) -> int:
        """Number of images that could not be read."""
        return sum(is_broken for _, is_broken in self._done.values())

    @contextlib.contextmanager
    def writing(self, model: str, paths: Sequence[str]) -> Iterator[list[str]]:
        """Lock the file, repair it and read it again, while rows are appended.

        Args:
            model: digest of the model.
            paths: paths of images.
        Yields:
            The paths that need a row: the image has none yet, or its row is outdated. If several paths lead to one
            image, only the first is included.
        Raises:
            DataError: the file was made with another model, or another process is writing it.
        """
        real = Path(os.path.realpath(self._rows))  # write to a link's target, so the link remains
        partial = real.with_name(unfinished_name(real.name))
        try:
            while True:
                with locked(self._rows) as self._file:
                    self._forget()
                    self._read_all(heal=True)
                    self._made_by = _in_words({"model": model, **self.question.identity})
                    self._refuse_others(self._seen)
                    missing, outdated = self._look_at(paths)
                    if outdated:
                        logger.info("classified again, because changed or readable now: %d images", len(outdated))
                    if not self._is_to_be_renewed(missing, outdated):
                        yield missing
                        if self._is_table and (self._file.seek(0, os.SEEK_END) or not self.path.exists()):
                            write_table(self.path, self._rows, self._key)
                        break
                    self._write_without(outdated, partial)
                    if os.name == "posix":
                        partial.replace(real)  # under the lock: no other process writes
                if os.name != "posix":
                    partial.replace(real)  # Windows cannot replace an open file
            if self._is_table:
                self._rows.unlink(missing_ok=True)
        except OSError as error:
            raise DataError(
                f"cannot write {self.path}: {error.strerror}; {self.num_rows} rows are kept, the same command resumes"
            ) from error
        finally:
            self._file = None
            with contextlib.suppress(OSError):
                partial.unlink()

    def origins(self, paths: Sequence[str]) -> list[Origin]:
        """The real paths and content marks of images; call it before they are classified."""
        from diptych.data.content import file_mark  # imported here: it loads NumPy

        return [Origin(self._place(path), file_mark(path)) for path in paths]

    def append(self, rows: Sequence[Classified], origins: Sequence[Origin]) -> None:
        """Write rows with the origins of their images; if the disk is full, none of them."""
        assert self._file is not None, "only while writing"
        content = self._format.encode(rows, origins, self._made_by)
        length = self._file.seek(0, os.SEEK_END)
        rest = memoryview(content if length else self._format.header + content)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            with contextlib.suppress(OSError):  # report the first error, not this one
                self._file.truncate(length)
            raise
        for row, origin in zip(rows, origins, strict=True):
            self._add(Entry(str(row.path), row.error is not None, self._made_by, origin.file, origin.content))

    def _forget(self) -> None:
        self._done: dict[bytes, tuple[str, bool]] = {}  # content mark, and whether the image is broken
        self._seen: set[str] = set()

    def _add(self, entry: Entry) -> None:
        self._done[self._key(entry)] = entry.outcome  # rows in the .jsonl are newer than those in the table
        self._seen.add(entry.made_by)

    def _key(self, entry: Entry) -> bytes:
        """A key that is equal for all rows of one image."""
        return _digest(entry.file or self._place(entry.path))

    def _place(self, path: str) -> str:
        """The path of an image in its real folder, links resolved. A link to an image counts as a separate image."""
        folder, name = os.path.split(path)
        folder = folder if os.path.isabs(folder) else os.path.join(os.getcwd(), folder)  # noqa: PTH109,PTH117,PTH118
        if folder not in self._folders:
            try:
                self._folders[folder] = os.path.realpath(folder)
            except ValueError:  # a NUL byte, in a file from elsewhere
                self._folders[folder] = folder
        return os.path.join(self._folders[folder], name)  # noqa: PTH118

    def _look_at(self, paths: Sequence[str]) -> tuple[list[str], set[bytes]]:
        """The images without a valid row, and the keys of outdated rows."""
        missing: dict[bytes, str] = {}
        outdated = set()
        for path in paths:
            key = _digest(self._place(path))
            if key not in self._done:
                missing.setdefault(key, path)
            elif key not in missing and not self._holds(path, *self._done[key]):
                missing[key] = path
                outdated.add(key)
        return list(missing.values()), outdated

    def _holds(self, path: str, content: str, was_broken: bool) -> bool:
        """Whether the row of an image is still valid."""
        from diptych.data.content import file_mark

        if content and content != file_mark(path):
            return False
        return not (was_broken and _can_be_read(path))

    def _is_to_be_renewed(self, missing: Sequence[str], outdated: set[bytes]) -> bool:
        """Whether rows must be removed, or need columns that older versions lack."""
        assert self._file is not None, "only while writing"
        if missing and self._file.seek(0, os.SEEK_END):
            self._file.seek(0)
            if self._file.read(len(self._format.header)) != self._format.header:
                return True
        return bool(outdated) and any(self._key(entry) in outdated for entry in self._format.read(self._rows))

    def _write_without(self, outdated: set[bytes], partial: Path) -> None:
        """Write a copy of the row file without these rows, to replace it; rows in a table are not touched."""
        with partial.open("wb") as file, self._rows.open("rb") as rows:
            file.write(self._format.header)
            for entry in self._format.read(self._rows):
                rows.seek(entry.start)
                if self._key(entry) not in outdated:
                    file.write(self._format.renew(rows.read(entry.end - entry.start)))
        shutil.copymode(self._rows, partial)

    def _read_all(self, heal: bool = False) -> None:
        if self._is_table and self.path.exists():
            for entry in read_table(self.path):
                self._add(entry)
        if self._rows.exists():
            whole = 0
            for entry in self._format.read(self._rows):
                whole = entry.end
                self._add(entry)
            if heal and self._file is not None and self._file.seek(0, os.SEEK_END) > whole:
                if whole:
                    logger.warning("the last row of %s was incomplete (a killed process) and is made again", self._rows)
                self._file.truncate(whole)
        self._refuse_others(self._seen)

    def _refuse_others(self, seen: set[str]) -> None:
        """Raise DataError if rows were made with other inputs; the message names them."""
        mine = self._made_by or _in_words({"model": "", **self.question.identity})
        names = ("model", *self.question.identity)
        for other in seen:
            parts = other.split("-")
            if len(parts) != len(names):
                raise DataError(f"{self.path} has a row with an invalid made_by ({other[:60]!r}); choose another --out")
            pairs = zip(names, parts, mine.split("-"), strict=True)
            if different := [name for name, theirs, own in pairs if own and theirs != own]:
                raise DataError(
                    f"{self.path} was made with {_listed(different)}: its rows stay as they are. Choose another --out, "
                    "or delete the file to start again"
                )


def _in_words(identity: dict[str, str]) -> str:
    return "-".join(identity.values())


def _listed(names: list[str]) -> str:
    shown = [f"another {name}" if name in ("model", "top_k") else f"other {name}" for name in names]
    return " and ".join(shown)


def _can_be_read(path: str) -> bool:
    """Whether an image that was broken can be read now, with the same content: a plugin may have been missing."""
    from diptych.data.decoding import decode_image

    try:
        decode_image(path)
    except ImageError:
        return False
    return True


def _digest(path: str) -> bytes:
    return hashlib.blake2b(path.encode("utf-8", "backslashreplace"), digest_size=16).digest()
