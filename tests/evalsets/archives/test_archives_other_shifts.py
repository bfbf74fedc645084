"""The natural shifts of ImageNet, as they are unpacked."""

import json
import re
from pathlib import Path

import pytest
from miniatures_other import labels, made, opened, picture, write_json

import diptych
from diptych.errors import DataError, InputError
from diptych.evalsets import get_prompts
from diptych.evalsets.archives.objects import without_border
from diptych.evalsets.cards import CARDS
from diptych.evalsets.imagenet_classes import object_net_names, shift_classes, wordnet_ids, wordnet_index, youtube_ids
from diptych.evalsets.opening import open_card
from diptych.records import Broken


def test_wordnet_ids_are_a_thousand_in_sorted_order():
    ids = wordnet_ids()
    assert len(set(ids)) == 1000 and list(ids) == sorted(ids)
    assert all(re.fullmatch("n[0-9]{8}", one) for one in ids)
    names = get_prompts("ImageNet").class_names
    known = {"n01440764": "tench", "n02099601": "Golden Retriever", "n07753275": "pineapple", "n02504458": "elephant"}
    for wordnet_id, name in known.items():
        assert name in names[wordnet_index()[wordnet_id]][0]


def test_the_lists_say_at_their_top_where_they_come_from():
    assets = Path(diptych.__file__).parent / "assets"
    top = (assets / "imagenet_wnids.txt").read_text().split("\nn01440764")[0]
    assert "# Source: " in top and "# Terms: " in top
    for name in ("imagenet_shifts.jsonl", "prompts.jsonl"):
        with (assets / name).open(encoding="utf-8") as file:
            assert json.loads(next(file))["source"]


@pytest.mark.parametrize(
    ("name", "classes", "members"),
    [
        ("ImageNetV2", 1000, 1000),
        ("ImageNet-Sketch", 1000, 1000),
        ("ImageNet-A", 200, 200),
        ("ImageNet-R", 200, 200),
        ("ObjectNet", 113, None),
        ("ImageNet-Vid", 30, None),
        ("Youtube-BB", 19, None),
    ],
)
def test_shift_classes(name, classes, members):
    found = shift_classes(name)
    assert len(found) == classes == CARDS[name].num_classes == len(get_prompts(CARDS[name].prompts).class_names)
    assert all(one and all(0 <= index < 1000 for index in one) for one in found)
    assert members is None or sum(map(len, found)) == members
    if members == 200:  # the order of sorted WordNet ids is that of the class indices
        assert list(found) == sorted(found)


def test_shift_classes_of_a_set_that_is_none():
    with pytest.raises(InputError, match="'CIFAR10' is no natural shift of ImageNet known here; there are ImageNetV2"):
        shift_classes("CIFAR10")
    assert len(youtube_ids()) == 19 and len(object_net_names()) == 113


def test_imagenet_v2_folders_are_numbers(tmp_path):
    folder = made("ImageNetV2", tmp_path)
    assert dict(labels("ImageNetV2", tmp_path)) == {"0/a.jpeg": 0, "2/a.jpeg": 2, "10/a.jpeg": 10, "999/a.jpeg": 999}
    picture(folder / "imagenetv2-matched-frequency-format-val/1000/a.jpeg")
    with pytest.raises(DataError, match="folder 1000, which is none of the set's 1000 classes"):
        opened("ImageNetV2", tmp_path)


@pytest.mark.parametrize(
    ("name", "expected", "words"),
    [
        ("ImageNet-Sketch", [0, 999], ["tench", "toilet paper"]),
        ("ImageNet-A", [0, 198], ["stingray", "corn"]),
        ("ImageNet-R", [0, 199], ["goldfish", "acorn"]),
    ],
)
def test_wordnet_folders_count_the_shifts_own_classes(tmp_path, name, expected, words):
    made(name, tmp_path)
    found = [label for _, label in labels(name, tmp_path)]
    assert found == expected
    assert [open_card(CARDS[name], tmp_path).class_names[label] for label in found] == words


def test_a_class_that_imagenet_a_has_not(tmp_path):
    folder = made("ImageNet-A", tmp_path)
    picture(folder / "imagenet-a/n01440764/a.jpg")  # of ImageNet, but not of ImageNet-A
    with pytest.raises(DataError, match="n01440764, which is none of the set's 200 classes"):
        opened("ImageNet-A", tmp_path)


def test_object_net_without_its_border_and_without_classes_that_imagenet_does_not_know(tmp_path):
    folder = made("ObjectNet", tmp_path)
    items = opened("ObjectNet", tmp_path)
    assert [(item.key, item.label) for item in items] == [("alarm_clock/1.png", 0), ("wok/1.png", 112)]
    assert all(item.image.shape == (6, 8, 3) and (item.image == 90).all() for item in items)
    (folder / "objectnet-1.0/images/wok/1.png").write_bytes(b"no picture")
    assert isinstance(opened("ObjectNet", tmp_path)[1], Broken)
    picture(folder / "objectnet-1.0/images/wok/2.png", size=4)
    with pytest.raises(DataError, match="smaller than its border"):
        without_border(folder / "objectnet-1.0/images/wok/2.png")
    (folder / "objectnet-1.0/images/spork").mkdir()
    with pytest.raises(DataError, match=r"folders that folder_to_objectnet_label.json does not list: spork"):
        opened("ObjectNet", tmp_path)
    mapping = folder / "objectnet-1.0/mappings/folder_to_objectnet_label.json"
    write_json(mapping, {"wok": "Wok"})
    with pytest.raises(DataError, match="is damaged: it should name"):
        opened("ObjectNet", tmp_path)
    mapping.unlink()
    with pytest.raises(DataError, match=r"lacks mappings/folder_to_objectnet_label.json or"):
        opened("ObjectNet", tmp_path)


