"""Evaluation sets as parquet files, as Hugging Face's datasets writes them: found, read, and refused."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from diptych.data.evaluation_batches import evaluation_batches
from diptych.data.parquet_columns import count_rows, distinct_labels
from diptych.data.transforms import Preprocessing
from diptych.errors import DataError
from diptych.evalsets.benchmark import Benchmark, open_benchmark
from diptych.evalsets.cards import CARDS
from diptych.evalsets.opening import open_card
from diptych.evalsets.parquet_sets import open_parquet, parquet_splits, split_files
from diptych.evalsets.prompts import get_prompts
from diptych.records import Broken, Sample

DIGITS = [str(number) for number in range(10)]
WEATHER = ["clear_sky", "rain", "snow"]


def picture(colour: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (colour, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


def write(
    path: Path, labels: list, names: list[str] | None = None, column: str = "label", image: str = "image", **more: list
) -> None:
    """Rows in the hub's layout, two in a row group; the picture of row i has the red of its label."""
    pictures = [{"bytes": picture((label or 0) % 256), "path": None} for label in labels]
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({image: pa.array(pictures, struct), column: pa.array(labels, pa.int64()), **more})
    if names is not None:
        features = {image: {"_type": "Image"}, column: {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=2)


def read(benchmark: Benchmark) -> list[Sample | Broken]:
    source = benchmark.source
    return [item for index in range(len(source.shards)) for item in source.read(index)]


def red(item: Sample) -> int:
    return int(np.asarray(Image.open(io.BytesIO(item.image)))[0, 0, 0])


# ------------------------------------------------------------------ finding the files


@pytest.mark.parametrize(
    "names",
    [
        ["data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"],
        ["train/0000.parquet", "test/0000.parquet"],
        ["default/train/0000.parquet", "default/test/0000.parquet"],
        ["plain_text/train-00000-of-00001-0a1b.parquet", "plain_text/test-00000-of-00001-0a1b.parquet"],
        ["train.parquet", "test.parquet"],
    ],
)
def test_the_forms_of_the_hub(tmp_path, names):
    write(tmp_path / names[0], [0, 1, 2, 0], WEATHER)
    write(tmp_path / names[1], [2, 1, 0], WEATHER)
    (tmp_path / ".cache" / "huggingface").mkdir(parents=True)
    write(tmp_path / ".cache" / "huggingface" / "test.parquet", [0], WEATHER)
    assert list(parquet_splits(tmp_path)) == ["test", "train"]
    found = open_benchmark(tmp_path)
    assert found.class_names == ("clear sky", "rain", "snow") and found.templates == ("a photo of a {c}.",)
    assert [(item.label, red(item)) for item in read(found)] == [(2, 2), (1, 1), (0, 0)]
    assert [item.label for item in read(open_benchmark(tmp_path, "train"))] == [0, 1, 2, 0]


def test_files_are_read_in_their_numbers_order_and_counted_without_the_pictures(tmp_path):
    for number in range(12):
        write(tmp_path / "data" / f"test-{number:05d}-of-00012.parquet", [number % 3, 1], WEATHER)
    found = read(open_benchmark(tmp_path))
    assert [item.label for item in found[::2]] == [number % 3 for number in range(12)]
    files = split_files(tmp_path, "test")
    assert count_rows(files) == 24 and distinct_labels(files) == {0, 1, 2}


@pytest.mark.parametrize("word", ["validation", "val", "dev", "valid"])
def test_validation_has_many_names(tmp_path, word):
    write(tmp_path / f"{word}-00000-of-00001.parquet", [0, 1], WEATHER)
    assert len(read(open_benchmark(tmp_path, "val"))) == 2


def test_cifar_100s_fine_label_counts_and_text_columns_do_not(tmp_path):
    more = {"coarse_label": [4, 5], "text": ["", "something"]}
    write(tmp_path / "test.parquet", [1, 0], ["apple", "bear"], "fine_label", "img", **more)
    found = read(open_benchmark(tmp_path))
    assert [(item.label, item.texts) for item in found] == [(1, ()), (0, ())]
    assert [item.metadata["coarse_label"] for item in found] == [4, 5]


def test_tables_beside_a_set_in_another_form_are_no_set(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "test" / name).mkdir(parents=True)
        (tmp_path / "test" / name / "1.png").write_bytes(picture(1))
    write(tmp_path / "photos.parquet", [0, 1])
    assert open_benchmark(tmp_path).class_names == ("cat", "dog")


# ------------------------------------------------------------------ cards


def test_labels_are_exchanged_where_the_classes_stand_in_another_order(tmp_path):
    names = list(reversed(DIGITS))
    write(tmp_path / "wds_mnist" / "data" / "test-00000-of-00001.parquet", list(range(10)), names)
    found = open_card(CARDS["MNIST"], tmp_path)
    assert found.class_names == tuple(DIGITS) and found.templates == get_prompts("MNIST").templates
    assert (found.name, found.split, found.card) == ("MNIST", "test", CARDS["MNIST"])
    assert [(item.label, red(item)) for item in read(found)] == [(9 - number, number) for number in range(10)]


def test_underscores_and_case_do_not_make_other_classes(tmp_path):
    names = [names[0].replace(" ", "_").title() for names in get_prompts("CIFAR100").class_names]
    write(tmp_path / "CIFAR100" / "test.parquet", [3, 99], names)
    found = open_card(CARDS["CIFAR100"], tmp_path)
    assert found.class_names[1] == "aquarium fish" and [item.label for item in read(found)] == [3, 99]


def test_files_without_names_take_the_cards_if_the_labels_are_as_many(tmp_path):
    write(tmp_path / "mnist" / "test.parquet", [*range(10), 3])
    found = open_card(CARDS["MNIST"], tmp_path)
    assert found.class_names == tuple(DIGITS) and len(read(found)) == 11
    write(tmp_path / "mnist" / "test.parquet", [0, 1, 2])
    with pytest.raises(DataError, match=r"have no names, and they are 3 different ones where MNIST has 10"):
        open_card(CARDS["MNIST"], tmp_path)
    (tmp_path / "mnist" / "classnames.txt").write_text("\n".join(DIGITS))
    assert open_card(CARDS["MNIST"], tmp_path).class_names == tuple(DIGITS)


def test_another_set_under_the_cards_name_is_refused(tmp_path):
    write(tmp_path / "mnist" / "test.parquet", [0, 1], WEATHER)
    with pytest.raises(DataError, match="MNIST has 10 classes, but MNIST has 3"):
        open_card(CARDS["MNIST"], tmp_path)


def test_the_validation_pictures_are_the_test_where_authors_keep_the_labels_back(tmp_path, caplog):
    names = [names[0] for names in get_prompts("Food101").class_names]
    write(tmp_path / "food101" / "data" / "validation-00000-of-00001.parquet", [5, 7], names)
    found = open_card(CARDS["Food101"], tmp_path)
    assert found.split == "test" and [item.label for item in read(found)] == [5, 7]
    assert "its validation split is used" in caplog.text
    write(tmp_path / "pcam" / "validation.parquet", [0, 1], ["no", "yes"])  # PCam has a test set of its own
    with pytest.raises(DataError, match="no split test; its parquet files are of: val"):
        open_card(CARDS["PCam"], tmp_path)


def test_sets_of_captions_and_of_several_classes(tmp_path):
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    image = pa.array([{"bytes": picture(1), "path": "a"}], struct)
    (tmp_path / "flickr30k").mkdir()
    pq.write_table(pa.table({"image": image, "caption": [["one", "two"]]}), tmp_path / "flickr30k" / "test.parquet")
    assert [item.texts for item in read(open_card(CARDS["Flickr30k"], tmp_path))] == [("one", "two")]
    write(tmp_path / "voc2007" / "test.parquet", [0, 1], WEATHER)
    with pytest.raises(DataError, match="several classes each"):
        open_card(CARDS["VOC2007"], tmp_path)


# ------------------------------------------------------------------ bad sets


def test_a_missing_split_is_said_with_those_that_are_there(tmp_path):
    write(tmp_path / "train-00000-of-00001.parquet", [0, 1], WEATHER)
    with pytest.raises(DataError, match=r"no split test; its parquet files are of: train"):
        open_benchmark(tmp_path)


def test_a_missing_file_is_found_out_by_the_names_of_the_others(tmp_path):
    write(tmp_path / "data" / "test-00000-of-00003.parquet", [0, 1], WEATHER)
    write(tmp_path / "data" / "test-00002-of-00003.parquet", [0, 1], WEATHER)
    with pytest.raises(DataError, match=r"2 of 3 parquet files of the split test: number 1 is missing"):
        open_benchmark(tmp_path)
    write(tmp_path / "data" / "test-00000-of-00001.parquet", [0, 1], WEATHER)
    with pytest.raises(DataError, match="several versions of the split test"):
        open_benchmark(tmp_path)


def test_two_configurations_are_not_mixed(tmp_path):
    write(tmp_path / "small" / "test.parquet", [0, 1], WEATHER)
    write(tmp_path / "large" / "test.parquet", [0, 1], WEATHER)
    with pytest.raises(DataError, match=r"several folders \(large, small\)"):
        open_benchmark(tmp_path)
    assert len(read(open_benchmark(tmp_path / "small"))) == 2


def test_labels_out_of_range_and_pictures_without_bytes_are_broken_samples(tmp_path):
    write(tmp_path / "test.parquet", [0, 3, -1, None, 2], WEATHER)
    found = read(open_benchmark(tmp_path))
    assert [isinstance(item, Sample) for item in found] == [True, False, False, False, True]
    assert found[1].reason == "label 3, but the classes go from 0 to 2"
    assert found[2].reason == found[3].reason == "no label and no caption"


def test_one_class_only_no_names_and_no_labels(tmp_path):
    write(tmp_path / "one" / "test.parquet", [0, 0], ["rain"])
    with pytest.raises(DataError, match="has 1 class; a classifier needs two or more"):
        open_benchmark(tmp_path / "one")
    write(tmp_path / "none" / "test.parquet", [0, 1])
    with pytest.raises(DataError, match=r"do not name their classes; write the names into classnames\.txt"):
        open_benchmark(tmp_path / "none")
    write(tmp_path / "text" / "test.parquet", [0, 1], column="caption")
    with pytest.raises(DataError, match=r"no column of class indices called label \(it has .*caption"):
        open_benchmark(tmp_path / "text")


@pytest.mark.parametrize("labels", [["cat", "dog"], ["0", "1"], [0.0, 1.0]], ids=["words", "digits", "floats"])
def test_labels_that_are_no_indices_are_refused_in_words(tmp_path, labels):
    pictures = pa.array([picture(0), picture(1)], pa.binary())
    (tmp_path / "cifar10").mkdir()
    pq.write_table(pa.table({"image": pictures, "label": labels}), tmp_path / "cifar10/test.parquet")
    for opened in (lambda: open_card(CARDS["CIFAR10"], tmp_path), lambda: open_benchmark(tmp_path / "cifar10")):
        with pytest.raises(DataError, match=r"its column label is of type \w+, and no class index; number the classes"):
            opened()


def test_files_that_disagree_over_the_classes(tmp_path):
    write(tmp_path / "data" / "test-00000-of-00002.parquet", [0, 1], WEATHER)
    write(tmp_path / "data" / "test-00001-of-00002.parquet", [0, 1], WEATHER[::-1])
    with pytest.raises(DataError, match="name different classes"):
        open_parquet(tmp_path, "test")


@pytest.mark.parametrize("keep", [0, 10, 200])
def test_a_file_that_is_cut_off(tmp_path, keep):
    path = tmp_path / "test.parquet"
    write(path, [0, 1, 2], WEATHER)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"cannot read the parquet file .*test\.parquet"):
        open_benchmark(tmp_path)


