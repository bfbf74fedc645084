"""The parts of the report about accuracy: what overlap changes in it, and what else may explain the difference."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from diptych.overlap.appearance import BLANK_BELOW, SMALL_BELOW
from diptych.overlap.caveats import CLEAN_MEASURED, Caveats
from diptych.overlap.contamination import Analysis, Interval, Subsets, analyse, smallest_detectable
from diptych.overlap.detection_error import TrueContamination, correct_for_detector
from diptych.overlap.overlap_chart import NOT_READ, PAPER, overlap_charts, paper_points, point_of
from diptych.overlap.subset_results import MeasuredSet
from diptych.overlap.thresholds import Threshold
from diptych.report.curves import Chart
from diptych.report.paper_numbers import LAST_DIGIT
from diptych.report.shown import Shown
from diptych.report.table import Cell, NumberTable

Rows = list[tuple[str, list[Cell | str]]]


def accuracy_exhibit(measured: Sequence[MeasuredSet]) -> Shown:
    """Accuracy on All, Overlap and Clean, and figure 17 with the paper's points.

    Args:
        measured: at least one set.
    """
    rows: Rows = []
    for one in measured:
        analysis, s = one.analysis, one.analysis.subsets
        clean = s.accuracy_clean
        least = None if clean is None else smallest_detectable(s.n_overlap, s.n_all, clean)
        cells: list[Cell | str] = [
            _percent(s.accuracy_all),
            _percent(s.accuracy_overlap, analysis.overlap_interval),
            _percent(clean),
            _percent(s.difference, analysis.difference_interval, digits=2),
            _percent(s.gap, analysis.gap_interval),
            Cell(analysis.p, digits=4),
            Cell(one.corrected.bonferroni if one.corrected else None, digits=4),
            Cell(one.corrected.holm if one.corrected else None, digits=4),
            _percent(None if least is None else least.difference, digits=2),
        ]
        rows.append((_name(one), cells))
    columns = (
        *("set", "All %", "Overlap %", "Clean %", "All - Clean", "Overlap - Clean"),
        *("p", "Bonferroni", "Holm", "detectable"),
    )
    table = NumberTable("Accuracy on All, Overlap and Clean", columns, rows)
    testable = [one for one in measured if one.corrected is not None]
    rejected = [_name(one) for one in measured if one.corrected is not None and one.corrected.holm < 0.05]
    title = (
        f"Overlap raises the accuracy on {listed(rejected)}"
        if rejected
        else "No set's accuracy is significantly higher on the images that overlap"
        if testable
        else "Nothing to compare: no set has both images that overlap and others"
    )
    notes = [
        "p: one-tailed binomial test that Overlap is classified no better than Clean (CLIP paper, section 5); "
        "Bonferroni and Holm adjust it for the number of sets with the same task. Intervals: 99.5 %.",
        "detectable: the smallest All - Clean that this test would have found with a probability of 0.8.",
    ]
    missing = [
        f"{one.dataset}: {one.missing:,} images without a prediction are left out." for one in measured if one.missing
    ]
    charts = _charts(measured)
    notes += [f"Charts: the sets as points, beside {PAPER}. {LAST_DIGIT} {NOT_READ}"] if charts else []
    return Shown(f"{title}.", tables=[table], charts=charts, notes=[*notes, *missing])


def _charts(measured: Sequence[MeasuredSet]) -> list[Chart]:
    """Figure 17 with the first task's points and the paper's."""
    points = [point_of(one.dataset, one.analysis) for one in measured if one.task == measured[0].task]
    shown = [point for point in points if point]
    return overlap_charts([(measured[0].task, shown), (PAPER, paper_points())]) if shown else []


def caveats_exhibit(
    thresholds: Mapping[str, Threshold], measured: Sequence[MeasuredSet], caveats: Sequence[Caveats]
) -> Shown:
    """What the detector's errors leave possible, and in which other ways Overlap and Clean differ.

    Args:
        thresholds: by set; only reviewed ones have a precision and a recall.
        measured: accuracies; empty without a model.
        caveats: by set.
    """
    tables = [_errors(thresholds, measured, caveats)] if any(map(_reviewed, thresholds.values())) else []
    tables += [_reweighted(measured)] if measured else []
    tables += [_classes(caveats)] if any(one.frequencies is not None for one in caveats) else []
    tables.append(_appearance(caveats))
    unknown = [name for name, threshold in thresholds.items() if not _reviewed(threshold)]
    notes = [
        f"What the detector's errors leave possible is unknown for {listed(unknown)}: its precision and recall there "
        "follow from a review (diptych overlap review)."
    ]
    differing = [_name(one) for one in measured if one.reweighted.interval and _excludes_zero(one.reweighted.interval)]
    if not any(one.reweighted.interval for one in measured):
        title = "How Overlap and Clean differ apart from leakage"
    elif differing:
        title = f"With equal class frequencies, Overlap and Clean still differ on {listed(differing)}"
    else:
        title = "With equal class frequencies, no set's accuracy differs significantly between Overlap and Clean"
    summary = "A difference in accuracy may have other causes than leakage: other classes, or images of another kind."
    return Shown(f"{title}.", summary, tables=tables, notes=notes if unknown else [])


def _errors(
    thresholds: Mapping[str, Threshold], measured: Sequence[MeasuredSet], caveats: Sequence[Caveats]
) -> NumberTable:
    """The true contamination of each reviewed set, and the true effect of each measured one."""
    analyses = [(_name(one), one.dataset, one.analysis) for one in measured]
    done = {one.dataset for one in measured}
    # The contamination needs the numbers of images alone, so that a set without a measured model has one, too.
    counts = {one.dataset: Subsets(one.num_images, one.num_overlapping, 0, 0) for one in caveats}
    analyses += [(name, name, analyse(subsets)) for name, subsets in counts.items() if name not in done]
    rows: Rows = []
    reasons: list[tuple[str, str | None]] = []
    for name, dataset, analysis in analyses:
        precision, recall = thresholds[dataset].precision, thresholds[dataset].recall
        if precision is not None and recall is not None:
            corrected = correct_for_detector(analysis, precision, recall)
            rows.append((name, _error_cells(analysis, corrected, dataset in done)))
            reasons.append((name, corrected.reason if dataset in done else None))
    columns = ("set", "overlap %", "contamination %", "Overlap - Clean", "All - Clean", "level %")
    notes = [
        *_reasons(reasons),
        "True contamination and differences: corrected by the review's precision and recall. level: of the intervals. "
        "They assume that the detector's errors do not depend on whether the model is right about an image.",
    ]
    return NumberTable("What the detector's errors leave possible", columns, rows, notes)


def _error_cells(analysis: Analysis, corrected: TrueContamination, is_measured: bool) -> list[Cell | str]:
    gap = _percent(corrected.gap if is_measured else None, corrected.gap_interval)
    difference = _percent(corrected.difference if is_measured else None, corrected.difference_interval, digits=2)
    return [
        _percent(analysis.subsets.contamination, digits=2),
        _percent(corrected.value, corrected.interval, digits=2),
        gap,
        difference,
        _percent(min(corrected.level, corrected.effect_level), digits=2),
    ]


def _reweighted(measured: Sequence[MeasuredSet]) -> NumberTable:
    rows: Rows = []
    for one in measured:
        s, equal = one.analysis.subsets, one.reweighted
        cells: list[Cell | str] = [
            _percent(s.accuracy_clean),
            _percent(equal.clean),
            _percent(s.gap, one.analysis.gap_interval),
            _percent(equal.gap, equal.interval),
            _percent(equal.covered if s.n_overlap else None),
        ]
        rows.append((_name(one), cells))
    columns = ("set", "Clean %", "re-weighted Clean %", "Overlap - Clean", "re-weighted", "covered %")
    unknown = _reasons((_name(one), one.reweighted.reason) for one in measured)
    notes = [
        *unknown,
        "Re-weighted: each class has the same share in Clean as in Overlap. covered: images of Overlap whose class "
        "occurs in Clean; only these are compared. Intervals: 99.5 %.",
    ]
    return NumberTable("Accuracy with equal class frequencies", columns, rows, notes)


def _classes(caveats: Sequence[Caveats]) -> NumberTable:
    rows: Rows = []
    for one in caveats:
        frequencies, named = one.frequencies, one.named
        cells: list[Cell | str] = [Cell(None)] * 5
        if frequencies is not None and named is not None:
            cells = [
                Cell(frequencies.distance, digits=2),
                Cell(int((frequencies.overlap > 0).sum()), digits=0),
                Cell(int((frequencies.clean > 0).sum()), digits=0),
                f"{named.named:,} of {named.n:,}" if named.n else "",
                _percent(named.share, named.interval),
            ]
        rows.append((one.dataset, cells))
    columns = ("set", "distance", "classes in Overlap", "classes in Clean", "class named", "class named %")
    notes = [
        "distance: total variation distance of the class frequencies of Overlap and Clean, 0 if they are equal and 1 "
        "if no class is in both. class named: images of Overlap whose nearest training image has a text that contains "
        "the class name, of those whose nearest training image has a text."
    ]
    return NumberTable("Classes, and training texts that name them", columns, rows, notes)


def _appearance(caveats: Sequence[Caveats]) -> NumberTable:
    rows: Rows = []
    for one in caveats:
        for subset in ("overlap", "clean", "all"):
            look = one.appearance[subset]
            cells: list[Cell | str] = [
                Cell(look.n, digits=0),
                Cell(look.median_side, digits=0),
                _percent(look.small, look.small_interval),
                Cell(look.median_deviation, digits=0),
                _percent(look.blank, look.blank_interval),
            ]
            rows.append((f"{one.dataset}, {subset.capitalize()}", cells))
    columns = ("set", "measured", "side", "small %", "deviation", "blank %")
    notes = [
        f"side: median of the shorter side in pixels; small: below {SMALL_BELOW}. deviation: median standard deviation "
        f"of the grey values, 0 to 127.5; blank: below {BLANK_BELOW:g}. Intervals: 99.5 %.",
        f"All images of Overlap are measured, and at most {CLEAN_MEASURED:,} of Clean, drawn at random with a fixed "
        "seed; All is then a sample, too. They are decoded anew in each run.",
    ]
    return NumberTable("What the images look like", columns, rows, notes)


def _reviewed(threshold: Threshold) -> bool:
    return threshold.precision is not None and threshold.recall is not None


def _name(one: MeasuredSet) -> str:
    return f"{one.dataset} ({one.task})"


def _reasons(of_sets: Iterable[tuple[str, str | None]]) -> list[str]:
    """A note for each reason why something is unknown, with the sets that it is about."""
    names: dict[str, list[str]] = {}
    for name, reason in of_sets:
        if reason is not None:
            names.setdefault(reason, []).append(name)
    return [f"Unknown for {listed(own)}: {reason}." for reason, own in names.items()]


def _excludes_zero(interval: Interval) -> bool:
    return not interval[0] <= 0 <= interval[1]


def _percent(value: float | None, interval: Interval | None = None, digits: int = 1) -> Cell:
    low, high = (None, None) if interval is None or value is None else (100 * interval[0], 100 * interval[1])
    return Cell(None if value is None else 100 * value, low, high, digits=digits)


def listed(names: Collection[str]) -> str:
    """The first five names, and the number of the others."""
    shown = list(names)[:5]
    return ", ".join(shown) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
