"""The file of `diptych classify --out`: rows are appended as they are found, and the same command resumes.

    labels.csv       path,label,probability,label_2,probability_2,...,error,made_by
    labels.jsonl     {"path", "classes": [{"label", "probability"}], "error", "made_by"}
    labels.parquet   the same columns as the JSON; until all is done its rows are in labels.parquet.unfinished.jsonl

`made_by` holds short digests of what decided the row: model, labels, templates and top_k. Rows of something else are
not mixed with new ones. A last row that a killed process left torn is taken out and made again.
"""

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from diptych.errors import DataError, InputError
from diptych.evaluate.classify.formats import Entry, RowFormat, csv_format, json_format
from diptych.evaluate.classify.question import Question
from diptych.evaluate.classify.rows import Classified
from diptych.evaluate.classify.table import read_table, write_table
from diptych.files import expanded, locked, replaceable

logger = logging.getLogger(__name__)

SUFFIXES = (".csv", ".jsonl", ".parquet")


class LabelFile:
    """Rows on disk, each image once.

    Attributes:
        path: the file.
        question: what its rows answer.
        num_rows, num_broken: rows in it, and those among them of images that could not be read.
    Args:
        path: ends in one of SUFFIXES; its folder is made if it is missing.
    Raises:
        InputError: it ends in something else, or cannot be written.
        DataError: it holds something else, or answers to other labels, templates or top_k.
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
        self._forget()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.is_dir():
                raise InputError(f"{path} is a folder; name a file in it (--out)")
            replaceable(self._rows)  # no device, no pipe
            self._read_all()  # other labels are refused before a model is loaded
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}; choose another file (--out)") from error

    @property
    def kept_in(self) -> Path:
        """Where its rows are while it is not whole."""
        return self._rows

    def __contains__(self, path: str) -> bool:
        """Whether the file has the row of an image."""
        return _key(path) in self._done

    @contextlib.contextmanager
    def writing(self, model: str) -> Iterator[None]:
        """Have the file to oneself, healed and read anew, while rows are appended.

        Args:
            model: its digest.
        Raises:
            DataError: the file is another model's, or another process writes it.
        """
        try:
            with locked(self._rows) as self._file:
                self._forget()
                self._read_all(heal=True)
                self._made_by = _in_words({"model": model, **self.question.identity})
                self._refuse_others(self._seen)
                yield
                if self._is_table and (self._file.seek(0, os.SEEK_END) or not self.path.exists()):
                    write_table(self.path, self._rows)
            if self._is_table:
                self._rows.unlink(missing_ok=True)
        except OSError as error:
            raise DataError(
                f"cannot write {self.path}: {error.strerror}; {self.num_rows} rows are kept, the same command resumes"
            ) from error
        finally:
            self._file = None

    def append(self, rows: Sequence[Classified]) -> None:
        """Write rows: all of them, or none where the disk is full."""
        assert self._file is not None, "only while writing"
        content = self._format.encode(rows, self._made_by)
        length = self._file.seek(0, os.SEEK_END)
        rest = memoryview(content if length else self._format.header + content)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            with contextlib.suppress(OSError):  # of the two errors, the first tells more
                self._file.truncate(length)
            raise
        for row in rows:
            self._add(Entry(str(row.path), row.error is not None, self._made_by))

    def _forget(self) -> None:
        self.num_rows = self.num_broken = 0
        self._done: set[bytes] = set()
        self._seen: set[str] = set()

    def _add(self, entry: Entry) -> None:
        if (key := _key(entry.path)) not in self._done:
            self._done.add(key)
            self.num_rows += 1
            self.num_broken += entry.is_broken
        self._seen.add(entry.made_by)

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
                    logger.warning("the last row of %s was torn (a killed process) and is made again", self._rows)
                self._file.truncate(whole)
        self._refuse_others(self._seen)

    def _refuse_others(self, seen: set[str]) -> None:
        """DataError where rows were made by something else; it names what."""
        mine = self._made_by or _in_words({"model": "", **self.question.identity})
        names = ("model", *self.question.identity)
        for other in seen:
            parts = other.split("-")
            if len(parts) != len(names):
                raise DataError(f"{self.path} has a row without a sound made_by ({other[:60]!r}); choose another --out")
            pairs = zip(names, parts, mine.split("-"), strict=True)
            if different := [name for name, theirs, own in pairs if own and theirs != own]:
                raise DataError(
                    f"{self.path} was made with {_listed(different)}: its rows stay as they are. Choose another --out, "
                    "or delete the file to begin anew"
                )


def _in_words(identity: dict[str, str]) -> str:
    return "-".join(identity.values())


def _listed(names: list[str]) -> str:
    shown = [f"another {name}" if name in ("model", "top_k") else f"other {name}" for name in names]
    return " and ".join(shown)


def _key(path: str) -> bytes:
    return hashlib.blake2b(path.encode("utf-8", "backslashreplace"), digest_size=16).digest()
