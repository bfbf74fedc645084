"""The paper's evaluation of one model: every task on every set that is there, resumed where it was stopped.

    OUT/results.jsonl                          all Results of all models measured into OUT
    OUT/parts/<model>/<dataset>-<task>.json    one measurement: what it depended on, and its Results

A part is used again only where all that it depended on is the same: weights, preprocessing, data, task and its version.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from diptych.data.content import files_state
from diptych.embed.about import about
from diptych.embed.encoder import Encoder
from diptych.embed.resolver import as_encoder
from diptych.errors import ConfigError, DataError, InputError
from diptych.evalsets.card import Card
from diptych.evalsets.cards import get_card, is_paper_set
from diptych.evalsets.opening import failure, find_folder, missing, open_card
from diptych.evaluate.predictions import predictions_path, read_predictions
from diptych.evaluate.shown_classes import had_to_be_asked_for
from diptych.evaluate.tasks.task import Setting, Task
from diptych.files import expanded, read_or_none, write_whole
from diptych.records import Predictions, Result, check_result, parse_result

FORMAT = 1

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A measurement that could not be made.

    Attributes:
        task, dataset: which.
        reason: why, and what to do.
        absent: the set is not there; otherwise something went wrong.
    """

    task: str
    dataset: str
    reason: str
    absent: bool = False


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a run of the suite left: its Results, what it skipped, and how many measurements stood there before."""

    results: list[Result]
    skipped: list[Skipped]
    kept: int = 0


def run_suite(
    encoder: Encoder,
    tasks: Sequence[Task],
    cards: Sequence[Card],
    setting: Setting,
    out: str | Path,
    *,
    announce: Callable[[str], None] = lambda line: None,
) -> Measured:
    """Measure a model by each task on each set that the task applies to.

    What stands in `out` from an earlier run and still holds is not measured again. A set that is missing, or that
    cannot be measured, is named among what was skipped; the others go on.

    Args:
        encoder: the model.
        tasks, cards: what to measure.
        setting: where the sets are, and the cache.
        out: folder of the Results; after each measurement it holds all so far.
        announce: called with a line before each measurement.
    Raises:
        ConfigError: nothing is to be measured, or `out` holds results of another version of Diptych.
        DataError: the Results cannot be written.
    """
    encoder, out = as_encoder(encoder), expanded(out)
    pairs = [(task, card) for card in cards for task in tasks if task.applies(card)]
    if not pairs:
        names = ", ".join(task.name for task in tasks)
        raise ConfigError(f"none of these tasks applies to any of these sets: {names}; choose others")
    read_all(out)  # another version's results are an error here, before any work
    set_aside(out, encoder)
    there = {card.name: find_folder(card, setting.data) is not None for _, card in pairs}
    absent = [(task, card) for task, card in pairs if not there[card.name]]
    present = [(task, card) for task, card in pairs if there[card.name]]
    skipped = [Skipped(task.name, card.name, missing(card, setting.data), absent=True) for task, card in absent]
    results: list[Result] = []
    num_kept, seen, no_texts = 0, Seen(), about(encoder).no_texts
    for number, (task, card) in enumerate(present, start=1):
        line = f"[{number}/{len(present)}] {task.name} on {card.title}"
        if task.needs_texts and no_texts is not None:
            skipped.append(Skipped(task.name, card.name, f"{encoder.name} {no_texts}"))
            continue
        try:
            found, kept = _measure(encoder, task, card, setting, out, seen, lambda line=line: announce(line))  # type: ignore[misc]
        except InputError as error:
            _log.warning("%s is left out: %s", line, error)
            skipped.append(Skipped(task.name, card.name, str(error)))
            continue
        results += found
        num_kept += kept
        write_all(out)
    return Measured(results, skipped, num_kept)


Seen = dict[tuple[str, str, int | None], list[str] | None]
"""The state of each split as a run found it first, by card, split and fold: a split is listed once, not for each task.

