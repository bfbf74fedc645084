"""The file of `diptych classify --out`: rows are appended as they are found, and the same command resumes.

    labels.csv       path,label,probability,label_2,probability_2,...,error,made_by,file,content
    labels.jsonl     {"path", "classes": [{"label", "probability"}], "error", "made_by", "file", "content"}
    labels.parquet   the same columns as the JSON; until all is done its rows are in labels.parquet.unfinished.jsonl

`made_by` holds short digests of what decided the row: model, labels, templates and top_k. Rows of something else are
not mixed with new ones. A last row that a killed process left torn is taken out and made again.

`file` is where the image lies: rows are of one image where it is the same, however `path` is spelled. `content` is its
size and a short digest: of an image that has changed since, the row is taken out before the image is classified again.
Rows of older versions have neither column; they are of the image that their `path` names, and hold.
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
from diptych.evaluate.classify.formats import Entry, Origin, RowFormat, csv_format, json_format
from diptych.evaluate.classify.question import Question
from diptych.evaluate.classify.rows import Classified
from diptych.evaluate.classify.table import read_table, write_table
from diptych.files import expanded, locked, replaceable, unfinished_name

logger = logging.getLogger(__name__)

SUFFIXES = (".csv", ".jsonl", ".parquet")


class LabelFile:
    """Rows on disk, each image once.

    Attributes:
        path: the file.
        question: what its rows answer.
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
        self._folders: dict[str, str] = {}  # where each lies, links followed
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

    @property
    def num_rows(self) -> int:
        """Images that have a row."""
        return len(self._done)

    @property
    def num_broken(self) -> int:
        """Those among them that could not be read."""
        return sum(is_broken for _, is_broken in self._done.values())

    @contextlib.contextmanager
    def writing(self, model: str, paths: Sequence[str]) -> Iterator[list[str]]:
        """Have the file to oneself, healed and read anew, while rows are appended.

        Args:
            model: its digest.
            paths: of images.
        Returns:
            Those whose rows are missing: the image has none yet, or had one that does not hold any more. Of several
            paths to one image it is the first.
        Raises:
            DataError: the file is another model's, or another process writes it.
        """
        real = Path(os.path.realpath(self._rows))  # where a link leads, so that it stays one
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
                        logger.info("done again, since changed or readable now: %d of the pictures", len(outdated))
                    if not self._is_to_be_renewed(missing, outdated):
                        yield missing
                        if self._is_table and (self._file.seek(0, os.SEEK_END) or not self.path.exists()):
                            write_table(self.path, self._rows, self._key)
                        break
                    self._write_without(outdated, partial)
                    if os.name == "posix":
                        partial.replace(real)  # no other process writes meanwhile
                if os.name != "posix":
                    partial.replace(real)  # Windows replaces no file that is open
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
        """Where images lie, and what they hold now: to be asked before they are classified."""
        from diptych.data.content import file_mark  # NumPy comes with it

        return [Origin(self._place(path), file_mark(path)) for path in paths]

    def append(self, rows: Sequence[Classified], origins: Sequence[Origin]) -> None:
        """Write rows, each with the origin of its image: all of them, or none where the disk is full."""
        assert self._file is not None, "only while writing"
        content = self._format.encode(rows, origins, self._made_by)
        length = self._file.seek(0, os.SEEK_END)
        rest = memoryview(content if length else self._format.header + content)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            with contextlib.suppress(OSError):  # of the two errors, the first tells more
                self._file.truncate(length)
            raise
        for row, origin in zip(rows, origins, strict=True):
            self._add(Entry(str(row.path), row.error is not None, self._made_by, origin.file, origin.content))

    def _forget(self) -> None:
        self._done: dict[bytes, tuple[str, bool]] = {}  # content, and whether it is broken
        self._seen: set[str] = set()

    def _add(self, entry: Entry) -> None:
        self._done[self._key(entry)] = entry.outcome  # rows beside a table are newer than its own
        self._seen.add(entry.made_by)

    def _key(self, entry: Entry) -> bytes:
        """The same for all rows of an image."""
        return _digest(entry.file or self._place(entry.path))

    def _place(self, path: str) -> str:
        """Where an image lies: its own name in a folder without links. A link to an image is an image of its own."""
        folder, name = os.path.split(path)
        folder = folder if os.path.isabs(folder) else os.path.join(os.getcwd(), folder)  # noqa: PTH109,PTH117,PTH118
        if folder not in self._folders:
            try:
                self._folders[folder] = os.path.realpath(folder)
            except ValueError:  # NUL, in a file from elsewhere
                self._folders[folder] = folder
        return os.path.join(self._folders[folder], name)  # noqa: PTH118

    def _look_at(self, paths: Sequence[str]) -> tuple[list[str], set[bytes]]:
        """The images without a row that holds, and the keys of rows that do not hold any more."""
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
        """Whether an image is still what its row is about."""
        from diptych.data.content import file_mark

        if content and content != file_mark(path):
            return False
        return not (was_broken and _can_be_read(path))

    def _is_to_be_renewed(self, missing: Sequence[str], outdated: set[bytes]) -> bool:
        """Whether rows are to be taken out, or need columns that older versions did not have."""
        assert self._file is not None, "only while writing"
        if missing and self._file.seek(0, os.SEEK_END):
            self._file.seek(0)
            if self._file.read(len(self._format.header)) != self._format.header:
                return True
        return bool(outdated) and any(self._key(entry) in outdated for entry in self._format.read(self._rows))

    def _write_without(self, outdated: set[bytes], partial: Path) -> None:
        """Write a file that is to take the place of this one, without these rows; those of a table stay in it."""
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


def _can_be_read(path: str) -> bool:
    """Whether an image that was broken is so no longer, though its file is the same: a plugin may have been missing."""
    from diptych.data.decoding import decode_image

    try:
        decode_image(path)
    except ImageError:
        return False
    return True


def _digest(path: str) -> bytes:
    return hashlib.blake2b(path.encode("utf-8", "backslashreplace"), digest_size=16).digest()
