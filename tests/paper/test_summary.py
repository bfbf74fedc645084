"""The summary: one table per task, curves in their order, and what stands beside the numbers."""

import dataclasses
import itertools

import pytest

from diptych.paper.exhibit_table import EXHIBITS
from diptych.paper.summary import summary
from diptych.records import Result


def few(classifier: str, shots: int, value: float) -> Result:
    condition = {"classifier": classifier, "shots": shots}
    where = ("few_shot", "CIFAR10", "test", "accuracy")
    return Result(*where, value, 9, 0.1, 0.9, "range of 3 seeds", "draws", "a", condition)


def test_curves_stand_together_in_the_order_of_their_shots():
    ways = [(kind, shots) for shots in (1, 16, 128, 2, 4) for kind in ("probe", "interpolated")]
    (table,) = summary([few(*way, 0.5) for way in ways]).tables
    assert [name for name, _ in table.rows] == [
        f"{kind} {shots}-shot" for kind in ("interpolated", "probe") for shots in (1, 2, 4, 16, 128)
    ]


def test_a_range_of_draws_is_called_one():
    (table,) = summary([few("probe", 1, 0.5)]).tables
    assert table.notes == ["Ranges: the lowest and the highest of 3 draws of the training images."]
    counted = Result("zero_shot", "CIFAR10", "test", "accuracy", 0.5, 9, 0.1, 0.9, "clopper-pearson 99.5%", "x", "a")
    (table,) = summary([counted]).tables
    assert table.notes == ["Confidence intervals: 99.5 % Clopper–Pearson, exact for a share of samples."]
    assert summary([]).title == "Nothing was measured"


ODD = (None, [], "x", {"shift": ["fog"]}, {"shift": 3, "of": 3}, {"train": "x", "values": "y", "gflops": []})


@pytest.mark.parametrize("name", ["summary", *EXHIBITS])
def test_settings_of_another_kind_are_as_if_there_were_none(name):
    """What a task tells beside its number may be anything in a file that somebody edited."""
    build = summary if name == "summary" else EXHIBITS[name].build
    settings = itertools.cycle(ODD)
    rows = [
        Result(
            task,
            dataset,
            "test",
            metric,
            0.5,
            9,
            *[None] * 3,
            protocol,
            "RN50",
            condition,
            {"settings": next(settings)},
        )
        for task, dataset in (("zero_shot", "CIFAR10"), ("few_shot", "CIFAR10"), ("human", "OxfordPets"))
        for metric in ("accuracy", "recall_at_1")
        for protocol, condition in (
            ("ensemble", {}),
            ("draws", {"classifier": "probe", "shots": 4}),
            ("zero-shot", {}),
        )
    ]
    plain = [dataclasses.replace(one, run={}) for one in rows]
    assert repr(build(rows)) == repr(build(plain))


def test_a_setting_is_of_the_kind_that_is_asked_for():
    told = {"a": 3, "b": 0.5, "c": True, "d": float("nan"), "e": "x", "f": 10**400}
    one = Result("t", "d", "test", "accuracy", 0.5, 9, None, None, None, "p", "m", {}, {"settings": told})
    assert [one.setting(name, float) for name in told] == [3, 0.5, None, None, None, None]
    assert [one.setting(name, int) for name in told] == [3, None, None, None, None, None]
    assert [one.setting(name, str) for name in told] == [None, None, None, None, "x", None]
    assert one.setting("another", str) is None


def zero(dataset: str, value: float, low: float, model: str = "a", **settings) -> Result:
    interval, run = "clopper-pearson 99.5%", {"settings": settings} if settings else {}
    return Result("zero_shot", dataset, "test", "accuracy", value, 99, low, 1.0, interval, "ensemble", model, {}, run)


def test_the_heading_says_where_a_model_is_good_and_where_it_guesses():
    """Ten digits: 0.099 is below a tenth. Of a set of one's own the result tells how many classes there are."""
    results = [zero("CIFAR10", 0.5, 0.3), zero("MNIST", 0.12, 0.099), zero("my birds", 0.26, 0.24, num_classes=4)]
    shown = summary(results)
    assert shown.title == (
        "a zero-shot: 50.0 % on CIFAR10 and 12.0 % on MNIST, the best and the worst of 3 sets; at chance on 2 sets"
    )
    marked = {name: cells[1].chance for name, cells in shown.tables[0].rows}
    assert marked == {"CIFAR10": False, "MNIST": True, "my birds": True}
    # 1,000 classes of ImageNet by a classifier of 1,000: a shift's 200 would be the wrong chance.
    shift = dataclasses.replace(zero("ImageNet-A", 0.004, 0.003), task="robustness", protocol="static")
    assert not summary([shift]).tables[0].rows[0][1][1].chance
    assert summary([few("probe", 1, 0.5)]).title == "1 number of 1 model on 1 set"
    three = [zero("CIFAR10", 0.5, 0.3, model) for model in "abc"]
    assert (
        summary(three).title == "; ".join(f"{model} zero-shot: 50.0 % on CIFAR10" for model in "ab") + "; 1 more below"
    )
