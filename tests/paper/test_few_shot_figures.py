"""Figures 6, 7 and 15: from the paper's numbers alone, and from Results whose answers are known."""

import dataclasses

import pytest

from diptych.paper.exhibits.few_shot_figures import FIGURE_6, FIGURE_7
from diptych.paper.exhibits.few_shot_robustness import FIGURE_15
from diptych.paper.exhibits.few_shot_scores import curves, mean_over_sets, robustness_points
from diptych.records import Result
from diptych.report.bars import bar_chart
from diptych.report.curves import line_chart
from diptych.report.table import Cell, to_markdown


def result(
    task, dataset, protocol, value, *, model="small", metric="accuracy", values=None, per_class=None, **condition
):
    settings = {"values": values or [value]}
    settings |= {"examples_per_class": per_class} if per_class else {}
    low, high = (min(values), max(values)) if values else (None, None)
    return Result(
        task, dataset, "test", metric, value, 100, low, high, None, protocol, model, condition, {"settings": settings}
    )


def few(dataset, scores, *, classifier="probe", per_class=64, model="small", spread=0.0):
    """A curve over 1, 2, 4, ... shots."""
    return [
        result(
            "few_shot" if classifier == "probe" else "few_shot_from_texts",
            dataset,
            "draws",
            value,
            classifier=classifier,
            shots=2**power,
            values=[value - spread, value, value + spread],
            per_class=per_class,
            model=model,
        )
        for power, value in enumerate(scores)
    ]


def with_settings(one, **settings):
    return dataclasses.replace(one, run={"settings": {**one.run["settings"], **settings}})


def zero(dataset, value, **options):
    return result("zero_shot", dataset, "ensemble", value, **options)


def full(dataset, value, **options):
    return result("linear_probe", dataset, "features", value, **options)


RISING = [0.3, 0.4, 0.5, 0.6, 0.7]


def cells(table, row):
    return next(cells for name, cells in table.rows if name == row)


def drawn(shown):
    """Every chart and table comes out as markup; what the charts say."""
    for table in shown.tables:
        assert to_markdown(table)
    return "".join(str(line_chart(c) if hasattr(c, "series") else bar_chart(c)) for c in shown.charts)


class TestThePaperAlone:
    def test_figure_6_zero_shot_equals_four_shots(self):
        shown = FIGURE_6.build([])
        assert shown.title == "The paper's zero-shot CLIP equals a 4-shot probe on its own features"
        (table,) = shown.tables
        assert [cell.value for cell in cells(table, "linear probe CLIP, the paper's")][1:] == [
            44.6,
            54,
            62.3,
            66.4,
            71.5,
        ]
        assert cells(table, "zero-shot CLIP, the paper's")[0] == Cell(62.3, published=True)
        assert all(cell.published for _, row in table.rows for cell in row)
        assert "ResNet50, the paper&#39;s" in drawn(shown)
        assert any("read off" in note for note in shown.notes)

    def test_figure_7_gives_the_mean_and_the_median_that_the_paper_states(self):
        shown = FIGURE_7.build([])
        assert "5.4 examples per class on the median of 26 sets, 20.8 on the mean" in shown.title
        (chart,), (table,) = shown.charts, shown.tables
        assert chart.log and len(chart.rows) == 26
        assert chart.rows[0] == ("FER2013", 184) and chart.rows[-1][1] == 0.9
        assert round(cells(table, "mean")[0].value, 1) == 20.8
        assert round(cells(table, "median")[0].value, 1) == 5.4
        assert "OxfordPets" in drawn(shown)

    def test_figure_15_16_shots_equal_zero_shot_on_imagenet_but_not_under_shift(self):
        shown = FIGURE_15.build([])
        assert shown.title.endswith("by −0.2 points over zero-shot's and by −8.9 under shift")
        rows = {row[0]: row[1:] for name, row in shown.tables[0].rows}
        assert list(rows) == ["zero-shot", "1", "2", "4", "8", "16", "32", "64", "128", "all"]
        assert [cell.value for cell in rows["128"][:2]] == [92.1, 70.4]
        above = {shots: row[2].value for shots, row in rows.items()}
        assert (
            above["zero-shot"] > above["16"] > above["128"] > above["all"] > 0
        )  # more data, less effective robustness
        assert "zero-shot" in drawn(shown)


