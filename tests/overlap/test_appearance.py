"""Size, blankness, and class names in training texts, on cases made by hand."""

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from diptych.errors import ShapeError
from diptych.overlap.appearance import Appearance, compare_appearance, measure_appearance, named_share, names_class


def test_an_image_half_black_and_half_white():
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, 20:] = 255
    assert measure_appearance(Image.fromarray(pixels)) == Appearance(40, 20, 127.5)
    assert measure_appearance(Image.new("RGBA", (3, 5), (9, 9, 9, 0))) == Appearance(3, 5, 0.0)
    assert measure_appearance(Image.new("L", (3, 5), 200)).deviation == 0.0
    assert measure_appearance(Image.new("1", (2, 2), 1)) == Appearance(2, 2, 0.0)


def test_subsets_are_summarised_by_hand():
    images = [Appearance(30, 90, 0.5), Appearance(100, 80, 7.9), Appearance(64, 64, 8.0), Appearance(500, 400, 60.0)]
    found = compare_appearance(images, [True, True, True, False])
    overlap, clean = found["overlap"], found["clean"]
    assert (overlap.n, overlap.median_side, overlap.median_deviation) == (3, 64.0, 7.9)
    assert (overlap.blank, overlap.small) == pytest.approx((2 / 3, 1 / 3))
    assert overlap.blank_interval == pytest.approx(tuple(stats.binomtest(2, 3).proportion_ci(0.995, "exact")))
    assert overlap.small_interval == pytest.approx(tuple(stats.binomtest(1, 3).proportion_ci(0.995, "exact")))
    assert (clean.n, clean.blank, clean.small, clean.median_side) == (1, 0.0, 0.0, 400.0)
    assert (found["all"].n, found["all"].median_side, found["all"].blank) == (4, 72.0, 0.5)


def test_an_empty_subset_has_no_numbers():
    found = compare_appearance([Appearance(3, 3, 0.0)], [True])
    assert found["clean"].n == 0 and found["clean"].blank is found["clean"].median_side is None
    assert compare_appearance([], [])["all"].n == 0
    with pytest.raises(ShapeError, match="1 images need a bool row"):
        compare_appearance([Appearance(3, 3, 0.0)], [True, False])
    with pytest.raises(ShapeError, match="got int64"):
        compare_appearance([Appearance(3, 3, 0.0)], np.array([1]))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("A photo of a CAT.", "cat"),
        ("two cats on a mat", "cat"),
        ("the cat's toy", "cat"),
        ("a pony", "ponies"),
        ("wild ponies", "pony"),
        ("a pack of wolves", "wolf"),
        ("kitchen knives", "knife"),
        ("three buses", "bus"),
        ("glasses", "glass"),
        ("boxes", "box"),
        ("ripe tomatoes", "tomato"),
        ("churches", "church"),
        ("horses", "horse"),
        ("shoes", "shoe"),
        ("policemen in London", "policeman"),
        ("young women", "woman"),
        ("white mice", "mouse"),
        ("golden_retriever-puppy", "Golden Retriever"),
        ("my golden\nretrievers", "golden retriever"),
        ("Straße", "STRASSE"),
        ("flight to Côte d'Ivoire", "côte d’ivoire"),
        ("7 apples", "7"),
        ("DSC_cat_001.jpg", "cat"),
    ],
)
def test_texts_that_name_the_class(text, name):
    assert names_class(text, name)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a category of concatenation", "cat"),
        ("a golden dog and a retriever", "golden retriever"),
        ("golden retrieval", "golden retriever"),
        ("goldens retriever", "golden retriever"),
        ("a bu", "bus"),
        ("glas", "glass"),
        ("ga", "gas"),
        ("a retriever golden", "golden retriever"),
        ("golden", "golden retriever"),
        ("", "cat"),
        ("anything", ""),
        ("any - thing", " - "),
        ("catsup", "cat"),
        ("iri", "iris"),
    ],
)
def test_texts_that_do_not(text, name):
    assert not names_class(text, name)


def test_the_share_of_copies_whose_text_names_the_class():
    texts = [["A tabby cat"], ["holiday 2014", "at the sea"], [], ["two dogs", "bull terriers"]]
    found = named_share(texts, [["tabby", "tabby cat"], ["beach"], ["cat"], ["pit", "bull terrier"]])
    assert (found.named, found.n, found.share) == (2, 3, 2 / 3)
    assert found.interval == pytest.approx(tuple(stats.binomtest(2, 3).proportion_ci(0.995, "exact")))
    assert named_share([()], [["x"]]).share is None and named_share([], []).interval is None
    with pytest.raises(ShapeError, match="2 texts and the class names of 1"):
        named_share([["a"], ["b"]], [["a"]])
