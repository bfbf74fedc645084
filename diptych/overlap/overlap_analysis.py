"""The overlap analysis from end to end: find, decide, measure, report.

OUT/duplicates.parquet   a verdict for each evaluation image
OUT/results.jsonl        accuracies on Overlap, Clean and All
OUT/report.html          the report
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from diptych.embed.about import about
from diptych.embed.encoder import Encoder
from diptych.errors import ConfigError
from diptych.evaluate.provenance import run_record
from diptych.evaluate.suite import part_path, write_all, write_part
from diptych.files import remove, writing
from diptych.overlap.caveats import Caveats, find_caveats
from diptych.overlap.detector import Detector
from diptych.overlap.duplicates_file import COSINE, EXACT_CHECK, write_duplicates
from diptych.overlap.evaluation_images import embed_views
from diptych.overlap.find import Found, OverlapConfig, find_overlap
from diptych.overlap.inner_duplicates import checked_duplicates, inner_duplicates
from diptych.overlap.overlap_page import write_overlap_page
from diptych.overlap.remove import Datasheet, Removed, checked_samples, overlapping_samples, write_clean
from diptych.overlap.review_folder import judged_thresholds
from diptych.overlap.subset_results import TASK, TASKS, MeasuredSet, measure_subsets
from diptych.overlap.thresholds import Threshold, choose_thresholds
from diptych.records import Result


@dataclasses.dataclass(frozen=True, eq=False)
class OverlapRun:
    """The outcome of an overlap analysis.

    Attributes:
        found: the searched sets.
        thresholds: by set.
        measured: accuracies by set and task; empty without a model.
        caveats: by set, in which other ways Overlap and Clean differ.
        duplicates, report: the written files.
        results: the written file; None without a model, or if no set has classes.
    """

    found: Found
    thresholds: Mapping[str, Threshold]
    measured: Sequence[MeasuredSet]
    caveats: Sequence[Caveats]
    duplicates: Path
    report: Path
    results: Path | None


def run_overlap(
    config: OverlapConfig,
    model: str | Encoder | None = None,
    *,
    tasks: Sequence[str] = TASKS,
    threshold: float | Mapping[str, float] | None = None,
    choices: str | Path | None = None,
    detector: Detector | None = None,
) -> OverlapRun:
    """Find the evaluation images that occur in the training data, and what that changes in a model's accuracy.

    Call it again to resume, with another threshold, or after a review: nothing is embedded or searched twice.

    Args:
        config: what is searched in what.
        model: the model whose accuracy is measured, or its name; None only searches.
        tasks: how its accuracy is measured: "zero_shot", "linear_probe".
        threshold: score from which on an image overlaps, for all sets or by set; None takes the reviewers' choice, or
            the detector's provisional one.
        choices: a file of decisions or thresholds that were made elsewhere.
        detector: instead of the one that the configuration names.
    Raises:
        ConfigError, DataError, InputError: as in find_overlap, choose_thresholds and measure_subsets.
    Source: CLIP paper, section 5.
    """
    if not config.sets:
        raise ConfigError("name at least one evaluation set (--eval)")
    found = find_overlap(config, detector)
    thresholds = _thresholds(found, threshold, choices)
    values = {name: chosen.value for name, chosen in thresholds.items()}
    duplicates = config.folder / "duplicates.parquet"
    nearest = [searched.nearest for searched in found.sets]
    write_duplicates(nearest, values, duplicates, found.training_data, _scored_by(config))
    measured: list[MeasuredSet] = []
    if model is not None:
        measured = measure_subsets(found, model, values, tasks=tasks, num_workers=config.num_workers)
    results = _write_results(config.folder, measured)
    caveats = find_caveats(found, values)
    report = write_overlap_page(found, thresholds, measured, caveats, config.folder / "report.html", _facts())
    return OverlapRun(found, thresholds, measured, caveats, duplicates, report, results)


def remove_overlap(
    config: OverlapConfig,
    clean: str | Path,
    *,
    threshold: float | Mapping[str, float] | None = None,
    choices: str | Path | None = None,
    inner: float | None = None,
    detector: Detector | None = None,
) -> Datasheet:
    """Write the training data without the samples that overlap with evaluation sets, or without inner duplicates.

    Args:
        config: what is searched in what; the folder of an earlier run is used again. Needs a set, or `inner`.
        clean: folder for the shards.
        threshold, choices, detector: as in run_overlap.
        inner: also keep only the first of training images whose score with each other is at least this; None keeps all.
            With the exact check it is the check's score.
    Returns:
        The datasheet, which is also written.
    Raises:
        ConfigError, DataError, InputError: as in find_overlap, choose_thresholds and write_clean.
    """
    if not config.sets and inner is None:
        raise ConfigError("name an evaluation set (--eval), or a score for inner duplicates (--inner)")
    if inner is not None and not 0 < inner <= 1:
        raise ConfigError(f"the score of inner duplicates is {inner}; it lies between 0 and 1")
    found = find_overlap(config, detector)
    thresholds = _thresholds(found, threshold, choices)
    views = {
        searched.images.name: embed_views(
            searched.images, found.detector, config.folder / "sets" / searched.images.name
        )
        for searched in found.sets
    }
    values = {name: chosen.value for name, chosen in thresholds.items()}
    if config.exact_check:
        removed = list(checked_samples(found, views, values))
    else:
        removed = list(overlapping_samples(found.index, views, values))
    if inner is not None:
        removed += _inner(found, inner, {row.train_key for row in removed})
    fingerprint = about(found.detector.encoder).image_fingerprint or ""
    sheet = Datasheet(
        training_data=list(config.train),
        detector=f"{found.detector.name} {fingerprint[:16]}".strip()
        + (" and exact check" if config.exact_check else ""),
        thresholds=values,
        decided_by={name: chosen.origin for name, chosen in thresholds.items()},
        evaluation_sets=list(config.sets),
        inner=inner,
        made_by=_facts(),
    )
    return write_clean(found.index, removed, clean, sheet)


def _inner(found: Found, threshold: float, but: Collection[str]) -> list[Removed]:
    if not found.config.exact_check:
        return list(inner_duplicates(found.index, threshold, but))
    path, num_processes = found.config.folder / "train" / "checks.jsonl", found.config.num_processes
    return list(checked_duplicates(found.index, threshold, path, but=but, num_processes=num_processes))


def _facts() -> dict[str, str]:
    """Command, commit and machine of this run."""
    record = run_record()
    return {name: str(record[name]) for name in ("command", "commit", "machine")}


def _write_results(folder: Path, measured: Sequence[MeasuredSet]) -> Path | None:
    """Write results.jsonl, and a part for each set, which the exhibits of the paper read; earlier ones are removed."""
    remove(folder / "parts")
    path = folder / "results.jsonl"
    with writing(path):
        path.unlink(missing_ok=True)
    results: dict[Path, list[Result]] = {}
    for one in measured:
        for result in one.results:
            results.setdefault(part_path(folder, result.model, one.dataset, TASK), []).append(result)
    for part, of_part in results.items():
        part.parent.mkdir(parents=True, exist_ok=True)
        write_part(part, None, of_part)
    return write_all(folder) if results else None


def _scored_by(config: OverlapConfig) -> str:
    return EXACT_CHECK if config.exact_check else COSINE


def _thresholds(
    found: Found, given: float | Mapping[str, float] | None, choices: str | Path | None
) -> dict[str, Threshold]:
    sets = [searched.nearest for searched in found.sets]
    judged = judged_thresholds(found.config.folder, sets, _scored_by(found.config), choices)
    scored_by = EXACT_CHECK if found.config.exact_check else found.config.detector
    return choose_thresholds([nearest.dataset for nearest in sets], scored_by, given=given, judged=judged)
