"""People beside models: table 2's columns, and whether both find the same classes hard."""

import dataclasses

import numpy as np
import pytest
from colours import NAMES, TEMPLATES, FingerprintedEncoder, PixelColourEncoder, write_set
from scipy import stats
from scipy.special import softmax

from diptych.errors import DataError, InputError
from diptych.evalsets.benchmark import open_benchmark
from diptych.evalsets.cards import CARDS
from diptych.evaluate.encoded_set import encode_set
from diptych.evaluate.metrics.classification import mean_per_class_accuracy
from diptych.evaluate.metrics.similarity import class_probabilities
from diptych.evaluate.tasks.human import (
    COLUMNS,
    HUMAN,
    Answer,
    agreement,
    human_results,
    human_scores,
    per_class,
    read_answers,
)
from diptych.evaluate.tasks.task import Setting
from diptych.evaluate.zero_shot.class_embeddings import class_embeddings
from diptych.evaluate.zero_shot.evaluator import ZeroShot
from diptych.report.paper_numbers import published

LABELS = {"1": "Pug", "2": "pug", "3": "maine coon"}


def answers(said: dict[str, list[str]]) -> list[Answer]:
    return [Answer(image, f"p{n}", answer) for image, given in said.items() for n, answer in enumerate(given)]


SAID = answers(
    {
        "1": ["pug", "Pug", "I don't know", "Maine_Coon", "pug"],  # 3 of 5; vote right; guesses 3 of 4, right
        "2": ["don't know", "don't know", "don't know", "pug", "maine coon"],  # 1 of 5; vote wrong; guesses tie
        "3": ["maine coon", "maine coon", "pug", "pug", "don't know"],  # 2 of 5; tie; guesses 2 of 4, tie
    }
)


def test_the_four_columns_solved_by_hand():
    found = human_scores(SAID, LABELS)
    assert list(found) == list(COLUMNS)
    assert found["accuracy"].value == pytest.approx((4 / 10 + 2 / 5) / 2) and found["accuracy"].n == 15
    assert found["majority vote"].value == pytest.approx(1 / 2) and found["majority vote"].n == 2  # of pugs alone
    assert found["accuracy on guesses"].value == pytest.approx((4 / 6 + 2 / 4) / 2)
    assert found["accuracy on guesses"].n == 10
    assert found["majority vote on guesses"].value == 1 and found["majority vote on guesses"].n == 1
    for score in found.values():
        assert score.low <= score.value <= score.high and score.interval == "bootstrap 99.5%"
    assert human_scores(SAID, LABELS) == found


def test_means_are_over_classes_not_over_answers():
    many = answers({"1": ["pug"] * 9, "2": ["pug"] * 9, "3": ["pug"]})
    assert human_scores(many, LABELS)["accuracy"].value == 1 / 2


def drawn_again(statistic, number: int, seed: int) -> tuple[float, float]:
    """The 99.5 % interval of a statistic of rows by 1,000 draws, written out."""
    rng = np.random.default_rng(seed)
    values = [statistic(rng.integers(number, size=number).tolist()) for _ in range(1000)]
    return tuple(np.quantile(values, [0.0025, 0.9975]).tolist())


def test_the_interval_is_that_of_pictures_drawn_again():
    counts = [("pug", 3, 5), ("pug", 1, 5), ("coon", 2, 5)]  # right and all answers of each picture

    def mean(rows):
        sums = {}
        for row in rows:
            name, right, total = counts[row]
            sums[name] = [sums.get(name, [0, 0])[0] + right, sums.get(name, [0, 0])[1] + total]
        return np.mean([right / total for right, total in sums.values()])

    lone = human_scores(SAID, LABELS)["majority vote on guesses"]
    assert (lone.low, lone.value, lone.high) == (0, 1, 1)  # a draw without the one picture that has a vote counts as 0
    for seed in (0, 5):
        found = human_scores(SAID, LABELS, seed=seed)["accuracy"]
        assert (found.low, found.high) == pytest.approx(drawn_again(mean, 3, seed))
    rng = np.random.default_rng(0)  # many pictures, so that each seed and each number of draws has bounds of its own
    counts = [(("pug", "coon")[number % 2], int(rng.integers(7)), 6) for number in range(30)]
    said = {str(n): [name] * right + ["don't know"] * (total - right) for n, (name, right, total) in enumerate(counts)}
    labels = {str(number): name for number, (name, *_) in enumerate(counts)}
    for seed in (0, 5):
        found = human_scores(answers(said), labels, seed=seed)["accuracy"]
        assert (found.low, found.high) == pytest.approx(drawn_again(mean, 30, seed), abs=1e-12)
    assert human_scores(answers({"1": ["pug"], "3": ["pug"]}), LABELS)["accuracy"].low == 0.0  # two have an interval
    alone = human_scores(answers({"1": ["pug", "maine coon"]}), LABELS)["accuracy"]
    assert (alone.value, alone.n, alone.low, alone.high, alone.interval) == (0.5, 2, None, None, None)


