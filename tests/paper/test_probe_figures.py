"""Figures 4, 5, 8 to 12, 20 to 22: what the paper states follows from its own numbers; measured models take part."""

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from diptych.errors import DataError, InputError, ShapeError
from diptych.evalsets.cards import CARDS
from diptych.evaluate.predictions import predictions_path_of, write_predictions
from diptych.paper.exhibit_table import EXHIBITS
from diptych.paper.exhibits.delta_figures import FIGURE_5, FIGURE_11, differences, paper_differences, wins
from diptych.paper.exhibits.figure21 import PAPER_EXAMPLES, draw_examples, find_predictions, shown_examples
from diptych.paper.exhibits.measured_examples import FIGURE_21
from diptych.paper.exhibits.probe_figures import (
    FIGURE_8,
    FIGURE_10,
    FIGURE_12,
    FIGURE_20,
    kitti_as_plotted,
    probe_against_zero_shot,
)
from diptych.paper.exhibits.tables_10_11 import TABLE_10, TABLE_11
from diptych.paper.exhibits.zero_shot_figures import FIGURE_4, FIGURE_9_PAPER, FIGURE_22, compute_for_prompts, paper_law
from diptych.paper.numbers.compute import measured_gflops, paper_gflops, twin
from diptych.paper.numbers.line_fit import fit_line
from diptych.paper.numbers.measured import BEST, PAPER_27, num_test
from diptych.records import Predictions, Result
from diptych.report.bars import bar_chart
from diptych.report.curves import Chart, line_chart
from diptych.report.paper_numbers import published

OURS = (
    *(FIGURE_4, FIGURE_5, FIGURE_8, FIGURE_9_PAPER, FIGURE_10, FIGURE_11, FIGURE_12, FIGURE_20, FIGURE_21, FIGURE_22),
    *(TABLE_10, TABLE_11),
)
SHARED = Path(__file__).resolve().parents[3] / "shared" / "paper"


def results(model, task, protocol, percents, **settings):
    """Results of sets by their card's metric."""
    run = {"settings": settings} if settings else {}
    return [
        Result(
            task,
            name,
            "test",
            CARDS[name].metric,
            value / 100,
            num_test(name),
            None,
            None,
            None,
            protocol,
            model,
            run=run,
        )
        for name, value in percents.items()
    ]


def rounded_or_known(deltas, printed, known):
    """Where a printed difference is not that of the tables, beyond rounding."""
    return {name for name in printed if abs(deltas[name] - printed[name]) > 0.15} == known


def test_figure_5_wins_16_of_27_and_its_differences_follow_from_the_tables():
    deltas, printed = paper_differences("figure 5")
    assert (wins(deltas), wins(printed), len(printed)) == (16, 16, 27)
    assert rounded_or_known(deltas, printed, {"KITTI", "UCF101"})  # both are known to contradict tables 10 and 11
    assert list(deltas)[:3] == ["StanfordCars", "Country211", "Food101"]
    shown = FIGURE_5.build([])
    assert "16 of 27" in shown.title and any(
        "UCF101 (+7.7, not +5.7), KITTI (−34.0, not −45.2)" in n for n in shown.notes
    )
    assert [name for name, _ in shown.charts[0].rows] == list(deltas)


def test_figure_11_wins_21_and_its_differences_follow_from_table_10():
    deltas, printed = paper_differences("figure 11")
    assert (
        sum(delta > 0.05 for delta in printed.values()) == 20 and printed["STL10"] == 0
    )  # the text's 21 counts the tie
    assert sum(delta >= 0 for delta in deltas.values()) == 21 and rounded_or_known(deltas, printed, set())
    assert "20 of 27 sets, and is level on 1" in FIGURE_11.build([]).title


def test_figure_8_correlation_slope_and_interval():
    probes, zero_shot = published("table 10")[BEST], published("table 11")[BEST]
    assert kitti_as_plotted() == pytest.approx(33, abs=0.2)
    plotted = probe_against_zero_shot(probes, {**zero_shot, "KITTI": 33.0})
    assert (round(plotted.r, 2), round(plotted.slope, 2)) == (0.82, 1.28) and plotted.p < 1e-6
    assert (plotted.low, plotted.high) == (pytest.approx(0.94, abs=0.015), pytest.approx(1.78, abs=0.02))
    printed = probe_against_zero_shot(probes, zero_shot)
    assert (round(printed.r, 2), round(printed.slope, 2)) == (0.81, 1.32)
    assert "r = 0.82, slope 1.28 (0.94 to 1.78)" in FIGURE_8.build([]).title
    gaps = {name: probes[name] - zero_shot[name] for name in PAPER_27}
    assert sum(gaps[name] < 3.3 for name in gaps) == 5  # STL10, CIFAR10, Food101, OxfordPets, Caltech101


