"""Tables 10 and 11: the paper's own cells, means and bold scores; measured models beside them."""

import csv
from pathlib import Path

import pytest
import rich.console

from diptych.evalsets.cards import CARDS
from diptych.evaluate.metrics.comparison import as_good_as_best
from diptych.evaluate.metrics.statistics import clopper_pearson
from diptych.paper.exhibits.tables_10_11 import TABLE_10, TABLE_11, UNLIKE_PRINT
from diptych.paper.numbers.measured import KORNBLITH_12, PAPER_27, SUITES, mean, measured, num_test
from diptych.records import Result
from diptych.report.exhibit_page import FORMS, write_exhibit
from diptych.report.paper_numbers import published
from diptych.report.table import to_rich

SHARED = Path(__file__).resolve().parents[3] / "shared" / "paper"


def result(dataset, value, *, model="mine", task="linear_probe", protocol="features", metric=None, n=None):
    card = CARDS[dataset]
    n = num_test(dataset) if n is None else n
    return Result(
        task, dataset, "test", metric or card.metric, value, n, value - 0.01, value + 0.01, "some", protocol, model
    )


def shared(name):
    if not (SHARED / name).is_file():
        pytest.skip(f"{SHARED / name} is not here")
    with (SHARED / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def cells(table):
    """By name of row: the cells by name of column."""
    return {name: dict(zip(table.columns[1:], row, strict=True)) for name, row in table.rows}


def test_the_sets_are_those_of_table_9_in_its_order():
    assert list(PAPER_27) == list(published("table 10")["CLIP RN50"]) and len(PAPER_27) == 27
    assert KORNBLITH_12[0] == "Food101" and KORNBLITH_12[-1] == "Flowers102" and len(KORNBLITH_12) == 12
    assert [len(sets) for sets in SUITES.values()] == [12, 27, 26]


def test_the_averages_are_the_papers():
    wide = cells(TABLE_10.build([]).tables[-1])
    best, rival = (wide[name] for name in ("CLIP ViT-L/14@336px", "EfficientNet Noisy Student L2-800"))
    assert [round(one["mean of 12"].value, 2) for one in (best, rival)] == [89.13, 86.49]
    assert [round(one["mean of 27"].value, 2) for one in (best, rival)] == [85.06, 80.32]
    assert round(best["mean of 12"].value - rival["mean of 12"].value, 1) == 2.6
    assert "4.7 points over 27 sets" in TABLE_10.build([]).title
    assert len(wide) == 66 and all(cell.published for row in wide.values() for cell in row.values())


def test_averages_equal_those_derived_by_another_hand():
    wide = TABLE_10.build([]).tables[-1]
    rows = shared("table10_averages_derived.csv")
    assert len(rows) == len(wide.rows)
    for row, (name, (of_12, of_27, of_26, *_)) in zip(rows, wide.rows, strict=True):
        expected = [float(row[column]) for column in ("avg_12_kornblith", "avg_27", "avg_26_without_imagenet")]
        assert [of_12.value, of_27.value, of_26.value] == pytest.approx(expected, abs=0.006), name


def test_bold_scores_are_the_papers_but_for_rounding():
    wide = TABLE_10.build([]).tables[-1]
    apart = []
    for row, (name, found) in zip(shared("table10_bold.csv"), wide.rows, strict=True):
        for dataset, cell in zip(PAPER_27, found[3:], strict=True):
            if cell.bold == bool(int(row[dataset])):
                continue
            apart.append((dataset, name))
            best = max(one[dataset] for one in published("table 10").values()) / 100
            low, _ = clopper_pearson(round(best * num_test(dataset)), num_test(dataset), 0.995)
            assert cell.value == pytest.approx(100 * low, abs=0.11), (name, dataset)  # both ends are rounded to 0.1
    assert sorted(apart) == sorted((dataset, name) for dataset, names in UNLIKE_PRINT.items() for name in names)
    assert sum(cell.bold for cell in cells(wide)["CLIP ViT-L/14@336px"].values()) == 21  # "21 of the 27"


def test_cells_whose_bold_differs_from_print_are_said_in_every_form(tmp_path):
    shown = TABLE_10.build([result("Food101", 0.5)])
    (note,) = [note for note in shown.tables[-1].notes if "8 of the paper's cells differ from its print" in note]
    assert "STL10: ViT B/16" in note and "MNIST: CLIP RN50x16, CLIP RN50x64" in note
    written = write_exhibit("table10", shown, tmp_path, FORMS, {})
    assert [path.suffix for path in written] == [".html", ".md", ".tex", ".json"]  # there is no chart to draw
    assert all(
        "cells differ from its print" in path.read_text() and "ViT B/16)" in path.read_text() for path in written
    )
    console = rich.console.Console(width=120)
    with console.capture() as captured:
        console.print(to_rich(shown.tables[-1]))
    assert "cells differ from its print" in " ".join(captured.get().split())


def test_a_measured_model_stands_above_and_takes_the_bold_print_from_what_it_beats():
    found = TABLE_10.build([result("Food101", 0.999), result("DTD", 0.80), result("DTD", 0.70, protocol="projected")])
    wide = found.tables[-1]
    assert [name for name, _ in wide.rows[:3]] == ["mine", "mine, projected", "LM RN50"]
    rows = cells(wide)
    food, dtd = rows["mine"]["Food101"], rows["mine"]["DTD"]
    assert (food.value, food.bold, food.published) == (pytest.approx(99.9), True, False)
    assert (dtd.low, dtd.high) == (pytest.approx(79), pytest.approx(81)) and not dtd.bold
    assert rows["mine, projected"]["DTD"].value == pytest.approx(70)
    assert not any(row["Food101"].bold for name, row in rows.items() if name != "mine")
    assert rows["mine"]["mean of 12"].value is None and rows["mine"]["CIFAR10"].value is None
    expected = as_good_as_best([row["DTD"].value / 100 for row in rows.values() if row["DTD"].value], num_test("DTD"))
    assert [row["DTD"].bold for row in rows.values() if row["DTD"].value] == expected
    assert any("not measured: CIFAR10" in note for note in found.notes)
    assert found.title.startswith("mine scores 90.0 % over 2 of the 27 sets, the paper's CLIP ViT-L/14@336px 89.5 %")


def test_a_score_on_a_part_of_the_set_is_shown_but_takes_no_bold_print():
    found = TABLE_10.build([result("Food101", 1.0, n=100)])
    rows = cells(found.tables[-1])
    assert rows["mine"]["Food101"].value == 100 and not rows["mine"]["Food101"].bold
    assert rows["CLIP ViT-L/14@336px"]["Food101"].bold
    assert any("Food101 (100, not 25,250)" in note for note in found.notes)


def test_other_metrics_protocols_tasks_and_sets_are_passed_over_and_the_later_measurement_counts():
    rows = [
        result("DTD", 0.1, metric="accuracy_top_5"),
        result("DTD", 0.2, protocol="projected"),
        result("DTD", 0.3, task="zero_shot"),
        result("DTD", 0.4),
        result("DTD", 0.5),
        Result("linear_probe", "my own set", "test", "accuracy", 0.6, 10, None, None, None, "features", "mine"),
    ]
    found = measured(rows, "linear_probe", "features")
    assert {name: one.value for name, one in found["mine"].items()} == {"DTD": 0.5}
    flowers = result("Flowers102", 0.9, metric="accuracy")  # the paper's metric is the mean per class
    assert measured([flowers], "linear_probe", "features") == {}


def test_a_mean_is_of_all_its_sets_or_not_at_all():
    assert mean({"a": 1.0, "b": 2.0}, ["a", "b"]) == 1.5 and mean({"a": 1.0}, ["a", "b"]) is None


def test_table_11_has_the_papers_column_beside_a_measured_model():
    full = [
        result(
            name,
            published("table 11")["CLIP ViT-B/32"][name] / 100,
            model="ViT-B-32@mine",
            task="zero_shot",
            protocol="ensemble",
        )
        for name in PAPER_27
    ]
    found = TABLE_11.build(full)
    beside = found.tables[0]
    assert beside.columns == ["set", "ViT-B-32@mine", "CLIP ViT-B/32, paper", "CLIP ViT-L/14@336px, paper"]
    for _, (own, paper, best) in beside.rows:
        assert own.value == pytest.approx(paper.value) and paper.published and best.published and not own.published
    assert [name for name, _ in beside.rows[-3:]] == ["mean of 12", "mean of 27", "mean of 26"]
    assert len(found.tables[1].rows) == 10 and not found.notes
    assert len(TABLE_11.build([]).tables) == 1 and TABLE_11.needs == (("zero_shot", PAPER_27),)
