"""Reports which of the paper's sets are present, in which form, and whether they are complete. Decodes no image."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.table import Table

from diptych.errors import DataError
from diptych.evalsets.archive_registry import LAYOUTS
from diptych.evalsets.benchmark import CLASS_NAMES_FILE, Benchmark
from diptych.evalsets.card import Card
from diptych.evalsets.cards import CARDS, get_card
from diptych.evalsets.opening import failure, find_folder, missing, open_card
from diptych.evalsets.parquet_sets import is_parquet_set
from diptych.evalsets.prompts import get_prompts


@dataclasses.dataclass(frozen=True, slots=True)
class SetState:
    """The state of one set on disk.

    Attributes:
        card: the set's card.
        folder: the set's folder; None if it is missing.
        form: "wds", "parquet", "archive" (the original one) or "class folders"; "" if the set is missing.
        sizes: number of samples by split, for the splits that could be counted.
        num_classes: number of classes that are present; None if it is unknown.
        problems: what is missing, broken, or different in size or classes from the paper's set, one sentence each.
        notes: remarks that are no problems.
        where: a sentence that says where to put the set and where to download it.
    """

    card: Card
    folder: Path | None
    form: str
    sizes: Mapping[str, int]
    num_classes: int | None
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    where: str

    @property
    def present(self) -> bool:
        """Whether the set has a folder."""
        return self.folder is not None

    @property
    def equal(self) -> bool:
        """Whether the set is complete and has the sizes and classes of its card."""
        return self.present and not self.problems


def check_data(root: str | Path, names: Iterable[str] | None = None) -> list[SetState]:
    """Look for the paper's sets below a folder and count their samples. Returns one state per requested set.

    Args:
        root: the folder that holds the sets.
        names: names of cards; by default all cards.
    Raises:
        DataError: the folder does not exist.
        InputError: a name has no card.
    """
    cards = list(CARDS.values()) if names is None else [get_card(name) for name in names]
    return [check_set(card, root) for card in cards]


def check_set(card: Card, root: str | Path) -> SetState:
    """The state of one set. Every error while reading it becomes one of its problems."""
    folder, where = find_folder(card, root), missing(card, root)
    if folder is None:
        return SetState(card, None, "", {}, None, ("it is not there",), (), where)
    sizes: dict[str, int] = {}
    problems: list[str] = []
    notes: list[str] = []
    num_classes, form = None, ""
    for split in card.splits or {"test": 0}:
        try:
            form = form or _form(card, folder)
            benchmark = open_card(card, root, split)
            num_classes = len(benchmark.class_names) - len(benchmark.absent) if card.num_classes else None
            survey = benchmark.source.survey()
            count, split_problems = survey.num_samples, [*survey.problems, *_label_problems(benchmark, card)]
        except DataError as error:
            problems.append(f"{split}: {error}")
            continue
        except Exception as error:  # a failing reader must not hide the states of the other sets
            problems.append(f"{split}: {failure(error)}")
            continue
        problems += [f"{split}: {problem}" for problem in split_problems]
        notes += [note for note in _name_notes(benchmark, card) if note not in notes]
        if count is None:
            notes.append(f"{split}: its samples cannot be counted without reading them")
        else:
            sizes[split] = count
    problems, size_notes = _compare(card, sizes, problems)
    if num_classes is not None and num_classes != card.num_classes:
        problems.append(f"it has {num_classes} classes, the paper's set {card.num_classes}")
    return SetState(card, folder, form, sizes, num_classes, tuple(problems), (*notes, *size_notes), where)


def states_table(states: Sequence[SetState]) -> Table:
    """A table of the sets that are present, with their problems. A size that differs from the card's shows both."""
    present, equal = sum(state.present for state in states), sum(state.equal for state in states)
    table = Table(title=f"{present} of {len(states)} sets are there, {equal} as in the paper", title_justify="left")
    table.add_column("set", no_wrap=True)
    table.add_column("form")
    for split in ("train", "val", "test", "classes"):
        table.add_column(split, justify="right")
    table.add_column("state", overflow="fold")
    for state in (state for state in states if state.present):
        card = state.card
        sizes = [_count_cell(state.sizes.get(split), card.splits.get(split)) for split in ("train", "val", "test")]
        verdict = "as in the paper" if state.equal else "; ".join(state.problems)
        classes = _count_cell(state.num_classes, card.num_classes or None)
        table.add_row(card.name, state.form, *sizes, classes, "\n".join([verdict, *state.notes]))
    return table


def missing_lines(states: Sequence[SetState], root: str | Path) -> list[str]:
    """One line per missing set: its name and how to get it."""
    lines = []
    for state in states:
        card = state.card
        if state.present:
            continue
        command = f"diptych data fetch {card.name} {Path(root) / card.name}  # or by hand: " if card.hub else ""
        lines.append(f"{card.name:<16} {command}{card.homepage}")
    return lines


def _count_cell(count: int | None, expected: int | None) -> str:
    if count is None:
        return "" if expected is None else f"of {expected:,}"
    return f"{count:,}" if expected is None or count == expected else f"{count:,} of {expected:,}"


def _form(card: Card, folder: Path) -> str:
    """The form in which open_card reads the folder."""
    if is_parquet_set(folder, "test"):
        return "parquet"
    if (folder / CLASS_NAMES_FILE).exists():
        return "wds"
    return "archive" if any(layout.fits(folder) for layout in LAYOUTS.get(card.name, ())) else "class folders"


def _compare(card: Card, sizes: Mapping[str, int], problems: list[str]) -> tuple[list[str], list[str]]:
    """The problems, extended by wrong sizes; and notes."""
    train_and_val = card.splits.get("train", 0) + card.splits.get("val", 0)
    if "val" in card.splits and "val" not in sizes and sizes.get("train") == train_and_val:
        others = [problem for problem in problems if not problem.startswith("val: ")]
        remaining, _ = _compare(card, {**sizes, "train": card.splits["train"]}, others)
        return remaining, ["its training images contain the validation images"]
    differing = [
        f"{split} has {sizes[split]:,} samples, the paper's set {size:,}"
        for split, size in card.splits.items()
        if split in sizes and sizes[split] != size
    ]
    return problems + differing, []


def _name_notes(benchmark: Benchmark, card: Card) -> list[str]:
    if not card.prompts or not benchmark.class_names:
        return []
    expected = [names[0] for names in get_prompts(card.prompts).class_names]
    differing = sum(name != other for name, other in zip(expected, benchmark.class_names, strict=False))
    return [f"{differing} of its class names are its own, not the paper's"] if differing else []


def _label_problems(benchmark: Benchmark, card: Card) -> list[str]:
    """Invalid labels, missing labels, and classes without samples, if the labels can be read without the images."""
    labels = benchmark.source.distinct_labels() if card.num_classes and card.task != "multi_label" else None
    if labels is None:
        return []
    classes = set(range(len(benchmark.class_names)))
    problems = []
    if outside := sorted(label for label in labels if label is not None and label not in classes):
        problems.append(f"labels go up to {outside[-1]}, but the classes from 0 to {len(classes) - 1}")
    if None in labels:
        problems.append("some samples have no label")
    if len(classes & labels) < min(2, len(classes)):
        problems.append("all samples are of one class" if classes & labels else "no sample has a label")
    elif empty := classes - labels:
        problems.append(f"{len(empty)} of {len(classes)} classes have no samples")
    return problems
