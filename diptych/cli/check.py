"""diptych check: compare a model with a reference, stage by stage."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli import parse
from diptych.cli.common import announce, app, examples, refuse_unwritable, show
from diptych.cli.options import MODEL_FORMS, Activation, Device, Heads, ModelOption, Option, Precision
from diptych.embed.check.tolerances import tolerances_sentence
from diptych.errors import InputError

if TYPE_CHECKING:
    from diptych.embed.check.run_check import Check


@app.command(
    epilog=tolerances_sentence()
    + "\n\n"
    + examples(
        "diptych check runs/quickstart/model --precision bf16",
        "diptych check hf:openai/clip-vit-base-patch32 --json",
        "diptych check ViT-B-32.pt --against open_clip:ViT-B-32-quickgelu@openai",
        "diptych check runs/quickstart/model --record reference.npz",
        "diptych check runs/quickstart/model --against reference.npz --out report.json",
    )
)
def check(
    model_argument: Annotated[
        str | None, typer.Argument(parser=parse.model, metavar="MODEL", help=f"Model: {MODEL_FORMS}.")
    ] = None,
    model: ModelOption = None,
    against: Annotated[
        str | None,
        Option(
            parser=parse.model,
            help="The reference: another model in any form, or a .npz file of --record. By default the library whose "
            "layout MODEL has, recorded vectors of its weights, or with --precision MODEL itself in fp32.",
        ),
    ] = None,
    record: Annotated[
        Path | None,
        Option(parser=parse.path, help="Write the vectors of MODEL into this .npz file, as a reference for others."),
    ] = None,
    strict: Annotated[
        bool, Option("--strict", help="Count differences that a library makes on purpose, such as of transparency.")
    ] = False,
    as_json: Annotated[bool, Option("--json", help="Print one JSON object, for other programs.")] = False,
    out: Annotated[Path | None, Option(parser=parse.path, help="Write that JSON object into this file.")] = None,
    precision: Precision = "fp32",
    device: Device = "auto",
    activation: Activation = None,
    heads: Heads = None,
) -> None:
    """Compare a model with a reference on 32 images and 64 texts, stage by stage, and say where they begin to differ.

    Both get the same files and texts. The table shows how much decoded pixels, preprocessed pixels, tokens, features,
    embeddings and probabilities differ on equal input; rows of the whole path show what each model gives by itself,
    from file or text to vector. Exit status: 0 if all stages are equal within the tolerance, 1 if one differs.
    """
    from diptych.embed.model_names import check_name

    name = model_argument if model is None else model
    if name is None or (model_argument is not None and model is not None):
        raise InputError("name one model to check: diptych check MODEL [--against REFERENCE]")
    check_name(name)
    if record is not None and (against is not None or out is not None or as_json):
        raise InputError("--record writes reference vectors and compares nothing; leave out --against, --out, --json")
    _refuse_unwritable(record, out)
    from diptych.embed.weight_file_options import forget

    forget()  # --activation and --heads belong to MODEL, and not to the reference
    options = {"device": None if device == "auto" else device, "activation": activation, "heads": heads}
    if record is not None:
        from diptych.embed.check.run_check import record_model

        reference = record_model(name, record, **options)
        print(f"{record}: the vectors of {reference.name} ({reference.made_by}), for diptych check MODEL --against")
        return
    from diptych.embed.check.run_check import check_model

    _report(check_model(name, against, precision=precision, strict=strict, **options), as_json, out)


def _refuse_unwritable(record: Path | None, out: Path | None) -> None:
    for file in (record, out):
        if file is not None:
            refuse_unwritable(file)
    if record is not None and record.suffix != ".npz":
        raise InputError(f"--record {record}: the name must end with .npz, by which --against recognizes the file")


def _report(result: "Check", as_json: bool, out: Path | None) -> None:
    from diptych.embed.check.check_report import check_table, to_json, verdict
    from diptych.files import write_whole
    from diptych.report.table import to_rich

    content = json.dumps(to_json(result), indent=2, ensure_ascii=False, allow_nan=False)
    if out is not None:
        write_whole(out, content.encode())
    if as_json:
        print(content)
    else:
        show(to_rich(check_table(result)))
        print(verdict(result))
    if out is not None:
        announce(f"report: {out}")
    if not result.is_equal:
        raise typer.Exit(1)
