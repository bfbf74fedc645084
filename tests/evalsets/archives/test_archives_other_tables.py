"""Flickr30k, MSCOCO, IM2GPS, aYahoo and SUN, as they are unpacked."""

import json
import logging

import pytest
from miniatures_other import labels, made, opened, picture, write, write_json

from diptych.errors import DataError
from diptych.evalsets.archives.reading import inside
from diptych.evalsets.cards import CARDS
from diptych.evalsets.opening import open_card
from diptych.records import Broken


def test_flickr30k_by_karpathy(tmp_path):
    made("Flickr30k", tmp_path)
    first, second = opened("Flickr30k", tmp_path)
    assert (first.key, first.label, first.texts) == (
        "flickr30k-images/100003.jpg",
        None,
        tuple(f"caption {which} of 3" for which in range(5)),
    )
    assert second.key == "flickr30k-images/100004.jpg"
    assert len(opened("Flickr30k", tmp_path, "train")) == 2 and len(opened("Flickr30k", tmp_path, "val")) == 1


def test_flickr30k_by_lists_of_pictures(tmp_path):
    folder = made("Flickr30k", tmp_path)
    expected = [(item.key, item.texts) for item in opened("Flickr30k", tmp_path)]
    (folder / "dataset_flickr30k.json").unlink()
    with pytest.raises(DataError, match=r"lacks test.txt or flickr30k_test.txt or dataset_flickr30k.json"):
        opened("Flickr30k", tmp_path)
    write(folder / "test.txt", ["100004", "100003"])
    assert [(item.key, item.texts) for item in opened("Flickr30k", tmp_path)] == expected
    write(folder / "test.txt", ["100009"])
    with pytest.raises(DataError, match="no captions of 1 images"):
        opened("Flickr30k", tmp_path)
    write(folder / "results_20130124.token", ["100003.jpg#0 no tab"])
    with pytest.raises(DataError, match=r"results_20130124.token:1 is not an image with a caption"):
        opened("Flickr30k", tmp_path)
    (folder / "results_20130124.token").unlink()
    rows = ["image_name| comment_number| comment", "100003.jpg| 0| A man.", "100003.jpg| 1| A dog | and a cat."]
    write(folder / "results.csv", rows)
    write(folder / "test.txt", ["100003"])
    assert opened("Flickr30k", tmp_path)[0].texts == ("A man.", "A dog | and a cat.")
    write(folder / "results.csv", [*rows, "100003.jpg| 4   A dog runs across the grass ."])  # a row has this form
    assert opened("Flickr30k", tmp_path)[0].texts[2] == "A dog runs across the grass ."
    for broken in (
        "100003.jpg",
        "100003.jpg| 12",
        "100003.jpg| 4| ",
        "100003.jpg| 4 |",
        "100003.jpg| A man.",
        "| 0| A man.",
    ):
        write(folder / "results.csv", [*rows, broken])
        with pytest.raises(DataError, match=r"results.csv:4 is not an image with a caption"):
            opened("Flickr30k", tmp_path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"sentences": []}, "has no captions"),
        ({"sentences": [{"raw": "  "}]}, "empty caption"),
        ({"sentences": [{}]}, "raw is missing"),
        ({"filename": "../a.jpg"}, "leads out"),
        ({"split": None}, "split is missing"),
    ],
)
def test_flickr30k_damaged_divisions(tmp_path, change, problem):
    folder = made("Flickr30k", tmp_path)
    path = folder / "dataset_flickr30k.json"
    parsed = json.loads(path.read_text())
    parsed["images"][3].update(change)
    write_json(path, parsed)
    with pytest.raises(DataError, match=problem):
        opened("Flickr30k", tmp_path)


def test_mscoco_by_karpathy_with_five_captions_each(tmp_path):
    made("MSCOCO", tmp_path)
    (item,) = opened("MSCOCO", tmp_path)
    assert item.key == "val2014/COCO_val2014_000000000003.jpg"
    assert item.texts == tuple(f"caption {which} of 3" for which in range(5))
    assert [key[:7] for key, _ in labels("MSCOCO", tmp_path, "train")] == ["train20", "val2014"]
    assert len(opened("MSCOCO", tmp_path, "val")) == 1


def test_mscoco_from_its_annotations_alone(tmp_path, caplog):
    folder = made("MSCOCO", tmp_path)
    (folder / "dataset_coco.json").unlink()
    items = opened("MSCOCO", tmp_path)
    assert [item.key[-7:] for item in items] == ["001.jpg", "002.jpg", "003.jpg"]
    # In the order of the captions' numbers, which this file has backwards.
    assert items[0].texts == tuple(f"caption {which} of 1" for which in (4, 3, 2, 1, 0))
    with pytest.raises(DataError, match=r"lacks dataset_coco.json"):
        opened("MSCOCO", tmp_path, "val")
    path = folder / "annotations/captions_val2014.json"
    many = {
        "images": [{"id": n, "file_name": f"{n}.jpg"} for n in range(5100)],
        "annotations": [{"id": n, "image_id": n, "caption": f"a {n}"} for n in range(5100)],
    }
    write_json(path, many)
    with caplog.at_level(logging.WARNING):
        found = opened("MSCOCO", tmp_path)
    assert len(found) == 5000 and all(isinstance(item, Broken) for item in found)
    assert "not the usual ones" in caplog.text
    many["annotations"][0]["image_id"] = 9999
    write_json(path, many)
    with pytest.raises(DataError, match="a caption belongs to image 9999, which it does not list"):
        opened("MSCOCO", tmp_path)
    path.rename(folder / "annotations/captions_val2017.json")
    with pytest.raises(DataError, match="lacks val2017"):
        opened("MSCOCO", tmp_path)


