"""The frozen records that cross the borders between packages.

Shape letters, one legend for all of Diptych: N pairs here, G pairs in all ranks, L tokens, W width, H heads,
E embedding, C classes, T templates, K top-k, R resolution.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from diptych.errors import DataError
from diptych.files import expanded, locked, new_file, open_regular

if TYPE_CHECKING:
    import numpy as np
    import torch

T = TypeVar("T")

_log = logging.getLogger(__name__)
_LONGEST_ROW = 16 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One picture with its texts, as readers yield it and as overlap and curation pass it on.

    Attributes:
        key: unique name inside its source.
        image: the encoded file (JPEG, PNG, WebP, ...), or pixels already decoded, uint8 (height, width, 3).
        texts: the captions; empty in sets that have labels alone.
        label: class index in labelled sets.
        metadata: what else came with the sample (parsed .json, parquet columns).
    """

    key: str
    image: bytes | np.ndarray
    texts: tuple[str, ...] = ()
    label: int | None = None
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Broken:
    """A member of a source that could not be used: it is counted, named in the log and skipped.

    Attributes:
        key: unique name inside its source.
        shard: where it lies.
        reason: why it cannot be used.
        rest_lost: all that followed it in its shard is lost, too, and nobody can tell how much that was.
        by_layout: its file is sound, but its name or its place loses it, as it loses others: a measurement stops.
        instead_of: the reason that stood for this sample so far: it is counted already, and this one tells more.
    """

    key: str
    shard: str
    reason: str
    rest_lost: bool = False
    by_layout: bool = False
    instead_of: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """Pairs ready for a device; pixels are normalised there.

    Attributes:
        images: uint8 (N, 3, R, R).
        tokens: int32 (N, L), zero-padded to the longest caption of the batch.
        lengths: int64 (N,), number of tokens from SOT to the first EOT.
        keys: N sample keys.
    """

    images: torch.Tensor
    tokens: torch.Tensor
    lengths: torch.Tensor
    keys: tuple[str, ...]

    def __repr__(self) -> str:
        """Shapes, not numbers."""
        return f"Batch(images {tuple(self.images.shape)}, tokens {tuple(self.tokens.shape)})"

    def __len__(self) -> int:
        return len(self.keys)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """Vectors float32 (N, E) of unit norm, their N keys, perhaps read lazily, and the manifest of their origin."""

    vectors: np.ndarray
    keys: Sequence[str]
    manifest: Mapping[str, Any]


_FRACTIONS = re.compile(r"(text_|image_)?(accuracy|recall_at_|mean_per_class_|mean_of_top_|roc_auc|within_)")
_ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True, slots=True)
class Predictions:
    """What a classifier said about each sample of a set.

    Attributes:
        keys: N sample keys.
        labels: int64 (N,), true classes.
        classes: int64 (N, K), predicted classes, best first.
        scores: float32 (N, K), their probabilities.
        ranks: int64 (N,), of the true class among all, 1 being the best; None where nobody counted.
    """

    keys: tuple[str, ...]
    labels: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    ranks: np.ndarray | None = None

    def __repr__(self) -> str:
        """Shapes, not numbers."""
        ranks = "without" if self.ranks is None else "with"
        return f"Predictions({len(self.keys)} samples, best {self.classes.shape[-1]} classes, {ranks} ranks)"


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """One measured number: a row of a results.jsonl file.

    Attributes:
        task: kind of measurement, e.g. "zero_shot".
        metric: "accuracy", "accuracy_top_5", "mean_per_class_accuracy", "recall_at_k", ...: fractions in [0, 1];
            another unit stands in the name ("error_km").
        interval: method and level of [low, high], e.g. "clopper-pearson 99.5%"; None where there is none.
        protocol: how it was measured; for zero-shot "single" or "ensemble".
        paper: None, or {"value", "source"}: the paper's own number.
        run: {"command", "commit", "machine", "fingerprint"}; of `diptych evaluate` on folders "folder", too.
    """

    task: str
    dataset: str
    split: str
    metric: str
    value: float
    n: int
    low: float | None
    high: float | None
    interval: str | None
    protocol: str
    model: str
    paper: Mapping[str, Any] | None = None
    run: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def identity(self) -> tuple[str, ...]:
        """What is measured: two Results of one identity are two measurements of one number."""
        return (self.task, self.dataset, self.split, self.metric, self.protocol, self.model)

    def setting(self, name: str, kind: type[T]) -> T | None:
        """What stands under `name` in run["settings"]; None where nothing of that kind does. A float may be whole."""
        settings = self.run.get("settings")
        value = settings.get(name) if isinstance(settings, Mapping) else None
        fits = is_number(value) if kind is float else isinstance(value, kind)
        return value if fits and (kind is not int or is_number(value)) else None


