"""Tables 1, 2, 13, 14, 15, 17 and figure 16: measured rows above the paper's own."""

import dataclasses

import numpy as np
import pytest

from diptych.evalsets import get_prompts
from diptych.evaluate.tasks.human import COLUMNS
from diptych.paper.exhibits.human_tables import CLIP, FIGURE_16, PEOPLE, TABLE_2, by_difficulty, fitted
from diptych.paper.exhibits.other_tables import TABLE_1, TABLE_14, TABLE_15
from diptych.paper.exhibits.retrieval_tables import TABLE_13, TABLE_17
from diptych.paper.numbers.paper_rows import pick
from diptych.records import Result
from diptych.report.paper_numbers import published
from diptych.report.table import Cell, to_markdown

EXHIBITS = (TABLE_1, TABLE_2, TABLE_13, TABLE_14, TABLE_15, TABLE_17, FIGURE_16)


def result(task, dataset, metric, value, protocol, model="ours", split="test", **settings):
    low, high = max(0.0, value - 0.1), min(1.0, value + 0.1)
    run = {"settings": settings}
    return Result(task, dataset, split, metric, value, 1000, low, high, "some 99.5%", protocol, model, run=run)


def cells(table):
    return {name: dict(zip(table.columns[1:], row, strict=True)) for name, row in table.rows}


@pytest.mark.parametrize("exhibit", EXHIBITS[:-1], ids=lambda one: one.name)
def test_without_results_the_papers_numbers_stand_alone(exhibit):
    (table,) = exhibit.build([]).tables
    paper = published(exhibit.name.replace("table", "table "))
    present = {
        name: {column: cell for column, cell in row.items() if cell.value is not None}
        for name, row in cells(table).items()
    }
    assert {name: {column: cell.value for column, cell in row.items()} for name, row in present.items()} == paper
    assert all(cell.published for row in present.values() for cell in row.values())


@pytest.mark.parametrize("exhibit", EXHIBITS, ids=lambda one: one.name)
def test_results_of_other_things_change_nothing(exhibit):
    other = [
        result("zero_shot", "DTD", "accuracy", 0.5, "ensemble"),
        result("probe", "MNIST", "accuracy", 0.5, "features"),
    ]
    assert exhibit.build(other) == exhibit.build([])


def first_row(exhibit, results, table=0):
    shown = exhibit.build(results)
    name, row = shown.tables[table].rows[0]
    return shown, name, dict(zip(shown.tables[table].columns[1:], row, strict=True))


def test_measured_cells_are_percent_with_their_interval():
    _, name, row = first_row(TABLE_1, [result("zero_shot", "ImageNet", "accuracy", 0.5, "ensemble")])
    assert name == "ours"
    assert row["ImageNet"] == Cell(50.0, pytest.approx(40), pytest.approx(60))
    assert row["aYahoo"] == Cell(None) and not row["ImageNet"].published


def test_the_title_names_both_numbers():
    shown, _, _ = first_row(TABLE_1, [result("zero_shot", "ImageNet", "accuracy", 0.5, "ensemble")])
    assert shown.title == "ours: 50.0 % on ImageNet; the paper's CLIP: 76.2 %"
    shown, _, _ = first_row(TABLE_14, [result("linear_probe", "MNIST", "accuracy", 0.925, "features", "raw-pixels/28")])
    assert shown.title == "raw-pixels/28 (linear): 92.5 % on MNIST; the paper's CLIP (linear): 99.2 %"


def test_an_ensemble_is_wanted_more_than_a_single_template_and_the_later_number_counts():
    results = [
        result("zero_shot", "ImageNet", "accuracy", 0.9, "single"),
        result("zero_shot", "ImageNet", "accuracy", 0.2, "ensemble"),
        result("zero_shot", "ImageNet", "accuracy", 0.3, "ensemble"),
        result("zero_shot", "aYahoo", "accuracy", 0.4, "single"),
        result("zero_shot", "SUN", "accuracy", 0.4, "ensemble", split="train"),
        result("zero_shot", "SUN", "mean_per_class_accuracy", 0.4, "ensemble"),
    ]
    _, _, row = first_row(TABLE_1, results)
    assert (row["ImageNet"].value, row["aYahoo"].value, row["SUN"].value) == (30.0, 40.0, None)
    assert pick(results, {"SUN": [("zero_shot", "SUN", "accuracy", "single")]}) == {}


