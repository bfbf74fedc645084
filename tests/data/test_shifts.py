"""Made shifts: each is the same every time, keeps a picture's size, and grows with its severity."""

import collections

import numpy as np
import pytest
from pictures import encoded, noise
from PIL import Image

from diptych.data.evaluation_batches import evaluation_batches
from diptych.data.shift_sheet import contact_sheet, write_contact_sheet
from diptych.data.shifts import FAMILIES, SHIFTS, ShiftedSource, shift_pixels, title, variants
from diptych.data.source import Source
from diptych.data.transforms import Preprocessing
from diptych.errors import ConfigError, DataError
from diptych.evalsets.benchmark import check_benchmark
from diptych.records import Broken, Sample

ALL = variants()
CORRUPTIONS = [name for name, shift in SHIFTS.items() if shift.family != "rendition"]


class Pictures(Source):
    """A labelled source of six small pictures in two shards, one of them broken."""

    shards, fingerprint = ("first", "second"), "f"

    def read(self, index):
        for number in range(3 * index, 3 * index + 3):
            image = b"no picture" if number == 4 else encoded(noise(24 + number, 20, number), "PNG")
            yield Sample(f"p{number}", image, (), number % 2)


def items(source):
    return [item for shard in range(len(source.shards)) for item in source.read(shard)]


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.asarray(noise(61, 48, seed=3))


def test_the_registry_is_the_promised_one():
    counts = collections.Counter(shift.family for shift in SHIFTS.values())
    assert set(counts) == set(FAMILIES)
    assert counts["rendition"] == 5 and len(CORRUPTIONS) == 11
    assert all(len(SHIFTS[name].severities) == 5 for name in CORRUPTIONS) and len(ALL) == 5 * 11 + 5
    assert all(shift.about and len(shift.about) < 80 for shift in SHIFTS.values())


@pytest.mark.parametrize(("name", "severity"), ALL, ids=lambda value: str(value))
def test_a_shift_is_the_same_each_time_and_keeps_the_size(name, severity, pixels):
    before = pixels.copy()
    first, second = (shift_pixels(pixels, name, severity, key="k", seed=7) for _ in range(2))
    assert first.dtype == np.uint8 and first.shape == pixels.shape and (first == second).all()
    assert (pixels == before).all() and (first != pixels).any()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_higher_severity_changes_more(name, pixels):
    changes = [np.abs(shift_pixels(pixels, name, severity) - pixels.astype(float)).mean() for severity in range(1, 6)]
    assert changes == sorted(changes) and len(set(changes)) == 5


@pytest.mark.parametrize("name", ["gaussian noise", "shot noise", "motion blur"])
def test_what_is_random_depends_on_key_and_seed(name, pixels):
    made = [shift_pixels(pixels, name, 3, key=key, seed=seed).tobytes() for key, seed in (("a", 0), ("b", 0), ("a", 1))]
    assert len(set(made)) == 3


def test_the_draws_of_all_severities_are_one():
    grey = np.full((40, 40, 3), 128, np.uint8)
    weak, strong = (shift_pixels(grey, "gaussian noise", severity) - 128.0 for severity in (1, 2))
    np.testing.assert_allclose(strong, weak * 5 / 3, atol=1.4)  # 0.05 is 5/3 of 0.03; both are rounded


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (7, 3)])
@pytest.mark.parametrize(("name", "severity"), [pair for pair in ALL if pair[1] in (1, 5)], ids=str)
def test_tiny_pictures(name, severity, size):
    tiny = np.asarray(noise(*size))
    assert shift_pixels(tiny, name, severity).shape == tiny.shape


# ------------------------------------------------------------------ solved by hand


def test_brightness_contrast_and_the_negative():
    pixels = np.array([[[10, 100, 200], [30, 100, 250]]], np.uint8)
    assert shift_pixels(pixels, "brightness", 2).tolist() == [[[61, 151, 251], [81, 151, 255]]]
    assert shift_pixels(pixels, "contrast", 5).tolist() == [[[19, 100, 222], [21, 100, 228]]]  # means 20, 100, 225
    assert shift_pixels(pixels, "inverted").tolist() == [[[245, 155, 55], [225, 155, 5]]]