def check_result(result: Result) -> None:
    """Refuse what is no measurement.

    Raises:
        ValueError: names the field, and what is wrong with it.
    """
    for name in ("task", "dataset", "split", "metric", "protocol", "model"):
        if not isinstance(getattr(result, name), str):
            raise ValueError(f"{name} is {getattr(result, name)!r:.60}; it must be a text")
    if result.interval is not None and not isinstance(result.interval, str):
        raise ValueError(f"interval is {result.interval!r:.60}; it must be a text or null")
    if isinstance(result.n, bool) or not isinstance(result.n, int) or result.n < 0:
        raise ValueError(f"n is {result.n!r:.60}; it must be a whole number, 0 or more")
    for name in ("value", "low", "high"):
        number = getattr(result, name)
        if number is None and name != "value":
            continue
        if not is_number(number):
            raise ValueError(f"{name} is {number!r:.60}; it must be a finite number")
        if _FRACTIONS.match(result.metric) and not -_ROUNDING <= number <= 1 + _ROUNDING:
            raise ValueError(f"{name} is {number!r:.60}; {result.metric:.60} is a fraction, from 0 to 1")
    if (result.low is None) != (result.high is None):
        raise ValueError("one of low and high is null; an interval has both ends")
    if result.low is not None and result.high is not None:
        # The percentiles of a bootstrap of very few samples may lie beside the value.
        inside = result.low <= result.value <= result.high or (result.interval or "").startswith("bootstrap")
        if result.low > result.high or not inside:
            raise ValueError(f"low, value and high are {result.low}, {result.value} and {result.high}; they must rise")
    if result.paper is not None and not isinstance(result.paper, Mapping):
        raise ValueError(f"paper is {result.paper!r:.60}; it must be an object or null")
    if not isinstance(result.run, Mapping):
        raise ValueError(f"run is {result.run!r:.60}; it must be an object")


