"""What prompt ensembling adds: the paired interval of its gain, beside SciPy's."""

import dataclasses

import numpy as np
import pytest
from example_report import result
from scipy import stats

from diptych.data.benchmarks import Benchmark
from diptych.evaluate import ZeroShot
from diptych.evaluate.predictions import write_predictions
from diptych.records import Predictions
from diptych.report import QuickstartReport, formats, render_report


def test_the_gain_of_prompts_is_an_exact_interval_of_the_same_samples(tmp_path):
    benchmark = Benchmark("memory", "test", ("red", "blue"), ("a {c}",), (), "memory")
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
    page = QuickstartReport("t", results, gains={"shape": (-0.01, 0.04)})
    html = render_report(page)
    assert 'class="whisker" x1="37.5%" x2="100%"' in html and "McNemar" in html
    assert f"{formats.points(-0.01)} to {formats.points(0.04)}" in html
    bare = render_report(dataclasses.replace(page, gains={}))
    assert 'class="whisker"' not in bare and "McNemar" not in bare
