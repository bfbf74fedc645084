"""Parquet files that contain encoded images or their paths: a row group is a shard, read a few rows at a time."""

import contextlib
import dataclasses
import functools
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from diptych.data.columns import ColumnNames
from diptych.data.parquet_columns import (
    Columns,
    count_rows,
    distinct_labels,
    find_columns,
    is_text,
    unreadable,
    value_of,
)
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
from diptych.data.source import Source, Survey, spaced
from diptych.data.tar import FREE_BYTES, MAX_RATIO
from diptych.errors import DataError
from diptych.records import Broken, Sample

_log = logging.getLogger(__name__)
_DAMAGED = -1  # stored instead of the number of row groups
MAX_GROUP_BYTES = 8 << 30  # one row group, uncompressed
_BATCH_ROWS, _BATCH_BYTES = 64, 128 << 20
_MIN_GROUPS = 8  # inspected at least, however many rows they have
_PATHS_AT_A_TIME = 4096  # 16 MiB if all paths have the maximum length
_PARQUET_ERRORS = (
    pa.ArrowException,
    OSError,
    ValueError,
    LookupError,
    OverflowError,
    MemoryError,
)  # all of these were observed with damaged files


@dataclasses.dataclass(frozen=True)
class ParquetSource(Source):
    """Parquet files with encoded images, as Hugging Face and img2dataset write them; a row group is a shard.

    Attributes:
        paths: the files, in reading order.
        num_groups: row groups of each file; -1 for a damaged file, which is one shard that breaks off at once.
        num_paths: rows of each file that name their image by its path; 0 for a file that contains the images.
        with_texts: whether captions are read; a labeled evaluation set may have a text column that is not a caption.
        names: names of the columns, if they are not the usual ones.
    """

    paths: tuple[Path, ...]
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
        """Check columns and sizes, using only the files' metadata.

        A damaged file among intact ones is a shard that breaks off at once.

        Raises:
            DataError: no file can be read; or one has no image or text column, or would not fit into memory.
        """
        counts, paths, failure = [], [], None
        for path in files:
            try:
                count, num_paths = _check_parquet(path, columns)
                counts.append(count)
                paths.append(num_paths)
            except ParquetError as error:
                failure = unreadable(path, error)
                _log.warning("%s; its rows are lost", failure)
                counts.append(_DAMAGED)
                paths.append(0)
        if failure is not None and set(counts) == {_DAMAGED}:
            raise failure
        return cls(tuple(files), tuple(counts), tuple(paths), with_texts, columns)

    @functools.cached_property
    def _groups(self) -> tuple[tuple[Path, str, int], ...]:
        named = zip(self.paths, relative_names(self.paths), self.num_groups, strict=True)
        return tuple((path, name, group) for path, name, count in named for group in range(abs(count)))

    @functools.cached_property
    def shards(self) -> tuple[str, ...]:
        """<path>:<row group>."""
        return tuple(f"{path}:{group}" for path, _, group in self._groups)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the files' names, sizes and numbers of row groups."""
        return fingerprint(self.paths, relative_names(self.paths), *map(str, self.num_groups))

    @functools.cached_property
    def num_samples(self) -> int | None:
        """The number of rows; None if a file is damaged."""
        return None if _DAMAGED in self.num_groups else count_rows(self.paths)

    def files(self, limit: int | None = None) -> Iterator[Path]:
        """The tables, and the images that their rows name by paths; evenly spaced ones if there are more than `limit`.

        Unreadable parts are left out: `read` reports them.
        """
        yield from spaced(self.paths, limit)
        with_images_outside = {path for path, count in zip(self.paths, self.num_paths, strict=True) if count}
        groups = [(path, group) for path, _, group in self._groups if path in with_images_outside]
        total = sum(self.num_paths)
        most = total if limit is None else min(total, limit)
        wanted = min(len(groups), max(_MIN_GROUPS, most * len(groups) // max(1, total)))
        for index in range(wanted):
            path, group = groups[index * len(groups) // wanted]
            step = -(-total * wanted // (len(groups) * most))  # one row group may have millions of rows
            with contextlib.suppress(*_PARQUET_ERRORS):
                names = itertools.islice(_image_paths(path, group, self.names), 0, None, step)
                yield from (path.parent / name for name in names if name)

    def survey(self) -> Survey:
        """The number of rows, from the files' metadata."""
        return Survey(count_rows(self.paths))

    def distinct_labels(self) -> set[int | None] | None:
        """The values of the label column, read row group by row group."""
        return distinct_labels(self.paths)

    def read(self, index: int) -> Iterator[Sample | Broken]:
        """The rows of one row group, with keys "<file>/<row group>/<row>".

        Raises:
            DataError: the file no longer exists, or its metadata cannot be read.
        """
        path, name, group = self._groups[index]
        row = 0
        try:
            file = describe(path)
        except ParquetError as error:
            if self.num_groups[self.paths.index(path)] != _DAMAGED:
                raise unreadable(path, error) from None
            yield Broken(f"{name}/0/0", self.shards[index], f"its file cannot be read: {error}", rest_lost=True)
            return
        try:
            columns = find_columns(path, file.schema, self.names)
            columns = columns if self.with_texts else columns.without_text()
            sizes = _chunk_sizes(file.groups[group], columns)
            batches = read_batches(path, group, columns.wanted, _rows_at_a_time(sizes), sum(size for _, size in sizes))
            for batch in batches:
                for values in _rows(batch, columns):
                    key, shard = f"{name}/{group}/{row}", self.shards[index]
                    yield _parquet_sample(key, shard, values, path.parent, not self.names.images_only)
                    row += 1
        except _PARQUET_ERRORS as error:
            reason = f"the rest of the row group is lost: {str(error)[:200]}"
            yield Broken(f"{name}/{group}/{row}", self.shards[index], reason, rest_lost=True)


def _check_parquet(path: Path, names: ColumnNames) -> tuple[int, int]:
    """The number of row groups, and the number of rows that name their image by its path."""
    file = describe(path)
    columns = find_columns(path, file.schema, names)
    for index, group in enumerate(file.groups):
        packed, size = (sum(sizes) for sizes in zip(*_chunk_sizes(group, columns), strict=True))
        if size > MAX_GROUP_BYTES or size > max(FREE_BYTES, MAX_RATIO * packed):
            raise DataError(
                f"{path}: row group {index} claims {size >> 20} MiB from {packed >> 10} KiB in the file; "
                "write it with smaller row groups if that is true"
            )
    return len(file.groups), file.num_rows if is_text(file.schema.field(columns.image).type) else 0


def _image_paths(path: Path, group: int, names: ColumnNames) -> Iterator[str | None]:
    """The image paths in the rows of a row group."""
    file = describe(path)
    image = find_columns(path, file.schema, names).image
    stated = sum(size for column, _, size in file.groups[group] if column == image)
    for batch in read_batches(path, group, [image], _PATHS_AT_A_TIME, stated):
        yield from (value.as_py() for value in batch.column(image))  # one by one: invalid text raises at its own row


def _chunk_sizes(group: Sequence[tuple[str, int, int]], columns: Columns) -> list[tuple[int, int]]:
    """Compressed and uncompressed bytes of each wanted column."""
    return [(packed, size) for path, packed, size in group if _is_wanted(path, columns)]


def _is_wanted(path: str, columns: Columns) -> bool:
    return any(path == name or path.startswith(name + ".") for name in columns.wanted)


def _rows_at_a_time(sizes: Sequence[tuple[int, int]]) -> int:
    """A number of rows that fits into memory even if every row repeats one value as large as the columns."""
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(1, sum(size for _, size in sizes))))


def _rows(batch: pa.RecordBatch, columns: Columns) -> Iterator[dict[str, Any]]:
    """{"image", "text", "label", "other"} for each row; texts as bytes, because Arrow does not check their UTF-8."""
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
    """A column as a list: texts as bytes, because Arrow does not check their UTF-8; other values unchanged."""
    column = column.dictionary_decode() if pt.is_dictionary(column.type) else column
    kind = column.type
    if is_text(kind):
        return column.cast(pa.large_binary()).to_pylist()
    if kind != value_of(kind) and is_text(value_of(kind)):
        if pt.is_dictionary(value_of(kind)):
            column = column.cast(pa.large_list(value_of(kind).value_type))
        return column.cast(pa.large_list(pa.large_binary())).to_pylist()
    return column.to_pylist()


def _parquet_sample(
    key: str, shard: str, values: Mapping[str, Any], folder: Path, needs_caption: bool
) -> Sample | Broken:
    image, text, label = values["image"], values["text"], values["label"]
    texts = [text] if isinstance(text, bytes) else text or []
    label = None if label is None or label < 0 else label  # Hugging Face marks unlabeled rows with -1
    try:
        if not image:
            raise DataError("no image: its bytes are empty")
        if isinstance(image, str):
            image = read_file(folder / image)
        if len(image) > MAX_IMAGE_BYTES or sum(len(text or b"") for text in texts) > MAX_TEXT_BYTES:
            raise DataError(f"larger than {MAX_IMAGE_BYTES >> 20} MiB, or its captions than {MAX_TEXT_BYTES >> 10} KiB")
        if needs_caption and not texts and label is None:
            raise DataError("no caption")
        captions = clean_texts(decode_text(text or b"", "its caption") for text in texts)
        metadata = {
            name: value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
            for name, value in values["other"].items()
        }
        return Sample(key, image, captions, label, metadata)
    except DataError as error:
        return Broken(key, shard, str(error))
