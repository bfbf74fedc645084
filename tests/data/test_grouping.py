"""Keys of tar shards: what webdataset's rule loses is counted image by image, and stops a measurement."""

import itertools
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from colours import COLOURS, ColourEncoder, encoded, picture
from hypothesis import given, settings
from hypothesis import strategies as st
from test_shards import PNG, read, write_tar

from diptych.data.grouping import Group, key_and_extension
from diptych.data.loader import Loader, LoaderConfig
from diptych.data.open_source import open_source
from diptych.data.tally import Tally
from diptych.data.tar import Member
from diptych.data.tokenizer import Tokenizer
from diptych.data.transforms import Preprocessing
from diptych.errors import DataError
from diptych.evalsets.benchmark import open_benchmark
from diptych.evaluate.encoding import encode_benchmark
from diptych.records import Broken, Sample

DOTTED = [
    "dog.v2.{:03d}",
    "2024.01.{:02d}",
    "img_0.5.{}",
    "a/b.c.{}",
]


def pairs(stems: Iterable[str], text: str = "txt", image: str = "jpg") -> list[tuple[str, bytes | str]]:
    """Members of an archive: for each stem an image and its caption or label."""
    return [member for stem in stems for member in ((f"{stem}.{image}", PNG), (f"{stem}.{text}", "1"))]


def lost(items: Iterable[Sample | Broken]) -> list[Broken]:
    return [item for item in items if isinstance(item, Broken)]


@pytest.mark.parametrize("pattern", DOTTED)
@pytest.mark.parametrize("number", [1, 2, 31, 100])
def test_every_image_that_dots_lose_counts(tmp_path, pattern, number):
    path = write_tar(tmp_path / "0.tar", pairs(["0", *(pattern.format(n) for n in range(number)), "9"]))
    items = read(path)
    assert [item.key for item in items if isinstance(item, Sample)] == ["0/0", "0/9"]
    assert len(lost(items)) == number and len({item.key for item in items}) == number + 2
    assert all("ends at the first dot" in item.reason and item.by_layout for item in lost(items))


def test_one_key_for_all(tmp_path):
    items = read(write_tar(tmp_path / "0.tar", pairs(["img"] * 250)))
    assert len(items) == len(lost(items)) == 250
    assert {item.reason for item in items} == {"250 images share a key: two members are named img.jpg"}


def test_several_images_of_one_key(tmp_path):
    """The caption's image is the first by IMAGE_EXTENSIONS; the others are lost, and said to be."""
    first, second = read(write_tar(tmp_path / "0.tar", [("a.png", b"second"), ("a.JPG", PNG), ("a.txt", "text")]))
    assert isinstance(first, Sample) and first.image == PNG
    assert second.key == "0/a.png" and second.reason == "its key has 2 images; only .jpg is used" and second.by_layout
    first, second = read(write_tar(tmp_path / "1.tar", [("a.jpg", PNG), ("a.JPG", PNG), ("a.txt", "text")]))
    assert first.by_layout and second.by_layout and "2 images share a key" in first.reason


def test_parts_of_a_sample_are_no_loss(tmp_path):
    """seg.png beside png is webdataset's way to add a field; with a caption of its own it is another image."""
    part = [("a.png", PNG), ("a.seg.png", PNG), ("a.depth.png", PNG), ("a.seg.json", "{}"), ("a.txt", "text")]
    (item,) = read(write_tar(tmp_path / "0.tar", part))
    assert isinstance(item, Sample)
    first, second = read(write_tar(tmp_path / "1.tar", [*part, ("a.seg.txt", "another")]))
    assert isinstance(first, Sample) and second.key == "1/a.seg.png" and second.by_layout


def test_images_before_texts(tmp_path):
    """webdataset joins neighbours alone; the reason says what to do, and nothing counts as good."""
    members = pairs(["0", "1", "2"])
    items = read(write_tar(tmp_path / "0.tar", members[::2] + members[1::2]))
    assert lost(items) == items and len(items) == 6
    assert [item.reason for item in items[:3]] == ["no caption (found .jpg)"] * 3
    assert all("repack it with tar --sort=name" in item.reason and item.by_layout for item in items[3:])


