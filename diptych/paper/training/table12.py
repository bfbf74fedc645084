"""Table 12 of the paper: the same model trained on the YFCC100M subset and on as many other pairs (appendix D)."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from diptych.errors import DataError
from diptych.records import Result, kind_of, protocol_in_words

SOURCE = "CLIP paper, arXiv 2103.00020, table 12"
KINDS = {"probe": "linear_probe", "zero_shot": "zero_shot"}


@dataclasses.dataclass(frozen=True)
class PaperRow:
    """Table 12's numbers of one set, percent: after training on YFCC and on as many pairs of WIT."""

    probe: tuple[float, float]
    zero_shot: tuple[float, float]


# From SOURCE. The printed difference of Country211 zero-shot is +0.1, but its columns are 5.2 and 5.3.
PAPER: dict[str, PaperRow] = {
    "Birdsnap": PaperRow((47.4, 35.3), (19.9, 4.5)),
    "Country211": PaperRow((23.1, 17.3), (5.2, 5.3)),
    "Flowers102": PaperRow((94.4, 89.8), (48.6, 21.7)),
    "GTSRB": PaperRow((66.8, 72.5), (6.9, 7.0)),
    "UCF101": PaperRow((69.2, 74.9), (22.9, 32.0)),
    "Stanford Cars": PaperRow((31.4, 50.3), (3.8, 10.9)),
    "ImageNet": PaperRow((62.0, 60.8), (31.3, 27.6)),
}
PAPER_MEAN = PaperRow((65.5, 66.6), (29.6, 30.0))
PAPER_WINS = PaperRow((10, 15), (19, 18))

# Other folder names of the sets, and the sets that the paper measures per class (table 9).
_NAMES = {"cars": "Stanford Cars", "imagenet1k": "ImageNet", "flowers": "Flowers102", "oxfordflowers102": "Flowers102"}
_PER_CLASS = ("fgvcaircraft", "aircraft", "oxfordpets", "oxfordiiitpet", "pets", "caltech101", "flowers102")
_FIRST = ("probe", "zero_shot")


@dataclasses.dataclass(frozen=True)
class Row:
    """One set: values of the first and of the second model as fractions, None if not measured."""

    name: str
    probe: tuple[float | None, float | None]
    zero_shot: tuple[float | None, float | None]
    paper: PaperRow | None


@dataclasses.dataclass(frozen=True)
class Summary:
    """A summary over the sets that both models were measured on.

    Attributes:
        num: number of these sets.
        means: means of the two models; None without such sets.
        wins: number of sets on which each model is better; a tie counts for neither.
    """

    num: int
    means: tuple[float, float] | None
    wins: tuple[int, int]


def table12_rows(first: Sequence[Result], second: Sequence[Result]) -> list[Row]:
    """The results of two models per set: the paper's seven sets first, in its order, then all other measured sets.

    The metric is the mean per class for sets that the paper measures that way, otherwise accuracy. The ensemble of
    prompts is preferred.

    Args:
        first: results of one model, trained on YFCC.
        second: results of one model, trained on as many other pairs.
    Raises:
        DataError: an argument has results of several models, or no results that the table shows.
    """
    sides = [_values(results, which) for results, which in ((first, "first"), (second, "second"))]
    measured = {name for side in sides for _, name in side}
    names = [*PAPER, *sorted(measured - PAPER.keys())]

    def pair(kind: str, name: str) -> tuple[float | None, float | None]:
        return sides[0].get((kind, name)), sides[1].get((kind, name))

    return [Row(name, pair("probe", name), pair("zero_shot", name), PAPER.get(name)) for name in names]


def summarise(pairs: Iterable[tuple[float | None, float | None]]) -> Summary:
    """Means and wins over the pairs with both values."""
    both = [(first, second) for first, second in pairs if first is not None and second is not None]
    means = (
        (sum(first for first, _ in both) / len(both), sum(second for _, second in both) / len(both)) if both else None
    )
    return Summary(
        len(both), means, (sum(first > second for first, second in both), sum(second > first for first, second in both))
    )


