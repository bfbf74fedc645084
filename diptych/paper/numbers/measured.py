"""Measured Results as the paper's tables arrange them: a score per model and set, in percent, with means over sets."""

from collections.abc import Iterable, Mapping, Sequence

from diptych.evalsets.cards import CARDS
from diptych.evaluate.class_coverage import classes_in_words
from diptych.evaluate.probe.training_set import HELD_OUT
from diptych.paper.numbers.chance import is_at_chance
from diptych.paper.numbers.compute import twin
from diptych.paper.numbers.paper_numbers import published
from diptych.records import Result, kind_of
from diptych.report.table import Cell

PAPER_27 = tuple(card.name for card in CARDS.values() if card.group == "paper27")
"""The sets of table 9, in its order."""
KORNBLITH_12 = PAPER_27[:12]
"""The suite of Kornblith et al.: the first rows of table 9."""
WITHOUT_IMAGENET = tuple(name for name in PAPER_27 if name != "ImageNet")
SUITES = {"mean of 12": KORNBLITH_12, "mean of 27": PAPER_27, "mean of 26": WITHOUT_IMAGENET}
"""Over which the paper takes means: all, the suite of 12, and all without ImageNet."""
BEST = "CLIP ViT-L/14@336px"
"""The paper's best model, by the name of its row."""
_NO_PERCENT = ("error_km",)  # ends of metrics that are no fractions
_COUNTS_SAMPLES = ("zero_shot", "linear_probe", "retrieval")  # whose n is the samples of the test split
_CAPTIONS = 5  # of each picture of Flickr30k and MSCOCO

Scores = Mapping[str, float]
"""Percent by the name of the set."""


def measured(results: Iterable[Result], kind: str, protocol: str) -> dict[str, dict[str, Result]]:
    """By model and set: what the card names as the set's metric; of two measurements of one thing, the later.

    Sets other than the 27, and other splits, metrics, protocols and kinds are passed over, and so are Results with a
    condition.

    Args:
        kind: of `kind_of`: "linear_probe" has the task projected_probe, too.
    """
    found: dict[str, dict[str, Result]] = {}
    for result in results:
        if result.dataset not in PAPER_27 or result.split != "test" or result.condition:
            continue
        if (kind_of(result), result.protocol, result.metric) == (kind, protocol, CARDS[result.dataset].metric):
            found.setdefault(result.model, {})[result.dataset] = result
    return found


def percents(results: Mapping[str, Result]) -> dict[str, float]:
    """Results of sets as percent."""
    return {name: 100 * result.value for name, result in results.items()}


def mean(scores: Scores, sets: Sequence[str]) -> float | None:
    """The mean over sets; None where one of them is missing, for a mean over fewer sets is another number."""
    return sum(scores[name] for name in sets) / len(sets) if all(name in scores for name in sets) else None


def common_mean(scores: Scores, sets: Iterable[str]) -> float:
    """The mean over those of the sets that are there, of which there must be one."""
    present = [scores[name] for name in sets if name in scores]
    return sum(present) / len(present)


def measured_cell(result: Result | None, *, bold: bool = False) -> Cell:
    """A measured number as a cell, fractions in percent, with its interval; empty where there is none."""
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
    """The paper's own number."""
    return Cell(value, bold=bold, published=True, digits=digits)


def nearest_row(model: str, rows: Mapping[str, Scores]) -> str:
    """The paper's model to stand beside a measured one: of the same architecture, else its best."""
    same = twin(model)
    return same if same is not None and same in rows else BEST


def compared(model: str, scores: Scores, place: str) -> str:
    """A sentence: the mean of a model and of its counterpart in a table of the paper, over the same sets."""
    rows = published(place)
    beside = nearest_row(model, rows)
    sets = [name for name in PAPER_27 if name in scores]
    over = f"over {len(sets)} of the 27 sets" if len(sets) < len(PAPER_27) else "over the 27 sets"
    return (
        f"{model} scores {common_mean(scores, sets):.1f} % {over}, "
        f"the paper's {beside} {common_mean(rows[beside], sets):.1f} %"
    )