def test_grey_and_saturation():
    pixels = np.array([[[100, 50, 0]]], np.uint8)  # 29.9 + 29.35 = 59.25
    assert shift_pixels(pixels, "greyscale").tolist() == [[[59, 59, 59]]]
    assert shift_pixels(pixels, "saturation", 2).tolist() == [[[141, 41, 0]]]  # 59.25 + 2 * (40.75, -9.25, -59.25)


def test_pixelate_makes_blocks_of_means():
    pixels = np.repeat(np.arange(32, dtype=np.uint8)[None, :, None], 32, axis=0).repeat(3, axis=2)
    blocks = shift_pixels(pixels, "pixelate", 4)[:, :, 0]  # 16 blocks of two columns
    assert (blocks == np.repeat(2 * np.arange(16) + 1, 2)).all()  # Pillow rounds 0.5 up


def test_blurs_keep_flat_areas_and_follow_their_kernels():
    flat = np.full((20, 30, 3), 77, np.uint8)
    assert all((shift_pixels(flat, f"{kind} blur", 5) == 77).all() for kind in ("gaussian", "defocus", "motion"))
    point = np.zeros((41, 41, 3), np.uint8)
    point[20, 20] = 255
    blurred = shift_pixels(point, "gaussian blur", 3)[20, :, 0]  # sigma 1.23
    weights = np.exp(-0.5 * (np.arange(-4, 5) / 1.23) ** 2)
    expected = np.rint(255 * weights * weights[4] / weights.sum() ** 2)
    assert blurred[16:25].tolist() == expected.tolist() and blurred[:16].max() == 0
    disc = shift_pixels(point, "defocus blur", 5)[:, :, 0]  # radius 3.075: 30 or so pixels of equal weight
    assert disc[20, 20] == disc[18, 21] == disc[22, 20] == round(255 / (np.pi * 3.075**2)) and disc[20, 25] == 0


def test_rotation_turns_about_the_centre_and_fills_the_corners():
    pixels = np.full((64, 64, 3), 90, np.uint8)
    assert (shift_pixels(pixels, "rotation", 5) == 90).all()
    marked = pixels.copy()
    marked[30:34, 52:56] = 255  # 22 pixels to the right of the centre
    turned = [shift_pixels(marked, "rotation", 4, key=str(key))[:, :, 0] for key in range(8)]
    down = np.array([np.argwhere(picture > 200).mean(axis=0)[0] - 31.5 for picture in turned])
    np.testing.assert_allclose(np.abs(down), 22 * np.sin(np.pi / 6), atol=0.5)
    assert (down > 0).any() and (down < 0).any()  # both ways


def test_a_sketch_is_black_lines_on_white():
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[:, 20:] = 200
    sketch = shift_pixels(pixels, "sketch")
    assert (sketch[:, :15] == 255).all() and (sketch[:, 25:] == 255).all() and (sketch[:, 19:21] == 0).all()


def test_a_cartoon_has_few_colours_and_a_painting_loses_speckles():
    pixels = np.full((48, 48, 3), 100, np.uint8)
    speckled = pixels.copy()
    speckled[::7, ::7] = 255
    assert (shift_pixels(speckled, "cartoon") == 85).all()
    assert (shift_pixels(speckled, "painting") == 100).all()


# ------------------------------------------------------------------ sources


def test_a_shifted_source_keeps_all_but_the_pixels():
    before, after = items(Pictures()), items(ShiftedSource(Pictures(), "contrast", 2))
    assert [item.key for item in after] == [item.key for item in before]
    assert isinstance(after[4], Broken) and after[4].shard == "second"
    good = [place for place in range(6) if place != 4]
    assert [after[place].label for place in good] == [before[place].label for place in good]
    assert [after[place].image.shape for place in good] == [(20, 24 + place, 3) for place in good]
    one = np.asarray(noise(24, 20, 0))
    assert (after[0].image == shift_pixels(one, "contrast", 2, key="p0")).all()


