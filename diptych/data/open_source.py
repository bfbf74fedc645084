"""Opens a file, a folder or a pattern as a Source, in any supported format."""

import difflib
import glob
import itertools
import logging
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from diptych.data.columns import ColumnNames
from diptych.data.image_files import PassedOver, is_image_name, walk_images
from diptych.data.parquet import ParquetSource
from diptych.data.shards import TAR_SUFFIXES, TarSource
from diptych.data.source import Source
from diptych.data.tables import SIDECARS, CsvSource, FolderSource, read_header
from diptych.errors import DataError
from diptych.files import expanded, looking_for, shown

logger = logging.getLogger(__name__)

ACCEPTED = (
    "Accepted are tar shards (a.tar, 'a/{0..11}.tar.gz', 'a/*.tar', or their folder), parquet files with images, a "
    ".csv, .tsv or .jsonl with image paths and captions, and a folder of images with captions next to them (a.jpg, "
    "a.txt)."
)
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
_MAX_SIBLINGS = 10_000
MAX_FILES = 1_000_000  # maximum that one pattern may expand to


def open_source(paths: str | Path | Sequence[str | Path], columns: ColumnNames = ColumnNames()) -> Source:  # noqa: B008
    """Open training pairs in any format that docs/data.md names.

    Args:
        paths: a file, a folder, a pattern ("shards/*.tar", "shards/{0..11}.tar.gz"), or several of one format.
        columns: names of a table's image and caption columns, if they are not the usual ones.
    Returns:
        The source; names from patterns and folders are sorted, numbers by value.
    Raises:
        DataError: nothing is found, formats are mixed, a file is named twice, or a file does not match its suffix.
    """
    names = [paths] if isinstance(paths, str | os.PathLike) else list(paths) if isinstance(paths, Iterable) else paths
    if not isinstance(names, list) or isinstance(paths, bytes):
        raise DataError(f"training data is named by a str or a Path, or by several, not by {shown(paths)}")
    if wrong := [path for path in names if not isinstance(path, str | os.PathLike)]:
        raise DataError(f"training data is named by strs or Paths, not by {shown(wrong[0])}")
    if "" in names:
        raise DataError(f"a path is empty. {ACCEPTED}")
    if not names:
        raise DataError(f"no paths given. {ACCEPTED}")
    formats = [find_format(path, columns) for pattern in names for path in expand_pattern(str(pattern))]
    kinds = sorted({kind for kind, _ in formats})
    files = [file for _, members in formats for file in members]
    if len(kinds) > 1:
        raise DataError(f"{_shown(names)} mixes formats ({', '.join(kinds)}); name one format at a time")
    if len(set(files)) < len(files):
        duplicate = next(file for file in files if files.count(file) > 1)
        raise DataError(f"{_shown(names)} names {duplicate} more than once")
    if kinds == ["parquet"]:
        return ParquetSource.open(files, columns=columns)
    if kinds == ["table"]:
        return CsvSource.open(files, columns)
    if columns:
        raise DataError(f"{_shown(names)} has no columns: leave --image-column and --caption-column out")
    if kinds == ["tar"]:
        return TarSource(tuple(files))
    folders = [folder.absolute() for folder in files]
    root = Path(os.path.commonpath(folders))
    images: list[str] = []
    for folder in folders:
        passed_over = PassedOver()
        below = folder.relative_to(root)
        images += [(below / name).as_posix() for name in sorted(walk_images(folder, passed_over, SIDECARS))]
        passed_over.log(folder)
    return FolderSource(root, tuple(images))


def natural_order(path: Path) -> tuple[tuple[str | int, ...], str]:
    """Sorting key under which 2.tar comes before 10.tar."""
    parts = re.split(r"([0-9]{1,18})", str(path))
    return tuple(int(part) if number % 2 else part for number, part in enumerate(parts)), str(path)


def expand_pattern(pattern: str) -> list[Path]:
    """The existing files and folders that a name, a brace range or a glob pattern expands to."""
    path = expanded(pattern)
    if _exists(path):
        return [path]
    names = _expand_braces(str(path))
    if any(wildcard in pattern for wildcard in "*?["):
        matches = (glob.glob(name, recursive=True) for name in names)  # noqa: PTH207 (Path.glob: no absolute patterns)
        paths = sorted({Path(file) for files in matches for file in files}, key=natural_order)
        if not paths:
            raise DataError(f"no file matches {pattern}. {ACCEPTED}")
        return paths
    missing = [name for name in names if not _exists(Path(name))]
    if missing:
        some = f" (and {len(missing) - 1} more of {len(names)})" if len(missing) > 1 else ""
        raise DataError(f"there is no {missing[0]}{some}{_nearly(Path(missing[0]))} {ACCEPTED}")
    return [Path(name) for name in names]


def _exists(path: Path) -> bool:
    with looking_for(path):
        return path.exists()


def _nearly(path: Path) -> str:
    """A suggestion for a missing path: similar names in its folder."""
    try:
        siblings = [entry.name for entry in itertools.islice(path.parent.iterdir(), _MAX_SIBLINGS)]
    except (OSError, ValueError):  # ValueError: NUL in the name
        return "."
    near = difflib.get_close_matches(path.name, siblings, n=2, cutoff=0.75)
    return f"; did you mean {' or '.join(str(path.parent / name) for name in near)}?" if near else "."


