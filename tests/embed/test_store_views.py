"""A store in the hands of other tools: each loads it in one line, which docs/embedding.md shows."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_sources import Means, Noise

from diptych.embed.embed_inputs import embed_texts
from diptych.embed.embed_source import embed_source
from diptych.embed.store_views import write_npy, write_parquet
from diptych.errors import DataError
from tests.embedding import make_vit


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return embed_source(Noise(), Means(), tmp_path_factory.mktemp("s") / "store", batch_size=4, rows_per_shard=16)


@pytest.fixture(scope="module")
def parquet(store, tmp_path_factory):
    path = tmp_path_factory.mktemp("p") / "vectors.parquet"
    write_parquet(store, path)
    return path


@pytest.fixture
def expected(store):
    rows = np.arange(len(store))
    return store.keys(rows), store.vectors(rows)


PAGE = Path(__file__).resolve().parents[2] / "docs" / "embedding.md"
LINES = dict(re.findall(r"^\| ([\w]+) \| `(.*=.*)` \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))


@pytest.fixture
def shown(store, parquet, tmp_path, monkeypatch):
    """Runs the line that docs/embedding.md shows for a tool; its variables."""

    def run(tool, **names):
        shutil.copy(parquet, tmp_path)
        write_npy(store, tmp_path / "vectors.npy")
        monkeypatch.chdir(tmp_path)
        exec(LINES[tool], names)  # noqa: S102  (our own page)
        return names

    return run


def test_the_page_shows_these_tools():
    assert list(LINES) == ["NumPy", "pandas", "polars", "DuckDB", "faiss", "LanceDB"]


def test_numpy(shown, expected):
    assert np.array_equal(shown("NumPy", np=np)["vectors"], expected[1])
    assert [
        json.loads(line) for line in Path("vectors.keys.jsonl").read_text(encoding="utf-8").splitlines()
    ] == expected[0]


def test_pandas(shown, expected):
    table = shown("pandas", pd=pytest.importorskip("pandas"))["table"]
    assert table["key"].tolist() == expected[0] and np.array_equal(np.stack(table["vector"]), expected[1])


def test_polars(shown, expected):
    table = shown("polars", pl=pytest.importorskip("polars"))["table"]
    assert table["key"].to_list() == expected[0] and np.array_equal(table["vector"].to_numpy(), expected[1])


def test_duckdb(shown, expected):
    rows = shown("DuckDB", duckdb=pytest.importorskip("duckdb"))["table"].fetchall()
    assert [key for key, _ in rows] == expected[0]
    assert np.array_equal(np.array([vector for _, vector in rows], np.float32), expected[1])


def test_faiss(shown, expected):
    faiss = pytest.importorskip("faiss")
    index = shown("faiss", faiss=faiss, vectors=expected[1])["index"]
    assert index.search(expected[1][:20], 1)[1][:, 0].tolist() == list(range(20))


def test_lancedb(shown, expected):
    lancedb = pytest.importorskip("lancedb", reason="LanceDB is not among the tests' packages: it is large")
    table = shown("LanceDB", lancedb=lancedb, pq=pq)["table"]
    assert table.search(expected[1][3]).limit(1).to_list()[0]["key"] == expected[0][3]


def test_the_table_holds_texts_and_its_origin(tmp_path):
    store = embed_texts(make_vit(), ["a cat", "zwei Hunde"], tmp_path / "store")
    write_parquet(store, tmp_path / "texts.parquet")
    table = pq.read_table(tmp_path / "texts.parquet")
    assert table["text"].to_pylist() == ["a cat", "zwei Hunde"] and table["key"].to_pylist() == ["0", "1"]
    origin = json.loads(table.schema.metadata[b"diptych"])
    assert origin["model"] == "vit" and origin["precision"] == "fp32" and origin["backend"].startswith("torch")


@pytest.mark.parametrize("write", [write_npy, write_parquet])
def test_a_view_that_cannot_be_written_is_named_and_leaves_nothing(store, tmp_path, write):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot write .*vectors"):
        write(store, tmp_path / "file" / "vectors.npy")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
