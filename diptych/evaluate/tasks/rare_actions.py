"""RareAct's two metrics: average precision of rare interactions ("microwave a phone") among hard negatives.

A clip is annotated for one action, a verb and a noun: 1, the clip shows it; 0, it does not; 2, only the verb is right;
3, only the noun is; 4, both are seen, but not together. For an action,

    positives       are its own clips annotated 1,
    hard negatives  its own clips annotated 2, 3 or 4, and positives of actions with the same verb or the same noun,
    negatives       its own clips annotated 0, and positives of all other actions.

Many clips may come from one video. In the weighted form, the clips of one video and group share the weight 1; in the
sampled form, one of them is drawn, and the average precision is the mean over draws.

Source: Miech et al. (2020), RareAct, arXiv 2008.01018, and the definitions of its published evaluation; CLIP paper,
table 15, which calls the two metrics mWAP and mWSAP.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from diptych.errors import InputError, ShapeError

_DRAWS = 100


@dataclasses.dataclass(frozen=True)
class Annotated:
    """The annotations of N clips.

    Attributes:
        classes: int64 (N,), the action that each clip was annotated for.
        verbs, nouns: N words each; constant within a class.
        annotations: int64 (N,), 0 to 4.
        videos: N names of the videos that the clips were cut from.
    """

    classes: np.ndarray
    verbs: Sequence[str]
    nouns: Sequence[str]
    annotations: np.ndarray
    videos: Sequence[str]

    def __post_init__(self) -> None:
        lengths = {len(self.classes), len(self.verbs), len(self.nouns), len(self.annotations), len(self.videos)}
        if len(lengths) != 1:
            raise ShapeError(f"classes, verbs, nouns, annotations and videos must be of one length; got {lengths}")
        if not np.isin(self.annotations, range(5)).all():
            raise InputError(f"annotations must be 0 to 4; found {sorted(set(np.asarray(self.annotations).tolist()))}")


def mean_weighted_average_precision(scores: np.ndarray, annotated: Annotated) -> float:
    """mWAP: the mean of weighted average precision over actions with a positive clip, a fraction.

    Args:
        scores: float (N, C), of each clip for each action; clips with equal scores enter together.
    Raises:
        ShapeError: scores and annotations do not fit together.
        InputError: a score is not finite, or no clip is a positive.
    """
    from sklearn.metrics import average_precision_score  # imported here: loading takes longer than the computation

    precisions = []
    for action, groups in _actions(scores, annotated):
        rows, right = _joined(groups)
        weights = np.concatenate([_shares(group, annotated.videos) for group in groups])
        precisions.append(average_precision_score(right, scores[rows, action], sample_weight=weights))
    return float(np.mean(precisions))


def mean_sampled_average_precision(
    scores: np.ndarray, annotated: Annotated, *, draws: int = _DRAWS, seed: int = 0
) -> float:
    """mWSAP: the same with one clip drawn per video and group; the mean over draws, then over actions.

    Args:
        scores: float (N, C).
        draws: number of draws, at least 1; the authors use 100.
        seed: the same seed draws the same clips. For each action, all draws of positives come first, then those of
            negatives and hard negatives.
    Raises:
        ShapeError: scores and annotations do not fit together.
        InputError: a score is not finite, no clip is a positive, or draws is below 1.
    """
    if draws < 1:
        raise InputError(f"draws must be at least 1; got {draws}")
    rng, precisions = np.random.default_rng(seed), []
    videos = np.unique(np.asarray(annotated.videos), return_inverse=True)[1]
    for action, groups in _actions(scores, annotated):
        drawn = [_drawn(group, videos[group], draws, rng) for group in groups]
        precisions.append(_average_precisions(scores[np.hstack(drawn), action], drawn[0].shape[1]).mean())
    return float(np.mean(precisions))


def _drawn(rows: np.ndarray, videos: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Draw one row per video, with the videos in order: int64 (draws, number of videos)."""
    rows = rows[np.argsort(videos, kind="stable")]
    first, size = np.unique(np.sort(videos), return_index=True, return_counts=True)[1:]
    return rows[first + rng.integers(0, size, (draws, len(size)))]


def _average_precisions(scores: np.ndarray, num_positives: int) -> np.ndarray:
    """Average precision of each row of scores, float64 (D,); the first columns are the positives.

    Equal scores enter together, as in scikit-learn, which handles only one row at a time.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    ranked, right = np.take_along_axis(scores, order, 1), order < num_positives
    places = np.arange(scores.shape[1])
    # The last position with the same score, for each position.
    ends = np.where(np.diff(ranked, axis=1, append=-np.inf) != 0, places, places[-1])
    ends = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
    precision = np.take_along_axis(np.cumsum(right, axis=1), ends, 1) / (ends + 1)
    return (precision * right).sum(axis=1) / num_positives


def _actions(scores: np.ndarray, annotated: Annotated) -> list[tuple[int, list[np.ndarray]]]:
    """For each action with positives, its class and the rows of positives, negatives and hard negatives."""
    classes, annotations = np.asarray(annotated.classes), np.asarray(annotated.annotations)
    if scores.ndim != 2 or len(scores) != len(classes) or not len(classes) or classes.max() >= scores.shape[1]:
        raise ShapeError(f"scores of shape {scores.shape} do not fit {len(classes)} clips and their classes")
    if broken := int((~np.isfinite(scores)).any(axis=1).sum()):
        raise InputError(f"the scores of {broken} of {len(scores)} clips hold NaN or infinity")
    verbs, nouns = np.asarray(annotated.verbs), np.asarray(annotated.nouns)
    actions = []
    for action in np.unique(classes):
        own, shown = classes == action, annotations == 1
        first = int(own.argmax())
        elsewhere = shown & ~own
        near = elsewhere & ((verbs == verbs[first]) | (nouns == nouns[first]))
        positive, negative = own & shown, (own & (annotations == 0)) | (elsewhere & ~near)
        groups = [positive, negative, (own & (annotations > 1)) | near]
        if positive.any():
            actions.append((int(action), [np.flatnonzero(group) for group in groups]))
    if not actions:
        raise InputError("no clip shows its action: there is nothing to rank")
    return actions


def _joined(groups: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """All rows, and which of them are positives (the first group)."""
    rows = np.concatenate(groups)
    return rows, np.arange(len(rows)) < len(groups[0])


def _by_video(rows: np.ndarray, videos: Sequence[str]) -> list[list[int]]:
    of_video: dict[str, list[int]] = {}
    for row in rows.tolist():
        of_video.setdefault(videos[row], []).append(row)
    return list(of_video.values())


def _shares(rows: np.ndarray, videos: Sequence[str]) -> np.ndarray:
    share = {row: 1 / len(own) for own in _by_video(rows, videos) for row in own}
    return np.array([share[row] for row in rows.tolist()])
