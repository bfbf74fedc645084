"""Compare people and models on the same images: accuracy, and whether they find the same classes hard (section 4).

Source: CLIP paper, section 4, table 2 and figure 16. Five people looked at each test image of Oxford-IIIT Pets and
named one of 37 breeds, or answered that they did not know.
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
from diptych.evaluate.metrics.comparison import bootstrap
from diptych.evaluate.metrics.score import RESAMPLED, Score, score
from diptych.evaluate.metrics.similarity import class_probabilities
from diptych.evaluate.provenance import run_record
from diptych.evaluate.scored_results import make_result
from diptych.evaluate.tasks.task import Measurement, Setting, Task
from diptych.files import expanded
from diptych.records import Result

COLUMNS = ("accuracy", "majority vote", "accuracy on guesses", "majority vote on guesses")
"""The columns of table 2."""
(DATASET,) = (card.name for card in CARDS.values() if card.has_human_study)

_DONT_KNOW = {"dontknow", "idontknow", "donotknow", "idonotknow", "unknown"}
_RESAMPLES = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """A person's answer about an image: the name of a class, or "don't know"."""

    image: str
    person: str
    answer: str


def read_answers(path: str | Path) -> list[Answer]:
    """Read a CSV file with the columns image, person and answer.

    Raises:
        DataError: the file cannot be read, lacks a column, has an empty field, or has two answers of one person.
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
    twice = [key for key, count in Counter((answer.image, answer.person) for answer in answers).items() if count > 1]
    if twice:
        raise DataError(f"{path}: {twice[0][1]} answers more than once about {twice[0][0]}")
    return answers


def human_scores(answers: Sequence[Answer], labels: Mapping[str, str], *, seed: int = 0) -> dict[str, Score]:
    """The four columns of table 2: means over classes, as in all metrics of this set.

    "accuracy" counts "don't know" as wrong. "majority vote" takes the most frequent answer to each image, where "don't
    know" counts as an answer; images with a tie are left out. The other two columns first remove "don't know". The
    intervals are bootstraps over images; the answers to one image stay together.

    Args:
        answers: answers of any number of people.
        labels: image -> name of its class; names are compared without case and punctuation.
        seed: seed of the resamples.
    Returns:
        column -> Score, with the number of answers or votes as n; a column without any (nobody guesses) is left out.
    Raises:
        InputError: there is no answer, or an answer is about an unknown image or is not a class.
    """
    classes = {plain_name(name): place for place, name in enumerate(sorted(set(labels.values())))}
    answers_of: dict[str, list[str]] = {}
    for answer in answers:
        name_given = plain_name(answer.answer)
        if answer.image not in labels:
            raise InputError(f"{answer.person} answers about {answer.image!r}, which has no label")
        if name_given not in classes and name_given not in _DONT_KNOW:
            raise InputError(
                f"{answer.person} calls {answer.image!r} {answer.answer!r}, which is none of {len(classes)} classes"
            )
        answers_of.setdefault(answer.image, []).append("" if name_given in _DONT_KNOW else name_given)
    if not answers_of:
        raise InputError("there are no answers")
    truth = [plain_name(labels[image]) for image in answers_of]
    owner = np.array([classes[name] for name in truth])
    counts = {
        name: [_count(name, names_given, true) for names_given, true in zip(answers_of.values(), truth, strict=True)]
        for name in COLUMNS
    }
    scores = {}
    for name, pairs in counts.items():
        right, total = np.array(pairs).T
        if total.sum():
            scores[name] = _per_class(owner, right, total, seed)
    return scores


def human_results(scores: Mapping[str, Score], people: str, *, dataset: str = DATASET) -> list[Result]:
    """Scores of people as Results, so table 2 can show them with those of models.

    Args:
        scores: from `human_scores`.
        people: the name in place of a model's: "zero-shot human, our office".
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
    """Whether two models or groups find the same classes hard: correlations of their accuracies per class.

    Args:
        first, second: class -> accuracy, for the same classes, at least three.
        seed: seed of the resamples.
    Returns:
        "pearson" and "spearman" in [-1, 1], with bootstrap intervals over classes; a draw in which one side is constant
        counts as 0.
    Raises:
        InputError: the classes differ, are fewer than three, or one side has the same accuracy everywhere.
    """
    if first.keys() != second.keys() or len(first) < 3:
        raise InputError(f"agreement needs the same three classes or more; got {len(first)} and {len(second)}")
    return dict(_agreement(tuple(first.values()), tuple(second[name] for name in first), seed))


