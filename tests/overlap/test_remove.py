"""Verdicts as a file, and training without the samples that it lists."""

import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from known_images import Knows, config, find, sample, write_set
from pictures import encoded, painting
from training import tiny_config

from diptych.data.exclusions import excluding, read_exclusions
from diptych.data.open_source import open_source
from diptych.data.shards import write_shards
from diptych.errors import ConfigError, DataError
from diptych.overlap.detector import Detector
from diptych.overlap.duplicates_file import SetNearest, read_duplicates, write_duplicates
from diptych.overlap.evaluation_images import embed_views
from diptych.overlap.find import OverlapConfig
from diptych.overlap.overlap_analysis import remove_overlap
from diptych.overlap.remove import Datasheet, overlapping_samples, write_clean
from diptych.train import fit

NEAREST = [
    SetNearest("a", ("1", "2", "3"), ("x", "y", "z"), np.array([0.9, 0.5, 0.7], np.float32)),
    SetNearest("b", ("1",), ("x",), np.array([0.6], np.float32)),
]


def keys_of(source):
    return [item.key for index in range(len(source.shards)) for item in source.read(index)]


def test_verdicts_are_read_as_written(tmp_path):
    write_duplicates(NEAREST, {"a": 0.7, "b": 0.61}, tmp_path / "duplicates.parquet", "the data")
    table = pq.read_table(tmp_path / "duplicates.parquet")
    assert table.column_names == ["dataset", "key", "nearest_key", "score", "verdict"]
    assert table["verdict"].to_pylist() == ["overlap", "clean", "overlap", "clean"]  # 0.7 is at the threshold
    read = read_duplicates(tmp_path / "duplicates.parquet")
    assert [(one.dataset, one.keys, one.nearest_keys) for one in read.sets] == [
        (one.dataset, one.keys, one.nearest_keys) for one in NEAREST
    ]
    assert read.training_keys() == {"x", "z"} and read.training_data == "the data"
    assert read_exclusions(tmp_path / "duplicates.parquet") == ({"x", "z"}, "the data")


@pytest.mark.parametrize(
    "columns",
    [
        {"key": ["a"]},
        {"nearest_key": ["a"], "verdict": [1]},
        {"train_key": [None]},
        {"dataset": ["a"], "key": [1], "nearest_key": [1], "score": [0.5], "verdict": ["overlap"]},
        {"dataset": [None], "key": ["a"], "nearest_key": [None], "score": [0.5], "verdict": ["overlap"]},
        {"dataset": ["a"], "key": ["a"], "nearest_key": [b"b"], "score": [float("nan")], "verdict": ["overlap"]},
    ],
    ids=str,
)
def test_other_tables_are_refused(tmp_path, columns):
    pq.write_table(pa.table(columns), tmp_path / "other.parquet")
    with pytest.raises(DataError, match="no table of verdicts"):
        read_duplicates(tmp_path / "other.parquet")
    if columns.get("nearest_key") != ["a"]:
        with pytest.raises(DataError, match="lists no samples to exclude"):
            read_exclusions(tmp_path / "other.parquet")
    with pytest.raises(DataError):
        read_exclusions(tmp_path / "missing.parquet")


def test_tables_of_equal_rows_are_read_up_to_a_limit(tmp_path):
    """Constant columns take hardly any bytes, so a limit per byte would refuse them; but memory holds each row."""
    few = {name: pa.array([name]) for name in ("dataset", "key", "nearest_key")} | {"verdict": pa.array(["overlap"])}
    few = pa.table(few | {"score": pa.array([0.5], pa.float32())})
    for num_rows, path in ((1_000_000, tmp_path / "equal.parquet"), (2_000_001, tmp_path / "bomb.parquet")):
        pq.write_table(few.take(pa.array(np.zeros(num_rows, np.int32))), path)
        assert num_rows > 60 * path.stat().st_size
    assert len(read_duplicates(tmp_path / "equal.parquet").sets[0]) == 1_000_000
    assert read_exclusions(tmp_path / "equal.parquet")[0] == {"nearest_key"}
    for read in (read_duplicates, read_exclusions):
        with pytest.raises(DataError, match=r"bomb\.parquet .* state 2000001 rows"):
            read(tmp_path / "bomb.parquet")


def views_of(found, detector):
    folder = found.config.folder / "sets"
    return {one.nearest.dataset: embed_views(one.images, detector, folder / one.nearest.dataset) for one in found.sets}


def test_every_copy_is_removed_not_only_the_nearest(data):
    """The training data holds each of 40 to 59 twice: the nearest neighbour of a set's image is one of the two."""
    write_shards([sample(number, f"again{number}") for number in range(40, 60)], data / "twice")
    (data / "twice" / "0.tar").rename(data / "train" / "4.tar")
    detector = Detector(Knows())
    found = find(data)
    assert len(set(found.sets[0].nearest.nearest_keys)) == 20
    removed = list(overlapping_samples(found.index, views_of(found, detector), {"shared": 0.9, "new": 0.9}))
    assert len(removed) == 40 and {row.dataset for row in removed} == {"shared"}
    numbers = sorted(int(row.train_key.split("/")[-1].removeprefix("again")) for row in removed)
    assert numbers == sorted([*range(40, 60), *range(40, 60)])


