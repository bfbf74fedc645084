"""diptych convert: write a model for another library or runtime, and check it there."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli import parse
from diptych.cli.common import app, examples, show
from diptych.cli.options import Activation, Heads, Offline, Option, Workers
from diptych.convert.targets import PIXELS, PRECISIONS, TARGETS, check_options, get_target

if TYPE_CHECKING:
    from diptych.convert.convert_model import Conversion

_ROWS = "\n\n".join(
    f"- {row.name}: {row.title}. Holds {row.holds}. Weights in {', '.join(row.precisions)}." for row in TARGETS.values()
)


@app.command(
    epilog="[bold]Targets[/bold]\n\n"
    + _ROWS.replace("[", r"\[")
    + "\n\n"
    + examples(
        "diptych convert runs/quickstart/model --to huggingface --out for-transformers",
        "diptych convert ViT-B-32.pt --activation quick_gelu --to onnx --out onnx-model",
        "diptych convert runs/quickstart/model --to onnx --precision int8 --dataset cifar10/ --max-loss 5 --out int8",
        "diptych check runs/quickstart/model --against onnx:onnx-model",
    )
)
def convert(
    model: Annotated[
        str,
        typer.Argument(parser=parse.model, help="Model with Diptych's own towers: a folder, a weight file or default."),
    ],
    target: Annotated[str, Option("--to", help=f"Target: {', '.join(TARGETS)}.")],
    out: Annotated[Path, Option(parser=parse.path, help="New folder for the converted model; nothing is replaced.")],
    precision: Annotated[
        str,
        Option(help=f"Stored weights: {', '.join(PRECISIONS)}. fp16 halves the files; int8 (onnx) is the fastest."),
    ] = "fp32",
    dataset: Annotated[
        str | None,
        Option(
            parser=parse.path,
            help="Evaluation set, as diptych evaluate takes it: prints what the conversion changes in its accuracy.",
        ),
    ] = None,
    split: Annotated[str, Option(help="Split of --dataset.")] = "test",
    max_loss: Annotated[
        float, Option(help="Largest loss of accuracy on --dataset, in percentage points; above it nothing is written.")
    ] = 0.5,
    unmeasured: Annotated[
        bool, Option("--unmeasured", help="Write int8 without --dataset: how much accuracy it loses is then unknown.")
    ] = False,
    pixels: Annotated[
        str, Option(help=f"Input of the image graph of onnx: {' or '.join(PIXELS)}; with uint8 the graph normalizes.")
    ] = "float32",
    workers: Workers = 0,
    activation: Activation = None,
    heads: Heads = None,
    offline: Offline = False,
) -> None:
    """Write a model for another library or runtime, with its activation, preprocessing and tokenizer.

    That library itself loads the new folder, and 32 images and 64 texts go through both models, stage by stage; the
    folder stays only if all are equal within the tolerance. What a library cannot compute is refused, with the reason.
    """
    from diptych.embed.model_names import check_name

    check_options(get_target(target), precision, pixels)
    check_name(model)
    from diptych.convert.convert_model import convert
    from diptych.embed.check.check_report import check_table, verdict
    from diptych.report.table import to_rich

    conversion = convert(
        model,
        target,
        out,
        precision=precision,
        pixels=pixels,
        dataset=dataset,
        split=split,
        max_loss=max_loss,
        unmeasured=unmeasured,
        num_workers=workers or 0,
        report=lambda check: show(to_rich(check_table(check))),
    )
    _print(conversion, precision, verdict(conversion.check))


def _print(conversion: "Conversion", precision: str, sentence: str) -> None:
    print(sentence)
    if conversion.accuracy is not None:
        print(conversion.accuracy)
    elif precision != "fp32":
        print(f"the accuracy in {precision} was not measured: --dataset DIR does that")
    print(f"the model: {conversion.folder} (its README.md has the lines that load it)")
