import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
from colours import NAMES, TEMPLATES, ColourEncoder, FingerprintedEncoder, encoded, picture, write_set

from diptych.errors import DataError, InputError
from diptych.evalsets.benchmark import open_benchmark
from diptych.evaluate import Classified, classify_pictures, evaluate_benchmarks, print_classified, read_predictions
from diptych.records import read_results, write_results

LABELS = [0, 1, 2, 3, 4, 5, 6] * 5


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    (folder / "deep" / "deeper").mkdir(parents=True)
    for index, name in enumerate(NAMES):
        place = folder / "deep" / "deeper" if index % 2 else folder
        (place / f"{index}-{name}.PNG").write_bytes(encoded(picture(name, seed=0)))
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_evaluate_writes_results_and_predictions(tmp_path):
    sets = [write_set(tmp_path / name, LABELS[: 7 * count]) for name, count in (("wds_one", 5), ("two", 3))]
    out = tmp_path / "runs" / "results.jsonl"
    results = evaluate_benchmarks(FingerprintedEncoder(), sets, out)
    assert [(row.dataset, row.n) for row in results] == [
        (open_benchmark(path).name, n) for path, n in zip(sets, (35, 21), strict=True) for _ in range(6)
    ]
    assert read_results(out) == results
    files = sorted(file for file in (out.parent / "predictions").rglob("*") if file.is_file())
    assert len(files) == 4 and all(len(read_predictions(file).keys) in (35, 21) for file in files)

    encoder = FingerprintedEncoder()
    again = evaluate_benchmarks(encoder, [open_benchmark(sets[1])], out)
    assert again == results[6:] and encoder.texts_seen == 0  # the classifiers were kept
    assert read_results(out) == results  # the same measurement again takes the place of the first


def test_evaluate_without_out_writes_nothing(tmp_path, monkeypatch):
    path = write_set(tmp_path / "one", LABELS)
    monkeypatch.chdir(tmp_path)
    assert len(evaluate_benchmarks(ColourEncoder(), [path])) == 6
    assert [file.name for file in tmp_path.iterdir()] == ["one"]


def test_evaluate_refuses_before_it_starts(tmp_path):
    path = write_set(tmp_path / "one", LABELS)
    twin = write_set(tmp_path / "elsewhere" / "one", LABELS)
    encoder = ColourEncoder()
    with pytest.raises(InputError, match="at least one"):
        evaluate_benchmarks(encoder, [])
    with pytest.raises(InputError, match="one/test"):
        evaluate_benchmarks(encoder, [path, twin])
    with pytest.raises(DataError, match="missing"):
        evaluate_benchmarks(encoder, [path, tmp_path / "missing"])
    with pytest.raises(DataError, match="train"):
        evaluate_benchmarks(encoder, [path], split="train")
    assert encoder.pictures_seen == encoder.texts_seen == 0


@pytest.mark.parametrize("content", [b"\xff\xd8\xff\xe0 a photograph", b'{"colour": 1}\n', b"notes\n"])
def test_a_file_that_cannot_take_the_results_is_refused_before_anything_is_measured(tmp_path, content):
    path, out, encoder = write_set(tmp_path / "one", LABELS), tmp_path / "results.jsonl", ColourEncoder()
    out.write_bytes(content)
    with pytest.raises(DataError, match=r"results\.jsonl"):
        evaluate_benchmarks(encoder, [path], out)
    assert encoder.pictures_seen == encoder.texts_seen == 0 and out.read_bytes() == content
    assert not (tmp_path / "predictions").exists()


def test_another_set_of_the_same_name_does_not_take_the_place_of_the_first(tmp_path):
    sets = [write_set(tmp_path / root / "pets", LABELS[:count]) for root, count in (("a", 35), ("c", 21))]
    out, encoder = tmp_path / "results.jsonl", ColourEncoder()
    evaluate_benchmarks(ColourEncoder(), sets[:1], out)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=r"another set called pets/test, measured in .*a/pets; those of .*c/pets"):
        evaluate_benchmarks(encoder, sets[1:], out)
    assert encoder.pictures_seen == encoder.texts_seen == 0
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    evaluate_benchmarks(FingerprintedEncoder(), sets[1:], tmp_path / "other" / "results.jsonl")


def test_the_same_set_changed_or_moved_replaces_its_rows(tmp_path):
    path, out = write_set(tmp_path / "a" / "pets", LABELS), tmp_path / "results.jsonl"
    evaluate_benchmarks(ColourEncoder(), [path], out)
    (tmp_path / "moved").mkdir()
    path = path.rename(tmp_path / "moved" / "pets")
    assert evaluate_benchmarks(ColourEncoder(), [path], out) == read_results(out)
    shutil.rmtree(path)
    changed = evaluate_benchmarks(ColourEncoder(), [write_set(path, LABELS[:21])], out)
    assert changed == read_results(out) and {(row.n, row.run["folder"]) for row in changed} == {(21, str(path))}
    without = [dataclasses.replace(row, run={"fingerprint": "older"}) for row in changed]  # of an older version
    out.unlink()
    write_results(without, out)
    assert evaluate_benchmarks(ColourEncoder(), [path], out) == read_results(out) == changed


