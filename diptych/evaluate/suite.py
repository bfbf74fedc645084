"""The paper's evaluation of one model: every task on every available set; a stopped run can be resumed.

    OUT/results.jsonl                          all Results of all models measured into OUT
    OUT/parts/<model>/<dataset>-<task>.json    one measurement: a fingerprint of its inputs, and its Results

A part is reused only if its inputs are unchanged: weights, preprocessing, data, task and task version.
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
from diptych.evalsets.opening import failure, find_folder, missing
from diptych.evaluate.class_coverage import had_to_be_asked_for
from diptych.evaluate.predictions import read_predictions
from diptych.evaluate.tasks.task import Setting, Task
from diptych.files import expanded, read_or_none, write_whole
from diptych.records import Predictions, Result, check_result, parse_results, protocol_in_words

FORMAT = 1

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A measurement that could not be made.

    Attributes:
        task, dataset: their names.
        reason: why it could not be made, and what to do.
        absent: True if the set is missing, False if something else went wrong.
    """

    task: str
    dataset: str
    reason: str
    absent: bool = False


@dataclasses.dataclass(frozen=True)
class Measured:
    """The outcome of a run of the suite: Results, skipped measurements, and how many were reused from earlier runs."""

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

    Measurements of an earlier run in `out` are reused while they are up to date. A set that is missing or cannot be
    measured is listed in `skipped`; the other sets are still measured.

    Args:
        encoder: the model.
        tasks, cards: what to measure.
        setting: the folders of the sets and of the cache.
        out: folder of the Results, updated after each measurement.
        announce: called with a line of text before each measurement.
    Raises:
        ConfigError: there is nothing to measure, or `out` holds results of another version of Diptych.
        DataError: the Results cannot be written.
    """
    encoder, out = as_encoder(encoder), expanded(out)
    pairs = [(task, card) for card in cards for task in tasks if task.applies(card)]
    if not pairs:
        names = ", ".join(task.name for task in tasks)
        raise ConfigError(f"none of these tasks applies to any of these sets: {names}; choose others")
    read_all(out)  # fail before any work if another version of Diptych wrote the results
    set_aside(out, encoder)
    is_present = {card.name: find_folder(card, setting.data) is not None for _, card in pairs}
    absent = [(task, card) for task, card in pairs if not is_present[card.name]]
    present = [(task, card) for task, card in pairs if is_present[card.name]]
    skipped = [Skipped(task.name, card.name, missing(card, setting.data), absent=True) for task, card in absent]
    results: list[Result] = []
    num_kept, seen, no_texts = 0, Seen(), about(encoder).no_texts
    for number, (task, card) in enumerate(present, start=1):
        line = f"[{number}/{len(present)}] {task.name} on {card.title}"
        if task.needs_texts and no_texts is not None:
            skipped.append(Skipped(task.name, card.name, f"{encoder.name} {no_texts}"))
            continue
        try:
            measured, kept = _measure(encoder, task, card, setting, out, seen, lambda line=line: announce(line))  # type: ignore[misc]
        except InputError as error:
            _log.warning("%s is left out: %s", line, error)
            skipped.append(Skipped(task.name, card.name, str(error)))
            continue
        results += measured
        num_kept += kept
        write_all(out)
    return Measured(results, skipped, num_kept)


Seen = dict[tuple[str, str, int | None], list[str] | None]
"""The state of each split when a run first read it, by card, split and fold; a split is listed once for all tasks.