@pytest.mark.parametrize("said", ["don't know", "I don't know", "Do not know", "i do not know", "unknown", "DONT KNOW"])
def test_whoever_does_not_know_has_guessed_nothing(said):
    found = human_scores(answers({"1": [said, "pug"], "3": ["maine coon"]}), LABELS)
    assert (found["accuracy"].value, found["accuracy on guesses"].value) == (3 / 4, 1)
    assert (found["accuracy"].n, found["accuracy on guesses"].n) == (3, 2)


def test_columns_without_votes_are_left_out():
    found = human_scores(answers({"1": ["don't know"], "3": ["don't know"]}), LABELS)
    assert list(found) == ["accuracy", "majority vote"] and found["accuracy"].value == 0


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"9": ["pug"]}, "'9', which has no label"),
        ({"1": ["poodle"]}, "'poodle', which is none of 2 classes"),
        ({}, "no answers"),
    ],
)
def test_answers_that_cannot_be_counted_are_an_error(said, words):
    with pytest.raises(InputError, match=words):
        human_scores(answers(said), {"1": "pug", "3": "maine coon"})


def test_answers_are_read_from_a_table(tmp_path):
    path = tmp_path / "answers.csv"
    path.write_text("person,image,answer,seconds\np0,1,pug,3\np1,1,don't know,4\n", encoding="utf-8")
    assert read_answers(path) == [Answer("1", "p0", "pug"), Answer("1", "p1", "don't know")]
    # As a spreadsheet writes it: a mark of the byte order, carriage returns, spaces, a quoted line break.
    path.write_bytes('\ufeffimage,person,answer\r\n 1 ,p0,"pug"\r\n2,p0,"maine\r\ncoon "\r\n'.encode())
    assert read_answers(path) == [Answer("1", "p0", "pug"), Answer("2", "p0", "maine\r\ncoon")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("person,image\np0,1\n", "lacks the column answer"),
        ("", "lacks the column"),
        ("person,image,answer\np0,1,\n", "line 2 has an empty field"),
        ("person,image,answer\np0,1\n", "line 2 has an empty field"),
        ("person,image,answer\np0,1,pug\np0,1,pug\n", "p0 answers more than once about 1"),
    ],
)
def test_broken_tables_of_answers_are_an_error(tmp_path, text, words):
    path = tmp_path / "answers.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=words):
        read_answers(path)
    with pytest.raises(DataError, match="cannot read answers"):
        read_answers(tmp_path / "none.csv")


def test_scores_become_results():
    results = human_results(human_scores(SAID, LABELS), "our office")
    assert [r.metric for r in results] == [
        "accuracy",
        "majority_vote",
        "accuracy_on_guesses",
        "majority_vote_on_guesses",
    ]
    assert {(r.model, r.task, r.dataset, r.split, r.protocol) for r in results} == {
        ("our office", "human", "OxfordPets", "test", "answers")
    }
    for result, score in zip(results, human_scores(SAID, LABELS).values(), strict=True):
        numbers = (result.value, result.n, result.low, result.high, result.interval)
        assert numbers == (score.value, score.n, score.low, score.high, score.interval)
        assert "commit" in result.run


def test_agreement_is_that_of_scipy():
    people = published("figure 16")
    for first, second in (("zero-shot CLIP", "one-shot human"), ("one-shot human", "zero-shot human")):
        found = agreement(people[first], people[second])
        one, two = ([people[side][name] for name in people[first]] for side in (first, second))
        assert found["pearson"].value == pytest.approx(stats.pearsonr(one, two).statistic)
        assert found["spearman"].value == pytest.approx(stats.spearmanr(one, two).statistic)
        for score in found.values():
            assert score.n == 37 and -1 <= score.low < score.value < score.high <= 1
        assert agreement(people[first], people[second]) == found


def test_the_interval_of_an_agreement_is_that_of_classes_drawn_again():
    first, second = [0.1, 0.7, 0.4, 0.9], [0.3, 0.5, 0.6, 0.5]
    sides = dict(zip("abcd", first, strict=True)), dict(zip("abcd", second, strict=True))
    for name, by in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):

        def correlation(rows, by=by):
            x, y = [first[row] for row in rows], [second[row] for row in rows]
            return by(x, y).statistic if len(set(x)) > 1 and len(set(y)) > 1 else 0.0

        for seed in (0, 3):
            found = agreement(*sides, seed=seed)[name]
            assert (found.low, found.high) == pytest.approx(drawn_again(correlation, 4, seed))
            assert (found.n, found.interval) == (4, "bootstrap 99.5%")
    one, two = np.random.default_rng(1).random((2, 20))  # many classes: each seed has bounds of its own
    many = [{str(place): float(value) for place, value in enumerate(side)} for side in (one, one + two)]

    def pearson(rows):
        return stats.pearsonr(one[rows], (one + two)[rows]).statistic

    for seed in (0, 3):
        found = agreement(*many, seed=seed)["pearson"]
        assert (found.low, found.high) == pytest.approx(drawn_again(pearson, 20, seed), abs=1e-12)
    rising, falling = {"a": 0.1, "b": 0.2, "c": 0.3}, {"a": 0.3, "b": 0.2, "c": 0.1}
    found = agreement(rising, falling)["pearson"]
    assert (found.low, found.high) == pytest.approx((-1, 0))  # one draw in nine is one class thrice
    three = {name: sides[0][name] for name in "abc"}
    assert agreement(three, three)["pearson"].n == 3
    for wrong in ({name: sides[0][name] for name in "ab"}, {**three, "d": 0.5}):
        with pytest.raises(InputError, match="same three classes or more; got"):
            agreement(wrong, three if len(wrong) > 2 else wrong)


