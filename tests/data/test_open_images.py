"""Images for embedding, as they lie around: files, folders, shards and tables, with and without captions."""

import os
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from colours import encoded
from PIL import Image

from diptych.data.open_images import open_images
from diptych.errors import DataError
from diptych.records import Broken, Sample


def image(number: int) -> bytes:
    return encoded(Image.new("RGB", (8, 6), (30 * number, 10, 200)))


def write(folder, *names):
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image(number))
    return folder


def items_of(source):
    return {item.key: item for index in range(len(source.shards)) for item in source.read(index)}


def test_a_folder_is_keyed_by_relative_paths_and_needs_no_captions(tmp_path):
    folder = write(tmp_path / "photos", "b.png", "a.png", "deep/er/c.PNG")
    (folder / "a.json").write_text("not JSON")  # as photo services export them
    (folder / "b.txt").write_bytes(b"\xff")
    items = items_of(open_images(folder))
    assert {key: item.image for key, item in items.items()} == {
        "a.png": image(1),
        "b.png": image(0),
        "deep/er/c.PNG": image(2),
    }
    assert not any(item.texts or item.metadata for item in items.values())
    assert sorted(open_images(folder).files()) == sorted(folder.rglob("*.[pP]*"))


def test_files_and_folders_may_be_mixed_and_each_image_comes_once(tmp_path):
    write(tmp_path, "photo.png", "holiday/a.png", "holiday/b.png")
    source = open_images([tmp_path / "photo.png", tmp_path / "holiday", tmp_path / "holiday/a.png"])
    assert list(items_of(source)) == ["photo.png", "holiday/a.png", "holiday/b.png"]
    assert list(items_of(open_images(tmp_path / "holiday" / "a.png"))) == ["a.png"]


def test_links_that_lead_back_are_not_followed(tmp_path, caplog):
    folder = write(tmp_path / "photos", "a.png", "deep/b.png")
    (folder / "deep" / "loop").symlink_to(folder)
    (folder / "self.png").symlink_to("self.png")
    (folder / "gone.png").symlink_to("nowhere.png")
    items = items_of(open_images(folder))
    assert sorted(items) == ["a.png", "deep/b.png", "gone.png", "self.png"]
    assert isinstance(items["self.png"], Broken) and "symbolic links" in items["self.png"].reason
    assert isinstance(items["gone.png"], Broken) and "No such file" in items["gone.png"].reason
    assert "link to a folder, name its target instead" in caplog.text


def test_a_folder_may_change_while_it_is_read(tmp_path):
    folder = write(tmp_path / "photos", *(f"{number}.png" for number in range(5)))
    reading = open_images(folder).read(0)
    first = next(reading)
    (folder / "1.png").unlink()
    (folder / "2.png").write_bytes(b"")
    (folder / "3.png").unlink()
    (folder / "3.png").mkdir()
    write(folder, "new.png")
    items = [first, *reading]
    assert [item.key for item in items] == [f"{number}.png" for number in range(5)]
    assert [type(item) for item in items] == [Sample, Broken, Broken, Broken, Sample]
    reasons = [item.reason for item in items if isinstance(item, Broken)]
    assert "No such file" in reasons[0] and "empty image" in reasons[1] and "regular file" in reasons[2]
    assert open_images(folder).fingerprint != open_images(write(tmp_path / "other", "0.png")).fingerprint


@pytest.mark.parametrize("suffix", [".tar", ".parquet", ".csv", ".jsonl"])
def test_shards_and_tables_without_captions(tmp_path, suffix):
    write(tmp_path, "0.png", "1.png", "1.json")
    if suffix == ".tar":
        path = tmp_path / "a.tar"
        with tarfile.open(path, "w") as file:
            for name in ("0.png", "1.png", "1.json"):
                file.add(tmp_path / name, name)
    else:
        path = tmp_path / f"table{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.table({"image": [image(0), image(1)], "note": ["x", None]}), path)
    if suffix == ".csv":
        path.write_text("filepath,size\n0.png,8\n1.png,8\n")
    if suffix == ".jsonl":
        path.write_text('{"filepath": "0.png"}\n{"filepath": "1.png"}\n')
    items = list(items_of(open_images(path)).values())
    assert [item.image for item in items] == [image(0), image(1)]
    assert not any(item.texts or item.metadata for item in items)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([], "name the images"),
        (["empty"], "no images in .*empty"),
        (["nowhere.jpg"], "there is no nowhere.jpg"),
        (["a.png", "table.csv"], "mixes formats"),
        (["notes.docx"], "unknown format"),
    ],
)
def test_inputs_without_images(tmp_path, monkeypatch, inputs, words):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "a.png")
    (tmp_path / "empty" / "inside").mkdir(parents=True)
    (tmp_path / "table.csv").write_text("filepath\na.png\n")
    (tmp_path / "notes.docx").touch()
    with pytest.raises(DataError, match=words):
        open_images(inputs)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read_is_named(tmp_path, caplog):
    folder = write(tmp_path / "photos", "a.png", "locked/b.png")
    (folder / "locked").chmod(0)
    assert list(items_of(open_images(folder))) == ["a.png"] and "folder that cannot be read" in caplog.text
    (folder / "locked").chmod(0o700)
