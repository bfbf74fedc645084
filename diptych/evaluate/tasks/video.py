"""Zero-shot action recognition: the predictions for a clip's frames are averaged (table 15).

The paper averages over all frames and does not say what is averaged. Here, probabilities are averaged over frames that
are evenly spaced in the clip. Table 11 uses only the middle frame, which the task zero_shot measures.

Source: CLIP paper, appendix E.3.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from diptych.embed.encoder import Encoder
from diptych.errors import DataError, InputError, ShapeError
from diptych.evalsets.benchmark import Benchmark
from diptych.evalsets.card import Card
from diptych.evalsets.opening import open_frames
from diptych.evaluate.class_coverage import note_tested
from diptych.evaluate.encode_benchmark import MAX_BROKEN
from diptych.evaluate.encoded_set import Encoded, encode_set
from diptych.evaluate.metrics.score import Score, score
from diptych.evaluate.metrics.similarity import class_probabilities
from diptych.evaluate.scored_results import make_result
from diptych.evaluate.tasks.rare_actions import (
    Annotated,
    mean_sampled_average_precision,
    mean_weighted_average_precision,
)
from diptych.evaluate.tasks.task import Measurement, Setting, Task
from diptych.records import Result

PROTOCOL = "frames_averaged"
NUM_FRAMES = 16
"""Frames per clip; more frames hardly change a score, and the cost is proportional."""

_RARE = "mean_weighted_average_precision"


def average_by_clip(
    clips: Sequence[str], labels: np.ndarray, predictions: Iterable[tuple[slice, np.ndarray]]
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Average the scores of frames by clip, without holding the scores of all frames in memory.

    Args:
        clips: F clip names, one per frame.
        labels: int64 (F,), one per frame; equal within a clip.
        predictions: slices of frames and their scores, float (f, C); together they cover all frames.
    Returns:
        The V clip names in the order of their first frames, their labels int64 (V,), and mean scores float64 (V, C).
    Raises:
        ShapeError: frames, labels and predictions differ in number.
        DataError: the frames of a clip have different labels.
        InputError: there is no frame.
    """
    labels = np.asarray(labels)
    if not len(clips) or labels.shape != (len(clips),):
        raise (ShapeError if len(clips) else InputError)(f"{len(clips)} frames and labels of shape {labels.shape}")
    names = {name: place for place, name in enumerate(dict.fromkeys(clips))}
    clip_of_frame = np.array([names[clip] for clip in clips])
    first = np.unique(clip_of_frame, return_index=True)[1]
    if (conflicting := np.flatnonzero(labels != labels[first][clip_of_frame])).size:
        raise DataError(f"frames of the clip {clips[conflicting[0]]!r} have different labels")
    sums, seen = np.zeros((0, 0)), 0
    for rows, scores in predictions:
        sums = sums if sums.size else np.zeros((len(names), scores.shape[1]))
        np.add.at(sums, clip_of_frame[rows], scores)
        seen += len(scores)
    if seen != len(clips):
        raise ShapeError(f"{len(clips)} frames, but predictions of {seen}")
    return tuple(names), labels[first], sums / np.bincount(clip_of_frame)[:, None]


def measure_video(encoder: Encoder, frames: Benchmark, setting: Setting, num_frames: int = NUM_FRAMES) -> list[Result]:
    """Measure an encoder on frames whose metadata name their clip.

    The set's metric comes first, then accuracy. On RareAct, the metadata of each frame also have "verb", "noun",
    "annotation" and "video"; its two metrics have no interval.

    Args:
        frames: samples with metadata {"clip": name}; its card states the metric.
        num_frames: number of frames per clip, recorded in the Results.
    Raises:
        DataError: a frame has no clip, or more than MAX_BROKEN of the clips are broken. Each Broken of the set counts
            as one clip, as in the sets of `open_frames`.
    """
    encoded = encode_set(encoder, frames, cache=setting.cache, num_workers=setting.num_workers)
    clips = [_known(encoded, frames, row, "clip") for row in range(len(encoded.keys))]
    _check_broken(frames, len(set(clips)), encoded.num_broken)
    probabilities = class_probabilities(encoder, frames, encoded.vectors, cache=setting.cache)
    names, labels, scores = average_by_clip(clips, encoded.labels, probabilities)
    metric = frames.card.metric if frames.card else "accuracy"
    classes = note_tested(frames, encoded, setting, len(names) + encoded.num_broken)
    if metric == _RARE:
        first = {clip: row for row, clip in reversed(list(enumerate(clips)))}
        annotated = _annotated(encoded, frames, [first[name] for name in names], labels)
        values = {
            _RARE: mean_weighted_average_precision(scores, annotated),
            "mean_sampled_average_precision": mean_sampled_average_precision(scores, annotated, seed=setting.seed),
        }
        measured = {name: Score(value, len(names)) for name, value in values.items()}
    else:
        metrics = dict.fromkeys((metric, "accuracy"))
        measured = {name: score(name, labels, scores, seed=setting.seed) for name in metrics}
    return [
        make_result(
            *("video", frames.name, frames.split, name, value),
            protocol=PROTOCOL,
            encoder=encoder,
            fingerprint=frames.fingerprint,
            settings={"frames": num_frames, "averaged": "probabilities", "broken_clips": encoded.num_broken, **classes},
        )
        for name, value in measured.items()
    ]


def _check_broken(frames: Benchmark, num_good: int, num_broken: int) -> None:
    # The check during encoding counts frames, of which a clip has many, so it would allow too many broken clips.
    if num_broken > MAX_BROKEN * (num_good + num_broken):
        raise DataError(
            f"{frames.name}/{frames.split}: {num_broken} of {num_good + num_broken} clips are broken, more than "
            f"{MAX_BROKEN:.0%}; repair the set, otherwise the result would not represent it"
        )


def _annotated(encoded: Encoded, frames: Benchmark, rows: Sequence[int], labels: np.ndarray) -> Annotated:
    columns = {
        name: [_known(encoded, frames, row, name) for row in rows] for name in ("verb", "noun", "annotation", "video")
    }
    try:
        annotations = np.array([int(annotation) for annotation in columns["annotation"]])
    except ValueError as error:
        raise DataError(f"{frames.name}: an annotation is no whole number ({error})") from error
    return Annotated(labels, columns["verb"], columns["noun"], annotations, columns["video"])


def _known(encoded: Encoded, frames: Benchmark, row: int, name: str) -> str:
    try:
        return str(encoded.metadata[row][name])
    except KeyError:
        raise DataError(f"{frames.name}/{frames.split}: the frame {encoded.keys[row]!r} says no {name}") from None


def _measure(encoder: Encoder, card: Card, setting: Setting) -> Measurement:
    return Measurement(measure_video(encoder, open_frames(card, setting.data, "test", NUM_FRAMES), setting))


def _applies(card: Card) -> bool:
    return card.task == "video" and card.group != "shift"  # the shifts store frames as images


VIDEO = Task(
    "video",
    _applies,
    lambda card: ("test",),
    _measure,
    version=2,  # 1: other draws for RareAct's sampled metric, and numbers over too few clips
)
"""UCF101, Kinetics-700 and RareAct, with several frames per clip."""
