"""Figure 9: the power law against the paper's points and against a fit by another road; a miniature of the ladder."""

import json

import numpy as np
import pytest
from training import tiny_config

from diptych.errors import ConfigError, ShapeError
from diptych.evalsets.playground_tasks import playground_tasks
from diptych.model.build import build_model
from diptych.model.presets import PRESETS
from diptych.paper.training.figure9 import SIZES, gflops, run_figure9, rung
from diptych.paper.training.plotted_numbers import FIGURE_9
from diptych.paper.training.power_law import fit_power_law
from diptych.paper.training.training_tables import figure9_table


def test_the_papers_points_give_the_papers_line():
    law = fit_power_law(*zip(*FIGURE_9.values(), strict=True))
    assert law.a == pytest.approx(54.0, abs=0.05) and law.b == pytest.approx(-0.103, abs=0.0005)
    low, high = law.exponent_interval()
    assert low < -0.103 < high < 0


def test_a_line_is_found_exactly_and_has_no_band():
    law = fit_power_law([1, 4, 16], [50, 25, 12.5])
    assert (law.a, law.b) == (pytest.approx(50), pytest.approx(-0.5))
    assert law.band(2) == pytest.approx((law(2), law(2)), rel=1e-6)
    assert "GFLOPs^-0.500" in law.in_words()


def test_the_band_covers_the_true_line_as_often_as_it_says():
    random = np.random.default_rng(0)
    compute = [1, 3, 9, 27, 81]
    laws = [
        fit_power_law(compute, 50 * np.power(compute, -0.1) * np.exp(0.05 * random.standard_normal(5)))
        for _ in range(2000)
    ]
    for place in (1, 9, 81):
        inside = [low <= 50 * place**-0.1 <= high for low, high in (law.band(place) for law in laws)]
        assert np.mean(inside) == pytest.approx(0.95, abs=0.015)
    inside = [low <= -0.1 <= high for low, high in (law.exponent_interval() for law in laws)]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)


def test_what_cannot_be_fitted_is_refused():
    for compute, errors in (([1, 1], [2, 3]), ([1, 2], [0, 3]), ([1], [2]), ([1, 2], [1, 2, 3])):
        with pytest.raises(ShapeError):
            fit_power_law(compute, errors)


def test_compute_by_hand():
    # conv1: 27·16·16² ; stages of 16, 32 at 16² and 8²: see diptych.model.compact_resnet; pooling and projection.
    convolutions = 27 * 16 * 256 + 2 * 9 * 16 * 16 * 256
    convolutions += (9 * 16 * 32 + 9 * 32 * 32 + 16 * 32) * 64 + (9 * 32 * 64 + 9 * 64 * 64 + 32 * 64) * 16
    pooling = 64 * 64 + 2 * 17 * 64 * 64 + 2 * 17 * 64 + 64 * 256
    assert gflops(rung(1, PRESETS["playground-rn"])) * 1e9 == pytest.approx(convolutions + pooling, rel=1e-3)


def test_compute_is_the_papers_within_a_few_percent():
    assert gflops(PRESETS["RN50"]) == pytest.approx(FIGURE_9["RN50"][0], rel=0.06)


def test_the_ladder_spans_what_the_paper_spans_and_splits_compute_evenly():
    base = PRESETS["playground-rn"]
    compute = [gflops(rung(size, base)) for size in SIZES]
    assert compute == sorted(compute) and compute[-1] / compute[0] > 44
    small, large = (rung(size, base) for size in (1, 2))
    assert large.vision.image_size == 2 * small.vision.image_size
    assert large.vision.widths == tuple(2 * width for width in small.vision.widths)
    assert sum(large.vision.layers) == 4 * sum(small.vision.layers)
    assert (small.text.width, large.text.width, large.text.layers) == (64, 128, base.text.layers)
    for size in (0, -1, 1.1):
        with pytest.raises(ConfigError, match="cannot be built"):
            rung(size, base)
    assert build_model(rung(1.25, base)).config.num_parameters() > 0


def test_a_miniature_ladder(tmp_path):
    base = tiny_config(tmp_path, num_steps=3)

    def sets(pixels):
        return [task for task in playground_tasks(size=pixels, num_samples=30) if task.name in ("shape", "digit")]

    done = run_figure9(base, sets, tmp_path / "out", sizes=(1, 1.25, 1.5))
    assert done.names == ["size-1", "size-1.25", "size-1.5"] and done.gflops == sorted(done.gflops)
    numbers = json.loads(done.numbers.read_text())
    rights = numbers["models"][0]["sets"]
    assert done.errors[0] == pytest.approx(100 - 50 * sum(right / n for right, n in rights.values()))
    assert numbers["paper"]["law"]["a"] == pytest.approx(54.0, abs=0.05)
    assert 'class="band' in done.picture.read_text() and "errors are read off the plot" in done.page.read_text()
    assert figure9_table(done).row_count == 3
    # A finished ladder is drawn again from what is there; another one may not take its place.
    before = (tmp_path / "out" / "size-1" / "log.jsonl").stat().st_mtime_ns
    again = run_figure9(base, sets, tmp_path / "out", sizes=(1, 1.25, 1.5))
    assert again.errors == done.errors and (tmp_path / "out" / "size-1" / "log.jsonl").stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="holds another figure"):
        run_figure9(base, sets, tmp_path / "out", sizes=(1, 2))
    with pytest.raises(ConfigError, match="two different sizes"):
        run_figure9(base, sets, tmp_path / "out", sizes=(1,))
