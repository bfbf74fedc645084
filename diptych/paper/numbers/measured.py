"""Measured Results in the form of the paper's tables: a score per model and set in percent, and means over sets."""

from collections.abc import Iterable, Mapping, Sequence

from diptych.evalsets.cards import CARDS
from diptych.evaluate.class_coverage import classes_in_words
from diptych.evaluate.probe.training_set import HELD_OUT
from diptych.paper.numbers.chance import is_at_chance
from diptych.paper.numbers.compute import twin
from diptych.records import Result, kind_of
from diptych.report.paper_numbers import published
from diptych.report.table import Cell

PAPER_27 = tuple(card.name for card in CARDS.values() if card.group == "paper27")
"""The sets of table 9, in its order."""
KORNBLITH_12 = PAPER_27[:12]
"""The suite of Kornblith et al., the first rows of table 9."""
WITHOUT_IMAGENET = tuple(name for name in PAPER_27 if name != "ImageNet")
SUITES = {"mean of 12": KORNBLITH_12, "mean of 27": PAPER_27, "mean of 26": WITHOUT_IMAGENET}
"""The groups of sets over which the paper takes means: the suite of 12, all, and all without ImageNet."""
BEST = "CLIP ViT-L/14@336px"
"""The row name of the paper's best model."""
_NO_PERCENT = ("error_km",)  # suffixes of metrics that are not fractions
_COUNTS_SAMPLES = ("zero_shot", "linear_probe", "retrieval")  # kinds whose n is the number of test samples
_CAPTIONS = 5  # per image of Flickr30k and MSCOCO

Scores = Mapping[str, float]
"""Percent by set name."""


def measured(results: Iterable[Result], kind: str, protocol: str) -> dict[str, dict[str, Result]]:
    """Results by model and set, in the metric of the set's card. Later Results replace earlier ones of the same number.

    Only the 27 sets, their test splits and Results without condition are used.

    Args:
        results: all measured Results.
        kind: value of `kind_of`; "linear_probe" includes the task projected_probe.
        protocol: the protocol of the Results.
    """
    results_by_model: dict[str, dict[str, Result]] = {}
    for result in results:
        if result.dataset not in PAPER_27 or result.split != "test" or result.condition:
            continue
        if (kind_of(result), result.protocol, result.metric) == (kind, protocol, CARDS[result.dataset].metric):
            results_by_model.setdefault(result.model, {})[result.dataset] = result
    return results_by_model


def percents(results: Mapping[str, Result]) -> dict[str, float]:
    """Results of sets as percent."""
    return {name: 100 * result.value for name, result in results.items()}


def mean(scores: Scores, sets: Sequence[str]) -> float | None:
    """The mean over sets; None if a set is missing, because a mean over fewer sets is not comparable."""
    return sum(scores[name] for name in sets) / len(sets) if all(name in scores for name in sets) else None


def common_mean(scores: Scores, sets: Iterable[str]) -> float:
    """The mean over the sets that have a score; at least one must have one."""
    present = [scores[name] for name in sets if name in scores]
    return sum(present) / len(present)


def measured_cell(result: Result | None, *, bold: bool = False) -> Cell:
    """A measured number as a cell with its interval, fractions in percent; an empty cell for None."""
    if result is None:
        return Cell(None)
    scale = 1 if result.metric.endswith(_NO_PERCENT) else 100
    low, high = (None if bound is None else scale * bound for bound in (result.low, result.high))
    return Cell(
        *(scale * result.value, low, high),
        bold=bold,
        partial=bool(classes_in_words(result)) or ranks_fewer(result),
        chance=is_at_chance(result),
    )


def published_cell(value: float | None, *, bold: bool = False, digits: int = 1) -> Cell:
    """A number of the paper as a cell."""
    return Cell(value, bold=bold, published=True, digits=digits)


def nearest_row(model: str, rows: Mapping[str, Scores]) -> str:
    """The paper's model to compare with a measured one: of the same architecture, otherwise the paper's best."""
    same = twin(model)
    return same if same is not None and same in rows else BEST


def compared(model: str, scores: Scores, place: str) -> str:
    """A sentence that compares a model with its counterpart in a table of the paper, by means over the same sets."""
    rows = published(place)
    paper_row = nearest_row(model, rows)
    sets = [name for name in PAPER_27 if name in scores]
    over = f"over {len(sets)} of the 27 sets" if len(sets) < len(PAPER_27) else "over the 27 sets"
    return (
        f"{model} scores {common_mean(scores, sets):.1f} % {over}, "
        f"the paper's {paper_row} {common_mean(rows[paper_row], sets):.1f} %"
    )