def test_table_13_has_a_row_for_each_protocol():
    results = [
        result("retrieval", "MSCOCO", "text_recall_at_5", 0.25, "bare"),
        result("retrieval", "MSCOCO", "text_recall_at_5", 0.5, "prefixed"),
        result("retrieval", "Flickr30k", "image_recall_at_1", 0.75, "prefixed"),
    ]
    shown = TABLE_13.build(results)
    (table,) = shown.tables
    rows = cells(table)
    assert [name for name, _ in table.rows[:3]] == [
        "ours (zero-shot)",
        "ours (zero-shot, bare captions)",
        "Unicoder-VL (fine-tuned)",
    ]
    assert rows["ours (zero-shot)"]["MSCOCO text R@5"].value == 50
    assert rows["ours (zero-shot)"]["Flickr30k image R@1"].value == 75
    assert rows["ours (zero-shot, bare captions)"]["MSCOCO text R@5"].value == 25
    assert rows["CLIP (zero-shot)"]["Flickr30k text R@1"] == Cell(88.0, published=True)
    assert shown.title == "ours (zero-shot): 50.0 % at MSCOCO text R@5; the paper's CLIP (zero-shot): 81.5 %"


def test_recall_among_fewer_items_than_the_papers_is_marked_and_named():
    """Flickr30k's test split has 1,000 pictures, MSCOCO's 5,000 (Karpathy), with five captions each."""

    def of(n: int, dataset: str, metric: str) -> Result:
        return dataclasses.replace(result("retrieval", dataset, metric, 0.5, "prefixed"), n=n)

    results = [
        of(1000, "Flickr30k", "text_recall_at_1"),
        of(4999, "Flickr30k", "image_recall_at_1"),
        of(100, "MSCOCO", "text_recall_at_1"),
        of(100, "MSCOCO", "text_recall_at_5"),
        of(25_010, "MSCOCO", "image_recall_at_1"),
    ]
    shown, _, row = first_row(TABLE_13, results)
    marked = {column: cell.partial for column, cell in row.items() if cell.value is not None}
    assert marked == {
        "Flickr30k text R@1": False,
        "Flickr30k image R@1": True,
        "MSCOCO text R@1": True,
        "MSCOCO text R@5": True,
        "MSCOCO image R@1": False,  # among more: named, but no easier
    }
    assert shown.notes[-1] == (
        "ours (zero-shot): of other test samples than the paper's: MSCOCO (100 pictures, not 5,000), "
        "Flickr30k (4,999 captions, not 5,000), MSCOCO (25,010 captions, not 25,000)."
    )
    words = to_markdown(shown.tables[0])
    assert "50.0‡" in words and "‡: of some of the set's classes or samples alone" in words
    whole = [of(5000, "MSCOCO", "text_recall_at_1"), of(25_000, "MSCOCO", "image_recall_at_1")]
    shown, _, row = first_row(TABLE_13, whole)
    assert not any(cell.partial for cell in row.values()) and "other test samples" not in " ".join(shown.notes)
    other = [dataclasses.replace(one, dataset="held-out") for one in whole]
    assert not any(cell.partial for cell in TABLE_13.build(other).tables[1].rows[0][1] if isinstance(cell, Cell))


def test_other_numbers_of_samples_are_named_under_tables_1_and_14():
    found = result("zero_shot", "ImageNet", "accuracy", 0.5, "ensemble")
    assert TABLE_1.build([found]).notes[-1] == (
        "ours: of other test samples than the paper's: ImageNet (1,000 samples, not 50,000)."
    )
    assert "other test samples" not in TABLE_1.build([dataclasses.replace(found, n=50_000)]).notes[-1]
    digits = result("linear_probe", "MNIST", "accuracy", 0.9, "features")
    assert "MNIST (1,000 samples, not 10,000)" in TABLE_14.build([digits]).notes[-1]


def test_retrieval_on_other_sets_has_a_table_of_its_own():
    results = [
        result("retrieval", "held-out", f"{side}_recall_at_{k}", k / 100, protocol)
        for side in ("text", "image")
        for k in (1, 5, 10)
        for protocol in ("prefixed", "bare")
    ]
    shown = TABLE_13.build(results)
    assert shown.tables[0] == TABLE_13.build([]).tables[0]
    rows = cells(shown.tables[1])
    assert list(rows) == ["ours: held-out", "ours: held-out, bare captions"]
    assert rows["ours: held-out"]["image R@10"].value == 10 and rows["ours: held-out"]["pictures"] == "1,000"