def test_figure_9_law():
    law = paper_law()
    assert (round(law.a, 1), round(law.b, 3)) == (54.0, -0.103)
    assert "error = 54.0 · GFLOPs^-0.103" in FIGURE_9_PAPER.build([]).title


def test_figure_4_gain_and_its_worth_in_compute():
    rows = published("figure 4").values()
    columns = ("GFLOPs", "class names", "prompts and ensembles")
    gflops, bare, ensemble = ([row[name] for row in rows] for name in columns)
    assert sum(ensemble) / 5 - sum(bare) / 5 == pytest.approx(5, abs=0.5)  # "almost 5 points"
    assert compute_for_prompts(gflops, bare, ensemble) == pytest.approx(
        4, abs=0.5
    )  # "a four times more efficient model"
    assert compute_for_prompts([1, 10, 100], [10, 20, 30], [20, 30, 99]) == pytest.approx(10)
    assert np.isnan(compute_for_prompts([1, 10], [10, 20], [90, 95]))


def test_the_mean_gain_of_figure_4_has_an_interval_over_its_sets():
    """Of nine sets one gains 9 points: the mean gain of a draw is how often it has that set, which is binomial."""
    names = PAPER_27[:9]
    bare = {name: 50.0 for name in names}
    prompted = {**bare, names[0]: 59.0}
    measured = [*results("tiny", "zero_shot", "names", bare), *results("tiny", "zero_shot", "ensemble", prompted)]
    gain = FIGURE_4.build(measured).tables[0].rows[0][1][-1]
    draws = binom(9, 1 / 9)
    assert gain.value == pytest.approx(1.0)
    assert (gain.low, gain.high) == (pytest.approx(draws.ppf(0.0025)), pytest.approx(draws.ppf(0.9975)))
    few = [one for one in measured if one.dataset in names[:7]]
    gain = FIGURE_4.build(few).tables[0].rows[0][1][-1]
    assert gain.value == pytest.approx(9 / 7) and gain.low is gain.high is None
    notes = " ".join(FIGURE_4.build(few).notes)
    assert "bootstrap over the sets" in notes and "Fewer than 8 sets give none" in notes
    assert "bootstrap over the sets" not in " ".join(FIGURE_4.build([]).notes)
    assert all(cells[-1].low is None for _, cells in FIGURE_4.build([]).tables[0].rows)  # the paper's


def test_figure_10_at_equal_compute_vision_transformers_lead():
    shown = FIGURE_10.build([])
    assert "Vision Transformers lead" in shown.title
    for chart in shown.charts:
        series = {one.label: one for one in chart.series}
        vit = series.pop("CLIP, ViTs")
        for other in series.values():
            for x, y in zip(other.x, other.y, strict=True):
                if vit.x[0] <= x <= vit.x[-1]:
                    assert y < np.interp(np.log(x), np.log(vit.x), vit.y), (chart.title, other.label, x)


def test_figure_12_lead_at_equal_imagenet_scores():
    shown = FIGURE_12.build([])
    rows = {name: row for name, row in shown.tables[0].rows}
    assert len(rows) == 66 and sum(len(one.x) for one in shown.charts[0].series) == 66
    others = [row for name, row in rows.items() if not name.startswith("CLIP")]
    slope, height = np.polyfit([row[0].value for row in others], [row[3].value for row in others], 1)
    for row in rows.values():
        assert row[4].value == pytest.approx(row[3].value - slope * row[0].value - height, abs=1e-6)
    clip = [row[4].value for name, row in rows.items() if name.startswith("CLIP")]
    assert min(clip) > 0 and f"{np.mean(clip):.1f} points more" in shown.title and len(clip) == 9


def test_figures_20_and_22_have_every_set_and_the_legend_once():
    for exhibit, families in ((FIGURE_20, 4), (FIGURE_22, 3)):
        charts = exhibit.build([]).charts
        assert [chart.title for chart in charts] == ["mean of 27", *PAPER_27]
        assert sum(bool(one.label) for one in charts[0].series) == families
        assert not any(one.label for chart in charts[1:] for one in chart.series)
    kitti = next(chart for chart in FIGURE_22.build([]).charts if chart.title == "KITTI")
    assert 21.9 in [y for one in kitti.series for y in one.y]


