"""Parquet files with the pictures inside: a row group is a shard, read a few rows at a time."""

import contextlib
import dataclasses
import functools
import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from diptych.data.columns import IMAGE_COLUMNS, PATH_COLUMNS, TEXT_COLUMNS, ColumnNames, advise, choose_column
from diptych.data.parquet_process import ParquetError, describe, read_batches
from diptych.data.samples import (
    MAX_IMAGE_BYTES,
    MAX_TEXT_BYTES,
    clean_texts,
    decode_text,
    fingerprint,
    read_file,
    relative_names,
)
from diptych.data.tar import FREE_BYTES, MAX_RATIO
from diptych.errors import DataError
from diptych.files import stand_in_at
from diptych.records import Broken, Sample

_log = logging.getLogger(__name__)
_DAMAGED = -1  # in place of a number of row groups
MAX_GROUP_BYTES = 8 << 30  # one row group, uncompressed
_BATCH_ROWS, _BATCH_BYTES = 64, 128 << 20
_MIN_GROUPS = 8  # that are looked into, of however many rows
_PATHS_AT_A_TIME = 4096  # 16 MiB of the longest that a system knows
LABEL_COLUMNS = ("label", "cls", "fine_label")  # the last is CIFAR-100's
_PARQUET_ERRORS = (
    pa.ArrowException,
    OSError,
    ValueError,
    LookupError,
    OverflowError,
    MemoryError,
)  # seen from bad files


