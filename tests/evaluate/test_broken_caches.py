"""Whatever is broken in what is kept, it is computed again with a notice, and the numbers stay the same."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
import safetensors.torch
from shaded_sets import Shades, write_folders

from diptych.embed.store import write_json
from diptych.errors import DataError
from diptych.evalsets.cards import get_card
from diptych.evaluate.predictions import read_predictions
from diptych.evaluate.suite import run_suite
from diptych.evaluate.tasks.probe_tasks import LINEAR_PROBE
from diptych.evaluate.tasks.task import Setting
from diptych.evaluate.tasks.zero_shot import ZERO_SHOT

CARD = get_card("CIFAR10")


def measure(data: Path, out: Path):
    setting = Setting(data, cache=out / "cache", predictions=out / "predictions")
    done = run_suite(Shades(), (ZERO_SHOT, LINEAR_PROBE), [CARD], setting, out)
    assert not done.skipped
    return [(one.task, one.metric, one.protocol, one.value, one.low, one.high) for one in done.results]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A measured set: its data, what was kept, and the numbers."""
    root = tmp_path_factory.mktemp("whole")
    data = write_folders(root / "data", ("train", "test"))
    return data, root / "out", measure(data, root / "out")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def of_zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x55
    path.write_bytes(content)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "something").write_text("else")


def other_json(path: Path) -> None:
    path.write_text('[{"format": null}, 1e999, [[[]]]]')


BREAK = [truncated, emptied, of_zeros, flipped, a_folder, other_json]
KEPT = ["cache/pictures/*/*/vectors.npy", "cache/pictures/*/*/key_offsets.npy", "cache/pictures/*/*/shard.json"]
KEPT += ["cache/pictures/*/manifest.json"]
KEPT += ["cache/probes/*.safetensors", "cache/**/*.npy", "predictions/*/*.parquet", "parts/*/*.json"]


@pytest.mark.parametrize("damage", BREAK, ids=lambda one: one.__name__)
@pytest.mark.parametrize("kept", KEPT)
def test_broken_files_are_computed_again(whole, tmp_path, caplog, kept, damage):
    data, before, numbers = whole
    out = tmp_path / "out"
    shutil.copytree(before, out)
    paths = sorted(out.glob(kept))
    assert paths
    if not kept.startswith(("parts", "predictions")):  # else a sound measurement would be used as it is
        shutil.rmtree(out / "parts")
    if kept.startswith("cache/pictures"):
        shutil.rmtree(out / "cache/probes")
    for path in paths:
        damage(path)
    with caplog.at_level(logging.WARNING, "diptych"):
        assert measure(data, out) == numbers
    if not (damage is flipped and kept.startswith("predictions")):
        assert "is broken" in caplog.text
    caplog.clear()
    assert measure(data, out) == numbers and "is broken" not in caplog.text


@pytest.mark.parametrize(
    "manifest",
    [
        {"num_rows": 2**62, "dim": 2**62},
        {"num_rows": -1},
        {"num_rows": True},
        {"num_rows": "ab"},
        {"num_items": 0},
        {"num_items": None},
        {"num_key_bytes": 7},
        {"digests": {}},
        {"digests": []},
        {"digests": {"vectors": 7, "labels": "", "key_bytes": "", "key_offsets": ""}},
    ],
)
def test_a_manifest_that_states_something_else(whole, tmp_path, caplog, manifest):
    data, before, numbers = whole
    out = tmp_path / "out"
    shutil.copytree(before, out)
    shutil.rmtree(out / "parts")
    shutil.rmtree(out / "cache/probes")
    for path in out.glob(KEPT[2]):
        content = {**json.loads(path.read_text()), **manifest}
        del content["digest"]
        write_json(path, content)  # a digest that fits
    assert measure(data, out) == numbers and "is broken" in caplog.text


@pytest.mark.parametrize("change", ["nan", "shape", "type", "huge"])
def test_a_kept_probe_that_is_none(whole, tmp_path, caplog, change):
    data, before, numbers = whole
    out = tmp_path / "out"
    shutil.copytree(before, out)
    shutil.rmtree(out / "parts")
    [path] = out.glob("cache/probes/*.safetensors")
    with safetensors.safe_open(path, "numpy") as file:
        about, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if change == "nan":
        tensors["weights"][0, 0] = np.nan
    elif change == "shape":
        tensors["weights"], tensors["bias"] = tensors["weights"][:-1].copy(), tensors["bias"][:-1].copy()
    elif change == "type":
        tensors["weights"] = tensors["weights"].astype(np.float16)
    else:
        about["steps"] = "1e999"
    safetensors.numpy.save_file(tensors, path, metadata=about)
    assert measure(data, out) == numbers and "the kept probe" in caplog.text


def test_predictions_that_state_more_than_they_hold(tmp_path):
    """A small file whose pages repeat one value: read whole it would take gigabytes."""
    path = tmp_path / "bomb.parquet"
    rows = 4_000_000
    columns = {
        "key": pa.array(["k"] * rows),
        "label": pa.array(np.zeros(rows, np.int64)),
        "classes": pa.array([[0]] * rows),
        "scores": pa.array([[0.5]] * rows),
    }
    pq.write_table(pa.table(columns), path, row_group_size=rows)
    assert path.stat().st_size < 100_000
    with pytest.raises(DataError, match=r"bomb\.parquet is no file of predictions.*state 4000000 rows"):
        read_predictions(path)


@pytest.mark.parametrize("change", [{"format": 9}, {"digest": None}, {"fingerprint": None}, {"predictions": ["../x"]}])
def test_a_kept_measurement_that_was_changed_is_measured_again(whole, tmp_path, caplog, change):
    """Also where the change is in the number of its format: that of another version would be an error."""
    data, before, numbers = whole
    out = tmp_path / "out"
    shutil.copytree(before, out)
    for path in out.glob("parts/*/*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert measure(data, out) == numbers and "is broken (it was changed since it was written)" in caplog.text
