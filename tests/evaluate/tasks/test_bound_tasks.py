"""A task bound to a set is one evaluator, whoever runs it: training, `diptych evaluate`, the suite."""

import dataclasses
import sys

import pytest
from shaded_sets import NAMES, Shades, write_folders

import diptych
from diptych.embed.about import About
from diptych.errors import ConfigError, DataError, InputError, TextError
from diptych.evalsets.benchmark import open_benchmark
from diptych.evalsets.cards import get_card
from diptych.evalsets.user_sets import open_set, split_task
from diptych.evaluate import Measurement, Setting, Task, ZeroShot, register
from diptych.evaluate.choose_sets import make_evaluator
from diptych.evaluate.evaluate_sets import evaluate_benchmarks
from diptych.evaluate.suite import run_suite
from diptych.evaluate.tasks import registry
from diptych.evaluate.tasks.registry import TASKS, get_tasks, load_task_module


class Scaled(Shades):
    logit_scale = 50.0


@pytest.fixture
def data(tmp_path):
    return write_folders(tmp_path / "data", ("train", "test"))


def numbers(results):
    return {
        (one.task, one.metric, one.protocol): (one.value, one.n, one.low, one.high, one.interval) for one in results
    }


def test_zero_shot_has_one_number_wherever_it_is_asked_for(data, tmp_path):
    encoder, folder = Scaled(), data / "CIFAR10"
    asked = {
        "suite": run_suite(encoder, [TASKS["zero_shot"]], [get_card("CIFAR10")], Setting(data), tmp_path / "o").results,
        "bound": TASKS["zero_shot"].bind(get_card("CIFAR10"), Setting(data))(encoder),
        "bound to an open split": TASKS["zero_shot"].bind(open_set(folder))(encoder),
        "function": diptych.evaluate(encoder, [folder]),
        "evaluate": evaluate_benchmarks(encoder, [folder]),
        "train": make_evaluator(str(folder))(encoder),
        "train, the task named": make_evaluator(f"{folder}:zero_shot")(encoder),
    }
    expected = numbers(asked["suite"])
    assert {metric for _, metric, _ in expected} == {"accuracy", "accuracy_top_5", "mean_per_class_accuracy"}
    for who, results in asked.items():
        found = numbers(results)
        assert found and found == {key: expected[key] for key in found}, who
        assert {(one.dataset, one.model) for one in results} == {("CIFAR10", "shades")}, who
        assert {protocol for *_, protocol in found} >= {"single", "ensemble"}, who
    assert ("zero_shot", "accuracy", "single") in numbers(asked["evaluate"])


@pytest.mark.parametrize("task", ["linear_probe", "few_shot", "few_shot_from_texts"])
def test_a_bound_task_gives_the_suite_s_numbers(data, tmp_path, task):
    suite = run_suite(Scaled(), get_tasks([task]), [get_card("CIFAR10")], Setting(data), tmp_path / "out").results
    evaluator = make_evaluator(f"{data / 'CIFAR10'}:{task}")
    evaluator.check(Scaled())
    assert [dataclasses.replace(one, run={}) for one in evaluator(Scaled())] == [
        dataclasses.replace(one, run={}) for one in suite
    ]


def test_a_set_of_the_user_s_is_bound_by_its_open_split(data, tmp_path):
    (data / "CIFAR10").rename(data / "mine")
    benchmark = open_benchmark(data / "mine")
    results = TASKS["linear_probe"].bind(benchmark)(Scaled())  # finds the training split beside it
    assert {(one.task, one.dataset) for one in results} == {("linear_probe", "mine")}
    alone = dataclasses.replace(benchmark, folder=None)
    assert numbers(TASKS["zero_shot"].bind(alone)(Scaled())) == numbers(TASKS["zero_shot"].bind(benchmark)(Scaled()))
    with pytest.raises(ConfigError, match="linear_probe does not apply to mine"):
        TASKS["linear_probe"].bind(alone)


def test_a_task_that_does_not_apply_is_refused_at_once(data):
    with pytest.raises(ConfigError, match="retrieval does not apply to CIFAR-10, a set for classification"):
        make_evaluator(f"{data / 'CIFAR10'}:retrieval")
    with pytest.raises(ConfigError, match="did you mean zero_shot"):
        make_evaluator(f"{data / 'CIFAR10'}:zeroshot")
    with pytest.raises(DataError, match="there is no folder"):
        make_evaluator(f"{data / 'nowhere'}:zero_shot")


