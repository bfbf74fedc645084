"""Which columns of a table are the image and the caption: the columns with usual names, or those the user names."""

import dataclasses
import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from diptych.errors import DataError

TEXT_COLUMNS = ("captions", "texts", "caption", "text", "txt", "title")
"""Usual names of caption columns, best first; lower case, as in the tuples below."""
PATH_COLUMNS = ("filepath", "file_path", "file_name", "filename", "path", "image_path", "image")
IMAGE_COLUMNS = ("image", "img", "picture", "jpg", "jpeg", "png", "webp", "image_bytes")
_HINTS = {
    "image": ("image", "img", "file", "path", "pic", "photo"),
    "caption": ("caption", "text", "desc", "title", "prompt", "sentence", "comment"),
}


@dataclasses.dataclass(frozen=True)
class ColumnNames:
    """The names that the user gives for the two columns of a table; None means the usual names.

    Attributes:
        image: the column of paths, or of encoded images in parquet files.
        caption: the column of texts.
        images_only: captions, labels and other columns are neither needed nor read; see ImageColumn.
    """

    image: str | None = None
    caption: str | None = None
    images_only: ClassVar[bool] = False  # no field: a run's configuration has none

    def __bool__(self) -> bool:
        return self.image is not None or self.caption is not None


@dataclasses.dataclass(frozen=True)
class ImageColumn(ColumnNames):
    """The column of images of a table without captions, or whose captions do not matter."""

    images_only: ClassVar[bool] = True


def choose_column(
    path: Path,
    names: Sequence[str],
    what: str,
    wanted: str | None,
    usual: Sequence[str],
    fits: Callable[[str], bool] = lambda name: True,
) -> str | None:
    """The image or caption column of a table; None if no column has a usual name.

    Args:
        path: the table, for messages.
        names: the table's columns.
        what: "image" or "caption", as in the options --image-column and --caption-column.
        wanted: the name that the user gave; case does not matter.
        usual: names to look for, best first, lower case.
        fits: whether a column has a suitable type.
    Raises:
        DataError: the column that the user named does not exist; the message lists similar names.
    """
    lower = {name.strip().lower(): name for name in reversed(names)}  # if two names are equal, the first one wins
    if wanted is None:
        return next((lower[name] for name in usual if name in lower and fits(lower[name])), None)
    if wanted in names:
        return wanted
    if wanted.strip().lower() in lower:
        return lower[wanted.strip().lower()]
    near = difflib.get_close_matches(wanted.lower(), lower, n=3)
    meant = f"; did you mean {' or '.join(lower[name] for name in near)}?" if near else ""
    raise DataError(f"{path} has no column {wanted!r} (--{what}-column); it has {', '.join(names)[:300]}{meant}")


def advise(names: Sequence[str], what: str, usual: Sequence[str]) -> str:
    """Advice for a table without a column of a usual name: which option to use, with a likely column if there is one.

    Args:
        names: the columns of a suitable type.
        what, usual: as in `choose_column`.
    """
    near = [name for name in names if any(hint in name.lower() for hint in _HINTS[what])]
    near += [name for name in names if name not in near and difflib.get_close_matches(name.lower(), usual, n=1)]
    named = f"--{what}-column {near[0]!r}" if near else f"--{what}-column NAME"
    return f"no column of {what}s ({', '.join(usual)}); name one with {named}"
