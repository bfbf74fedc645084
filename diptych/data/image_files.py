"""Which files of a folder are images: one rule for training, evaluation and classify.

An image has a suffix from IMAGE_EXTENSIONS, in upper or lower case. Skipped are hidden files and folders, files that
file managers create, links to folders, and suffixes that cannot be read here. Skipped files are counted and reported.
"""

import collections
import functools
import importlib.util
import logging
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import PIL
from PIL import features

logger = logging.getLogger(__name__)

HEIF_EXTENSIONS = ("heic", "heif", "hif")
IMAGE_EXTENSIONS = (
    *("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm"),
    *("jpe", "jfif", "pgm", "pbm", "pnm", "avif", *HEIF_EXTENSIONS),
)
"""Lower case, without the dot. If several images in a shard have the same key, the first in this order is used."""

_SYSTEM_FOLDERS = {"__MACOSX", "@eaDir"}  # from macOS archives and Synology servers
_SYSTEM_FILES = {"thumbs.db", "desktop.ini"}
_MAX_KINDS, _MAX_SUFFIX = 8, 12
_noticed: set[str] = set()


class PassedOver:
    """Counts of the skipped files by kind, with the first file of each kind.

    Args:
        images_only: count only images whose decoder is missing: published archives contain other files by design.
    """

    def __init__(self, images_only: bool = False) -> None:
        self._images_only = images_only
        self._counts: collections.Counter[str] = collections.Counter()
        self._first: dict[str, str] = {}

    def add(self, kind: str, name: str) -> None:
        """Count a file; `kind` is a suffix such as ".mov", or a description such as "hidden image"."""
        if self._images_only and not missing_decoder(kind.removeprefix(".")):
            return
        self._counts[kind] += 1
        self._first.setdefault(kind, name)

    def total(self) -> int:
        """The number of files and folders that were skipped."""
        return self._counts.total()

    def notice(self, before: str = "") -> str:
        """One line, "passed over 12 files: 7 .heic (install diptych[heif]), 5 .mov (e.g. a.mov)"; "" for none.

        Args:
            before: text put in front of the line, if there is one.
        """
        if not self._counts:
            return ""
        shown = [f"{count} {kind} ({self._remark(kind)})" for kind, count in self._counts.most_common(_MAX_KINDS)]
        if rest := self.total() - sum(count for _, count in self._counts.most_common(_MAX_KINDS)):
            shown.append(f"{rest} others")
        files = "file" if self.total() == 1 else "files"
        return f"{before}passed over {self.total()} {files}: {', '.join(shown)}"

    def _remark(self, kind: str) -> str:
        return missing_decoder(kind.removeprefix(".")) or f"e.g. {self._first[kind][:80]}"

    def log(self, where: str | Path) -> None:
        """Write the notice to the log, once per process."""
        line = f"{where}: {self.notice()}"
        if self._counts and line not in _noticed:
            _noticed.add(line)
            logger.warning("%s", line)


def walk_images(folder: Path, passed_over: PassedOver | None = None, sidecars: Iterable[str] = ()) -> Iterator[str]:
    """The images below a folder, as paths relative to it with "/", in no particular order.

    The folder itself may be a link. Links to folders inside it are not followed, so that there are no loops.

    Args:
        folder: searched at any depth.
        passed_over: counts the skipped files.
        sidecars: suffixes of files that belong to an image and are not counted.
    """
    passed_over = PassedOver() if passed_over is None else passed_over
    sidecar_suffixes = frozenset(sidecars)

    def unreadable(error: OSError) -> None:
        passed_over.add("folder that cannot be read", str(error.filename))

    for parent, folders, files in os.walk(folder, onerror=unreadable):
        below = Path(parent).relative_to(folder).as_posix()
        prefix = "" if below == "." else below + "/"
        for name in [name for name in folders if is_hidden_folder(name) or (Path(parent) / name).is_symlink()]:
            folders.remove(name)
            kind = "hidden folder" if is_hidden_folder(name) else "link to a folder, name its target instead"
            passed_over.add(kind, prefix + name)
        for name in files:
            if kind := _not_read(name, sidecar_suffixes):
                passed_over.add(kind, prefix + name)
            elif is_image_name(name):
                yield prefix + name


def is_image_name(name: str) -> bool:
    """Whether a file of this name in an image folder is read as an image: not hidden, and with a readable suffix."""
    suffix = name.rpartition(".")[2].lower() if "." in name else ""
    return not name.startswith(".") and suffix in IMAGE_EXTENSIONS and not missing_decoder(suffix)


def list_class_folders(base: Path, passed_over: PassedOver | None = None) -> list[str]:
    """The sorted names of the class folders in `base`: not the hidden ones, but including links to folders.

    Images outside class folders, and links that point to `base` or above it, are skipped.

    Raises:
        OSError: `base` cannot be listed.
    """
    passed_over = PassedOver() if passed_over is None else passed_over
    above, names = {base.resolve(), *base.resolve().parents}, []
    for entry in sorted(base.iterdir()):
        if not entry.is_dir():
            if is_image_name(entry.name):
                passed_over.add("image in no class folder", entry.name)
            elif kind := _not_read(entry.name, frozenset()):
                passed_over.add(kind, entry.name)
        elif is_hidden_folder(entry.name):
            passed_over.add("hidden folder", entry.name)
        elif entry.is_symlink() and entry.resolve() in above:
            passed_over.add("link that leads back", entry.name)
        else:
            names.append(entry.name)
    return names


@functools.cache
def missing_decoder(extension: str) -> str:
    """What to install to read images of this extension; "" if nothing is missing, or nothing would help."""
    if extension in HEIF_EXTENSIONS and importlib.util.find_spec("pillow_heif") is None:
        return "install diptych[heif]"
    if extension == "avif" and not has_avif():
        built_in = tuple(int(part) for part in re.findall(r"\d+", PIL.__version__)[:2]) >= (11, 3)
        return "this Pillow is built without AVIF: pip install a wheel of it" if built_in else "install Pillow >= 11.3"
    return ""


@functools.cache
def has_avif() -> bool:
    """Whether this version of Pillow reads AVIF without a plugin."""
    return "avif" in features.modules and bool(features.check("avif"))


def is_hidden_folder(name: str) -> bool:
    """Whether a folder of this name is skipped: hidden, or created by an archiver or a file server."""
    return name.startswith(".") or name in _SYSTEM_FOLDERS


def _not_read(name: str, sidecars: frozenset[str]) -> str:
    """The kind of a skipped file; "" for images and sidecars, and for hidden or system files that are no images."""
    suffix = name.rpartition(".")[2].lower() if "." in name else ""
    if name.startswith("."):
        return "hidden image" if suffix in IMAGE_EXTENSIONS else ""
    if is_image_name(name) or suffix in sidecars or name.lower() in _SYSTEM_FILES:
        return ""
    return f".{suffix[:_MAX_SUFFIX]}" if suffix else "without a suffix"
