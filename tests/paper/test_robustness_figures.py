"""Table 16, figures 13 and 14: from the paper's own numbers, and with measured models beside them."""

import dataclasses

import numpy as np
import pytest

from diptych.evaluate.metrics.logit_line import above_line
from diptych.evaluate.tasks.testbed import SHIFT_NAMES, SUBSETS, VIDEOS, standard_line
from diptych.paper.exhibits.robustness_figures import FIGURE_13, FIGURE_14, TABLE_16
from diptych.paper.exhibits.robustness_scores import (
    ADAPTED,
    ADAPTIVE,
    COLUMNS,
    STATIC,
    changes,
    measured_scores,
    paper_changes,
    paper_exchanged,
    paper_means,
    paper_points,
    paper_static,
)
from diptych.records import Result
from diptych.report.bars import BarChart, bar_chart
from diptych.report.curves import line_chart
from diptych.report.paper_numbers import published
from diptych.report.table import Cell, to_markdown

WAYS = {
    "static": ("robustness", "ensemble", {"classifier": "static"}),
    "adaptive": ("robustness", "ensemble", {"classifier": "adaptive"}),
    "adapted": ("imagenet_probe", "adapted", {}),
}


def result(dataset, way, value, metric="accuracy", task="zero_shot", model="ours", **more):
    """By a key of WAYS, with more in its condition, or by the protocol of a task."""
    task, protocol, condition = WAYS.get(way, (task, way, {}))
    where = (task, dataset, "test", metric)
    return Result(*where, value, 1000, value - 0.02, value + 0.02, "i", protocol, model, condition | more)


def everything(model="ours"):
    """A model with 0.70 on ImageNet, 0.9 on each part of it, 0.5 and 0.6 under shift, static and adaptive."""
    found = [result("ImageNet", "ensemble", 0.7, model=model)]
    found += [result("ImageNet", "static", 0.9, model=model, subset=name) for name in SUBSETS]
    for name in SHIFT_NAMES:
        if name not in VIDEOS:
            found.append(result(name, "static", 0.5, model=model))
    found.append(result("ObjectNet", "adaptive", 0.6, model=model))
    for name in VIDEOS:
        for k, value in ((0, 0.6), (10, 0.4)):
            found.append(result(name, "static", value, f"accuracy_pm_{k}", model=model))
            found.append(result(name, "adaptive", value + 0.1, f"accuracy_pm_{k}", model=model))
    return found


def probe(model="ours"):
    found = [result("ImageNet", "features", 0.8, task="linear_probe", model=model)]
    found += [result("ImageNet", "adapted", 0.95, model=model, subset=name) for name in SUBSETS]
    for name in SHIFT_NAMES:
        metrics = ("accuracy_pm_0", "accuracy_pm_10") if name in VIDEOS else ("accuracy",)
        found += [result(name, "adapted", 0.45, one, model=model) for one in metrics]
    return found


# ------------------------------------------------------------------ the paper's own numbers


def test_the_papers_means_follow_from_its_table():
    means = paper_means()
    assert {way: round(value, 1) for way, value in means.items()} == {ADAPTIVE: 79.0, STATIC: 73.6, ADAPTED: 72.6}


def test_the_exchange_of_two_cells_agrees_with_figure_14():
    """Probe less static zero-shot is what figure 14 prints for the adaptation to ImageNet, set by set."""
    probe_row, static, printed = (
        published("table 16")["Linear Probe CLIP"],
        paper_static(),
        paper_changes("adapt to ImageNet"),
    )
    ours = {
        name: (probe_row[f"{name}-pm0"] + probe_row[f"{name}-pm10"]) / 2 - static[name]
        if name in VIDEOS
        else probe_row[name] - static[name]
        for name in SHIFT_NAMES
    }
    assert ours == pytest.approx({name: printed[name] for name in SHIFT_NAMES}, abs=0.151)
    assert published("table 16")["Zero-Shot CLIP"] != paper_exchanged()
    assert sum(paper_exchanged().values()) == pytest.approx(sum(published("table 16")["Zero-Shot CLIP"].values()))


