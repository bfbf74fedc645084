"""Files that an earlier version wrote are still read: a model folder, a run with its checkpoint, files of Results.

Those in old_files/ were written at commit f1bc14c: by `fit` with a tiny configuration, by `diptych evaluate`, and by
`diptych evaluate --suite paper`.
"""

import dataclasses
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from training import tiny_config

import diptych
from diptych.data.transforms import Preprocessing
from diptych.model.clip_config import CLIPConfig, TextConfig, ViTConfig
from diptych.model.device import choose_dtype
from diptych.quickstart import write_run_page
from diptych.records import merge_results, read_results, write_results
from diptych.train import CheckpointConfig, fit

OLD = Path(__file__).parent / "old_files"
MODEL = CLIPConfig(
    8, ViTConfig(32, 8, 16, 1, 1), TextConfig(context_length=32, vocab_size=514, width=8, layers=1, heads=1)
)


def old_config(out: Path, **changes):
    """The configuration of the old run."""
    checkpoint = CheckpointConfig(every_steps=4, every_minutes=60.0)
    options = {"model": MODEL, "preprocessing": Preprocessing(image_size=32), "checkpoint": checkpoint, **changes}
    return tiny_config(out, 6, **options)


def test_a_model_folder_gives_the_same_vectors_and_fingerprints():
    model, expected = diptych.load(OLD / "run/model", "cpu"), json.loads((OLD / "vectors.json").read_text())
    image = (np.arange(40 * 40 * 3, dtype=np.uint32).reshape(40, 40, 3) % 251).astype(np.uint8)
    np.testing.assert_allclose(model.encode_images([image])[0], expected["images"], atol=1e-5)
    np.testing.assert_allclose(model.encode_texts(["a red square"])[0], expected["texts"], atol=1e-5)
    # Caches are found by these, and results know the model by them.
    assert (model.fingerprint, model.image_fingerprint) == (expected["fingerprint"], expected["image_fingerprint"])


def test_a_run_goes_on_from_its_old_checkpoint_with_the_same_losses(tmp_path):
    shutil.copytree(OLD / "run", tmp_path / "run")
    before = {row["step"]: row["loss"] for row in rows_of(OLD / "run/log.jsonl")}
    run = fit(old_config(tmp_path / "run"), resume=True)
    after = {row["step"]: row["loss"] for row in rows_of(tmp_path / "run/log.jsonl")}
    assert run.finished and run.step == 6 and sorted(before) == sorted(after) == [1, 2, 3, 4, 5, 6]
    # The file's losses are of fp32. Precision "auto" is bf16 where the processor computes in it: 8 bits, 0.4 %.
    in_fp32 = choose_dtype("auto", torch.device("cpu")) == torch.float32
    expected = pytest.approx([before[step] for step in (5, 6)], rel=1e-3 if in_fp32 else 4e-3)
    assert [after[step] for step in (5, 6)] == expected
    old = diptych.load(OLD / "run/model", "cpu")
    image = np.full((32, 32, 3), 90, np.uint8)
    tolerance = 1e-3 if in_fp32 else 1e-2
    np.testing.assert_allclose(run.model.encode_images([image]), old.encode_images([image]), atol=tolerance)
    assert write_run_page(run, []).is_file()


def test_an_old_run_is_finished_already(tmp_path):
    """The last row of its log and the model stand; more pairs than before are another run."""
    shutil.copytree(OLD / "run", tmp_path / "run")
    with pytest.raises(diptych.errors.DiptychError):
        fit(dataclasses.replace(old_config(tmp_path / "run"), num_pairs=7 * 16), resume=True)


def rows_of(path: Path) -> list[dict]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [row for row in rows if "loss" in row]


@pytest.mark.parametrize("name", ["suite.jsonl", "evaluate.jsonl"])
def test_old_results_are_read_with_their_conditions(name, tmp_path):
    rows, results = rows_of_results(name), read_results(OLD / name)
    assert [(one.dataset, one.metric, one.value, one.n, one.low, one.high, one.interval) for one in results] == [
        tuple(row[field] for field in ("dataset", "metric", "value", "n", "low", "high", "interval")) for row in rows
    ]
    assert [dict(one.run) for one in results] == [row["run"] for row in rows]
    assert not any(word in one.protocol for one in results for word in ("shot", " "))
    write_results(results, tmp_path / "new.jsonl")
    assert read_results(tmp_path / "new.jsonl") == results
    assert '"paper"' not in (tmp_path / "new.jsonl").read_text()


def test_shots_and_classifiers_of_old_rows_are_conditions():
    results = read_results(OLD / "suite.jsonl")
    counts = Counter(one.task for one in results)
    assert counts["linear_probe"] == 1 and counts["zero_shot"] > 10
    [probe] = [one for one in results if one.task == "few_shot"]
    assert dict(probe.condition) == {"classifier": "probe", "shots": 16}
    others = [one for one in results if one.task == "few_shot_from_texts"]
    assert [dict(one.condition) for one in others] == [
        {"classifier": "zero-shot-initialised", "shots": 16},
        {"classifier": "interpolated", "shots": 16},
    ]
    assert all(one.protocol == "draws" for one in [probe, *others])


def test_new_results_take_the_place_of_old_ones(tmp_path):
    shutil.copy(OLD / "suite.jsonl", tmp_path / "results.jsonl")
    results = read_results(OLD / "suite.jsonl")
    new = [dataclasses.replace(one, value=one.low, high=one.high) for one in results if one.low is not None]
    assert merge_results(new, tmp_path / "results.jsonl") == len(new) > 10
    assert len(read_results(tmp_path / "results.jsonl")) == len(results)


def rows_of_results(name: str) -> list[dict]:
    return [json.loads(line) for line in (OLD / name).read_text().splitlines()]
