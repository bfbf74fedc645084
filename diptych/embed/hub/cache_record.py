"""What Diptych knows about a repository in the hub's cache: the pinned commit, and the files that it has verified.

The record is a small JSON file in the repository's folder of the cache, so that it travels with a copy of the cache.
"""

import dataclasses
import json
import logging
import re
from pathlib import Path
from typing import Any

from diptych.errors import DataError, WeightsError
from diptych.files import hub_cache_folder, read_object, write_whole

logger = logging.getLogger(__name__)

COMMIT = re.compile(r"[0-9a-f]{40}")
_RECORD = "diptych.json"


@dataclasses.dataclass(frozen=True)
class CachedFile:
    """A verified file: its hash, and size and time of change at that moment."""

    hash: str
    size: int
    mtime_ns: int


class CachedRepository:
    """The folder of a repository in the hub's cache.

    Attributes:
        folder: CACHE/models--OWNER--NAME.
        pinned: the commit that the model's name means from the first fetch on; None before.
        license: identifier that the hub stated; None if it stated none.
    """

    def __init__(self, repository: str) -> None:
        cache = hub_cache_folder()
        if cache is None:
            raise WeightsError("this user has no home folder for the cache of models: set HF_HOME to a folder")
        self.folder = cache / f"models--{repository.replace('/', '--')}"
        values = self._read()
        commit = values.get("pinned")
        self.pinned = commit if isinstance(commit, str) and COMMIT.fullmatch(commit) else None
        license = values.get("license")
        self.license = license if isinstance(license, str) else None
        self._files: dict[str, dict[str, list[Any]]] = values.get("files") or {}

    def snapshot(self, commit: str) -> Path:
        """The folder of a commit's files."""
        return self.folder / "snapshots" / commit

    def blob(self, hash: str) -> Path:
        """The place of a file's content."""
        return self.folder / "blobs" / hash

    def reference(self, revision: str) -> str | None:
        """The commit that a branch or tag had when any tool last asked the hub; None if unknown."""
        try:
            commit = (self.folder / "refs" / revision).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return None
        return commit if COMMIT.fullmatch(commit) else None

    def write_reference(self, revision: str, commit: str) -> None:
        """Store the commit of a branch or tag, as the hub's own tools do."""
        write_whole(self.folder / "refs" / revision, commit.encode())

    def is_verified(self, commit: str, name: str) -> bool:
        """Whether the file was verified and has not changed since."""
        try:
            known = CachedFile(*self._files[commit][name])
            status = (self.snapshot(commit) / name).stat()
        except (KeyError, TypeError, OSError):
            return False
        return (status.st_size, status.st_mtime_ns) == (known.size, known.mtime_ns)

    def known_hash(self, commit: str, name: str) -> tuple[str, int] | None:
        """Hash and size of a file when it was verified; None if it never was."""
        try:
            known = CachedFile(*self._files[commit][name])
        except (KeyError, TypeError):
            return None
        return known.hash, known.size

    def names(self, commit: str) -> list[str]:
        """The files in a commit's folder."""
        folder = self.snapshot(commit)
        return sorted(path.name for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []

    def add(self, commit: str, name: str, hash: str) -> None:
        """Record a verified file."""
        status = (self.snapshot(commit) / name).stat()
        entry = CachedFile(hash, status.st_size, status.st_mtime_ns)
        self._files.setdefault(commit, {})[name] = list(dataclasses.astuple(entry))

    def save(self) -> None:
        """Write the record. On a read-only cache it is not kept, and the files are verified again next time."""
        values = {"pinned": self.pinned, "license": self.license, "files": self._files}
        try:
            write_whole(self.folder / _RECORD, json.dumps(values, indent=1).encode())
        except OSError as error:
            logger.warning("%s cannot be written: %s", self.folder / _RECORD, error.strerror or error)

    def _read(self) -> dict[str, Any]:
        try:
            values = read_object(self.folder / _RECORD)
        except DataError as error:
            if (self.folder / _RECORD).exists():
                logger.warning("%s; the files are verified again", error)
            return {}
        return values if isinstance(values.get("files") or {}, dict) else {}
