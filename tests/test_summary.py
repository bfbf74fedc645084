"""The summary: one table per task, curves in their order, and what stands beside the numbers."""

from diptych.paper.summary import summary
from diptych.records import Result


def few(protocol: str, value: float) -> Result:
    interval = "range of 3 seeds"
    return Result("few_shot", "CIFAR10", "test", "accuracy", value, 9, 0.1, 0.9, interval, protocol, "a", None, {})


def test_curves_stand_together_in_the_order_of_their_shots():
    protocols = [f"{kind} {shots}-shot" for shots in (1, 16, 128, 2, 4) for kind in ("probe", "interpolated")]
    (table,) = summary([few(protocol, 0.5) for protocol in protocols]).tables
    assert [name for name, _ in table.rows] == [
        f"{kind} {shots}-shot" for kind in ("interpolated", "probe") for shots in (1, 2, 4, 16, 128)
    ]


def test_a_range_of_draws_is_called_one():
    (table,) = summary([few("probe 1-shot", 0.5)]).tables
    assert table.notes == ["Beside the numbers: range of 3 seeds."]
    counted = Result("zero_shot", "CIFAR10", "test", "accuracy", 0.5, 9, 0.1, 0.9, "clopper-pearson 99.5%", "x", "a")
    assert [table.notes for table in summary([counted]).tables] == [["Beside the numbers: clopper-pearson 99.5%."]]
    assert summary([]).title == "Nothing was measured"
