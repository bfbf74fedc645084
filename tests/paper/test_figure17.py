"""Figure 17: the paper's numbers as extracted, its statistics reproduced, and points of measured Results."""

import csv
from pathlib import Path

import pytest

from diptych.overlap.overlap_chart import PAPER, SetPoint, overlap_charts, paper_points
from diptych.paper.exhibit_table import EXHIBITS
from diptych.paper.exhibits.figure17 import measured_points
from diptych.records import Result
from diptych.report.curves import line_chart
from diptych.report.paper_numbers import published

PAPER_FOLDER = Path(__file__).parents[3] / "shared" / "paper"


def row(subset, value, n, dataset="set", task="zero_shot", metric="accuracy"):
    condition = {"subset": subset, "measured_by": task}
    return Result("overlap", dataset, "test", metric, value, n, None, None, None, "ensemble", "mine", condition)


def test_the_papers_statistics_come_from_its_points():
    points = paper_points()
    stated = published("section 5")["overlap"]
    assert sum(point.p <= 0.05 for point in points) == stated["significant"] == 6
    assert sum(point.p <= 1e-3 for point in points) == stated["after Bonferroni"] == 2
    assert (stated["median"], stated["mean"], stated["sets"], stated["without overlap"]) == (2.2, 3.2, 35, 9)
    assert (stated["intervals that exclude 0"], stated["worse, of those that exclude 0"]) == (5, 2)
    [birdsnap] = [point for point in points if point.dataset == "Birdsnap"]
    assert birdsnap.difference == 0.69 and stated["largest gain, points"] == 0.6  # read off, and stated


@pytest.mark.skipif(not PAPER_FOLDER.is_dir(), reason="needs ../shared/paper")
def test_the_numbers_are_the_extracted_ones():
    limits = {"p<1e-3": 0.001, "p<0.05": 0.05, "p>0.05": 1.0}
    with (PAPER_FOLDER / "overlap_fig17_digitized.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(paper_points())
    for extracted, point in zip(rows, paper_points(), strict=True):
        gap = extracted["accuracy_diff_overlap_minus_clean_pct_approx"]
        assert point.dataset == extracted["dataset"] and point.p == limits[extracted["one_sided_binomial_p"]]
        assert point.overlap == float(extracted["detected_overlap_pct_approx"])
        assert point.difference == float(extracted["overall_accuracy_change_pct_approx"])
        assert point.gap == (float(gap) if gap else None)


def test_points_of_results_are_those_of_a_case_counted_by_hand():
    [point] = measured_points([row("overlap", 1.0, 20), row("all", 0.75, 40), row("clean", 0.5, 20)])["mine"]
    assert (point.overlap, point.gap, point.difference) == pytest.approx((50, 50, 25))
    assert point.p == pytest.approx(0.5**20) and point.excludes_zero
    assert measured_points([row("all", 0.75, 40)])["mine"][0].overlap == 0
    both = [row("all", 0.5, 4, task="linear_probe"), row("overlap", 0.5, 2, task="linear_probe"), row("all", 0.75, 40)]
    assert [point.overlap for point in measured_points(both)["mine"]] == [0]  # zero-shot, as in the paper


def test_colours_follow_the_p_value_and_the_interval():
    points = [
        SetPoint("a", 1, 5, 1, 1e-4, 1, 9),
        SetPoint("b", 2, 5, 1, 0.01, -1, 9),
        SetPoint("c", 3, -5, 1, 0.5, -9, -1),
    ]
    left, right = overlap_charts([("", points)])
    assert {series.label: list(series.names) for series in left.series} == {
        "interval excludes 0": ["a", "c"],
        "interval includes 0, or is unknown": ["b"],
    }
    assert {series.label: list(series.names) for series in right.series} == {
        "p < 0.001": ["a"],
        "p < 0.05": ["b"],
        "p > 0.05": ["c"],
    }


def test_the_papers_points_are_outlines_of_the_same_colours():
    points = [SetPoint(name, 1, 5, 1, p, 1, 9) for name, p in (("a", 1e-4), ("b", 0.01), ("c", 0.5))]
    for chart in overlap_charts([("mine", points), (PAPER, points)]):
        colours = {outlined: [one.colour for one in chart.series if one.outlined == outlined] for outlined in (0, 1)}
        assert colours[0] == colours[1] and len(set(colours[0])) == len(colours[0])
        assert line_chart(chart).count('class="outline') == 3 + len(colours[1])  # three points, and the legend


def test_the_exhibit_shows_both():
    shown = EXHIBITS["figure17"].build([row("overlap", 1.0, 20), row("all", 0.75, 40)])
    assert "mine: 1 of 1 sets overlap" in shown.title and "2.2 %" in shown.title
    assert len(shown.charts) == 2 and len(shown.tables) == 3
    assert len(EXHIBITS["figure17"].build([]).tables) == 2
