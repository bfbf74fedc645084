"""KITTI, Country211, PatchCamelyon, CLEVR Counts, Hateful Memes, Rendered SST2 and ImageNet, as they are unpacked."""

import gzip
import json

import miniatures
import numpy as np
import pytest
from miniatures_other import (
    LABEL,
    MINIATURES,
    imagenet_flat,
    imagenet_kaggle,
    labels,
    made,
    opened,
    pcam,
    picture,
    write,
    write_json,
)

from diptych.errors import DataError
from diptych.evalsets import get_prompts
from diptych.evalsets.archive_registry import LAYOUTS
from diptych.evalsets.archives.driving import vehicle_distance
from diptych.evalsets.cards import CARDS
from diptych.evalsets.opening import open_card
from diptych.records import Broken


@pytest.mark.parametrize("name", MINIATURES)
def test_each_set_is_read_from_its_original_archive_and_always_alike(name, tmp_path):
    made(name, tmp_path)
    assert any(layout.fits(tmp_path / name) for layout in LAYOUTS[name])
    first, again = (open_card(CARDS[name], tmp_path) for _ in range(2))
    assert first.fingerprint == again.fingerprint
    assert first.card is CARDS[name] and first.name == name
    keys = [item.key for item in opened(name, tmp_path)]
    assert keys and len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", MINIATURES)
def test_a_split_that_the_set_has_not_is_an_error_that_names_those_it_has(name, tmp_path):
    made(name, tmp_path)
    with pytest.raises(DataError, match=r"has no split 'dev'.* it has: "):
        open_card(CARDS[name], tmp_path, "dev")


def test_kitti_classes_are_distances_to_the_nearest_vehicle(tmp_path):
    made("KITTI", tmp_path)
    found = labels("KITTI", tmp_path, "train") + labels("KITTI", tmp_path, "test")
    assert sorted(found) == [(f"training/image_2/{n:06d}.png", n % 4) for n in range(12)]
    assert "no car" in get_prompts("KITTI").class_names[3][0]


@pytest.mark.parametrize(("depth", "label"), [(8.0, 0), (8.01, 1), (20.0, 1), (20.01, 2), (-1.0, 0)])
def test_kitti_bounds_belong_to_the_nearer_class(tmp_path, depth, label):
    write(tmp_path / "a.txt", [LABEL.format(kind="Van", depth=depth), LABEL.format(kind="Tram", depth=1.0)])
    assert vehicle_distance(tmp_path / "a.txt") == label


@pytest.mark.parametrize(
    "line", ["Car 0.00 0", LABEL.format(kind="Car", depth="near"), LABEL.format(kind="Cat", depth=1)]
)
def test_kitti_damaged_labels_are_named(tmp_path, line):
    folder = made("KITTI", tmp_path)
    write(folder / "training/label_2/000000.txt", [LABEL.format(kind="Car", depth=1), line])
    with pytest.raises(DataError, match=r"000000.txt:2 is no label"):
        opened("KITTI", tmp_path, "train")


def test_kitti_drives_stay_together_where_the_mapping_is_there(tmp_path):
    folder = made("KITTI", tmp_path)
    # Picture n is line 12 - n of the mapping, so pictures 11 and 10 are of drive a, and so on.
    write(folder / "mapping/train_rand.txt", ",".join(str(12 - number) for number in range(12)))
    write(folder / "mapping/train_mapping.txt", [f"2011_09_26 {'abcdef'[line // 2]} {line:010d}" for line in range(12)])
    test = {int(key[-8:-4]) for key, _ in labels("KITTI", tmp_path, "test")}
    drive = np.random.RandomState(123).choice(list("abcdef"), 1, replace=False)[0]
    assert test == {11 - 2 * "abcdef".index(drive), 10 - 2 * "abcdef".index(drive)}
    assert len(labels("KITTI", tmp_path, "train")) == 10
    write(folder / "mapping/train_rand.txt", "1,2,3")
    with pytest.raises(DataError, match="mapping does not belong"):
        opened("KITTI", tmp_path)


def test_kitti_without_pictures(tmp_path):
    write(tmp_path / "KITTI/training/label_2/000000.txt", [LABEL.format(kind="Car", depth=1)])
    with pytest.raises(DataError, match="lacks training/image_2"):
        opened("KITTI", tmp_path)


