"""A store on disk: whatever is damaged is an error that says where, and opening costs nothing per row."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_sources import Means, Noise

from diptych.embed.embed_source import embed_source
from diptych.embed.npy_column import ColumnWriter, map_column
from diptych.embed.store import open_store, write_json
from diptych.errors import DataError

COLUMNS = ("vectors.npy", "labels.npy", "key_bytes.npy", "key_offsets.npy")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store") / "store"
    embed_source(Noise(2, 20), Means(), folder, batch_size=4, rows_per_shard=16)
    return folder


@pytest.fixture
def store(whole, tmp_path):
    """A copy to break."""
    return Path(shutil.copytree(whole, tmp_path / "store"))


def read_all(folder):
    """Everything that a reader of a store may ask for."""
    found = open_store(folder)
    rows = np.arange(len(found))
    found.vectors(rows), found.labels(rows), found.keys(rows)
    [list(shard.keys) for shard in found.shards]
    found.check()


def test_columns_are_npy_files(store):
    shard = open_store(store).shards[0]
    assert np.array_equal(np.load(shard.folder / "vectors.npy", allow_pickle=False), shard.vectors)
    assert np.array_equal(np.load(shard.folder / "labels.npy"), shard.labels)
    assert isinstance(shard.vectors, np.memmap) and not shard.vectors.flags.writeable


def test_rows_are_found_wherever_they_lie(store):
    found = open_store(store)
    rows = np.array([len(found) - 1, 0, 15, 0, 20])
    assert np.array_equal(found.vectors(rows), np.concatenate(list(found.vector_shards()))[rows])
    keys = [key for shard in found.shards for key in shard.keys]
    assert found.keys(rows) == [keys[row] for row in rows]
    assert found.shards[0].keys[-1] == keys[found.shards[0].num_rows - 1] and found.shards[0].keys[1:3] == keys[1:3]
    for wrong in (np.array([-1]), np.array([len(found)])):
        with pytest.raises(IndexError):
            found.vectors(wrong)


@pytest.mark.parametrize("name", [*COLUMNS, "samples.parquet"])
def test_a_damaged_file_is_named(store, name):
    path = next(store.glob("0*")) / name
    content = path.read_bytes()
    for damaged in (content[:-3], b"", content + b"more", content[:64] + b"x" + content[65:], None):
        if damaged is None:
            path.unlink()
        else:
            path.write_bytes(damaged)
        with pytest.raises(DataError, match=name):
            read_all(store)
    changed = bytearray(content)
    changed[-1] ^= 1
    path.write_bytes(changed)
    with pytest.raises(DataError, match=rf"{name} was changed since it was written|damaged"):
        read_all(store)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"{", b"[" * 100_000, b'{"format": 2}', b"\xff", b'{"format": 1}']
)
@pytest.mark.parametrize("name", ["manifest.json", "000000-000000/shard.json"])
def test_a_manifest_that_is_none(store, name, content):
    (store / name).write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        open_store(store)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("manifest.json", {"dim": 0}),
        ("manifest.json", {"dim": "48"}),
        ("manifest.json", {"dtype": "object"}),
        ("manifest.json", {"num_units": -1}),
        ("000000-000000/shard.json", {"dim": 47}),
        ("000000-000000/shard.json", {"num_rows": 2**62}),
        ("000000-000000/shard.json", {"num_rows": -1}),
        ("000000-000000/shard.json", {"num_rows": True}),
        ("000000-000000/shard.json", {"num_key_bytes": 2**70}),
        ("000000-000000/shard.json", {"digests": {}}),
        ("000000-000000/shard.json", {"is_last": 1}),
    ],
)
def test_a_manifest_that_states_something_else(store, name, change):
    content = {**json.loads((store / name).read_text()), **change}
    del content["digest"]
    write_json(store / name, content)
    with pytest.raises(DataError):
        read_all(store)


@pytest.mark.parametrize("offset", [-5, 10**15])
def test_offsets_that_lead_out_of_the_keys(store, offset):
    shard = open_store(store).shards[0]
    offsets = np.array(shard.keys.offsets)
    offsets[3] = offset
    np.save(shard.folder / "key_offsets.npy", offsets)
    column = ColumnWriter(shard.folder / "key_offsets.npy", np.int64)
    column.append(offsets)
    column.finish()
    with pytest.raises(DataError, match="damaged"):
        open_store(store).keys(np.array([3]))
    with pytest.raises(DataError, match="damaged"):
        list(open_store(store).shards[0].keys)


def test_no_folder_and_no_store(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(DataError, match="no store of embeddings is there"):
            open_store(folder)


def test_empty_columns(tmp_path):
    column = ColumnWriter(tmp_path / "a.npy", np.float32, 3)
    column.finish()
    assert map_column(tmp_path / "a.npy", np.float32, (0, 3)).shape == (0, 3) == np.load(tmp_path / "a.npy").shape


LARGE = """
import resource, sys, time
import numpy as np, torch
from pathlib import Path
from diptych.embed.engine import EncodedBatch
from diptych.embed.shard_writer import ShardWriter
from diptych.embed.store import StoreManifest, open_store, shard_name
from diptych.records import Sample

folder, shards, rows, step = Path(sys.argv[1]), 48, 65_536, 4096
for unit in range(shards if not folder.exists() else 0):
    path = folder / shard_name(unit, 0)
    path.mkdir(parents=True)
    with ShardWriter(path, 4) as writer:
        for start in range(0, rows, step):
            samples = tuple(Sample(f"{unit:05d}/{n:06d}", b"", (), n) for n in range(start, start + step))
            vectors = torch.full((step, 4), 0.5) * (1 if unit else -1)
            writer.add(EncodedBatch(np.arange(start, start + step), samples, vectors))
        writer.finish(rows, is_last=True)
if not (folder / "manifest.json").exists():
    StoreManifest(fingerprint="", model="m", dim=4, num_units=shards).write(folder)
    sys.exit()

def memory():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20

before, begin = memory(), time.perf_counter()
store = open_store(folder)
rows = np.random.default_rng(0).integers(len(store), size=1000)
keys, labels = store.keys(rows), store.labels(rows)
print(len(store), time.perf_counter() - begin, memory() - before)
assert keys == [f"{row // 65_536:05d}/{row % 65_536:06d}" for row in rows] and (labels == rows % 65_536).all()
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_three_million_rows_open_at_once_and_take_no_memory(tmp_path):
    for _ in range(2):
        command = [sys.executable, "-c", LARGE, str(tmp_path / "store")]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    rows, seconds, megabytes = map(float, done.stdout.split())
    # Three million Python strings alone would take 200 MB.
    assert rows == 48 * 65_536 and seconds < 5 and megabytes < 60
