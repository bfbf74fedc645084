"""Table 12: the paper's numbers, and ours beside them."""

import csv
from pathlib import Path

import pytest

from diptych.errors import DataError
from diptych.paper.training.table12 import PAPER, PAPER_MEAN, PAPER_WINS, summarise, table12, table12_rows
from diptych.records import Result, write_results


def measured(model: str, values: dict[str, float], task: str = "zero_shot", **changes) -> list[Result]:
    row = {"split": "test", "metric": "accuracy", "protocol": "ensemble", **changes}
    return [
        Result(task, name, row["split"], row["metric"], value, 100, None, None, None, row["protocol"], model)
        for name, value in values.items()
    ]


def test_the_papers_columns_are_those_of_the_extracted_table():
    path = Path(__file__).resolve().parents[3] / "shared" / "paper" / "yfcc_ablation_table12.csv"
    if not path.exists():
        pytest.skip("the extracted tables are not here")
    ours = {**PAPER, "Dataset Average": PAPER_MEAN, "Dataset Wins": PAPER_WINS}
    rows = list(csv.DictReader(path.open()))
    assert [row["dataset"] for row in rows] == list(ours)
    for row in rows:
        values = ours[row["dataset"]]
        assert values.probe == (float(row["linear_yfcc"]), float(row["linear_wit"]))
        assert values.zero_shot == (float(row["zeroshot_yfcc"]), float(row["zeroshot_wit"]))


def test_rows_means_and_wins_by_hand():
    first = measured("a", {"imagenet": 0.3, "wds_cars": 0.1, "gtsrb": 0.2, "mine": 0.5})
    first += measured("a", {"imagenet": 0.6}, task="linear_probe")
    second = measured("b", {"imagenet1k": 0.2, "stanford_cars": 0.1, "country211": 0.4, "mine": 0.9})
    rows = {row.name: row for row in table12_rows(first, second)}
    assert list(rows) == [*PAPER, "mine"]
    assert rows["ImageNet"].zero_shot == (0.3, 0.2) and rows["ImageNet"].probe == (0.6, None)
    assert rows["Stanford Cars"].zero_shot == (0.1, 0.1)
    assert rows["GTSRB"].zero_shot == (0.2, None) and rows["Birdsnap"].zero_shot == (None, None)
    summary = summarise(row.zero_shot for row in rows.values())
    assert summary.num == 3 and summary.wins == (1, 1)
    assert summary.means == pytest.approx((0.9 / 3, 1.2 / 3))
    assert summarise(row.probe for row in rows.values()).means is None
    assert table12(list(rows.values())).row_count == 8 + 2


def test_per_class_means_and_ensembles_are_preferred_where_the_paper_does():
    first = measured("a", {"flowers": 0.1, "gtsrb": 0.2})
    first += measured("a", {"flowers": 0.3}, metric="mean_per_class_accuracy")
    first += measured("a", {"gtsrb": 0.9}, protocol="single") + measured("a", {"birdsnap": 0.4}, protocol="single")
    rows = {row.name: row.zero_shot[0] for row in table12_rows(first, measured("b", {"gtsrb": 0.1}))}
    assert (rows["Flowers102"], rows["GTSRB"], rows["Birdsnap"]) == (0.3, 0.2, 0.4)


def test_results_of_several_models_or_of_none_are_refused():
    good = measured("a", {"gtsrb": 0.2})
    with pytest.raises(DataError, match="second file of results contains several models \\(a, b\\)"):
        table12_rows(good, good + measured("b", {"gtsrb": 0.1}))
    with pytest.raises(DataError, match="first file of results contains no"):
        table12_rows(measured("a", {"gtsrb": 0.2}, split="train"), good)


def test_the_command(command):
    write_results(measured("a", {"gtsrb": 0.234}), "a.jsonl")
    write_results(measured("b", {"gtsrb": 0.123}), "b.jsonl")
    outcome = command("paper", "table12", "a.jsonl", "b.jsonl")
    assert outcome.status == 0, outcome.err
    (row,) = (line for line in outcome.out.splitlines() if line.strip().startswith("GTSRB"))
    assert row.split() == ["GTSRB", "66.8", "72.5", "23.4", "12.3", "+11.1", "6.9", "7.0"]
    command("paper", "table12", "a.jsonl", "nowhere.jsonl").is_error("nowhere.jsonl")
