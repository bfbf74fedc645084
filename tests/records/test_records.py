"""results.jsonl: all rows of a call or none, and every bad row named."""

import copy
import dataclasses
import json
import logging
import pickle
import resource
import signal
import subprocess
import sys
import textwrap

import pytest
from disks import fill, small_disk
from result_rows import rows

from diptych.errors import DataError, InputError
from diptych.evaluate.metrics.score import Score
from diptych.evaluate.scored_results import make_result
from diptych.files import expanded
from diptych.records import merge_results, read_results, write_results


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
        file.write(f"\n{bad}\n{json.dumps(dataclasses.asdict(rows(1)[0]))}\n")
    with pytest.raises(DataError, match=r"results\.jsonl, line 4 is not a result"):
        read_results(path)


def test_files_that_hold_no_results(tmp_path):
    (tmp_path / "latin.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"latin\.jsonl holds no results: it is not UTF-8 \(byte 0\)"):
        read_results(tmp_path / "latin.jsonl")
    (tmp_path / "note.jsonl").write_text("one line without an end")
    with pytest.raises(DataError, match="line 1 is not a result"):
        read_results(tmp_path / "note.jsonl")
    for path in (tmp_path / "missing.jsonl", tmp_path):
        with pytest.raises(DataError, match="cannot read results from"):
            read_results(path)


APPEND = """
    from diptych.records import Result, {function}
    for index in range(500):
        {function}([Result("t", "{name}", "test", "accuracy", 0.5, index, 0.1, 0.9, "i", "single", "m")], "{path}")
"""


def test_two_processes_append_without_a_torn_row(tmp_path):
    path = tmp_path / "results.jsonl"
    scripts = [textwrap.dedent(APPEND.format(function="write_results", name=name, path=path)) for name in ("a", "b")]
    running = [subprocess.Popen([sys.executable, "-c", script]) for script in scripts]
    assert [one.wait() for one in running] == [0, 0]
    found = read_results(path)
    assert len(path.read_bytes().splitlines()) == len(found) == 1000
    for name in ("a", "b"):  # each process's rows are all there, in its order
        assert [row.n for row in found if row.dataset == name] == list(range(500))


def test_a_merge_waits_for_its_turn_too(tmp_path):
    """A merge puts a new file in the place of the old one: who waited for the old one must not append to it."""
    path = tmp_path / "results.jsonl"
    merging = textwrap.dedent(APPEND.format(function="merge_results", name="a", path=path))
    running = subprocess.Popen([sys.executable, "-c", merging])
    for index in range(100):
        write_results([dataclasses.replace(rows(1)[0], n=index)], path)
    assert running.wait() == 0
    write_results(rows(1), path)
    found = read_results(path)
    # Rows of one identity are one after the merge, and the last one stays.
    assert [row.n for row in found if row.dataset == "a"] == [499]
    kept = [row.n for row in found if row.dataset == "paints"]
    assert kept[-1] == 8 and kept == [*sorted(kept[:-1]), 8]


def test_a_merge_replaces_what_measures_the_same(tmp_path):
    path = tmp_path / "new" / "results.jsonl"
    first, second = rows(1, "paints"), rows(1, "drawings")
    assert merge_results(first + second, path) == 0
    again = [dataclasses.replace(first[0], value=0.2)]
    assert merge_results(again, path) == 1
    assert read_results(path) == again + second
    assert merge_results(again, path) == 1 and read_results(path) == again + second
    path.write_text(path.read_text() + '{"task": 7}\n')
    before = path.read_bytes()
    with pytest.raises(DataError, match="line 3 is not a result"):
        merge_results(first, path)
    assert path.read_bytes() == before and [one.name for one in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("cut", [1, 2, 40, 200])
def test_a_torn_last_row_costs_that_row_alone(tmp_path, caplog, cut):
    """What a killed process leaves: a row without its newline is whole, a shorter one is gone; none glues."""
    path = tmp_path / "results.jsonl"
    write_results(rows(3), path)
    path.write_bytes(path.read_bytes()[:-cut])
    kept = rows(3) if cut == 1 else rows(2)
    with caplog.at_level(logging.WARNING, "diptych"):
        assert read_results(path) == kept
        assert ("is truncated" in caplog.text) == (cut > 1)
        write_results(rows(1, "next"), path)
    assert read_results(path) == kept + rows(1, "next")
    assert len(path.read_bytes().splitlines()) == len(kept) + 1


@pytest.mark.parametrize(
    "tail",
    [
        '{"task": "caf\u00e9'.encode()[:-1],
        json.dumps(dataclasses.asdict(rows(1, "caf#")[0])).encode().replace(b"#", b"\xe9"),
        b"\0" * 100,
        b'{"task": "zero_sh\0\0',
        b"\xff\x00 of another file",
    ],
    ids=range(5),
)
@pytest.mark.parametrize("write", [write_results, merge_results])
def test_a_last_row_torn_in_any_form_costs_that_row_alone(tmp_path, caplog, tail, write):
    """A write ends in the middle of a character; a power cut leaves zeros, or what lay on the disk before."""
    path = tmp_path / "results.jsonl"
    write_results(rows(2), path)
    path.write_bytes(path.read_bytes() + tail)
    with caplog.at_level(logging.WARNING, "diptych"):
        assert read_results(path) == rows(2)
    assert "line 3: a row is truncated" in caplog.text and "\0" not in caplog.text
    write(rows(1, "next"), path)
    kept = rows(2) if write is write_results else rows(2)[1:]  # a merge leaves one row of an identity
    assert read_results(path) == kept + rows(1, "next")
    path.write_bytes(tail + b"\n" + path.read_bytes())
    with pytest.raises(DataError):  # in the middle of a file it is no torn tail
        read_results(path)


def test_glued_rows_of_an_older_version_are_read(tmp_path, caplog):
    path = tmp_path / "results.jsonl"
    one, two, three = (json.dumps(dataclasses.asdict(row)) for row in rows(3))
    path.write_text(f"{one}{two}\n{one[:90]}{three}\n{two}\n")
    assert read_results(path) == [rows(3)[index] for index in (0, 1, 2, 1)]
    assert "line 2: a row is truncated" in caplog.text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("value", bad) for bad in (float("nan"), float("inf"), "0.5", None, True, [0.5], 10**400)),
        *(("n", bad) for bad in (-1, 2.0, "8", True, None)),
        *(("low", bad) for bad in (0.6, None, "0.1", float("-inf"))),
        ("high", 0.4),
        *(("model", bad) for bad in (None, 7, ["m"])),
        ("interval", 95),
        ("run", None),
        ("condition", None),
        ("condition", [("shots", 1)]),
        ("condition", {"shots": None}),
        ("condition", {"shots": [1]}),
        ("condition", {"shots": float("inf")}),
        ("condition", {"whole": True}),
        ("low", -1e308),
        ("high", 8.0),
    ],
)
def test_a_field_of_the_wrong_type_or_range_is_neither_written_nor_read(tmp_path, name, value):
    path = tmp_path / "results.jsonl"
    good = dataclasses.replace(rows(1)[0], value=0.5)
    write_results([good], path)
    bad = dataclasses.replace(good, **{name: value})
    for write in (write_results, merge_results):
        with pytest.raises(DataError, match=rf"zero_shot of paints.*{name}|cannot be written.*{name}"):
            write([good, bad], path)
    assert read_results(path) == [good]
    path.write_text(json.dumps(dataclasses.asdict(bad)) + "\n")
    with pytest.raises(DataError, match=rf"line 1 is not a result \(.*{name}"):
        read_results(path)


