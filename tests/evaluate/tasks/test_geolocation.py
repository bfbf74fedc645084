"""Places of photographs by their nearest neighbours."""

import numpy as np
import pytest
from colours import NAMES, ColourEncoder, encoded, picture
from listed_sets import Listed
from PIL import Image

from diptych.errors import DataError, InputError, ShapeError
from diptych.evalsets import Card
from diptych.evalsets.archive_registry import LAYOUTS, Layout
from diptych.evalsets.opening import open_card
from diptych.evalsets.set_sources import Entry, ListedSource
from diptych.evaluate.encoded_set import Encoded, encode_set
from diptych.evaluate.metrics.geography import great_circle_km, share_within
from diptych.evaluate.metrics.similarity import nearest
from diptych.evaluate.metrics.statistics import clopper_pearson
from diptych.evaluate.tasks.geolocation import GEOLOCATION, distance_scores, same_pictures
from diptych.evaluate.tasks.task import Setting
from diptych.records import Broken, Sample

CARD = Card(
    name="IM2GPS",
    title="IM2GPS",
    task="geolocation",
    num_classes=0,
    splits={},
    metric="within_25_km",
    homepage="",
    split_rule="",
)
# Each colour has a place of its own.
PLACES = {colour: (10.0 * number - 30, 25.0 * number - 80) for number, colour in enumerate(NAMES)}


def test_the_nearest_neighbour_is_exact_in_every_block_size():
    rng = np.random.default_rng(0)
    queries, reference = rng.normal(size=(37, 8)).astype(np.float32), rng.normal(size=(211, 8)).astype(np.float32)
    whole = (queries.astype(np.float64) @ reference.astype(np.float64).T).argmax(axis=1)
    for block in (1, 5, 37, 1000):
        assert np.array_equal(nearest(queries, reference, block), whole)


def test_of_equal_neighbours_the_first_is_taken():
    reference = np.array([[0, 1], [1, 0], [0.6, 0.8], [1, 0], [0, 1]], np.float32)
    assert nearest(np.array([[1, 0], [0, 1], [0.7, 0.7]], np.float32), reference).tolist() == [1, 0, 2]


def test_items_that_are_not_to_be_found_are_as_if_they_were_not_there():
    rng = np.random.default_rng(1)
    queries, reference = rng.normal(size=(9, 4)).astype(np.float32), rng.normal(size=(40, 4)).astype(np.float32)
    without = rng.random(40) < 0.7
    without[:14] = True  # whole blocks of them
    kept = np.flatnonzero(~without)
    assert np.array_equal(nearest(queries, reference, without=without), kept[nearest(queries, reference[kept])])


def test_nothing_to_be_near_to_is_an_error():
    with pytest.raises(InputError, match="reference set is empty"):
        nearest(np.eye(2), np.eye(2), without=np.array([True, True]))
    with pytest.raises(InputError, match="reference set is empty"):
        nearest(np.eye(2), np.zeros((0, 2)))
    with pytest.raises(ShapeError, match="do not fit"):
        nearest(np.eye(2), np.eye(3))
    with pytest.raises(InputError, match="NaN"):
        nearest(np.eye(2), np.array([[1, np.nan]]))
    with pytest.raises(InputError, match="NaN"):
        nearest(np.array([[1, 0], [0, np.nan]]), np.eye(2))


def test_shares_and_median_are_those_of_the_distances():
    errors = np.array([0.5, 1.0, 20, 199, 700, 2400, 9000, 12000.0])
    found = distance_scores(errors)
    assert {f"within_{radius}_km": share for radius, share in share_within(errors).items()} == {
        name: score.value for name, score in found.items() if name.startswith("within")
    }
    assert found["within_1_km"].value == 2 / 8
    assert (found["within_200_km"].low, found["within_200_km"].high) == clopper_pearson(4, 8)
    median = found["median_error_km"]
    assert median.value == (199 + 700) / 2 and median.low <= median.value <= median.high
    assert distance_scores(errors) == found and {score.n for score in found.values()} == {8}
    assert distance_scores(np.array([3.0]))["median_error_km"].low is None
    assert distance_scores(np.array([3.0, 5.0]))["median_error_km"].low == 3
    assert distance_scores(np.zeros(2))["within_1_km"].value == 1  # just there


