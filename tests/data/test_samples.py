"""From the files of one picture to a sample: every rule and limit, at its edge."""

import contextlib
import io
import os
from pathlib import Path

import numpy as np
import pytest

from diptych.data.samples import (
    MAX_IMAGE_BYTES,
    MAX_TEXT_BYTES,
    clean_texts,
    fingerprint,
    make_sample,
    parse_label,
    read_file,
    relative_names,
)
from diptych.errors import DataError
from diptych.records import Broken, Sample


def npy(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version)
    return stream.getvalue()


def made(**files: bytes) -> Sample | Broken:
    return make_sample("key", "shard", files)


def reason(**files: bytes) -> str:
    broken = made(**files)
    assert isinstance(broken, Broken) and (broken.key, broken.shard) == ("key", "shard")
    return broken.reason


# ------------------------------------------------------------------ captions


@pytest.mark.parametrize(
    ("json", "txt", "texts"),
    [
        (b'{"captions": ["a", "b"], "texts": ["c"], "caption": "d"}', b"e", ("a", "b")),
        (b'{"texts": ["c"], "caption": "d"}', b"e", ("c",)),
        (b'{"captions": [], "texts": ["c"]}', b"e", ("c",)),
        (b'{"captions": ["a", 1], "text": "d"}', b"e\nf", ("e", "f")),
        (b'{"captions": "ab"}', b"e", ("e",)),
        (b'{"caption": "d", "text": "g"}', None, ("d",)),
        (b'{"caption": 5, "text": "g"}', None, ("g",)),
        (b'{"caption": " e\\nf "}', b"e\nf\n", ("e\nf",)),  # the .json says that both lines are one caption
        (b'{"text": "e\\nf"}', b"e\nf", ("e\nf",)),
        (b'{"caption": "other"}', b"e\n\n f ", ("e", "f")),
        (None, b" \xef\xbb\xbfe\r\nf", ("e", "f")),
    ],
)
def test_captions_come_from_the_first_place_that_has_them(json, txt, texts):
    files = {name: data for name, data in (("json", json), ("txt", txt)) if data is not None}
    assert made(jpg=b"x", **files).texts == texts


def test_blank_captions_are_dropped_and_nothing_but_blank_ones_is_an_error():
    assert clean_texts([" a ", "", "\ufeff", "b\t"]) == ("a", "b")
    assert clean_texts([]) == ()
    for blank in ([""], [" ", "\n"]):
        with pytest.raises(DataError, match="empty caption"):
            clean_texts(blank)


@pytest.mark.parametrize(
    ("value", "kind"), [(b"1e999", "a number"), (b"NaN", "a number"), (b'{"en": "a dog"}', "an object with en")]
)
def test_a_caption_that_is_no_text_is_called_what_it_is(value, kind):
    assert (
        reason(jpg=b"x", json=b'{"caption": %s}' % value) == f"no caption: 'caption' in its .json is {kind}, not text"
    )
    assert made(jpg=b"x", json=b'{"caption": %s, "text": "a"}' % value).texts == ("a",)


def test_neither_caption_nor_label_is_broken_and_one_of_them_will_do():
    assert reason(jpg=b"x", json=b"{}") == "no caption (found .jpg, .json)"
    assert made(jpg=b"x", cls=b"3") == Sample("key", b"x", (), 3, {})
    assert made(jpg=b"x", json=b'{"label": 0, "text": "a"}') == Sample(
        "key", b"x", ("a",), 0, {"label": 0, "text": "a"}
    )


def test_what_was_found_instead_is_listed_up_to_eight():
    assert reason() == "no image (found nothing)"
    many = {f"{'e' * 50}{number}": b"" for number in range(9)}
    assert reason(**many) == f"no image (found {', '.join(['.' + 'e' * 39] * 8)})"


def test_text_that_is_no_text_is_broken():
    assert reason(jpg=b"x", txt=b"abc\xff") == "its caption is not UTF-8 (byte 3)"
    assert reason(jpg=b"x", json=b"{\xff") == "its .json is not UTF-8 (byte 1)"
    assert reason(jpg=b"x", json=b"{").startswith("its .json cannot be parsed")
    assert reason(jpg=b"x", json=b"[" * 100_000).startswith("its .json cannot be parsed")
    assert reason(jpg=b"x", json=b"[]") == "its .json is not an object"


# ------------------------------------------------------------------ limits


def test_limits_on_texts_and_pictures():
    assert (MAX_TEXT_BYTES, MAX_IMAGE_BYTES) == (2**20, 2**26)
    whole = b"a" * MAX_TEXT_BYTES
    assert made(jpg=b"x", txt=whole).texts == (whole.decode(),)
    for name in ("txt", "json", "cls"):
        assert reason(jpg=b"x", **{name: whole + b"a"}) == f"its .{name} is larger than 1024 KiB"
    assert reason(jpg=b"", txt=b"a") == "an empty image"
    assert made(jpg=b"x", txt=b"a").image == b"x"
    picture = bytes(MAX_IMAGE_BYTES)
    assert made(jpg=picture, txt=b"a").image is picture
    assert reason(jpg=picture + b"x", txt=b"a") == "its image is larger than 64 MiB"


# ------------------------------------------------------------------ labels


def test_labels_are_whole_numbers_from_zero():
    assert parse_label(b" 12\n", "it") == 12 and parse_label(0, "it") == 0
    assert parse_label(b"9" * 19, "it") == 10**19 - 1
    for wrong in (b"9" * 20, b"-1", b"1.0", b"", b"x", -1, True, 1.0, "1", None):
        with pytest.raises(DataError, match="it is not a class index: "):
            parse_label(wrong, "it")
    assert reason(jpg=b"x", cls=b"dog") == "its .cls is not a class index: b'dog'"