def test_a_measured_model_takes_part_everywhere():
    paper10, paper11 = published("table 10")["CLIP RN50"], published("table 11")["CLIP RN50"]
    measured = [
        *results("tiny", "linear_probe", "features", paper10, gflops=0.5),
        *results("tiny", "zero_shot", "ensemble", paper11, gflops=0.5),
        *results("tiny", "zero_shot", "names", {name: value - 2 for name, value in list(paper11.items())[:10]}),
    ]
    means = {"figure20": np.mean([*paper10.values()]), "figure22": np.mean([*paper11.values()])}
    for exhibit in OURS:
        name, shown = exhibit.name, exhibit.build(measured)
        for chart in shown.charts:
            assert "nan" not in (line_chart(chart) if isinstance(chart, Chart) else bar_chart(chart))
        if name in means:  # the chart of means has the measured model at its compute
            (own,) = [one for one in shown.charts[0].series if one.label == "measured"]
            assert (list(own.x), list(own.y)) == ([0.5], [pytest.approx(means[name])])
        elif name != "figure21":
            words = [shown.title, *(row for table in shown.tables for row, _ in table.rows)]
            assert any("tiny" in word for word in words), name
    assert "+2.0 points over 10 sets" in FIGURE_4.build(measured).title
    deltas = differences(paper11, published("table 10")["ResNet-50"])
    assert f"tiny wins {wins(deltas)} of 27 sets" in FIGURE_5.build(measured).title
    fit = fit_line(list(paper10.values()), list(paper11.values()))
    assert FIGURE_8.build(measured).title == f"tiny: {fit.in_words()}"


def test_few_measured_sets_draw_no_line_and_break_nothing():
    few = {"DTD": 40.0, "MNIST": 50.0}
    measured = [*results("tiny", "zero_shot", "ensemble", few), *results("tiny", "linear_probe", "features", few)]
    for exhibit in EXHIBITS.values():
        exhibit.build(measured)
    assert "slope" in FIGURE_8.build(measured).title and not FIGURE_8.build(measured).title.startswith("tiny")
    three = {**few, "GTSRB": 70.0}
    measured = [*results("tiny", "zero_shot", "ensemble", three), *results("tiny", "linear_probe", "features", three)]
    assert FIGURE_8.build(measured).title == "tiny: r = 1.00, slope 1.00"  # too few for an interval