def test_the_interval_of_the_median_is_that_of_photographs_drawn_again(tmp_path, sets):
    errors = np.random.default_rng(0).exponential(100, 60)
    for seed in (0, 4):
        rng = np.random.default_rng(seed)
        values = [np.median(errors[rng.integers(60, size=60)]) for _ in range(2000)]
        found = distance_scores(errors, seed=seed)["median_error_km"]
        assert (found.low, found.high) == pytest.approx(np.quantile(values, [0.0025, 0.9975]))
    assert distance_scores(errors) == distance_scores(errors, seed=0) != distance_scores(errors, seed=1)
    sets["test"] = tuple(
        Entry(one.file, metadata={**one.metadata, "latitude": one.metadata["latitude"] + 0.3 * place**2})
        for place, one in enumerate(sets["test"])
    )
    medians = [GEOLOCATION.measure(PicturesOnly(), CARD, Setting(tmp_path, seed=seed)).results[-1] for seed in range(6)]
    assert len({(one.low, one.high) for one in medians}) > 1  # the task's seed is the one


@pytest.mark.parametrize("errors", [[], [1.0, float("nan")], [-1.0]])
def test_what_is_no_distance_is_an_error(errors):
    with pytest.raises(InputError, match="distances"):
        distance_scores(np.array(errors))


def write(folder, split, num, seed):
    """Photographs of coloured places; those of the test lie a little beside the reference's."""
    entries = []
    for number in range(num):
        colour = NAMES[number % len(NAMES)]
        name = f"{split}{number}.png"
        (folder / name).write_bytes(encoded(picture(colour, seed + number)))
        latitude, longitude = PLACES[colour]
        entries.append(Entry(name, metadata={"latitude": latitude + 0.05 * (split == "test"), "longitude": longitude}))
    return tuple(entries)


@pytest.fixture
def sets(tmp_path, monkeypatch):
    folder = tmp_path / "IM2GPS"
    folder.mkdir()
    entries = {"train": write(folder, "train", 35, 100), "test": write(folder, "test", 14, 900)}
    layout = Layout(lambda folder, split: ListedSource(folder, entries[split]), ("*.png",))
    monkeypatch.setitem(LAYOUTS, "IM2GPS", (layout,))
    return entries


class PicturesOnly:
    """Has pictures alone, no texts."""

    name = "pictures"

    def encode_images(self, pictures):
        return ColourEncoder().encode_images(pictures)


def test_the_task_places_pictures_where_their_neighbours_are(tmp_path, sets):
    results = GEOLOCATION.measure(PicturesOnly(), CARD, Setting(tmp_path)).results
    assert {(r.task, r.protocol, r.dataset, r.split, r.n) for r in results} == {
        ("geolocation", "nearest_neighbour", "IM2GPS", "test", 14)
    }
    values = {r.metric: r.value for r in results}
    assert list(values) == [*(f"within_{radius}_km" for radius in (1, 25, 200, 750, 2500)), "median_error_km"]
    # The same by hand.
    encoder, root = ColourEncoder(), tmp_path / "IM2GPS"
    vectors = {s: encoder.encode_images([root / e.file for e in entries]).double() for s, entries in sets.items()}
    places = {s: np.array([list(e.metadata.values()) for e in entries]) for s, entries in sets.items()}
    closest = (vectors["test"] @ vectors["train"].T).argmax(dim=1).numpy()
    errors = great_circle_km(places["train"][closest], places["test"])
    assert values["median_error_km"] == pytest.approx(np.median(errors))
    assert values["within_25_km"] == np.mean(errors <= 25) > 0.5 and values["within_1_km"] == 0
    settings = results[0].run["settings"]
    assert (settings["reference"], settings["reference_excluded"]) == (35, 0)
    train = open_card(CARD, tmp_path, "train")
    assert settings["reference_fingerprint"] == encode_set(PicturesOnly(), train).fingerprint
    assert results[0].run["fingerprint"] == open_card(CARD, tmp_path, "test").fingerprint


@pytest.fixture
def leaked(tmp_path, sets):
    """Two of the test's photographs are in the reference too, under other names, at places far off."""
    folder = tmp_path / "IM2GPS"
    copies = []
    for name in ("test3.png", "test4.png"):
        (folder / f"copy-of-{name}").write_bytes((folder / name).read_bytes())
        copies.append(Entry(f"copy-of-{name}", metadata={"latitude": -80.0, "longitude": 170.0}))
    sets["train"] = (copies[0], *sets["train"], copies[1])
    return sets


def test_a_photograph_does_not_find_itself(tmp_path, leaked, caplog):
    found = GEOLOCATION.measure(PicturesOnly(), CARD, Setting(tmp_path)).results
    assert "IM2GPS: 2 of 37 reference photographs are the test's" in caplog.text
    settings = found[0].run["settings"]
    assert (settings["reference"], settings["reference_excluded"]) == (35, 2)
    leaked["train"] = leaked["train"][1:-1]
    clean = GEOLOCATION.measure(PicturesOnly(), CARD, Setting(tmp_path)).results
    assert [r.value for r in found] == [r.value for r in clean]


