"""Opens images for embedding, in any supported form: captions and labels are neither needed nor read."""

import os
from collections.abc import Sequence
from pathlib import Path

from diptych.data.columns import ColumnNames, ImageColumn
from diptych.data.image_files import PassedOver, is_image_name, walk_images
from diptych.data.open_source import expand_pattern, find_format
from diptych.data.parquet import ParquetSource
from diptych.data.shards import TarSource
from diptych.data.source import Source
from diptych.data.tables import SIDECARS, CsvSource, FolderSource
from diptych.errors import DataError

Inputs = str | Path | Sequence[str | Path]


def open_images(inputs: Inputs, columns: ColumnNames = ColumnNames()) -> Source:  # noqa: B008  (frozen)
    """Open images as a Source.

    Args:
        inputs: one or several of: image files; folders, searched at any depth; tar shards; parquet files with images or
            their paths; .csv, .tsv or .jsonl files with paths; patterns for these. All have one format, but image files
            and folders of images may be mixed.
        columns: name of a table's image column, if it is not a usual one.
    Returns:
        The source. The key of a file is its path relative to the folder, or to the folder that all inputs share. A
        file that disappears later, or cannot be read, is a broken sample.
    Raises:
        DataError: nothing is found, or formats are mixed.
    """
    columns = ImageColumn(columns.image)
    names = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    if not names or "" in names:
        raise DataError("name the images: files, folders, tar shards, parquet or CSV files")
    paths = [path for name in names for path in expand_pattern(str(name))]
    formats = [("images", [path]) if _is_image(path) else find_format(path, columns) for path in paths]
    kinds = sorted({kind for kind, _ in formats})
    if len(kinds) > 1:
        raise DataError(f"{', '.join(map(str, names))[:300]} mixes formats ({', '.join(kinds)}); name one at a time")
    files = list(dict.fromkeys(file for _, members in formats for file in members))
    if kinds == ["parquet"]:
        return ParquetSource.open(files, columns=columns)
    if kinds == ["table"]:
        return CsvSource.open(files, columns)
    if kinds == ["tar"]:
        return TarSource(tuple(files), images_only=True)
    return _files_and_folders([file.absolute() for file in files])


def _is_image(path: Path) -> bool:
    return is_image_name(path.name) and not path.is_dir()


def _files_and_folders(paths: Sequence[Path]) -> FolderSource:
    root = Path(os.path.commonpath([path.parent if _is_image(path) else path for path in paths]))
    images: dict[str, None] = {}
    for path in paths:
        below = path.relative_to(root)
        if _is_image(path):
            images[below.as_posix()] = None
            continue
        passed_over = PassedOver()
        names = sorted(walk_images(path, passed_over, SIDECARS))
        images.update(((below / name).as_posix(), None) for name in names)
        passed_over.log(path)
    return FolderSource(root, tuple(images), images_only=True)
