"""The output of a running training: a progress bar, rows of JSON, and TensorBoard."""

import contextlib
import dataclasses
import json
import logging
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from diptych import distributed
from diptych.errors import DataError, TrainingError
from diptych.files import expanded, new_file
from diptych.records import Result, parse_result

logger = logging.getLogger(__name__)


class TrainLog:
    """Writes log.jsonl with one row per `log_steps`, the same to TensorBoard, and a progress bar on the terminal.

    A row: {"step", "pairs", "loss", "lr", "scale", "gradient_norm", "pairs_per_second", "share_waiting", "seconds"};
    `loss` is the exact loss of that step, so that two runs can be compared bit for bit.
    """

    def __init__(self, folder: Path, num_steps: int, first_step: int) -> None:
        self._path = folder / "log.jsonl"
        self._evaluations = folder / "evaluations.jsonl"
        for path in (self._path, self._evaluations):
            with _errors_in_words(path):
                _forget_rows_after(path, first_step)
        with _errors_in_words(self._path):
            self._file = self._path.open("a", encoding="utf-8")
        self._tensorboard = _TensorBoard(folder / "tensorboard", first_step)
        self._bar = _Bar(num_steps, first_step)

    def row(self, row: dict[str, Any]) -> None:
        """Write one row everywhere.

        Raises:
            TrainingError: the disk is full.
        """
        with _errors_in_words(self._path):
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()
        self._bar.update(row)
        for name in ("loss", "lr", "scale", "gradient_norm", "pairs_per_second", "share_waiting"):
            self._tensorboard.point(name, row[name], row["step"])

    def results(self, step: int, results: list[Result]) -> None:
        """Write results measured during training: rows of evaluations.jsonl with their step, and points in TensorBoard.

        Raises:
            TrainingError: the disk is full.
        """
        with _errors_in_words(self._evaluations), self._evaluations.open("a", encoding="utf-8") as file:
            for result in results:
                file.write(json.dumps({"step": step, **dataclasses.asdict(result)}) + "\n")
        self._bar.validated(results)
        for result in results:
            name = f"{result.task}/{result.dataset}/{result.metric}/{result.protocol}"
            self._tensorboard.point(name, result.value, step)

    def step(self, step: int) -> None:
        """Advance the bar; cheap enough for every step."""
        self._bar.move(step)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Temporarily free the terminal for another bar."""
        self._bar.close()
        yield
        self._bar.open()

    def close(self) -> None:
        """Finish the bar and close the files."""
        self._bar.close()
        # `row` has reported a full disk already; another error here would hide it.
        with contextlib.suppress(OSError):
            self._file.close()
        self._tensorboard.close()


class _TensorBoard:
    """Points for TensorBoard, if installed. A full disk ends them with a warning: log.jsonl has the same data."""

    def __init__(self, folder: Path, first_step: int) -> None:
        self._writer: Any = None
        self._hook = threading.excepthook
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            logger.info("no TensorBoard log; to get one: pip install 'diptych[tensorboard]'")
            return
        # It writes in a separate thread, whose errors Python would print with a traceback.
        threading.excepthook = self._on_error_in_thread
        try:
            self._writer = SummaryWriter(str(folder), purge_step=first_step + 1)
        except (OSError, UnicodeError) as error:  # a folder name that is not UTF-8
            self._give_up(error)

    def point(self, name: str, value: float, step: int) -> None:
        """Add a point to one curve."""
        try:
            if self._writer is not None:
                self._writer.add_scalar(name, value, step)
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        """Write pending points, and close the file."""
        try:
            if self._writer is not None:
                self._writer.close()
        except OSError as error:
            self._give_up(error)
        if threading.excepthook == self._on_error_in_thread:
            threading.excepthook = self._hook

    def _give_up(self, error: Exception) -> None:
        self._writer = None
        logger.warning("no more TensorBoard log: %s", error)

    def _on_error_in_thread(self, error: threading.ExceptHookArgs) -> None:
        """Ignore the writer thread's OSErrors, which its next call raises here; pass on all others."""
        if type(error.thread).__module__.startswith("tensorboard") and isinstance(error.exc_value, OSError):
            return
        self._hook(error)