def test_a_line_is_that_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(3)
    x = rng.normal(size=30)
    y = 2 * x + rng.normal(size=30)
    fit, reference = fit_line(x.tolist(), y.tolist()), stats.linregress(x, y)
    assert (fit.slope, fit.intercept, fit.r, fit.p) == pytest.approx(
        (reference.slope, reference.intercept, reference.rvalue, reference.pvalue)
    )
    assert fit.low < 2 < fit.high and (fit.low, fit.high) == (fit_line(x, y).low, fit_line(x, y).high)
    for bad in (([1, 2], [1, 2]), ([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [1, 2, np.nan]), ([1, 2, 3], [1, 2])):
        with pytest.raises(ShapeError):
            fit_line(*bad)


def test_compute_of_models():
    known = paper_gflops()
    assert known["CLIP RN50x64"] == 265.9 and known["CLIP ViT-B/32"] == pytest.approx(4.41)
    assert set(known) <= set(published("table 10"))
    assert {
        model: twin(model)
        for model in ("ViT-B-32@openai", "open_clip:RN50x4@openai", "openai/clip-vit-large-patch14-336")
    } == {
        "ViT-B-32@openai": "CLIP ViT-B/32",
        "open_clip:RN50x4@openai": "CLIP RN50x4",
        "openai/clip-vit-large-patch14-336": "CLIP ViT-L/14@336px",
    }
    assert [twin(model) for model in ("ViT-B-16-SigLIP", "ViT-B-16-plus-240", "playground-rn", "resnet50", "")] == [
        None
    ] * 5
    told = results("ViT-B-32@openai", "zero_shot", "ensemble", {"DTD": 1.0}, gflops=7)
    assert measured_gflops(told) == {"ViT-B-32@openai": 7.0}
    assert measured_gflops(results("RN50", "zero_shot", "ensemble", {"DTD": 1.0})) == {"RN50": 6.1}


def test_compute_equals_open_clips_profile():
    path = SHARED / "openclip_model_profile.csv"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    with path.open(encoding="utf-8", newline="") as file:
        profile = {row["model"]: float(row["image_gflops"]) for row in csv.DictReader(file)}
    known = paper_gflops()
    names = {
        "ViT-B-32": "CLIP ViT-B/32",
        "ViT-B-16": "CLIP ViT-B/16",
        "ViT-L-14": "CLIP ViT-L/14",
        "ViT-L-14-336": BEST,
    }
    assert {theirs: known[ours] for theirs, ours in names.items()} == {name: profile[name] / 2 for name in names}
    for size in ("50", "101", "50x4", "50x16", "50x64"):  # the paper's ResNets by the same rule
        assert known[f"CLIP RN{size}"] == pytest.approx(profile[f"RN{size}"] / 2, rel=0.02)


def predictions(num=6):
    keys = tuple(f"picture {n}" for n in range(num))
    labels = np.arange(num) % 3
    classes = np.array([[0, 1], [0, 1], [0, 1], [1, 0], [1, 0], [2, 1]][:num])
    return Predictions(keys, labels.astype(np.int64), classes.astype(np.int64), np.full((num, 2), 0.5, np.float32))


def test_figure_21_draws_at_random_by_the_keys_alone():
    first = draw_examples("toys", predictions(), "abc", count=3, seed=1)
    moved = predictions()
    order = np.array([3, 1, 5, 0, 2, 4])
    moved = Predictions(
        tuple(moved.keys[n] for n in order), moved.labels[order], moved.classes[order], moved.scores[order]
    )
    assert draw_examples("toys", moved, "abc", count=3, seed=1) == first  # the order of the file does not matter
    every = draw_examples("toys", predictions(), "abc", count=99)
    assert len(every) == 6 and draw_examples("toys", predictions(), "abc", seed=2)[0].answers
    assert sorted((one.truth, one.rank or 0, -1 if one.right is None else one.right) for one in every) == [
        ("a", 1, 0),
        ("a", 2, 1),
        ("b", 1, 0),
        ("b", 2, 1),
        ("c", 0, -1),
        ("c", 1, 0),
    ]
    with pytest.raises(DataError, match="class 2 has no name"):
        draw_examples("toys", predictions(), "ab")


def test_figure_21_from_written_predictions(tmp_path):
    folder = tmp_path / "predictions"

    def measured(dataset, protocol="ensemble", split="test", task="zero_shot", model="model a", **condition):
        return Result(task, dataset, split, "accuracy", 0.5, 6, None, None, None, protocol, model, condition)

    kept = [measured("DTD"), measured("DTD", "names"), measured("my-set", split="val")]
    for one in kept:
        write_predictions(predictions(), predictions_path_of(folder, one))
    others = [
        measured("MNIST"),
        measured("DTD", model="b"),
        measured("ObjectNet", task="robustness", classifier="static"),
    ]
    found = find_predictions([*kept, *others], "model a", folder)
    assert {name: path.name for name, path in found.items()} == {
        "DTD": "DTD-test-ensemble.parquet",
        "my-set": "my-set-val-ensemble.parquet",
    }
    asked = []

    def picture(dataset, key):
        asked.append((dataset, key))
        return np.zeros((8, 8, 3), np.uint8)

    shown = shown_examples(found, class_names={"my-set": ["x", "y", "z"]}, picture=picture)
    assert [one.dataset for one in shown.examples] == ["DTD", "my-set"] and [name for name, _ in asked] == [
        "DTD",
        "my-set",
    ]
    assert shown.examples[0].truth in ("banded", "blotchy", "braided") and shown.examples[1].truth in "xyz"
    assert len(shown.tables[1].rows) == len(PAPER_EXAMPLES) == 36
    with pytest.raises(InputError, match="my-set"):
        shown_examples(found)
    assert find_predictions(kept, "b", folder) == find_predictions(kept, "model a", tmp_path / "absent") == {}


def test_figure_21_of_the_paper():
    title = FIGURE_21.build([]).title
    ranks = [rank for *_, rank, _ in PAPER_EXAMPLES]
    assert f"{ranks.count(1)} are given their true class" in title and max(ranks) == 83


def test_every_exhibit_has_a_name_of_its_own_and_shows_the_papers_numbers_alone():
    assert all(name == exhibit.name and exhibit.about.endswith(".") for name, exhibit in EXHIBITS.items())
    for exhibit in EXHIBITS.values():
        shown = exhibit.build([])
        assert shown.title and (shown.tables or shown.charts or exhibit.name in ("shifts", "pairs"))  # ours alone
    assert all({task for task, _ in exhibit.needs} <= {"zero_shot", "linear_probe"} for exhibit in OURS)
    assert {exhibit.name for exhibit in OURS} <= set(EXHIBITS)