def headline(sentences: Iterable[str]) -> str:
    """The first two sentences, and the number of the others; "" without sentences."""
    all_sentences = list(sentences)
    remainder = [f"{len(all_sentences) - 2} more below"] if len(all_sentences) > 2 else []
    return "; ".join(all_sentences[:2] + remainder)


def missing_notes(results_by_model: Mapping[str, Mapping[str, Result]]) -> list[str]:
    """Notes for each model on missing sets, on sets of another size than the paper's, and on probes that learned from
    other images than the paper's."""
    notes = []
    for model, results in results_by_model.items():
        if missing := [name for name in PAPER_27 if name not in results]:
            notes.append(f"{model}: not measured: {', '.join(missing)}.")
        sizes = {name: (CARDS[name].paper_sizes or (0, 0))[1] for name in results}
        other = [f"{name} ({results[name].n:,}, not {n:,})" for name, n in sizes.items() if results[name].n != n]
        if other:
            notes.append(f"{model}: other numbers of test samples than the paper's: {', '.join(other)}.")
        notes += [*class_notes(model, results), *learning_notes(model, results)]
    return notes


def class_notes(model: str, results: Mapping[str, Result]) -> list[str]:
    """A note on the sets in which images of some classes were missing."""
    sets = [f"{name} ({classes})" for name, result in results.items() if (classes := classes_in_words(result))]
    return [f"{model}: not the paper's protocol, for lack of images of some classes: {', '.join(sets)}."] * bool(sets)


def num_expected(result: Result) -> int | None:
    """The number of samples behind the paper's corresponding number; None if unknown.

    Retrieval has one query per image, or one per caption: five for each image.
    """
    card = CARDS.get(result.dataset)
    if card is None or result.split != "test" or kind_of(result) not in _COUNTS_SAMPLES:
        return None
    number = card.paper_sizes[1] if card.paper_sizes else card.splits.get("test", 0)
    return (_CAPTIONS * number if result.metric.startswith("image_recall") else number) or None


def ranks_fewer(result: Result) -> bool:
    """Whether a recall is among fewer images or captions than the paper's, which makes retrieval easier."""
    expected = num_expected(result)
    return result.task == "retrieval" and expected is not None and result.n < expected


def size_notes(rows: Iterable[tuple[str, Mapping[str, Result]]]) -> list[str]:
    """Notes on numbers with other sample counts than the paper's, by row and set."""
    notes = []
    for name, results in rows:
        other = {
            f"{result.dataset} ({result.n:,} {_counted(result)}, not {expected:,})": None
            for result in results.values()
            if (expected := num_expected(result)) is not None and result.n != expected
        }
        notes += [f"{name}: of other test samples than the paper's: {', '.join(other)}."] if other else []
    return notes


def _counted(result: Result) -> str:
    if result.task != "retrieval":
        return "samples"
    return "captions" if result.metric.startswith("image_recall") else "pictures"


def learning_notes(model: str, results: Mapping[str, Result]) -> list[str]:
    """Notes on probes that learned from another number of images than the paper's, or had no validation split."""
    sizes, held_out = [], []
    for name, result in results.items():
        if name not in CARDS:
            continue
        num_learned, paper = num_learned_from(result), CARDS[name].paper_sizes
        if num_learned is not None and paper is not None and num_learned != paper[0]:
            sizes.append(f"{name} ({num_learned:,}, not {paper[0]:,})")
        if result.setting("validation", str) == HELD_OUT and "val" in CARDS[name].splits:
            held_out.append(name)
    notes = []
    if sizes:
        notes.append(f"{model}: probes learned from other numbers of images than the paper's: {', '.join(sizes)}.")
    if held_out:
        notes.append(
            f"{model}: the penalty was chosen on images taken from the training split, because the set's own "
            f"validation split is missing: {', '.join(held_out)}."
        )
    return notes


def num_learned_from(result: Result) -> int | None:
    """The number of training and validation images of a probe, or of images for few-shot draws; None without probe."""
    num_train = result.setting("train", int)
    return result.setting("train_examples", int) if num_train is None else num_train


def is_trained_as_the_paper(result: Result) -> bool:
    """Whether a probe learned from at least 90 % of the paper's training images; True for zero-shot scores."""
    num_learned, paper = num_learned_from(result), CARDS[result.dataset].paper_sizes
    return num_learned is None or paper is None or num_learned >= 0.9 * paper[0]


def num_test(name: str) -> int:
    """The number of test samples of one of the 27 sets, from table 9."""
    sizes = CARDS[name].paper_sizes
    assert sizes is not None, name
    return sizes[1]
