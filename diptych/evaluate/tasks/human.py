"""People and models on the same images: how right each is, and whether they err on the same classes (section 4).

Source: CLIP paper, section 4, table 2 and figure 16. Five people looked at each test image of Oxford-IIIT Pets and
named one of 37 breeds, or said that they did not know.
"""

import csv
import dataclasses
import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from diptych.embed.encoder import Encoder
from diptych.errors import DataError, InputError
from diptych.evalsets.card import Card
from diptych.evalsets.cards import CARDS
from diptych.evalsets.prompts import plain_name
from diptych.evaluate.class_coverage import note_tested, open_tested
from diptych.evaluate.encoded_set import encode_set
from diptych.evaluate.make_result import make_result
from diptych.evaluate.metrics.comparison import bootstrap
from diptych.evaluate.metrics.score import RESAMPLED, Score, score
from diptych.evaluate.metrics.similarity import class_probabilities
from diptych.evaluate.provenance import run_record
from diptych.evaluate.tasks.task import Measurement, Setting, Task
from diptych.files import expanded
from diptych.records import Result

COLUMNS = ("accuracy", "majority vote", "accuracy on guesses", "majority vote on guesses")
"""Table 2's."""
(DATASET,) = (card.name for card in CARDS.values() if card.has_human_study)

_DONT_KNOW = {"dontknow", "idontknow", "donotknow", "idonotknow", "unknown"}
_RESAMPLES = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What a person said about an image: a class's name, or "don't know"."""

    image: str
    person: str
    answer: str


def read_answers(path: str | Path) -> list[Answer]:
    """Read a CSV file with the columns image, person and answer.

    Raises:
        DataError: it cannot be read, lacks a column, has an empty field, or a person answers twice about an image.
    """
    try:
        with expanded(path).open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if lacking := {"image", "person", "answer"} - set(rows.fieldnames or ()):
                raise DataError(f"{path} lacks the column {', '.join(sorted(lacking))}; it needs image, person, answer")
            answers = []
            for row in rows:
                fields = [(row[name] or "").strip() for name in ("image", "person", "answer")]
                if not all(fields):
                    raise DataError(f"{path}, line {rows.line_num} has an empty field; write don't know for no answer")
                answers.append(Answer(*fields))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read answers from {path}: {error}") from error
    twice = [key for key, count in Counter((one.image, one.person) for one in answers).items() if count > 1]
    if twice:
        raise DataError(f"{path}: {twice[0][1]} answers more than once about {twice[0][0]}")
    return answers


def human_scores(answers: Sequence[Answer], labels: Mapping[str, str], *, seed: int = 0) -> dict[str, Score]:
    """Table 2's four columns: means over classes, as everywhere on this set.

    "accuracy" counts "don't know" as wrong; "majority vote" is each image's most frequent answer, "don't know" being
    one, without the images on which two are equally frequent; the other two leave "don't know" out beforehand. The
    intervals are bootstraps over images, whose answers stay together.

    Args:
        answers: of any number of people.
        labels: image -> its class's name; names are compared without case and punctuation.
        seed: of the resamples.
    Returns:
        column -> Score, n being answers or votes; a column without any (nobody guesses) is left out.
    Raises:
        InputError: there is no answer, or one is about an unknown image or names no class.
    """
    classes = {plain_name(name): place for place, name in enumerate(sorted(set(labels.values())))}
    given: dict[str, list[str]] = {}
    for one in answers:
        said = plain_name(one.answer)
        if one.image not in labels:
            raise InputError(f"{one.person} answers about {one.image!r}, which has no label")
        if said not in classes and said not in _DONT_KNOW:
            raise InputError(
                f"{one.person} calls {one.image!r} {one.answer!r}, which is none of {len(classes)} classes"
            )
        given.setdefault(one.image, []).append("" if said in _DONT_KNOW else said)
    if not given:
        raise InputError("there are no answers")
    truth = [plain_name(labels[image]) for image in given]
    owner = np.array([classes[name] for name in truth])
    counts = {
        name: [_count(name, said, true) for said, true in zip(given.values(), truth, strict=True)] for name in COLUMNS
    }
    found = {}
    for name, pairs in counts.items():
        right, total = np.array(pairs).T
        if total.sum():
            found[name] = _per_class(owner, right, total, seed)
    return found


def human_results(scores: Mapping[str, Score], people: str, *, dataset: str = DATASET) -> list[Result]:
    """Scores of people as Results, which table 2 then shows beside those of models.

    Args:
        scores: of `human_scores`.
        people: what they are called in place of a model: "zero-shot human, our office".
    """
    return [
        Result(
            *("human", dataset, "test", column.replace(" ", "_"), value.value, value.n, value.low, value.high),
            interval=value.interval,
            protocol="answers",
            model=people,
            run=run_record(),
        )
        for column, value in scores.items()
    ]