@dataclasses.dataclass(frozen=True)
class ParquetSource:
    """Parquet files with encoded pictures, as Hugging Face and img2dataset write them; a row group is a shard.

    Attributes:
        files: in reading order.
        num_groups: row groups of each file; -1: it is damaged, and one shard that breaks off at once.
        num_paths: rows of each file that name their picture by its path; 0 for a file that has the pictures inside.
        with_texts: whether captions are read; evaluation sets with labels may have a text column that is none.
        names: of the columns, where they are not the usual ones.
    """

    files: tuple[Path, ...]
    num_groups: tuple[int, ...]
    num_paths: tuple[int, ...]
    with_texts: bool = True
    names: ColumnNames = ColumnNames()  # noqa: RUF009  (frozen)

    @classmethod
    def open(
        cls,
        files: Sequence[Path],
        with_texts: bool = True,
        columns: ColumnNames = ColumnNames(),  # noqa: B008  (frozen)
    ) -> "ParquetSource":
        """Check columns and sizes, from the files' metadata alone.

        A damaged file among sound ones is a shard that breaks off at once.

        Raises:
            DataError: no file can be read; or one has no picture or text column, or would not fit into memory.
        """
        counts, paths, failure = [], [], None
        for path in files:
            try:
                count, num_paths = _check_parquet(path, columns)
                counts.append(count)
                paths.append(num_paths)
            except ParquetError as error:
                failure = _unreadable(path, error)
                _log.warning("%s; its rows are lost", failure)
                counts.append(_DAMAGED)
                paths.append(0)
        if failure is not None and set(counts) == {_DAMAGED}:
            raise failure
        return cls(tuple(files), tuple(counts), tuple(paths), with_texts, columns)

    @functools.cached_property
    def _groups(self) -> tuple[tuple[Path, str, int], ...]:
        named = zip(self.files, relative_names(self.files), self.num_groups, strict=True)
        return tuple((path, name, group) for path, name, count in named for group in range(abs(count)))

    @functools.cached_property
    def shards(self) -> tuple[str, ...]:
        """<path>:<row group>."""
        return tuple(f"{path}:{group}" for path, _, group in self._groups)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the files' names, sizes and numbers of row groups."""
        return fingerprint(self.files, relative_names(self.files), *map(str, self.num_groups))

    @property
    def most_rows(self) -> int:
        """The rows that name a picture by its path."""
        return sum(self.num_paths)

    def picture_files(self, limit: int | None = None) -> Iterator[Path]:
        """The pictures that the rows name by their paths; of more than `limit` rows, evenly spaced ones.

        What cannot be read is left out: `read` says so.
        """
        with_paths = {path for path, count in zip(self.files, self.num_paths, strict=True) if count}
        groups = [(path, group) for path, _, group in self._groups if path in with_paths]
        total = self.most_rows
        most = total if limit is None else min(total, limit)
        wanted = min(len(groups), max(_MIN_GROUPS, most * len(groups) // max(1, total)))
        for index in range(wanted):
            path, group = groups[index * len(groups) // wanted]
            step = -(-total * wanted // (len(groups) * most))  # one row group may have millions of rows
            with contextlib.suppress(*_PARQUET_ERRORS):
                named = itertools.islice(_picture_paths(path, group, self.names), 0, None, step)
                yield from (path.parent / name for name in named if name)

    def read(self, index: int) -> Iterator[Sample | Broken]:
        """The rows of one row group, with keys "<file>/<row group>/<row>".

        Raises:
            DataError: the file is not there any more, or its metadata cannot be read.
        """
        path, name, group = self._groups[index]
        row = 0
        try:
            file = describe(path)
        except ParquetError as error:
            if self.num_groups[self.files.index(path)] != _DAMAGED:
                raise _unreadable(path, error) from None
            yield Broken(f"{name}/0/0", self.shards[index], f"its file cannot be read: {error}", rest_lost=True)
            return
        try:
            columns = find_columns(path, file.schema, self.names)
            columns = columns if self.with_texts else columns.without_text()
            sizes = _chunk_sizes(file.groups[group], columns)
            batches = read_batches(path, group, columns.wanted, _rows_at_a_time(sizes), sum(size for _, size in sizes))
            for batch in batches:
                for values in _rows(batch, columns):
                    yield _parquet_sample(f"{name}/{group}/{row}", self.shards[index], values, path.parent)
                    row += 1
        except _PARQUET_ERRORS as error:
            reason = f"the rest of the row group is lost: {str(error)[:200]}"
            yield Broken(f"{name}/{group}/{row}", self.shards[index], reason, rest_lost=True)


@dataclasses.dataclass(frozen=True)
class Columns:
    """Which columns of a parquet file are read, and what for; `wanted` are their names as the reader takes them."""

    image: str
    text: str | None
    label: str | None
    other: tuple[str, ...]
    wanted: tuple[str, ...]

    def without_text(self) -> "Columns":
        """The same without its text column, where a label stands for it."""
        if self.text is None or self.label is None:
            return self
        return dataclasses.replace(self, text=None, wanted=tuple(name for name in self.wanted if name != self.text))


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """The error of a file that cannot be read names it."""
    try:
        yield
    except ParquetError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"cannot read the parquet file {path}: {stand_in_at(path, 'table') or error}")


def _check_parquet(path: Path, names: ColumnNames) -> tuple[int, int]:
    """The number of row groups, and of rows that name their picture by its path."""
    file = describe(path)
    columns = find_columns(path, file.schema, names)
    for index, group in enumerate(file.groups):
        packed, size = (sum(sizes) for sizes in zip(*_chunk_sizes(group, columns), strict=True))
        if size > MAX_GROUP_BYTES or size > max(FREE_BYTES, MAX_RATIO * packed):
            raise DataError(
                f"{path}: row group {index} claims {size >> 20} MiB from {packed >> 10} KiB in the file; "
                "write it with smaller row groups if that is true"
            )
    return len(file.groups), file.num_rows if _is_text(file.schema.field(columns.image).type) else 0


def _picture_paths(path: Path, group: int, names: ColumnNames) -> Iterator[str | None]:
    """The pictures that the rows of a row group name."""
    file = describe(path)
    image = find_columns(path, file.schema, names).image
    says = sum(size for column, _, size in file.groups[group] if column == image)
    for batch in read_batches(path, group, [image], _PATHS_AT_A_TIME, says):
        yield from (value.as_py() for value in batch.column(image))  # one by one: a name that is no text ends it here


def _chunk_sizes(group: Sequence[tuple[str, int, int]], columns: Columns) -> list[tuple[int, int]]:
    """Compressed and uncompressed bytes of each wanted column."""
    return [(packed, size) for path, packed, size in group if _is_wanted(path, columns)]


def _is_wanted(path: str, columns: Columns) -> bool:
    return any(path == name or path.startswith(name + ".") for name in columns.wanted)


def _rows_at_a_time(sizes: Sequence[tuple[int, int]]) -> int:
    """So few that they fit into memory, even where every row repeats one value as large as the columns."""
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(1, sum(size for _, size in sizes))))


def find_columns(path: Path, schema: pa.Schema, wanted: ColumnNames = ColumnNames()) -> Columns:  # noqa: B008
    """Which columns of a file are the image (encoded, or a path), the text and the label.

    Raises:
        DataError: there is no column of images, or neither texts nor labels; says which columns have unfit types.
    """
    names = schema.names
    if len({name.lower() for name in names}) < len(names):
        raise DataError(f"{path} has two columns of one name")

    def first(what: str, name: str | None, usual: Sequence[str], fits: Callable[[pa.DataType], bool]) -> str | None:
        return choose_column(path, names, what, name, usual, lambda one: fits(schema.field(one).type))

    image = first("image", wanted.image, IMAGE_COLUMNS, lambda kind: _is_bytes(_bytes_of(kind)))
    image = image or first("image", None, PATH_COLUMNS, _is_text)
    if image is None:
        url = any("url" in name.lower() for name in names)
        hint = "; download the pictures first, for example with img2dataset" if url else ""
        unfit = _types(schema, IMAGE_COLUMNS)
        fit = [one.name for one in schema if _is_bytes(_bytes_of(one.type)) or _is_text(one.type)]
        advice = advise(fit, "image", IMAGE_COLUMNS)
        raise DataError(
            f"{path} has no column of encoded pictures or of their paths (it has {', '.join(names)[:300]}){unfit}: "
            f"{advice}{hint}"
        )
    kind = schema.field(image).type
    if not _is_bytes(_bytes_of(kind)) and not _is_text(kind):
        raise DataError(f"{path}: its image column {image} is of type {kind}, neither encoded images nor paths")
    text = first("caption", wanted.caption, TEXT_COLUMNS, lambda kind: _is_caption(kind))
    if text is not None and not _is_caption(schema.field(text).type):
        raise DataError(f"{path}: its caption column {text} is of type {schema.field(text).type}, which is no text")
    label = choose_column(path, names, "label", None, LABEL_COLUMNS, lambda one: pt.is_integer(schema.field(one).type))
    if text is None and label is None:
        unfit, fit = _types(schema, TEXT_COLUMNS), [one.name for one in schema if _is_caption(one.type)]
        raise DataError(f"{path} has no text column{unfit}: {advise(fit, 'caption', TEXT_COLUMNS)}")
    other = tuple(field.name for field in schema if field.name not in (image, text, label) and _is_plain(field.type))
    leaf = f"{image}.bytes" if pt.is_struct(kind) else image
    return Columns(image, text, label, other, tuple(name for name in (leaf, text, label, *other) if name))


def _types(schema: pa.Schema, usual: Sequence[str]) -> str:
    """Words for columns of a usual name that have another type than is needed."""
    unfit = [f"{field.name} is of type {field.type}" for field in schema if field.name.lower() in usual]
    return f"; {', '.join(unfit)}"[:300] if unfit else ""


def _bytes_of(kind: pa.DataType) -> pa.DataType | None:
    """The type of the struct's "bytes", or the type itself."""
    if not pt.is_struct(kind):
        return kind
    index = kind.get_field_index("bytes")
    return kind.field(index).type if index >= 0 else None


def _is_bytes(kind: pa.DataType | None) -> bool:
    return kind is not None and (pt.is_binary(kind) or pt.is_large_binary(kind))


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pt.is_dictionary(kind) else kind
    return pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind)