def test_a_check_finds_what_would_fail_after_training(data):
    class Silent(Scaled):
        about = About(no_texts="encodes no texts")

    evaluator = make_evaluator(f"{data / 'CIFAR10'}:few_shot_from_texts")
    with pytest.raises(InputError, match="shades encodes no texts; few_shot_from_texts needs texts"):
        evaluator.check(Silent())
    make_evaluator(f"{data / 'CIFAR10'}:few_shot").check(Silent())

    class Short(Scaled):
        tokenizer = diptych.load("default", "cpu").tokenizer

    short = Short()
    short.tokenizer = (
        dataclasses.replace(short.tokenizer, context_length=4)
        if dataclasses.is_dataclass(short.tokenizer)
        else _shortened(short.tokenizer)
    )
    with pytest.raises(TextError, match="the context of shades is 4"):
        evaluator.check(short)
    for file in (data / "CIFAR10" / "train").rglob("*.png"):
        file.unlink()
    with pytest.raises(DataError):
        evaluator.check(Scaled())


def _shortened(tokenizer):
    import copy

    shorter = copy.copy(tokenizer)
    shorter.context_length = 4
    return shorter


def test_the_colon_of_a_folder_s_name_is_no_task(tmp_path):
    (tmp_path / "a:b").mkdir()
    assert split_task(str(tmp_path / "a:b")) == (str(tmp_path / "a:b"), None)
    assert split_task(f"{tmp_path / 'a:b'}:zero_shot") == (str(tmp_path / "a:b"), "zero_shot")
    assert split_task("sets/cifar10") == ("sets/cifar10", None)


# ------------------------------------------------------------------ tasks of a user's own

MODULE = '''
"""How many images a set has: the smallest task."""

from diptych.evaluate import Measurement, Score, Task, encode_set, make_result, register


def measure(encoder, card, setting):
    benchmark = setting.open(card)
    n = len(encode_set(encoder, benchmark, cache=setting.cache).keys)
    where = ("count", benchmark.name, benchmark.split, "images", Score(float(n), n))
    return Measurement(
        [make_result(*where, protocol="count", encoder=encoder, fingerprint=benchmark.fingerprint)]
    )


register(Task("count", lambda card: card.num_classes > 0, lambda card: ("test",), measure, needs_texts=False))
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module in the working folder that registers the task `count`."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work/my_counts.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path / "work")
    yield "my_counts"
    sys.modules.pop("my_counts", None)
    registry._registered.pop("count", None)
    registry._modules.clear()


def test_a_module_adds_tasks_to_the_one_table(module, data, tmp_path):
    assert load_task_module(module) == ["count"] == load_task_module(module)
    assert "count" in TASKS and "count" not in registry.USUAL
    [result] = diptych.evaluate(Scaled(), [data / "CIFAR10"], tasks=["count"])
    assert (result.task, result.dataset, result.value, result.n) == ("count", "CIFAR10", 50.0, 50)
    [again] = make_evaluator(f"{data / 'CIFAR10'}:count")(Scaled())
    assert again.value == 50.0
    found = run_suite(Scaled(), get_tasks(["count"]), [get_card("CIFAR10")], Setting(data), tmp_path / "out")
    assert found.results[0].value == 50.0
    kept = run_suite(Scaled(), get_tasks(["count"]), [get_card("CIFAR10")], Setting(data), tmp_path / "out")
    assert kept.kept == 1


def test_modules_that_register_nothing_or_cannot_be_imported(module, tmp_path):
    (tmp_path / "work/empty_module.py").write_text("")
    (tmp_path / "work/wrong_module.py").write_text("1 / 0")
    with pytest.raises(ConfigError, match="empty_module: the module registers no task"):
        load_task_module("empty_module")
    with pytest.raises(ConfigError, match="wrong_module: the module cannot be imported: ZeroDivisionError"):
        load_task_module("wrong_module")
    with pytest.raises(ConfigError, match="nowhere_module: the module cannot be imported: ModuleNotFoundError"):
        load_task_module("nowhere_module")


def test_two_tasks_of_one_name_are_refused():
    other = Task("zero_shot", lambda card: True, lambda card: (), lambda *_: Measurement([]))
    with pytest.raises(ConfigError, match="already a task 'zero_shot'"):
        register(other)
    with pytest.raises(ConfigError, match="letters, digits"):
        register(dataclasses.replace(other, name="a/b"))
    with pytest.raises(ConfigError, match="register takes a Task"):
        register(len)
    assert register(TASKS["zero_shot"]) is TASKS["zero_shot"]


def test_the_evaluator_of_two_protocols_is_zero_shot_itself(data):
    evaluator = make_evaluator(str(data / "CIFAR10"))
    assert isinstance(evaluator, ZeroShot) and evaluator.benchmark.class_names == NAMES
