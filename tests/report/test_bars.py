"""Bars: where they begin and end, the paper's mark beside them, and axes, names and ticks of charts that need room."""

import itertools
import math
import re

import pytest

from diptych.errors import InputError, ShapeError
from diptych.report.axes import Axis, logit_ticks
from diptych.report.bars import BarChart, bar_chart
from diptych.report.curves import Chart, Series, chart_drawing, line_chart
from diptych.report.svg import svg_file

RECT = r'<rect class="bar (\w+)" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)"'


def bars(markup):
    """Class, left end, right end and top of each bar."""
    return [(c, float(x), float(x) + float(w), float(y)) for c, x, y, w in re.findall(RECT, str(markup))]


def test_bars_are_as_long_as_their_values_and_negative_ones_go_to_the_left():
    found = bars(bar_chart(BarChart("t", "points", [("a", 20), ("b", 10), ("c", -10), ("d", None)])))
    zero = found[0][1]
    assert [one[0] for one in found] == ["f0", "f0", "f1"]
    assert found[1][1] == zero and found[2][2] == pytest.approx(zero, abs=0.02)
    assert found[0][2] - zero == pytest.approx(2 * (found[1][2] - zero), abs=0.03)
    assert zero - found[2][1] == pytest.approx(found[1][2] - zero, abs=0.03)
    assert found[0][3] < found[1][3] < found[2][3]


def test_numbers_stand_at_the_ends_with_a_true_minus_and_what_is_missing_is_a_dash():
    words = re.findall(
        r">([^<>]+)</text>", str(bar_chart(BarChart("t", "x", [("a", 1.25), ("b", -3), ("c", None)], digits=1)))
    )
    assert "1.2" in words and "−3.0" in words and "–" in words and not any(word.startswith("-") for word in words)


def test_words_in_place_of_a_number_and_no_dash_beside_the_paper_s_mark_alone():
    rows = [("a", 1.0), ("b", None), ("c", None), ("d", None)]
    chart = BarChart("t", "x", rows, [None, None, 2.0, 3.0], remarks={"b": "at chance", "d": "at chance"})
    words = re.findall(r">([^<>]*)</text>", str(bar_chart(chart)))
    assert words.count("at chance") == 2 and "–" not in words


def test_the_mark_of_the_paper_stands_where_a_bar_of_its_value_would_end():
    chart = str(bar_chart(BarChart("t", "x", [("a", 10), ("b", 20)], [20, None])))
    ends = [one[2] for one in bars(chart)]
    marks = [float(x) for x in re.findall(r'class="published" points="([\d.]+),', chart)]
    assert len(marks) == 2 and any(
        mark == pytest.approx(ends[1], abs=0.02) for mark in marks
    )  # the other is the legend's
    assert "the paper" in chart and "the paper" not in str(bar_chart(BarChart("t", "x", [("a", 1)], [None])))


def test_on_a_logarithmic_axis_a_tenfold_value_is_one_step_longer():
    found = bars(bar_chart(BarChart("t", "x", [("a", 10), ("b", 100), ("c", 1000)], [None, 1, None], log=True)))
    ends = [one[2] for one in found]
    assert (
        ends[1] - ends[0]
        == pytest.approx(ends[2] - ends[1], abs=0.03)
        == pytest.approx(ends[0] - found[0][1], abs=0.03)
    )


def test_a_chart_grows_with_its_rows():
    heights = [
        float(re.search(r'height="([\d.]+)" role', str(bar_chart(BarChart("t", "x", [("a", 1)] * n))))[1])
        for n in (1, 11)
    ]
    assert heights[1] - heights[0] == pytest.approx(220)
    assert "nan" not in bar_chart(BarChart("t", "x", []))