def test_equal_names_and_equal_vectors_alone_are_no_equal_pictures(tmp_path, sets):
    """Another photograph of the same name, and one of the same mean colour, stay in the reference."""
    folder, test = tmp_path / "IM2GPS", sets["test"][0].file
    (folder / "other.png").write_bytes(encoded(picture("blue", 5)))
    with Image.open(folder / test) as opened:
        opened.transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(folder / "flipped.png")
    known = {"latitude": 1.0, "longitude": 2.0}
    sets["train"] = (*sets["train"], Entry("other.png", metadata=known, key=test), Entry("flipped.png", metadata=known))
    results = GEOLOCATION.measure(PicturesOnly(), CARD, Setting(tmp_path)).results
    settings = results[0].run["settings"]
    assert (settings["reference"], settings["reference_excluded"]) == (37, 0)


def test_only_photographs_with_a_twin_are_read_again(tmp_path, leaked, monkeypatch):
    """Of 14 + 37 photographs the two that are in both sets, and those alike them."""
    sources, read = {}, {"train": set(), "test": set()}
    for split in read:
        sources[split] = open_card(CARD, tmp_path, split).source
    (train, train_source), (test, test_source) = (
        (encode_set(PicturesOnly(), open_card(CARD, tmp_path, split)), sources[split]) for split in ("train", "test")
    )
    reading = ListedSource.read

    def counted(self, index):
        for item in reading(self, index):
            read[item.key.partition("-")[0].rstrip("0123456789.png") if "copy" not in item.key else "train"].add(
                item.key
            )
            yield item

    monkeypatch.setattr(ListedSource, "read", counted)
    same = same_pictures(test, test_source, train, train_source)
    assert [train.keys[row] for row in np.flatnonzero(same)] == ["copy-of-test3.png", "copy-of-test4.png"]
    vectors = test.vectors @ train.vectors.T >= 0.999
    assert len(read["test"]) == vectors.any(axis=1).sum() < len(test.keys)
    assert len(read["train"]) == vectors.any(axis=0).sum() < len(train.keys)


def test_a_broken_sample_with_the_key_of_a_sound_one_is_passed_over():
    sound = Sample("a", np.asarray(picture("red", 1)), (), 0, {})
    sources = [Listed((Broken("a", "memory", "cut off"), sound, Sample(key, sound.image, (), 0, {}))) for key in "bc"]
    one = Encoded(("a",), np.zeros(1, int), np.ones((1, 1), np.float32), ((),), ({},), 1, "x")
    assert same_pictures(one, sources[0], one, sources[1]).tolist() == [True]


def test_pixels_in_any_source_are_compared_too(tmp_path, monkeypatch):
    pixels = np.asarray(picture("red", 1))
    items = {
        "train": (Sample("a", np.array(pixels), (), 0, {"latitude": 0, "longitude": 0}),),
        "test": (Sample("b", pixels, (), 0, {"latitude": 0, "longitude": 0}),),
    }
    items["train"] += (Sample("c", np.asarray(picture("red", 2)), (), 0, {"latitude": 0, "longitude": 3}),)
    (tmp_path / "IM2GPS").mkdir()
    (tmp_path / "IM2GPS" / "x.png").touch()
    layout = Layout(lambda folder, split: Listed(items[split]), ("*.png",))
    monkeypatch.setitem(LAYOUTS, "IM2GPS", (layout,))
    results = {r.metric: r for r in GEOLOCATION.measure(PicturesOnly(), CARD, Setting(tmp_path)).results}
    assert results["median_error_km"].value == pytest.approx(333.6, abs=0.5)  # three degrees along the equator
    assert results["median_error_km"].run["settings"]["reference_excluded"] == 1
    items["train"] = items["train"][:1]
    with pytest.raises(DataError, match="all 1 reference photographs are the test's own"):
        GEOLOCATION.measure(PicturesOnly(), CARD, Setting(tmp_path))


def test_the_task_says_what_it_reads():
    assert not GEOLOCATION.needs_texts and GEOLOCATION.splits(CARD) == ("train", "test") and GEOLOCATION.applies(CARD)


@pytest.mark.parametrize("known", [{}, {"latitude": 3.0}, {"latitude": "north", "longitude": 1}])
def test_photographs_without_a_place_are_an_error(tmp_path, monkeypatch, known):
    folder = tmp_path / "IM2GPS"
    folder.mkdir()
    (folder / "0.png").write_bytes(encoded(picture("red", 0)))
    layout = Layout(lambda folder, split: ListedSource(folder, (Entry("0.png", metadata=known),)), ("*.png",))
    monkeypatch.setitem(LAYOUTS, "IM2GPS", (layout,))
    with pytest.raises(DataError, match=r"IM2GPS/train: '0.png' has no latitude and longitude"):
        GEOLOCATION.measure(ColourEncoder(), CARD, Setting(tmp_path))
