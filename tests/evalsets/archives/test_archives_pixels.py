"""What the pixels of binary archives are, and the rules by which archives are divided."""

import dataclasses
import gzip
import os
import shutil

import miniatures
import numpy as np
import pytest
import scipy.io
from miniature_files import picture
from miniatures_text import svhn_numbers
from test_archives import items, read

from diptych.errors import DataError
from diptych.evalsets.archives.binary import read_stl10_fold, stl10_folds
from diptych.evalsets.archives.reading import shuffled
from diptych.evalsets.cards import get_card
from diptych.evalsets.opening import open_card
from diptych.records import Sample

ROWS, COLUMNS = np.mgrid[:96, :96].astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "side"), [("CIFAR10", 32), ("CIFAR100", 32), ("CIFAR10.1", 32), ("STL10", 96), ("SVHN", 32)]
)
def test_red_counts_columns_green_rows_and_blue_the_pictures(tmp_path, name, side):
    """Painted so: planes, rows and columns in the wrong order would show, and so would lost bytes."""
    miniatures.build(name, tmp_path)
    for split in ("test",) if name == "CIFAR10.1" else ("train", "test"):
        for number, item in enumerate(items(read(name, tmp_path, split))):
            assert item.image.shape == (side, side, 3)
            assert np.array_equal(item.image[..., 0], COLUMNS[:side, :side])
            assert np.array_equal(item.image[..., 1], ROWS[:side, :side])
            assert (item.image[..., 2] == number).all()


def test_mnist_is_upright_and_grey(tmp_path):
    miniatures.build("MNIST", tmp_path)
    for split in ("train", "test"):  # one packed, the other not
        even, odd, *_ = items(read("MNIST", tmp_path, split))
        for channel in range(3):
            assert np.array_equal(even.image[..., channel], COLUMNS[:28, :28])
            assert np.array_equal(odd.image[..., channel], ROWS[:28, :28])


def test_mnist_under_the_other_names_and_read_again_after_a_change(tmp_path):
    miniatures.build("MNIST", tmp_path)
    images = tmp_path / "t10k-images-idx3-ubyte"
    assert items(read("MNIST", tmp_path, "test"))[0].image[0, 5, 0] == 5
    data = bytearray(images.read_bytes())
    data[16 + 5] = 77
    images.unlink()
    (tmp_path / "t10k-images.idx3-ubyte").write_bytes(data)
    assert items(read("MNIST", tmp_path, "test"))[0].image[0, 5, 0] == 77
    (tmp_path / "t10k-images.idx3-ubyte").write_bytes(data + b"x")
    with pytest.raises(DataError, match="should have 7840 bytes after its header; it has more"):
        read("MNIST", tmp_path, "test")


def test_a_packed_file_that_would_fill_the_memory_is_refused(tmp_path):
    miniatures.build("MNIST", tmp_path)
    head = bytes([0, 0, 8, 3]) + (4_000_000).to_bytes(4, "big") + (28).to_bytes(4, "big") * 2
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + bytes(1 << 20)))
    with pytest.raises(DataError, match="its header is"):
        read("MNIST", tmp_path, "train")


def test_mnist_needs_as_many_labels_as_pictures(tmp_path):
    miniatures.build("MNIST", tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 9]) + bytes(9))
    with pytest.raises(DataError, match=r"has 10 images, .* has 9 labels"):
        read("MNIST", tmp_path, "test")


def test_a_label_out_of_range_is_an_error_not_another_class(tmp_path):
    miniatures.build("CIFAR10", tmp_path)
    path = tmp_path / "cifar-10-batches-bin/test_batch.bin"
    data = bytearray(path.read_bytes())
    data[3073 * 4] = 10
    path.write_bytes(data)
    with pytest.raises(DataError, match="image 4 has class 10, not one of 10"):
        read("CIFAR10", tmp_path, "test")
    miniatures.build("STL10", tmp_path)
    (tmp_path / "stl10_binary/test_y.bin").write_bytes(bytes(range(10)))  # they count from 1
    with pytest.raises(DataError, match="image 0 has class 0, not one of 10"):
        read("STL10", tmp_path, "test")