What is measured later of data that changed meanwhile has the older mark, so that the next run measures it again.
"""


def _measure(
    encoder: Encoder, task: Task, card: Card, setting: Setting, out: Path, seen: Seen, announce: Callable[[], None]
) -> tuple[list[Result], bool]:
    """The Results, and whether they stood there from an earlier run."""
    mark = fingerprint(encoder, task, card, setting, seen)
    path = part_path(out, encoder.name, card.name, task.name)
    kept = read_part(path)
    folder = None if setting.predictions is None else Path(setting.predictions)
    if (
        kept is not None
        and mark is not None
        and kept["fingerprint"] == mark
        and _all_there(folder, kept["predictions"])
        and (setting.partial or not any(map(had_to_be_asked_for, kept["results"])))
    ):
        return kept["results"], True
    place = _own_folder(card, setting)
    if kept is not None and kept["folder"] and place not in (None, kept["folder"]):
        raise DataError(
            f"{out} holds results on another set called {card.name}, measured in {kept['folder']}; those of {place} "
            f"would take their place. Rename the folder, or give another --out; if it is the same set, moved, delete "
            f"{path}"
        )
    announce()
    before = _files_of(folder, encoder.name)
    found = task.measure(encoder, card, setting)
    written = [name for name, changed in _files_of(folder, encoder.name).items() if before.get(name) != changed]
    write_part(path, mark, found, model_mark(encoder), written, place)
    return found, False


def _own_folder(card: Card, setting: Setting) -> str | None:
    """Where a user's own set lies, which tells it from another of its name; None for a set of the paper's."""
    folder = None if is_paper_set(card.name) else find_folder(card, setting.data)
    return None if folder is None else str(folder.resolve())


def _all_there(folder: Path | None, names: Sequence[str]) -> bool:
    """Whether files of Predictions are there and can be read; a broken one is named, and measured again."""

    def read(path: Path) -> Predictions:
        return read_predictions(path)

    what = "the file of predictions"
    return folder is None or all(read_or_none(folder / name, read, what) is not None for name in names)


def _files_of(folder: Path | None, model: str) -> dict[str, int]:
    """When each file of a model's Predictions was written, by its name in their folder."""
    if folder is None:
        return {}
    paths = sorted(predictions_path(folder, model, "", "", "").parent.glob("*.parquet"))
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in paths}


def fingerprint(encoder: Encoder, task: Task, card: Card, setting: Setting, seen: Seen | None = None) -> str | None:
    """Of all that a measurement depends on; None for an encoder that does not say when it changes.

    Args:
        seen: splits that were looked at before; those that are looked at now are added.
    """
    known = about(encoder)
    marks = [known.image_fingerprint, *([known.text_fingerprint] if task.needs_texts else [])]
    if not all(marks):
        return None
    read = [(card, split) for split in task.splits(card)]
    read += [(get_card(name), split) for name, split in task.others(card)]
    looked: list[tuple[Card, str, int | None]] = [(one, split, None) for one, split in read]
    numbers = range(1, task.folds(card) + 1)
    looked += [(card, split, fold) for fold in numbers for split in task.splits(card)]
    seen = {} if seen is None else seen
    for one, split, fold in looked:
        if (one.name, split, fold) not in seen:
            seen[one.name, split, fold] = _data_mark(one, split, setting.data, fold)
    data = [seen[one.name, split, fold] for one, split, fold in looked]
    scale = known.logit_scale if task.needs_texts else None
    content = [FORMAT, task.name, task.version, card.name, card.metric, setting.seed, marks, scale, data]
    return hashlib.sha256(json.dumps(content).encode("utf-8", "surrogatepass")).hexdigest()


def _data_mark(card: Card, split: str, root: Path, fold: int | None = None) -> list[str] | None:
    """Of a split; None for a validation split or a fold that is not there, which tasks do without."""
    if split == "val" and "val" not in card.splits:
        return None
    try:
        found = open_card(card, root, split, fold=fold)
    except DataError:
        if split == "val" or fold is not None:
            return None
        raise
    except Exception as error:  # a reader that fails costs its own set alone
        raise DataError(f"{split}: {failure(error)}") from error
    # whole.txt decides which numbers say that they are over some of the classes.
    return [found.fingerprint, files_state(found.source), *found.absent, *(["whole"] if found.whole else [])]


def model_mark(encoder: Encoder) -> str:
    """Of all that a model's numbers depend on, whatever the task.

    An encoder that does not say what that is has a mark that ends with it: another process's may be another model.
    """
    known = about(encoder)
    marks: list[Any] = [known.image_fingerprint, known.text_fingerprint, known.logit_scale]
    marks = marks if marks[0] else [known.token or id(encoder)]
    return hashlib.sha256(json.dumps(marks).encode()).hexdigest()


def set_aside(out: Path, encoder: Encoder) -> None:
    """Rename the measurements of another model of the same name, such as one trained further, to *.json.old.

    Left among the others they would stand in one row with this model's.
    """
    mark, folder = model_mark(encoder), part_path(out, encoder.name, "", "").parent
    others = [path for path in sorted(folder.glob("*.json")) if _is_of_another(path, mark, encoder.name)]
    for path in others:
        path.replace(path.with_name(f"{path.name}.old"))
    if others:
        _log.warning(
            "%s holds %d measurements of another model called %s (other weights, preprocessing or precision, or it has "
            "no fingerprint that would tell): they are set aside as *.json.old; give each model a name or a folder of "
            "its own to keep both",
            out,
            len(others),
            encoder.name,
        )
        write_all(out)


