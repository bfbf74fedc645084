"""Tasks: a task that is bound to a set is an evaluator.

Training (`fit`), `diptych evaluate`, `diptych.evaluate` and the suite all run bound tasks.
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
    """The folders of sets, caches and predictions, and options that hold for all tasks.

    Attributes:
        data: folder of evaluation sets, one folder each; not needed if only `benchmarks` are read.
        cache: folder to cache encoded images and classifiers; None caches nothing.
        predictions: folder for per-image Predictions; None writes none.
        num_workers: processes that decode images; the numbers do not depend on it.
        seed: seed of every draw (few-shot samples, splits, resamples).
        partial: whether to also measure sets that lack many classes; see `shown_classes.py`.
        benchmarks: splits that are already open; `open` returns these instead of looking in `data`.
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
        """The cache folder of classifiers made from texts."""
        return None if self.cache is None else self.cache / "classifiers"

    def open(self, card: Card, split: str = "test", fold: int | None = None) -> Benchmark:
        """Open a split of a set.

        Raises:
            DataError: the set is missing, or has no such split or fold.
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
    """The outcome of a task on one set.

    Attributes:
        results: one Result per number; each states the name of the task.
        predictions: the written files of per-image Predictions, all in `Setting.predictions`.
    """

    results: list[Result]
    predictions: tuple[Path, ...] = ()


@dataclasses.dataclass(frozen=True)
class Task:
    """One kind of measurement.

    Attributes:
        name: the `task` of its Results, and its name on the command line.
        applies: whether the task can measure a set.
        splits: the splits of a set that the task reads.
        measure: measures an encoder; returns Results and the files that it wrote.
        version: increased whenever the same model on the same data would give another number.
        others: (card, split) pairs of other sets that the task reads for a set, such as ImageNet's training images for
            a shift.
        folds: number of published folds of a set that the task reads, in addition to the usual splits.
        needs_texts: whether it calls `encode_texts`; False for tasks that also measure image-only encoders.
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
        """Bind the task to one set, as an evaluator.

        Args:
            evaluation_set: the card of a set in `setting.data`, or an open split. The task then looks for its other
                splits in the benchmark's folder.
            setting: the folders of sets and caches; None caches and writes nothing.
        Raises:
            ConfigError: the task does not apply to the set.
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
    """A task on one set: an evaluator for `fit`.

    Attributes:
        task: the task.
        card: the card of the set.
        setting: the folders of the set and the caches.
    """

    task: Task
    card: Card
    setting: Setting

    def check(self, encoder: Encoder) -> None:
        """Check quickly that the measurement can be made, for example before a long training.

        Raises:
            InputError: the set or one of its splits is missing, the encoder encodes no texts, or a prompt is too long.
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
        """Measure the encoder; returns Results and the written files of Predictions.

        With several ranks, each encodes its share of the images. All ranks return the same Results; only the main rank
        writes files.
        """
        setting = self.setting
        if distributed.world_size() > 1:  # no cache: a rank with a cache hit would not join the others' gathering
            predictions = setting.predictions if distributed.is_main() else None
            setting = dataclasses.replace(setting, cache=None, predictions=predictions)
        return self.task.measure(encoder, self.card, setting)

    def __call__(self, encoder: Encoder) -> list[Result]:
        """Measure the encoder: one Result per number."""
        return self.measure(encoder).results


def card_of(benchmark: Benchmark) -> Card:
    """The card of an open split: its own, or one made from its folder, or from its classes and templates."""
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
    """Raise InputError if an encoder encodes no texts; `what` names the task that needs them."""
    if (reason := about(encoder).no_texts) is not None:
        raise InputError(f"{encoder.name} {reason}; {what} needs texts")


