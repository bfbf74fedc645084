"""A store in the hands of other tools: each loads it in one line, which docs/embedding.md shows."""

import json

import numpy as np
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


def test_numpy(store, expected, tmp_path):
    keys = write_npy(store, tmp_path / "vectors.npy")
    vectors = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    assert np.array_equal(vectors, expected[1]) and keys == tmp_path / "vectors.keys.jsonl"
    assert [json.loads(line) for line in keys.open(encoding="utf-8")] == expected[0]


def test_pandas(parquet, expected):
    pandas = pytest.importorskip("pandas")
    table = pandas.read_parquet(parquet)
    assert table["key"].tolist() == expected[0] and np.array_equal(np.stack(table["vector"]), expected[1])


def test_polars(parquet, expected):
    polars = pytest.importorskip("polars")
    table = polars.read_parquet(parquet)
    assert table["key"].to_list() == expected[0] and np.array_equal(table["vector"].to_numpy(), expected[1])


def test_duckdb(parquet, expected):
    duckdb = pytest.importorskip("duckdb")
    [found] = duckdb.sql(
        f"SELECT key, list_cosine_similarity(vector, {expected[1][3].tolist()}) AS score FROM '{parquet}' "
        "ORDER BY score DESC LIMIT 1"
    ).fetchall()
    assert found[0] == expected[0][3] and found[1] == pytest.approx(1, abs=1e-6)


def test_faiss(store, expected, tmp_path):
    faiss = pytest.importorskip("faiss")
    write_npy(store, tmp_path / "vectors.npy")
    index = faiss.IndexFlatIP(48)
    index.add(np.load(tmp_path / "vectors.npy"))
    assert index.search(expected[1][:20], 1)[1][:, 0].tolist() == list(range(20))


def test_lancedb(parquet, expected, tmp_path):
    lancedb = pytest.importorskip("lancedb", reason="LanceDB is not among the tests' packages: it is large")
    import pyarrow.parquet as pq

    table = lancedb.connect(tmp_path / "db").create_table("images", pq.read_table(parquet))
    assert table.search(expected[1][3]).limit(1).to_list()[0]["key"] == expected[0][3]


def test_the_table_holds_texts_and_its_origin(tmp_path):
    import pyarrow.parquet as pq

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
