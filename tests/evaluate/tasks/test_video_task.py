"""Frames to clips, RareAct's metrics, and raw pixels as an encoder."""

import dataclasses
import itertools
import time

import numpy as np
import pytest
import torch
from colours import NAMES, TEMPLATES, PixelColourEncoder, encoded, picture
from sklearn.metrics import average_precision_score

from diptych.data.source import Source
from diptych.errors import ConfigError, DataError, ImageError, InputError, ShapeError
from diptych.evalsets import Card
from diptych.evalsets.benchmark import check_benchmark
from diptych.evalsets.set_sources import Entry, ListedSource
from diptych.evaluate.encoded_set import encode_set
from diptych.evaluate.metrics.score import score
from diptych.evaluate.tasks.rare_actions import (
    Annotated,
    mean_sampled_average_precision,
    mean_weighted_average_precision,
)
from diptych.evaluate.tasks.raw_pixels import RawPixels
from diptych.evaluate.tasks.task import Setting
from diptych.evaluate.tasks.video import VIDEO, average_by_clip, measure_video
from diptych.evaluate.zero_shot.class_embeddings import class_embeddings
from diptych.records import Broken, Sample

CARD = Card(
    name="UCF101",
    title="UCF101",
    task="video",
    num_classes=7,
    splits={},
    metric="mean_of_top_1_and_5",
    homepage="",
    split_rule="",
)


def test_frames_are_averaged_by_clip_whatever_the_blocks():
    clips = ["b", "a", "b", "a", "b"]
    scores = np.array([[1, 0], [0.5, 0.5], [0, 1], [0.1, 0.9], [0.4, 0.6]])
    for cuts in ([0, 5], [0, 2, 5], [0, 1, 2, 3, 4, 5]):
        parts = [(slice(start, end), scores[start:end]) for start, end in itertools.pairwise(cuts)]
        names, labels, means = average_by_clip(clips, np.array([1, 0, 1, 0, 1]), parts)
        assert names == ("b", "a") and labels.tolist() == [1, 0]
        assert np.allclose(means, [[1.4 / 3, 1.6 / 3], [0.3, 0.7]])


def test_frames_that_do_not_fit_are_an_error():
    with pytest.raises(DataError, match="clip 'a' have different labels"):
        average_by_clip(["a", "a"], np.array([0, 1]), [])
    with pytest.raises(ShapeError, match="2 frames, but predictions of 1"):
        average_by_clip(["a", "a"], np.array([0, 0]), [(slice(0, 1), np.ones((1, 2)))])
    with pytest.raises(InputError):
        average_by_clip([], np.zeros(0, int), [])


def frames(folder, num_clips=14, num_frames=3, card=CARD, names=NAMES, **known):
    """Clips of one colour each; their frames do not lie beside each other."""
    folder.mkdir()
    entries = []
    for frame in range(num_frames):
        for clip in range(num_clips):
            name = f"{clip}-{frame}.png"
            (folder / name).write_bytes(encoded(picture(NAMES[clip % 7], 100 * clip + frame)))
            known_here = {key: value[clip] for key, value in known.items()}
            entries.append(Entry(name, clip % 7, metadata={"clip": f"clip {clip}", **known_here}))
    return check_benchmark("UCF101", "test", names, TEMPLATES, ListedSource(folder, tuple(entries)), card=card)


def test_a_set_of_clips_is_measured_by_its_metric(tmp_path):
    benchmark = frames(tmp_path / "frames")
    results = measure_video(PixelColourEncoder(), benchmark, Setting(tmp_path))
    assert [(r.metric, r.n, r.protocol, r.task) for r in results] == [
        ("mean_of_top_1_and_5", 14, "frames_averaged", "video"),
        ("accuracy", 14, "frames_averaged", "video"),
    ]
    # The same by hand.
    encoder = PixelColourEncoder()
    vectors = torch.from_numpy(np.array(encode_set(encoder, benchmark).vectors))
    logits = encoder.logit_scale * vectors @ class_embeddings(encoder, NAMES, TEMPLATES).T
    means = logits.softmax(dim=1).numpy().reshape(3, 14, 7).mean(axis=0)
    labels = np.arange(14) % 7
    assert results[0].value == pytest.approx(score("mean_of_top_1_and_5", labels, means).value)
    assert results[1].value == score("accuracy", labels, means).value > 0.5
    assert results[0].run["settings"] == {"frames": 16, "averaged": "probabilities", "broken_clips": 0}
    assert VIDEO.applies(CARD) and VIDEO.splits(CARD) == ("test",)


