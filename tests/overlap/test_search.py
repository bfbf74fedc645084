"""Search in a store: equal to the sorted list of all scores, however it is divided, interrupted and continued."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from vector_stores import add_shards, all_scores, clustered, make_store, sorted_best

from diptych.embed.neighbours import nearest_neighbours
from diptych.embed.store import open_store
from diptych.errors import ConfigError, DataError, InputError, ShapeError
from diptych.overlap import search
from diptych.overlap.search import best_of, check_same_detector, find_copies, search_store

TRAIN = clustered(700, seed=1)
QUERIES = [clustered(60, seed=2), clustered(60, seed=3)]
QUERIES[1][:5] = TRAIN[[3, 9, 9, 400, 699]]


def expected(queries, items, k):
    scores = np.max([all_scores(variant, items) for variant in queries], axis=0)
    rows = sorted_best(scores, k)
    return rows, np.take_along_axis(scores, rows, axis=1)


def assert_right(found, queries, items, k):
    rows, scores = expected(queries, items, k)
    assert np.array_equal(found.scores, scores)
    assert np.array_equal(found.rows, rows)


def content(folder):
    """All bytes of the finished files below a folder."""
    paths = {path.relative_to(folder): path for path in sorted(folder.rglob("[!.]*")) if path.is_file()}
    return {name: path.read_bytes() for name, path in paths.items() if not name.parts[0].startswith(".")}


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("k", [1, 5, 1000])
@pytest.mark.parametrize("sizes", [[700], [0, 1, 299, 0, 400, 0], [100] * 7])
def test_equals_the_sorted_list_of_all_scores(tmp_path, sizes, k, precision):
    store = make_store(tmp_path / "store", TRAIN, sizes)
    found = search_store(QUERIES, store, tmp_path / "search", k=k, rows_per_part=250, precision=precision)
    assert_right(found, QUERIES, TRAIN, k)
    one = search_store(QUERIES[:1], store, tmp_path / "one", k=k)
    assert_right(one, QUERIES[:1], TRAIN, k)


@pytest.mark.parametrize("num_processes", [1, 2, 3])
@pytest.mark.parametrize("rows_per_part", [1, 130, 10_000])
def test_neither_processes_nor_parts_change_anything(tmp_path, num_processes, rows_per_part):
    store = make_store(tmp_path / "store", TRAIN, [50] * 14)
    options = {"num_processes": num_processes, "rows_per_part": rows_per_part}
    found = search_store(QUERIES, store, tmp_path / "search", **options)
    assert_right(found, QUERIES, TRAIN, 5)
    assert len(list((tmp_path / "search").glob("part-*"))) == {1: 14, 130: 7, 10_000: 1}[rows_per_part]


def test_a_second_run_searches_only_what_is_new(tmp_path, monkeypatch):
    store, searched = make_store(tmp_path / "store", TRAIN[:400], [100] * 4), []
    real = search._SearchPart.__call__
    monkeypatch.setattr(search._SearchPart, "__call__", lambda self, part: searched.append(part) or real(self, part))
    search_store(QUERIES, store, tmp_path / "search", rows_per_part=200)
    assert searched == [(0, 1), (2, 3)]
    search_store(QUERIES, store, tmp_path / "search", rows_per_part=200)
    assert len(searched) == 2
    add_shards(store.folder, TRAIN[400:], [100, 50, 150], first=4)
    found = search_store(QUERIES, open_store(store.folder), tmp_path / "search", rows_per_part=150)
    assert searched[2:] == [(4, 5), (6,)]
    assert_right(found, QUERIES, TRAIN, 5)
    add_shards(store.folder, TRAIN[:100], [100], first=1)  # shard 1 is replaced
    found = search_store(QUERIES, open_store(store.folder), tmp_path / "search", rows_per_part=150)
    assert searched[4:] == [(0,), (1,)]
    assert_right(found, QUERIES, np.concatenate([TRAIN[:100], TRAIN[:100], TRAIN[200:]]), 5)


def test_shards_that_come_between_others_move_the_rows_of_a_part(tmp_path):
    store = make_store(tmp_path / "store", TRAIN[:100])
    add_shards(store.folder, TRAIN[100:300], [200], first=5)
    search_store(QUERIES, open_store(store.folder), tmp_path / "search")
    assert len(list((tmp_path / "search").glob("part-*"))) == 1
    add_shards(store.folder, TRAIN[300:], [400], first=2)
    found = search_store(QUERIES, open_store(store.folder), tmp_path / "search")
    assert_right(found, QUERIES, np.concatenate([TRAIN[:100], TRAIN[300:], TRAIN[100:300]]), 5)


def test_lost_parts_are_made_again_as_they_were(tmp_path):
    store = make_store(tmp_path / "store", TRAIN, [60, 120, 60, 460])
    search_store(QUERIES, store, tmp_path / "search", rows_per_part=130)
    whole = content(tmp_path / "search")
    for shard in (0, 2):
        shutil.rmtree(search.part_folder(tmp_path / "search", [store.shards[shard]]))
    search_store(QUERIES, store, tmp_path / "search", rows_per_part=130)
    assert content(tmp_path / "search") == whole and len(list((tmp_path / "search").glob("part-*"))) == 4


def test_parts_of_two_runs_at_once_count_each_shard_once(tmp_path):
    store = make_store(tmp_path / "store", TRAIN, [100] * 7)
    for rows_per_part in (100, 200, 300):
        folder = tmp_path / f"{rows_per_part}"
        search_store(QUERIES, store, folder, rows_per_part=rows_per_part)
        shutil.copytree(folder, tmp_path / "search", dirs_exist_ok=True)
    assert_right(search_store(QUERIES, store, tmp_path / "search"), QUERIES, TRAIN, 5)


@pytest.mark.parametrize("damage", ["cut", "changed", "missing", "no manifest", "manifest", "empty"])
def test_a_damaged_part_is_searched_again(tmp_path, damage, caplog):
    store = make_store(tmp_path / "store", TRAIN, [100] * 7)
    search_store(QUERIES, store, tmp_path / "search", rows_per_part=100)
    whole = content(tmp_path / "search")
    part = sorted((tmp_path / "search").glob("part-*"))[2]
    scores = (part / "scores.npy").read_bytes()
    match damage:
        case "cut":
            (part / "scores.npy").write_bytes(scores[:-4])
        case "changed":
            (part / "scores.npy").write_bytes(scores[:-1] + bytes([scores[-1] ^ 1]))
        case "missing":
            (part / "rows.npy").unlink()
        case "no manifest":
            (part / "part.json").unlink()
        case "manifest":
            (part / "part.json").write_text(json.dumps({"format": 1, "shape": [1, 2]}))
        case "empty":
            shutil.rmtree(part)
            part.mkdir()
    assert_right(search_store(QUERIES, store, tmp_path / "search", rows_per_part=100), QUERIES, TRAIN, 5)
    assert content(tmp_path / "search") == whole
    assert f"{part} is deleted and searched again" in caplog.text


def test_other_settings_are_refused_with_their_names(tmp_path):
    store = make_store(tmp_path / "store", TRAIN)
    search_store(QUERIES, store, tmp_path / "search")
    before = content(tmp_path / "search")
    other = make_store(tmp_path / "other", TRAIN, mark="version 2", fingerprint="other")
    for queries, train, options, words in [
        (QUERIES, store, {"k": 3}, "k is 5 there and 3 now"),
        (QUERIES[:1], store, {}, "queries is .*num_variants is 2 there and 1 now"),
        (QUERIES[::-1], store, {}, "queries is"),
        (QUERIES, other, {}, "train is 'train' there and 'other' now.*'version 1' there and 'version 2' now"),
    ]:
        with pytest.raises(ConfigError, match=words):
            search_store(queries, train, tmp_path / "search", **options)
    assert content(tmp_path / "search") == before
    search_store(QUERIES, store, tmp_path / "search", num_processes=2, precision="int8", rows_per_part=1)
    assert content(tmp_path / "search") == before
    (tmp_path / "search" / "search.json").write_text("{")
    with pytest.raises(DataError, match="search again"):
        search_store(QUERIES, store, tmp_path / "search")
    with pytest.raises(DataError, match="something else"):
        search_store(QUERIES, store, tmp_path / "store" / "000000-000000")


@pytest.mark.parametrize(
    ("queries", "options", "kind", "words"),
    [
        ([], {}, ShapeError, "do not fit"),
        ([TRAIN[0]], {}, ShapeError, "do not fit"),
        ([TRAIN[:2], TRAIN[:3]], {}, ShapeError, r"\(2, 32\), \(3, 32\)"),
        ([TRAIN[:2, :5]], {}, ShapeError, "do not fit"),
        ([np.full((2, 32), np.nan)], {}, InputError, "NaN"),
        (QUERIES, {"k": 0}, ConfigError, "k must be"),
        (QUERIES, {"num_processes": 0}, ConfigError, "num_processes must be"),
        (QUERIES, {"rows_per_part": True}, ConfigError, "rows_per_part must be"),
        (QUERIES, {"precision": "fp16"}, ConfigError, "fp32 or int8"),
    ],
)
def test_wrong_queries_and_settings_leave_no_folder(tmp_path, queries, options, kind, words):
    store = make_store(tmp_path / "store", TRAIN)
    with pytest.raises(kind, match=words):
        search_store(queries, store, tmp_path / "search", **options)
    assert not (tmp_path / "search").exists()


def test_nothing_to_find_and_nothing_to_ask(tmp_path):
    empty = make_store(tmp_path / "empty", TRAIN[:0], [])
    assert search_store(QUERIES, empty, tmp_path / "one").rows.shape == (60, 0)
    assert find_copies(TRAIN[0], empty).rows.shape == (1, 0)
    store = make_store(tmp_path / "store", TRAIN[:3], [2, 1])
    assert search_store([TRAIN[:0]], store, tmp_path / "two").rows.shape == (0, 3)
    found = search_store(QUERIES, store, tmp_path / "three", rows_per_part=1)  # more queries than items, k above them
    assert_right(found, QUERIES, TRAIN[:3], 3)


def test_no_overlap_and_blank_images_that_look_alike(tmp_path):
    """Without overlap the scores are low. Blank images tie: the lowest rows are given, whatever the parts."""
    basis = np.eye(32, dtype=np.float32)
    store = make_store(tmp_path / "store", basis[:16].repeat(5, axis=0), [7] * 11 + [3])
    apart = search_store([basis[16:]], store, tmp_path / "apart", rows_per_part=10)
    assert (apart.scores == 0).all() and (apart.rows == np.arange(5)).all()
    blank = make_store(tmp_path / "blank", np.repeat(TRAIN[:1], 3000, axis=0), [1000] * 3)
    for precision in ("fp32", "int8"):
        found = search_store([TRAIN[:1].repeat(40, axis=0)], blank, tmp_path / precision, precision=precision)
        assert (found.rows == np.arange(5)).all() and len(np.unique(found.scores)) == 1


def test_a_full_disk_is_an_error_and_the_next_run_resumes(tmp_path, monkeypatch):
    store, real = make_store(tmp_path / "store", TRAIN, [100] * 7), search.write_part
    written = []

    def full(folder, shards, neighbours):
        if len(written) == 3:
            monkeypatch.setattr("diptych.overlap.search_parts.write_json", no_space)
        real(folder, shards, neighbours)
        written.append(shards)

    def no_space(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(search, "write_part", full)
    with pytest.raises(DataError, match=r"No space left.*repeat the command"):
        search_store(QUERIES, store, tmp_path / "search", rows_per_part=100)
    monkeypatch.undo()
    assert len(list((tmp_path / "search").iterdir())) == 1 + 3
    assert_right(search_store(QUERIES, store, tmp_path / "search", rows_per_part=100), QUERIES, TRAIN, 5)


SLOW = """
import sys, time
sys.path[:0] = ["tests/overlap"]
from test_search import QUERIES
from diptych.embed.store import open_store
from diptych.overlap import search

