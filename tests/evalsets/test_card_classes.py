"""Class lists of copies, matched with the card's by what the classes are called; names for WordNet ids; ObjectNet."""

import dataclasses
import io
import random

import numpy as np
import pytest
from PIL import Image
from test_cards_parquet import read, write

from diptych.data.decoding import decode_image
from diptych.data.shards import write_shards
from diptych.errors import DataError
from diptych.evalsets.archives.objects import without_border
from diptych.evalsets.benchmark import check_benchmark, open_benchmark
from diptych.evalsets.cards import CARDS
from diptych.evalsets.classes import labels_are_the_cards, match_alike, match_classes
from diptych.evalsets.imagenet_classes import object_net_names, synonyms, wordnet_ids
from diptych.evalsets.opening import open_card
from diptych.evalsets.prompts import get_prompts
from diptych.evaluate.tasks.task import with_classes_of
from diptych.evaluate.tasks.zero_shot import protocol_scores, words
from diptych.records import Sample

ROWS = sorted({card.prompts for card in CARDS.values() if card.prompts})
PHOTO = "a photo of a {c}."


def png(colour: tuple[int, int, int] = (0, 0, 0), size: int = 8) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(stream, "PNG")
    return stream.getvalue()


def wds(folder, names, labels=(0,), templates=(PHOTO,), pictures=()):
    samples = [Sample(f"s{n}", picture, (), n) for n, picture in enumerate(pictures)]
    samples += [Sample(f"s{n}", png((n, 0, 0)), (), label) for n, label in enumerate(() if pictures else labels)]
    write_shards(samples, folder / "test", shard_size=10)
    (folder / "classnames.txt").write_text("\n".join(names), "utf-8")
    (folder / "zeroshot_classification_templates.txt").write_text("\n".join(templates), "utf-8")
    return folder


def folders(folder, names, split="test"):
    for name in names:
        path = folder / split / name / "a.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(png())
    return folder


def labels_of(benchmark):
    return [item.label for item in read(benchmark)]


def shuffled(count: int) -> list[int]:
    return random.Random(1).sample(range(count), count)


# ------------------------------------------------------------------ which class is meant


@pytest.mark.parametrize("row", ROWS)
def test_the_cards_own_names_in_any_order(row):
    names = [several[-1].upper().replace(" ", "_") for several in get_prompts(row).class_names]
    order = shuffled(len(names))
    found = match_classes(row, [names[place] for place in order])
    told = {place for place in range(len(names)) if names.count(names[place]) == 1}
    assert [one for one, place in zip(found, order, strict=True) if place in told] == [
        place for place in order if place in told
    ]
    assert match_classes(row, names) == tuple(range(len(names)))
    if len(told) == len(names):
        assert match_classes(row, names[1:]) == tuple(range(1, len(names)))


def test_imagenet_by_wordnet_ids_and_by_wordnets_names():
    assert synonyms()[0] == "tench, Tinca tinca" and len(synonyms()) == 1000
    order = shuffled(1000)
    assert match_classes("ImageNet", [wordnet_ids()[place] for place in order]) == tuple(order)
    # As the hub's ImageNet has them: two are "crane", told by their places alone where all others are in theirs.
    assert match_classes("ImageNet", synonyms()) == tuple(range(1000))
    found = match_classes("ImageNet", [synonyms()[place] for place in order])
    assert {synonyms()[place] for one, place in zip(found, order, strict=True) if one != place} == {"crane"}
    # The first synonym alone: "maillot" twice, "Cardigan" (a dog) and "cardigan".
    assert match_classes("ImageNet", [names.split(",")[0] for names in synonyms()]) == tuple(range(1000))
    assert match_classes("ImageNet-R", ["Carassius auratus", "n12267677", "tiger cat"]) == (0, 199, None)


