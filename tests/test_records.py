"""results.jsonl: all rows of a call or none, and every bad row named."""

import resource
import signal

import pytest

from diptych.errors import DataError
from diptych.records import Result, read_results, write_results


def rows(count, dataset="paints"):
    return [
        Result("zero_shot", dataset, "test", "accuracy", index / 8, 8, 0.1, 0.9, "clopper-pearson 99.5%", "single", "m")
        for index in range(count)
    ]


def test_written_rows_come_back_in_order(tmp_path):
    path = tmp_path / "new" / "results.jsonl"
    write_results(rows(2), path)
    write_results(iter(rows(1)), str(path))
    assert read_results(path) == rows(2) + rows(1)
    assert len(path.read_text().splitlines()) == 3


@pytest.mark.parametrize("name", ["schl\u00fcssel", "two\u2028lines\x85\x0b", "no utf-8: \udcff", "\\udcff", "a\nb"])
def test_any_name_of_a_set_comes_back(tmp_path, name):
    write_results(rows(2, name), tmp_path / "results.jsonl")
    assert [row.dataset for row in read_results(tmp_path / "results.jsonl")] == [name, name]


@pytest.mark.parametrize("room", [0, 100, 1000])
def test_a_full_disk_leaves_the_rows_before_it(tmp_path, room):
    path = tmp_path / "results.jsonl"
    write_results(rows(3), path)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + room, hard))  # behaves like a full disk
    try:
        with pytest.raises(
            DataError, match=r"cannot write results to .*results\.jsonl: File too large; free some space"
        ):
            write_results(rows(8), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    write_results(rows(1), path)
    assert read_results(path) == rows(3) + rows(1)


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "results.jsonl"):
        with pytest.raises(DataError, match="cannot write results to"):
            write_results(rows(1), path)


@pytest.mark.parametrize(
    "bad", ['{"task": "zero_sh', "[1, 2]", "7", '{"task": "zero_shot"}', '{"colour": 1}', "[" * 100_000], ids=range(6)
)
def test_a_bad_row_is_named(tmp_path, bad):
    path = tmp_path / "results.jsonl"
    write_results(rows(2), path)
    with path.open("a") as file:
        file.write(f"\n{bad}\n")
    with pytest.raises(DataError, match=r"results\.jsonl, line 4 is no result"):
        read_results(path)


def test_files_that_hold_no_results(tmp_path):
    (tmp_path / "latin.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"latin\.jsonl holds no results: it is not UTF-8 \(byte 0\)"):
        read_results(tmp_path / "latin.jsonl")
    for path in (tmp_path / "missing.jsonl", tmp_path):
        with pytest.raises(DataError, match="cannot read results from"):
            read_results(path)
