"""The report of an overlap analysis: what overlaps, what that changes in the accuracy, and the pairs behind it."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from diptych.data.decoding import decode_image
from diptych.data.source import Source
from diptych.embed.broken_samples import broken_samples
from diptych.errors import ImageError
from diptych.overlap.accuracy_exhibits import accuracy_exhibit, caveats_exhibit, listed
from diptych.overlap.caveats import Caveats
from diptych.overlap.find import BROKEN_NAMED, Found, FoundSet
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
    caveats: Sequence[Caveats],
    path: Path,
    facts: Mapping[str, str],
) -> Path:
    """Write report.html.

    Args:
        found: the searched sets.
        thresholds: by set.
        measured: accuracies on Overlap, Clean and All; empty without a model.
        caveats: in which other ways Overlap and Clean differ, by set.
        facts: command, commit, machine.
    """
    shown = [("overlap", _overlap(found, thresholds))]
    if measured:
        shown.append(("accuracy", accuracy_exhibit(measured)))
    shown.append(("caveats", caveats_exhibit(thresholds, measured, caveats)))
    for searched in found.sets:
        shown.append((f"pairs {searched.nearest.dataset}", _pairs(found, searched, thresholds)))
    if broken := _broken(found):
        shown.append(("broken images", broken))
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
        return f"No image of {listed(counts)} was found in the training data"
    shares = [
        f"{counts[one.nearest.dataset]:,} of {len(one.nearest):,} images of {one.nearest.dataset} "
        f"({100 * counts[one.nearest.dataset] / len(one.nearest):.2f} %)"
        for one in found.sets
        if counts[one.nearest.dataset]
    ]
    return f"Found in the training data: {', '.join(shares[:5])}{' and more' if len(shares) > 5 else ''}"


def search_recall(found: Found, thresholds: Mapping[str, Threshold]) -> str:
    """How many copies an approximate search misses, as far as measured; "" after an exact search."""
    measured = [(one.nearest.dataset, one.approximate) for one in found.sets if one.approximate is not None]
    if not measured:
        return ""
    shares = []
    for name, approximate in measured[:5]:
        share = f"{100 * approximate.first_recall:.1f} % of {approximate.num_sampled} nearest images of {name}"
        recall, count = approximate.recall_above(thresholds[name].value)
        if count and not found.config.exact_check:  # the check's threshold is none of cosines
            share += f", and {100 * recall:.1f} % of the {count} at the threshold"
        shares.append(share)
    more = " and more" if len(measured) > 5 else ""
    return f"The search is approximate: an exact one confirms {', '.join(shares)}{more}"


def caution(thresholds: Mapping[str, Threshold]) -> str:
    """What to know before believing the numbers; "" if a person judged every threshold."""
    unjudged = [name for name, threshold in thresholds.items() if threshold.origin == UNJUDGED]
    if not unjudged:
        return ""
    return (
        f"PROVISIONAL: nobody has judged pairs of {listed(unjudged)}, so the threshold there is the detector's usual "
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
    missed = search_recall(found, thresholds)
    notes += [f"{missed}. What it misses counts as clean."] if missed else []
    judged = [threshold for threshold in thresholds.values() if threshold.origin != UNJUDGED]
    prefix = "" if not warning else "Partly provisional: " if judged else "Provisional, judged by nobody: "
    title = f"{prefix}{headline(found, thresholds)}."
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


def _broken(found: Found) -> Shown | None:
    """The first broken images of the training data and of each set; None if there are none."""
    index = found.index
    parts: list[tuple[str, int, Mapping[str, str]]] = [
        ("training data", index.num_broken, broken_samples(index.stores, BROKEN_NAMED))
    ]
    parts += [(one.nearest.dataset, one.num_broken, one.broken) for one in found.sets]
    rows: list[tuple[str, list[Cell | str]]] = [
        (key, [name, reason]) for name, _, named in parts for key, reason in named.items()
    ]
    if not (total := sum(count for _, count, _ in parts)):
        return None
    notes = [
        f"{name}: {count - len(named):,} of {count:,} broken images are not named here."
        for name, count, named in parts
        if count > len(named)
    ]
    tables = [NumberTable("Broken images", ("image", "of", "reason"), rows)] if rows else []
    return Shown(f"{total:,} broken images were not searched.", tables=tables, notes=notes)


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
