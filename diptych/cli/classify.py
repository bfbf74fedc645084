"""diptych classify: predict labels for images; rows go to stdout or into a file."""

import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli import parse
from diptych.cli.common import announce, app, examples
from diptych.cli.options import Activation, Backend, Device, Heads, ModelOption, Offline, Option, Precision

if TYPE_CHECKING:
    from diptych.evaluate.classify.label_file import LabelFile
    from diptych.evaluate.classify.question import Question


def run_classify_command(
    model: str,
    paths: list[str],
    question: "Question",
    file: "LabelFile | None",
    as_json: bool,
    *,
    device: str,
    backend: str,
    precision: str,
) -> None:
    """Classify images; the caller has checked `question`. Exit status: 1 if an image is broken, 130 after Ctrl-C."""
    num_done = num_broken = 0
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's threads take longer to start than they save here
    try:
        from diptych.evaluate.classify.classify_images import classify_to_file, classify_to_stdout
        from diptych.evaluate.classify.open_scorer import open_scorer

        scorer = open_scorer(model, question, len(paths), device=device, backend=backend, precision=precision)
        gc.freeze()  # imported objects live until the end, so garbage collection can skip them
        if file is None:
            batches = classify_to_stdout(scorer, paths, question, as_json=as_json)
        else:
            batches = classify_to_file(scorer, paths, file)
        for rows in batches:
            num_done += len(rows)
            num_broken += sum(row.error is not None for row in rows)
    except KeyboardInterrupt:
        if file is None:
            announce(f"stopped after {num_done} of {len(paths)} images; to be able to resume, use --out FILE.csv")
        else:
            announce(f"stopped: {file.num_rows} rows are kept in {file.kept_in}; run the same command again to resume")
        raise
    if file is not None:
        num_broken = file.num_broken
        print(f"{file.path}: {file.num_rows} images" + (f", {num_broken} of them broken" if num_broken else ""))
    elif num_broken:
        announce(f"{num_broken} of {num_done} images are broken; their rows say why")
    if num_broken:
        raise typer.Exit(1)


@app.command(
    epilog=examples(
        "diptych classify photo.jpg --labels cat,dog",
        "diptych classify holiday/*.jpg --model runs/tiny/model --labels 'cat,dog,a red car'",
        "diptych classify photos/ --model ViT-B-32.pt --labels @labels.txt --template 'a photo of a {c}.'",
        "diptych classify photos/ --labels cat,dog --out labels.csv",
    )
)
def classify(
    images: Annotated[list[Path], typer.Argument(parser=parse.path, help="Images, or folders of images.")],
    labels: Annotated[
        str, Option(parser=parse.text_or_file, help="Labels, separated by commas, or @FILE with one label per line.")
    ],
    model: ModelOption = "default",
    template: Annotated[
        list[str] | None,
        Option(
            parser=parse.text_or_file,
            help="Prompt with {c} in place of the label, or @FILE with one per line; several are averaged.",
        ),
    ] = None,
    top_k: Annotated[int, Option(help="Number of labels to show for each image.")] = 3,
    json_lines: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per line, for other programs.")
    ] = False,
    out: Annotated[
        Path | None,
        Option(
            parser=parse.path,
            help="Write the rows into this .csv, .jsonl or .parquet file; run the same command again to resume.",
        ),
    ] = None,
    backend: Backend = "",
    precision: Precision = "fp32",
    device: Device = "auto",
    activation: Activation = None,
    heads: Heads = None,
    offline: Offline = False,
) -> None:
    """Predict which of your labels fits each image best. It needs no training, only the labels.

    Rows appear batch by batch. With --out, a stopped or killed run can be resumed, without lost or duplicate rows.
    """
    from diptych.embed.model_names import check_name
    from diptych.evaluate.classify.question import Question, find_images
    from diptych.evaluate.zero_shot.class_prompts import read_labels, read_templates

    question = Question(tuple(read_labels(labels)), tuple(read_templates(template or ())), top_k)
    check_name(str(model))
    image_paths = find_images(images)
    file = None
    if out is not None:
        from diptych.evaluate.classify.label_file import LabelFile

        file = LabelFile(out, question)
    run_classify_command(
        str(model), image_paths, question, file, json_lines, device=device, backend=backend, precision=precision
    )