def is_number(value: Any) -> bool:
    """Whether it is a finite number, and no truth value."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False


def write_results(results: Iterable[Result], path: str | Path) -> None:
    """Append results to a JSON-lines file, one row each: all or none; the folder is made if it is missing.

    Several processes may append to one file: each waits until it has the file alone.

    Raises:
        DataError: a result is none (NaN, a wrong type), or the file cannot be written (a full disk) or holds something
            else; it is as it was.
    """
    path = expanded(path)
    rows = _encoded(results)
    with _writing(path) as file:
        length = _healed(file, path)
        _write_all_or_none(file, rows, length)


def merge_results(results: Iterable[Result], path: str | Path) -> int:
    """Put results into a JSON-lines file, each in the place of one that measured the same before.

    The file appears whole: readers and a crash find it as it was, or as it is after.

    Args:
        results: the last one of each `identity` counts.
        path: the file; it and its folder are made if they are missing.
    Returns:
        how many rows of the file were replaced.
    Raises:
        DataError: as for write_results, or the file has a row that is no result.
    """
    path = expanded(path)
    results = list(results)
    _encoded(results)  # refuses what is no result before the file is touched
    new = {result.identity: result for result in results}
    with _writing(path) as file:
        file.seek(0)
        before = _parsed(file.read(), path)
        kept = {row.identity: row for row in before}
        # The lock belongs to the old file: a process that waits for it then finds the new one under the name.
        with new_file(path) as unfinished:
            unfinished.write_bytes(_encoded({**kept, **new}.values()))
    return len(kept.keys() & new.keys())


def read_results(path: str | Path) -> list[Result]:
    """Read a results.jsonl file back.

    Rows that an interrupted process glued together are read one by one, and of a torn row nothing but a notice is left.

    Raises:
        DataError: the file cannot be read, or a row is no Result; the message names file and line.
    """
    try:
        with open_regular(path := expanded(path)) as file:
            content = file.read()
    except OSError as error:
        raise DataError(f"cannot read results from {path}: {error.strerror}") from error
    return _parsed(content, path)


def _encoded(results: Iterable[Result]) -> bytes:
    """The rows of results, or DataError for one that is none."""
    lines = []
    for number, result in enumerate(results, start=1):
        try:
            check_result(result)
            lines.append(json.dumps(dataclasses.asdict(result), ensure_ascii=False, allow_nan=False) + "\n")
        except (ValueError, TypeError, RecursionError) as error:
            where = f"{result.task} of {result.dataset}" if isinstance(result, Result) else repr(result)[:60]
            raise DataError(f"result {number} ({where}) cannot be written: {error}; nothing was written") from error
    # The name of a file may hold half a surrogate pair, which UTF-8 has not; its backslash form is JSON's own.
    return "".join(lines).encode("utf-8", "backslashreplace")


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[IO[bytes]]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path) as file:
            yield file
    except OSError as error:
        raise DataError(
            f"cannot write results to {path}: {error.strerror}; free some space or choose another file"
        ) from error


def _healed(file: IO[bytes], path: Path) -> int:
    """End the last row where a process was killed in it, and return the length of what is whole.

    A last row that lacks nothing but its newline gets it; of a torn one nothing can be saved, and it is cut off.
    """
    length = file.seek(0, os.SEEK_END)
    if length == 0:
        return 0
    file.seek(0)
    if file.read(1) not in b"{ \r\n\t":
        raise DataError(f"{path} is no file of results: it does not begin with a row; choose another file")
    begin = max(0, length - _LONGEST_ROW)
    file.seek(begin)
    content = file.read()
    if begin and b"\n" not in content:
        raise DataError(f"{path} is no file of results: its last row is longer than {_LONGEST_ROW >> 20} MiB")
    tail = content[content.rfind(b"\n") + 1 :]
    if not tail.strip():
        return length
    try:
        json.loads(tail)
    except (ValueError, RecursionError):
        _log.warning("the last row of %s was torn (a killed process, a full disk) and is taken out: %.200r", path, tail)
        file.truncate(length - len(tail))
        return length - len(tail)
    _write_all_or_none(file, b"\n", length)
    return length + 1


def _write_all_or_none(file: IO[bytes], rows: bytes, length: int) -> None:
    """Append to an unbuffered file of that length; a partial write on a full disk is truncated."""
    rest = memoryview(rows)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError:
        with contextlib.suppress(OSError):  # of the two errors, the first tells more
            file.truncate(length)
        raise


def _parsed(content: bytes, path: Path) -> list[Result]:
    begins = content.lstrip()[:1] == b"{"
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        # A crash or a power cut ends the last line anywhere, in a character too; what follows there is no row.
        if not begins or b"\n" in content[error.start :]:
            raise DataError(f"{path} holds no results: it is not UTF-8 (byte {error.start})") from error
        text = content[: error.start].decode("utf-8") + "\ufffd"
    lines, results = text.split("\n"), []
    for number, line in enumerate(lines, start=1):
        try:
            for row in _rows(line, last=begins and number == len(lines), where=f"{path}, line {number}"):
                results.append(parse_result(row))
        except (ValueError, TypeError, RecursionError) as error:
            raise DataError(f"{path}, line {number} is no result ({error}); mend the line or take it out") from error
    return results


def _rows(line: str, *, last: bool, where: str) -> Iterator[Any]:
    """The JSON values of a line: one, or several that were glued together; a torn one ends with a notice.

    Raises:
        ValueError: the line is no JSON.
    """
    decoder, begin = json.JSONDecoder(), 0
    while rest := line[begin:].strip():
        begin = line.index(rest[0], begin)
        try:
            value, begin = decoder.raw_decode(line, begin)
        except ValueError:
            # Torn by a crash: it is the last line, or a whole row follows in the same line.
            following = line.find('{"task": ', begin + 1)
            if not last and (following < 0 or not rest.startswith("{")):
                raise
            _log.warning("%s: a row was torn (a killed process, a full disk) and is left out: %.80r", where, rest)
            if following < 0:
                return
            begin = following
        else:
            yield value


def parse_result(row: Any) -> Result:
    """A Result of a parsed row.

    Raises:
        TypeError, ValueError: it is none; the message says why.
    """
    if not isinstance(row, dict):
        raise TypeError(f"it is no object but {row!r:.60}")
    if unknown := row.keys() - {field.name for field in dataclasses.fields(Result)}:
        names = ", ".join(sorted(map(str, unknown)))[:100]
        raise TypeError(f"unknown fields: {names}; a newer version of Diptych may have written it, install that")
    result = Result(**row)
    check_result(result)
    return result
