"""The report of an overlap analysis: what overlaps, what that changes in the accuracy, and the pairs behind it."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from diptych.data.decoding import decode_image
from diptych.data.source import Source
from diptych.errors import ImageError
from diptych.overlap.contamination import smallest_detectable
from diptych.overlap.find import Found, FoundSet
from diptych.overlap.overlap_chart import overlap_charts, point_of
from diptych.overlap.subset_results import MeasuredSet
from diptych.overlap.thresholds import UNJUDGED, Threshold
from diptych.report.example_images import ImagePair
from diptych.report.exhibit_page import write_exhibits
from diptych.report.shown import Shown
from diptych.report.table import Cell, NumberTable

PAIRS_SHOWN = 12
_BELOW = 4  # of them, below the threshold


def write_overlap_page(
    found: Found,
    thresholds: Mapping[str, Threshold],
    measured: Sequence[MeasuredSet],
    path: Path,
    facts: Mapping[str, str],
) -> Path:
    """Write report.html.

    Args:
        found: the searched sets.
        thresholds: by set.
        measured: accuracies on Overlap, Clean and All; empty without a model.
        facts: command, commit, machine.
    """
    shown = [("overlap", _overlap(found, thresholds))]
    if measured:
        shown.append(("accuracy", _accuracy(measured)))
    for searched in found.sets:
        shown.append((f"pairs {searched.nearest.dataset}", _pairs(found, searched, thresholds)))
    sizes = f"{len(found.index):,} images, {found.index.num_broken:,} broken"
    facts = {
        "training data": f"{', '.join(found.config.train)} ({sizes})",
        "detector": found.detector.name,
        **facts,
    }
    return write_exhibits(shown, path, facts, "Did the evaluation leak into the training data?")


def headline(found: Found, thresholds: Mapping[str, Threshold]) -> str:
    """The finding in one sentence, for the page and the terminal."""
    counts = {one.nearest.dataset: _num_overlapping(one, thresholds) for one in found.sets}
    overlapping = any(counts.values())
    if not overlapping:
        return f"No image of {_listed(counts)} was found in the training data"
    shares = [
        f"{counts[one.nearest.dataset]:,} of {len(one.nearest):,} images of {one.nearest.dataset} "
        f"({100 * counts[one.nearest.dataset] / len(one.nearest):.2f} %)"
        for one in found.sets
        if counts[one.nearest.dataset]
    ]
    return f"Found in the training data: {', '.join(shares[:5])}{' and more' if len(shares) > 5 else ''}"


def caution(thresholds: Mapping[str, Threshold]) -> str:
    """What to know before believing the numbers; "" if a person judged every threshold."""
    unjudged = [name for name, threshold in thresholds.items() if threshold.origin == UNJUDGED]
    if not unjudged:
        return ""
    return (
        f"PROVISIONAL: nobody has judged pairs of {_listed(unjudged)}, so the threshold there is the detector's usual "
        "one. Judge a few dozen pairs with diptych overlap review, and run diptych overlap again."
    )


def _overlap(found: Found, thresholds: Mapping[str, Threshold]) -> Shown:
    rows: list[tuple[str, list[Cell | str]]] = []
    for searched in found.sets:
        nearest = searched.nearest
        threshold, count = thresholds[nearest.dataset], _num_overlapping(searched, thresholds)
        precision, recall = (
            Cell(None) if rate is None else Cell(100 * rate.value, 100 * rate.low, 100 * rate.high)
            for rate in (threshold.precision, threshold.recall)
        )
        rows.append(
            (
                nearest.dataset,
                [
                    Cell(len(nearest), digits=0),
                    Cell(searched.num_broken, digits=0),
                    Cell(count, digits=0),
                    Cell(100 * count / len(nearest), digits=2),
                    Cell(threshold.value, digits=3),
                    threshold.origin,
                    precision,
                    recall,
                ],
            )
        )
    columns = ("set", "images", "broken", "overlap", "overlap %", "threshold", "chosen", "precision %", "recall %")
    table = NumberTable("Evaluation images with a copy in the training data", columns, rows)
    notes = [
        "An image overlaps if the score of its most similar training image is at least the threshold. "
        + _score_in_words(found),
        "The recall over all training data is not known: it counts only the nearest images that were judged.",
    ]
    warning = caution(thresholds)
    title = f"{'Provisional, judged by nobody: ' if warning else ''}{headline(found, thresholds)}."
    return Shown(title, warning, tables=[table], notes=notes)


def _score_in_words(found: Found) -> str:
    views = " and ".join(view.replace("_", " ") for view in found.detector.views)
    searched = f"each evaluation image is searched {views}"
    if not found.config.exact_check:
        return f"The score is the cosine of the detector's embeddings; {searched}."
    return (
        f"The detector proposes {found.config.neighbours} training images ({searched}); the score says how well the "
        "pixels agree when one image is laid over the other: about 0 for different photographs, 1 for equal ones."
    )


def _accuracy(measured: Sequence[MeasuredSet]) -> Shown:
    rows: list[tuple[str, list[Cell | str]]] = []
    for one in measured:
        analysis, s = one.analysis, one.analysis.subsets
        clean = s.accuracy_clean
        least = None if clean is None else smallest_detectable(s.n_overlap, s.n_all, clean)
        rows.append(
            (
                f"{one.dataset}, {one.task}",
                [
                    _percent(s.accuracy_all),
                    _percent(s.accuracy_overlap, analysis.overlap_interval),
                    _percent(clean),
                    _percent(s.difference, analysis.difference_interval, digits=2),
                    _percent(s.gap, analysis.gap_interval),
                    Cell(analysis.p, digits=4),
                    Cell(one.corrected.bonferroni if one.corrected else None, digits=4),
                    Cell(one.corrected.holm if one.corrected else None, digits=4),
                    _percent(None if least is None else least.difference, digits=2),
                ],
            )
        )
    columns = (
        *("set", "All %", "Overlap %", "Clean %", "All - Clean", "Overlap - Clean"),
        *("p", "Bonferroni", "Holm", "detectable"),
    )
    table = NumberTable("Accuracy on All, Overlap and Clean", columns, rows)
    rejected = [one for one in measured if one.corrected is not None and one.corrected.holm < 0.05]
    title = (
        f"Overlap raises the accuracy on {_listed([f'{one.dataset} ({one.task})' for one in rejected])}"
        if rejected
        else "No set's accuracy is significantly higher on the images that overlap"
    )
    notes = [
        "p: one-tailed binomial test that Overlap is classified no better than Clean (CLIP paper, section 5); "
        "Bonferroni and Holm adjust it for the number of sets with the same task. Intervals: 99.5 %.",
        "detectable: the smallest All - Clean that this test would have found with a probability of 0.8.",
        "Overlap and Clean may differ in other ways than leakage: in their classes, resolution, or blank images.",
    ]
    missing = [
        f"{one.dataset}: {one.missing:,} images without a prediction are left out." for one in measured if one.missing
    ]
    points = [(one.task, point_of(one.dataset, one.analysis)) for one in measured]
    by_task = {task: [point for name, point in points if name == task and point] for task, _ in points}
    charts = overlap_charts([*by_task.items()][:2]) if any(by_task.values()) else []
    return Shown(f"{title}.", tables=[table], charts=charts, notes=[*notes, *missing])


def _percent(value: float | None, interval: tuple[float, float] | None = None, digits: int = 1) -> Cell:
    low, high = (None, None) if interval is None or value is None else (100 * interval[0], 100 * interval[1])
    return Cell(None if value is None else 100 * value, low, high, digits=digits)


def _pairs(found: Found, searched: FoundSet, thresholds: Mapping[str, Threshold]) -> Shown:
    """The doubtful pairs first: the lowest scores above the threshold, then the highest below it."""
    nearest, threshold = searched.nearest, thresholds[searched.nearest.dataset]
    above = nearest.overlaps(threshold.value)
    order = np.argsort(nearest.scores, kind="stable")
    doubtful = [row for row in order.tolist() if above[row]][: PAIRS_SHOWN - _BELOW]
    below = [row for row in order[::-1].tolist() if not above[row]][:_BELOW]
    rows = [*doubtful, *below]
    left = _pixels(searched.images.source, {nearest.keys[row] for row in rows})
    right = _pixels(found.index.source, {nearest.nearest_keys[row] for row in rows})
    pairs = [
        ImagePair(
            f"{nearest.scores[row]:.3f} {'overlap' if above[row] else 'clean'}: {nearest.keys[row]} and "
            f"{nearest.nearest_keys[row]}",
            left.get(nearest.keys[row]),
            right.get(nearest.nearest_keys[row]),
        )
        for row in rows
    ]
    title = f"{nearest.dataset}: the pairs around the threshold of {threshold.value:.3f}"
    summary = "Left the evaluation image, right the most similar training image: first the lowest scores above the "
    return Shown(title, f"{summary}threshold, then the highest below it.", pairs=pairs)


def _pixels(source: Source, keys: Collection[str]) -> dict[str, np.ndarray]:
    """The images of some keys, uint8 (height, width, 3); those that cannot be decoded are left out."""
    images = {}
    for sample in source.get_all(keys):
        try:
            images[sample.key] = np.asarray(decode_image(sample.image))
        except ImageError:
            continue
    return images


def _num_overlapping(searched: FoundSet, thresholds: Mapping[str, Threshold]) -> int:
    return int(searched.nearest.overlaps(thresholds[searched.nearest.dataset].value).sum())


def _listed(names: Collection[str]) -> str:
    shown = list(names)[:5]
    return ", ".join(shown) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
