"""Evaluation sets in the wds layout and as class folders, and everything that can be wrong with them."""

import gzip
import io
from pathlib import Path

import pytest
from PIL import Image

from diptych.data.shards import write_shards
from diptych.errors import DataError, InputError
from diptych.evalsets.benchmark import Benchmark, open_benchmark
from diptych.records import Broken, Sample

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason=f"no real data at {DATA}")


def picture(colour: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (colour, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


def read(benchmark: Benchmark) -> list[Sample | Broken]:
    source = benchmark.source
    return [item for index in range(len(source.shards)) for item in source.read(index)]


@pytest.fixture
def wds(tmp_path: Path) -> Path:
    """Three classes, six pictures in two shards."""
    folder = tmp_path / "pets"
    labelled = [Sample(f"s{number}", picture(number), (), number % 3) for number in range(6)]
    write_shards(labelled, folder / "test", shard_size=3)
    (folder / "classnames.txt").write_text("cat\nhouse dog\nguinea pig\n")
    (folder / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\nart of {c} and {c}.\n\n")
    return folder


@pytest.fixture
def class_folders(tmp_path: Path) -> Path:
    for split in ("train", "test"):
        for number, name in enumerate(("tabby_cat", "dog", "guinea_pig")):
            path = tmp_path / "pets" / split / name / "0.png"
            path.parent.mkdir(parents=True)
            path.write_bytes(picture(number))
    return tmp_path / "pets"


# ------------------------------------------------------------------ good sets


def test_wds_layout(wds):
    benchmark = open_benchmark(wds)
    assert (benchmark.name, benchmark.split) == ("pets", "test")
    assert benchmark.class_names == ("cat", "house dog", "guinea pig")
    assert benchmark.templates == ("a photo of a {c}.", "art of {c} and {c}.")
    assert [(item.key, item.label) for item in read(benchmark)] == [
        (f"{number // 3}/s{number}", number % 3) for number in range(6)
    ]


def test_shards_may_be_gzipped(wds):
    plain = wds / "test" / "1.tar"
    (wds / "test" / "1.tar.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    assert [item.label for item in read(open_benchmark(wds))] == [0, 1, 2, 0, 1, 2]


def test_windows_files_are_read(wds):
    (wds / "classnames.txt").write_bytes("\ufeffcat\r\nhouse dog\r\nguinea pig\r\n".encode())
    assert open_benchmark(wds).class_names == ("cat", "house dog", "guinea pig")


def test_the_fingerprint_knows_names_templates_and_shards(wds):
    prints = {open_benchmark(wds).fingerprint}
    assert prints == {open_benchmark(str(wds)).fingerprint}
    for file, content in (("classnames.txt", "cat\ndog\npig"), ("zeroshot_classification_templates.txt", "{c}")):
        (wds / file).write_text(content)
        prints.add(open_benchmark(wds).fingerprint)
    with (wds / "test" / "0.tar").open("ab") as file:
        file.write(b"\0")
    prints.add(open_benchmark(wds).fingerprint)
    assert len(prints) == 4


def test_class_folders(class_folders):
    benchmark = open_benchmark(class_folders, split="train")
    assert benchmark.class_names == ("dog", "guinea pig", "tabby cat")
    assert benchmark.templates == ("a photo of a {c}.",)
    assert [(item.key, item.label, item.image) for item in read(benchmark)] == [
        ("dog/0.png", 0, picture(1)),
        ("guinea_pig/0.png", 1, picture(2)),
        ("tabby_cat/0.png", 2, picture(0)),
    ]


def test_class_folders_without_splits(class_folders):
    benchmark = open_benchmark(class_folders / "train")
    assert benchmark.name == "train" and [item.label for item in read(benchmark)] == [0, 1, 2]


def test_a_link_to_a_class_folder_is_read(class_folders, tmp_path, caplog):
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in ("dog", "guinea_pig"):
        (linked / name).symlink_to(class_folders / "test" / name, target_is_directory=True)
    (linked / "1.png").write_bytes(picture(9))  # in no class
    (linked / "dog" / "sub").mkdir()
    (linked / "dog" / "sub" / "0.png").write_bytes(picture(5))
    benchmark = open_benchmark(linked)
    assert benchmark.class_names == ("dog", "guinea pig")
    assert [(item.key, item.label, item.image) for item in read(benchmark)] == [
        ("dog/0.png", 0, picture(1)),
        ("dog/sub/0.png", 0, picture(5)),
        ("guinea_pig/0.png", 1, picture(2)),
    ]
    notices = [record.getMessage().partition(": ")[2] for record in caplog.records]
    assert notices == ["passed over 1 file: 1 image in no class folder (e.g. 1.png)"]


def test_a_class_without_pictures_is_named_in_the_log(class_folders, caplog):
    (class_folders / "test" / "cow").mkdir()
    (class_folders / "test" / "emu").mkdir()
    benchmark = open_benchmark(class_folders)
    assert benchmark.class_names == ("cow", "dog", "emu", "guinea pig", "tabby cat")
    assert [item.label for item in read(benchmark)] == [1, 3, 4]
    assert f"{class_folders / 'test'} has classes without images: cow, emu" in caplog.text


@needs_data
@pytest.mark.parametrize(("name", "classes", "templates"), [("cifar10", 10, 18), ("tiny-imagenet", 200, 7)])
def test_real_sets(name, classes, templates):
    benchmark = open_benchmark(DATA / name)
    items = read(benchmark)
    assert len(benchmark.class_names) == classes and len(benchmark.templates) == templates
    assert len(items) == 10_000 == sum(isinstance(item, Sample) for item in items)
    counts = [0] * classes
    for item in items:
        counts[item.label] += 1
    assert set(counts) == {10_000 // classes}


@needs_data
def test_a_real_training_split_is_labelled_by_its_json():
    benchmark = open_benchmark(DATA / "tiny-imagenet", split="train")
    assert len(benchmark.source.shards) == 12
    assert all(0 <= item.label < 200 and item.texts for item in benchmark.source.read(3))


# ------------------------------------------------------------------ bad input


def test_samples_without_a_usable_label_are_broken(wds):
    (wds / "test" / "1.tar").unlink()
    (wds / "test" / "nshards.txt").unlink()
    (wds / "test" / "0.tar").unlink()
    samples = [Sample(f"s{label}", picture(0), ("text",), label) for label in (2, 3, None)]
    write_shards(samples, wds / "test")
    good, high, none = read(open_benchmark(wds))
    assert good.label == 2
    assert isinstance(high, Broken) and high.reason == "label 3, but the classes go from 0 to 2"
    assert isinstance(none, Broken) and none.reason == "no label"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("cat\n cat \n", "pets has 1 class; a classifier needs two or more"),
        ("cat\n", "pets has 1 class; a classifier needs two or more"),
        ("", "class 0 has no name"),
        ("cat\n\ndog\n", "class 1 has no name \\(line 2 of classnames.txt is empty\\)"),
        (b"cat\nd\xf6g\n", r"classnames\.txt is not UTF-8 \(byte 5\)"),
        ("cat\ndog\n".encode("utf-16"), r"classnames\.txt is not UTF-8 \(byte 0\)"),
    ],
)
def test_bad_class_names(wds, content, reason):
    (wds / "classnames.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=reason):
        open_benchmark(wds)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a photo of a {c}.\na photo of a {}.\n", r'the template "a photo of a \{\}\." has no \{c\}'),
        ("a photo\n", 'the template "a photo" has no'),
        ("\n\n", "zeroshot_classification_templates.txt has no template"),
    ],
)
def test_bad_templates(wds, content, reason):
    (wds / "zeroshot_classification_templates.txt").write_text(content)
    with pytest.raises(DataError, match=reason):
        open_benchmark(wds)


@pytest.mark.parametrize("name", ["classnames.txt", "zeroshot_classification_templates.txt", "test/nshards.txt"])
def test_missing_files_are_named(wds, name):
    (wds / name).unlink()
    with pytest.raises(DataError, match=f"lacks {name}; its splits are: "):
        open_benchmark(wds)


def test_a_missing_split_names_those_that_are_there(wds):
    with pytest.raises(DataError, match=r"lacks val/nshards\.txt; its splits are: test"):
        open_benchmark(wds, split="val")


def test_a_missing_shard_is_named(wds):
    (wds / "test" / "nshards.txt").write_text("3")
    with pytest.raises(DataError, match=r"nshards\.txt says 3 shards, but .*test/2\.tar \(or \.tar\.gz\) is missing"):
        open_benchmark(wds)


@pytest.mark.parametrize("count", ["", "0", "-1", "two", "1\n2", "9" * 5000, "٣", "99999999"])
def test_bad_shard_counts(wds, count):
    (wds / "test" / "nshards.txt").write_text(count)
    with pytest.raises(DataError, match=r"nshards\.txt should hold the number of shards"):
        open_benchmark(wds)


def test_a_list_that_is_a_device(wds):
    (wds / "classnames.txt").unlink()
    (wds / "classnames.txt").symlink_to("/dev/zero")
    with pytest.raises(DataError, match=r"classnames\.txt: not a regular file"):
        open_benchmark(wds)


def test_one_class_folder(tmp_path):
    (tmp_path / "test" / "cat").mkdir(parents=True)
    (tmp_path / "test" / "cat" / "0.png").write_bytes(picture(0))
    with pytest.raises(DataError, match="has 1 class; a classifier needs two or more"):
        open_benchmark(tmp_path)


def test_two_classes_of_one_name_are_named_in_the_log(wds, caplog):
    (wds / "classnames.txt").write_text("cat\ndog\n cat \n")
    assert len(open_benchmark(wds).class_names) == 3
    assert 'pets: "cat" names class 0 and class 2; texts' in caplog.text


def test_names_that_differ_in_capitals_alone_are_warned_of(wds, caplog):
    (wds / "classnames.txt").write_text("Dog\ncat\ndog\n")
    assert open_benchmark(wds).class_names == ("Dog", "cat", "dog")
    assert 'pets: "dog" names class 0 and class 2, for tokenizers that ignore case' in caplog.text


def test_class_folders_of_one_name(tmp_path):
    for name in ("house_cat", "house cat"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(picture(0))
    with pytest.raises(DataError, match="has 1 class"):
        open_benchmark(tmp_path)


def test_what_is_no_set(tmp_path, wds):
    (tmp_path / "empty").mkdir()
    for path, split, reason in (
        (tmp_path / "empty", "test", "holds no evaluation set: neither classnames.txt"),
        (tmp_path / "none", "test", "there is no folder"),
        (tmp_path / ("a" * 300), "test", "cannot look for .*: File name too long"),
        (wds / "test", "test", "is one split of a set; give the set"),
    ):
        with pytest.raises(DataError, match=reason):
            open_benchmark(path, split)


def test_a_missing_split_of_class_folders(class_folders):
    with pytest.raises(DataError, match="has no split val; it has: test, train"):
        open_benchmark(class_folders, split="val")