class TestFigure6:
    def test_means_over_the_sets_with_16_shots(self):
        both = [*few("CIFAR10", RISING), zero("CIFAR10", 0.5), *few("MNIST", [0.5] * 5), zero("MNIST", 0.5)]
        short = [*few("DTD", RISING[:4]), zero("DTD", 0.9)]
        shown = FIGURE_6.build([*both, *short])
        assert [round(cell.value, 6) for cell in cells(shown.tables[0], "small, probe")[1:]] == [40, 45, 50, 55, 60]
        assert cells(shown.tables[0], "small, zero-shot")[0].value == 50
        assert shown.title == "small: zero-shot equals a probe of 4.0 shots on its own features"
        assert "2 sets (CIFAR10, MNIST)" in shown.summary
        assert "small, zero-shot" in drawn(shown)

    def test_set_by_set_all_shots_and_full_supervision_are_shown(self):
        results = [*few("CIFAR10", [*RISING, 0.75]), zero("CIFAR10", 0.5), full("CIFAR10", 0.9)]
        shown = FIGURE_6.build(results)
        table = shown.tables[1]
        assert table.columns == ["set", "zero-shot", *(f"{2**n}-shot" for n in range(6)), "full"]
        assert [round(cell.value) for cell in cells(table, "CIFAR10")] == [50, 30, 40, 50, 60, 70, 75, 90]

    def test_the_range_is_that_of_the_draws_means(self):
        first = result("few_shot", "A", "draws", 0.3, values=[0.2, 0.3, 0.4], classifier="probe", shots=1)
        second = result("few_shot", "B", "draws", 0.5, values=[0.6, 0.5, 0.4], classifier="probe", shots=1)
        mean = mean_over_sets([first, second])  # draw by draw 0.4, 0.4, 0.4
        assert (mean.value, mean.low, mean.high) == pytest.approx((40, 40, 40))
        assert mean_over_sets([first]).low == pytest.approx(20)
        fewer = dataclasses.replace(second, run={"settings": {"values": [0.5]}})
        assert mean_over_sets([first, fewer]).low is None

    def test_classifiers_from_zero_shot_stand_beside_the_probe(self):
        better = [value + 0.1 for value in RISING]
        results = [*few("CIFAR10", RISING, spread=0.02), zero("CIFAR10", 0.5)]
        results += few("CIFAR10", better, classifier="interpolated")
        results += few("CIFAR10", better[:3], classifier="zero-shot-initialised")  # not up to 16: no mean
        shown = FIGURE_6.build(results)
        names = [name for name, _ in shown.tables[0].rows if name.startswith("small")]
        assert names == ["small, zero-shot", "small, probe", "small, interpolated"]
        cell = cells(shown.tables[0], "small, probe")[1]
        assert (cell.value, cell.low, cell.high) == pytest.approx((30, 28, 32))

    def test_models_are_compared_on_the_sets_that_they_share(self):
        one = [*few("CIFAR10", RISING), zero("CIFAR10", 0.5), *few("MNIST", [0.9] * 5), zero("MNIST", 0.5)]
        other = [*few("CIFAR10", RISING, model="other"), zero("CIFAR10", 0.8, model="other")]
        shown = FIGURE_6.build([*one, *other])
        assert cells(shown.tables[0], "small, probe")[1].value == pytest.approx(30)  # CIFAR10 alone
        assert "other: zero-shot equals a probe of more than 16 shots" in shown.title

    def test_without_a_complete_set_the_paper_stands_alone_and_a_note_says_why(self):
        shown = FIGURE_6.build(few("CIFAR10", RISING))
        assert shown.title.startswith("The paper's")
        assert any("small: no set has zero-shot" in note for note in shown.notes)
        apart = [*few("CIFAR10", RISING), zero("CIFAR10", 0.5)]
        apart += [*few("MNIST", RISING, model="other"), zero("MNIST", 0.5, model="other")]
        assert any("share no set" in note for note in FIGURE_6.build(apart).notes)


