"""diptych paper: the group of commands, and table12."""

from pathlib import Path
from typing import Annotated

import typer

from diptych.cli import parse
from diptych.cli.common import app, examples, show

paper_app = typer.Typer(
    help="Tables and figures of the CLIP paper, from your own models.", no_args_is_help=True, rich_markup_mode="rich"
)
app.add_typer(paper_app, name="paper")


@paper_app.command(epilog=examples("diptych paper table12 yfcc.jsonl sample.jsonl"))
def table12(
    yfcc: Annotated[Path, typer.Argument(parser=parse.path, help="Results of the model trained on YFCC.")],
    sample: Annotated[
        Path,
        typer.Argument(parser=parse.path, help="Results of the same model trained on the same number of other pairs."),
    ],
) -> None:
    """Compare two models of the YFCC ablation (appendix D), and show the paper's numbers.

    Train both with --recipe yfcc, and measure them with diptych evaluate. Rows without a measurement stay empty.
    """
    from diptych.paper.training.table12 import table12, table12_rows
    from diptych.records import read_results

    show(table12(table12_rows(read_results(yfcc), read_results(sample))))