def check_prompts(encoder: Encoder, benchmark: Benchmark, templates: Sequence[str] | None = None) -> None:
    """Check that all prompts fit into an encoder's context, if its tokenizer is known.

    Args:
        templates: the templates to check; None for all templates of the set.
    Raises:
        InputError: the set has fewer than two classes, or a template lacks {c}.
        TextError: a prompt is too long.
    """
    names = check_class_names(benchmark.class_names, unique=False)
    used = check_templates(benchmark.templates if templates is None else templates)
    tokenizer = about(encoder).tokenizer
    if tokenizer is None:
        return
    for template in dict.fromkeys(used):
        for prompt in (fill_template(template, name) for name in names):
            if (length := tokenizer.num_tokens(prompt)) > tokenizer.context_length:
                raise TextError(
                    f"{benchmark.name}: the prompt {prompt[:60]!r} has {length} tokens with start and end, "
                    f"the context of {encoder.name} is {tokenizer.context_length}; shorten the template or the "
                    "class name, or train with a longer context"
                )


def with_classes_of(first: Benchmark, second: Benchmark) -> Benchmark:
    """Relabel the second split with the classes of the first; classes are matched by name, not by position.

    Raises:
        DataError: the second has a class that the first lacks, or its class names are ambiguous.
    """
    if unlearned := [name for name in first.absent if name not in second.absent]:
        raise DataError(
            f"{first.name}: {second.split} has classes that {first.split} lacks: {', '.join(unlearned)[:200]}"
        )
    if first.ambiguous != second.ambiguous:
        raise DataError(f"{first.name}: {_not_told_apart(first if first.ambiguous else second)}")
    wanted, names = (split.names_in_files or split.class_names for split in (first, second))
    if wanted == names:
        return second
    if len(set(wanted)) < len(wanted) or len(set(names)) < len(names) or not set(names) <= set(wanted):
        raise DataError(_different_classes(first, second))
    labels = tuple(wanted.index(name) for name in names)
    source = LabelledSource(RelabelledSource(second.source, labels), len(wanted))
    digest = hashlib.sha256(f"{second.fingerprint} {list(wanted)}".encode()).hexdigest()  # repr escapes surrogates
    return dataclasses.replace(
        second,
        source=source,
        fingerprint=digest,
        class_names=first.class_names,
        names=first.names,
        names_in_files=first.names_in_files,
        differs=first.differs,
    )


def _different_classes(first: Benchmark, second: Benchmark) -> str:
    """The message about splits with different classes, with an example from each."""
    wanted, names = (split.names_in_files or split.class_names for split in (first, second))
    text = f"{first.name}: {len(wanted)} classes in {first.split}, {len(names)} in {second.split}"
    unknown = next((index for index, name in enumerate(names) if name not in wanted), None)
    if unknown is not None:
        text += f"; class {unknown} in {second.split} is {names[unknown]!r}, unknown in {first.split}"
    unmatched = next((index for index, name in enumerate(wanted) if name not in names), None)
    if unmatched is not None:
        text += f"; class {unmatched} in {first.split} is {wanted[unmatched]!r}"
    return f"{text}; all splits need the same classes"


def check_classes_of_card(benchmark: Benchmark, needed: Iterable[int] = ()) -> None:
    """Check that the classes of a set are known to be those of its card, as measuring with ImageNet's classes requires.

    Args:
        needed: classes that must be distinguishable, even if the card gives two of them the same name.
    Raises:
        DataError: a class of the set could not be identified.
    """
    if {label for label, _ in benchmark.ambiguous}.intersection(needed):
        raise DataError(f"{benchmark.name}/{benchmark.split}: {_not_told_apart(benchmark)}")
    if benchmark.differs:
        raise DataError(
            f"{benchmark.name}/{benchmark.split}: {benchmark.differs}. This task must know each class: call "
            "them by the paper's names, WordNet's or their WordNet ids"
        )


def _not_told_apart(benchmark: Benchmark) -> str:
    names = ", ".join(dict.fromkeys(repr(benchmark.class_names[label]) for label, _ in benchmark.ambiguous))
    return (
        f"several of its classes are called {names}; the names do not tell which is which, and the order is the set's "
        "own; call the classes by WordNet's names or their WordNet ids"
    )