def test_mscoco_files_by_names_that_are_not_in_normal_form(tmp_path):
    folder = made("MSCOCO", tmp_path)
    (folder / "dataset_coco.json").unlink()
    expected = [(item.key, item.texts) for item in opened("MSCOCO", tmp_path)]
    path = folder / "annotations/captions_val2014.json"
    path.write_text(path.read_text().replace('"COCO_', '"./COCO_'))
    assert [(item.key, item.texts) for item in opened("MSCOCO", tmp_path)] == expected


def test_im2gps_places(tmp_path):
    folder = made("IM2GPS", tmp_path)
    items = opened("IM2GPS", tmp_path)
    assert [(item.key, dict(item.metadata)) for item in items] == [
        ("b.jpg", {"latitude": 48.8584, "longitude": 2.2945}),
        ("a.jpg", {"latitude": -33.86, "longitude": 151.2}),
    ]
    (reference,) = opened("IM2GPS", tmp_path, "train")
    assert reference.metadata == {"latitude": 40.0, "longitude": -75.5}
    (folder / "images/b.jpg").unlink()
    assert isinstance(opened("IM2GPS", tmp_path)[0], Broken)
    write(folder / "more.csv", ["image,lat,lon"])
    with pytest.raises(DataError, match=r"one .csv with the images' coordinates; it has 2"):
        opened("IM2GPS", tmp_path)


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (["image,lat", "a.jpg,1"], "no column for the longitude"),
        (["image,lat,lon", "a.jpg,91,0"], "im2gps_places365.csv:2: 91.0, 0.0 are not valid coordinates"),
        (["image,lat,lon", "a.jpg,nan,0"], "nan, 0.0 are not valid coordinates"),
        (["image,lat,lon", "a.jpg,north,0"], "which is not a number"),
        (["image,lat,lon", "a.jpg,1"], "im2gps_places365.csv:2 has 2 fields, the header has 3"),
        (["image,lat,lon", "../../a.jpg,1,2"], "leads out"),
        (["image,lat,lon"], "has no rows"),
    ],
)
def test_im2gps_damaged_tables(tmp_path, rows, problem):
    folder = made("IM2GPS", tmp_path)
    write(folder / "im2gps_places365.csv", rows)
    with pytest.raises(DataError, match=problem):
        opened("IM2GPS", tmp_path)


def test_ayahoo_by_its_list_and_by_its_file_names(tmp_path):
    folder = made("aYahoo", tmp_path)
    expected = [
        (f"ayahoo_test_images/{name}.jpg", label) for name, label in (("bag_227", 0), ("jetski_3", 6), ("zebra_1", 11))
    ]
    assert labels("aYahoo", tmp_path) == expected
    table = folder / "attribute_data/ayahoo_test.txt"
    write(table, ["bag_227.jpg bag 1 1 2 2", "bag_227.jpg mug 1 1 2 2"])
    with pytest.raises(DataError, match="two classes, bag and mug"):
        opened("aYahoo", tmp_path)
    write(table, ["bag_227.jpg purse 1 1 2 2"])
    with pytest.raises(DataError, match="of class 'purse'"):
        opened("aYahoo", tmp_path)
    table.unlink()
    assert labels("aYahoo", tmp_path) == expected
    (folder / "ayahoo_test_images").rename(tmp_path / "ayahoo")
    (tmp_path / "aYahoo/attribute_data").rmdir()
    (tmp_path / "aYahoo").rmdir()
    (tmp_path / "ayahoo").rename(tmp_path / "aYahoo")
    assert [key for key, _ in labels("aYahoo", tmp_path)] == ["bag_227.jpg", "jetski_3.jpg", "zebra_1.jpg"]


def test_sun_has_723_classes_named_by_their_folders(tmp_path):
    folder = made("SUN", tmp_path)
    benchmark = open_card(CARDS["SUN"], tmp_path)
    assert benchmark.class_names[:3] == ("apse indoor", "apse outdoor", "class 000")
    items = opened("SUN", tmp_path)
    assert [item.label for item in items] == list(range(723))
    (folder / "images/a/apse/indoor/1.jpg").unlink()
    with pytest.raises(DataError, match="has 722 folders with images, the paper's SUN has 723 classes"):
        opened("SUN", tmp_path)


@pytest.mark.parametrize(
    "name", ["/a.jpg", "../a.jpg", "a/../../b.jpg", "", "..\\a.jpg", "C:\\a.jpg", "http://x/a.jpg"]
)
def test_names_that_lead_out_of_the_folder(name):
    with pytest.raises(DataError, match="leads out of the set's folder"):
        inside(name, "a list")


def test_names_inside_the_folder():
    assert inside("a/./b..c/d.jpg", "a list") == "a/b..c/d.jpg"
    assert inside("a\\b.jpg", "a list") == "a/b.jpg"


def test_a_damaged_picture_is_broken_when_it_is_decoded_not_here(tmp_path):
    folder = made("Flickr30k", tmp_path)
    picture(folder / "flickr30k-images/100003.jpg")
    (folder / "flickr30k-images/100004.jpg").unlink()
    first, second = opened("Flickr30k", tmp_path)
    assert first.key.endswith("3.jpg") and isinstance(second, Broken) and "no such file" in second.reason.lower()