def test_country211_counts_by_iso_code(tmp_path):
    folder = made("Country211", tmp_path)
    names = [several[0] for several in get_prompts("Country211").class_names]
    found = [names[label] for _, label in labels("Country211", tmp_path)]
    assert found == ["Andorra", "United Arab Emirates", "United States", "Zimbabwe"]
    assert len(labels("Country211", tmp_path, "val")) == 2
    picture(folder / "test/XX/1.jpg")
    with pytest.raises(DataError, match="folder XX, which is none of the set's 211 classes"):
        opened("Country211", tmp_path)


def test_pcam_is_read_slice_by_slice(tmp_path):
    made("PCam", tmp_path)
    items = opened("PCam", tmp_path)
    assert [(item.label, item.image.shape, item.image.max()) for item in items] == [
        (0, (8, 8, 3), 0),
        (1, (8, 8, 3), 1),
        (0, (8, 8, 3), 2),
    ]
    assert len(opened("PCam", tmp_path, "val")) == 2 and len(opened("PCam", tmp_path, "train")) == 4


def test_pcam_compressed_damaged_and_missing_files(tmp_path):
    folder = made("PCam", tmp_path)
    path = folder / "camelyonpatch_level_2_split_test_x.h5"
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(DataError, match=r"test_x.h5 is missing"):
        opened("PCam", tmp_path)
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match=r"still compressed; run: gunzip"):
        opened("PCam", tmp_path)
    path.write_bytes(content[:100])
    with pytest.raises(DataError, match="damaged, or no HDF5 file"):
        opened("PCam", tmp_path)
    pcam(folder, np.zeros((7, 8, 8, 3), np.uint8))
    with pytest.raises(DataError, match=r"\(7, 8, 8, 3\).* not RGB images for the 3 labels"):
        opened("PCam", tmp_path)


def test_clevr_counts_objects(tmp_path):
    folder = made("CLEVRCounts", tmp_path)
    names = [several[0] for several in get_prompts("CLEVRCounts").class_names]
    assert [names[label] for _, label in labels("CLEVRCounts", tmp_path, "train")] == ["3", "4", "5", "6", "7", "8"]
    assert [names[label] for _, label in labels("CLEVRCounts", tmp_path)] == ["10", "9", "3"]
    path = folder / "CLEVR_v1.0/scenes/CLEVR_val_scenes.json"
    path.write_text(path.read_text()[:-5])
    with pytest.raises(DataError, match=r"CLEVR_val_scenes.json is damaged and cannot be parsed"):
        opened("CLEVRCounts", tmp_path)
    write_json(path, {"scenes": [{"image_filename": "../../a.png", "objects": [{}] * 3}]})
    with pytest.raises(DataError, match="leads out of the set's folder"):
        opened("CLEVRCounts", tmp_path)
    write_json(path, {"scenes": [{"image_filename": "a.png", "objects": [{}] * 11}]})
    with pytest.raises(DataError, match=r"11.* objects; there should be 3 to 10"):
        opened("CLEVRCounts", tmp_path)
    write_json(path, {"scenes": [{"objects": []}]})
    with pytest.raises(DataError, match="should be a list of scenes"):
        opened("CLEVRCounts", tmp_path)


def test_clevr_draws_2000_and_500(tmp_path):
    for split in ("train", "val"):
        scenes = [{"image_filename": f"{split}{number}.png", "objects": [{}] * 5} for number in range(3000)]
        write_json(tmp_path / f"clevr/scenes/CLEVR_{split}_scenes.json", {"scenes": scenes})
        (tmp_path / f"clevr/images/{split}").mkdir(parents=True)
    card = CARDS["CLEVRCounts"]
    (tmp_path / "clevr").rename(tmp_path / card.name)
    for split, size in (("train", 2000), ("test", 500)):
        source = open_card(card, tmp_path, split).source
        found = [item for shard in range(len(source.shards)) for item in source.read(shard)]
        assert len(found) == size and all(isinstance(item, Broken) for item in found)  # no pictures are there


