"""Every file that a source opens decides over what is resumed and what is kept."""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from resuming import again, begun, replace_keeping_time, write_folder, write_table
from shaded_sets import NAMES, Shades, png, write_folders
from test_stale_caches import accuracy, zero_shot

from diptych.data import content
from diptych.data.columns import ColumnNames
from diptych.data.content import content_fingerprint, files_state
from diptych.data.open_source import open_source
from diptych.errors import ConfigError
from diptych.evalsets.user_sets import own_card
from diptych.evaluate.suite import fingerprint
from diptych.evaluate.tasks.task import Setting
from diptych.evaluate.tasks.zero_shot import ZERO_SHOT

opened: list[str] | None = None


def _note(event: str, arguments: tuple) -> None:
    if event == "open" and opened is not None and isinstance(arguments[0], str):
        opened.append(arguments[0])


sys.addaudithook(_note)  # it cannot be taken away again: it notes what `files_read` asks for


def files_read(source, root: Path) -> set[Path]:
    """The files below a folder that are opened while a source is read, and those that another process opens for it."""
    global opened
    opened = []
    try:
        items = [item for index in range(len(source.shards)) for item in source.read(index)]
    finally:
        found, opened = opened, None
    assert items
    paths = {Path(path) for path in found} | {path for path in source.files() if path.suffix in (".parquet", ".tar")}
    return {path for path in paths if path.is_relative_to(root)}


def with_suffix(suffix: str, beside: str):
    def write(folder: Path) -> Path:
        write_folder(folder, 4)
        for path in folder.glob("*.txt"):
            path.rename(path.with_suffix(suffix))
            text = {"json": '{"width": 8}', "cls": "3"}[beside.lower()]
            path.with_suffix(f".{beside}").write_text(text)
        return folder

    return write


def images_of(source, limit: int | None = None) -> list[Path]:
    """The files beside a table that its rows name."""
    return [path for path in source.files(limit) if path.suffix == ".png"]


def rows_of(folder: Path, number: int = 6) -> list[tuple[str, str]]:
    (folder / "pictures").mkdir(parents=True)
    for index in range(number):
        (folder / f"pictures/{index}.png").write_bytes(png(2 * index))
    return [(f"pictures/{index}.png", f"shade {index}") for index in range(number)]


def write_parquet(folder: Path, number: int = 6, **options) -> Path:
    """A table whose pictures lie beside it, in two row groups."""
    rows = rows_of(folder, number)
    table = pa.table({"path": [name for name, _ in rows], "text": [text for _, text in rows]})
    pq.write_table(table, folder / "pairs.parquet", **{"row_group_size": 4, **options})
    return folder / "pairs.parquet"


def write_metadata(name: str, line: str, head: str = ""):
    def write(folder: Path) -> Path:
        rows = rows_of(folder)
        (folder / name).write_text(head + "".join(line % row for row in rows))
        return folder

    return write


