"""Every source says the same things about itself, whatever its format: asked of all formats, beside a plain reading."""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from colours import encoded
from PIL import Image
from training import tiny_config

from diptych.data.open_source import open_source
from diptych.data.playground import Playground
from diptych.data.shards import write_shards
from diptych.data.shifts import ShiftedSource
from diptych.data.source import Source
from diptych.errors import ConfigError, InputError
from diptych.evalsets import video_frames
from diptych.evalsets.benchmark import Benchmark, LabelledSource, open_benchmark
from diptych.evalsets.playground_tasks import playground_tasks
from diptych.evalsets.set_sources import ArraySource, Entry, ListedSource, PairsSource, RelabelledSource
from diptych.records import Sample
from diptych.train import fit
from diptych.train.held_out import Part

NUM = 7


def png(number: int) -> bytes:
    return encoded(Image.new("RGB", (8, 6), (30 * number, 10, 200)))


def samples() -> list[Sample]:
    return [Sample(f"s{n}", png(n), (f"shade {n}",), n % 3, {"n": n}) for n in range(NUM)]


def folder(path):
    path.mkdir()
    for n in range(NUM):
        (path / f"{n}.png").write_bytes(png(n))
        (path / f"{n}.txt").write_text(f"shade {n}")
    return open_source(path)


def csv(path):
    folder(path)
    lines = "".join(f"{n}.png,shade {n}\n" for n in range(NUM))
    (path / "pairs.csv").write_text(f"image,caption\n{lines}")
    return open_source(path / "pairs.csv")


def parquet(path, *, outside: bool = False):
    path.mkdir()
    images = [f"{n}.png" if outside else png(n) for n in range(NUM)]
    for n in range(NUM):
        (path / f"{n}.png").write_bytes(png(n))
    table = pa.table(
        {"path" if outside else "image": images, "text": ["a"] * NUM, "label": [n % 3 for n in range(NUM)]}
    )
    pq.write_table(table, path / "a.parquet", row_group_size=3)
    return open_source(path / "a.parquet")


def tar(path):
    write_shards(samples(), path, shard_size=3)
    return open_source(path)


def class_folders(path):
    for n in range(NUM):
        (path / "ab"[n % 2]).mkdir(parents=True, exist_ok=True)
        (path / "ab"[n % 2] / f"{n}.png").write_bytes(png(n))
    return open_benchmark(path).source


def listed(path):
    folder(path)
    return ListedSource(path, tuple(Entry(f"{n}.png", n % 3, key=f"key {n}") for n in range(NUM)))


def array(path):
    path.write_bytes(b"pixels")
    pixels = np.arange(NUM * 8 * 6 * 3, dtype=np.uint8).reshape(NUM, 8, 6, 3)
    return ArraySource("array", lambda first, last: pixels[first:last], np.arange(NUM) % 3, "digest", (path,))


FORMS = {
    "folder": folder,
    "csv": csv,
    "parquet": parquet,
    "parquet with paths": lambda path: parquet(path, outside=True),
    "tar": tar,
    "class folders": class_folders,
    "listed": listed,
    "array": array,
    "playground": lambda path: Playground(NUM, size=32),
    "task": lambda path: playground_tasks(num_samples=NUM, size=32)[0].source,
    "labelled": lambda path: LabelledSource(listed(path), 2),
    "relabelled": lambda path: RelabelledSource(listed(path), (2, 0, 1)),
    "pairs": lambda path: PairsSource(folder(path), 1),
    "shifted": lambda path: ShiftedSource(listed(path), "jpeg", 2),
    "part": lambda path: Part(folder(path), 0.5, held_out=False),
}
LABELS_KNOWN = (
    "parquet",
    "parquet with paths",
    "class folders",
    "listed",
    "array",
    "relabelled",
    "labelled",
    "shifted",
)


def read(source: Source):
    return [item for index in range(len(source.shards)) for item in source.read(index)]


def equal(one: Sample, other: Sample) -> bool:
    same = np.array_equal(one.image, other.image) if isinstance(one.image, np.ndarray) else one.image == other.image
    return same and dataclasses.replace(one, image=b"") == dataclasses.replace(other, image=b"")


