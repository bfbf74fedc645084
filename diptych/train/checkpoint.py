"""Checkpoints that are complete or absent, and that a killed run resumes from.

    checkpoints/step-000001000.pt                    all in one file, or
    checkpoints/step-000001000/rank-0-of-8.pt ...    one file for each rank
    checkpoints/scores.json                          scores of the evaluators for each checkpoint

All ranks call `due`, `measured`, `write` and `newest` together, and continue or fail together. They share a file
system.
"""

import contextlib
import json
import logging
import math
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from diptych import distributed
from diptych.errors import CheckpointError, ConfigError, DiptychError
from diptych.files import new_file, remove, remove_unfinished, sync_folder
from diptych.records import Result
from diptych.train.config import CheckpointConfig
from diptych.train.sharded_state import gathered, read_file, read_shards, write_file, write_shard
from diptych.train.state_check import check_saved

logger = logging.getLogger(__name__)

_NAME = re.compile(r"step-(\d+)(\.pt)?")
_SCORES = "scores.json"


class Checkpoints:
    """The checkpoints of one run: written atomically, pruned, read newest first."""

    def __init__(self, folder: Path, config: CheckpointConfig) -> None:
        self.folder = folder
        self.config = config
        self._last_time = time.monotonic()
        self._best_so_far: int | None = None
        self._read: Path | None = None
        self._scores = self._read_scores()

    def paths(self) -> list[Path]:
        """Checkpoints on disk, oldest first: files, and folders of shards."""
        checkpoints = [path for path in self.folder.glob("step-*") if _NAME.fullmatch(path.name)]
        return sorted(checkpoints, key=lambda path: (_step(path), path.name))

    def due(self, step: int) -> bool:
        """Whether the run should write one after `step` updates; the same answer in all ranks.

        It is due every `every_steps` steps, every `every_minutes` minutes, and after the best score so far.
        """
        if step % self.config.every_steps == 0:
            return True
        minutes = (time.monotonic() - self._last_time) / 60
        return distributed.any_rank(minutes >= self.config.every_minutes or self._best_so_far == step)

    def measured(self, step: int, score: float) -> None:
        """Store the evaluators' score of the weights after `step` updates, for `keep_best`.

        Args:
            score: higher is better; NaN counts as not measured.
        Raises:
            CheckpointError: the disk is full or not writable.
        """
        if self.config.keep_best is None or math.isnan(score):
            return
        on_disk = {_step(path) for path in self.paths()} - {step}
        self._scores = {known: value for known, value in self._scores.items() if known in on_disk}
        if all(score > value for value in self._scores.values()):
            self._best_so_far = step
        self._scores[step] = score
        self._together(self.folder / _SCORES, self._write_scores)

    def write(self, step: int, state: dict[str, Any] | None, *, score: float | None = None) -> Path:
        """Write the state after `step` updates, and remove what the configuration does not keep.

        Args:
            state: nested dicts, lists and tuples of tensors and plain values. DTensors are gathered, or written as
                shards; everything else is rank 0's. For one file, ranks without DTensors may pass None.
            score: as for `measured`.
        Returns:
            the checkpoint.
        Raises:
            CheckpointError: in all ranks, if the disk of one is full or not writable; earlier checkpoints are
                unchanged.
        """
        if score is not None:
            self.measured(step, score)
        path = self.folder / (f"step-{step:09d}" if self.config.sharded else f"step-{step:09d}.pt")
        state = None if state is None else {**state, "step": step}
        if self.config.sharded:
            if state is None:
                raise ValueError("a sharded checkpoint needs the state of every rank")
            unfinished = self.folder / f"step-{step:09d}.partial"  # the same in all ranks
            self._together(path, lambda: self._make_room(unfinished))
            self._together(path, lambda: write_shard(unfinished, state), in_all=True)
            self._together(path, lambda: self._publish(unfinished, path))
        else:
            whole = gathered(state)

            def write() -> None:
                self._make_room()
                with new_file(path, durable=True) as unfinished:
                    write_file(unfinished, whole)
                self._prune()

            self._together(path, write)
        self._last_time = time.monotonic()
        return path

    def newest(self) -> dict[str, Any] | None:
        """The newest readable checkpoint, whole and in CPU tensors; None if there is none.

        Raises:
            CheckpointError: in all ranks: there are checkpoints and none can be read, memory is too small, or a rank
                cannot read what rank 0 can.
        """
        names: list[str] = distributed.from_main([path.name for path in self.paths()])
        for name in reversed(names):
            path, state, failure = self.folder / name, None, None
            try:
                # A file is read into memory (no mmap): it may be pruned while its tensors are still in use.
                state = read_shards(path) if path.is_dir() else read_file(path)
                check_saved(state, _step(path))
            except Exception as error:  # a damaged file can fail in any way; an earlier one may be intact
                failure = f"{type(error).__name__}: {error}"
                if type(error).__name__ == "UnpicklingError":  # torch's own message advises to run the code in it
                    failure = "it holds other things than tensors and plain values"
                if isinstance(error, MemoryError) or "allocate memory" in failure:
                    failure = "out of memory"
            failures = distributed.gather_objects(failure)
            if not any(failures):
                self._read = path
                return state
            self._explain(path, failures)
            if distributed.is_main():
                logger.warning("cannot read checkpoint %s (%s); trying the one before it", path, failures[0])
                _set_aside(path)
        if names:
            raise CheckpointError(f"no checkpoint in {self.folder} can be read; start a new run in another folder")
        return None

    @contextlib.contextmanager
    def naming_errors(self) -> Iterator[None]:
        """Within, turn any error from using the state that `newest` read into one error that names the checkpoint.

        Raises:
            CheckpointError: names the checkpoint, what is wrong with it, and what to do.
        """
        try:
            yield
        except DiptychError:
            raise
        except Exception as error:  # a state of another shape can fail in any way
            others = [path for path in self.paths() if path != self._read]
            advice = (
                f"move it away, then --resume continues from {others[-1]}"
                if others
                else "start a new run in another folder (--out)"
            )
            raise CheckpointError(f"checkpoint {self._read} does not fit this run: {error}; {advice}") from error

    def last_good(self) -> str:
        """The newest checkpoint, for messages."""
        paths = self.paths()
        return f"the last good checkpoint is {paths[-1]}" if paths else "there is no checkpoint yet"

    def _explain(self, path: Path, failures: list[str | None]) -> None:
        """Raise if the checkpoint is not damaged, so that an earlier one would fail in the same way."""
        rank = next(rank for rank, failure in enumerate(failures) if failure)
        if "out of memory" in failures:
            raise CheckpointError(f"not enough memory to read checkpoint {path}; start fewer processes here")
        if failures[0] is None:
            raise CheckpointError(
                f"process {rank} cannot read checkpoint {path}, which process 0 can read ({failures[rank]}): the run's "
                "folder (--out) must be on a file system that all machines share"
            )

    def _together(self, path: Path, act: Callable[[], None], *, in_all: bool = False) -> None:
        """Act in rank 0, or in all ranks; a failure in one raises the same error in all, so that none waits forever."""
        failure = cause = None
        if in_all or distributed.is_main():
            try:
                act()
            # torch reports a failed write as RuntimeError, the file system as OSError.
            except (OSError, RuntimeError) as error:
                failure, cause = self._cannot_write(path, error), error
        failures = [message for message in distributed.gather_objects(failure) if message]
        if failures:
            if distributed.is_main():
                with contextlib.suppress(OSError):  # the first error is the one that matters
                    self._remove_unfinished()
            raise CheckpointError(failures[0]) from cause

    def _make_room(self, unfinished: Path | None = None) -> None:
        """Create the folders, and remove leftovers of a killed write."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._remove_unfinished()
        if unfinished is not None:
            unfinished.mkdir()

    def _publish(self, unfinished: Path, path: Path) -> None:
        """Give a complete folder of shards its name, and remove older checkpoints."""
        if path.is_dir():  # the same step again; a folder cannot be replaced atomically
            path.rename(path.with_name(f"{path.name}.old.partial"))
        sync_folder(unfinished)
        unfinished.replace(path)
        sync_folder(self.folder)
        self._prune()

    def _prune(self) -> None:
        """Remove the checkpoints that the configuration does not keep."""
        for old in self._not_kept():
            # A half-removed folder must not look like a checkpoint.
            remove(old.rename(old.with_name(f"{old.name}.partial")) if old.is_dir() else old)
        self._remove_unfinished()

    def _not_kept(self) -> list[Path]:
        """Checkpoints that `keep`, `keep_every_steps` and `keep_best` do not keep; of equal scores the first stays."""
        paths, every = self.paths(), self.config.keep_every_steps
        scores = {_step(path): self._scores[_step(path)] for path in paths if _step(path) in self._scores}
        best = max(scores, key=lambda step: (scores[step], -step)) if self.config.keep_best and scores else None
        older = paths[: -self.config.keep]
        return [path for path in older if _step(path) != best and not (every and _step(path) % every == 0)]

    def _remove_unfinished(self) -> None:
        """The run's folder is locked: no other process is writing here."""
        remove_unfinished(self.folder, of_living=True)
        for leftover in self.folder.glob("*.partial"):
            remove(leftover)

    def _read_scores(self) -> dict[int, float]:
        """Scores from earlier calls of this run; empty if they are of another metric, or the file is damaged."""
        try:
            saved = json.loads((self.folder / _SCORES).read_text(encoding="utf-8"))
            if saved["metric"] == self.config.keep_best:
                return {int(step): float(score) for step, score in saved["scores"].items()}
        except OSError:
            pass
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            logger.warning("cannot read %s (%s); the best checkpoint is unknown", self.folder / _SCORES, error)
        return {}

    def _write_scores(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"metric": self.config.keep_best, "scores": self._scores}, indent=2) + "\n"
        with new_file(self.folder / _SCORES, durable=True) as unfinished:
            unfinished.write_text(text, encoding="utf-8")

    def _cannot_write(self, path: Path, error: Exception) -> str:
        existing = next(folder for folder in (self.folder, *self.folder.parents) if folder.is_dir())
        free = shutil.disk_usage(existing).free / 2**20
        if distributed.rank() > 0 and isinstance(error, FileNotFoundError):
            return (
                f"cannot write checkpoint {path}: process {distributed.rank()} does not see the folder that process 0 "
                f"created; it must be on a file system that all machines share (--out). {self.last_good()}"
            )
        return (
            f"cannot write checkpoint {path}: {error} ({free:.0f} MiB free there). "
            f"Free some space and continue with --resume; {self.last_good()}"
        )


def mean_score(results: Iterable[Result], metric: str) -> float:
    """The mean of a metric over all results that have it, to choose the best checkpoint by.

    Raises:
        ConfigError: no result has it; the message lists the metrics there are.
    """
    results = list(results)
    values = [result.value for result in results if result.metric == metric]
    if not values:
        known = ", ".join(sorted({result.metric for result in results})) or "nothing"
        raise ConfigError(f"checkpoint.keep_best is {metric!r}, but the evaluators measure {known}")
    return sum(values) / len(values)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-").removesuffix(".pt"))


def _set_aside(path: Path) -> None:
    """Rename a damaged checkpoint: it must not count as one to keep, nor be reported as good."""
    damaged = path.with_suffix(".damaged")
    with contextlib.suppress(OSError):  # in a read-only folder nothing is pruned either
        remove(damaged)
        path.replace(damaged)
