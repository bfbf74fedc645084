"""Choices that were made elsewhere: decisions about pairs, or thresholds, as JSON lines or CSV."""

import csv
import dataclasses
import io
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from diptych.errors import DataError
from diptych.files import expanded, open_regular
from diptych.overlap.judgements import DECISIONS, Decision, Identity

_COLUMNS = "dataset,key,nearest_key,decision or dataset,threshold"
_MAX_BYTES = 2**28  # a row takes about 100 bytes, so this is beyond what people judge


@dataclasses.dataclass(frozen=True)
class Choices:
    """What a file of choices contains.

    Attributes:
        decisions: by pair.
        thresholds: by evaluation set.
    """

    decisions: Mapping[Identity, Decision]
    thresholds: Mapping[str, float]


def read_choices(path: str | Path) -> Choices:
    """Read decisions (dataset, key, nearest_key, decision) or thresholds (dataset, threshold). Others are ignored.

    Args:
        path: CSV with a header if its name ends in .csv, otherwise one JSON object on each line.
    Raises:
        DataError: the file cannot be read, is empty, a row is neither, or two rows contradict each other; the message
            names file and line.
    """
    path = expanded(path)
    decisions: dict[Identity, Decision] = {}
    thresholds: dict[str, float] = {}
    for number, row in _rows(path, _text(path)):
        try:
            if "threshold" in row and "key" not in row:
                _put(thresholds, _name(row, "dataset"), _threshold(row["threshold"]))
            else:
                identity = _name(row, "dataset"), _name(row, "key"), _name(row, "nearest_key")
                if row.get("decision") not in DECISIONS:
                    raise ValueError(f"decision is {row.get('decision')!r}, not one of {', '.join(DECISIONS)}")
                _put(decisions, identity, row["decision"])
        except (ValueError, OverflowError) as error:
            raise DataError(f"{path}, line {number}: {error}; a row needs {_COLUMNS}") from error
    if not decisions and not thresholds:
        raise DataError(f"{path} contains no choice; its rows need {_COLUMNS}")
    return Choices(decisions, thresholds)


def _text(path: Path) -> str:
    try:
        with open_regular(path) as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise DataError(f"{path} has more than {_MAX_BYTES} bytes; is it a file of choices ({_COLUMNS})?")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}") from error


def _rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The rows with their line numbers."""
    if path.suffix.lower() == ".csv":
        reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
        try:
            for row in reader:
                yield reader.line_num, row
        except csv.Error as error:
            raise DataError(f"{path}, line {reader.line_num}: {error}; a row needs {_COLUMNS}") from error
        return
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError(f"it contains {type(row).__name__}, not an object")
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: {error}; a row needs {_COLUMNS}") from error
        yield number, row


def _name(row: Mapping[str, Any], column: str) -> str:
    name = row.get(column)
    if not isinstance(name, str) or not name:
        raise ValueError(f"{column} is {name!r}")
    return name


def _threshold(value: object) -> float:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        threshold = float(value)
        if math.isfinite(threshold):
            return threshold
    raise ValueError(f"threshold is {value!r}, not a number")


def _put(choices: dict, name: Any, value: Any) -> None:
    if choices.setdefault(name, value) != value:
        raise ValueError(f"{name} is {value} here and {choices[name]} above")