FORMS = {
    "small": with_suffix(".txt", "json"),
    "capitals": with_suffix(".TXT", "JSON"),
    "one capital": with_suffix(".Txt", "Cls"),
    "csv": write_table,
    "metadata.csv": write_metadata("metadata.csv", "%s,%s\n", "file_name,text\n"),
    "metadata.tsv": write_metadata("metadata.tsv", "%s\t%s\n", "file_name\ttext\n"),
    "metadata.jsonl": write_metadata("metadata.jsonl", '{"file_name": "%s", "text": "%s"}\n'),
    "parquet": write_parquet,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_file_that_is_opened_counts(tmp_path, monkeypatch, form):
    """Also where its size and time stayed, and where a set is so large that times and inodes tell."""
    data = FORMS[form](tmp_path / "data")
    files = files_read(open_source(data), tmp_path)
    assert len(files) >= 7 and len({path.suffix for path in files}) >= 2
    for max_bytes in (content.MAX_BYTES, 64):
        monkeypatch.setattr(content, "MAX_BYTES", max_bytes)
        before = open_source(data)
        for path in sorted(files):
            old, state = path.read_bytes(), files_state(before)
            mark = content_fingerprint(before)
            replace_keeping_time(path, bytes([old[0] ^ 1]) + old[1:])
            if path.suffix != ".parquet":  # one that cannot be opened is no source
                assert files_state(before) != state, path
                assert content_fingerprint(before) != mark or max_bytes == 64, path
            replace_keeping_time(path, old)


def test_of_many_rows_evenly_spaced_pictures_count(tmp_path, monkeypatch):
    """A row group may have millions of rows; row groups may be many."""
    for size in (100, 7, 1):
        path = write_parquet(tmp_path / str(size), 100, row_group_size=size)
        source = open_source(path)
        assert [int(one.stem) for one in images_of(source)] == list(range(100))
        for limit in (1, 10, 99, 100, 1000):
            found = [int(one.stem) for one in images_of(source, limit)]
            assert min(limit, 100) / 2 <= len(found) <= limit + 8
            assert max(found) - min(found) >= 80 or limit == 1
    monkeypatch.setattr(content, "MAX_FILES", 10)
    state = files_state(source)
    for number in range(0, 100, 9):  # whichever are read, the times of all count
        picture = path.parent / f"pictures/{number}.png"
        replace_keeping_time(picture, picture.read_bytes()[::-1])
        assert state != (state := files_state(source))


def test_pictures_inside_are_no_files_and_columns_may_be_named(tmp_path):
    path = tmp_path / "pairs.parquet"
    pq.write_table(pa.table({"foto": [png(1), png(2)], "text": ["one", "two"]}), path)
    source = open_source(path, ColumnNames(image="foto"))
    assert list(source.files()) == [path] and source.num_samples == 2
    assert files_state(source) == content_fingerprint(source) == content.path_fingerprint(path)
    path = write_parquet(tmp_path / "paths")
    table = pq.read_table(path).rename_columns(["foto", "text"])
    pq.write_table(table, path)
    assert len(images_of(open_source(path, ColumnNames(image="foto")))) == 6


def test_a_name_that_is_no_text_ends_the_list_where_it_ends_the_reading(tmp_path):
    path = tmp_path / "pairs.parquet"
    names = pa.array([b"0.png", b"\xff.png", b"2.png"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"path": names, "text": ["a", "b", "c"]}), path)
    for number in (0, 2):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    source = open_source(path)
    assert [one.name for one in images_of(source)] == ["0.png"]
    assert len(list(source.read(0))) == 2  # the second says what is lost


def test_numbers_of_a_parquet_set_are_measured_anew_when_its_pictures_change(tmp_path):
    """Its rows hold paths: the pictures may change while the file stays."""
    data = tmp_path / "data/CIFAR10"
    data.mkdir(parents=True)
    (data / "classnames.txt").write_text("\n".join(NAMES))
    rows = [(f"{label}.png", label) for label in range(10)]
    for name, label in rows:
        (data / name).write_bytes(png(25 * label))
    names, labels = zip(*rows, strict=True)
    pq.write_table(pa.table({"path": names, "label": labels}), data / "test-00000-of-00001.parquet")
    assert accuracy(zero_shot(tmp_path / "data", tmp_path / "out")) == 1
    for name, _ in rows:
        (data / name).write_bytes(png(25))
    assert accuracy(zero_shot(tmp_path / "data", tmp_path / "out")) == 0.1


def test_a_list_that_says_of_splits_that_they_are_whole_counts(tmp_path):
    """With it a number over some of the classes does not say so."""
    write_folders(tmp_path, ("test",), per_class=1)
    (tmp_path / "CIFAR10").rename(tmp_path / "mine")
    card, setting = own_card(tmp_path / "mine"), Setting(tmp_path)
    before = fingerprint(Shades(), ZERO_SHOT, card, setting)
    (tmp_path / "mine/whole.txt").touch()
    assert fingerprint(Shades(), ZERO_SHOT, card, setting) != before


def capitals(folder: Path) -> Path:
    write_folder(folder)
    for path in folder.glob("*.txt"):
        path.rename(path.with_suffix(".TXT"))
    return folder


@pytest.mark.parametrize(("write", "changed"), [(capitals, "007.TXT"), (write_parquet, "pictures/3.png")])
def test_a_run_is_not_resumed_on_other_captions_or_pictures(tmp_path, write, changed):
    data = write(tmp_path / "data", 60) if write is write_parquet else write(tmp_path / "data")
    config = begun(tmp_path / "run", data)
    path = tmp_path / "data" / changed
    old = path.read_bytes()
    replace_keeping_time(path, old[::-1])
    with pytest.raises(ConfigError, match="the pairs are not those that the run started with: the content of their"):
        again(config, data)
    replace_keeping_time(path, old)
    assert again(config, data) == 2


def test_captions_in_small_letters_have_the_content_that_they_had(tmp_path):
    """Runs and vectors of before stay valid: the files that count are the same, missing ones included."""
    source = open_source(write_folder(tmp_path / "data", 3))
    counted = [[path, *(path.with_suffix(end) for end in (".txt", ".json", ".cls"))] for path in pictures(source)]
    assert list(source.files()) == [path for four in counted for path in four]


def pictures(source) -> list[Path]:
    return [source.root / name for name in source.names]