def test_the_seed_is_that_of_the_intervals_draws(tmp_path):
    names = (*NAMES[1:3], NAMES[0], *NAMES[3:])  # three colours are mistaken
    benchmark, encoder = frames(tmp_path / "frames", num_frames=1, names=names), PixelColourEncoder()
    vectors = torch.from_numpy(np.array(encode_set(encoder, benchmark).vectors))
    scores = (encoder.logit_scale * vectors @ class_embeddings(encoder, names, TEMPLATES).T).softmax(dim=1).numpy()
    bounds = set()
    for seed in (0, 5):
        (found, _) = measure_video(encoder, benchmark, Setting(tmp_path, seed=seed))
        expected = score("mean_of_top_1_and_5", np.arange(14) % 7, scores, seed=seed)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
        bounds.add((found.low, found.high))
    assert len(bounds) == 2


def test_frames_without_a_clip_are_an_error(tmp_path):
    benchmark = frames(tmp_path / "frames", num_clips=1)
    entries = tuple(dataclasses.replace(one, metadata={}) for one in benchmark.source.source.entries)
    source = ListedSource(tmp_path / "frames", entries)
    with pytest.raises(DataError, match=r"UCF101/test: the frame '0-0.png' says no clip"):
        measure_video(
            PixelColourEncoder(), check_benchmark("UCF101", "test", NAMES, TEMPLATES, source), Setting(tmp_path)
        )


@dataclasses.dataclass(frozen=True)
class Clips(Source):
    """Four frames of each clip, some of which are broken, as videos are."""

    num_good: int
    num_broken: int
    num_classes: int = 7
    shards = ("clips",)
    fingerprint = "clips"

    def read(self, index):
        for clip in range(self.num_broken):
            yield Broken(f"gone {clip}", "clips", "it is cut off")
        for clip in range(self.num_good):
            label = clip % self.num_classes
            image, metadata = encoded(picture(NAMES[label], 0)), {"clip": f"{clip}"}
            yield from (Sample(f"{clip}#{frame}", image, (), label, metadata) for frame in range(4))


@pytest.mark.parametrize(("good", "broken", "allowed"), [(99, 1, True), (98, 2, False), (48, 1, False)])
def test_broken_clips_are_counted_as_clips_not_as_frames(tmp_path, good, broken, allowed):
    benchmark = check_benchmark("UCF101", "test", NAMES, TEMPLATES, Clips(good, broken), card=CARD)
    if allowed:
        (first, _) = measure_video(PixelColourEncoder(), benchmark, Setting(tmp_path))
        assert (first.n, first.run["settings"]["broken_clips"]) == (good, broken)
        return
    with pytest.raises(DataError, match=f"UCF101/test: {broken} of {good + broken} clips are broken, more than 1%"):
        measure_video(PixelColourEncoder(), benchmark, Setting(tmp_path))


def test_a_set_is_whole_by_its_clips_broken_ones_among_them(tmp_path):
    for of, said in ((100, None), (101, {"tested": [6, 7]})):
        card = dataclasses.replace(CARD, splits={"test": of})
        benchmark = check_benchmark("UCF101", "test", NAMES, TEMPLATES, Clips(99, 1, 6), card=card)
        (first, _) = measure_video(PixelColourEncoder(), benchmark, Setting(tmp_path, partial=True))
        assert first.run["settings"].get("classes") == said


RARE = Annotated(
    # Three actions: cut phone, cut cake, wash phone.
    classes=np.array([0, 0, 0, 0, 1, 2, 2]),
    verbs=["cut"] * 5 + ["wash"] * 2,
    nouns=["phone"] * 4 + ["cake"] + ["phone"] * 2,
    annotations=np.array([1, 1, 0, 4, 1, 0, 3]),
    videos=["x", "x", "y", "z", "w", "x", "v"],
)


def test_weighted_average_precision_solved_by_hand():
    # Cut phone: positives 0 and 1 from one video, half a weight each; negative 2; hard negatives 3 (annotated 4) and
    # 4 (a positive of cut cake). Order of the scores: 0, 3, 1, 2, 4.
    first = [0.9, 0.7, 0.4, 0.8, 0.1, 0.95, 0.99]
    # Recall rises by 1/2 at precision 1 and by 1/2 at precision 1 / (1 + 1).
    phone = 1 / 2 + 1 / 2 * (1 / 2)
    # Cut cake: positive 4; 0 and 1 share the verb: hard. Order: 0, 4, 1. A half stands before 4: precision 1 / 1.5.
    second = [0.9, 0.1, 0.0, 0.0, 0.5, 1.0, 1.0]
    cake = 1 / 1.5
    # Wash phone has no positive and does not count.
    scores = np.array([first, second, np.zeros(7)]).T
    assert mean_weighted_average_precision(scores, RARE) == pytest.approx((phone + cake) / 2)


