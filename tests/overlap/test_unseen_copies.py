"""Copies are the same for the same key, differ between keys and severities, and do what their names say."""

import numpy as np
import pytest
from pictures import noise
from PIL import Image, ImageOps, features

from diptych.errors import ConfigError
from diptych.overlap import unseen_copies
from diptych.overlap.distractors import DISTRACTORS, FRAMES, make_distractors
from diptych.overlap.unseen_copies import COPY_RULES, SEVERITIES, available_rules, make_copy

PHOTO = noise(96, 72, seed=3)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(np.int64)


@pytest.mark.parametrize("rule", available_rules())
@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_copy_depends_on_its_key_alone(rule, severity):
    before = PHOTO.tobytes()
    first, again = make_copy(PHOTO, rule, severity, "a"), make_copy(PHOTO, rule, severity, "a")
    assert first.mode == "RGB" and first.size == again.size and first.tobytes() == again.tobytes()
    assert PHOTO.tobytes() == before
    others = [make_copy(PHOTO, rule, severity, "b"), make_copy(PHOTO, rule, severity, "a", seed=1)]
    random = rule not in ("blur", "grey", "webp", "avif") and not (rule.startswith("mirror") and severity == 1)
    if random:
        assert all(other.tobytes() != first.tobytes() for other in others)


@pytest.mark.parametrize("rule", ["text watermark", "pattern watermark", "blur", "colour cast", "webp", "avif"])
def test_a_higher_severity_changes_more(rule):
    if rule not in available_rules():
        pytest.skip(unseen_copies.why_missing(rule))
    distances = [
        np.mean([np.abs(pixels(make_copy(PHOTO, rule, s, f"{k}")) - pixels(PHOTO)).mean() for k in range(6)])
        for s in SEVERITIES
    ]
    assert 0 < distances[0] < distances[1] < distances[2]


def test_a_severity_changes_the_strength_and_no_draw():
    dark = Image.new("RGB", (96, 72))
    marks = [pixels(make_copy(dark, "text watermark", s, "a")).sum(axis=2) > 0 for s in SEVERITIES]
    assert marks[0].any() and (marks[0] <= marks[1]).all() and (marks[1] <= marks[2]).all()
    assert marks[0].sum() > 0.9 * marks[2].sum()  # the faintest edge pixels round to 0 at the lowest opacity


@pytest.mark.parametrize(("severity", "share"), [(1, 0.5), (2, 0.35), (3, 0.25)])
def test_a_strong_crop_keeps_its_share_of_the_area(severity, share):
    photo = noise(400, 300)
    for key in "abcdef":
        crop = make_copy(photo, "strong crop", severity, key)
        assert crop.width * crop.height / (400 * 300) == pytest.approx(share, rel=0.02)
        found = [
            (x, y)
            for x in range(401 - crop.width)
            for y in range(301 - crop.height)
            if photo.getpixel((x, y)) == crop.getpixel((0, 0))
            and photo.crop((x, y, x + crop.width, y + crop.height)).tobytes() == crop.tobytes()
        ]
        assert found  # its pixels are those of the photograph


def test_the_photograph_is_inside_its_screenshot():
    for severity in SEVERITIES:
        shot = make_copy(PHOTO, "screenshot", severity, "a")
        places = [(x, y) for x in range(shot.width - 95) for y in range(shot.height - 71)]
        assert any(shot.crop((x, y, x + 96, y + 72)).tobytes() == PHOTO.tobytes() for x, y in places)


def test_mirror_and_grey_are_what_they_say():
    assert make_copy(PHOTO, "mirror", 1, "a").tobytes() == ImageOps.mirror(PHOTO).tobytes()
    for severity in SEVERITIES:
        grey = pixels(make_copy(PHOTO, "grey", severity, "a"))
        assert (grey == grey[:, :, :1]).all()
    both = pixels(make_copy(PHOTO, "mirror, grey", 1, "a"))
    assert (both == pixels(make_copy(ImageOps.mirror(PHOTO), "grey", 1, "a"))).all()


@pytest.mark.parametrize("size", [(1, 1), (2, 40), (32, 32), (33, 500)])
def test_every_rule_takes_images_of_any_size_and_mode(size):
    for rule in available_rules():
        for severity in SEVERITIES:
            assert make_copy(Image.new("LA", size, 90), rule, severity, "a").mode == "RGB"


def test_wrong_names_are_refused(monkeypatch):
    with pytest.raises(ConfigError, match="no copy rule 'mirored'; there are: screenshot"):
        make_copy(PHOTO, "mirored", 1, "a")
    for severity in (0, 4, True + 3):
        with pytest.raises(ConfigError, match="severities 1 to 3"):
            make_copy(PHOTO, "mirror", severity, "a")
    monkeypatch.setattr(features, "check", lambda codec: codec != "avif")
    with pytest.raises(ConfigError, match=r"avif: this installation of Pillow has no avif codec; install pillow>=11.3"):
        make_copy(PHOTO, "avif", 1, "a")
    assert set(COPY_RULES) - set(available_rules()) == {"avif", "crop, watermark, avif"}


@pytest.mark.parametrize("kind", DISTRACTORS)
def test_distractors_are_seeded_and_all_different(kind):
    first = dict(make_distractors(kind, 30, 48, seed=1))
    again, other = dict(make_distractors(kind, 30, 48, seed=1)), dict(make_distractors(kind, 30, 48, seed=2))
    assert [image.tobytes() for image in first.values()] == [image.tobytes() for image in again.values()]
    assert [image.tobytes() for image in first.values()] != [image.tobytes() for image in other.values()]
    assert len({image.tobytes() for image in first.values()}) >= 28 and all(i.size == (48, 48) for i in first.values())


def test_frames_of_one_scene_resemble_each_other_more_than_other_scenes():
    frames = [pixels(image) for _, image in make_distractors("frame", 4 * FRAMES, 48)]
    scenes = [frames[number * FRAMES : (number + 1) * FRAMES] for number in range(4)]
    within = np.median([np.abs(scene[0] - frame).mean() for scene in scenes for frame in scene[1:]])
    between = np.median([np.abs(a[0] - b[0]).mean() for i, a in enumerate(scenes) for b in scenes[:i]])
    assert within < 0.5 * between


def test_an_unknown_distractor_is_refused():
    with pytest.raises(ConfigError, match="no distractor 'cats'; there are: blank, black"):
        next(make_distractors("cats", 1))
