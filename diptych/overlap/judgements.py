"""What reviewers decide about pairs: FOLDER/judgements/REVIEWER.jsonl, one appended row for each decision.

    {"dataset", "key", "nearest_key", "score", "decision": "duplicate" | "different" | "unsure" | "undo"}

Each row is on disk before the reviewer sees the next pair. "undo" takes back the latest decision about its pair.
"""

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Literal, get_args

from diptych.errors import DataError, InputError
from diptych.files import expanded, locked, open_regular, writing

Decision = Literal["duplicate", "different", "unsure"]
DECISIONS: tuple[Decision, ...] = get_args(Decision)
Identity = tuple[str, str, str]
"""(dataset, key, nearest_key) of a pair."""
_UNDO = "undo"
_NAME = re.compile(r"\w[\w-]{0,63}")  # no dot: the file of a reviewer "a.jsonl" must not look like that of "a"


@dataclasses.dataclass(frozen=True)
class Pair:
    """An evaluation image and the most similar training image.

    Attributes:
        dataset, key: the evaluation image.
        nearest_key: the training image.
        score: the detector's score in [-1, 1].
    """

    dataset: str
    key: str
    nearest_key: str
    score: float

    @property
    def identity(self) -> Identity:
        """What a decision is about. The score is not part of it: another detector may give another one."""
        return self.dataset, self.key, self.nearest_key


class Judgements:
    """The decisions of one reviewer, open to be continued; the only writer of their file.

    Attributes:
        reviewer: name of the reviewer.
        path: the file.
        decisions: the latest decision about each pair.
    """

    def __init__(self, reviewer: str, path: Path, file: IO[bytes]) -> None:
        self.reviewer, self.path = reviewer, path
        self._file = file
        _heal(file)
        self._made = _replay(path, _content(file))
        self.decisions: dict[Identity, Decision] = dict(self._made)

    @property
    def last(self) -> Identity | None:
        """The pair of the latest decision that was not undone: what `undo` takes back."""
        return self._made[-1][0] if self._made else None

    def decide(self, pair: Pair, decision: Decision) -> None:
        """Save a decision. One that is the same as the pair's present decision adds no row.

        Raises:
            InputError: no such decision.
            DataError: the file cannot be written; then the decision does not hold.
        """
        if decision not in DECISIONS:
            raise InputError(f"{decision!r} is no decision; it must be {', '.join(DECISIONS)}")
        if self.decisions.get(pair.identity) == decision:
            return
        self._append(pair.identity, decision, pair.score)
        self._made.append((pair.identity, decision))
        self.decisions[pair.identity] = decision

    def undo(self) -> Identity | None:
        """Take back the latest decision, also one of an earlier session. An older decision about the pair holds again.

        Returns:
            The pair that was decided; None if there is none.
        """
        if not self._made:
            return None
        identity, _ = self._made[-1]
        self._append(identity, _UNDO)
        self._made.pop()
        self.decisions = dict(self._made)
        return identity

    def _append(self, identity: Identity, decision: str, score: float | None = None) -> None:
        dataset, key, nearest_key = identity
        row: dict[str, Any] = {"dataset": dataset, "key": key, "nearest_key": nearest_key}
        row |= {} if score is None else {"score": float(score)}
        line = json.dumps(row | {"decision": decision}).encode() + b"\n"
        size = self._file.seek(0, os.SEEK_END)
        try:
            with writing(self.path):
                if self._file.write(line) != len(line):
                    raise OSError("the disk took only a part of a row")
                os.fsync(self._file.fileno())
        except DataError:
            with contextlib.suppress(OSError):  # a part of a row on a full disk would make the next one unreadable
                self._file.truncate(size)
            raise


@contextlib.contextmanager
def open_judgements(folder: str | Path, reviewer: str) -> Iterator[Judgements]:
    """Continue a reviewer's judgements, or begin them.

    Args:
        folder: of the overlap analysis; the file is `judgements/REVIEWER.jsonl` in it.
        reviewer: 1 to 64 letters, digits, "_" or "-".
    Raises:
        InputError: the name cannot be used.
        DataError: the file is damaged or cannot be written, or the same reviewer is at work in another process.
    """
    if not _NAME.fullmatch(reviewer):
        raise InputError(f"{reviewer!r} cannot be a reviewer's name; use 1 to 64 letters, digits, '_' or '-'")
    path = _folder(folder) / f"{reviewer}.jsonl"
    with contextlib.ExitStack() as stack:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                file = stack.enter_context(locked(path, patience=0))
            except DataError:
                raise DataError(
                    f"{reviewer} is reviewing in another process, which has {path} open; end it, or review under "
                    "another name"
                ) from None
        yield Judgements(reviewer, path, file)


