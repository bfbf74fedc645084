"""diptych interpolate: average the weights of two models."""

from pathlib import Path
from typing import Annotated

import typer

from diptych.cli import parse
from diptych.cli.common import app, examples, show
from diptych.cli.options import Activation, Device, Heads, Offline, Option
from diptych.errors import InputError


@app.command(
    epilog=examples(
        "diptych interpolate runs/quickstart/model runs/tuned/model --share 0.5 --out runs/between",
        "diptych interpolate runs/quickstart/model runs/tuned/model --shares 0,0.25,0.5,0.75,1 --evaluate cifar10/",
    )
)
def interpolate(
    zero_shot: Annotated[
        str,
        typer.Argument(parser=parse.model, help="The model before fine-tuning: a folder, a weight file or default."),
    ],
    fine_tuned: Annotated[
        str, typer.Argument(parser=parse.model, help="The model after fine-tuning, of the same architecture.")
    ],
    share: Annotated[
        float | None, Option(help="Share of the fine-tuned weights, 0 to 1, in the model to save.")
    ] = None,
    out: Annotated[Path | None, Option(parser=parse.path, help="Folder for the model of --share.")] = None,
    shares: Annotated[str | None, Option(help="Shares to measure, separated by commas.")] = None,
    evaluate: Annotated[
        list[str] | None, Option(parser=parse.path, help="Evaluation set for --shares; may be repeated.")
    ] = None,
    device: Device = "auto",
    activation: Activation = None,
    heads: Heads = None,
    offline: Offline = False,
) -> None:
    """Average the weights of a model before and after fine-tuning (WiSE-FT, arXiv 2109.01903).

    The average often keeps the accuracy that fine-tuning adds and the robustness that it costs.
    """
    from diptych.embed.model_names import check_name

    check_name(zero_shot)
    check_name(fine_tuned)

    from diptych.embed import load_model
    from diptych.embed.interpolation import interpolate
    from diptych.evalsets.benchmark import open_benchmark
    from diptych.evaluate.zero_shot.weight_interpolation import measure_shares, parse_shares, shares_table

    if (share is None) == (shares is None):
        raise InputError(
            "give either --share with --out, to save one model, or --shares with --evaluate, to measure several"
        )
    if share is not None and (out is None or evaluate):
        raise InputError("--share saves one model: give --out FOLDER, and leave out --evaluate")
    if shares is not None and (out is not None or not evaluate):
        raise InputError("--shares measures models: give --evaluate SET, and leave out --out")
    share_values = parse_shares(str(share) if shares is None else shares)
    benchmarks = [open_benchmark(path) for path in evaluate or []]
    torch_device = None if device == "auto" else device
    first, second = load_model(zero_shot, device=torch_device), load_model(fine_tuned, device=torch_device)
    if out is not None:
        interpolate(first, second, share_values[0]).save(out)
        print(f"the model: {out}")
    else:
        show(shares_table(measure_shares(first, second, share_values, benchmarks)))
