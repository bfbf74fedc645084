"""Figure 17: overlap of evaluation sets with the training data, what it changes, and the statistics of section 5."""

from collections.abc import Mapping, Sequence

from diptych.overlap.contamination import Subsets, analyse
from diptych.overlap.overlap_chart import NOT_READ, PAPER, SetPoint, overlap_charts, paper_points, point_of
from diptych.paper.exhibit import Exhibit
from diptych.records import Result
from diptych.report.paper_numbers import LAST_DIGIT, published
from diptych.report.shown import Shown
from diptych.report.table import Cell, NumberTable

TEXT = "section 5"


def measured_points(results: Sequence[Result]) -> dict[str, list[SetPoint]]:
    """By model, a point for each set that `diptych overlap` measured; zero-shot, if there are several tasks."""
    counts: dict[tuple[str, str, str], dict[str, tuple[int, int]]] = {}
    for result in results:
        subset, task = result.condition.get("subset"), str(result.condition.get("measured_by"))
        if result.task == "overlap" and result.metric == "accuracy" and subset in ("all", "overlap"):
            place = counts.setdefault((result.model, result.dataset, task), {})
            place[str(subset)] = round(result.value * result.n), result.n
    points: dict[str, dict[str, SetPoint]] = {}
    for (model, dataset, task), subsets in counts.items():
        point = _point(dataset, subsets)
        if point is not None and (task == "zero_shot" or dataset not in points.get(model, {})):
            points.setdefault(model, {})[dataset] = point
    return {model: list(by_set.values()) for model, by_set in points.items()}


def _point(dataset: str, subsets: Mapping[str, tuple[int, int]]) -> SetPoint | None:
    if "all" not in subsets:
        return None
    right_overlap, n_overlap = subsets.get("overlap", (0, 0))
    right_all, n_all = subsets["all"]
    return point_of(dataset, analyse(Subsets(n_all, n_overlap, right_all, right_overlap)))


def _build(results: Sequence[Result]) -> Shown:
    measured = measured_points(results)
    paper = paper_points()
    model, points = next(iter(measured.items()), ("", []))
    groups = [*([(model, points)] if points else []), (PAPER, paper)]
    stated = published(TEXT)["overlap"]
    title = (
        f"Median overlap of {stated['median']} %, mean {stated['mean']} %; {stated['significant']:.0f} of "
        f"{stated['sets']:.0f} sets significantly better on overlapping images, {stated['after Bonferroni']:.0f} after "
        "correction"
    )
    if points:
        title = (
            f"{model}: {sum(point.overlap > 0 for point in points)} of {len(points)} sets overlap. The paper: {title}"
        )
    tables = [_statistics(paper, stated), *([_table(model, points, published=False)] if points else [])]
    return Shown(
        title,
        "Each point is an evaluation set. All - Clean is what overlap adds to the accuracy on the whole set.",
        [*tables, _table("RN50x64 (the paper's)", paper, published=True)],
        overlap_charts(groups),
        [LAST_DIGIT, NOT_READ],
    )


def _statistics(paper: Sequence[SetPoint], stated: Mapping[str, float]) -> NumberTable:
    """What section 5 states, beside what the points give: only the nine named sets have points."""
    largest = max(paper, key=lambda point: point.difference)
    computed: dict[str, float | None] = {
        "significant": sum(point.p is not None and point.p <= 0.05 for point in paper),
        "after Bonferroni": sum(point.p is not None and point.p <= 1e-3 for point in paper),
        "shifted by more than 0.1 points": sum(abs(point.difference) > 0.1 for point in paper),
        "largest gain, points": largest.difference,
        "overlap of Birdsnap, %": next(point.overlap for point in paper if point.dataset == "Birdsnap"),
        "overlap of Country211, %": next(point.overlap for point in paper if point.dataset == "Country211"),
        "worse, of those that exclude 0": None,
    }
    rows: list[tuple[str, list[Cell | str]]] = [
        (name, [Cell(value, published=True, digits=_digits(value)), Cell(computed.get(name), digits=2)])
        for name, value in stated.items()
    ]
    note = "The right column counts the nine sets that were read off; where it differs, the text is the surer source."
    return NumberTable("Statistics of the paper's 35 sets", ("statistic", "as stated", "from the points"), rows, [note])


def _digits(value: float) -> int:
    return 0 if value == int(value) else 1


def _table(model: str, points: Sequence[SetPoint], *, published: bool) -> NumberTable:
    rows: list[tuple[str, list[Cell | str]]] = [
        (
            point.dataset,
            [
                Cell(point.overlap, published=published, digits=1),
                Cell(point.gap, point.gap_low, point.gap_high, published=published, digits=1),
                Cell(point.difference, published=published, digits=2),
                _p(point, published),
            ],
        )
        for point in points
    ]
    columns = ("set", "overlap, %", "Overlap - Clean, points", "All - Clean, points", "p")
    return NumberTable(model, columns, rows)


def _p(point: SetPoint, published: bool) -> Cell | str:
    if point.p is None:
        return ""
    if published:
        return "< 0.001" if point.p <= 1e-3 else "< 0.05" if point.p <= 0.05 else "> 0.05"
    return Cell(point.p, digits=4)


FIGURE_17 = Exhibit(
    "figure17", "Overlap of evaluation sets with the training data, and what it changes in the accuracy.", (), _build
)
