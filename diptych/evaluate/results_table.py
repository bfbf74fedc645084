"""Results as a table for the terminal: percent, one row per set."""

from collections.abc import Iterable, Mapping

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from diptych.evalsets.benchmark import Benchmark
from diptych.evaluate.class_coverage import classes_in_words
from diptych.records import Result


def zero_shot_table(results: Iterable[Result], benchmarks: Iterable[Benchmark] = ()) -> Table:
    """Tabulate zero-shot Results, single template against ensemble.

    Top-5, mean per class and the interval of top-1 belong to the ensemble, or to the single template if only that was
    measured.

    Args:
        results: Results of other tasks are ignored.
        benchmarks: the sets, for the column "chance" (1 / C); without them the column is left out.
    Returns:
        Percentages, one row per model, dataset and split, in the order of the Results.
    """
    rows: dict[tuple[str, str, str], dict[tuple[str, str], Result]] = {}
    for result in results:
        if result.task == "zero_shot":
            key = (result.model, result.dataset, result.split)
            rows.setdefault(key, {})[result.protocol, result.metric] = result
    table = Table(title="Zero-shot accuracy, %", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("set", no_wrap=True)
    chance = {benchmark.name: 1 / len(benchmark.class_names) for benchmark in benchmarks}
    columns = ["single", "ensemble", "gain", "99.5 % interval", "top-5", "mean per class", "n"]
    for column in [*columns, "chance"] if chance else columns:
        wraps = column in ("mean per class", "n")
        table.add_column(column, justify="right", no_wrap=not wraps, min_width=6 if wraps else None)
    several_models = len({model for model, _, _ in rows}) > 1
    for (model, dataset, split), by_metric in rows.items():
        name = f"{model}: {dataset}/{split}" if several_models else f"{dataset}/{split}"
        # Text: a name from a file may contain characters that rich would read as markup.
        cells = _cells(by_metric)
        table.add_row(Text(name), *([*cells, _percent(chance.get(dataset))] if chance else cells))
    return table


def _cells(by_metric: Mapping[tuple[str, str], Result]) -> list[str]:
    values = {key: result.value for key, result in by_metric.items()}
    single, ensemble = values.get(("single", "accuracy")), values.get(("ensemble", "accuracy"))
    main = "single" if ensemble is None else "ensemble"
    top_1 = by_metric.get((main, "accuracy"))
    return [
        _percent(single),
        _percent(ensemble),
        "" if single is None or ensemble is None else f"{100 * (ensemble - single):+.2f}",
        f"{_percent(top_1.low)}-{_percent(top_1.high)}" if top_1 and top_1.interval else "",
        _percent(values.get((main, "accuracy_top_5"))),
        _percent(values.get((main, "mean_per_class_accuracy"))),
        _count(top_1) if top_1 else "",
    ]


def _count(result: Result) -> str:
    shown = classes_in_words(result)
    return f"{result.n:,}" + (f" ({shown})" if shown else "")


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"