@pytest.mark.parametrize(
    ("chart", "error"),
    [
        (BarChart("t", "x", [("a", 1)], [1, 2]), ShapeError),
        (BarChart("t", "x", [("a", 0)], log=True), InputError),
        (BarChart("t", "x", [("a", math.nan)]), InputError),
        (BarChart("t", "x", [("a", 1)], [math.inf]), InputError),
    ],
)
def test_values_that_cannot_be_drawn_are_refused(chart, error):
    with pytest.raises(error, match="t: "):
        bar_chart(chart)


def test_hostile_names_stay_text():
    hostile = '<script>"&'
    assert "<script" not in bar_chart(BarChart(hostile, hostile, [(hostile, 1)]))
    named = Series(hostile, [1, 2], [1, 2], names=[hostile, "b"])
    assert "<script" not in line_chart(Chart(hostile, hostile, hostile, [named]))


def places(chart):
    (spots,) = re.findall(r'<polyline class="curve s0" points="([^"]*)"', str(line_chart(chart)))
    return [tuple(map(float, spot.split(","))) for spot in spots.split()]


def test_an_axis_that_need_not_begin_at_zero_spends_its_length_on_the_data():
    series = [Series("", [90, 95, 100], [90, 95, 100])]
    near, far = (places(Chart("t", "x", "y", series, x_from_zero=z, y_from_zero=z)) for z in (False, True))
    assert near[2][0] - near[0][0] > 8 * (far[2][0] - far[0][0])
    assert near[0][1] - near[2][1] > 8 * (far[0][1] - far[2][1])
    axis = Axis([-5, 10], None, 0, 100)  # a negative value is shown even where the axis would begin at 0
    assert axis.low < -5 and axis(-5) > 0


def test_a_logit_axis_is_straight_in_the_logarithm_of_odds_and_leaves_out_0_and_100():
    odds = [0.1, 1, 10, 100]
    percents = [100 * one / (1 + one) for one in odds]
    found = places(Chart("t", "x", "y", [Series("", [0, *percents, 50], [50, *percents, 100])], logit=True))
    steps = {round(b[0] - a[0], 1) for a, b in itertools.pairwise(found)}
    assert len(found) == 4 and max(steps) - min(steps) <= 0.1
    assert logit_ticks(4, 97) == [5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95][::2]
    assert all(0 < tick < 100 for tick in logit_ticks(60, 63)) and len(logit_ticks(60, 63)) >= 3


def test_the_diagonal_passes_where_both_axes_agree():
    chart = Chart("t", "x", "y", [Series("", [20, 80], [40, 60], form="markers")], diagonal=True)
    x1, y1, x2, y2 = map(
        float,
        re.search(
            r'class="diagonal" x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)"', line_chart(chart)
        ).groups(),
    )
    across, up = Axis([20, 80], None, 56, 544), Axis([40, 60], None, 348, 34)
    assert (x1, y1) == pytest.approx((across(0), up(0)), abs=0.02) and (x2, y2) == pytest.approx(
        (across(62.4), up(62.4)), abs=0.02
    )


def test_names_stand_beside_their_points_and_never_over_each_other():
    crowd = Series(
        "",
        [50 + 0.01 * n for n in range(12)] + [10],
        [50] * 12 + [10],
        form="markers",
        names=[f"model {n}" for n in range(13)],
    )
    chart = str(line_chart(Chart("t", "x", "y", [crowd])))
    spots = [
        (float(x), float(y), word)
        for x, y, word in re.findall(r'class="name" x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)<', chart)
    ]
    assert "model 12" in {word for _, _, word in spots} and 2 < len(spots) < 13
    assert len({(x, y) for x, y, _ in spots}) == len(spots)
    assert chart.count("<title>model ") == 13  # a pointer is told all of them
    with pytest.raises(ShapeError):
        Series("a", [1, 2], [1, 2], names=["one"])


def test_a_file_holds_drawings_in_rows():
    drawings = [chart_drawing(Chart("t", "x", "y", [Series("", [1, 2], [1, 2])]), (300, 200)) for _ in range(5)]
    file = svg_file(drawings, 2)
    assert 'viewBox="0 0 600 600"' in file and "translate(300 400)" not in file and "translate(0 400)" in file