def test_pictures_are_cut_at_the_shards_and_over_files(tmp_path):
    """A slice that begins in one file and ends in another; no more than its bytes are read."""
    miniatures.build("CIFAR10", tmp_path)
    pixels = read("CIFAR10", tmp_path, "train").pixels  # two pictures in each of five files
    assert [picture[0, 0, 2] for picture in pixels(1, 6)] == [1, 2, 3, 4, 5]
    assert len(pixels(3, 3)) == 0
    (tmp_path / "cifar-10-batches-bin/data_batch_5.bin").write_bytes(b"short")
    assert len(pixels(0, 8)) == 8
    with pytest.raises(DataError, match=r"cannot read images 0 to 1 of .*data_batch_5.bin"):
        pixels(6, 10)


@pytest.mark.parametrize(("name", "folder"), [("CIFAR10", "cifar-10-batches-py"), ("CIFAR100", "cifar-100-python")])
def test_the_pickled_version_of_cifar_is_refused_with_the_one_to_get(tmp_path, name, folder):
    (tmp_path / folder).mkdir()
    with pytest.raises(DataError, match=r"binary version, cifar-10-binary\.tar\.gz or cifar-100-binary\.tar\.gz"):
        read(name, tmp_path, "test")


def test_cifar10_1_without_pickles_and_in_its_older_version(tmp_path):
    miniatures.build("CIFAR10.1", tmp_path)
    for kind in ("data", "labels"):
        (tmp_path / f"cifar10.1_v6_{kind}.npy").rename(tmp_path / f"cifar10.1_v4_{kind}.npy")
    assert next(read("CIFAR10.1", tmp_path, "test").read(0)).key == "cifar10.1_v4_data:0"
    np.save(tmp_path / "cifar10.1_v4_labels.npy", np.array([{}] * 20), allow_pickle=True)
    with pytest.raises(DataError, match=r"cifar10.1_v4_labels.npy cannot be read as an .npy file: .*Python objects"):
        read("CIFAR10.1", tmp_path, "test")
    np.save(tmp_path / "cifar10.1_v4_labels.npy", np.zeros(19, np.int64))
    with pytest.raises(DataError, match=r"has int64 \(19,\) for 20 images"):
        read("CIFAR10.1", tmp_path, "test")


def test_the_ten_folds_of_stl10(tmp_path):
    tmp_path = tmp_path / "STL10"
    miniatures.build("STL10", tmp_path)
    opened = open_card(get_card("STL10"), tmp_path.parent, "train", fold=4)
    assert [item.label for item in items(opened.source)] == [3, 4]
    folds = stl10_folds(tmp_path)
    assert [fold.tolist() for fold in folds] == [[n, (n + 1) % 10] for n in range(10)]
    whole = items(read("STL10", tmp_path, "train"))
    fold = items(read_stl10_fold(tmp_path, "train", 10))
    assert [item.label for item in fold] == [9, 0]
    assert np.array_equal(fold[0].image, whole[9].image) and np.array_equal(fold[1].image, whole[0].image)
    assert len(items(read_stl10_fold(tmp_path, "test", 10))) == 10
    assert read_stl10_fold(tmp_path, "train", 1).fingerprint != read_stl10_fold(tmp_path, "train", 2).fingerprint
    with pytest.raises(DataError, match="has the folds 1 to 10, not 0"):
        read_stl10_fold(tmp_path, "train", 0)
    path = tmp_path / "stl10_binary/fold_indices.txt"
    path.write_text(path.read_text().replace("9 0", "9 10"))
    with pytest.raises(DataError, match=r"fold_indices.txt:10: '10' should be a number from 0 to 9"):
        stl10_folds(tmp_path)
    path.write_text("0 1\n")
    with pytest.raises(DataError, match="has 1 lines; it should have ten"):
        stl10_folds(tmp_path)


