"""One contract for measuring: a task, bound to a set, is an evaluator.

`fit` during training, `diptych evaluate`, `diptych.evaluate` and the suite all run bound tasks.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from diptych import distributed
from diptych.embed.about import about
from diptych.embed.encoder import Encoder
from diptych.errors import ConfigError, DataError, InputError, TextError
from diptych.evalsets.benchmark import Benchmark, LabelledSource
from diptych.evalsets.card import Card
from diptych.evalsets.opening import open_card
from diptych.evalsets.set_sources import RelabelledSource
from diptych.evalsets.user_sets import own_card
from diptych.evaluate.zero_shot.class_prompts import check_class_names, check_templates, fill_template
from diptych.files import expanded
from diptych.records import Result


@dataclasses.dataclass(frozen=True)
class Setting:
    """Where the sets are, and where what was computed is kept.

    Attributes:
        data: folder of evaluation sets, one folder each; not needed if `benchmarks` are all that is read.
        cache: encoded images and classifiers are kept there; None keeps nothing.
        predictions: per-sample Predictions are written there; None writes none.
        num_workers: processes that decode images; it changes no number.
        seed: of every draw (few-shot samples, splits, resamples).
        partial: whether sets of which many classes are missing are measured, too; `shown_classes.py` says when.
        benchmarks: splits that are open already; `open` returns these instead of looking in `data`.
    """

    data: Path = Path()
    cache: Path | None = None
    predictions: Path | None = None
    num_workers: int = 0
    seed: int = 0
    partial: bool = False
    benchmarks: tuple[Benchmark, ...] = ()

    def __post_init__(self) -> None:
        for name in ("data", "cache", "predictions"):
            if (path := getattr(self, name)) is not None:
                object.__setattr__(self, name, expanded(path))

    @property
    def classifiers(self) -> Path | None:
        """Where classifiers made of texts are cached."""
        return None if self.cache is None else self.cache / "classifiers"

    def open(self, card: Card, split: str = "test", fold: int | None = None) -> Benchmark:
        """A split of a set.

        Raises:
            DataError: the set is not there, or has no such split or fold.
        """
        for benchmark in self.benchmarks:
            if (benchmark.name, benchmark.split, fold) == (card.name, split, None):
                return benchmark
        if self.benchmarks and self.data == Path():
            there = ", ".join(benchmark.split for benchmark in self.benchmarks)
            raise DataError(f"{card.title}: the split {split} is needed, and only {there} was given; give its folder")
        return open_card(card, self.data, split, fold=fold)


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What a task measured on one set.

    Attributes:
        results: one Result per number; each has the name of the task.
        predictions: the files of per-image Predictions that were written, all below `Setting.predictions`.
    """

    results: list[Result]
    predictions: tuple[Path, ...] = ()


@dataclasses.dataclass(frozen=True)
class Task:
    """One kind of measurement.

    Attributes:
        name: the `task` of its Results, and its name on the command line.
        applies: whether it can measure on a set.
        splits: the splits of a set that it reads.
        measure: Results, and the files that it wrote.
        version: raised whenever the same model on the same data would give another number.
        others: (card, split) pairs of other sets that it reads for a set, such as ImageNet's training images for a
            shift.
        folds: into how many published divisions of a set it looks, beside the usual one.
        needs_texts: whether it calls `encode_texts`; an encoder of images alone does without.
    """

    name: str
    applies: Callable[[Card], bool]
    splits: Callable[[Card], tuple[str, ...]]
    measure: Callable[[Encoder, Card, Setting], Measurement]
    version: int = 1
    needs_texts: bool = True
    others: Callable[[Card], tuple[tuple[str, str], ...]] = lambda card: ()
    folds: Callable[[Card], int] = lambda card: 0

    def bind(self, evaluation_set: Card | Benchmark, setting: Setting | None = None) -> "BoundTask":
        """This task on one set, as an evaluator.

        Args:
            evaluation_set: the card of a set below `setting.data`; or a split that is open already. The other splits
                that the task reads are then looked for in the benchmark's folder.
            setting: where the sets and caches are; without one nothing is cached or written.
        Raises:
            ConfigError: the task does not apply to such a set.
        """
        setting = setting or Setting()
        card = evaluation_set
        if isinstance(evaluation_set, Benchmark):
            card = card_of(evaluation_set)
            folder = evaluation_set.folder
            data = setting.data if folder is None else folder.parent
            setting = dataclasses.replace(setting, data=data, benchmarks=(*setting.benchmarks, evaluation_set))
        assert isinstance(card, Card)
        if not self.applies(card):
            raise ConfigError(f"the task {self.name} does not apply to {card.title}, a set for {card.task}")
        return BoundTask(self, card, setting)


