"""Zero-shot accuracy of weights interpolated between a model and its fine-tuned version (WiSE-FT)."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from diptych.embed import Model
from diptych.embed.interpolation import interpolate
from diptych.errors import ConfigError
from diptych.evalsets.benchmark import Benchmark
from diptych.evaluate.zero_shot.evaluator import ZeroShot
from diptych.records import Result


def parse_shares(text: str) -> list[float]:
    """Parse shares: "0,0.5,1" -> [0.0, 0.5, 1.0].

    Raises:
        ConfigError: an entry is not a number from 0 to 1.
    """
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        shares = [-1.0]
    if not all(0 <= share <= 1 for share in shares):
        raise ConfigError(f"the shares are {text!r}; write numbers from 0 to 1 with commas between, 0,0.25,0.5,0.75,1")
    return shares


def measure_shares(
    zero_shot: Model, fine_tuned: Model, shares: Sequence[float], benchmarks: Sequence[Benchmark]
) -> dict[float, list[Result]]:
    """Measure an interpolated model for each share.

    Args:
        shares: weights of the fine-tuned model, 0 to 1.
    Returns:
        The Results of each share, in the order of `shares`.
    Source: Wortsman et al. 2021, arXiv 2109.01903.
    """
    measured: dict[float, list[Result]] = {}
    for share in shares:
        model = interpolate(zero_shot, fine_tuned, share)
        model.name = f"{model.name}-{share:g}"
        measured[share] = [result for benchmark in benchmarks for result in ZeroShot(benchmark)(model)]
    return measured


def shares_table(measured: dict[float, list[Result]]) -> Table:
    """Accuracy in percent, a row per share and a column per set: of the ensemble, else of the single template."""
    accuracies: dict[tuple[float, str], dict[str, float]] = {}
    for share, results in measured.items():
        for result in results:
            if result.metric == "accuracy":
                accuracies.setdefault((share, f"{result.dataset}/{result.split}"), {})[result.protocol] = result.value
    sets = list(dict.fromkeys(name for _, name in accuracies))
    table = Table(title="Zero-shot accuracy, %", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("share of the fine-tuned", justify="right")
    for name in sets:
        table.add_column(Text(name), justify="right")
    for share in measured:
        values = [accuracies[share, name] for name in sets]
        cells = [100 * by_protocol.get("ensemble", next(iter(by_protocol.values()))) for by_protocol in values]
        table.add_row(f"{share:g}", *(f"{cell:.2f}" for cell in cells))
    return table