@pytest.mark.parametrize("header", ["emotion,pixels,Usage", "emotion, Usage, pixels"])
def test_a_face_is_upright_and_grey_in_either_table(tmp_path, header):
    expected = miniatures.fer2013(tmp_path, header)
    for split, rows in expected.items():
        found = items(read("FER2013", tmp_path, split))
        assert [(item.key, item.label) for item in found] == rows
        for number, item in enumerate(found):
            wanted = COLUMNS[:48, :48].copy()
            wanted[0, 0] = number
            assert np.array_equal(item.image, np.repeat(wanted[..., None], 3, axis=2))


@pytest.mark.parametrize(
    ("pixel", "problem"),
    [("256", "a pixel is not in 0 to 255"), ("x", "invalid literal"), ("1" * 20, "too large")],
)
def test_a_face_with_a_broken_pixel(tmp_path, pixel, problem):
    miniatures.build("FER2013", tmp_path)
    path = tmp_path / "fer2013.csv"
    number = next(n for n, line in enumerate(path.read_text().split("\n"), 1) if line.startswith("6,0 1 2 "))
    path.write_text(path.read_text().replace("6,0 1 2 ", f"6,0 {pixel} 2 "))
    with pytest.raises(DataError, match=rf"fer2013.csv:{number} is not a face: .*{problem}"):
        items(read("FER2013", tmp_path, "train"))


def test_voc_has_the_classes_and_the_difficult_ones(tmp_path):
    miniatures.build("VOC2007", tmp_path)
    found = items(read("VOC2007", tmp_path, "test"))
    assert found[0].metadata == {"labels": (0, 1), "ignored": (2,)}
    assert found[18].metadata == {"labels": (18, 19), "ignored": (0,)}
    assert found[19].metadata == {"labels": (0, 19), "ignored": (1,)}
    assert found[20].metadata == {"labels": (), "ignored": ()}


def test_svhn_is_the_whole_number_with_its_zeros(tmp_path):
    expected = svhn_numbers(tmp_path)
    for split, rows in expected.items():
        found = items(read("SVHN-Numbers", tmp_path, split))
        assert [(item.key, item.label) for item in found] == rows
        assert [item.metadata["text"] for item in found] == ["5", "210", "03"]
        assert [item.image for item in found] == [picture(key) for key, _ in rows]
    with pytest.raises(DataError, match=r"get the single digits, train_32x32.mat and test_32x32.mat"):
        read("SVHN", tmp_path, "test")
    (tmp_path / "test/digitStruct.mat").write_bytes(b"whatever")
    with pytest.raises(DataError, match=r"digitStruct.mat is damaged, or no HDF5 file of this set"):
        read("SVHN-Numbers", tmp_path, "test")