def test_figure_13s_best_point_is_table_16s_mean():
    _, y = max(paper_points("figure 13", "zero_shot_clip"))
    assert y == pytest.approx(paper_means()[ADAPTIVE], abs=0.15)
    assert max(paper_points("figure 14", "imagenet_zero_shot"))[1] == pytest.approx(paper_means()[STATIC], abs=0.15)
    assert max(paper_points("figure 14", "logistic_regression"))[1] == pytest.approx(paper_means()[ADAPTED], abs=0.15)


@pytest.mark.parametrize("exhibit", [TABLE_16, FIGURE_13, FIGURE_14], ids=lambda one: one.name)
@pytest.mark.parametrize("results", [[], [*everything(), *probe()], everything()[:5]], ids=["none", "all", "some"])
def test_exhibits_are_shown_with_all_some_and_no_results(exhibit, results):
    shown = exhibit.build(results)
    assert shown.title and shown.tables
    for table in shown.tables:
        assert to_markdown(table)
    for chart in shown.charts:
        assert str(bar_chart(chart) if isinstance(chart, BarChart) else line_chart(chart)).startswith("<svg")
    words = " ".join([shown.title, shown.summary, *shown.notes])
    assert "None" not in words and "nan" not in words and "  " not in words


def test_table_16_without_results_is_the_papers():
    (table,) = TABLE_16.build([]).tables
    assert table.columns == ["model", *COLUMNS, "mean of 7"]
    last = {name: cells[-1] for name, cells in table.rows}
    assert all(isinstance(cell, Cell) and cell.published for cell in last.values())
    assert {name: round(cell.value, 1) for name, cell in last.items()} == {
        "NS EfficientNet-L2": 72.4,
        "FixResNeXt101-32x48d V2": 69.4,
        "Linear Probe CLIP": 72.6,
        "Zero-Shot CLIP": 79.0,
        "Zero-Shot CLIP, ImageNet's classes": 73.6,
    }


# ------------------------------------------------------------------ measured models


def test_measured_scores_by_way():
    found = measured_scores([*everything(), *probe()])
    assert list(found) == [("ours", ADAPTIVE), ("ours", STATIC), ("ours", ADAPTED)]
    adaptive, static, adapted = found.values()
    assert adaptive.x == pytest.approx((2 * 70 + 5 * 90) / 7) == static.x
    assert adaptive.y == pytest.approx((4 * 50 + 60 + 2 * 60) / 7) and static.y == pytest.approx(50)
    assert adapted.x == pytest.approx((2 * 80 + 5 * 95) / 7) and adapted.y == pytest.approx(45)
    assert adaptive.percents["ImageNet-A"] == 50 and adaptive.percents["ImageNet-Vid-pm10"] == 50
    assert measured_scores(everything()[::-1])["ours", ADAPTIVE].y == adaptive.y  # whatever the order
    assert changes(static, adaptive) == pytest.approx(
        {"ImageNet": 0, **dict.fromkeys(SHIFT_NAMES, 0), **dict.fromkeys(("ObjectNet", *VIDEOS), 10)}
    )


def test_other_results_are_passed_over():
    others = [
        result("Food101", "ensemble", 0.9),
        result("ImageNet-A", "ensemble", 0.9),  # of the suite's own zero-shot task
        result("ImageNet-A", "static", 0.9, "accuracy_top_5"),
        result("ImageNet", "single", 0.1),
        result("ImageNet", "ensemble", 0.7, model="without shifts"),
    ]
    assert measured_scores(others) == {}
    both = measured_scores([*others, result("ImageNet-A", "static", 0.3)])
    assert set(both["ours", STATIC].results) == {"ImageNet-A"}
    again = measured_scores([result("ImageNet-A", "static", 0.3), result("ImageNet-A", "static", 0.4)])
    assert again["ours", STATIC].percents == {"ImageNet-A": 40}  # the later one