If data change during a run, later measurements still carry the older state, so the next run measures them again.
"""


def _measure(
    encoder: Encoder, task: Task, card: Card, setting: Setting, out: Path, seen: Seen, announce: Callable[[], None]
) -> tuple[list[Result], bool]:
    """The Results, and whether they were reused from an earlier run."""
    inputs = fingerprint(encoder, task, card, setting, seen)
    path = part_path(out, encoder.name, card.name, task.name)
    earlier = read_part(path)
    folder = None if setting.predictions is None else Path(setting.predictions)
    if (
        earlier is not None
        and inputs is not None
        and earlier["fingerprint"] == inputs
        and _all_there(folder, earlier["predictions"])
        and (setting.partial or not any(map(had_to_be_asked_for, earlier["results"])))
    ):
        return earlier["results"], True
    own_folder = _own_folder(card, setting)
    if earlier is not None and earlier["folder"] and own_folder not in (None, earlier["folder"]):
        raise DataError(
            f"{out} holds results on another set called {card.name}, measured in {earlier['folder']}; those of "
            f"{own_folder} would replace them. Rename the folder, or give another --out; if it is the same set, moved, "
            f"delete {path}"
        )
    announce()
    measured = task.bind(card, setting).measure(encoder)
    written = [] if folder is None else sorted(str(file.relative_to(folder)) for file in measured.predictions)
    write_part(path, inputs, measured.results, model_mark(encoder), written, own_folder)
    return measured.results, False


def _own_folder(card: Card, setting: Setting) -> str | None:
    """The folder of a user's own set, which distinguishes sets with the same name; None for a set of the paper."""
    folder = None if is_paper_set(card.name) else find_folder(card, setting.data)
    return None if folder is None else str(folder.resolve())


def _all_there(folder: Path | None, names: Sequence[str]) -> bool:
    """Whether all files of Predictions can be read; a broken one is logged, and the set is measured again."""

    def read(path: Path) -> Predictions:
        return read_predictions(path)

    what = "the file of predictions"
    return folder is None or all(read_or_none(folder / name, read, what) is not None for name in names)


def fingerprint(encoder: Encoder, task: Task, card: Card, setting: Setting, seen: Seen | None = None) -> str | None:
    """Fingerprint of everything that a measurement depends on; None for an encoder that states no fingerprint.

    Args:
        seen: states of splits that were read before; the splits read now are added.
    """
    known = about(encoder)
    marks = [known.image_fingerprint, *([known.text_fingerprint] if task.needs_texts else [])]
    if not all(marks):
        return None
    splits_read = [(card, split) for split in task.splits(card)]
    splits_read += [(get_card(name), split) for name, split in task.others(card)]
    states_needed: list[tuple[Card, str, int | None]] = [(set_card, split, None) for set_card, split in splits_read]
    numbers = range(1, task.folds(card) + 1)
    states_needed += [(card, split, fold) for fold in numbers for split in task.splits(card)]
    seen = {} if seen is None else seen
    for set_card, split, fold in states_needed:
        if (set_card.name, split, fold) not in seen:
            seen[set_card.name, split, fold] = _data_mark(set_card, split, setting, fold)
    data = [seen[set_card.name, split, fold] for set_card, split, fold in states_needed]
    scale = known.logit_scale if task.needs_texts else None
    content = [FORMAT, task.name, task.version, card.name, card.metric, setting.seed, marks, scale, data]
    return hashlib.sha256(json.dumps(content).encode("utf-8", "surrogatepass")).hexdigest()


def _data_mark(card: Card, split: str, setting: Setting, fold: int | None = None) -> list[str] | None:
    """The state of a split; None if a validation split or a fold is missing, which tasks can do without."""
    if split == "val" and "val" not in card.splits:
        return None
    try:
        benchmark = setting.open(card, split, fold)
    except DataError:
        if split == "val" or fold is not None:
            return None
        raise
    except Exception as error:  # a failing reader must not stop the other sets
        raise DataError(f"{split}: {failure(error)}") from error
    # whole.txt decides which Results are noted as covering only some of the classes.
    return [
        benchmark.fingerprint,
        files_state(benchmark.source),
        *benchmark.absent,
        *(["whole"] if benchmark.whole else []),
    ]


def model_mark(encoder: Encoder) -> str:
    """Fingerprint of the model: everything that its numbers depend on, for all tasks.

    For an encoder without fingerprints it is valid in this process only; another process may hold another model.
    """
    known = about(encoder)
    marks: list[Any] = [known.image_fingerprint, known.text_fingerprint, known.logit_scale]
    marks = marks if marks[0] else [known.token or id(encoder)]
    return hashlib.sha256(json.dumps(marks).encode()).hexdigest()