def test_svhn_with_a_label_of_zero_or_with_other_pixels(tmp_path):
    scipy.io.savemat(tmp_path / "test_32x32.mat", {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": [[0], [1]]})
    with pytest.raises(DataError, match="y should be a column of numbers from 1 to 10"):
        read("SVHN", tmp_path, "test")
    scipy.io.savemat(tmp_path / "test_32x32.mat", {"X": np.zeros((32, 32, 3, 3), np.uint8), "y": [[2], [1]]})
    with pytest.raises(DataError, match=r"X is uint8 \(32, 32, 3, 3\), not uint8 \(32, 32, 3, 2\)"):
        items(read("SVHN", tmp_path, "test"))


def test_an_iiit5k_word_comes_with_its_lexicon(tmp_path):
    miniatures.build("IIIT5K", tmp_path)
    found = items(read("IIIT5K", tmp_path, "test"))
    assert [item.metadata["text"] for item in found] == ["PRIVATE", "parking", "12"]
    assert {item.metadata["lexicon"] for item in found} == {("EXIT", "PRIVATE", "PARKING", "12")}


def test_gtsrb_takes_the_papers_training_set_before_the_later_one(tmp_path, caplog):
    miniatures.build("GTSRB", tmp_path)
    assert next(read("GTSRB", tmp_path, "train").read(0)).key == "Training/00000/00000_00000.ppm"
    assert not caplog.records
    (tmp_path / "GTSRB/Final_Training").mkdir()
    (tmp_path / "GTSRB/Training").rename(tmp_path / "GTSRB/Final_Training/Images")
    assert next(read("GTSRB", tmp_path, "train").read(0)).key == "Final_Training/Images/00000/00000_00000.ppm"
    assert "the paper trained on GTSRB-Training_fixed.zip" in caplog.text


def test_birdsnap_says_how_much_is_missing(tmp_path, caplog):
    miniatures.build("Birdsnap", tmp_path)
    read("Birdsnap", tmp_path, "train")
    assert "of 500 listed images of train, 498 are there" in caplog.text
    shutil.rmtree(tmp_path / "images")
    with pytest.raises(DataError, match="has none of the 500 images"):
        read("Birdsnap", tmp_path, "test")


@pytest.mark.parametrize("name", ["Caltech101", "EuroSAT", "RESISC45"])
def test_train_and_test_are_disjoint_and_do_not_depend_on_the_folders_order(tmp_path, name, monkeypatch):
    miniatures.build(name, tmp_path)
    train, test = ([item.key for item in items(read(name, tmp_path, split))] for split in ("train", "test"))
    assert not set(train) & set(test)
    assert len({*train, *test}) == {"Caltech101": 102 * 31, "EuroSAT": 30, "RESISC45": 45 * 9}[name]
    scandir = os.scandir

    @dataclasses.dataclass
    class Backwards:
        """A folder whose entries come in another order, as on another file system."""

        path: object

        def __post_init__(self):
            self.entries = reversed(list(scandir(self.path)))

        def __iter__(self):
            return self.entries

        def __next__(self):
            return next(self.entries)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(os, "scandir", Backwards)
    assert [item.key for item in items(read(name, tmp_path, "test"))] == test


def test_the_seeded_order_is_this_one_on_every_machine():
    """Other sets of pictures would be other benchmarks: this order must never change."""
    assert shuffled("abcdefgh") == shuffled("hgfedcba")
    assert shuffled(["cat/1.jpg", "cat/2.jpg", "cat/3.jpg", "cat/4.jpg"]) == [
        f"cat/{number}.jpg" for number in (4, 1, 2, 3)
    ]
    assert shuffled("abcdefgh", 1) != shuffled("abcdefgh", 2)


def test_complete_classes_have_the_papers_numbers(tmp_path, caplog):
    """1,000 and 500 of EuroSAT's, 70 and 560 of RESISC45's, here in links to one file."""
    for name, first, count in (("EuroSAT", "2750/River", 2500), ("RESISC45", "NWPU-RESISC45/lake", 700)):
        miniatures.build(name, tmp_path / name)
        folder = tmp_path / name / first
        shutil.rmtree(folder)
        folder.mkdir()
        for number in range(count):
            (folder / f"{folder.name}_{number}.jpg").symlink_to(tmp_path / name / "one.jpg")
        sizes = {}
        for split in ("train", "test"):
            entries = read(name, tmp_path / name, split).entries
            sizes[split] = sum(entry.file.startswith(folder.name + "/") for entry in entries)
        assert sizes == {"EuroSAT": {"train": 1000, "test": 500}, "RESISC45": {"train": 70, "test": 560}}[name]
    assert "9 classes have fewer than the 1500 images that the rule needs, the first is AnnualCrop" in caplog.text
    assert "44 classes have fewer than the 630 images" in caplog.text


def test_caltechs_picture_without_an_ending_counts(tmp_path):
    miniatures.build("Caltech101", tmp_path)
    stray = tmp_path / "101_ObjectCategories/BACKGROUND_Google/tmp"
    stray.write_bytes(b"no picture")
    assert len(items(read("Caltech101", tmp_path, "test"))) == 102
    stray.write_bytes(picture("tmp.jpg"))
    found = items(read("Caltech101", tmp_path, "test")) + items(read("Caltech101", tmp_path, "train"))
    assert len(found) == 102 * 31 + 1
    assert "BACKGROUND_Google/tmp" in {item.key for item in found if isinstance(item, Sample)}


def test_a_caltech_class_with_nothing_left_for_test(tmp_path):
    miniatures.build("Caltech101", tmp_path)
    (tmp_path / "101_ObjectCategories/ant/image_0001.jpg").unlink()
    with pytest.raises(DataError, match="ant has 30 images; 30 are for training"):
        read("Caltech101", tmp_path, "train")
