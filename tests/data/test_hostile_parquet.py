"""Parquet files that crash PyArrow or unpack to gigabytes: they lose their own rows and nothing else."""

import io
import logging
import os
import signal
import struct
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from test_processes import kill_and_count

from diptych.data import parquet_process
from diptych.data.open_source import open_source
from diptych.data.parquet_process import ParquetError, describe, read_batches, read_table
from diptych.errors import DataError
from diptych.evaluate.predictions import read_predictions
from diptych.records import Broken, Sample


def picture() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PNG")
    return stream.getvalue()


def sound(path: Path, rows: int = 4) -> Path:
    texts = [["a", "b"], ["c"]] * (rows // 2)
    pq.write_table(pa.table({"image": [picture()] * rows, "captions": texts}), path)
    return path


def aborting(path: Path) -> Path:
    """A file over whose footer PyArrow ends the process; the first such change of one byte."""
    sound(path)
    data = path.read_bytes()
    length = struct.unpack("<I", data[-8:-4])[0]
    for place in range(len(data) - 8 - length, len(data) - 8):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        try:
            describe(path)
        except ParquetError as error:
            if "ends the process" in str(error):
                return path
    pytest.skip("this PyArrow survives every footer")


def process_id() -> int:
    return parquet_process._running[os.getpid()].process.pid


def test_a_footer_that_ends_pyarrow_loses_its_file_and_no_other(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    damaged = aborting(tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"cannot read the parquet file .*b\.parquet: .*SIGABRT"):
        open_source(damaged)
    with pytest.raises(DataError, match="no file of predictions"):
        read_predictions(damaged)
    sound(tmp_path / "a.parquet"), sound(tmp_path / "c.parquet")
    source = open_source(tmp_path)
    assert "b.parquet" in caplog.text
    first, lost, last = (list(source.read(index)) for index in range(3))
    assert len(first) == len(last) == 4 and all(isinstance(item, Sample) for item in first + last)
    assert [type(item) for item in lost] == [Broken] and lost[0].rest_lost and "SIGABRT" in lost[0].reason
    damaged.unlink()
    assert list(source.read(0)) == first  # and a file that is gone is an error no more than before
    assert next(source.read(1)).rest_lost


def test_a_killed_process_is_replaced_and_the_reading_goes_on_where_it_was(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"n": list(range(1000)), "word": [f"w{n}" for n in range(1000)]}), path)
    streams = [read_batches(path, 0, ["n", "word"], 10, 1000) for _ in range(3)]
    found: list[list[int]] = [[], [], []]
    for turn in range(16):
        for stream, numbers in zip(streams, found, strict=True):
            for _ in range(7):
                if (batch := next(stream, None)) is not None:
                    numbers += batch.column("n").to_pylist()
        if turn == 3:
            os.kill(process_id(), signal.SIGKILL)
    assert found == [list(range(1000))] * 3


def peak_of(process: int) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


@pytest.fixture
def bombs(tmp_path) -> dict[str, Path]:
    """A few KB each that unpack to 320 MB and more: long lists by run lengths, and many columns by a dictionary."""
    many = pa.DictionaryArray.from_arrays(pa.array(memoryview(bytes(4 * 5_000_000)).cast("i")), pa.array(["x" * 60]))
    words = pa.ListArray.from_arrays(pa.array([0, 5_000_000], pa.int32()), many)
    columns = {"image": [picture()], "captions": words}
    paths = {name: tmp_path / f"{name}.parquet" for name in ("list", "wide")}
    pq.write_table(pa.table(columns), paths["list"], compression="zstd", store_schema=False)
    value = pa.DictionaryArray.from_arrays(pa.array([0] * 64, pa.int32()), pa.array(["y" * (1 << 20)]))
    columns = {"image": [picture()] * 64, "text": ["a"] * 64, **{f"c{n}": value for n in range(40)}}
    pq.write_table(pa.table(columns), paths["wide"], compression="zstd", store_schema=False)
    return paths


def test_bombs_stay_within_bounds(bombs, monkeypatch):
    monkeypatch.setattr(parquet_process, "FREE_MEMORY", 128 << 20)
    parquet_process._running.pop(os.getpid()).end()
    assert bombs["list"].stat().st_size < 40_000
    *before, last = open_source(bombs["list"]).read(0)
    assert not before and last.rest_lost and "rest of the row group is lost" in last.reason
    assert peak_of(process_id()) < 500 << 20
    with pytest.raises(ParquetError):
        read_table(bombs["list"])
    assert len(read_table(sound(bombs["list"]))) == 4  # the process, or the next one, goes on

    monkeypatch.undo()
    parquet_process._running.pop(os.getpid()).end()
    assert len(list(open_source(bombs["wide"]).read(0))) == 64  # 2.7 GB, a few rows at a time
    assert peak_of(process_id()) < 1400 << 20


def test_time_has_a_limit(bombs, monkeypatch):
    """Of processor time, so a busy machine changes nothing."""
    monkeypatch.setattr(parquet_process, "MAX_SECONDS", 0.01)
    with pytest.raises(ParquetError, match=r"ends the process that reads \(SIGPROF\)"):
        read_table(bombs["list"])
    monkeypatch.undo()
    assert describe(bombs["list"]).num_rows == 1


def test_a_process_that_does_not_start_is_no_damaged_file(tmp_path, monkeypatch):
    path = sound(tmp_path / "a.parquet")
    parquet_process._running.pop(os.getpid()).end()
    monkeypatch.setattr(parquet_process, "_SCRIPT", "import nothing_of_this_name")
    with pytest.raises(DataError, match=r"does not start \(exit code 1\)") as error:
        open_source(path)
    assert not isinstance(error.value, ParquetError)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_process_ends_with_its_parent(tmp_path):
    script = f"""
        import time
        from diptych.data.open_source import open_source
        items = open_source({str(sound(tmp_path / "a.parquet"))!r}).read(0)
        next(items)
        print("batch", flush=True)
        time.sleep(600)
    """
    assert kill_and_count(script, 0) == (1, [])


def test_a_relative_path_counts_from_the_folder_of_now(tmp_path, monkeypatch):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        pq.write_table(pa.table({"where": [name]}), "a.parquet")
        assert read_table("a.parquet").to_pydict() == {"where": [name]}