class TestFigure7:
    def test_counts_mean_and_median(self):
        results = [*few("CIFAR10", RISING), zero("CIFAR10", 0.55), full("CIFAR10", 0.9)]  # halfway from 4 to 8
        results += [*few("MNIST", RISING), zero("MNIST", 0.8), full("MNIST", 0.9)]  # halfway from 16 to 64
        shown = FIGURE_7.build(results)
        (table,), (chart,) = shown.tables, shown.charts
        assert cells(table, "CIFAR10")[0].value == pytest.approx(4 * 2**0.5)
        assert cells(table, "MNIST")[0].value == pytest.approx(32)
        assert cells(table, "mean")[0].value == pytest.approx((4 * 2**0.5 + 32) / 2)
        assert cells(table, "median")[0].value == pytest.approx((4 * 2**0.5 + 32) / 2)
        assert cells(table, "FER2013")[0] == Cell(None) and cells(table, "FER2013")[1].value == 184
        assert dict(chart.rows)["MNIST"] == pytest.approx(32)
        assert dict(zip([name for name, _ in chart.rows], chart.published, strict=True))["MNIST"] == 4.8
        assert "small: zero-shot is worth 18.8 examples per class on the median of 2 sets" in shown.title
        assert drawn(shown)

    def test_zero_shot_above_full_supervision(self):
        results = [*few("CIFAR10", RISING), zero("CIFAR10", 0.95), full("CIFAR10", 0.9)]
        shown = FIGURE_7.build(results)
        assert cells(shown.tables[0], "CIFAR10")[0] == "more than 64"
        assert cells(shown.tables[0], "median")[0] == "more than the full set"
        assert dict(shown.charts[0].rows)["CIFAR10"] is None
        assert "worth more than the full set on the median of 1 set" in shown.title
        assert any("stays below zero-shot on CIFAR10" in note for note in shown.notes)
        assert drawn(shown)

    def test_a_curve_far_above_zero_shot_ends_at_the_axis(self):
        results = [*few("CIFAR10", [0.9, 0.901, 0.91]), zero("CIFAR10", 0.5), full("CIFAR10", 0.95)]
        shown = FIGURE_7.build(results)
        assert cells(shown.tables[0], "CIFAR10")[0] == "less than 0.1"
        assert dict(shown.charts[0].rows)["CIFAR10"] == 0.1
        assert drawn(shown)

    def test_full_supervision_takes_the_place_of_shots_that_are_as_many(self):
        results = [*few("CIFAR10", RISING, per_class=16), zero("CIFAR10", 0.5), full("CIFAR10", 0.65)]
        curve = curves(results)["small"]["CIFAR10"]
        assert curve.points() == ([1, 2, 4, 8, 16], [0.3, 0.4, 0.5, 0.6, 0.65])

    def test_full_supervision_counts_the_validation_pictures_that_the_probe_learned_from(self):
        shots = [with_settings(one, train_examples=160) for one in few("CIFAR10", RISING, per_class=16)]
        probe = with_settings(full("CIFAR10", 0.65), train=205)  # 10 classes of 16, and 45 pictures for validation
        for protocol in ("features", "projected"):
            results = [*shots, dataclasses.replace(probe, protocol=protocol)]
            assert curves(results)["small"]["CIFAR10"].points()[0] == [1, 2, 4, 8, 16, 20.5]

    @pytest.mark.parametrize("left_out", ["zero_shot", "linear_probe", "few_shot"])
    def test_with_a_measurement_missing_a_set_has_no_count(self, left_out):
        results = [*few("CIFAR10", RISING), zero("CIFAR10", 0.8), full("CIFAR10", 0.9)]
        shown = FIGURE_7.build([one for one in results if one.task != left_out])
        assert "the median of 26 sets" in shown.title
        assert any("missing for CIFAR10" in note for note in shown.notes) == (left_out != "few_shot")

    def test_where_few_shots_reach_zero_shot_no_full_supervision_is_needed(self):
        known, unknown = (
            [*few("CIFAR10", RISING), zero("CIFAR10", 0.5), *more] for more in ([full("CIFAR10", 0.9)], [])
        )
        counts = [curves(one)["small"]["CIFAR10"].needed() for one in (known, unknown)]
        assert counts == pytest.approx([4, 4])
        assert cells(FIGURE_7.build(unknown).tables[0], "CIFAR10")[0].value == pytest.approx(4)

    def test_other_metrics_and_protocols_are_not_taken(self):
        results = [*few("CIFAR10", RISING), full("CIFAR10", 0.9), zero("CIFAR10", 0.5, metric="accuracy_top_5")]
        results.append(result("zero_shot", "CIFAR10", "single", 0.5))
        assert curves(results)["small"]["CIFAR10"].zero_shot is None

    def test_zero_shot_at_chance_is_worth_no_number_of_examples(self):
        def measured(dataset, value, low):
            shots = [with_settings(one, train_examples=640) for one in few(dataset, RISING)]  # 64 in each of 10 classes
            return [*shots, dataclasses.replace(zero(dataset, value), low=low, high=0.9), full(dataset, 0.9)]

        guessing = [*measured("MNIST", 0.13, 0.0999), *measured("my birds", 0.05, 0.02)]
        shown = FIGURE_7.build([*guessing, *measured("CIFAR10", 0.5, 0.11)])
        (table,), (chart,) = shown.tables, shown.charts
        assert [cells(table, name)[0] for name in ("MNIST", "my birds")] == ["at chance"] * 2
        assert cells(table, "CIFAR10")[0].value == cells(table, "mean")[0].value == pytest.approx(4)
        assert dict(chart.rows)["MNIST"] is None and ">at chance</text>" in drawn(shown)
        assert shown.title == "small: zero-shot is worth 4.0 examples per class on 1 set; at chance on 2 more"
        assert any("at chance on MNIST, my birds: " in note for note in shown.notes) and drawn(shown)
        alone = FIGURE_7.build(guessing)
        assert "small: zero-shot is at chance on 2 sets, so no number of examples equals it" in alone.title
        assert cells(alone.tables[0], "median")[0] == Cell(None) and drawn(alone)

    def test_measured_sets_come_first(self):
        results = [*few("my birds", RISING), zero("my birds", 0.5), full("my birds", 0.9)]
        shown = FIGURE_7.build(results)
        assert shown.charts[0].rows[0] == ("my birds", pytest.approx(4))
        assert shown.charts[0].published[0] is None and shown.charts[0].published[1] is not None