def test_classify_files_and_folders(pictures):
    single = pictures / "0-red.PNG"
    rows = classify_pictures(ColourEncoder(), [single, pictures, str(single)], NAMES, TEMPLATES, top_k=3)
    assert rows[0].path == single and len(rows) == len(NAMES)
    assert [row.path for row in rows[1:]] == sorted(path for path in pictures.rglob("*.PNG") if path != single)
    for row in rows:
        labels, scores = zip(*row.classes, strict=True)
        assert row.error is None and len(labels) == 3 and list(scores) == sorted(scores, reverse=True)
    right = [row.classes[0][0] == row.path.stem.split("-")[1] for row in rows]
    assert np.mean(right) >= 5 / 7


def test_fewer_labels_than_top_k(pictures):
    (row,) = classify_pictures(ColourEncoder(), [pictures / "0-red.PNG"], ["red", "blue"], top_k=5)
    assert [label for label, _ in row.classes] == ["red", "blue"]
    assert sum(score for _, score in row.classes) == pytest.approx(1)


def test_broken_pictures_say_so_and_stop_nothing(pictures):
    red = pictures / "0-red.PNG"
    (pictures / "cut.png").write_bytes(red.read_bytes()[:100])
    (pictures / "empty.jpg").write_bytes(b"")
    (pictures / "text.jpg").write_text("no picture")
    os.mkfifo(pictures / "pipe.jpg")
    (pictures / "folder.jpg").mkdir()
    rows = classify_pictures(ColourEncoder(), [pictures, pictures / "missing.jpg", red], NAMES)
    broken = {row.path.name: row.error for row in rows if row.error}
    assert set(broken) == {"cut.png", "empty.jpg", "text.jpg", "pipe.jpg", "missing.jpg"}
    assert "no such file" in broken["missing.jpg"] and "regular" in broken["pipe.jpg"]
    assert sum(row.error is None for row in rows) == len(NAMES)
    assert all(row.classes == () for row in rows if row.error)


def test_only_broken_pictures(tmp_path):
    (row,) = classify_pictures(ColourEncoder(), [tmp_path / "missing.jpg"], NAMES)
    assert row.error


def test_many_pictures_keep_their_order(pictures, monkeypatch):
    expected = classify_pictures(ColourEncoder(), [pictures], NAMES)
    (pictures / "1-broken.png").write_bytes(b"")
    monkeypatch.setattr("diptych.evaluate.classify.classify_images._PICTURES_PER_BATCH", 2)
    found = classify_pictures(ColourEncoder(), [pictures], NAMES)
    assert [(row.path, [label for label, _ in row.classes]) for row in found if not row.error] == [
        (row.path, [label for label, _ in row.classes]) for row in expected
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": ["red", "red"]}, "'red'"),
        ({"labels": ["red"]}, "at least two"),
        ({"templates": ["a photo"]}, "{c}"),
        ({"top_k": 0}, "top_k"),
        ({"pictures": []}, "no images"),
    ],
)
def test_arguments_that_cannot_be_used(pictures, options, message):
    arguments = {"pictures": [pictures], "labels": NAMES, **options}
    with pytest.raises(InputError, match=message):
        classify_pictures(ColourEncoder(), **arguments)


def test_a_folder_without_pictures(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(InputError, match="no images in"):
        classify_pictures(ColourEncoder(), [tmp_path], NAMES)


def test_printed_for_people_and_for_programs(pictures, capsys):
    rows = classify_pictures(ColourEncoder(), [pictures / "0-red.PNG", pictures / "missing.png"], NAMES, top_k=2)
    assert print_classified(rows[:1])
    assert not print_classified(rows)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == lines[1] and lines[0].startswith(f"{pictures / '0-red.PNG'}: red ") and lines[0].endswith("%")
    assert lines[2].startswith(f"{pictures / 'missing.png'}: error: ")
    print_classified(rows, as_json=True)
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [list(row) for row in found] == [["path", "classes", "error"]] * 2
    assert found[0]["classes"][0] == {"label": "red", "probability": rows[0].classes[0][1]}
    assert found[1]["classes"] == [] and "no such file" in found[1]["error"]


def test_names_cannot_steer_the_terminal(tmp_path, capsys):
    path = tmp_path / "a\x1b[2Jb\n\udcff.png"
    print_classified([Classified(path, (("\x1b]0;title\x07", 1.0),))])
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and out[:-1].isprintable()
    print_classified([Classified(path)], as_json=True)
    assert json.loads(capsys.readouterr().out)["path"] == str(path)