def test_clean_shards_hold_the_rest_in_order(data, tmp_path):
    found = find(data)
    removed = list(overlapping_samples(found.index, views_of(found, Detector(Knows())), {"shared": 0.9, "new": 0.9}))
    sheet = Datasheet([str(data / "train")], "knows", {"shared": 0.9, "new": 0.9}, {"shared": "given", "new": "given"})
    sheet = write_clean(found.index, removed, tmp_path / "clean", sheet)
    assert (sheet.num_samples, sheet.num_kept, sheet.num_broken) == (200, 180, 0)
    assert sheet.num_overlapping == {"shared": 20, "new": 0}
    kept = [key.split("/")[-1] for key in keys_of(open_source(str(tmp_path / "clean")))]
    assert kept == [f"{number:06d}" for number in range(200) if not 40 <= number < 60]
    assert json.loads((tmp_path / "clean" / "datasheet.json").read_text())["num_kept"] == 180
    again = find_overlap_in(data, tmp_path / "clean")
    assert not again.sets[0].nearest.overlaps(0.9).any()
    with pytest.raises(DataError, match="already contains shards"):
        write_clean(found.index, removed, tmp_path / "clean", sheet)
    # The list alone does the same.
    source = excluding(open_source(str(data / "train")), tmp_path / "clean" / "removed.parquet")
    assert [key.split("/")[-1] for key in keys_of(source)] == kept


def find_overlap_in(data, train):
    return find(data, "shared", train=(str(train),), out=str(data / "again"))


def test_everything_overlaps(data, tmp_path):
    write_set(data / "all", range(200))
    found = find(data, "all")
    removed = list(overlapping_samples(found.index, views_of(found, Detector(Knows())), {"all": 0.9}))
    assert len(removed) == 200
    with pytest.raises(DataError, match="all training samples were removed"):
        write_clean(found.index, removed, tmp_path / "clean", Datasheet([], "knows", {"all": 0.9}, {"all": "given"}))


def test_a_run_leaves_out_what_the_table_lists(data, tmp_path):
    source = open_source(str(data / "train"))
    found = find(data)
    write_duplicates(
        [one.nearest for one in found.sets], {"shared": 0.9, "new": 0.9}, tmp_path / "d.parquet", source.fingerprint
    )
    left = keys_of(excluding(source, tmp_path / "d.parquet"))
    assert len(left) == 180 and not set(found.sets[0].nearest.nearest_keys) & set(left)
    run = fit(tiny_config(tmp_path / "run", 2, data=(str(data / "train"),), exclude=str(tmp_path / "d.parquet")))
    assert run.finished
    with pytest.raises(ConfigError, match="exclude"):
        fit(tiny_config(tmp_path / "run", 4, data=(str(data / "train"),)), resume=True)


def test_a_table_of_other_training_data_is_refused(data, tmp_path):
    write_duplicates(NEAREST, {"a": 0.7, "b": 0.7}, tmp_path / "d.parquet", "other data")
    with pytest.raises(DataError, match="made for other training data"):
        excluding(open_source(str(data / "train")), tmp_path / "d.parquet")
    assert config(data).train  # the same data without a table is fine


def test_one_of_each_group_of_training_images_stays(data, tmp_path):
    """100 to 109 occur three times; 40 to 44, which overlap with the set, occur twice: no image of these stays."""
    again = [sample(number, f"{copy}-{number}") for copy in "ab" for number in range(100, 110)]
    write_shards([*again, *(sample(number, f"a-{number}") for number in range(40, 45))], data / "twice")
    (data / "twice" / "0.tar").rename(data / "train" / "4.tar")
    sheet = remove_overlap(config(data), tmp_path / "clean", threshold=0.9, inner=0.9, detector=Detector(Knows()))
    assert (sheet.num_samples, sheet.num_kept, sheet.num_duplicates) == (225, 180, 20)
    assert sheet.num_overlapping == {"shared": 25, "new": 0}
    kept = [key.split("/")[-1] for key in keys_of(open_source(str(tmp_path / "clean")))]
    assert kept == [f"{number:06d}" for number in range(200) if not 40 <= number < 60]


def test_inner_duplicates_are_removed_without_an_evaluation_set(data, tmp_path):
    write_shards([sample(number, f"again-{number}") for number in range(5)], data / "twice")
    (data / "twice" / "0.tar").rename(data / "train" / "4.tar")
    alone = OverlapConfig(train=(str(data / "train"),), sets=(), out=str(tmp_path / "inner"), num_workers=0)
    sheet = remove_overlap(alone, tmp_path / "clean", inner=0.9, detector=Detector(Knows()))
    assert (sheet.num_samples, sheet.num_kept, sheet.num_duplicates) == (205, 200, 5)
    with pytest.raises(ConfigError, match="or a score for inner duplicates"):
        remove_overlap(alone, tmp_path / "other", detector=Detector(Knows()))


def test_unreadable_samples_are_left_out_and_counted(data, tmp_path):
    """Bytes that are no image, and an image that ends in the middle, which only decoding finds out."""
    whole = encoded(painting(1), "JPEG")
    pieces = {"cut.jpg": whole[: len(whole) // 2], "cut.txt": b"half", "bad.jpg": b"xx", "bad.txt": b"no image"}
    with tarfile.open(data / "train" / "4.tar", "w") as archive:
        for name, content in pieces.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    sheet = remove_overlap(config(data, "shared"), tmp_path / "clean", threshold=0.9, detector=Detector(Knows()))
    assert (sheet.num_samples, sheet.num_kept, sheet.num_broken) == (202, 180, 2)
    kept = {key.split("/")[-1] for key in keys_of(open_source(str(tmp_path / "clean")))}
    assert len(kept) == 180 and not kept & {"cut", "bad"}
    written = json.loads((tmp_path / "clean" / "datasheet.json").read_text())
    assert written["inner"] is None and written["evaluation_sets"] == [str(data / "shared")]
    assert written["made_by"].keys() == {"command", "commit", "machine"}