def test_figure_6_says_on_how_many_sets_zero_shot_is_at_chance():
    def measured(dataset, value, low):
        shots = [with_settings(one, train_examples=640) for one in few(dataset, RISING)]
        return [*shots, dataclasses.replace(zero(dataset, value), low=low, high=0.9)]

    good, guessed = measured("CIFAR10", 0.5, 0.2), measured("MNIST", 0.13, 0.09)
    shown = FIGURE_6.build([*good, *guessed])
    assert shown.title.endswith("on its own features; it is at chance on 1 of 2 sets")
    assert any("small: at chance on MNIST: " in note for note in shown.notes)
    by_set = shown.tables[1]
    assert [cells(by_set, name)[0].chance for name in ("CIFAR10", "MNIST")] == [False, True]
    alone = FIGURE_6.build(guessed)
    assert alone.title == "small: zero-shot is at chance on the one set, so no number of examples equals it"
    assert "at chance" not in FIGURE_6.build(good).title and drawn(shown)


PARTS = ("ImageNet-A", "ImageNet-R", "ObjectNet", "ImageNet-Vid", "Youtube-BB")
PLAIN = ("ImageNetV2", "ImageNet-A", "ImageNet-R", "ObjectNet", "ImageNet-Sketch")


def under_shift(shots, x, y, classifier="probe"):
    def few_shot(name, value, **more):
        return result("few_shot", name, "draws", value, classifier=classifier, shots=shots, **more)

    found = [few_shot("ImageNet", x), *(few_shot("ImageNet", x, subset=part) for part in PARTS)]
    found += [few_shot(name, y) for name in PLAIN]
    for name in PARTS[3:]:  # pm-0 and pm-10 count half each
        found += [few_shot(name, y + 0.1, metric="accuracy_pm_0"), few_shot(name, y - 0.1, metric="accuracy_pm_10")]
    return found