@pytest.mark.parametrize("name", ["gaussian noise", "rotation", "cartoon"])
def test_neither_order_nor_workers_change_a_picture(name):
    source = ShiftedSource(Pictures(), name, 1, seed=5)
    backwards = {item.key: item for shard in (1, 0) for item in source.read(shard)}
    assert all((backwards[item.key].image == item.image).all() for item in items(source) if isinstance(item, Sample))
    preprocessing = Preprocessing(image_size=16)
    runs = [list(evaluation_batches(source, preprocessing, 2, workers)) for workers in (0, 2)]
    assert [batch.samples for batch in runs[0]] == [batch.samples for batch in runs[1]]
    assert all((one.images == other.images).all() for one, other in zip(*runs, strict=True))


def test_the_fingerprint_knows_the_shift():
    made = [
        ShiftedSource(Pictures(), name, severity, seed).fingerprint
        for name, severity, seed in (("jpeg", 1, 0), ("jpeg", 2, 0), ("jpeg", 1, 1), ("sketch", 1, 0))
    ]
    assert len({*made, Pictures.fingerprint}) == 5
    benchmark = check_benchmark("b", "test", ["a", "b"], ["{c}"], ShiftedSource(Pictures(), "jpeg", 1))
    assert benchmark.fingerprint != check_benchmark("b", "test", ["a", "b"], ["{c}"], Pictures()).fingerprint


def test_titles_and_variants():
    assert title("gaussian noise", 3) == "gaussian noise 3" and title("sketch", 1) == "sketch"
    assert variants(["jpeg", "sketch"], [1, 5]) == [("jpeg", 1), ("jpeg", 5), ("sketch", 1)]


@pytest.mark.parametrize(
    ("name", "severity", "said"),
    [("fog", 1, "no shift 'fog'"), ("jpeg", 6, "1 to 5; got 6"), ("jpeg", 0, "got 0"), ("sketch", 2, "1 to 1")],
)
def test_an_unknown_shift_is_refused_at_once(name, severity, said):
    with pytest.raises(ConfigError, match=said):
        ShiftedSource(Pictures(), name, severity)
    with pytest.raises(ConfigError, match=said):
        shift_pixels(np.zeros((2, 2, 3), np.uint8), name, severity)


def test_a_decoded_picture_is_taken_too():
    class Decoded(Pictures):
        def read(self, index):
            yield Sample(f"d{index}", np.asarray(Image.new("RGB", (4, 4), (9, 9, 9))), (), 0)

    assert (items(ShiftedSource(Decoded(), "inverted"))[0].image == 246).all()


# ------------------------------------------------------------------ the sheet


def test_the_sheet_shows_each_severity(tmp_path):
    pixels = np.asarray(noise(30, 30))
    sheet = np.asarray(contact_sheet(pixels, ["inverted", "brightness"], side=30))
    cell = [sheet[20 + 36 * row : 50 + 36 * row, 130 + 36 * column :][:, :30] for row in (0, 1) for column in (0, 1, 5)]
    assert (cell[0] == pixels).all() and (cell[1] == 255 - pixels).all() and (cell[2] == 255).all()
    assert (cell[5] == shift_pixels(pixels, "brightness", 5)).all()
    write_contact_sheet(pixels, tmp_path / "new" / "sheet.png")
    with Image.open(tmp_path / "new" / "sheet.png") as opened:
        assert opened.size == (130 + 6 * 118, 20 + 16 * 118)
    with pytest.raises(ConfigError, match="no shift 'fog'"):
        contact_sheet(pixels, ["fog"])
    with pytest.raises(DataError, match="cannot write"):
        write_contact_sheet(pixels, tmp_path / "new" / "sheet.png" / "inside.png")
