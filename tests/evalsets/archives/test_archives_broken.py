"""Archives with something wrong in them: every message names the place, and no list leads out of its folder."""

import os
import re
from pathlib import Path

import miniatures
import numpy as np
import pytest
import scipy.io
from test_archives import items, read

from diptych.errors import DataError
from diptych.records import Broken

# Each: the set, a list of it, what is replaced in it (its first occurrence), by what, and a word of the message.
DAMAGED = [
    ("Food101", "meta/test.txt", "baklava/2002", "bakalava/2002", "test.txt:3: 'bakalava' is none of the 101"),
    ("Food101", "meta/test.txt", "baklava/2002", "baklava", "test.txt:3 cannot be parsed: 'baklava'"),
    ("Food101", "meta/test.txt", "baklava/2002", "baklava/a/2002", "test.txt:3 cannot be parsed"),
    ("Birdsnap", "species.txt", "\tOsprey\n", "\tOspry\n", "species.txt: 'Ospry' is none of the 500 classes"),
    ("Birdsnap", "species.txt", "\tOsprey\n", "\tMallard\n", "'Mallard' are the same class"),
    ("Birdsnap", "species.txt", "id\tcommon", "no\tcommon", "species.txt:1 has no column id"),
    ("Birdsnap", "images.txt", "\t498\t", "\t501\t", "images.txt:6 cannot be parsed"),
    ("Birdsnap", "images.txt", "/1.jpg\t498\t1\t2\t3\t4", "/1.jpg", "images.txt:6 cannot be parsed"),
    ("SUN397", "SUN397/ClassName.txt", "/a/abbey\n", "", "ClassName.txt has 396 classes of 397, and lacks 'abbey'"),
    ("SUN397", "SUN397/ClassName.txt", "/a/abbey\n", "/a/abby\n", "'abby' is none of the 397 classes"),
    ("SUN397", "Partitions/Testing_01.txt", "/a/abbey/", "/a/", "Testing_01.txt:1 cannot be parsed"),
    ("FGVCAircraft", "data/variants.txt", "A380\n", "", "variants.txt has 99 classes of 100, and lacks 'A380'"),
    ("FGVCAircraft", "data/images_variant_test.txt", " 727-200\n", "\n", "images_variant_test.txt:2: '' is none"),
    ("FGVCAircraft", "data/images_variant_test.txt", " 727-200\n", " 727-2\n", ":2: '727-2' is none of the 100"),
    ("VOC2007", "ImageSets/Main/dog_test.txt", "002003 -1", "002003 -3", "dog_test.txt:4: '-3' should be a number"),
    ("VOC2007", "ImageSets/Main/dog_test.txt", "002003 -1", "002003", "dog_test.txt:4 cannot be parsed"),
    ("VOC2007", "ImageSets/Main/dog_test.txt", "002003 -1", "999999 -1", "dog_test.txt:4 cannot be parsed"),
    ("VOC2007", "ImageSets/Main/dog_test.txt", "002003 -1\n", "", "dog_test.txt lists 20 images"),
    ("DTD", "labels/test1.txt", "blotchy/", "botchy/", "test1.txt:2: 'botchy' is none of the 47 classes"),
    ("OxfordPets", "annotations/test.txt", "american_bulldog_2 2", "american_bulldog_2 1", "class 1 was another breed"),
    ("OxfordPets", "annotations/test.txt", "american_bulldog_2 2 1 1", "american_bulldog_2", "test.txt:2 cannot be"),
    ("GTSRB", "GT-final_test.csv", ";42\n", ";43\n", "GT-final_test.csv:2: '43' should be a number from 0 to 42"),
    ("GTSRB", "GT-final_test.csv", ";42\n", ";\n", "GT-final_test.csv:2: '' should be a number from 0 to 42"),
    ("GTSRB", "GT-final_test.csv", "ClassId", "Class", "GT-final_test.csv:1 has no column ClassId"),
    ("CIFAR10", "batches.meta.txt", "frog\n", "toad\n", "batches.meta.txt: 'toad' is none of the 10 classes"),
    ("CIFAR100", "fine_label_names.txt", "ray\n", "", "fine_label_names.txt has 99 classes of 100, and lacks 'ray'"),
    ("STL10", "class_names.txt", "car\n", "cat\n", "'cat' and 'cat' are the same class"),
    ("FER2013", "fer2013.csv", "\n3,", "\n7,", "fer2013.csv:5 cannot be parsed"),
    ("FER2013", "fer2013.csv", "3,3 1 2 ", "3,1 2 ", "fer2013.csv:5 cannot be parsed"),
    ("FER2013", "fer2013.csv", ",PublicTest", ",PublicTes", "fer2013.csv:9 cannot be parsed"),
    ("FER2013", "fer2013.csv", "emotion,pixels", "emotions,pixels", "emotions, pixels, Usage; required: emotion"),
]
# Lists of which one entry leads out of the folder: the set, the list, an entry and the bad one.
ESCAPES = [
    ("Food101", "meta/test.txt", "baklava/2002", "../../etc/passwd"),
    ("Food101", "meta/test.txt", "baklava/2002", "/etc/passwd"),
    ("Birdsnap", "images.txt", "Alder_Flycatcher/1.jpg", "../../etc/passwd"),
    ("Birdsnap", "test_images.txt", "Alder_Flycatcher/2.jpg", "../../etc/passwd"),
    ("SUN397", "Partitions/Testing_01.txt", "/a/abbey/sun_test.jpg", "/a/abbey/../../../../etc/passwd"),
    ("FGVCAircraft", "data/images_variant_test.txt", "2000001", "../../etc/passwd"),
    ("VOC2007", "ImageSets/Main/aeroplane_test.txt", "002003", "../../../etc/passwd"),
    ("DTD", "labels/test1.txt", "blotchy/", "blotchy/../../../etc/"),
    ("OxfordPets", "annotations/test.txt", "american_bulldog_2", "../american_bulldog_2"),
    ("GTSRB", "GT-final_test.csv", "00003.ppm", "../../../etc/passwd"),
    ("GTSRB", "GT-final_test.csv", "00003.ppm", "..\\..\\passwd"),
]