def test_sampled_average_precision_solved_by_hand():
    # Of the positives 0 and 1, which come from one video, one is drawn. 0 is before all: 1. 1 is behind clip 3: 1/2.
    first = [0.9, 0.7, 0.4, 0.8, 0.1, 0.95, 0.99]
    second = [0.9, 0.1, 0.0, 0.0, 0.5, 1.0, 1.0]  # clip 4 is behind clip 0 and before clip 1: 1/2 or 1
    scores = np.array([first, second, np.zeros(7)]).T
    once = {mean_sampled_average_precision(scores, RARE, draws=1, seed=seed) for seed in range(30)}
    assert once == {0.5, 0.75, 1.0}
    many = mean_sampled_average_precision(scores, RARE, draws=400)
    assert many == pytest.approx(0.75, abs=0.05) and many == mean_sampled_average_precision(scores, RARE, draws=400)


def test_sampled_average_precision_is_that_of_a_plain_loop():
    rng = np.random.default_rng(0)
    size, num_actions, draws = 300, 5, 20
    classes = rng.integers(0, num_actions, size)
    verbs, nouns = [f"v{c % 3}" for c in classes], [f"n{c % 2}" for c in classes]
    videos = [f"{v}" for v in rng.integers(0, 40, size)]
    annotations = rng.integers(0, 5, size)
    scores = rng.integers(0, 30, (size, num_actions)) / 10  # many are equal
    found, rng = [], np.random.default_rng(3)
    for action in range(num_actions):
        groups = [[], [], []]
        for row, (own, note) in enumerate(zip(classes, annotations, strict=True)):
            near = verbs[row] == f"v{action % 3}" or nouns[row] == f"n{action % 2}"
            if own == action:
                groups[{1: 0, 0: 1}.get(note, 2)].append(row)
            elif note == 1:
                groups[2 if near else 1].append(row)
        drawn = [[] for _ in range(draws)]
        for group in groups:
            by_video = {name: [row for row in group if videos[row] == name] for name in sorted(set(videos))}
            clips = [rows for rows in by_video.values() if rows]
            for rows, places in zip(drawn, rng.integers(0, [len(c) for c in clips], (draws, len(clips))), strict=True):
                rows += [own[place] for own, place in zip(clips, places, strict=True)]
        num_positives = len({videos[row] for row in groups[0]})
        right = [True] * num_positives
        for rows in drawn:
            truth = right + [False] * (len(rows) - num_positives)
            found.append(average_precision_score(truth, scores[rows, action]))
    annotated = Annotated(classes, verbs, nouns, annotations, videos)
    assert mean_sampled_average_precision(scores, annotated, draws=draws, seed=3) == pytest.approx(np.mean(found))


def test_sampled_average_precision_of_a_set_of_the_real_size_takes_seconds():
    rng = np.random.default_rng(0)
    size, num_actions = 7600, 122
    classes = rng.integers(0, num_actions, size)
    words = [f"{c % 19}" for c in classes], [f"{c // 19}" for c in classes]
    annotated = Annotated(classes, *words, rng.integers(0, 5, size), rng.integers(0, 900, size).tolist())
    start = time.perf_counter()
    mean_sampled_average_precision(rng.normal(size=(size, num_actions)), annotated)
    assert time.perf_counter() - start < 20  # drawing clip by clip took most of a minute