def test_hateful_memes_test_on_the_development_set(tmp_path):
    folder = made("HatefulMemes", tmp_path)
    assert labels("HatefulMemes", tmp_path) == [("img/42956.png", 1), ("img/42957.png", 0)]
    assert len(labels("HatefulMemes", tmp_path, "train")) == 3
    (folder / "dev.jsonl").rename(folder / "dev_seen.jsonl")
    assert len(labels("HatefulMemes", tmp_path)) == 2
    (folder / "img/42957.png").unlink()
    assert isinstance(opened("HatefulMemes", tmp_path)[1], Broken)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ('{"img": "img/1.png", "label": 2}', "the label is 2"),
        ('{"img": "img/1.png"}', "label is missing"),
        ('{"img": "/etc/passwd", "label": 1}', "leads out"),
        ('{"img": "img/1.png", "label":', "is not JSON"),
        (json.dumps([1, 2]), "label is missing"),
    ],
)
def test_hateful_memes_damaged_rows(tmp_path, row, problem):
    folder = made("HatefulMemes", tmp_path)
    write(folder / "dev.jsonl", ['{"img": "img/42956.png", "label": 1}', "", row])
    with pytest.raises(DataError, match=f"dev.jsonl:3.*{problem}"):
        opened("HatefulMemes", tmp_path)


def test_rendered_sst2(tmp_path):
    folder = made("RenderedSST2", tmp_path)
    for split in ("train", "val", "test"):
        assert labels("RenderedSST2", tmp_path, split) == [("negative/0000.png", 0), ("positive/0000.png", 1)]
    (folder / "valid").rename(folder / "elsewhere")
    with pytest.raises(DataError, match=r"there is no folder .*valid"):
        opened("RenderedSST2", tmp_path, "val")


def test_imagenet_folders_count_by_wordnet_id_however_many_are_there(tmp_path):
    folder = made("ImageNet", tmp_path)
    for split in ("train", "test"):
        assert [label for _, label in labels("ImageNet", tmp_path, split)] == [0, 207, 999]
    names = open_card(CARDS["ImageNet"], tmp_path).class_names
    assert (names[0], names[207], names[999]) == ("tench", "Golden Retriever", "toilet paper")
    picture(folder / "val/n00000001/a.JPEG")
    with pytest.raises(DataError, match="n00000001, which is none of the set's 1000 classes"):
        opened("ImageNet", tmp_path)


def test_imagenet_flat_validation_pictures_by_the_development_kits_own_numbers(tmp_path):
    folder = tmp_path / "ImageNet"
    imagenet_flat(folder)
    expected = [(f"val/ILSVRC2012_val_{n:08d}.JPEG", label) for n, label in ((1, 212), (2, 278), (3, 212))]
    assert labels("ImageNet", tmp_path) == expected
    kit = folder / "ILSVRC2012_devkit_t12/data"
    (kit / "meta.mat").write_bytes(b"no table")
    with pytest.raises(DataError, match=r"meta.mat cannot be read"):
        opened("ImageNet", tmp_path)
    (kit / "meta.mat").unlink()
    with pytest.raises(DataError, match=r"lacks meta.mat or map_clsloc.txt"):
        opened("ImageNet", tmp_path)
    write(kit / "map_clsloc.txt", ["n02119789 1 kit_fox", "n02100735 2 English_setter"])
    assert labels("ImageNet", tmp_path) == expected
    write(kit / "ILSVRC2012_validation_ground_truth.txt", "2\n1001\n")
    with pytest.raises(DataError, match=r"ground_truth.txt:2: '1001' is not a class"):
        opened("ImageNet", tmp_path)
    with pytest.raises(DataError, match=r"there is no folder .*train"):
        opened("ImageNet", tmp_path, "train")


def test_imagenet_from_kaggle(tmp_path):
    folder = tmp_path / "ImageNet"
    imagenet_kaggle(folder)
    base = "ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_0000000"
    assert labels("ImageNet", tmp_path) == [(f"{base}1.JPEG", 1), (f"{base}2.JPEG", 999)]
    assert labels("ImageNet", tmp_path, "train") == [("n01440764/n01440764_1.JPEG", 0)]
    write(folder / "LOC_val_solution.csv", ["ImageId,PredictionString", "../../x,n15075141 1 2 3 4"])
    with pytest.raises(DataError, match=r"LOC_val_solution.csv:2: .* is not a validation image"):
        opened("ImageNet", tmp_path)


def test_stl10_folds_are_opened_by_number(tmp_path):
    miniatures.build("STL10", tmp_path / "STL10")
    whole, first = (len(opened("STL10", tmp_path, "train", fold=fold)) for fold in (None, 1))
    assert 0 < first < whole
    with pytest.raises(DataError, match="has the folds 1 to 10, not 11"):
        opened("STL10", tmp_path, "train", fold=11)