def table12(rows: Sequence[Row], names: tuple[str, str] = ("YFCC", "sample")) -> Table:
    """The rows in percent, measured and the paper's, with means and wins. Missing measurements are empty cells.

    Args:
        rows: see `table12_rows`.
        names: names of the two models in the header.
    """
    table = Table(title="Table 12: data for a ResNet-50, %", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), caption=SOURCE)
    table.add_column("set", no_wrap=True)
    for kind in ("probe", "zero-shot"):
        for name in (*names, "difference"):
            table.add_column(f"{kind} {name}", justify="right")
        table.add_column(f"{kind}, paper", justify="right", no_wrap=True)
    for row in rows:
        paper = (None, None) if row.paper is None else (row.paper.probe, row.paper.zero_shot)
        cells = [*_cells(row.probe, paper[0]), *_cells(row.zero_shot, paper[1])]
        table.add_row(Text(row.name), *cells)
    probe, zero_shot = summarise(row.probe for row in rows), summarise(row.zero_shot for row in rows)
    kinds = [(probe, PAPER_MEAN.probe, PAPER_WINS.probe), (zero_shot, PAPER_MEAN.zero_shot, PAPER_WINS.zero_shot)]
    means = [cell for summary, paper, _ in kinds for cell in _cells(summary.means or (None, None), paper)]
    wins = [
        cell
        for summary, _, paper in kinds
        for cell in (*(map(str, summary.wins) if summary.num else ("", "")), "", f"{paper[0]:.0f} {paper[1]:.0f}")
    ]
    table.add_section()
    table.add_row(f"mean of {probe.num} and {zero_shot.num} sets", *means)
    table.add_row("wins", *wins)
    return table


def _cells(measured: tuple[float | None, float | None], paper: tuple[float, float] | None) -> list[str]:
    first, second = measured
    difference = "" if first is None or second is None else f"{100 * (first - second):+.1f}"
    values = ["" if value is None else f"{100 * value:.1f}" for value in measured]
    return [*values, difference, "" if paper is None else f"{paper[0]:.1f} {paper[1]:.1f}"]


def _values(results: Sequence[Result], which: str) -> dict[tuple[str, str], float]:
    """The numbers that the table shows, by (kind, set)."""
    of_kind = [result for result in results if kind_of(result) in KINDS.values() and result.split == "test"]
    shown = [
        result for result in of_kind if "shift" not in result.condition
    ]  # made shifts have the name of the set itself
    if len(models := sorted({result.model for result in shown})) != 1:
        problem = f"several models ({', '.join(models)})" if models else "no zero-shot or probe results on a test split"
        raise DataError(f"the {which} file of results contains {problem}; table 12 needs results of one model")
    by_set: dict[tuple[str, str], dict[tuple[str, str], float]] = {}
    for result in shown:
        kind = next(kind for kind in _FIRST if KINDS[kind] == kind_of(result))
        protocol = protocol_in_words(result)
        by_set.setdefault((kind, _set_name(result.dataset)), {})[result.metric, protocol] = result.value
    chosen = {key: _choose(key[1], values) for key, values in by_set.items()}
    return {key: value for key, value in chosen.items() if value is not None}


def _choose(name: str, values: Mapping[tuple[str, str], float]) -> float | None:
    metric = "mean_per_class_accuracy" if _plain(name) in _PER_CLASS else "accuracy"
    by_protocol = {protocol: value for (name_of_metric, protocol), value in values.items() if name_of_metric == metric}
    return by_protocol.get("ensemble", next(iter(by_protocol.values()), None))


def _set_name(dataset: str) -> str:
    """The paper's name of a set, or the folder's name if the table has none."""
    plain = _plain(dataset.removeprefix("wds_").removeprefix("vtab-").removeprefix("wds_vtab-"))
    paper_names = {_plain(paper_name): paper_name for paper_name in PAPER} | _NAMES
    return paper_names.get(plain, dataset)


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