def test_classes_that_the_card_calls_by_one_name_are_matched_in_the_sets_order():
    names = [several[0] for several in get_prompts("ImageNet").class_names]
    order = shuffled(1000)
    written = [names[place] for place in order]
    found, ambiguous = match_alike("ImageNet", written, match_classes("ImageNet", written))
    pairs = {657: 744, 744: 657, 836: 837, 837: 836}  # missiles, sunglasses
    assert sorted(found) == list(range(1000)) and {label for label, _ in ambiguous} == set(pairs)
    assert all(one in (place, pairs.get(place)) for one, place in zip(found, order, strict=True))
    assert all(found[place] == label for label, place in ambiguous)
    # One of them alone may be either; two cranes that the card calls otherwise may not be exchanged.
    alone = [name for name in written if name != "missile"] + ["missile"]
    assert match_alike("ImageNet", alone, match_classes("ImageNet", alone))[0][-1] is None
    cranes = [synonyms()[place] for place in order]
    assert match_alike("ImageNet", cranes, match_classes("ImageNet", cranes)) == (match_classes("ImageNet", cranes), ())


def test_what_a_name_that_is_no_class_may_mean_is_said(tmp_path, caplog):
    order = shuffled(1000)
    folder = wds(tmp_path / "ImageNet", [synonyms()[place] for place in order])
    found = open_card(CARDS["ImageNet"], tmp_path)
    assert "is 'crane', which may be any of 'crane bird' (134), 'construction crane' (517)" in found.differs
    names = [several[0] for several in get_prompts("ImageNet").class_names]
    (folder / "classnames.txt").write_text("\n".join([*names[:1], "tench", *names[2:]]))
    assert "is not the only one that names 'tench'" in open_card(CARDS["ImageNet"], tmp_path).differs


def test_names_of_archives_numbers_and_other_copies():
    assert match_classes("EuroSAT", ["AnnualCrop", "Forest", "SeaLake"]) == (7, 0, 5)
    assert match_classes("Caltech101", ["BACKGROUND_Google", "Faces_easy"]) == (0, 2)
    assert match_classes("Country211", ["ZW", "Andorra"]) == (210, 0)
    assert match_classes("SVHN", ["zero", "two", "9"]) == (0, 2, 9)
    assert match_classes("CLEVRCounts", ["three", "4", "ten"]) == (1, 2, 0)
    assert match_classes("FER2013", ["smiling", "Neutral", "fearful"]) == (3, 6, 2)
    assert match_classes("GTSRB", ["00010", "00002", "7"]) == (10, 2, 7)
    assert match_classes("ImageNet", [str(n) for n in sorted(range(1000), key=str)])[2] == 10
    assert match_classes("CIFAR10", ["an airplane", "The_Cat", "a dog."]) == (0, 3, 5)
    assert match_classes("CIFAR10", ["cat", "a cat"]) == (None, None)
    assert match_classes("EuroSAT", ["0", "1"]) == (None, None)  # which order is meant nobody knows


def test_what_is_none_of_the_classes_and_what_is_one_twice():
    names = [several[0] for several in get_prompts("CIFAR10").class_names]
    assert match_classes("CIFAR10", [*names[:3], "tiger", *names[4:]]) == (0, 1, 2, None, 4, 5, 6, 7, 8, 9)
    assert match_classes("CIFAR10", ["cat", "Cat", "dog"]) == (None, None, 5)
    assert match_classes("CIFAR10", ["кот", "犬"]) == (None, None)


def test_labels_without_names():
    assert labels_are_the_cards("MNIST") and labels_are_the_cards("Food101") and labels_are_the_cards("ImageNet")
    # The table's order is not the alphabet's, in which folders are read.
    assert not labels_are_the_cards("EuroSAT") and not labels_are_the_cards("CLEVRCounts")


# ------------------------------------------------------------------ sets under their cards


def test_a_class_that_is_missing_leaves_the_others_in_their_places(tmp_path, caplog):
    names = [several[0] for several in get_prompts("CIFAR10").class_names]
    wds(tmp_path / "cifar10", ["truck", *names[1:9]], [0, 1, 8])
    found = open_card(CARDS["CIFAR10"], tmp_path)
    assert labels_of(found) == [9, 1, 8] and found.class_names == tuple(names)
    assert found.absent == ("airplane",) and "lacks 1 of its classes: airplane" in caplog.text