def test_imagenet_vid_anchors_and_neighbours(tmp_path):
    folder = made("ImageNet-Vid", tmp_path)
    items = opened("ImageNet-Vid", tmp_path)
    zebra, first = "val/ILSVRC2015_val_00000000/000442.JPEG", "val/ILSVRC2015_val_00000001/000020.JPEG"
    assert [(item.key, item.label, dict(item.metadata)) for item in items] == [
        (zebra, 29, {"anchor": zebra, "offset": 0, "labels": (29,)}),
        (f"{zebra}-10", 29, {"anchor": zebra, "offset": -10, "labels": (29, 8)}),
        (first, 4, {"anchor": first, "offset": 0, "labels": (4,)}),
        (f"{first}-1", 4, {"anchor": first, "offset": -1, "labels": (4,)}),
        (f"{first}+1", 4, {"anchor": first, "offset": 1, "labels": (4,)}),
    ]
    names = open_card(CARDS["ImageNet-Vid"], tmp_path).class_names
    assert (names[29], names[8], names[4]) == ("zebra", "dog", "bird")
    (folder / zebra).unlink()
    assert [isinstance(item, Broken) for item in opened("ImageNet-Vid", tmp_path)] == [True, False, False, False, False]


@pytest.mark.parametrize(
    ("sets", "valid", "problem"),
    [
        ({"val/a/1.JPEG": ["val/a/2.JPEG"]}, {"val/a/1.JPEG": [3]}, "val/a/2.JPEG is missing"),
        ({"val/a/1.JPEG": []}, {"val/a/1.JPEG": [30]}, "not labels from 0 to 29"),
        ({"val/a/1.JPEG": []}, {"val/a/1.JPEG": []}, "has no label"),
        ({"val/a/1.JPEG": ["val/a/1.JPEG"]}, {"val/a/1.JPEG": [1]}, "a frame is listed twice"),
        ({"val/a/b.JPEG": []}, {"val/a/b.JPEG": [1]}, None),
        ({"../1.JPEG": []}, {"../1.JPEG": [1]}, "leads out"),
        ({"val/a/1.JPEG": "val/a/2.JPEG"}, {}, "should be a list"),
        ([], {}, "should be objects"),
        ({}, {}, "lists no frames"),
    ],
)
def test_imagenet_vid_damaged_annotations(tmp_path, sets, valid, problem):
    folder = made("ImageNet-Vid", tmp_path)
    write_json(folder / "metadata/pmsets.json", sets)
    write_json(folder / "metadata/labels.json", valid)
    if problem is None:  # an anchor without neighbours needs no number
        assert len(opened("ImageNet-Vid", tmp_path)) == 1
        return
    with pytest.raises(DataError, match=problem):
        opened("ImageNet-Vid", tmp_path)


def test_youtube_bb_as_its_annotators_left_it(tmp_path):
    made("Youtube-BB", tmp_path)
    items = opened("Youtube-BB", tmp_path)
    anchor = "car_1000/frame-30.jpg"
    person, car = 0, 18  # Youtube-BB's numbers 0 and 23; the table of first labels calls the car 22
    assert [(item.key, dict(item.metadata)) for item in items] == [
        (anchor, {"anchor": anchor, "offset": 0, "labels": (person, car)}),
        (f"{anchor}-1", {"anchor": anchor, "offset": -1, "labels": (person, car)}),
    ]
    names = open_card(CARDS["Youtube-BB"], tmp_path).class_names
    assert (names[person], names[car]) == ("person", "car")


def test_youtube_bb_as_anchors_and_neighbours_with_numbers_of_its_own(tmp_path):
    frame = tmp_path / "Youtube-BB/val/x_1/frame-7.jpg"
    picture(frame)
    write_json(tmp_path / "Youtube-BB/metadata/pmsets.json", {"val/x_1/frame-7.jpg": []})
    write_json(tmp_path / "Youtube-BB/metadata/labels.json", {"val/x_1/frame-7.jpg": [6, 7]})
    (item,) = opened("Youtube-BB", tmp_path)
    assert item.metadata["labels"] == (6,)  # the giraffe, 6, is none of ImageNet's; the cat, 7, is our class 6
    assert open_card(CARDS["Youtube-BB"], tmp_path).class_names[6] == "cat"
    assert item.label == 6


def test_youtube_bb_damaged_annotations(tmp_path):
    folder = made("Youtube-BB", tmp_path)
    path = folder / "metadata/pmk_labels.json"
    parsed = json.loads(path.read_text())
    write_json(path, {**parsed, "labels": ["correct"]})
    with pytest.raises(DataError, match=r"pmk_labels.json is damaged"):
        opened("Youtube-BB", tmp_path)
