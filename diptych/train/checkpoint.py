"""Checkpoints that are whole or absent, and that a killed run continues from."""

import contextlib
import logging
import os
import shutil
import time
from pathlib import Path
from typing import Any

import torch

from diptych.errors import CheckpointError
from diptych.train.config import CheckpointConfig

logger = logging.getLogger(__name__)

_PATTERN = "step-*.pt"


class Checkpoints:
    """The checkpoints of one run: written atomically, pruned, read back newest first."""

    def __init__(self, folder: Path, config: CheckpointConfig) -> None:
        self.folder = folder
        self.config = config
        self._last_time = time.monotonic()

    def paths(self) -> list[Path]:
        """Checkpoints on disk, oldest first."""
        return sorted(self.folder.glob(_PATTERN))

    def due(self, step: int) -> bool:
        """Whether the run should write one after `step` updates."""
        minutes = (time.monotonic() - self._last_time) / 60
        return step % self.config.every_steps == 0 or minutes >= self.config.every_minutes

    def write(self, step: int, state: dict[str, Any]) -> Path:
        """Write the state after `step` updates and remove what is older than the newest `keep`.

        Raises:
            CheckpointError: the disk is full or not writable; the checkpoints before stay as they were.
        """
        path = self.folder / f"step-{step:09d}.pt"
        partial = path.with_suffix(".partial")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                torch.save({**state, "step": step}, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            _sync(self.folder)
        # torch reports a failed write as RuntimeError, the file system as OSError.
        except (OSError, RuntimeError) as error:
            partial.unlink(missing_ok=True)
            raise CheckpointError(self._cannot_write(path, error)) from error
        for old in (*self.paths()[: -self.config.keep], *self.folder.glob("*.partial")):
            old.unlink(missing_ok=True)
        self._last_time = time.monotonic()
        return path

    def newest(self) -> dict[str, Any] | None:
        """The newest checkpoint that can be read, or None where there is none.

        Raises:
            CheckpointError: there are checkpoints, and none can be read.
        """
        damaged: list[str] = []
        for path in reversed(self.paths()):
            try:
                # mmap=False: the file may be pruned while its tensors are still in use.
                return torch.load(path, map_location="cpu", weights_only=True, mmap=False)
            except Exception as error:  # a damaged file can fail in any way; the one before it may be whole
                logger.warning("cannot read checkpoint %s (%s); trying the one before it", path, error)
                # Out of the way: it must not be counted as one to keep, nor be named as good.
                path.replace(path.with_suffix(".damaged"))
                damaged.append(path.name)
        if damaged:
            raise CheckpointError(f"no checkpoint in {self.folder} can be read; start the run anew in another folder")
        return None

    def last_good(self) -> str:
        """The newest checkpoint, for messages."""
        paths = self.paths()
        return f"the last good checkpoint is {paths[-1]}" if paths else "there is no checkpoint yet"

    def _cannot_write(self, path: Path, error: Exception) -> str:
        existing = next(folder for folder in (self.folder, *self.folder.parents) if folder.exists())
        free = shutil.disk_usage(existing).free / 2**20
        return (
            f"cannot write checkpoint {path}: {error} ({free:.0f} MiB free there). "
            f"Free some space and go on with --resume; {self.last_good()}"
        )


def _sync(folder: Path) -> None:
    """Make the renaming itself survive a power cut, where the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
