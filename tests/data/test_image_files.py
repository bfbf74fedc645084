"""Which files of a folder are images: the same for every command, and nothing vanishes without a word."""

import logging
import re
from pathlib import Path

import pytest
from test_tables import PNG, picture, write

from diptych.data import image_files
from diptych.data.decoding import decode_image
from diptych.data.image_files import PassedOver, is_image_name, missing_decoder, walk_images
from diptych.data.open_source import open_source
from diptych.errors import DataError, ImageError, InputError
from diptych.evalsets.archives.listed_files import class_folders
from diptych.evalsets.benchmark import open_benchmark
from diptych.evaluate.classify.question import find_images

READ = ["a.jpg", "b.JPG", "c.jpeg", "d.JFIF", "e.png", "f.webp", "g.bmp", "h.tif", "i.TIFF", "j.gif", "k.ppm", "l.pgm"]
HIDDEN = ["._a.jpg", ".b.png", ".ipynb_checkpoints/a-checkpoint.jpg", "__MACOSX/._a.jpg", "@eaDir/a.jpg"]
SILENT = [".DS_Store", "Thumbs.db", "desktop.ini", ".nomedia"]
OTHER = ["x.mov", "y.MOV", "z.svg", "no_suffix"]


@pytest.fixture
def mixed(tmp_path: Path, monkeypatch) -> Path:
    """Images, what hides among them, and what is none; of one class, beside another."""
    monkeypatch.setattr(image_files, "_noticed", set())
    for name in (*READ, *HIDDEN, *SILENT, *OTHER):
        write(tmp_path / "set" / "cat" / name, PNG)
    write(tmp_path / "set" / "dog" / "0.png", PNG)
    return tmp_path / "set"


def images_by_command(folder: Path) -> dict[str, list[str]]:
    """The images of `cat` as training, an evaluation and classify take them."""
    train = open_source(folder / "cat")
    test = open_benchmark(folder).source
    return {
        "train": [item.key for item in train.read(0)],
        "evaluate": [item.key.removeprefix("cat/") for item in test.read(0) if item.key.startswith("cat/")],
        "classify": [Path(name).name for name in find_images([folder / "cat"])],
    }


def test_one_rule_for_all_commands(mixed):
    for name, images in images_by_command(mixed).items():
        assert images == READ, name


def test_what_is_passed_over_is_counted_and_named(mixed, caplog):
    with caplog.at_level(logging.WARNING, "diptych"):
        images_by_command(mixed)
    notices = [record.getMessage() for record in caplog.records if "passed over" in record.getMessage()]
    assert len(notices) == 2  # of the class folders and of the folder itself, each once though two commands read it
    for notice in notices:
        assert "passed over 9 files" in notice and "2 .mov (e.g. x.mov)" in notice and "1 .svg" in notice
        assert "2 hidden image" in notice and "3 hidden folder" in notice and "1 without a suffix" in notice