def test_a_class_of_another_name_keeps_the_sets_names_and_says_so(tmp_path):
    names = [several[0] for several in get_prompts("ImageNet").class_names]
    wds(tmp_path / "ImageNet", [*names[:5], "blorb", *names[6:]], [5])
    found = open_card(CARDS["ImageNet"], tmp_path)
    assert found.class_names[5] == "blorb" and labels_of(found) == [5]
    assert (
        found.differs
        == "its class 5 is 'blorb', which names none of the 1000 classes; of those 'electric ray' is missing"
    )
    assert found.single == PHOTO and found.templates[0] == "a bad photo of a {c}."


def test_sets_that_are_refused(tmp_path):
    names = [several[0] for several in get_prompts("CIFAR10").class_names]
    wds(tmp_path / "cifar10", [*names[:8], "tiger"])
    with pytest.raises(
        DataError, match=r"has 10 classes, but cifar10 has 9: is it another set\? \(its class 8 is 'tiger'"
    ):
        open_card(CARDS["CIFAR10"], tmp_path)
    wds(tmp_path / "HatefulMemes", ["harmless", "hateful"])  # the area under the curve rests on which one is the second
    with pytest.raises(DataError, match="write the paper's class names, in the order of the labels"):
        open_card(CARDS["HatefulMemes"], tmp_path)
    wds(tmp_path / "VOC2007", [several[0] for several in get_prompts("VOC2007").class_names])
    with pytest.raises(DataError, match="several classes each"):
        open_card(CARDS["VOC2007"], tmp_path)


@pytest.fixture
def parquet(tmp_path):
    write(tmp_path / "EuroSAT" / "test.parquet", list(range(10)))
    return tmp_path


def test_numbers_that_may_mean_two_orders_are_refused(parquet):
    with pytest.raises(DataError, match="classes are numbered in several ways; write the names"):
        open_card(CARDS["EuroSAT"], parquet)
    names = "AnnualCrop Forest HerbaceousVegetation Highway Industrial Pasture PermanentCrop Residential River SeaLake"
    (parquet / "EuroSAT" / "classnames.txt").write_text("\n".join(names.split()))
    assert labels_of(open_card(CARDS["EuroSAT"], parquet)) == [7, 0, 6, 9, 8, 4, 1, 2, 3, 5]
    (parquet / "EuroSAT" / "classnames.txt").write_text("\n".join(map(str, range(10))))
    with pytest.raises(DataError, match="its class 0 is '0', which names none of the 10 classes"):
        open_card(CARDS["EuroSAT"], parquet)


# ------------------------------------------------------------------ one's own sets


def test_splits_are_matched_by_their_names(tmp_path):
    train, test = (
        open_benchmark(folders(tmp_path / "pets", names, split), split)
        for split, names in (("train", ("1", "10", "2")), ("test", ("2", "10")))
    )
    assert [train.class_names[label] for label in labels_of(with_classes_of(train, test))] == ["10", "2"]
    assert labels_of(with_classes_of(train, test)) == [1, 2] and with_classes_of(train, train) is train
    with pytest.raises(DataError, match="2 classes in test, 3 in train; class 0 in train is '1', unknown in test"):
        with_classes_of(test, train)


def test_wordnet_ids_have_names_and_other_codes_are_warned_of(tmp_path, caplog):
    ids = ("n01855672", "n02084071", "n03773504")  # dog is none of the 1,000; "goose" and "missile" are
    found = open_benchmark(folders(tmp_path / "own", ids))
    assert found.class_names == ("goose", "n02084071", "missile") and found.names_in_files == ids
    (tmp_path / "own" / "words.txt").write_text("n02084071\tdog, domestic dog\nn01855672\tgander\n")
    assert open_benchmark(tmp_path / "own").class_names == ("goose", "dog", "missile")
    for names in ((*ids[1:2], "n99999999"), ("class_1", "class_2"), ("001.Albatross", "002.Auklet"), ("7", "8")):
        caplog.clear()
        found = open_benchmark(folders(tmp_path / names[0], names))
        with pytest.raises(AttributeError):
            next(protocol_scores(None, found, None, ("ensemble",)))
        assert "look like codes" in caplog.text
    caplog.clear()
    with pytest.raises(AttributeError):
        digits = open_benchmark(wds(tmp_path / "digits", "78", templates=("the number {c}",)))
        next(protocol_scores(None, digits, None, ("ensemble",)))
    assert caplog.text == ""