real = search.nearest_neighbours
search.nearest_neighbours = lambda *args, **options: time.sleep(0.05) or real(*args, **options)
search.search_store(
    QUERIES, open_store(sys.argv[1]), sys.argv[2], rows_per_part=20, num_processes=int(sys.argv[3])
)
"""


@pytest.mark.long
@pytest.mark.parametrize("num_processes", [1, 3])
def test_a_killed_search_resumes_with_the_same_bytes(tmp_path, num_processes):
    store = make_store(tmp_path / "store", TRAIN, [20] * 35)
    whole = search_store(QUERIES, store, tmp_path / "whole", rows_per_part=20)
    folder, root = tmp_path / "search", Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", SLOW, str(store.folder), str(folder), str(num_processes)]
    for finished in (2, 12, 20):
        with subprocess.Popen(command, cwd=root, env=os.environ | {"PYTHONPATH": str(root)}) as process:
            while len(list(folder.glob("part-*"))) < finished:
                assert process.poll() is None
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            process.wait()
        time.sleep(1)  # the other processes end with it
        assert len(list(folder.glob("part-*"))) < 35
    again = search_store(QUERIES, store, folder, rows_per_part=20)
    assert np.array_equal(again.rows, whole.rows) and np.array_equal(again.scores, whole.scores)
    assert content(folder) == content(tmp_path / "whole")


# ---- one image, and two detectors


class Halves:
    """The means of the image's four quarters: a mirrored image has other numbers."""

    name, image_fingerprint = "halves", "halves 1"

    def encode_images(self, images):
        small = np.stack([np.asarray(image.resize((2, 2)), np.float32).ravel() for image in images]) - 127
        return torch.nn.functional.normalize(torch.from_numpy(small), dim=1)