_WAYS = {
    ".json": "write one object per line, with its image and caption, and rename it to .jsonl",
    ".txt": "if it is a table, rename it to .csv, in the folder that its paths are relative to",
    ".zip": "unpack it",
    ".7z": "unpack it",
    ".rar": "unpack it",
    ".xz": "repack it as .tar or .tar.gz",
    ".bz2": "repack it as .tar or .tar.gz",
    ".zst": "repack it as .tar or .tar.gz",
    ".xlsx": "save it as .csv, in UTF-8",
    ".xls": "save it as .csv, in UTF-8",
    ".arrow": "save it as parquet",
}


def _way(path: Path) -> str:
    """What to do with a file of an unsupported format."""
    if is_image_name(path.name):
        return ": it is one image; name its folder, or the table with its caption"
    return f": {way}" if (way := _WAYS.get(path.suffix.lower())) else ""


def _expand_braces(pattern: str) -> list[str]:
    """{0..11}, {000..127} and {a,b}, from left to right."""
    match = re.search(r"\{([0-9]+)\.\.([0-9]+)\}|\{([^{}]*,[^{}]*)\}", pattern)
    if not match:
        return [pattern]
    if match[3] is not None:
        choices = match[3].split(",")
    else:
        first, last = int(match[1][:18]), int(match[2][:18])
        if not 0 <= last - first < MAX_FILES:
            raise DataError(f"{match[0]} expands to no names, or to more than {MAX_FILES} names")
        width = len(match[1]) if match[1].startswith("0") else 0
        choices = [f"{number:0{width}d}" for number in range(first, last + 1)]
    endings = _expand_braces(pattern[match.end() :])
    if len(choices) * len(endings) > MAX_FILES:
        raise DataError(f"{pattern} expands to more than {MAX_FILES} names")
    return [pattern[: match.start()] + choice + ending for choice in choices for ending in endings]


def find_format(path: Path, columns: ColumnNames) -> tuple[str, list[Path]]:
    """The format of a file or folder, and the files that belong to it."""
    if not path.is_dir():
        kind = _kind(path)
        if kind is None:
            raise DataError(f"{path} has an unknown format{_way(path)}. {ACCEPTED}")
        return kind, [path]
    entries = sorted((entry for entry in path.iterdir() if not entry.name.startswith(".")), key=natural_order)
    files = [entry for entry in entries if entry.is_file()]
    tables = []
    for kind in ("tar", "parquet", "table"):
        members = [file for file in files if _kind(file) == kind and file.suffix.lower() != ".jsonl"]
        # metadata.* is the table of a Hugging Face image folder; other .jsonl files in a folder are usually logs.
        if metadata := [file for file in files if _kind(file) == kind and file.stem.lower() == "metadata"]:
            members = metadata[:1]
        # img2dataset puts a table without images next to the images that it describes.
        if members and (kind == "tar" or _holds_pairs(kind, members[0], columns)):
            return kind, members
        tables += [(kind, members)] if members else []
    if not tables and (split := _training_split(entries, columns)) is not None:
        return split
    if columns and tables:
        return tables[0]  # the user named columns; opening the table reports which ones it has
    passed_over = PassedOver()
    if next(walk_images(path, passed_over, SIDECARS), None):
        return "images", [path]
    if tables:
        return tables[0]  # opening it reports what is wrong with it
    folders = ", ".join(entry.name for entry in entries if entry.is_dir())
    inside = f"; it has the folders {folders[:200]}: name the one that contains the data" if folders else ""
    wanted = "no images" if columns.images_only else "nothing to train on"
    raise DataError(f"{wanted} in {path}{inside}{passed_over.notice(before='; ')}. {ACCEPTED}")


def _training_split(entries: Sequence[Path], columns: ColumnNames) -> tuple[str, list[Path]] | None:
    """The table in train/ of a Hugging Face image folder with one folder per split; None for any other folder.

    The other splits are for evaluation and are not trained on.
    """
    if any(entry.is_file() and is_image_name(entry.name) for entry in entries):
        return None
    splits = {
        folder.name.lower(): (kind, [table])
        for folder in entries
        if folder.is_dir()
        for table in sorted(folder.glob("*.*"))
        if table.stem.lower() == "metadata" and (kind := _kind(table)) and _holds_pairs(kind, table, columns)
    }
    if "train" not in splits:
        return None
    if others := sorted(splits.keys() - {"train"}):
        logger.warning("%s: training on train, not on %s", splits["train"][1][0].parents[1], ", ".join(others))
    return splits["train"]


def _kind(path: Path) -> str | None:
    name = path.name.lower()
    if name.endswith(TAR_SUFFIXES):
        return "tar"
    return {".parquet": "parquet", ".csv": "table", ".tsv": "table", ".jsonl": "table"}.get(Path(name).suffix)


def _holds_pairs(kind: str, path: Path, columns: ColumnNames) -> bool:
    try:
        if kind == "parquet":
            ParquetSource.open([path], columns=columns)
        else:
            read_header(path, columns)
    except DataError:
        return False
    return True


def _shown(names: Sequence[str | Path]) -> str:
    return ", ".join(map(str, names))[:300]