def test_fractions_lie_in_0_to_1_and_other_units_where_they_will(tmp_path):
    good = dataclasses.replace(rows(1)[0], low=None, high=None, interval=None)
    for metric, value in (("accuracy", 1.0), ("accuracy_top_5", 0.0), ("median_error_km", 7.0), ("pearson", -0.5)):
        write_results([dataclasses.replace(good, metric=metric, value=value)], tmp_path / "results.jsonl")
    for metric in (
        "accuracy",
        "accuracy_pm_0",
        "text_recall_at_5",
        "within_25_km",
        "mean_per_class_accuracy",
        "roc_auc",
    ):
        for value in (7.0, -3.0, 1.001):
            with pytest.raises(DataError, match="is a fraction, from 0 to 1"):
                write_results([dataclasses.replace(good, metric=metric, value=value)], tmp_path / "results.jsonl")


def test_a_condition_is_part_of_what_is_measured_and_cannot_be_changed(tmp_path):
    path = tmp_path / "results.jsonl"
    one, sixteen = (dataclasses.replace(rows(1)[0], condition={"shots": n, "classifier": "probe"}) for n in (1, 16))
    again = dataclasses.replace(one, value=0.5, condition={"classifier": "probe", "shots": 1})
    write_results([one, sixteen], path)
    assert merge_results([again], path) == 1 and read_results(path) == [again, sixteen]
    assert json.loads(path.read_text().splitlines()[1])["condition"] == {"shots": 16, "classifier": "probe"}
    assert one.identity == again.identity != sixteen.identity and len({one.identity, sixteen.identity}) == 2
    for change in (
        lambda: one.condition.update(shots=2),
        lambda: one.condition.__setitem__("shots", 2),
        lambda: one.condition.pop("shots"),
        lambda: one.condition.clear(),
    ):
        with pytest.raises(TypeError, match="cannot be changed"):
            change()
    given = {"shots": 1}
    kept = dataclasses.replace(one, condition=given)
    given["shots"] = 2
    assert kept.condition == {"shots": 1} and dataclasses.replace(kept) == copy.deepcopy(kept)
    assert pickle.loads(pickle.dumps(kept)) == kept  # noqa: S301 - its own bytes


def test_a_field_of_a_newer_version_is_named(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps({**dataclasses.asdict(rows(1)[0]), "weather": {}}) + "\n")
    with pytest.raises(DataError, match="unknown fields: weather; a newer version of Diptych"):
        read_results(path)


def test_another_file_is_not_appended_to(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0 no rows")
    with pytest.raises(DataError, match=r"photo\.jpg is not a results file"):
        write_results(rows(1), path)
    assert path.read_bytes() == b"\xff\xd8\xff\xe0 no rows"


def test_a_full_disk_under_a_merge_leaves_the_file(tmp_path):
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        path = disk / "results.jsonl"
        write_results(rows(8), path)
        before = path.read_bytes()
        fill(disk)
        with pytest.raises(DataError, match=r"cannot write results to .*results\.jsonl: No space left"):
            merge_results(rows(8, "x" * 5000), path)
        assert path.read_bytes() == before and not list(disk.glob(".*"))


def test_an_interval_holds_its_value():
    """Percentiles of resampled average precision, which is biased, may both lie above it in a set of a few pictures."""
    encoder = type("Encoder", (), {"name": "m"})()
    made = make_result(
        "t", "d", "s", "x", Score(0.3, 4, 0.31, 0.9, "b"), protocol="p", encoder=encoder, fingerprint=None
    )
    assert (made.low, made.value, made.high) == (0.3, 0.3, 0.9)


def test_a_home_folder_of_nobody_is_an_error_in_words():
    with pytest.raises(InputError, match=r"~nobody-here/x\.tar: .*\./~nobody-here/x\.tar"):
        expanded("~nobody-here/x.tar")
    assert expanded("~/x").is_absolute() and str(expanded("a/~b")) == "a/~b"