def damage(folder: Path, list_of: str, old: str, new: str) -> None:
    path = next(path for path in sorted(folder.rglob(Path(list_of).name)) if path.as_posix().endswith(list_of))
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(("name", "list_of", "old", "new", "message"), DAMAGED)
def test_a_damaged_list_is_an_error_that_names_its_line(tmp_path, name, list_of, old, new, message):
    miniatures.build(name, tmp_path)
    damage(tmp_path, list_of, old, new)
    with pytest.raises(DataError, match=re.escape(message)):
        read(name, tmp_path, "train" if "1.jpg" in old + new else "test")


@pytest.mark.parametrize(("name", "list_of", "old", "new"), ESCAPES)
def test_no_list_leads_out_of_the_folder(tmp_path, name, list_of, old, new):
    miniatures.build(name, tmp_path)
    damage(tmp_path, list_of, old, new)
    with pytest.raises(DataError, match=r"leads out of the set's folder|is none of the|cannot be parsed"):
        read(name, tmp_path, "train" if "1.jpg" in old else "test")


@pytest.mark.parametrize("name", ["StanfordCars", "IIIT5K"])
def test_no_matlab_list_leads_out_of_the_folder(tmp_path, name):
    miniatures.build(name, tmp_path)
    if name == "StanfordCars":
        rows, path = np.zeros((1, 2), [("class", object), ("fname", object)]), "cars_test_annos_withlabels.mat"
        rows[0, 0], rows[0, 1] = (1, "00001.jpg"), (2, "../../etc/passwd")
        scipy.io.savemat(tmp_path / path, {"annotations": rows})
    else:
        rows = np.zeros((1, 1), [(field, object) for field in ("ImgName", "GroundTruth", "mediumLexi")])
        rows[0, 0] = ("/etc/passwd", "A", np.array([["A", "B"]], object))
        scipy.io.savemat(tmp_path / "IIIT5K/testdata.mat", {"testdata": rows})
    with pytest.raises(DataError, match=r"(annotation 2|word 1): '.*passwd' leads out of the set's folder"):
        read(name, tmp_path, "test")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("StanfordCars", "cars_test_annos_withlabels.mat"),
        ("Flowers102", "setid.mat"),
        ("IIIT5K", "IIIT5K/testdata.mat"),
        ("SVHN", "test_32x32.mat"),
        ("CIFAR10.1", "cifar10.1_v6_labels.npy"),
        ("CIFAR10.1", "cifar10.1_v6_data.npy"),
        ("MNIST", "t10k-images-idx3-ubyte"),
        ("CIFAR10", "cifar-10-batches-bin/test_batch.bin"),
        ("CIFAR100", "cifar-100-binary/test.bin"),
        ("STL10", "stl10_binary/test_X.bin"),
        ("STL10", "stl10_binary/test_y.bin"),
    ],
)
@pytest.mark.parametrize("content", [b"", b"\x93NUMPY, MATLAB 5.0 MAT-file and whatever", "half"])
def test_a_broken_binary_file_is_named(tmp_path, name, path, content):
    miniatures.build(name, tmp_path)
    half = (tmp_path / path).read_bytes()
    (tmp_path / path).write_bytes(half[: len(half) // 2 + 1] if content == "half" else content)
    with pytest.raises(DataError, match=re.escape(Path(path).name)):
        read(name, tmp_path, "test")


def test_cars_without_the_labels_of_the_test_set(tmp_path):
    """The list inside the devkit has no classes; it must not be taken for the one that has."""
    miniatures.build("StanfordCars", tmp_path)
    rows = np.zeros((1, 2), [("bbox_x1", object), ("fname", object)])
    rows[0, 0], rows[0, 1] = (1, "00001.jpg"), (2, "00002.jpg")
    scipy.io.savemat(tmp_path / "cars_test_annos_withlabels.mat", {"annotations": rows})
    with pytest.raises(DataError, match="annotation 1 has no file name and class"):
        read("StanfordCars", tmp_path, "test")


@pytest.mark.parametrize(("label", "message"), [(197, "should be a number from 1 to 196"), (1.5, "'1.5' should be")])
def test_cars_with_a_class_that_is_none(tmp_path, label, message):
    miniatures.build("StanfordCars", tmp_path)
    rows = np.zeros((1, 1), [("class", object), ("fname", object)])
    rows[0, 0] = (label, "00001.jpg")
    scipy.io.savemat(tmp_path / "cars_test_annos_withlabels.mat", {"annotations": rows})
    with pytest.raises(DataError, match=message):
        read("StanfordCars", tmp_path, "test")


def test_cars_in_another_order_of_classes_are_mapped(tmp_path):
    expected = miniatures.build("StanfordCars", tmp_path)["test"]
    cells = np.empty((1, 196), object)
    cells[0] = [name.replace("/", "-") for name in reversed(miniatures.names("StanfordCars"))]
    scipy.io.savemat(tmp_path / "devkit/cars_meta.mat", {"class_names": cells})
    assert [item.label for item in items(read("StanfordCars", tmp_path, "test"))] == [195 - n for _, n in expected]


def test_flowers_numbers_must_be_pictures(tmp_path):
    miniatures.build("Flowers102", tmp_path)
    scipy.io.savemat(tmp_path / "setid.mat", {"tstid": np.array([[1, 307]])})
    with pytest.raises(DataError, match=r"tstid of .*setid.mat: '307' should be a number from 1 to 306"):
        read("Flowers102", tmp_path, "test")
    with pytest.raises(DataError, match=r"setid.mat has no variable trnid"):
        read("Flowers102", tmp_path, "train")


def test_an_iiit5k_word_must_be_in_its_lexicon(tmp_path):
    miniatures.build("IIIT5K", tmp_path)
    rows = np.zeros((1, 1), [(field, object) for field in ("ImgName", "GroundTruth", "mediumLexi")])
    rows[0, 0] = ("test/0_1.png", "C", np.array([["A", "B"]], object))
    scipy.io.savemat(tmp_path / "IIIT5K/testdata.mat", {"testdata": rows})
    with pytest.raises(DataError, match="word 1: its lexicon lacks the word itself, 'C'"):
        read("IIIT5K", tmp_path, "test")


@pytest.mark.parametrize(
    ("name", "gone", "message"),
    [
        ("Caltech101", "101_ObjectCategories/yin_yang", "has 101 classes of 102, and lacks 'yin and yang symbol'"),
        ("EuroSAT", "2750/SeaLake", "has 9 classes of 10, and lacks 'lake or sea'"),
        ("RESISC45", "NWPU-RESISC45/lake", "has 44 classes of 45, and lacks 'lake'"),
    ],
)
def test_a_folder_for_every_class(tmp_path, name, gone, message):
    miniatures.build(name, tmp_path)
    (tmp_path / gone).rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=message):
        read(name, tmp_path, "test")
    (tmp_path / gone).parent.joinpath("mystery").mkdir()
    with pytest.raises(DataError, match="'mystery' is none of the"):
        read(name, tmp_path, "test")


def test_files_that_are_no_files_are_broken(tmp_path):
    miniatures.build("DTD", tmp_path)
    path = tmp_path / "dtd/images/banded/banded_0002.jpg"
    path.unlink()
    os.mkfifo(path)
    first = items(read("DTD", tmp_path, "test"))[0]
    assert isinstance(first, Broken) and "not a regular file" in first.reason