def test_without_repeated_videos_both_are_the_plain_average_precision():
    rng = np.random.default_rng(0)
    size = 60
    classes = np.repeat([0, 1], size // 2)
    annotated = Annotated(
        classes, [f"v{c}" for c in classes], [f"n{c}" for c in classes], rng.integers(0, 5, size), list(range(size))
    )
    scores = rng.normal(size=(size, 2))
    found = []
    for action in (0, 1):
        counted = (classes == action) | (annotated.annotations == 1)
        right = (classes == action) & (annotated.annotations == 1)
        order = np.argsort(-scores[counted, action])
        hits = right[counted][order]
        found.append(np.mean((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits]))
    assert mean_weighted_average_precision(scores, annotated) == pytest.approx(np.mean(found))
    assert mean_sampled_average_precision(scores, annotated, draws=2) == pytest.approx(np.mean(found))


def test_the_authors_hundred_draws_are_the_usual_number():
    scores = np.random.default_rng(0).random((7, 3))
    hundred, more = (mean_sampled_average_precision(scores, RARE, draws=draws, seed=0) for draws in (100, 101))
    assert mean_sampled_average_precision(scores, RARE) == hundred != more


def test_rare_actions_that_cannot_be_measured_are_an_error():
    with pytest.raises(ShapeError, match="do not fit"):
        mean_weighted_average_precision(np.zeros((7, 2)), RARE)
    with pytest.raises(InputError, match="1 of 7 clips hold NaN"):
        mean_weighted_average_precision(np.array([[np.nan] * 3] + [[0.0] * 3] * 6), RARE)
    with pytest.raises(InputError, match="2 of 7 clips hold NaN"):
        mean_weighted_average_precision(np.array([[0.0, np.inf, 0.0], [np.nan] * 3] + [[0.0] * 3] * 5), RARE)
    with pytest.raises(InputError, match="no clip shows"):
        mean_weighted_average_precision(np.zeros((7, 3)), dataclasses.replace(RARE, annotations=np.zeros(7, dtype=int)))
    with pytest.raises(InputError, match="0 to 4"):
        dataclasses.replace(RARE, annotations=np.full(7, 5))
    with pytest.raises(ShapeError, match="one length"):
        dataclasses.replace(RARE, videos=["x"])
    with pytest.raises(InputError, match="draws"):
        mean_sampled_average_precision(np.zeros((7, 3)), RARE, draws=0)


def test_rare_actions_are_measured_from_frames(tmp_path):
    card = dataclasses.replace(CARD, name="RareAct", metric="mean_weighted_average_precision")
    annotations = [1, 0, 2, 1, 1, 3, 4] * 2
    verbs = [f"verb {clip % 7 % 3}" for clip in range(14)]
    nouns = [f"noun {clip % 7 % 2}" for clip in range(14)]
    known = {"annotation": annotations, "verb": verbs, "noun": nouns, "video": [f"{clip // 2}" for clip in range(14)]}
    benchmark = frames(tmp_path / "frames", num_frames=1, card=card, **known)
    results = measure_video(PixelColourEncoder(), benchmark, Setting(tmp_path))
    encoder = PixelColourEncoder()
    vectors = torch.from_numpy(np.array(encode_set(encoder, benchmark).vectors))
    probabilities = (encoder.logit_scale * vectors @ class_embeddings(encoder, NAMES, TEMPLATES).T).softmax(dim=1)
    annotated = Annotated(np.arange(14) % 7, verbs, nouns, np.array(annotations), known["video"])
    assert [(r.metric, r.n) for r in results] == [
        ("mean_weighted_average_precision", 14),
        ("mean_sampled_average_precision", 14),
    ]
    expected = mean_weighted_average_precision(probabilities.double().numpy(), annotated)
    assert results[0].value == pytest.approx(expected)
    for seed in (0, 4):
        seeded = measure_video(PixelColourEncoder(), benchmark, Setting(tmp_path, seed=seed))[1].value
        drawn = mean_sampled_average_precision(probabilities.double().numpy(), annotated, seed=seed)
        assert seeded == pytest.approx(drawn)
    with pytest.raises(DataError, match="says no verb"):
        measure_video(PixelColourEncoder(), frames(tmp_path / "plain", card=card), Setting(tmp_path))


def test_raw_pixels_are_the_pixels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    encoder = RawPixels()
    features = encoder.image_features([pixels, np.zeros((14, 14), np.uint8)])
    assert features.shape == (2, 784) and features.dtype == torch.float32
    assert np.array_equal(features[0].numpy() * 255, pixels.ravel()) and not features[1].any()
    assert torch.allclose(encoder.encode_images([pixels]).norm(dim=1), torch.ones(1))
    assert RawPixels(8, grey=False).image_features([pixels]).shape == (1, 192)
    assert len({RawPixels().name, RawPixels(8).name, RawPixels(8, grey=False).name}) == 3
    with pytest.raises(ConfigError):
        RawPixels(0)
    with pytest.raises(ConfigError):
        RawPixels(1025)
    assert (RawPixels(1).size, RawPixels(1024).size) == (1, 1024)
    with pytest.raises(ImageError):
        encoder.image_features([b"no picture"])
    assert not hasattr(encoder, "encode_texts")  # which is how the suite knows that it can only be probed


def test_raw_pixels_of_a_set_are_kept_by_size(tmp_path):
    benchmark = frames(tmp_path / "frames", num_clips=7)
    found = [encode_set(RawPixels(size), benchmark, "features", cache=tmp_path / "cache") for size in (4, 8, 4)]
    assert [one.vectors.shape for one in found] == [(21, 16), (21, 64), (21, 16)]
    assert np.array_equal(found[0].vectors, found[2].vectors)