def test_one_image_is_searched_as_it_is_and_mirrored(tmp_path):
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(256, size=(2, 2, 3), dtype=np.uint8)) for _ in range(50)]
    vectors = Halves().encode_images(images).numpy()
    store = make_store(tmp_path / "store", vectors, [20, 30], "halves", "halves 1")
    for query in (images[31], ImageOps.mirror(images[31])):
        found = find_copies(query, store, encoder=Halves(), k=3)
        assert found.rows[0, 0] == 31 and found.scores[0, 0] > 0.999 and found.rows.shape == (1, 3)
    assert find_copies(vectors[31], store, k=60).rows[0, 0] == 31
    assert_right(find_copies(vectors[[3, 8]], store, k=4), [vectors[3:4], vectors[8:9]], vectors, 4)
    with pytest.raises(ConfigError, match="needs encoder="):
        find_copies(images[0], store)
    other = make_store(tmp_path / "other", vectors, model="halves", mark="halves 2")
    with pytest.raises(ConfigError, match=r"halves halves 1 .*halves halves 2"):
        find_copies(images[0], other, encoder=Halves())


def test_stores_of_two_detectors_are_not_compared(tmp_path):
    first, same, newer, unknown = (
        make_store(tmp_path / f"{number}", TRAIN[:3], model=model, mark=mark)
        for number, (model, mark) in enumerate([("small", "abc"), ("renamed", "abc"), ("small", "def"), ("small", "")])
    )
    check_same_detector(first, same)
    with pytest.raises(ConfigError, match=r"small abc .*small def .*cannot be compared"):
        check_same_detector(first, newer)
    with pytest.raises(ConfigError, match="no image_fingerprint"):
        check_same_detector(unknown, unknown)
    with pytest.raises(ConfigError, match="without a fingerprint"):
        check_same_detector(first, unknown)


def test_two_stores_are_searched_as_one(tmp_path):
    halves = TRAIN[:300], TRAIN[300:]
    found = [nearest_neighbours(QUERIES[0], half, 5) for half in halves]
    found[1] = type(found[1])(found[1].rows + 300, found[1].scores)
    assert_right(best_of(found, 5), QUERIES[:1], TRAIN, 5)
    doubled = best_of([*found, *found], 5)  # each row counts once
    assert_right(doubled, QUERIES[:1], TRAIN, 5)