def test_table_14_tells_probes_from_zero_shot():
    results = [
        result("zero_shot", "MNIST", "accuracy", 0.5, "ensemble"),
        result("zero_shot", "HatefulMemes", "accuracy", 0.6, "ensemble"),
        result("zero_shot", "HatefulMemes", "roc_auc", 0.55, "ensemble"),
        result("lexicon", "IIIT5K", "accuracy", 0.75, "own_lexicon"),
        result("linear_probe", "MNIST", "accuracy", 0.925, "features", "raw-pixels/28"),
        result("linear_probe", "MNIST", "accuracy", 0.9, "features"),
    ]
    (table,) = TABLE_14.build(results).tables
    rows = cells(table)
    assert list(rows)[:3] == ["ours (linear)", "ours (zero-shot)", "raw-pixels/28 (linear)"]
    assert rows["ours (zero-shot)"]["HatefulMemes"].value == pytest.approx(55)
    assert rows["ours (zero-shot)"]["IIIT5K"].value == 75
    assert rows["raw-pixels/28 (linear)"]["MNIST"].value == rows["Raw Pixels (linear)"]["MNIST"].value == 92.5


def test_table_15_tells_one_frame_from_several():
    results = [
        result("zero_shot", "UCF101", "accuracy", 0.7, "ensemble"),
        result("video", "UCF101", "accuracy", 0.75, "frames_averaged"),
        result("video", "Kinetics700", "mean_of_top_1_and_5", 0.5, "frames_averaged"),
        result("video", "RareAct", "mean_weighted_average_precision", 0.4, "frames_averaged"),
        result("video", "RareAct", "mean_sampled_average_precision", 0.45, "frames_averaged"),
        result("linear_probe", "UCF101", "accuracy", 0.875, "features"),
    ]
    (table,) = TABLE_15.build(results).tables
    rows = cells(table)
    assert list(rows)[:3] == ["ours (linear)", "ours (zero-shot)", "ours (zero-shot, one frame)"]
    values = [cell.value for cell in rows["ours (zero-shot)"].values()]
    assert values == [75, 50, 40, 45]
    assert rows["ours (zero-shot, one frame)"]["UCF101"].value == 70 and rows["ours (linear)"]["UCF101"].value == 87.5


def test_table_17_says_how_many_references_there_were():
    results = [
        result("geolocation", "IM2GPS", f"within_{radius}_km", share, "nearest_neighbour", reference=12345)
        for radius, share in ((1, 0.01), (25, 0.05), (200, 0.1), (750, 0.2), (2500, 0.5))
    ]
    results.append(result("geolocation", "IM2GPS", "median_error_km", 2400.0, "nearest_neighbour", reference=12345))
    shown, name, row = first_row(TABLE_17, results)
    assert name == "ours" and row["2500 km"].value == 50 and row["median error, km"].value == 2400
    assert "ours: 12,345 reference photographs." in shown.notes
    assert cells(shown.tables[0])["CLIP"]["median error, km"] == Cell(None)
    assert shown.title == "ours: 1.0 % of photographs placed within 1 km; the paper's CLIP: 13.9 %"


def pets(accuracy, probability, model="ours"):
    mean = float(np.mean(list(accuracy.values())))
    metric = "mean_per_class_accuracy"
    return result("human", "OxfordPets", metric, mean, "zero-shot", model, accuracy=accuracy, probability=probability)


def breeds():
    """A model's accuracies and probabilities, by the class names of its prompts."""
    names = [names[0] for names in get_prompts("OxfordPets").class_names]
    rng = np.random.default_rng(0)
    return {name: float(rng.uniform()) for name in names}, {name: float(rng.uniform()) for name in names}


def test_table_2_has_one_number_of_a_model_and_four_of_people():
    accuracy, probability = breeds()
    people = [
        result("human", "OxfordPets", name.replace(" ", "_"), 0.5 + place / 10, "answers", "our office")
        for place, name in enumerate(COLUMNS)
    ]
    shown = TABLE_2.build([*people, pets(accuracy, probability)])
    rows = cells(shown.tables[0])
    assert list(rows)[:2] == ["ours", "our office"]
    assert {cell.value for cell in rows["ours"].values()} == {100 * np.mean(list(accuracy.values()))}
    assert [cell.value for cell in rows["our office"].values()] == pytest.approx([50, 60, 70, 80])
    fallback = result("zero_shot", "OxfordPets", "mean_per_class_accuracy", 0.25, "ensemble")
    assert cells(TABLE_2.build([fallback]).tables[0])["ours"]["accuracy"].value == 25