@dataclasses.dataclass(frozen=True)
class BoundTask:
    """A task on one set: an evaluator, as `fit` takes it.

    Attributes:
        task: what is measured.
        card: on which set.
        setting: where the set and the caches are.
    """

    task: Task
    card: Card
    setting: Setting

    def check(self, encoder: Encoder) -> None:
        """Find out within seconds whether the measurement can be made, as before a long training.

        Raises:
            InputError: the set or a split of it is not there, the encoder encodes no texts, or a prompt is too long.
        """
        if self.task.needs_texts:
            check_texts(encoder, self.task.name)
        for split in self.task.splits(self.card):
            if split == "val" and "val" not in self.card.splits:
                continue
            benchmark = self.setting.open(self.card, split)
            if self.task.needs_texts and benchmark.class_names:
                check_prompts(encoder, benchmark)

    def measure(self, encoder: Encoder) -> Measurement:
        """Results, and the files of Predictions that were written.

        Of several ranks each encodes its share of the images; all return the same Results, and the main one alone
        writes.
        """
        setting = self.setting
        if distributed.world_size() > 1:  # what one rank finds in a cache, others would wait for
            kept = setting.predictions if distributed.is_main() else None
            setting = dataclasses.replace(setting, cache=None, predictions=kept)
        return self.task.measure(encoder, self.card, setting)

    def __call__(self, encoder: Encoder) -> list[Result]:
        """Measure the encoder: one Result per number."""
        return self.measure(encoder).results


def card_of(benchmark: Benchmark) -> Card:
    """The card of an open split: its own, or that of a set of the user's with its classes and words."""
    if benchmark.card is not None:
        return benchmark.card
    if benchmark.folder is not None:
        return own_card(benchmark.folder)
    return Card(
        name=benchmark.name,
        title=benchmark.name,
        num_classes=len(benchmark.class_names),
        splits={benchmark.split: 0},
        homepage="",
        split_rule="as it was handed in",
    )


def check_texts(encoder: Encoder, what: str) -> None:
    """Raise InputError if an encoder encodes no texts, which `what` needs."""
    if (reason := about(encoder).no_texts) is not None:
        raise InputError(f"{encoder.name} {reason}; {what} needs texts")


def check_prompts(encoder: Encoder, benchmark: Benchmark, templates: Sequence[str] | None = None) -> None:
    """Refuse prompts that do not fit into an encoder's context, if its tokenizer is known.

    Args:
        templates: those that are used; None for all of the set's.
    Raises:
        InputError: the set has fewer than two classes, or a template without {c}.
        TextError: a prompt is too long.
    """
    names = check_class_names(benchmark.class_names, unique=False)
    used = check_templates(benchmark.templates if templates is None else templates)
    tokenizer = about(encoder).tokenizer
    if tokenizer is None:
        return
    for template in dict.fromkeys(used):
        for prompt in (fill_template(template, name) for name in names):
            if (length := len(tokenizer.encode(prompt)) + 2) > tokenizer.context_length:
                raise TextError(
                    f"{benchmark.name}: the prompt {prompt[:60]!r} has {length} tokens with start and end, "
                    f"the context of {encoder.name} is {tokenizer.context_length}; shorten the template or the "
                    "class name, or train with a longer context"
                )


def with_classes_of(first: Benchmark, second: Benchmark) -> Benchmark:
    """The second split with the first one's classes and labels, matched by their names, wherever these stand.

    Raises:
        DataError: the second has a class that the first has not, or names that do not tell its classes apart.
    """
    if unlearned := [name for name in first.absent if name not in second.absent]:
        raise DataError(
            f"{first.name}: {second.split} has classes that {first.split} lacks: {', '.join(unlearned)[:200]}"
        )
    if first.unsure != second.unsure:
        raise DataError(f"{first.name}: {_not_told_apart(first if first.unsure else second)}")
    one, two = (found.written or found.class_names for found in (first, second))
    if one == two:
        return second
    if len(set(one)) < len(one) or len(set(two)) < len(two) or not set(two) <= set(one):
        place = next((place for place, name in enumerate(two) if name not in one), None)
        what = "" if place is None else f"; class {place} in {second.split} is {two[place]!r}, unknown in {first.split}"
        other = next((name for name in one if name not in two), None)
        what += "" if other is None else f"; class {one.index(other)} in {first.split} is {other!r}"
        raise DataError(
            f"{first.name}: {len(one)} classes in {first.split}, {len(two)} in {second.split}{what}; "
            "all splits need the same classes"
        )
    source = LabelledSource(RelabelledSource(second.source, tuple(one.index(name) for name in two)), len(one))
    digest = hashlib.sha256(f"{second.fingerprint} {list(one)}".encode()).hexdigest()  # a list's text is ASCII
    return dataclasses.replace(
        second,
        source=source,
        fingerprint=digest,
        class_names=first.class_names,
        names=first.names,
        written=first.written,
        differs=first.differs,
    )


def check_classes_of_card(benchmark: Benchmark, needed: Iterable[int] = ()) -> None:
    """What is measured by ImageNet's classes needs a set whose classes are known to be its card's.

    Args:
        needed: classes that must not be taken for one another, although the card calls them by one name.
    Raises:
        DataError: a class of the set could not be told to be one of them.
    """
    if {label for label, _ in benchmark.unsure}.intersection(needed):
        raise DataError(f"{benchmark.name}/{benchmark.split}: {_not_told_apart(benchmark)}")
    if benchmark.differs:
        raise DataError(
            f"{benchmark.name}/{benchmark.split}: {benchmark.differs}. Its classes must be known one by one here: call "
            "them by the paper's names, WordNet's or their WordNet ids"
        )


def _not_told_apart(benchmark: Benchmark) -> str:
    names = ", ".join(dict.fromkeys(repr(benchmark.class_names[label]) for label, _ in benchmark.unsure))
    return (
        f"several of its classes are called {names}; the names do not tell which is which, and the order is the set's "
        "own; call the classes by WordNet's names or their WordNet ids"
    )