def read_judgements(folder: str | Path) -> dict[str, dict[Identity, Decision]]:
    """The latest decision about each pair, by reviewer; {} if nobody reviewed.

    An incomplete last row is what a killed process or a full disk leaves, or is being written: it does not count.

    Raises:
        DataError: a file cannot be read, or another row is damaged; the message names file and line.
    """
    found: dict[str, dict[Identity, Decision]] = {}
    try:
        paths = sorted(_folder(folder).glob("*.jsonl"))
        for path in paths:
            with open_regular(path) as file:
                content = file.read()
            found[path.stem] = dict(_replay(path, content[: _complete(content)]))
    except OSError as error:
        raise DataError(f"cannot read {error.filename or folder}: {error.strerror or error}") from error
    return {reviewer: decisions for reviewer, decisions in found.items() if decisions}


def _folder(folder: str | Path) -> Path:
    return expanded(folder) / "judgements"


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _complete(content: bytes) -> int:
    """The number of bytes up to the end of the last complete row."""
    return content.rfind(b"\n") + 1


def _heal(file: IO[bytes]) -> None:
    """Cut an incomplete last row off. Its decision was never confirmed to the reviewer, who is asked again."""
    content = _content(file)
    if (end := _complete(content)) != len(content):
        file.truncate(end)


def _replay(path: Path, content: bytes) -> list[tuple[Identity, Decision]]:
    """The decisions in their order, without those that were undone."""
    made: dict[int, tuple[Identity, Decision]] = {}  # by line
    lines_of: dict[Identity, list[int]] = {}
    for number, line in enumerate(content.split(b"\n")[:-1], 1):
        try:
            row = json.loads(line.decode())
            identity = _identity(row)
            decision = row["decision"]
            if decision == _UNDO:
                if not lines_of.get(identity):
                    raise ValueError("it takes back a decision that is not there")
                del made[lines_of[identity].pop()]
            elif decision in DECISIONS:
                made[number] = identity, decision
                lines_of.setdefault(identity, []).append(number)
            else:
                raise ValueError(f"{decision!r} is no decision")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise DataError(
                f"{path}, line {number} is no judgement: {reason[:200]}; restore a copy, or delete that line"
            ) from error
    return list(made.values())


def _identity(row: Any) -> Identity:
    if not isinstance(row, dict):
        raise ValueError(f"it contains {type(row).__name__}, not an object")
    names = row["dataset"], row["key"], row["nearest_key"]
    if not all(isinstance(name, str) for name in names):
        raise ValueError("dataset, key and nearest_key must be texts")
    return names


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How far two reviewers agree about the pairs that both judged.

    Attributes:
        first, second: the reviewers.
        num_both: pairs that both judged, at least 1.
        share: share of these with the same decision.
        kappa: Cohen's kappa, (share - e) / (1 - e) with e the share expected of independent reviewers with the same
            frequencies; None if both gave one and the same decision throughout (e = 1).
    """

    first: str
    second: str
    num_both: int
    share: float
    kappa: float | None


def agreements(judgements: Mapping[str, Mapping[Identity, Decision]]) -> list[Agreement]:
    """The agreement of each two reviewers who judged a common pair.

    Source: Cohen (1960).
    """
    found = []
    reviewers = sorted(judgements)
    for place, first in enumerate(reviewers):
        for second in reviewers[place + 1 :]:
            one, other = judgements[first], judgements[second]
            both = [(one[identity], other[identity]) for identity in one if identity in other]
            if not both:
                continue
            n, equal = len(both), sum(a == b for a, b in both)
            by_chance = sum(sum(a == d for a, _ in both) * sum(b == d for _, b in both) for d in DECISIONS)
            kappa = None if by_chance == n * n else (n * equal - by_chance) / (n * n - by_chance)
            found.append(Agreement(first, second, n, equal / n, kappa))
    return found


def merge_judgements(judgements: Mapping[str, Mapping[Identity, Decision]]) -> dict[Identity, Decision]:
    """One decision about each pair: that of its reviewers if it is the same, "unsure" otherwise."""
    merged: dict[Identity, Decision] = {}
    for decisions in judgements.values():
        for identity, decision in decisions.items():
            merged[identity] = decision if merged.get(identity, decision) == decision else "unsure"
    return merged