def test_figure_16s_points_average_to_table_2():
    shown = FIGURE_16.build([])
    means = cells(shown.tables[1])["mean of 37"]
    for name in (CLIP, *PEOPLE):
        assert means[name].value == pytest.approx(published("table 2")[name]["accuracy"], abs=0.06), name
    assert [means[name].value for name in (CLIP, *PEOPLE)] == pytest.approx([93.5, 75.7, 53.7], abs=0.06)


def test_figure_16_of_the_paper_is_drawn_with_its_lines():
    (chart,) = FIGURE_16.build([]).charts
    assert [one.label for one in chart.series] == [CLIP, "", PEOPLE[0], "", PEOPLE[1], ""]
    for points, line in zip(chart.series[::2], chart.series[1::2], strict=True):
        assert len(points.y) == 37 and points.x == line.x
        assert line.y[0] > line.y[-1], "what is hard for CLIP is hard for people"
        assert np.mean(line.y) == pytest.approx(np.mean(points.y))
    agreement = cells(FIGURE_16.build([]).tables[0])
    for row in agreement.values():  # of all three pairs, at 99.5 %
        assert row["Pearson"].low > 0 and row["Spearman"].low > 0


def test_figure_16_sorts_breeds_by_the_models_own_probability():
    accuracy, probability = breeds()
    shown = FIGURE_16.build([pets(accuracy, probability)])
    chart, paper = shown.charts
    hardest = min(probability, key=probability.get)
    assert chart.series[0].label == "ours" and chart.series[0].y[-1] == 100 * accuracy[hardest]
    table = shown.tables[1]
    assert table.rows[-2][0] == hardest.lower() and table.rows[-1][0] == "mean of 37"
    row = cells(table)[hardest.lower()]
    assert row["mean probability"].value == 100 * probability[hardest]
    key = next(name for name in published("figure 16")[CLIP] if name.replace("_", " ") == hardest.lower())
    assert row[PEOPLE[0]] == Cell(published("figure 16")[PEOPLE[0]][key], published=True)
    assert chart.series[2].y[-1] == published("figure 16")[PEOPLE[0]][key]
    assert paper == FIGURE_16.build([]).charts[0]
    assert list(cells(shown.tables[0]))[:2] == [f"ours and {people}" for people in PEOPLE]


def test_a_model_that_is_alike_everywhere_has_no_correlation():
    accuracy, probability = breeds()
    shown = FIGURE_16.build([pets(dict.fromkeys(accuracy, 1.0), probability)])
    assert cells(shown.tables[0])["ours and one-shot human"] == {"Pearson": Cell(None), "Spearman": Cell(None)}


def test_order_and_line_solved_by_hand():
    assert by_difficulty({"a": 0.2, "b": 0.9, "c": 0.5}) == ["b", "c", "a"]
    assert fitted([1, 2, 4]) == pytest.approx([5 / 6, 7 / 3, 23 / 6])


def test_house_numbers_stand_in_the_papers_column_and_digits_in_their_own():
    digits = result("zero_shot", "SVHN", "accuracy", 0.4, "ensemble")
    numbers = result("zero_shot", "SVHN-Numbers", "accuracy", 0.1, "ensemble")
    table = TABLE_14.build([digits, numbers]).tables[0]
    cells = dict(zip(table.columns[1:], table.rows[0][1], strict=True))
    assert (cells["SVHN"].value, cells["SVHN digits"].value) == (10, 40) and not cells["SVHN"].published
    assert "SVHN digits" not in TABLE_14.build([numbers]).tables[0].columns
    only_digits = TABLE_14.build([digits]).tables[0]
    assert dict(zip(only_digits.columns[1:], only_digits.rows[0][1], strict=True))["SVHN"].value is None


def test_retrieval_on_another_set_alone_is_in_the_title():
    found = [
        result("retrieval", "mine", f"{side}_recall_at_{k}", 0.25, "prefixed")
        for side in ("text", "image")
        for k in (1, 5, 10)
    ]
    assert TABLE_13.build(found).title == "ours: mine: 25.0 % at text R@1"
