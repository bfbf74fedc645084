"""Charts: where points fall, which ticks stand, and that hostile text stays text."""

import itertools
import math
import re
import xml.etree.ElementTree as ElementTree

import pytest

from diptych.errors import ShapeError
from diptych.report.curves import (
    Chart,
    Series,
    chart_drawing,
    charts_svg,
    doublings,
    line_chart,
    linear_ticks,
    log_ticks,
)
from diptych.report.figure_page import FigurePage, render_figure_page, write_figure

HOSTILE = '<script>alert(1)</script>"&\u202e'


def points(markup, kind):
    """The points of each polyline of that class."""
    found = re.findall(rf'<polyline class="curve {kind}[^"]*" points="([^"]*)"', str(markup))
    return [[tuple(map(float, spot.split(","))) for spot in spots.split()] for spots in found]


def test_doublings_are_evenly_spaced_on_an_axis_of_base_two_and_a_power_law_is_straight():
    chart = Chart("t", "x", "y", [Series("", [100, 200, 400], [1, 2, 3])], x_base=2)
    (line,) = points(line_chart(chart), "s0")
    assert line[1][0] - line[0][0] == pytest.approx(line[2][0] - line[1][0], abs=0.02)
    assert line[0][1] - line[1][1] == pytest.approx(line[1][1] - line[2][1], abs=0.02)
    assert line[2][1] < line[0][1]  # upwards is smaller

    law = Series("", [1, 10, 1000], [54 * x**-0.1 for x in (1, 10, 1000)])
    (line,) = points(line_chart(Chart("t", "x", "y", [law], x_base=10, y_base=10)), "s0")
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(line)]
    assert slopes[0] == pytest.approx(slopes[1], rel=0.01)


def test_a_logarithmic_axis_leaves_out_what_it_cannot_show():
    series = Series("", [0, 1, 2, 4], [5, 0, 6, math.nan], low=[1, 1, 0, 1], high=[9, 9, 9, 9])
    (line,) = points(line_chart(Chart("t", "x", "y", [series], x_base=2, y_base=10)), "s0")
    assert len(line) == 1
    empty = line_chart(Chart("t", "x", "y", [Series("", [], [])], x_base=2, y_base=10))
    assert "nan" not in empty and "inf" not in empty


def test_ticks():
    assert linear_ticks(0, 47, 5) == [0, 10, 20, 30, 40]
    assert log_ticks(0.003, 0.25) == pytest.approx([0.005, 0.01, 0.02, 0.05, 0.1, 0.2])
    assert log_ticks(30.0, 45.0) == pytest.approx([30, 35, 40, 45])
    assert doublings(1875, 60_000) == [1875, 3750, 7500, 15_000, 30_000, 60_000]
    assert len(doublings(1, 2**20)) <= 8


def test_columns_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match="'a'"):
        Series("a", [1, 2], [1])
    with pytest.raises(ShapeError):
        Series("a", [1], [1], low=[1, 2])


def page(text):
    chart = Chart(text, text, text, [Series(text, [1, 2], [1, 2], [0, 1], [2, 3], band=True), Series("b", [1], [1])])
    return FigurePage(text, text, [chart, chart], ["a", text], [[text, "1"]], [text], {text: text})


def test_hostile_text_changes_no_tag(tmp_path):
    assert "<script" not in render_figure_page(page(HOSTILE)) and "\u202e" not in page_words(page(HOSTILE))
    tags = [re.findall(r"<(/?\w+)", render_figure_page(page(text))) for text in ("harmless", HOSTILE)]
    assert tags[0] == tags[1]


def page_words(content):
    """The page without its charts, whose labels are the program's own."""
    return re.sub(r"<svg.*?</svg>|aria-label=\"[^\"]*\"", "", render_figure_page(content), flags=re.DOTALL)


def test_the_files_are_a_picture_and_a_page_that_load_nothing(tmp_path):
    drawn, paged = write_figure(page("harmless"), tmp_path / "new", "figure")
    root = ElementTree.fromstring(drawn.read_text())
    assert root.get("viewBox") == "0 0 1120 400"
    assert sorted(path.name for path in drawn.parent.iterdir()) == ["figure.html", "figure.svg"]
    html = paged.read_text()
    assert html.count("<svg") == 3 and not re.findall(r'(?:src|href)="(?!data:)[^"#]', html) and "url(" not in html


def test_a_picture_is_as_wide_as_its_charts():
    assert 'viewBox="0 0 560 400"' in charts_svg([Chart("t", "x", "y", [Series("", [1, 2], [1, 2])])])


def test_a_legend_that_would_cover_the_curves_stands_below_them():
    few, many = ([Series(f"curve {place}", [1, 2], [1, 2]) for place in range(num)] for num in (4, 13))
    inside, below = (chart_drawing(Chart("t", "x", "y", series)) for series in (few, many))
    assert inside.height == 400 and below.height > 400
    heights = [float(y) for y in re.findall(r'y="([\d.]+)"[^>]*>curve \d+<', str(below.content))]
    assert len(heights) == 13 and min(heights) > 400 and max(heights) < below.height