def test_a_label_in_the_json_must_be_that_of_the_cls():
    assert made(jpg=b"x", cls=b"2", json=b'{"label": 2}').label == 2
    assert made(jpg=b"x", cls=b"2", json=b'{"label": "dog"}').label == 2
    for ignored in (b'{"label": -1}', b'{"label": true}', b'{"label": 1.0}'):
        assert made(jpg=b"x", cls=b"2", json=ignored).label == 2
    assert reason(jpg=b"x", cls=b"2", json=b'{"label": 0}') == "labels given twice: 2 in its .cls, 0 in its .json"


# ------------------------------------------------------------------ arrays


PIXELS = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)


@pytest.mark.parametrize("array", [PIXELS, np.asfortranarray(PIXELS)], ids=["rows first", "columns first"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_an_array_of_pixels_is_the_picture(array, version):
    sample = made(npy=npy(array, version), txt=b"a")
    assert isinstance(sample, Sample) and sample.image.dtype == np.uint8
    assert np.array_equal(sample.image, PIXELS)


@pytest.mark.parametrize("array", [PIXELS.astype(np.int16), PIXELS[0], PIXELS[..., :2], np.zeros((4, 4, 4), np.uint8)])
def test_another_array_is_no_picture(array):
    assert reason(npy=npy(array), txt=b"a") == "no image (found .npy, .txt)"


@pytest.mark.parametrize("array", [np.array(7), np.array([7], np.uint8), np.array([[7]], np.int64)])
def test_an_array_of_one_whole_number_is_the_label(array):
    assert made(jpg=b"x", npy=npy(array)).label == 7
    assert made(jpg=b"x", npy=npy(array), cls=b"2").label == 2  # it is not asked where nothing lacks
    assert made(jpg=b"x", npy=b"torn", cls=b"2").label == 2


@pytest.mark.parametrize("array", [np.array([1, 2]), np.array(7.0), np.array(True)])
def test_another_array_is_no_label(array):
    assert reason(jpg=b"x", npy=npy(array)) == "no caption (found .jpg, .npy)"
    assert reason(jpg=b"x", npy=npy(np.array(-1)), txt=b"a") == "its .npy is not a class index: -1"


def test_arrays_that_lie_about_their_size_are_not_believed():
    sound = npy(PIXELS)
    for lie in (sound[:-1], sound + b"\0", sound.replace(b"(2, 4, 3)", b"(9, 4, 3)"), b"", b"\x93NUMPY"):
        assert reason(npy=lie, txt=b"a").startswith("its .npy cannot be read: ")
    assert reason(npy=sound + b"\0", txt=b"a").endswith("its size does not match its header")
    hollow = np.empty((0,), object)  # no byte of content, but pickles all the same
    assert reason(npy=npy(hollow), txt=b"a") == "its .npy cannot be read: its size does not match its header"


# ------------------------------------------------------------------ files


def lowest_free_descriptor() -> int:
    found = os.dup(0)
    os.close(found)
    return found


def test_a_file_is_read_up_to_its_limit_and_closed_again(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    assert read_file(path, 10) == b"0123456789"
    for limit, words in ((9, "is larger than 0 KiB"), (0, "is larger")):
        with pytest.raises(DataError, match=words):
            read_file(path, limit)
    if (opened := Path("/proc/self/fd")).is_dir():  # Linux tells which files this process has open
        names = []
        for descriptor in opened.iterdir():
            with contextlib.suppress(OSError):  # another thread's, closed in the meantime
                names.append(str(descriptor.readlink()))
        assert names and str(path) not in names
    with pytest.raises(DataError, match="not a regular file"):
        read_file(tmp_path)
    with pytest.raises(DataError, match=r"cannot read .*absent: "):
        read_file(tmp_path / "absent")
    with pytest.raises(DataError, match="cannot read"):
        read_file(tmp_path / "nul\0byte")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.timeout(20)
def test_a_named_pipe_is_refused_without_waiting_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="not a regular file"):
        read_file(tmp_path / "pipe")


def test_names_are_relative_to_the_folder_of_all(tmp_path):
    paths = [tmp_path / "a/x.jpg", tmp_path / "a/b/y.jpg", tmp_path / "z.jpg"]
    assert relative_names(paths) == ("a/x.jpg", "a/b/y.jpg", "z.jpg")
    assert relative_names(paths[:2]) == ("x.jpg", "b/y.jpg")
    assert relative_names(paths[1:2]) == ("y.jpg",) and relative_names([]) == ()


def test_a_fingerprint_is_of_names_sizes_and_text_wherever_the_files_lie(tmp_path):
    for folder, size in (("one", 3), ("two", 3), ("three", 4)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a").write_bytes(b"x" * size)
        (tmp_path / folder / "b").write_bytes(b"y")

    def of(folder, names=("a", "b"), *more):
        return fingerprint([tmp_path / folder / "a", tmp_path / folder / "b"], names, *more)

    assert of("one") == of("two")
    different = {of("one"), of("three"), of("one", ("a", "c")), of("one", ("b", "a")), of("one", ("a", "b"), "more")}
    different |= {of("one", ("a", "b"), "mo", "re"), of("one", ("a", "b"), "re", "mo"), of("one", ("a", "\udcff"))}
    assert len(different | {of("one", ("a", "b"), "\udcff")}) == 9
    with pytest.raises(DataError, match=r"cannot read .*absent"):
        fingerprint([tmp_path / "absent"], ["absent"])