def set_aside(out: Path, encoder: Encoder) -> None:
    """Rename the measurements of another model with the same name, such as one trained further, to *.json.old.

    Otherwise the Results of both models would appear in one row.
    """
    mark, folder = model_mark(encoder), part_path(out, encoder.name, "", "").parent
    others = [path for path in sorted(folder.glob("*.json")) if _is_of_another(path, mark, encoder.name)]
    for path in others:
        path.replace(path.with_name(f"{path.name}.old"))
    if others:
        _log.warning(
            "%s holds %d measurements of another model called %s (other weights, preprocessing or precision, or no "
            "fingerprint to compare): they are set aside as *.json.old; give each model its own name or folder to "
            "keep both",
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
    """The file of one measurement; characters other than letters, digits and ._@+- become "-"."""
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
    """Write a measurement to its file, completely or not at all.

    Args:
        path: from `part_path`.
        mark: from `fingerprint`.
        results: what was measured.
        model: from `model_mark`; "" if it is not known.
        predictions: files of Predictions that were written, relative to the folder of Predictions.
        folder: the folder of the set; None for a set of the paper, which is the same set in any folder.
    Raises:
        InputError: a Result is not a valid measurement and could not be read back.
        DataError: the disk is full, or the folder is not writable.
    """
    for result in results:
        try:
            check_result(result)
        except ValueError as error:
            words = protocol_in_words(result)
            raise InputError(f"{result.metric} by {words} is no measurement: {error}; report it") from error
    content = {
        "format": FORMAT,
        "fingerprint": mark,
        "model": model,
        "predictions": list(predictions),
        "folder": folder,
        "results": [dataclasses.asdict(result) for result in results],
    }
    _write(path, json.dumps({**content, "digest": _digest(content)}, ensure_ascii=True, indent=1))


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def read_part(path: Path) -> dict[str, Any] | None:
    """{"fingerprint", "model", "predictions", "folder", "results"} of a measurement; None if missing or broken.

    Raises:
        ConfigError: another version of Diptych wrote the file.
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
        results = parse_results(content["results"], task=path.stem.rpartition("-")[2])
        metadata = {"model": content.get("model", ""), "predictions": list(content.get("predictions", ()))}
        if not all(isinstance(name, str) for name in metadata["predictions"]):
            raise TypeError("predictions are names of files")
        metadata["folder"] = content.get("folder")  # older versions wrote none
        return {"fingerprint": content["fingerprint"], **metadata, "results": results}
    except Exception as error:  # any other damage: measure again
        _log.warning("%s is broken (%r); it is measured again", path, error)
        return None


def read_results_of(out: Path, encoder: Encoder) -> list[Result]:
    """The Results of this model in a folder, without those of another model with the same name."""
    mark, folder = model_mark(encoder), part_path(out, encoder.name, "", "").parent
    parts = (path for path in sorted(folder.glob("*.json")) if not _is_of_another(path, mark, encoder.name))
    return [result for path in parts if (part := read_part(path)) is not None for result in part["results"]]


def read_all(out: Path) -> list[Result]:
    """The Results of all measurements of all models in a folder, in the order of the file names."""
    return [result for path in _parts(out) if (part := read_part(path)) is not None for result in part["results"]]


def write_all(out: Path) -> Path:
    """Write OUT/results.jsonl from all parts, completely or not at all.

    If another process finishes a part meanwhile, the file is written again, so the last version has all parts.
    """
    path = Path(out) / "results.jsonl"
    while True:
        before = _state(out)
        _write(path, "".join(json.dumps(dataclasses.asdict(result)) + "\n" for result in read_all(out)))
        if _state(out) == before:
            return path


def _state(out: Path) -> list[tuple[str, int]]:
    times = []
    for path in _parts(out):
        with contextlib.suppress(FileNotFoundError):
            times.append((str(path), path.stat().st_mtime_ns))
    return times


def _parts(out: Path) -> Iterator[Path]:
    yield from sorted((Path(out) / "parts").glob("*/*.json"))


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text.encode())
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}; free some space or choose another folder") from error