def _subset(one):
    return {name: value for name, value in one.condition.items() if name == "subset"}


class TestFigure15:
    def test_points_are_means_over_seven(self):
        results = under_shift(1, 0.5, 0.3) + under_shift(16, 0.8, 0.6) + under_shift(2, 0.6, 0.4)
        found = robustness_points(results)
        assert list(found) == [("small", "probe")]
        assert list(found["small", "probe"]) == ["1", "2", "16"]
        assert found["small", "probe"]["16"] == pytest.approx((80, 60))
        other = [dataclasses.replace(one, value=0.1) if one.dataset == "ImageNetV2" else one for one in results]
        assert robustness_points(other)["small", "probe"]["16"][1] == pytest.approx((6 * 60 + 10) / 7)

    def test_measured_points_stand_with_the_paper_s(self):
        results = [
            one for shots, x in ((1, 0.5), (2, 0.6), (4, 0.7), (16, 0.8)) for one in under_shift(shots, x, x - 0.3)
        ]
        static = [
            dataclasses.replace(
                one, task="robustness", protocol="ensemble", condition={"classifier": "static", **_subset(one)}
            )
            for one in under_shift(1, 0.75, 0.6)
        ]
        whole = dataclasses.replace(static[0], task="zero_shot", condition={})
        shown = FIGURE_15.build([*results, whole, *static[1:]])
        rows = [row for name, row in shown.tables[0].rows if name == "small, probe"]
        assert sorted(row[0] for row in rows) == ["1", "16", "2", "4", "zero-shot"]
        assert shown.title == (
            "small: 16 shots change accuracy on ImageNet by +5.0 points over zero-shot's and by −10.0 under shift"
        )
        assert drawn(shown).count("zero-shot") >= 2

    def test_points_without_a_logit_are_left_out_of_chart_and_line_and_named(self):
        pairs = {1: (0.0, 0.0), 2: (0.6, 0.3), 4: (0.7, 0.4), 8: (0.8, 0.5), 16: (0.9, 0.0)}
        results = [one for shots, pair in pairs.items() for one in under_shift(shots, *pair)]
        shown = FIGURE_15.build(results)
        assert any("lack (examples per class): small, probe at 1; small, probe at 16." in one for one in shown.notes)
        few, line = [one for one in shown.charts[0].series if one.colour == 1][:2]
        assert few.names == ["1", "2", "4", "8", "16"] and line.form == "thin"
        assert (min(line.x), max(line.x)) == pytest.approx((60, 80))
        clean = FIGURE_15.build([one for shots in (2, 4, 8) for one in under_shift(shots, *pairs[shots])])
        assert line.y == clean.charts[0].series[2].y and not any("has no logit" in note for note in clean.notes)
        assert "nan" not in drawn(shown)

    def test_with_a_shift_missing_there_is_no_mean_and_a_note(self):
        results = [one for one in under_shift(16, 0.8, 0.6) if one.dataset != "ObjectNet"]
        shown = FIGURE_15.build(results)
        assert not any(name.startswith("small") for name, _ in shown.tables[0].rows)
        assert any("small: not measured: ObjectNet" in note for note in shown.notes)

    def test_shifts_are_in_neither_figure_6_nor_figure_7(self):
        assert list(curves(under_shift(1, 0.5, 0.3))["small"]) == ["ImageNet"]


def test_what_they_need_can_be_measured():
    for exhibit in (FIGURE_6, FIGURE_7, FIGURE_15):
        assert all(names for _, names in exhibit.needs)
    assert "VOC2007" not in dict(FIGURE_7.needs)["few_shot"] and len(dict(FIGURE_7.needs)["few_shot"]) == 26