@pytest.mark.parametrize("form", FORMS)
def test_the_sample_of_a_key_is_the_one_that_reading_gives(form, tmp_path):
    source = FORMS[form](tmp_path / "data")
    items = [item for item in read(source) if isinstance(item, Sample)]
    assert items
    for item in items:
        found = source.get(item.key)
        assert found is not None and equal(found, item)
    assert source.get("no such key") is None and source.get(f"{source.shards[0]}/none") is None
    some = {item.key for item in items[::2]}
    assert [item.key for item in source.get_all(some)] == [item.key for item in items if item.key in some]


@pytest.mark.parametrize("form", FORMS)
def test_counts_files_and_labels_are_those_of_reading(form, tmp_path):
    source = FORMS[form](tmp_path / "data")
    items = read(source)
    assert source.num_samples in (None, len(items))
    survey = source.survey()
    assert survey.num_samples in (None, len(items)) and not survey.problems
    files = list(source.files())
    assert len(set(files)) == len(files)
    assert all(path.is_relative_to(tmp_path) for path in files) and (
        bool(files) == (form not in ("playground", "task"))
    )
    if form in LABELS_KNOWN:
        inner = [item.label for item in items if isinstance(item, Sample)]
        assert source.distinct_labels() >= set(inner)
        assert source.distinct_labels() == ({0, 1} if form == "class folders" else {0, 1, 2})
    if form not in ("tar", "csv", "part"):
        assert source.num_samples == len(items)


def test_only_the_files_that_are_asked_for_are_read(tmp_path):
    """What lies beside may be gone: the sample of a key needs its own file, or its own shard, alone."""
    source = listed(tmp_path / "listed")
    (tmp_path / "listed" / "0.png").unlink()
    assert source.get("key 0") is None and source.get("key 1") is not None
    source = tar(tmp_path / "tar")
    (tmp_path / "tar" / "0.tar").unlink()
    keys = [f"{number // 3}/s{number}" for number in range(NUM)]
    assert source.get(keys[-1]).metadata == {"n": NUM - 1}


def test_a_survey_names_what_is_wrong(tmp_path):
    source = listed(tmp_path / "listed")
    (tmp_path / "listed" / "0.png").unlink()
    (tmp_path / "listed" / "1.png").write_bytes(b"")
    assert len(source.survey().problems) == 2 and source.survey().num_samples == NUM
    source = tar(tmp_path / "tar")
    shard = tmp_path / "tar" / "0.tar"
    shard.write_bytes(shard.read_bytes()[:700])
    assert "breaks off" in source.survey().problems[0]


def test_files_of_a_large_source_are_evenly_spaced(tmp_path):
    source = listed(tmp_path / "listed")
    assert [path.name for path in source.files(3)] == ["0.png", "2.png", "4.png"]
    assert json.dumps([path.name for path in folder(tmp_path / "folder").files(2)]).count(".png") == 2


def test_what_only_looks_like_a_source_is_refused_in_words(tmp_path):
    class Looks:
        shards, fingerprint = ("one",), "x"

        def read(self, index): ...

    with pytest.raises(ConfigError, match=r"a subclass of diptych\.data\.source\.Source, not a Looks"):
        fit(tiny_config(tmp_path / "run"), pairs=Looks())
    with pytest.raises(InputError, match=r"set: its source is a Looks; inherit from diptych\.data\.source\.Source"):
        Benchmark("set", "test", ("a", "b"), ("{c}",), Looks(), "x")


@pytest.mark.parametrize("num_frames", [None, 2])
def test_the_frames_of_a_key_are_decoded_from_its_video_alone(tmp_path, monkeypatch, num_frames):
    decoded = []

    def read_frames(path, count, start, end):
        decoded.append(path.name)
        return [np.full((4, 4, 3), 10 * int(path.stem) + frame, np.uint8) for frame in range(count)]

    monkeypatch.setattr(video_frames, "read_frames", read_frames)
    source = video_frames.VideoSource(tmp_path, [Entry(f"{n}.mp4", n % 2) for n in range(4)], num_frames)
    items = read(source)
    assert len(items) == 4 * (num_frames or 1) and source.distinct_labels() == {0, 1}
    for item in items:
        decoded.clear()
        assert equal(source.get(item.key), item) and decoded == [item.key.partition("#")[0]]