def _is_caption(kind: pa.DataType) -> bool:
    """Text, UTF-8 in a binary column, or a list of one of them."""
    value = _value_of(kind)
    return _is_text(value) or _is_bytes(value) or (pt.is_dictionary(value) and _is_bytes(value.value_type))


def _is_plain(kind: pa.DataType) -> bool:
    return _is_text(kind) or any(is_kind(kind) for is_kind in (pt.is_integer, pt.is_floating, pt.is_boolean))


def _value_of(kind: pa.DataType) -> pa.DataType:
    is_list = pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind)
    return kind.value_type if is_list else kind


def _rows(batch: pa.RecordBatch, columns: Columns) -> Iterator[dict[str, Any]]:
    """{"image", "text", "label", "other"} of each row; texts as bytes, since Arrow does not check their UTF-8."""
    images = batch.column(columns.image)
    images = pc.struct_field(images, "bytes") if pt.is_struct(images.type) else images
    values = {name: _python_values(batch.column(name)) for name in batch.schema.names if name != columns.image}
    for row in range(batch.num_rows):
        yield {
            "image": images[row].as_py(),  # one by one: these are large
            "text": values[columns.text][row] if columns.text else None,
            "label": values[columns.label][row] if columns.label else None,
            "other": {name: values[name][row] for name in columns.other},
        }


def _python_values(column: pa.Array) -> list[Any]:
    """Texts as bytes, since Arrow does not check their UTF-8; all else as it is."""
    column = column.dictionary_decode() if pt.is_dictionary(column.type) else column
    kind = column.type
    if _is_text(kind):
        return column.cast(pa.large_binary()).to_pylist()
    if kind != _value_of(kind) and _is_text(_value_of(kind)):
        if pt.is_dictionary(_value_of(kind)):
            column = column.cast(pa.large_list(_value_of(kind).value_type))
        return column.cast(pa.large_list(pa.large_binary())).to_pylist()
    return column.to_pylist()


def _parquet_sample(key: str, shard: str, values: Mapping[str, Any], folder: Path) -> Sample | Broken:
    image, text, label = values["image"], values["text"], values["label"]
    texts = [text] if isinstance(text, bytes) else text or []
    label = None if label is None or label < 0 else label  # Hugging Face marks unlabelled rows with -1
    try:
        if not image:
            raise DataError("no picture: its bytes are empty")
        if isinstance(image, str):
            image = read_file(folder / image)
        if len(image) > MAX_IMAGE_BYTES or sum(len(text or b"") for text in texts) > MAX_TEXT_BYTES:
            raise DataError(f"larger than {MAX_IMAGE_BYTES >> 20} MiB, or its captions than {MAX_TEXT_BYTES >> 10} KiB")
        if not texts and label is None:
            raise DataError("no caption")
        captions = clean_texts(decode_text(text or b"", "its caption") for text in texts)
        metadata = {
            name: value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
            for name, value in values["other"].items()
        }
        return Sample(key, image, captions, label, metadata)
    except DataError as error:
        return Broken(key, shard, str(error))
