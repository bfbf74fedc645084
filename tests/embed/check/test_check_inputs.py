"""The 32 images and 64 texts are what they are called; differences of hand-solved arrays."""

import io
import math

import numpy as np
import pytest
from PIL import Image, ImageOps

from diptych.data.decoding import decode_image
from diptych.embed.check.check_images import NOT_RGB, ORIENTATION, SIXTEEN_BITS, STRIP, TRANSPARENCY, check_images
from diptych.embed.check.check_texts import CLEANING, check_texts
from diptych.embed.check.differences import Items, compare
from diptych.embed.check.live_check import probabilities
from diptych.embed.check.tolerances import PRECISIONS, STAGES, Limit, limits, tolerances_sentence
from diptych.errors import ConfigError

OPENED = {image.name: Image.open(io.BytesIO(image.data)) for image in check_images()}
TRAITS = {image.name: image.trait for image in check_images()}


def test_there_are_32_images_and_64_texts_and_no_two_are_equal():
    assert len(check_images()) == 32 == len({image.data for image in check_images()}) == len(OPENED)
    assert len(check_texts()) == 64 == len({text.text for text in check_texts()})


def test_every_kind_of_file_is_there():
    modes = {image.mode for image in OPENED.values()}
    assert modes >= {"RGB", "L", "LA", "RGBA", "P", "1", "CMYK", "I;16"}
    assert {image.format for image in OPENED.values()} == {"PNG", "JPEG", "WEBP", "GIF"}
    sizes = {image.size for image in OPENED.values()}
    assert {(1, 1), (1, 500), (37, 901), (2113, 1409), (224, 224)} <= sizes
    assert any(image.info.get("progressive") for image in OPENED.values())
    orientations = {image.getexif().get(0x0112) for image in OPENED.values()}
    assert orientations == {None, *range(2, 9)}


def test_images_have_the_traits_that_they_state():
    for name, image in OPENED.items():
        expected = {
            TRANSPARENCY: image.has_transparency_data,
            SIXTEEN_BITS: image.mode == "I;16",
            ORIENTATION: image.getexif().get(0x0112, 1) != 1,
            NOT_RGB: image.mode in ("P", "1", "CMYK") and not image.has_transparency_data,
            STRIP: max(image.size) > 100 * min(image.size),
        }
        assert [trait for trait, holds in expected.items() if holds] == ([TRAITS[name]] if TRAITS[name] else [])


def test_no_image_looks_the_same_transparent_or_turned():
    """Otherwise a library that drops transparency or orientation would pass."""
    for name, image in OPENED.items():
        plain = np.asarray(image.convert("RGB"))
        ours = np.asarray(decode_image(next(one.data for one in check_images() if one.name == name)))
        if TRAITS[name] in (TRANSPARENCY, SIXTEEN_BITS, ORIENTATION):
            assert plain.shape != ours.shape or not np.array_equal(plain, ours), name
        else:
            np.testing.assert_array_equal(plain, ours)
        if TRAITS[name] == ORIENTATION:
            np.testing.assert_array_equal(np.asarray(ImageOps.exif_transpose(image)), ours)


def test_texts_that_need_cleaning_are_those_that_ftfy_and_html_change():
    import html
    import unicodedata

    import ftfy

    for text in check_texts():
        cleaned = html.unescape(html.unescape(ftfy.fix_text(text.text)))
        composed = unicodedata.normalize("NFC", text.text)  # which transformers' tokenizer does, too
        assert (text.trait == CLEANING) == (cleaned.split() != composed.split()), text


def test_texts_are_of_every_kind():
    texts = [text.text for text in check_texts()]
    assert "" in texts and any(text != text.lower() for text in texts) and any("  " in text for text in texts)
    assert max(map(len, texts)) > 4 * 77
    scripts = ("a", "ж", "猫", "고", "ق", "ת", "ब", "ร", "🐱", "\u0301")
    assert all(any(letter in text.lower() for text in texts) for letter in scripts)


# ---- differences


ITEMS = Items(names=["a", "b", "c"], traits=["", "", "odd"])


def arrays(*rows):
    return [np.array(row, np.float32) for row in rows]


def test_a_difference_is_relative_to_the_largest_value_of_the_reference():
    row = compare("features", Limit(0.1), ITEMS, arrays([1, 0], [0, 2], [8, 0]), arrays([1, 0], [0, 1], [10, 0]))
    assert (row.largest, row.relative, row.differing) == (2.0, 0.2, ("c",)) and not row.is_equal
    assert row.worst_cosine == 1.0 and row.num_compared == 3


def test_a_cosine_can_fail_alone():
    row = compare("features", Limit(1, 0.9), ITEMS, arrays([1, 1], [0, 1], [9, 0]), arrays([1, 0], [0, 1], [9, 0]))
    assert row.differing == ("a",) and row.worst_cosine == pytest.approx(math.sqrt(0.5))


def test_what_is_explained_is_counted_apart():
    mine, theirs = arrays([1], [2], [3]), arrays([1], [2], [300])
    row = compare("features", Limit(0.01), ITEMS, mine, theirs, explains=["odd"])
    assert row.is_equal and row.explained == {"odd": ("c",)} and row.largest == 0
    assert not compare("features", Limit(0.01), ITEMS, mine, theirs, explains=["other"]).is_equal


@pytest.mark.parametrize("bad", [[np.nan, 1], [np.inf, 1], [1, 1, 1]])
def test_nan_and_another_shape_always_differ(bad):
    row = compare("features", Limit(1), ITEMS, arrays(bad, [0, 1], [1, 0]), arrays([1, 1], [0, 1], [1, 0]))
    assert row.differing == ("a",) and math.isinf(row.largest) and row.to_dict()["largest"] is None


def test_items_whose_input_differs_are_left_out():
    mine, theirs = arrays([1], [2], [3]), arrays([1], [5], [3])
    assert compare("features", Limit(0), ITEMS, mine, theirs, mask=[True, False, True]).is_equal
    assert compare("features", Limit(0), ITEMS, mine, theirs, mask=[False] * 3).not_compared


def test_tokens_are_counted():
    row = compare("tokens", Limit(0), ITEMS, arrays([1, 2], [1, 2, 3], [4]), arrays([1, 2], [1, 9], [4]), ids=True)
    assert row.differing == ("b",) and row.largest == 2 and row.worst_cosine is None


def test_probabilities_by_hand():
    images, texts = np.eye(2), np.array([[1.0, 0], [0, 1]])
    e = math.exp(2)
    np.testing.assert_allclose(probabilities(images, texts, 2, None)[0], [e / (e + 1), 1 / (e + 1)])
    np.testing.assert_allclose(probabilities(images, texts, 2, -2.0)[0], [0.5, 1 / (1 + e)])


def test_every_precision_has_a_limit_for_each_stage_and_the_help_states_it():
    for precision in PRECISIONS:
        assert tuple(limits(precision)) == STAGES and precision in tolerances_sentence()
    assert "fp32 1e-05, cos 0.999999" in tolerances_sentence()
    with pytest.raises(ConfigError, match="no tolerance is stated for the precision 'fp8'"):
        limits("fp8")