def headline(sentences: Iterable[str]) -> str:
    """What was found of the first two models, and how many more there are; "" without any."""
    found = list(sentences)
    rest = [f"{len(found) - 2} more below"] if len(found) > 2 else []
    return "; ".join(found[:2] + rest)


def missing_notes(found: Mapping[str, Mapping[str, Result]]) -> list[str]:
    """Sentences per model on the sets that were not measured, on those of another size than the paper's, and on probes
    that learned from other images than the paper's."""
    notes = []
    for model, results in found.items():
        if missing := [name for name in PAPER_27 if name not in results]:
            notes.append(f"{model}: not measured: {', '.join(missing)}.")
        sizes = {name: (CARDS[name].paper_sizes or (0, 0))[1] for name in results}
        other = [f"{name} ({results[name].n:,}, not {n:,})" for name, n in sizes.items() if results[name].n != n]
        if other:
            notes.append(f"{model}: other numbers of test samples than the paper's: {', '.join(other)}.")
        notes += [*class_notes(model, results), *learning_notes(model, results)]
    return notes


def class_notes(model: str, results: Mapping[str, Result]) -> list[str]:
    """Where images of some classes were missing, by set."""
    found = [f"{name} ({words})" for name, one in results.items() if (words := classes_in_words(one))]
    return [f"{model}: not the paper's protocol, for lack of images of some classes: {', '.join(found)}."] * bool(found)


def num_expected(result: Result) -> int | None:
    """Samples of which a number like this one is in the paper; None where that is not known.

    Retrieval has as many queries as pictures, or as captions: five of each picture.
    """
    card = CARDS.get(result.dataset)
    if card is None or result.split != "test" or kind_of(result) not in _COUNTS_SAMPLES:
        return None
    number = card.paper_sizes[1] if card.paper_sizes else card.splits.get("test", 0)
    return (_CAPTIONS * number if result.metric.startswith("image_recall") else number) or None


def ranks_fewer(result: Result) -> bool:
    """Whether a recall is among fewer pictures or captions than the paper's, where every picture is found sooner."""
    expected = num_expected(result)
    return result.task == "retrieval" and expected is not None and result.n < expected


def size_notes(rows: Iterable[tuple[str, Mapping[str, Result]]]) -> list[str]:
    """Where numbers are of other counts of samples than the paper's, by row and set."""
    notes = []
    for name, results in rows:
        other = {
            f"{one.dataset} ({one.n:,} {_counted(one)}, not {expected:,})": None
            for one in results.values()
            if (expected := num_expected(one)) is not None and one.n != expected
        }
        notes += [f"{name}: of other test samples than the paper's: {', '.join(other)}."] if other else []
    return notes


def _counted(result: Result) -> str:
    if result.task != "retrieval":
        return "samples"
    return "captions" if result.metric.startswith("image_recall") else "pictures"


def learning_notes(model: str, results: Mapping[str, Result]) -> list[str]:
    """Where probes, by set, learned from other numbers of images than the paper's, or lacked a validation split."""
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
    """Training and validation images of a probe, or those that few-shot draws are from; None where no probe learned."""
    found = result.setting("train", int)
    return result.setting("train_examples", int) if found is None else found


def is_trained_as_the_paper(result: Result) -> bool:
    """Whether a probe learned from at least nine tenths of the paper's training images; a zero-shot score is."""
    num_learned, paper = num_learned_from(result), CARDS[result.dataset].paper_sizes
    return num_learned is None or paper is None or num_learned >= 0.9 * paper[0]


def num_test(name: str) -> int:
    """Test samples of a set of the 27, by table 9."""
    sizes = CARDS[name].paper_sizes
    assert sizes is not None, name
    return sizes[1]
