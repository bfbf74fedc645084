import resource
import signal

import numpy as np
import pandas
import pytest

from diptych.errors import DataError, ShapeError
from diptych.evaluate import read_predictions, write_predictions
from diptych.records import Predictions


def some(num_samples: int = 3, k: int = 2) -> Predictions:
    rng = np.random.default_rng(0)
    return Predictions(
        tuple(f"folder/schlüssel {index}" for index in range(num_samples)),
        rng.integers(9, size=num_samples),
        rng.integers(9, size=(num_samples, k)),
        rng.random((num_samples, k), dtype=np.float32),
    )


@pytest.mark.parametrize(("num_samples", "k"), [(3, 2), (1, 1), (2000, 5), (0, 0)])
def test_written_and_read_back(tmp_path, num_samples, k):
    predictions = some(num_samples, k)
    path = tmp_path / "new" / "predictions.parquet"
    write_predictions(predictions, path)
    again = read_predictions(path)
    assert again.keys == predictions.keys
    for name, kind in (("labels", np.int64), ("classes", np.int64), ("scores", np.float32)):
        found, expected = getattr(again, name), getattr(predictions, name)
        assert found.dtype == kind and found.shape == expected.shape and (found == expected).all()
    assert [file.name for file in path.parent.iterdir()] == ["predictions.parquet"]


def test_other_tools_read_the_columns(tmp_path):
    predictions = some()
    write_predictions(predictions, tmp_path / "p.parquet")
    frame = pandas.read_parquet(tmp_path / "p.parquet")
    assert list(frame.columns) == ["key", "label", "classes", "scores"]
    assert frame["key"].tolist() == list(predictions.keys)
    assert np.stack(frame["classes"]).tolist() == predictions.classes.tolist()


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "p.parquet"
    write_predictions(some(), path)
    before = path.read_bytes()
    good = some()
    with pytest.raises(ShapeError):
        write_predictions(Predictions(good.keys[:2], good.labels, good.classes, good.scores), path)
    unprintable = Predictions(("a", "b", 3), good.labels, good.classes, good.scores)
    with pytest.raises(TypeError):
        write_predictions(unprintable, path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "p.parquet"
    write_predictions(some(), path)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # behaves like a full disk
    try:
        with pytest.raises(
            DataError, match=r"cannot write predictions to .*p\.parquet: .*too large.*; free some space"
        ):
            write_predictions(some(20_000), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    with pytest.raises(DataError, match="cannot write predictions to"):
        write_predictions(some(), path / "p.parquet")


def test_parts_that_do_not_fit(tmp_path):
    good = some()
    for wrong in (
        Predictions(good.keys, good.labels[:2], good.classes, good.scores),
        Predictions(good.keys, good.labels, good.classes[:, 0], good.scores[:, 0]),
        Predictions(good.keys, good.labels, good.classes, good.scores[:, :1]),
    ):
        with pytest.raises(ShapeError, match="3 keys"):
            write_predictions(wrong, tmp_path / "p.parquet")


def test_files_that_are_no_predictions(tmp_path):
    good = pandas.DataFrame(
        {"key": ["a", "b"], "label": [0, 1], "classes": [[0, 1], [1]], "scores": [[0.5, 0.5], [1.0]]}
    )
    good.to_parquet(tmp_path / "ragged.parquet")
    good.drop(columns="label").to_parquet(tmp_path / "column.parquet")
    good.assign(label=["x", "y"]).to_parquet(tmp_path / "type.parquet")
    (tmp_path / "noise.parquet").write_bytes(b"PAR1 and then noise")
    for name in ("ragged", "column", "type", "noise", "missing"):
        with pytest.raises(DataError, match=f"{name}.parquet is no file of predictions"):
            read_predictions(tmp_path / f"{name}.parquet")
