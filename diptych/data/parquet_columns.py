"""Which columns of a parquet file are the image, the text and the label; row counts and labels without images."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from diptych.data.columns import IMAGE_COLUMNS, PATH_COLUMNS, TEXT_COLUMNS, ColumnNames, advise, choose_column
from diptych.data.parquet_process import ParquetError, describe, read_table
from diptych.errors import DataError
from diptych.files import stand_in_at

LABEL_COLUMNS = ("label", "cls", "fine_label")  # fine_label occurs in CIFAR-100


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of a parquet file and their roles; `wanted` has their names in the form that the reader needs."""

    image: str
    text: str | None
    label: str | None
    other: tuple[str, ...]
    wanted: tuple[str, ...]

    def without_text(self) -> "Columns":
        """The same columns without the text column, if there is a label column."""
        if self.text is None or self.label is None:
            return self
        return dataclasses.replace(self, text=None, wanted=tuple(name for name in self.wanted if name != self.text))


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn a ParquetError inside the block into an error that names the file."""
    try:
        yield
    except ParquetError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: Exception) -> DataError:
    """The DataError for a file that cannot be read."""
    return DataError(f"cannot read the parquet file {path}: {stand_in_at(path, 'table') or error}")


def find_columns(path: Path, schema: pa.Schema, wanted: ColumnNames = ColumnNames()) -> Columns:  # noqa: B008
    """Which columns of a file are the image (encoded, or a path), the text and the label.

    Raises:
        DataError: there is no image column, or neither a text nor a label column; the message lists columns with
            unsuitable types.
    """
    names = schema.names
    if len({name.lower() for name in names}) < len(names):
        raise DataError(f"{path} has two columns of one name")

    def first(what: str, name: str | None, usual: Sequence[str], fits: Callable[[pa.DataType], bool]) -> str | None:
        return choose_column(path, names, what, name, usual, lambda column: fits(schema.field(column).type))

    image = first("image", wanted.image, IMAGE_COLUMNS, lambda kind: _is_bytes(_bytes_of(kind)))
    image = image or first("image", None, PATH_COLUMNS, is_text)
    if image is None:
        url = any("url" in name.lower() for name in names)
        hint = "; download the images first, for example with img2dataset" if url else ""
        unfit = _types(schema, IMAGE_COLUMNS)
        fit = [field.name for field in schema if _is_bytes(_bytes_of(field.type)) or is_text(field.type)]
        advice = advise(fit, "image", IMAGE_COLUMNS)
        raise DataError(
            f"{path} has no column of encoded images or of their paths (it has {', '.join(names)[:300]}){unfit}: "
            f"{advice}{hint}"
        )
    kind = schema.field(image).type
    if not _is_bytes(_bytes_of(kind)) and not is_text(kind):
        raise DataError(f"{path}: its image column {image} is of type {kind}, neither encoded images nor paths")
    leaf = f"{image}.bytes" if pt.is_struct(kind) else image
    if wanted.images_only:
        return Columns(image, None, None, (), (leaf,))
    text = first("caption", wanted.caption, TEXT_COLUMNS, lambda kind: _is_caption(kind))
    if text is not None and not _is_caption(schema.field(text).type):
        raise DataError(f"{path}: its caption column {text} is of type {schema.field(text).type}, which is not text")
    label = choose_column(
        path, names, "label", None, LABEL_COLUMNS, lambda column: pt.is_integer(schema.field(column).type)
    )
    if text is None and label is None:
        unfit, fit = _types(schema, TEXT_COLUMNS), [field.name for field in schema if _is_caption(field.type)]
        raise DataError(f"{path} has no text column{unfit}: {advise(fit, 'caption', TEXT_COLUMNS)}")
    other = tuple(field.name for field in schema if field.name not in (image, text, label) and _is_plain(field.type))
    return Columns(image, text, label, other, tuple(name for name in (leaf, text, label, *other) if name))


def _types(schema: pa.Schema, usual: Sequence[str]) -> str:
    """A description of columns with a usual name but an unsuitable type."""
    unfit = [f"{field.name} is of type {field.type}" for field in schema if field.name.lower() in usual]
    return f"; {', '.join(unfit)}"[:300] if unfit else ""


def _bytes_of(kind: pa.DataType) -> pa.DataType | None:
    """The type of a struct's field "bytes"; for other types the type itself."""
    if not pt.is_struct(kind):
        return kind
    index = kind.get_field_index("bytes")
    return kind.field(index).type if index >= 0 else None


def _is_bytes(kind: pa.DataType | None) -> bool:
    return kind is not None and (pt.is_binary(kind) or pt.is_large_binary(kind))


def is_text(kind: pa.DataType) -> bool:
    """Whether a column contains text, plain or dictionary-encoded."""
    kind = kind.value_type if pt.is_dictionary(kind) else kind
    return pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind)


def _is_caption(kind: pa.DataType) -> bool:
    """Whether the type is text, binary (UTF-8), or a list of one of these."""
    value = value_of(kind)
    return is_text(value) or _is_bytes(value) or (pt.is_dictionary(value) and _is_bytes(value.value_type))


def _is_plain(kind: pa.DataType) -> bool:
    return is_text(kind) or any(is_kind(kind) for is_kind in (pt.is_integer, pt.is_floating, pt.is_boolean))


def value_of(kind: pa.DataType) -> pa.DataType:
    """The type of a list's items; for other types the type itself."""
    is_list = pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind)
    return kind.value_type if is_list else kind


def distinct_labels(files: Sequence[Path]) -> set[int | None]:
    """The labels that occur; None stands for a missing label.

    Raises:
        DataError: a file cannot be read, or has no label column.
    """
    labels: set[int | None] = set()
    for path in files:
        column = label_column(path)
        with naming(path):
            labels.update(pc.unique(read_table(path, [column]).column(0)).to_pylist())
    return labels


def count_rows(files: Sequence[Path]) -> int:
    """The number of rows in the files, from their metadata only."""
    total = 0
    for path in files:
        with naming(path):
            total += describe(path).num_rows
    return total


def label_column(path: Path) -> str:
    """The column of class indices.

    Raises:
        DataError: there is no such column, or it contains something else.
    """
    with naming(path):
        schema = describe(path).schema
    usual = [field for field in schema if field.name.lower() in LABEL_COLUMNS]
    if usual and not any(pt.is_integer(field.type) for field in usual):
        raise DataError(
            f"{path}: its column {usual[0].name} is of type {usual[0].type}, not a class index; number the classes "
            "from 0 and write their names, in that order, into classnames.txt, or make a folder of images for each"
        )
    if not usual:
        raise DataError(
            f"{path} has no column of class indices called label (it has {', '.join(schema.names)[:300]}); rename it"
        )
    columns = find_columns(path, schema)
    assert columns.label is not None  # a column with a usual name and integers exists
    return columns.label