def test_figure_13_says_how_far_above_the_line_a_model_is():
    shown = FIGURE_13.build([*everything("a"), *everything("b")])
    x, y = (2 * 70 + 5 * 90) / 7, (4 * 50 + 60 + 2 * 60) / 7
    expected = 100 * above_line(standard_line(), [x / 100], [y / 100]).effective[0]
    assert f"a, zero-shot: {expected:+.1f} points" in shown.title and "b, zero-shot:" in shown.title
    table = shown.tables[0]
    name, cells = table.rows[0]
    assert name == "a, zero-shot" and cells[0].value == pytest.approx(x) and cells[3].value == pytest.approx(expected)
    assert cells[3].low < expected < cells[3].high
    assert [series.label for series in shown.charts[0].series][-1] == "measured"
    assert shown.charts[0].series[-1].names[0] == "a, zero-shot"
    by_shift = next(one for one in shown.tables if one.title.startswith("a, zero-shot:"))
    assert [name for name, _ in by_shift.rows] == list(SHIFT_NAMES)


def test_figure_13_has_all_models_right_of_its_edge():
    series = {one.label: one for one in FIGURE_13.build([]).charts[0].series}
    assert len(series["standard training"].x) > 80 and len(series["more data"].x) > 30
    assert len(series["zero-shot CLIP, the paper's"].x) == 9
    fit = series["fit of zero-shot CLIP"]
    assert (np.array(fit.low) <= fit.y).all() and (np.array(fit.y) <= fit.high).all()


def test_figure_14_bars_stand_beside_the_papers():
    shown = FIGURE_14.build([*everything(), *probe()])
    bars = {one.title: one for one in shown.charts if isinstance(one, BarChart)}
    rows = dict(bars["ours: adapt to ImageNet"].rows)
    assert rows["ImageNet"] == pytest.approx(10) and rows["ImageNet-A"] == pytest.approx(-5)
    assert bars["ours: adapt to ImageNet"].published[0] == 9.2
    assert dict(bars["ours: adapt to class shift"].rows)["Youtube-BB"] == pytest.approx(10)
    assert len(bars) == 4
    assert "gains 5.4 points" in shown.title and "loses 1.0" in shown.title


def test_a_model_that_makes_no_mistake_has_no_logit():
    perfect = [dataclasses.replace(one, value=1.0) for one in everything()]
    shown = FIGURE_13.build(perfect)
    assert shown.tables[0].rows[0][1][3].value is None


def test_missing_sets_are_named():
    notes = " ".join(TABLE_16.build(everything()[:-2]).notes)
    assert "ours, zero-shot: not measured" not in notes or "Youtube-BB" in notes
    assert "ImageNet-A" in " ".join(TABLE_16.build([result("ImageNetV2", "static", 0.3)]).notes)


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("where", ["the usual set", "shifts"])
def test_a_measured_model_at_the_ends_of_the_scale_breaks_nothing(value, where):
    def at_the_end(one):
        on_shift = one.dataset != "ImageNet"
        return dataclasses.replace(one, value=value) if on_shift == (where == "shifts") else one

    results = [*everything("steady"), *map(at_the_end, everything("odd"))]
    for exhibit in (TABLE_16, FIGURE_13, FIGURE_14):
        shown = exhibit.build(results)
        for chart in shown.charts:
            assert "nan" not in str(bar_chart(chart) if isinstance(chart, BarChart) else line_chart(chart))
        assert all("nan" not in to_markdown(table) for table in shown.tables)
    assert any("so figure 14 lacks: odd, " in note and "steady" not in note for note in shown.notes)
    rows = dict(FIGURE_13.build(results).tables[0].rows)
    effective = next(cells[3].value for name, cells in rows.items() if name.startswith("odd"))
    assert (effective is None) == (where == "the usual set")


def test_the_model_that_a_shift_s_line_lacks_is_named_where_that_line_is_shown():
    note = "the line of one shift lacks: resnet50 on ImageNet-A."
    assert any(note in one for one in FIGURE_13.build(everything()).notes)
    assert not any(note in one for one in FIGURE_13.build([]).notes)
