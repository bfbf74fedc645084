"""Pipes, devices and links where a file is expected: nothing waits for ever, and nothing is put in their place."""

import os
from pathlib import Path

import pytest
from colours import picture
from result_rows import rows

from diptych.data.content import content_fingerprint, files_state
from diptych.data.open_source import open_source
from diptych.data.parquet import ParquetSource
from diptych.embed import load
from diptych.errors import DataError, InputError, WeightsError
from diptych.evalsets.benchmark import open_benchmark
from diptych.evaluate.classify.label_file import LabelFile
from diptych.evaluate.classify.question import Question
from diptych.files import replaceable
from diptych.model.weights import read_tensors
from diptych.records import Broken, merge_results, read_results, write_results
from diptych.report.page import write_page

pytestmark = [pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here"), pytest.mark.timeout(60)]


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def test_a_table_that_names_a_pipe_has_a_fingerprint_and_a_broken_row(tmp_path):
    picture("red", 0).save(tmp_path / "0.png")
    pipe(tmp_path / "1.png")
    (tmp_path / "captions.csv").write_text("image,caption\n0.png,red\n1.png,pipe\n/dev/zero,zero\n")
    source = open_source(tmp_path / "captions.csv")
    assert len(content_fingerprint(source)) == 64 and len(files_state(source)) == 64
    first, *others = source.read(0)
    assert not isinstance(first, Broken) and ["not a regular file" in one.reason for one in others] == [True, True]


def test_links_that_lead_nowhere_are_broken_pictures(tmp_path):
    """git-annex leaves them where content was not fetched; a class folder is evaluated without them."""
    for name in ("blue", "red"):
        (tmp_path / "test" / name).mkdir(parents=True)
        picture(name, 0).save(tmp_path / "test" / name / "0.png")
    (tmp_path / "test/red/1.png").symlink_to("nowhere")
    (tmp_path / "test/red/2.png").symlink_to("2.png")
    source = open_benchmark(tmp_path).source
    items = list(source.read(0))
    assert [isinstance(one, Broken) for one in items] == [False, False, True, True]
    before = source.fingerprint
    picture("red", 1).save(tmp_path / "test/red/nowhere", "PNG")
    assert open_benchmark(tmp_path).source.fingerprint != before


@pytest.mark.parametrize("name", ["a.tar", "a.csv"])
def test_shards_and_tables_that_are_pipes(tmp_path, name):
    with pytest.raises(DataError, match=rf"{name}: not a regular file"):
        next(iter(open_source(pipe(tmp_path / name)).read(0)))


def test_a_parquet_file_that_is_a_pipe(tmp_path):
    with pytest.raises(DataError, match=r"a\.parquet: not a regular file"):
        ParquetSource.open([pipe(tmp_path / "a.parquet")])


@pytest.mark.parametrize("target", ["pipe", "/dev/null", "/dev/full"])
def test_results_labels_and_pages_are_not_put_in_the_place_of_a_device(tmp_path, target):
    """Root may replace /dev/null by a file: here a link to it stands in for that."""
    path = tmp_path / "out.jsonl"
    if target == "pipe":
        pipe(path)
    else:
        path.symlink_to(target)
    before = os.lstat(path)
    for write in (merge_results, write_results):
        with pytest.raises(DataError, match="not a regular file"):
            write(rows(1), path)
    with pytest.raises(DataError, match="not a regular file"):
        read_results(path)
    with pytest.raises(DataError, match="not a regular file"):
        write_page("<p>", path)
    with pytest.raises(InputError, match="not a regular file"):
        LabelFile(path, Question(("red", "blue"), ("{c}",), 1))
    assert os.path.samestat(os.lstat(path), before) and [one.name for one in tmp_path.iterdir()] == ["out.jsonl"]
    with pytest.raises(OSError, match="not a regular file"):
        replaceable(Path("/dev/null"))


def test_a_link_to_results_stays_one_and_its_target_gets_the_rows(tmp_path):
    (tmp_path / "shared").mkdir()
    link, target = tmp_path / "results.jsonl", tmp_path / "shared/results.jsonl"
    link.symlink_to(target)  # of a file that is not there yet
    for dataset in ("paints", "others"):
        merge_results(rows(1, dataset), link)
    assert link.is_symlink() and len(read_results(target)) == 2
    write_page("<p>", link)
    assert link.is_symlink() and target.read_text() == "<p>"


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (os.mkfifo, "is not a regular file but a named pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "is not a regular file but a device"),
        (Path.mkdir, "is not a regular file but a folder"),
        (lambda path: path.symlink_to("nowhere"), "is a link that leads nowhere"),
    ],
    ids=["pipe", "device", "folder", "link"],
)
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_part_of_a_model_that_is_no_regular_file_is_not_called_missing(tmp_path, make, kind, name):
    load("default", "cpu").save(tmp_path / "m")
    path = tmp_path / "m" / name
    path.unlink()
    make(path)
    with pytest.raises(WeightsError, match=f"{name} {kind}"):
        load(tmp_path / "m")
    if kind != "is not a regular file but a folder":  # which may hold a model
        with pytest.raises(WeightsError, match=f"{name} {kind}; give a model folder or a weight file"):
            load(path)
    with pytest.raises(WeightsError, match=f"{name} {kind}"):
        read_tensors(path)


def test_a_shard_that_is_no_regular_file_is_not_called_missing(tmp_path):
    pipe(tmp_path / "a.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}')
    with pytest.raises(WeightsError, match=r"a\.safetensors is not a regular file but a named pipe; .* lists it"):
        load(index)