def agreement(first: Mapping[str, float], second: Mapping[str, float], *, seed: int = 0) -> dict[str, Score]:
    """Do two find the same classes hard? Correlations of their accuracies per class.

    Args:
        first, second: class -> accuracy, of the same classes, three at least.
        seed: of the resamples.
    Returns:
        "pearson" and "spearman" in [-1, 1], with a bootstrap interval over classes; a draw in which one side is
        constant counts as 0.
    Raises:
        InputError: the classes differ, are fewer than three, or one side has the same accuracy everywhere.
    """
    if first.keys() != second.keys() or len(first) < 3:
        raise InputError(f"agreement needs the same three classes or more; got {len(first)} and {len(second)}")
    return dict(_agreement(tuple(first.values()), tuple(second[name] for name in first), seed))


@functools.lru_cache(64)  # the paper's own are the same on every page: tens of thousands of correlations
def _agreement(first: tuple[float, ...], second: tuple[float, ...], seed: int) -> Mapping[str, Score]:
    one, two = np.array(first), np.array(second)
    if not np.ptp(one) or not np.ptp(two):  # not std, which rounding may leave above 0
        raise InputError("one side has the same accuracy in every class: there is no correlation")
    found = {}
    for name, prepare in (("pearson", np.asarray), ("spearman", _places)):

        def correlation(rows: np.ndarray, prepare=prepare) -> float:
            x, y = prepare(one[rows]), prepare(two[rows])
            return float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) and np.ptp(y) else 0.0

        interval = bootstrap(correlation, len(one), resamples=_RESAMPLES, seed=seed)
        found[name] = Score(correlation(np.arange(len(one))), len(one), *interval, RESAMPLED)
    return found


def per_class(
    labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]
) -> dict[str, tuple[float, float]]:
    """Accuracy and mean probability of the true class, of each class that has samples.

    Args:
        labels: int64 (N,). probabilities: float (N, C).
    """
    best = probabilities.argmax(axis=1)
    found = {}
    for label in np.unique(labels):
        own = labels == label
        found[class_names[label]] = float((best[own] == label).mean()), float(probabilities[own, label].mean())
    return found


def _count(column: str, said: Sequence[str], true: str) -> tuple[int, int]:
    """Right ones and all ones of an image."""
    said = [one for one in said if one] if column.endswith("guesses") else said
    if column.startswith("majority"):
        (top, most), *rest = Counter(said).most_common(2) or [("", 0)]
        if not most or (rest and rest[0][1] == most):
            return 0, 0
        return int(top == true), 1
    return sum(one == true for one in said), len(said)


def _per_class(owner: np.ndarray, right: np.ndarray, total: np.ndarray, seed: int) -> Score:
    """The mean over classes of right by total."""

    def mean(rows: np.ndarray) -> float:
        sums = np.bincount(owner[rows], right[rows]), np.bincount(owner[rows], total[rows])
        there = sums[1] > 0
        return float(np.mean(sums[0][there] / sums[1][there])) if there.any() else 0.0

    n, every = int(total.sum()), np.arange(len(owner))
    if len(owner) < 2:
        return Score(mean(every), n)
    return Score(mean(every), n, *bootstrap(mean, len(owner), resamples=_RESAMPLES, seed=seed), RESAMPLED)


def _places(values: np.ndarray) -> np.ndarray:
    """Ranks; equal values share the mean of theirs."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[index]


def _measure(encoder: Encoder, card: Card, setting: Setting) -> Measurement:
    benchmark = open_tested(card, setting)
    encoded = encode_set(encoder, benchmark, cache=setting.cache, num_workers=setting.num_workers)
    settings = note_tested(benchmark, encoded, setting)
    parts = class_probabilities(encoder, benchmark, encoded.vectors, cache=setting.cache)
    probabilities = np.concatenate([part for _, part in parts])
    found = per_class(encoded.labels, probabilities, benchmark.class_names)
    result = make_result(
        *("human", card.name, "test", "mean_per_class_accuracy"),
        score("mean_per_class_accuracy", encoded.labels, probabilities, seed=setting.seed),
        protocol="zero-shot",
        encoder=encoder,
        fingerprint=benchmark.fingerprint,
        settings={
            **settings,
            "accuracy": {name: accuracy for name, (accuracy, _) in found.items()},
            "probability": {name: probability for name, (_, probability) in found.items()},
        },
    )
    return Measurement([result])


HUMAN = Task("human", lambda card: card.has_human_study, lambda card: ("test",), _measure)
"""Accuracy on each breed, and how probable the model finds it."""
