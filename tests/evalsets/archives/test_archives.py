"""Every original archive in miniature: what is read, in which order, and what is said when something is missing."""

import pickle
import re
from pathlib import Path

import miniatures
import numpy as np
import pytest
from miniature_files import picture
from miniatures import MINIATURES

from diptych.data.source import Source
from diptych.errors import DataError
from diptych.evalsets import get_prompts
from diptych.evalsets.archive_registry import LAYOUTS
from diptych.evalsets.cards import get_card
from diptych.evalsets.opening import open_card
from diptych.evalsets.prompts import plain_name
from diptych.evalsets.set_sources import ListedSource
from diptych.records import Broken, Sample

NAMES = tuple(MINIATURES)
# Without one file that its reader needs: the file, and the word of the message.
MISSING = {
    "Food101": "meta/test.txt",
    "CIFAR10": "cifar-10-batches-bin/test_batch.bin",
    "CIFAR100": "cifar-100-binary/fine_label_names.txt",
    "Birdsnap": "test_images.txt",
    "SUN397": "Partitions/Testing_01.txt",
    "StanfordCars": "cars_test_annos_withlabels.mat",
    "FGVCAircraft": "fgvc-aircraft-2013b/data/images_variant_test.txt",
    "VOC2007": "VOCdevkit/VOC2007/ImageSets/Main/sofa_test.txt",
    "DTD": "dtd/labels/test1.txt",
    "OxfordPets": "annotations/test.txt",
    "Flowers102": "setid.mat",
    "MNIST": "t10k-labels-idx1-ubyte",
    "STL10": "stl10_binary/test_y.bin",
    "GTSRB": "GT-final_test.csv",
    "CIFAR10.1": "cifar10.1_v6_labels.npy",
    "SVHN": "test_32x32.mat",
    "IIIT5K": "IIIT5K/testdata.mat",
}
# Archives whose top folder may have been lost: that folder.
TOPS = {
    "CIFAR10": "cifar-10-batches-bin",
    "CIFAR100": "cifar-100-binary",
    "FGVCAircraft": "fgvc-aircraft-2013b/data",
    "VOC2007": "VOCdevkit/VOC2007",
    "DTD": "dtd",
    "Caltech101": "101_ObjectCategories",
    "STL10": "stl10_binary",
    "EuroSAT": "2750",
    "RESISC45": "NWPU-RESISC45",
    "IIIT5K": "IIIT5K",
}


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, miniatures.Expected]]:
    root = tmp_path_factory.mktemp("sets")
    return root, {name: miniatures.build(name, root / name) for name in NAMES}


def read(name: str, folder: Path, split: str) -> Source:
    layout = next(layout for layout in LAYOUTS[name] if layout.fits(folder))
    return layout.read(folder, split)


def items(source: Source) -> list[Sample | Broken]:
    return [item for shard in range(len(source.shards)) for item in source.read(shard)]


@pytest.mark.parametrize("name", NAMES)
def test_an_archive_has_these_samples_with_these_labels(trees, name):
    root, expected = trees
    for split, rows in expected[name].items():
        source = read(name, root / name, split)
        found = items(source)
        assert [item.label for item in found if isinstance(item, Sample)] == [label for _, label in rows]
        assert len({item.key for item in found}) == len(rows)
        if rows[0][0]:
            assert [item.key for item in found] == [key for key, _ in rows]
        if isinstance(source, ListedSource):
            assert [item.image for item in found] == [picture(item.key) for item in found]
        else:
            assert {(item.image.dtype, item.image.ndim, item.image.shape[2]) for item in found} == {
                (np.dtype("uint8"), 3, 3)
            }


@pytest.mark.parametrize("name", NAMES)
def test_the_splits_are_those_of_the_authors(trees, name):
    root, expected = trees
    assert set(expected[name]) == set(get_card(name).splits)
    for split in {"train", "val", "test", "dev"} - set(expected[name]):
        with pytest.raises(DataError, match=f"no split '{split}'; it has"):
            read(name, root / name, split)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_opened_as_a_card_with_the_cards_words(trees, name):
    root, expected = trees
    benchmark = open_card(get_card(name), root, "test")
    assert len([item for item in items(benchmark.source) if isinstance(item, Sample)]) == len(expected[name]["test"])
    if name != "IIIT5K":
        words = get_prompts({"CIFAR10.1": "CIFAR10"}.get(name, name))
        assert benchmark.class_names == tuple(several[0] for several in words.class_names)
        assert benchmark.templates == words.templates


@pytest.mark.parametrize("name", NAMES)
def test_a_source_can_go_to_a_worker_and_is_the_same_every_time(trees, name):
    root, expected = trees
    sources = [read(name, root / name, split) for split in ("test", "test", *expected[name])]
    assert all(pickle.dumps(source) for source in sources)
    fingerprints = [source.fingerprint for source in sources]
    assert fingerprints[0] == fingerprints[1]
    assert len(set(fingerprints)) == len(expected[name])


@pytest.mark.parametrize("name", MISSING)
def test_a_missing_file_is_named(tmp_path, name):
    miniatures.build(name, tmp_path / name)
    (tmp_path / name / MISSING[name]).unlink()
    with pytest.raises(DataError, match=re.escape(Path(MISSING[name]).name)):
        open_card(get_card(name), tmp_path, "test")


@pytest.mark.parametrize("name", TOPS)
def test_the_archives_top_folder_may_be_lost(trees, tmp_path, name):
    root, expected = trees
    (tmp_path / name).symlink_to(root / name / TOPS[name])
    assert [item.label for item in items(open_card(get_card(name), tmp_path, "test").source)] == [
        label for _, label in expected[name]["test"]
    ]


@pytest.mark.parametrize("name", ["Food101", "GTSRB", "StanfordCars", "IIIT5K"])
def test_a_missing_picture_is_counted_as_broken(tmp_path, name):
    (key, _), *_ = miniatures.build(name, tmp_path / name)["test"]
    (tmp_path / name / {"GTSRB": "GTSRB", "IIIT5K": "IIIT5K"}.get(name, "") / key).unlink()
    first, *others = items(open_card(get_card(name), tmp_path, "test").source)
    assert isinstance(first, Broken) and first.key == key
    assert others and all(isinstance(item, Sample) for item in others)


def test_the_names_of_the_miniatures_classes_are_the_tables():
    """The miniatures' own lists are in the prompts table's order: this is what their labels rely on."""
    same = [
        (folder, name)
        for folder, (name, *_) in zip(miniatures.CALTECH101, get_prompts("Caltech101").class_names, strict=True)
        if plain_name(folder) != plain_name(name)
    ]
    assert same == [
        ("BACKGROUND_Google", "background"),
        ("Faces", "off-center face"),
        ("Faces_easy", "centered face"),
        ("Leopards", "leopard"),
        ("Motorbikes", "motorbike"),
        ("airplanes", "airplane"),
        ("car_side", "side of a car"),
        ("cougar_body", "body of a cougar cat"),
        ("cougar_face", "face of a cougar cat"),
        ("crocodile_head", "head of a  crocodile"),
        ("flamingo_head", "head of a flamingo"),
        ("snoopy", "snoopy (cartoon beagle)"),
        ("yin_yang", "yin and yang symbol"),
    ]
    eurosat = zip(miniatures.EUROSAT, get_prompts("EuroSAT").class_names, strict=True)
    parts = {"SeaLake": "lake", "HerbaceousVegetation": "shrubland"}
    assert all(parts.get(folder, folder[:6].lower()) in name for folder, (name, *_) in eurosat)