class SilentLog(TrainLog):
    """The log of the ranks that write nothing."""

    def __init__(self) -> None:
        pass

    def row(self, row: dict[str, Any]) -> None:
        """Do nothing."""

    def results(self, step: int, results: list[Result]) -> None:
        """Do nothing."""

    def step(self, step: int) -> None:
        """Do nothing."""

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Do nothing."""
        yield

    def close(self) -> None:
        """Do nothing."""


def open_log(folder: Path, num_steps: int, first_step: int) -> TrainLog:
    """The log of a run; in all ranks but the first a silent one."""
    return TrainLog(folder, num_steps, first_step) if distributed.is_main() else SilentLog()


class _Bar:
    """A live bar on a terminal; elsewhere a plain line every 30 seconds, for log files."""

    _SECONDS_BETWEEN_LINES = 30.0

    def __init__(self, num_steps: int, first_step: int) -> None:
        self._console = Console(stderr=True)
        self._live = self._console.is_terminal
        self._validation = ""
        self._num_steps, self._last_line, self._began, self._first = num_steps, 0.0, time.monotonic(), first_step
        columns = (
            TextColumn("training"),
            BarColumn(bar_width=None),
            TextColumn("step {task.completed:.0f}/{task.total:.0f}  {task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
        )
        self._progress = Progress(*columns, console=self._console)
        self._task = self._progress.add_task("train", total=num_steps, completed=first_step, figures="")
        self.open()

    def open(self) -> None:
        if self._live:
            self._progress.start()

    def move(self, step: int) -> None:
        if self._live:
            self._progress.update(self._task, completed=step)

    def validated(self, results: list[Result]) -> None:
        """Show the newest validation loss next to the training loss."""
        values = {result.metric: result.value for result in results if result.task == "held_out_pairs"}
        if "loss_nats" in values:
            self._validation = f"validation {values['loss_nats']:.3f}  "

    def update(self, row: dict[str, Any]) -> None:
        figures = (
            f"loss {row['loss']:.3f}  {self._validation}{row['pairs_per_second']:,.0f} pairs/s  "
            f"waiting for data {row['share_waiting']:.0%}"
        )
        if self._live:
            self._progress.update(self._task, completed=row["step"], figures=figures)
            return
        now = time.monotonic()
        if now - self._last_line >= self._SECONDS_BETWEEN_LINES or row["step"] >= self._num_steps:
            self._last_line = now
            done = max(1, row["step"] - self._first)
            left = (now - self._began) / done * (self._num_steps - row["step"])
            print(f"step {row['step']}/{self._num_steps}  {figures}  left {left / 60:.1f} min", file=sys.stderr)

    def close(self) -> None:
        if self._live:
            self._progress.stop()


def read_log(folder: str | Path) -> list[dict[str, Any]]:
    """The rows of a run's log.jsonl, as dictionaries of numbers; damaged or truncated rows are left out.

    Raises:
        DataError: there is no such file.
    """
    rows = _read_rows(expanded(folder) / "log.jsonl")
    return [row for row in rows if "loss" in row and all(map(_is_number, row.values()))]


def read_evaluations(folder: str | Path) -> list[tuple[int, Result]]:
    """The results measured during a run, each with its number of updates, from its evaluations.jsonl; [] if missing.

    Damaged or truncated rows are left out.
    """
    path, evaluations = expanded(folder) / "evaluations.jsonl", []
    for row in _read_rows(path) if path.exists() else ():
        with contextlib.suppress(ValueError, TypeError):
            evaluations.append((row["step"], parse_result({name: row[name] for name in row if name != "step"})))
    return evaluations


def _read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows that are JSON objects with a step number."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    rows = []
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            row = json.loads(line)
            if isinstance(row, dict) and type(row.get("step")) is int and row["step"] >= 0:
                rows.append(row)
    if len(rows) < len(lines):
        logger.warning("%d of %d rows of %s are damaged and left out", len(lines) - len(rows), len(lines), path)
    return rows


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


@contextlib.contextmanager
def _errors_in_words(path: Path) -> Iterator[None]:
    """Turn an OSError, such as from a full disk, into an error that says what to do."""
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"cannot write {path}: {error.strerror}. Free some space and continue with --resume"
        ) from error


def _forget_rows_after(path: Path, step: int) -> None:
    """Remove the rows after the checkpoint: a resumed run writes them again."""
    if not path.exists():
        return
    kept = [json.dumps(row) + "\n" for row in _read_rows(path) if row["step"] <= step]
    with new_file(path) as unfinished:
        unfinished.write_text("".join(kept), encoding="utf-8")
