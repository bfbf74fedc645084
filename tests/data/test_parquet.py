"""Parquet files with pictures: Hugging Face's and img2dataset's layouts, damaged files, bombs."""

import io
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from diptych.data.open_source import open_source
from diptych.errors import DataError
from diptych.records import Broken, Sample


def picture(colour: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (colour, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


PICTURES = [picture(colour) for colour in range(5)]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write(path: Path, columns: dict[str, pa.Array | list], **options: object) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


def read(path: Path) -> list[Sample | Broken]:
    source = open_source(path)
    return [item for index in range(len(source.shards)) for item in source.read(index)]


def test_hugging_face_layout_one_shard_per_row_group(tmp_path):
    images = pa.array([{"bytes": data, "path": f"{n}.png"} for n, data in enumerate(PICTURES)], STRUCT)
    texts = [f"caption {n}" for n in range(5)]
    path = write(tmp_path / "a.parquet", {"image": images, "text": texts, "width": [8] * 5}, row_group_size=2)
    source = open_source(path)
    assert source.shards == tuple(f"{path}:{group}" for group in range(3))
    expected = [Sample(f"a.parquet/{n // 2}/{n % 2}", PICTURES[n], (texts[n],), None, {"width": 8}) for n in range(5)]
    assert [list(source.read(group)) for group in range(3)] == [expected[:2], expected[2:4], expected[4:]]
    assert source.fingerprint == open_source(tmp_path).fingerprint
    assert (
        source.fingerprint != open_source(write(tmp_path / "b.parquet", {"image": images, "text": texts})).fingerprint
    )


@pytest.mark.parametrize("kind", [pa.list_(pa.string()), pa.large_list(pa.large_string())])
def test_several_captions(tmp_path, kind):
    texts = pa.array([["one", "two"], [" three "], [None, "four"], [], None], kind)
    items = read(write(tmp_path / "a.parquet", {"jpg": PICTURES, "captions": texts}))
    assert [item.texts for item in items[:3]] == [("one", "two"), ("three",), ("four",)]
    assert [item.reason for item in items[3:]] == ["no caption", "no caption"]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_labels_need_no_text(tmp_path, kind):
    images = pa.array(PICTURES, kind)
    items = read(write(tmp_path / "a.parquet", {"Image": images, "label": [0, 1, 2, -1, None]}))
    assert [item.label for item in items[:3]] == [0, 1, 2] and all(isinstance(item, Broken) for item in items[3:])


def test_rows_that_cannot_be_used(tmp_path):
    texts = pa.array([b"good", b"caf\xe9", b"  ", None, b"x" * (2 << 20)]).view(pa.string())
    items = read(write(tmp_path / "a.parquet", {"image": PICTURES, "text": texts}))
    assert isinstance(items[0], Sample)
    reasons = ["its caption is not UTF-8 (byte 3)", "empty caption", "no caption", "larger than"]
    assert all(reason in item.reason for item, reason in zip(items[1:], reasons, strict=True))
    items = read(write(tmp_path / "b.parquet", {"image": [b"", None, PICTURES[0]], "text": ["a"] * 3}))
    assert [item.reason for item in items[:2]] == ["no image: its bytes are empty"] * 2


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"url": ["http://x"], "text": ["a"]}, "no column of encoded images .* img2dataset"),
        ({"image": [3], "text": ["a"]}, "no column of encoded images .*image is of type int64"),
        ({"image": pa.array([{"path": "x"}]), "text": ["a"]}, "no column of encoded images"),
        ({"image": [b"x"], "words": ["a"]}, "no text column"),
        ({"image": [b"x"], "text": [1]}, "no text column; text is of type int64.*--caption-column NAME"),
        ({"image": [b"x"], "caption": pa.array([{"raw": "a"}])}, "caption is of type struct<raw: string>"),
        ({"image": [b"x"], "sentence": ["a"]}, "--caption-column 'sentence'"),
    ],
)
def test_files_without_the_columns(tmp_path, columns, reason):
    with pytest.raises(DataError, match=reason):
        open_source(write(tmp_path / "a.parquet", columns))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"x" * 100 + b"\xff\xff\xff\x7fPAR1", b"<html>" * 99])
def test_no_parquet_at_all(tmp_path, content):
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"cannot read the parquet file .*a\.parquet"):
        open_source(tmp_path)


def test_damage_in_a_row_group_loses_its_rest(tmp_path):
    images = [bytes([n % 256]) * 3000 for n in range(400)]
    columns = {"image": images, "text": ["a"] * 400}
    path = write(tmp_path / "a.parquet", columns, row_group_size=200, use_dictionary=False, compression="snappy")
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[start + 40 : start + 4000] = b"\xff" * 3960
    path.write_bytes(content)
    source = open_source(path)
    assert all(isinstance(item, Sample) for item in source.read(0))
    *before, last = source.read(1)
    assert len(before) < 200 and isinstance(last, Broken) and "the rest of the row group is lost" in last.reason
    assert last.rest_lost


def test_a_bomb_is_refused_from_its_metadata(tmp_path, monkeypatch):
    columns = {"image": [bytes(32 << 20)], "text": ["a"]}
    path = write(tmp_path / "a.parquet", columns, compression="zstd", use_dictionary=False)
    assert path.stat().st_size < 32 << 10
    open_source(path)  # 32 MiB are nothing yet
    monkeypatch.setattr("diptych.data.parquet.FREE_BYTES", 16 << 20)
    with pytest.raises(DataError, match=r"row group 0 claims 32 MiB from \d+ KiB in the file"):
        open_source(path)


READ_IN_LITTLE_MEMORY = """
import itertools, sys
from diptych.data.open_source import open_source
items = itertools.islice(open_source(sys.argv[1]).read(0), 100)
print(sum(len(item.image) for item in items) >> 20)
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


def test_a_dictionary_bomb_is_read_a_few_rows_at_a_time(tmp_path):
    """100,000 rows that repeat one value of 8 MiB: 800 GB from a file of 8 MiB, and its metadata say 8 MiB."""
    images = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), pa.array([b"x" * (8 << 20)]))
    path = tmp_path / "a.parquet"
    table = pa.table({"image": images, "text": ["a"] * 100_000})
    pq.write_table(table, path, compression="none", store_schema=False)
    assert path.stat().st_size < 9 << 20
    done = subprocess.run(
        [sys.executable, "-c", READ_IN_LITTLE_MEMORY, str(path)], capture_output=True, text=True, check=True
    )
    size, peak = map(int, done.stdout.split())
    assert size == 800 and peak < 1000 << 10  # MiB, KiB