@pytest.mark.parametrize("stored", [b"{", b"[1]", b'{"info": {"features": {"label": {"names": 7}}}}', b"\xff"])
def test_words_of_another_writer_in_the_metadata_are_no_class_names(tmp_path, stored):
    write(tmp_path / "test.parquet", [0, 1])
    table = pq.read_table(tmp_path / "test.parquet").replace_schema_metadata({b"huggingface": stored})
    pq.write_table(table, tmp_path / "test.parquet")
    assert open_parquet(tmp_path, "test")[0] is None


def test_captions_without_labels_are_no_classes(tmp_path):
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    image = pa.array([{"bytes": picture(1), "path": "a"}], struct)
    pq.write_table(pa.table({"image": image, "caption": ["one"]}), tmp_path / "test.parquet")
    with pytest.raises(DataError, match=r"no column of class indices called label \(it has image, caption\)"):
        open_benchmark(tmp_path)


def test_corrupt_pictures_are_left_out_and_counted(tmp_path, caplog):
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    stored = [picture(1), picture(2)[:40], None, b"no picture", picture(3)]
    table = pa.table({"image": pa.array([{"bytes": data} for data in stored], struct), "label": [0, 1, 0, 1, 2]})
    (tmp_path / "classnames.txt").write_text("\n".join(WEATHER))
    pq.write_table(table, tmp_path / "test.parquet")
    with caplog.at_level("WARNING", "diptych"):
        [batch] = evaluation_batches(open_benchmark(tmp_path).source, Preprocessing(image_size=8))
    assert [sample.label for sample in batch.samples] == [0, 2] and len(batch.images) == 2
    assert "3 of 5" in caplog.text