@pytest.fixture
def no_decoders(monkeypatch):
    """A machine without pillow-heif, and with a Pillow that is older than its AVIF decoder."""
    monkeypatch.setattr(image_files.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(image_files, "has_avif", lambda: False)
    monkeypatch.setattr(image_files.PIL, "__version__", "11.2.1")
    monkeypatch.setattr(image_files, "_noticed", set())
    missing_decoder.cache_clear()
    yield monkeypatch
    missing_decoder.cache_clear()


HINTS = {"heic": r"install diptych\[heif\]", "avif": r"install Pillow >= 11\.3"}


@pytest.mark.parametrize("kind", HINTS)
def test_images_without_their_decoder_are_passed_over_by_every_command(kind, tmp_path, no_decoders, caplog):
    for name in (f"a.{kind.upper()}", f"b.{kind}", "c.jpg"):
        write(tmp_path / "set" / "cat" / name, PNG)
        write(tmp_path / "set" / "dog" / name, PNG)
    with caplog.at_level(logging.WARNING, "diptych"):
        assert all(images == ["c.jpg"] for images in images_by_command(tmp_path / "set").values())
    for number, folder in ((2, "cat"), (4, "set")):
        hint = rf"{folder}: passed over {number} files: {number} \.{kind} \({HINTS[kind]}\)"
        assert re.search(hint, caplog.text), caplog.text
    (tmp_path / "set" / "cat" / "c.jpg").unlink()
    with pytest.raises(DataError, match=rf"nothing to train on.*2 \.{kind} \({HINTS[kind]}\)"):
        open_source(tmp_path / "set" / "cat")
    with pytest.raises(InputError, match=r"no images in"):
        find_images([tmp_path / "set" / "cat"])
    # Named one by one, or in a shard or a table, such a file is wanted: it is broken, with the same advice.
    assert find_images([tmp_path / "set" / "cat" / f"b.{kind}"])
    box = b"\0\0\0\x18ftyp" + kind.encode() + b"\0\0\0\0mif1" + kind.encode() + bytes(100)
    with pytest.raises(ImageError, match=HINTS[kind]):
        decode_image(box)


@pytest.mark.parametrize("kind", HINTS)
def test_an_archive_of_class_folders_names_them_too(kind, tmp_path, no_decoders, caplog):
    for name in (f"a.{kind}", "b.jpg", "notes.xml"):
        write(tmp_path / "cat" / name, PNG)
    with caplog.at_level(logging.WARNING, "diptych"):
        assert class_folders(tmp_path, {"cat": 0}.get, 1).names == ("cat/b.jpg",)
    assert re.search(rf"passed over 1 file: 1 \.{kind} \({HINTS[kind]}\)$", caplog.text.strip())


def test_a_new_pillow_without_avif_is_not_told_to_be_newer(no_decoders):
    no_decoders.setattr(image_files.PIL, "__version__", "12.0.0")
    assert "built without AVIF" in missing_decoder("avif")


def test_links(tmp_path, monkeypatch):
    """A link to an image is one; a folder named by hand or of a class may be a link; inside, links are passed over."""
    write(tmp_path / "real" / "cat" / "0.png", picture(1))
    write(tmp_path / "real" / "dog" / "0.png", picture(2))
    (tmp_path / "real" / "dog" / "1.png").symlink_to("0.png")
    (tmp_path / "real" / "cat" / "loop").symlink_to(tmp_path / "real")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "cat").symlink_to(tmp_path / "real" / "cat")
    (tmp_path / "set" / "dog").symlink_to(tmp_path / "real" / "dog")
    (tmp_path / "set" / "again").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "up").symlink_to("..")
    benchmark = open_benchmark(tmp_path / "set")
    assert benchmark.class_names == ("cat", "dog")
    assert [item.key for item in benchmark.source.read(0)] == ["cat/0.png", "dog/0.png", "dog/1.png"]
    (tmp_path / "named").symlink_to(tmp_path / "real" / "dog")
    passed_over = PassedOver()
    assert sorted(walk_images(tmp_path / "named", passed_over)) == ["0.png", "1.png"] and not passed_over.total()
    assert list(walk_images(tmp_path / "real" / "cat", passed_over)) == ["0.png"]
    assert "1 link to a folder, name its target instead (e.g. loop)" in passed_over.notice()


def test_an_image_in_no_class_is_counted(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(image_files, "_noticed", set())
    for name in ("cat/0.png", "dog/0.png", "stray.png"):
        write(tmp_path / name, PNG)
    with caplog.at_level(logging.WARNING, "diptych"):
        open_benchmark(tmp_path)
    assert "1 image in no class folder (e.g. stray.png)" in caplog.text


def test_sidecars_are_no_loss_in_pairs(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(image_files, "_noticed", set())
    for name in ("0.png", "0.txt", "0.json", "0.cls"):
        write(tmp_path / name, PNG if name == "0.png" else "1")
    with caplog.at_level(logging.WARNING, "diptych"):
        open_source(tmp_path)
    assert not caplog.records


@pytest.mark.parametrize("name", ["jpg", "a.jpg.part", "a.jpg~", "", ".jpg", "a.", "jpeg/a"])
def test_names_of_no_image(name):
    assert not is_image_name(name)