@pytest.mark.parametrize("first", ["images", "texts"])
def test_an_image_and_its_text_apart_count_as_one_lost_sample(tmp_path, first):
    """Three pairs, packed one kind after the other: 3 of 3 are lost, not 6 of 6; then one pair lies right."""
    members = pairs(["0", "1", "2"])
    halves = [members[::2], members[1::2]]
    path = write_tar(tmp_path / "0.tar", [*itertools.chain(*(halves if first == "images" else halves[::-1]))])
    tally = Tally(max_broken=1.0, num_shards=1)
    with pytest.raises(DataError) as caught:
        tally.add(0, lost(read(path)), 0, epoch_ends=True)
    assert tally.reasons.total() == 3 and re.search(r"\n  3 x .*repack it with tar --sort=name", str(caught.value))
    assert str(caught.value).count(" x ") == 1
    # Two images of a key are two that are lost; a caption that comes again beside a sound sample is one.
    again = read(write_tar(tmp_path / "1.tar", [("a.jpg", PNG), ("b.jpg", PNG), ("a.jpg", PNG)]))
    assert [item.instead_of for item in again] == [None] * 3
    sound = read(write_tar(tmp_path / "2.tar", [*pairs(["a", "b"]), ("a.txt", "more")]))
    assert len(lost(sound)) == 1 and sound[2].instead_of is None


def test_a_key_that_comes_again_apart_has_a_name_of_its_own(tmp_path):
    items = read(write_tar(tmp_path / "0.tar", pairs(["a", "b", "a", "b", "a"])))
    assert [item.key for item in items] == ["0/a", "0/b", "0/a~2", "0/b~2", "0/a~3"] and not lost(items)


def test_upper_case_extensions(tmp_path):
    (item,) = read(write_tar(tmp_path / "0.tar", [("a.JPEG", PNG), ("a.TXT", "text"), ("a.Json", '{"x": 1}')]))
    assert item.texts == ("text",) and item.metadata == {"x": 1}


stems = st.lists(st.text("ab.", min_size=1, max_size=4).filter(lambda stem: stem.strip(".")), max_size=8, unique=True)


@given(stems)
@settings(max_examples=200, deadline=None)
def test_all_images_are_accounted_for_and_webdataset_has_the_same_samples(names):
    webdataset = pytest.importorskip("webdataset", reason="webdataset, the peer, is not installed")
    members = [(name, PNG if isinstance(data, bytes) else b"1") for name, data in pairs(names)]
    items: list[Sample | Broken] = []
    # Which members belong together is webdataset's word; ours must agree, and explain each image that it drops.
    theirs = [
        sample["__key__"]
        for sample in webdataset.tariterators.group_by_keys(
            [{"fname": name, "data": data, "__url__": ""} for name, data in members]
        )
        if "jpg" in sample
    ]
    usable = [name for name, _ in members if name.endswith(".jpg") and key_and_extension(Member(name))[0]]
    for _, group in itertools.groupby(members, lambda member: key_and_extension(Member(member[0]))[0]):
        collected: Group | None = None
        for name, data in group:
            key, extension = key_and_extension(Member(name))
            collected = collected or Group(key, "0", "0.tar")
            collected.add(extension, Member(name, data))
        items += collected.finish() if collected else ()
    assert [item.key.removeprefix("0/") for item in items if isinstance(item, Sample)] == theirs
    assert len(items) == len(usable)


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """A set in the wds layout: 150 images under plain names, 100 that share the key dog."""
    names = list(COLOURS)[:2]
    plain = [(f"{n:03d}", n % 2) for n in range(150)]
    dotted = [(f"dog.v2.{n:03d}", n % 2) for n in range(100)]
    members: list[tuple[str, bytes | str]] = []
    for stem, label in plain + dotted:
        members += [(f"{stem}.png", encoded(picture(names[label], seed=0))), (f"{stem}.cls", str(label))]
    write_tar(tmp_path / "set" / "test" / "0.tar", members)
    (tmp_path / "set" / "test" / "nshards.txt").write_text("1\n")
    (tmp_path / "set" / "classnames.txt").write_text("\n".join(names))
    (tmp_path / "set" / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.")
    return tmp_path / "set"


def test_an_evaluation_stops_and_says_that_dots_end_a_key(colours):
    with pytest.raises(DataError, match=r"100 images share the key dog: a key ends at the first dot.*rename"):
        list(encode_benchmark(ColourEncoder(), open_benchmark(colours), batch_size=64))


def test_training_counts_every_image_that_is_lost(tmp_path):
    write_tar(tmp_path / "0.tar", pairs([*map(str, range(150)), *(f"dog.v2.{n}" for n in range(100))]))
    tokenizer = Tokenizer.train(["a dog", "one"], vocab_size=600, context_length=8)
    config = LoaderConfig(global_batch_size=10, num_workers=0, max_broken=0.1)
    with pytest.raises(DataError, match=r"(?s)100 of 250 samples are broken.*100 x N images share the key dog"):
        for _ in Loader(open_source(tmp_path), tokenizer, Preprocessing(8), config):
            pass
