"""What prompt ensembling adds: the paired interval of its gain, beside SciPy's."""

import dataclasses

import numpy as np
import pytest
from example_report import result
from listed_sets import Nothing
from scipy import stats
from training import tiny_config

from diptych.evalsets.benchmark import Benchmark
from diptych.evalsets.playground_tasks import playground_tasks
from diptych.evaluate import ZeroShot
from diptych.evaluate.predictions import predictions_path, write_predictions
from diptych.paper.exhibits.prompt_gains import prompt_gains
from diptych.paper.exhibits.zero_shot_figures import FIGURE_4
from diptych.quickstart import write_run_page
from diptych.records import Predictions, Result
from diptych.report import RunReport, display, render_report
from diptych.train import fit


def test_the_gain_of_prompts_is_an_exact_interval_of_the_same_samples(tmp_path):
    benchmark = Benchmark("memory", "test", ("red", "blue"), ("a {c}",), Nothing(), "memory")
    evaluator = ZeroShot(benchmark, predictions_folder=tmp_path)
    labels, scores = np.zeros(10, np.int64), np.full((10, 1), 0.9, np.float32)
    answers = {"ensemble": [0] * 9 + [1], "single": [0] * 2 + [1] * 7 + [0]}  # 7 right by one alone, 1 by the other
    assert evaluator.prompt_gain("m") is None
    for protocol, classes in answers.items():
        kept = Predictions(tuple("abcdefghij"), labels, np.array(classes)[:, None], scores)
        write_predictions(kept, evaluator.predictions_path("m", protocol))
    share = stats.binomtest(7, 8).proportion_ci(0.995, method="exact")
    assert evaluator.prompt_gain("m") == pytest.approx([(2 * one - 1) * 8 / 10 for one in share])
    write_predictions(
        dataclasses.replace(kept, keys=tuple("abcdefghiz")), evaluator.predictions_path("m", "single")
    )  # other samples
    assert evaluator.prompt_gain("m") is None


def test_the_gain_of_an_ensemble_has_its_interval_where_it_is_known():
    results = [result("shape", "single", 0.5), result("shape", "ensemble", 0.52)]
    page = RunReport("t", results, gains={"shape": (-0.01, 0.04)})
    html = render_report(page)
    assert 'class="whisker" x1="37.5%" x2="100%"' in html and "McNemar" in html
    assert f"{display.points(-0.01)} to {display.points(0.04)}" in html
    bare = render_report(dataclasses.replace(page, gains={}))
    assert 'class="whisker"' not in bare and "McNemar" not in bare


def kept(folder, dataset, metric, protocol, right):
    """Predictions of ten classes and their Result, the metric by hand."""
    labels = np.arange(len(right)) % 10
    classes = np.where(right, labels, (labels + 1) % 10)
    scores = np.full((len(right), 1), 0.9, np.float32)
    keys = tuple(f"{row:04}" for row in range(len(right)))
    path = predictions_path(folder, "m", dataset, "test", protocol)
    write_predictions(Predictions(keys, labels, classes[:, None], scores), path)
    value = float(np.mean([right[labels == one].mean() for one in range(10)]))
    return Result("zero_shot", dataset, "test", metric, value, len(right), None, None, None, protocol, "m")


def test_the_bars_of_figure_4_have_paired_intervals(tmp_path):
    more, less = np.arange(100) < 60, np.arange(100) < 40
    sets = {"CIFAR10": "accuracy", "Caltech101": "mean_per_class_accuracy"}
    answers = {"ensemble": more, "names": less}
    results = [
        kept(tmp_path, name, metric, protocol, right)
        for name, metric in sets.items()
        for protocol, right in answers.items()
    ]
    gains = prompt_gains(results, tmp_path)["m"]
    share = stats.binomtest(20, 20).proportion_ci(0.995, method="exact")
    assert gains["CIFAR10"].interval == pytest.approx([(2 * one - 1) * 20 / 100 for one in share])
    low, high = gains["Caltech101"].interval  # the normal approximation, of equal classes: the same as of all pictures
    error = 2.807 * np.sqrt(0.2 * 0.8 / 100)
    assert (low, high) == (pytest.approx(0.2 - error, abs=0.03), pytest.approx(0.2 + error, abs=0.03))
    shown = FIGURE_4.look(results, tmp_path, None)
    chart = shown.charts[-1]
    assert dict(chart.rows) == pytest.approx({"CIFAR10": 20, "Caltech101": 20}) and None not in chart.intervals
    assert any("raise the score on 2 of 2 sets and lower it on 0" in note for note in shown.notes)
    # Files of another measurement, or none, leave a bar without whiskers.
    other = dataclasses.replace(results[0], value=0.61)
    predictions_path(tmp_path, "m", "Caltech101", "test", "names").unlink()
    bare = prompt_gains([other, *results[1:]], tmp_path)["m"]
    assert [one.interval for one in bare.values()] == [None, None] and bare["CIFAR10"].value == pytest.approx(0.21)
    assert FIGURE_4.look([], tmp_path, None) is None


def test_the_page_of_a_training_run_has_the_intervals(tmp_path):
    """As the quickstart's has them, from the same files."""
    task = playground_tasks(num_samples=40, size=32)[0]
    evaluator = ZeroShot(task, predictions_folder=tmp_path / "predictions")
    run = fit(tiny_config(tmp_path / "run"), [evaluator])
    page = write_run_page(run, [evaluator]).read_text(encoding="utf-8")
    low, high = evaluator.prompt_gain(run.model.name)
    assert f"{display.points(low)} to {display.points(high)}" in page and "McNemar" in page
