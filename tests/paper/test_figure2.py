"""Figure 2: ratios solved by hand and read off the paper's own points; a miniature of the whole comparison."""

import dataclasses
import json
import shutil

import pytest
import torch
from training import tiny_config

from diptych.errors import ConfigError, InputError
from diptych.evalsets.playground_tasks import playground_tasks
from diptych.model.build import build_model
from diptych.paper.training.figure2 import (
    BAG,
    DECODER,
    FOLDERS,
    TRANSFORMER,
    WORDS,
    contestant,
    ratio_in_words,
    run_figure2,
)
from diptych.paper.training.image_efficiency import efficiency, images_needed
from diptych.paper.training.plotted_numbers import EFFICIENCY, FIGURE_2
from diptych.paper.training.runs import Measured, doubling_steps, read_measured, thinned, train_once
from diptych.paper.training.setting import base_run, sets
from diptych.paper.training.training_tables import figure2_tables

# ---- ratios


def test_images_are_interpolated_in_their_logarithm():
    images, accuracy = [100, 200, 400], [0.1, 0.3, 0.3]
    assert images_needed(images, accuracy, 0.2) == (pytest.approx(100 * 2**0.5), False)
    assert images_needed(images, accuracy, 0.3) == (200, False)
    assert images_needed(images, accuracy, 0.05) == (100, True)
    assert images_needed(images, accuracy, 0.31) is None


def test_a_ratio_by_hand():
    fast, slow = ([1, 2, 4], [0.2, 0.4, 0.8]), ([1, 2, 4], [0.1, 0.2, 0.4])
    found = efficiency(fast, slow)
    assert (found.ratio, found.bound, found.accuracy) == (2.0, "", 0.4)
    assert efficiency(slow, fast).ratio == 0.5
    assert efficiency(([1, 2], [0.5, 0.6]), slow) == dataclasses.replace(found, ratio=4.0, bound=">=")
    assert ratio_in_words(dataclasses.replace(found, bound=">=", low=1.0, high=3.0)) == "at least 2.0 (1.0 to 3.0)"


def test_a_ratio_at_chance_is_marked():
    flat, rising = ([1, 2, 4], [0.12, 0.09, 0.1]), ([1, 2, 4], [0.1, 0.2, 0.4])
    assert not efficiency(rising, flat, n=500, chance=0.1).above_chance
    assert ratio_in_words(efficiency(rising, flat, n=500, chance=0.1)) == "?"
    assert efficiency(rising, flat, n=500, chance=0.02).above_chance


def test_the_interval_of_a_ratio_narrows_with_the_pictures():
    fast, slow = ([1, 2, 4], [0.2, 0.4, 0.8]), ([1, 2, 4], [0.1, 0.2, 0.4])
    few, many = efficiency(fast, slow, n=100), efficiency(fast, slow, n=10_000)
    assert few.low < many.low < 2.0 < many.high < few.high


@pytest.mark.parametrize("compared", EFFICIENCY)
def test_the_papers_points_give_the_papers_ratios(compared):
    curves = [tuple(zip(*FIGURE_2[name], strict=True)) for name in compared]
    found = efficiency(*[(list(images), [share / 100 for share in shares]) for images, shares in curves])
    assert found.ratio == pytest.approx(EFFICIENCY[compared], rel=0.05)


# ---- runs


def test_measurements_double_up_to_the_last_step():
    assert doubling_steps(60_000, 128, 6) == [14, 28, 56, 112, 224, 448]
    with pytest.raises(ConfigError, match="--pairs 4096"):
        doubling_steps(4000, 128, 6)


def test_contestants_share_everything_but_the_side_of_the_text(tmp_path):
    base = tiny_config(tmp_path)
    for name in FOLDERS:
        config = contestant(name, base, tmp_path)
        shared = dataclasses.replace(config, model=base.model, objective=base.objective, out=base.out)
        assert shared == base and config.model.vision == base.model.vision
        assert config.objective == ("prediction" if name in (DECODER, WORDS) else "contrastive")
    towers = []
    for name in (TRANSFORMER, DECODER):
        config = contestant(name, base, tmp_path).model
        towers.append(sum(p.numel() for p in build_model(config).transformer.parameters()))
    assert towers[0] == towers[1]
    with pytest.raises(ConfigError, match="begins with a contrastive run"):
        contestant(BAG, contestant(WORDS, base, tmp_path), tmp_path)


def test_a_thinned_set_is_spread_evenly_and_keeps_its_labels():
    task = playground_tasks(size=32, num_samples=1100)[0]  # two shards
    few = thinned(task, 11)
    keys = [sample.key for sample in few.source.read(0)]
    assert len(keys) == 11 and keys == [f"shape-test-{100 * k + 99:06d}" for k in range(11)]
    assert few.fingerprint != task.fingerprint
    assert thinned(task, None) is task and thinned(task, 5000) is task