@functools.lru_cache(64)  # cached: every page needs the paper's own agreement, tens of thousands of correlations
def _agreement(first: tuple[float, ...], second: tuple[float, ...], seed: int) -> Mapping[str, Score]:
    first_values, second_values = np.array(first), np.array(second)
    if not np.ptp(first_values) or not np.ptp(second_values):  # not std, which rounding can leave above 0
        raise InputError("one side has the same accuracy in every class: there is no correlation")
    scores = {}
    for name, prepare in (("pearson", np.asarray), ("spearman", _places)):

        def correlation(rows: np.ndarray, prepare=prepare) -> float:
            x, y = prepare(first_values[rows]), prepare(second_values[rows])
            return float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) and np.ptp(y) else 0.0

        interval = bootstrap(correlation, len(first_values), resamples=_RESAMPLES, seed=seed)
        scores[name] = Score(correlation(np.arange(len(first_values))), len(first_values), *interval, RESAMPLED)
    return scores


def per_class(
    labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]
) -> dict[str, tuple[float, float]]:
    """Accuracy and mean probability of the true class, for each class with samples.

    Args:
        labels: int64 (N,). probabilities: float (N, C).
    """
    best = probabilities.argmax(axis=1)
    by_class = {}
    for label in np.unique(labels):
        own = labels == label
        by_class[class_names[label]] = float((best[own] == label).mean()), float(probabilities[own, label].mean())
    return by_class


def _count(column: str, answers: Sequence[str], true: str) -> tuple[int, int]:
    """The number of correct answers and of all answers to an image."""
    answers = [answer for answer in answers if answer] if column.endswith("guesses") else answers
    if column.startswith("majority"):
        (top, most), *rest = Counter(answers).most_common(2) or [("", 0)]
        if not most or (rest and rest[0][1] == most):
            return 0, 0
        return int(top == true), 1
    return sum(answer == true for answer in answers), len(answers)


def _per_class(owner: np.ndarray, right: np.ndarray, total: np.ndarray, seed: int) -> Score:
    """The mean over classes of correct answers / all answers."""

    def mean(rows: np.ndarray) -> float:
        sums = np.bincount(owner[rows], right[rows]), np.bincount(owner[rows], total[rows])
        present = sums[1] > 0
        return float(np.mean(sums[0][present] / sums[1][present])) if present.any() else 0.0

    n, all_rows = int(total.sum()), np.arange(len(owner))
    if len(owner) < 2:
        return Score(mean(all_rows), n)
    return Score(mean(all_rows), n, *bootstrap(mean, len(owner), resamples=_RESAMPLES, seed=seed), RESAMPLED)


def _places(values: np.ndarray) -> np.ndarray:
    """Ranks; equal values share their mean rank."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[index]


def _measure(encoder: Encoder, card: Card, setting: Setting) -> Measurement:
    benchmark = open_tested(card, setting)
    encoded = encode_set(encoder, benchmark, cache=setting.cache, num_workers=setting.num_workers)
    settings = note_tested(benchmark, encoded, setting)
    parts = class_probabilities(encoder, benchmark, encoded.vectors, cache=setting.cache)
    probabilities = np.concatenate([part for _, part in parts])
    by_class = per_class(encoded.labels, probabilities, benchmark.class_names)
    result = make_result(
        *("human", card.name, "test", "mean_per_class_accuracy"),
        score("mean_per_class_accuracy", encoded.labels, probabilities, seed=setting.seed),
        protocol="zero-shot",
        encoder=encoder,
        fingerprint=benchmark.fingerprint,
        settings={
            **settings,
            "accuracy": {name: accuracy for name, (accuracy, _) in by_class.items()},
            "probability": {name: probability for name, (_, probability) in by_class.items()},
        },
    )
    return Measurement([result])


HUMAN = Task("human", lambda card: card.has_human_study, lambda card: ("test",), _measure)
"""Accuracy on each breed, and the mean probability of the true breed."""