def _is_of_another(path: Path, mark: str | None, name: str) -> bool:
    part = read_part(path)
    if part is None:
        return False
    return part["model"] not in (mark, "") or any(result.model != name for result in part["results"])


def part_path(out: Path, model: str, dataset: str, task: str) -> Path:
    """Where one measurement stands; other characters than letters, digits and ._@+- become "-"."""
    folder, name = (re.sub(r"[^\w.@+-]", "-", part).strip(".") or "-" for part in (model, f"{dataset}-{task}"))
    return Path(out) / "parts" / folder / f"{name}.json"


def write_part(
    path: Path,
    mark: str | None,
    results: Sequence[Result],
    model: str | None = "",
    predictions: Sequence[str] = (),
    folder: str | None = None,
) -> None:
    """Keep a measurement, whole or not at all.

    Args:
        path: of `part_path`.
        mark: of `fingerprint`.
        results: what was measured.
        model: of `model_mark`; "" where it is not known.
        predictions: files that were written beside it, by their names in the folder of Predictions.
        folder: where the set lies; None for a set of the paper's, which is the same one wherever it lies.
    Raises:
        InputError: a Result is no measurement, so that nobody could read it again.
        DataError: the disk is full, or the folder cannot be written.
    """
    for result in results:
        try:
            check_result(result)
        except ValueError as error:
            raise InputError(f"{result.metric} by {result.protocol} is no measurement: {error}; report it") from error
    content = {
        "format": FORMAT,
        "fingerprint": mark,
        "model": model,
        "predictions": list(predictions),
        "folder": folder,
        "results": [dataclasses.asdict(one) for one in results],
    }
    _write(path, json.dumps({**content, "digest": _digest(content)}, ensure_ascii=True, indent=1))


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def read_part(path: Path) -> dict[str, Any] | None:
    """{"fingerprint", "model", "predictions", "folder", "results"} of a measurement; None where there is no whole one.

    Raises:
        ConfigError: another version of Diptych wrote it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        _log.warning("%s is broken (%s); it is measured again", path, error)
        return None
    broken = ""
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        broken = "it states no format"
    elif "digest" in content and content.pop("digest") != _digest(content):  # older versions wrote none
        broken = "it was changed since it was written"
    if broken:
        _log.warning("%s is broken (%s); it is measured again", path, broken)
        return None
    if content["format"] != FORMAT:
        raise ConfigError(
            f"{path} was written by another version of Diptych; give another --out, or move the folder parts away"
        )
    try:
        found = [parse_result(row) for row in content["results"]]
        beside = {"model": content.get("model", ""), "predictions": list(content.get("predictions", ()))}
        if not all(isinstance(name, str) for name in beside["predictions"]):
            raise TypeError("predictions are names of files")
        beside["folder"] = content.get("folder")  # older versions wrote none
        return {"fingerprint": content["fingerprint"], **beside, "results": found}
    except Exception as error:  # whatever is broken in it, measuring again is right
        _log.warning("%s is broken (%r); it is measured again", path, error)
        return None


def read_results_of(out: Path, encoder: Encoder) -> list[Result]:
    """The Results in a folder of this model itself; those of another one of its name are not among them."""
    mark, folder = model_mark(encoder), part_path(out, encoder.name, "", "").parent
    parts = (path for path in sorted(folder.glob("*.json")) if not _is_of_another(path, mark, encoder.name))
    return [result for path in parts if (part := read_part(path)) is not None for result in part["results"]]


def read_all(out: Path) -> list[Result]:
    """The Results of all measurements in a folder, of all models, sorted by their files' names."""
    return [result for path in _parts(out) if (part := read_part(path)) is not None for result in part["results"]]


def write_all(out: Path) -> Path:
    """OUT/results.jsonl from all parts, whole or not at all.

    Where another process finishes a part in the meantime it is written again, so that the last one has all of them.
    """
    path = Path(out) / "results.jsonl"
    while True:
        before = _state(out)
        _write(path, "".join(json.dumps(dataclasses.asdict(result)) + "\n" for result in read_all(out)))
        if _state(out) == before:
            return path


def _state(out: Path) -> list[tuple[str, int]]:
    found = []
    for path in _parts(out):
        with contextlib.suppress(FileNotFoundError):
            found.append((str(path), path.stat().st_mtime_ns))
    return found


def _parts(out: Path) -> Iterator[Path]:
    yield from sorted((Path(out) / "parts").glob("*/*.json"))


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text.encode())
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}; free some space or choose another folder") from error