def test_agreement_with_itself_is_whole_and_with_nothing_is_an_error():
    some = {"a": 0.1, "b": 0.7, "c": 0.4, "d": 0.9}
    assert agreement(some, some)["spearman"].value == pytest.approx(1)
    assert agreement(some, {name: -value for name, value in some.items()})["pearson"].value == pytest.approx(-1)
    for sides in (
        (some, dict.fromkeys(some, 1.0)),
        (dict.fromkeys(some, 0.0), some),
        (dict.fromkeys("abc", 0.3), dict.fromkeys("abc", 0.1)),
    ):
        with pytest.raises(InputError, match="same accuracy in every class"):
            agreement(*sides)
    with pytest.raises(InputError, match="same three classes"):
        agreement(some, {"a": 1.0})


def test_per_class_solved_by_hand():
    probabilities = np.array([[0.9, 0.1, 0], [0.3, 0.7, 0], [0.2, 0.8, 0]])
    found = per_class(np.array([0, 0, 1]), probabilities, ("x", "y", "z"))
    assert found["x"] == pytest.approx((0.5, 0.6)) and found["y"] == pytest.approx((1.0, 0.8)) and "z" not in found


def test_an_encoder_without_a_scale_gives_no_probabilities(tmp_path):
    write_set(tmp_path / "set", [0, 1])
    encoder = hidden(FingerprintedEncoder)("mark")
    with pytest.raises(InputError, match="states no logit_scale"):
        list(class_probabilities(encoder, open_benchmark(tmp_path / "set"), np.eye(7, dtype=np.float32)))


@pytest.mark.parametrize("used", [20.0, 100.0])
def test_probabilities_are_the_softmax_of_scaled_cosines_whatever_the_blocks(tmp_path, used):
    class Scaled(FingerprintedEncoder):
        logit_scale = used

    write_set(tmp_path / "set", [0, 1])
    benchmark, encoder = open_benchmark(tmp_path / "set"), Scaled("mark")
    vectors = np.eye(7, dtype=np.float32)[[3, 0, 6, 2, 2]]
    expected = softmax(used * vectors @ class_embeddings(encoder, NAMES, TEMPLATES).numpy().T, axis=1)
    for block in (2, 5, 100):
        parts = list(class_probabilities(encoder, benchmark, vectors, cache=tmp_path / "cache", block=block))
        assert [rows for rows, _ in parts] == [slice(top, min(top + block, 5)) for top in range(0, 5, block)]
        assert np.concatenate([part for _, part in parts]) == pytest.approx(expected, abs=1e-6)
    assert [path.parent.name for path in (tmp_path / "cache").rglob("*.safetensors")] == ["classifiers"]


def hidden(kind: type) -> type:
    """The same encoder without the attribute logit_scale."""

    class Silent(kind):
        def __getattribute__(self, name):
            if name == "logit_scale":
                raise AttributeError(name)
            return super().__getattribute__(name)

    return Silent


def test_the_task_says_how_hard_each_class_is(tmp_path):
    write_set(tmp_path / "OxfordPets", [number % 7 for number in range(28)])
    card = dataclasses.replace(CARDS["OxfordPets"], num_classes=7, splits={}, prompts=None)
    assert HUMAN.applies(card) and HUMAN.splits(card) == ("test",)
    (result,) = HUMAN.measure(PixelColourEncoder(), card, Setting(tmp_path)).results
    where = (result.task, result.dataset, result.split, result.metric, result.protocol)
    assert where == ("human", "OxfordPets", "test", "mean_per_class_accuracy", "zero-shot")
    settings = result.run["settings"]
    assert tuple(settings["accuracy"]) == tuple(settings["probability"]) == NAMES
    assert result.value == pytest.approx(np.mean(list(settings["accuracy"].values())))
    # The same as the zero-shot evaluator's.
    benchmark = open_benchmark(tmp_path / "OxfordPets")
    predictions = ZeroShot(benchmark, protocols=("ensemble",)).predict(PixelColourEncoder())["ensemble"]
    assert result.value == pytest.approx(mean_per_class_accuracy(predictions.labels, predictions.classes))
    assert benchmark.templates == TEMPLATES and len(encode_set(PixelColourEncoder(), benchmark).keys) == result.n == 28