def test_accuracy_is_over_the_pictures_of_all_sets():
    one = Measured(64, {"a": (3, 10), "b": (20, 30)})
    assert one.accuracy == 23 / 40 and one.n == 40 and one.interval[0] < 23 / 40 < one.interval[1]


@pytest.fixture(scope="module")
def figure(tmp_path_factory):
    """All four, eight updates each, measured at 2, 4 and 8."""
    out = tmp_path_factory.mktemp("figure2")
    tasks = [task for task in playground_tasks(size=32, num_samples=40) if task.name in ("shape", "position")]
    base = tiny_config(out, num_steps=9)
    torch.manual_seed(0)
    return base, tasks, out, run_figure2(base, tasks, out, doublings=3)


def test_the_figure_has_a_curve_for_each_and_everything_is_written(figure):
    _, _, out, done = figure
    for name, curve in done.curves.items():
        assert [one.pairs for one in curve] == [32, 64, 128], name
        assert curve[-1].sets.keys() == {"shape", "position"} and curve[-1].n == 80
    assert done.chance == pytest.approx((1 / 8 + 1 / 9) / 2)
    numbers = json.loads(done.numbers.read_text())
    assert numbers["curves"][DECODER][2]["accuracy"] == done.curves[DECODER][2].accuracy
    assert numbers["ratios"][0]["paper"] == 3.0 and len(numbers["ratios"]) == 4
    assert "<svg" in done.picture.read_text() and "Transformer, contrastive" in done.page.read_text()
    assert "curves are read off the plot" in done.page.read_text()
    tables = figure2_tables(done)
    assert [table.row_count for table in tables] == [5, 4]
    assert json.loads((out / FOLDERS[WORDS] / "config.json").read_text())["objective"] == "prediction"


def test_finished_runs_are_not_trained_again_and_a_missing_one_is(figure, tmp_path):
    base, tasks, out, done = figure
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    shutil.rmtree(copy / FOLDERS[BAG])
    before = {name: (copy / FOLDERS[name] / "log.jsonl").stat().st_mtime_ns for name in (DECODER, WORDS, TRANSFORMER)}
    again = run_figure2(base, tasks, copy, doublings=3)
    assert {n: (copy / FOLDERS[n] / "log.jsonl").stat().st_mtime_ns for n in before} == before
    assert again.curves == done.curves  # the run made anew gives the same numbers


def test_another_figure_in_the_folder_is_refused(figure):
    base, tasks, out, _ = figure
    with pytest.raises(ConfigError, match="holds another figure: sets was"):
        run_figure2(base, tasks[:1], out, doublings=3)
    with pytest.raises(ConfigError, match="cannot resume"):
        run_figure2(dataclasses.replace(base, seed=5), tasks, out, doublings=3)


def test_steps_must_fit_the_run(tmp_path):
    with pytest.raises(ConfigError, match="must be multiples of the first"):
        train_once(tiny_config(tmp_path, num_steps=8), [], [3, 8])


def test_a_stopped_run_goes_on_and_has_no_point_twice(figure, tmp_path):
    """The last checkpoint is gone, as after a kill: the steps after the one before it are made and measured again."""
    base, tasks, out, done = figure
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    run = copy / FOLDERS[DECODER]
    (run / "results.jsonl").unlink()
    shutil.rmtree(run / "model")
    newest = sorted((run / "checkpoints").iterdir())[-1]
    shutil.rmtree(newest) if newest.is_dir() else newest.unlink()
    assert run_figure2(base, tasks, copy, doublings=3).curves == done.curves
    assert len(read_measured(run, 16)) == 3


# ---- the command's own


def test_the_playground_is_the_default_and_data_needs_a_set(tmp_path):
    config = base_run(None, None, tmp_path, 6000, batch_size=64, seed=3, workers=0, settings=["precision=fp32"])
    assert config.data == ("playground:6000",) and config.seed == config.loader.seed == 3
    assert config.global_batch_size == 64 and config.precision == "fp32"
    assert len(sets(None, None, "{c}", 5, 32, 0)) == 9
    for data, evaluate in ((["a"], None), (None, ["b"])):
        with pytest.raises(InputError, match="both --data"):
            sets(data, evaluate, "{c}", None, 64, 0)


def test_the_command_says_what_is_wrong(command):
    command("paper", "figure2", "--pairs", 200).is_error("too few for 6 doublings", "--pairs 4096")
    command("paper", "figure9", "--pairs", 300, "--size", 1.1, "--size", 2).is_error("size 1.1 cannot be built")