def test_the_single_template_of_a_published_list(tmp_path):
    published = get_prompts("ImageNet").templates
    found = open_benchmark(wds(tmp_path / "own", ["cat", "dog"], templates=published))
    assert found.templates[0] == "a bad photo of a {c}." and found.single == PHOTO
    assert words(found, "single").ensembles == ((PHOTO,),)
    assert open_benchmark(wds(tmp_path / "two", ["cat", "dog"], templates=published[:7])).single is None


def test_imagenets_words_by_each_protocol(tmp_path):
    """Section 3.1.4: one prompt alone is "a photo of a", not the first of the 80 that are averaged."""
    names = [several[0] for several in get_prompts("ImageNet").class_names]
    wds(tmp_path / "ImageNet", names, [0])
    found = open_card(CARDS["ImageNet"], tmp_path)
    single, ensemble, bare, probability = (words(found, one) for one in ("single", "ensemble", "names", "probability"))
    assert single.ensembles == ((PHOTO,),) and bare.ensembles == (("{c}",),)
    assert len(ensemble.ensembles) == 1 and len(ensemble.ensembles[0]) == 80
    assert ensemble.ensembles[0][0] == "a bad photo of a {c}." and PHOTO in ensemble.ensembles[0]
    assert probability.ensembles == tuple((template,) for template in ensemble.ensembles[0])
    assert single.names == ensemble.names == probability.names == get_prompts("ImageNet").class_names
    assert bare.names == tuple((name,) for name in names)


def test_splits_are_matched_even_by_names_that_are_no_text(tmp_path):
    names = ["cat", "d\udcffg"]
    source = open_benchmark(wds(tmp_path / "set", ["one", "two"], [0, 1])).source
    first = check_benchmark("set", "train", names, (PHOTO,), source, [("cat", "puss"), (names[1],)])
    first = dataclasses.replace(first, names_in_files=tuple(names), differs="it has a cat")
    other = check_benchmark("set", "test", names[::-1], (PHOTO,), source)
    second = with_classes_of(first, other)
    assert second.class_names == tuple(names) and labels_of(second) == [1, 0]
    assert (second.names, second.names_in_files, second.differs) == (first.names, first.names_in_files, first.differs)
    assert second.names[0] == ("cat", "puss")
    assert len({first.fingerprint, other.fingerprint, second.fingerprint}) == 3  # none of their vectors' labels fit


# ------------------------------------------------------------------ ObjectNet's border


@pytest.mark.parametrize("format", ["PNG", "WEBP", "JPEG"])
def test_object_net_has_no_border_in_any_form(tmp_path, format):
    grey = np.random.default_rng(0).integers(60, 200, (44, 60, 1), np.uint8).repeat(3, axis=2)
    framed = np.empty((48, 64, 3), np.uint8)
    framed[:], framed[2:-2, 2:-2] = (255, 0, 0), grey
    options = {"lossless": True} if format == "WEBP" else {"quality": 95}
    streams = [io.BytesIO() for _ in range(2)]
    for stream, pixels in zip(streams, (framed, grey), strict=True):
        Image.fromarray(pixels).save(stream, format, **options)
    names = [name.lower() for name in object_net_names()]
    folder = wds(tmp_path / "objectnet", names, pictures=[stream.getvalue() for stream in streams])
    for found in (open_card(CARDS["ObjectNet"], tmp_path), open_benchmark(folder)):
        cut, whole = read(found)
        (tmp_path / "a.png").write_bytes(streams[0].getvalue())
        assert np.array_equal(decode_image(cut.image), without_border(tmp_path / "a.png"))
        assert whole.image == streams[1].getvalue()
