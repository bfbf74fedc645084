"""diptych paper: tables and figures that need no training. The commands measure models, print tables, write pages."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from diptych.cli import parse
from diptych.cli.common import (
    announce,
    examples,
    print_skipped,
    refuse_equal_names,
    refuse_unwritable_folder,
    resumable,
    show,
    suite_setting,
)
from diptych.cli.options import (
    MODEL_FORMS,
    Activation,
    Backend,
    DataRoot,
    Device,
    Heads,
    ModelsOption,
    Offline,
    Option,
    Partial,
    Precision,
    Workers,
)
from diptych.cli.paper import paper_app
from diptych.embed.weight_file_options import stated
from diptych.errors import InputError

# Not read from the exhibits: importing them imports torch, and --help must answer at once.
ABOUT = {
    "table1": "Zero-shot accuracy on aYahoo, ImageNet and SUN, compared with Visual N-Grams.",
    "table2": "Zero-shot accuracy on Oxford-IIIT Pets, compared with people.",
    "table10": "Linear probes on 27 sets, compared with the paper's 66 models; the best scores are bold.",
    "table11": "Zero-shot scores on 27 sets, compared with the paper's nine models.",
    "table13": "Retrieval on Flickr30k and MSCOCO, zero-shot, in both directions.",
    "table14": "Reading text in images: MNIST, SVHN, IIIT5K, Hateful Memes and SST-2.",
    "table15": "Actions in videos: UCF101, Kinetics-700 and RareAct, averaged over frames.",
    "table16": "ImageNet and its seven natural shifts.",
    "table17": "Geolocation on IM2GPS: an image gets the location of its nearest neighbor.",
    "figure4": "The gain of prompts and prompt ensembles over bare class names.",
    "figure5": "Zero-shot minus a linear probe on ResNet-50's features, per set.",
    "figure6": "Few-shot probes compared with zero-shot.",
    "figure7": "The number of labeled examples per class to which zero-shot is equivalent.",
    "figure8": "Zero-shot against the linear probe, with fit and correlation.",
    "figure9-paper": "The paper's figure 9, from its own points (figure9 trains your own models).",
    "figure10": "Mean probe score against compute.",
    "figure11": "A linear probe minus a probe on Noisy Student EfficientNet-L2, per set.",
    "figure12": "Transfer against ImageNet score.",
    "figure13": "Accuracy under natural shift against ImageNet accuracy, with 335 published models.",
    "figure14": "The effect of adapting to ImageNet, and to the classes of a shift.",
    "figure15": "Robustness of few-shot classifiers to natural shifts.",
    "figure16": "Breeds of pets by difficulty, for the model and for people.",
    "figure17": "Overlap with the training data, from the results of diptych overlap in OUT.",
    "figure20": "Linear probes against compute, per set.",
    "figure21": "Random example images, with the top five classes and the rank of the true class.",
    "pairs": "Not in the paper: pairs of models on the same samples, with McNemar's test.",
    "shifts": "Not in the paper: corruptions and renditions made from the images of a set.",
    "figure22": "Zero-shot against compute, per set.",
}

Models = Annotated[
    list[str] | None,
    typer.Argument(
        parser=parse.model,
        help=f"Models: {MODEL_FORMS}. Without models: the paper's numbers and those in OUT.",
    ),
]
Out = Annotated[
    Path,
    Option(
        parser=parse.path, help="Folder for Results, pages and figures; measurements that it holds are not repeated."
    ),
]
Datasets = Annotated[
    list[str] | None,
    Option("--dataset", help="Only this data set; may be repeated. Default for pairs: the sets with results in OUT."),
]
Cache = Annotated[
    Path | None, Option(parser=parse.path, help="Folder for encoded images and classifiers; OUT/cache by default.")
]


def _make(name: str, about: str) -> None:
    """Register the command of one exhibit."""

    def command(
        models: Models = None,
        model: ModelsOption = None,
        data_root: DataRoot = None,
        out: Out = Path("runs/paper"),
        dataset: Datasets = None,
        backend: Backend = "",
        precision: Precision = "fp32",
        workers: Workers = 1,
        cache: Cache = None,
        device: Device = "auto",
        activation: Activation = None,
        heads: Heads = None,
        offline: Offline = False,
        partial: Partial = False,
    ) -> None:
        run_exhibits(
            [name],
            [*(model or ()), *(models or ())],
            data_root,
            out,
            dataset,
            precision,
            workers,
            cache,
            device,
            partial,
        )

    command.__doc__ = about
    lines = [f"diptych paper {name}", f"diptych paper {name} ViT-B-32.pt --data-root sets/ --out runs/paper"]
    paper_app.command(name, epilog=examples(*lines))(command)


for _name, _about in ABOUT.items():
    _make(_name, _about)


def run_exhibits(
    names: list[str],
    models: list[str] | None,
    data_root: Path | None,
    out: Path,
    datasets: list[str] | None,
    precision: str,
    workers: int | None,
    cache: Path | None,
    device: str,
    partial: bool = False,
) -> None:
    """Measure the models, print the tables, and write the pages.

    Raises:
        InputError: nothing was measured, or an argument does not fit.
    """
    from diptych.embed.model_names import check_name

    for model in models or []:
        check_name(model)

    from diptych.embed import load
    from diptych.paper.run import get_exhibits, lacking, make_exhibits
    from diptych.report.table import to_rich

    if not models and stated() != (None, None):
        raise InputError("--activation and --heads describe a weight file, but no model is given: leave them out")
    exhibits = get_exhibits(names)
    from_results = bool(models) and data_root is None  # all numbers to show are in OUT already
    if from_results and not any((out / "parts").glob("*/*.json")):
        raise InputError(_unmeasured(names[0], models or [], out, "no results"))
    setting = suite_setting([] if from_results else models, data_root, out, cache, workers, partial)
    refuse_unwritable_folder(out)
    torch_device = None if device == "auto" else device
    encoders = [load(model, torch_device, precision) for model in models or []]
    refuse_equal_names(models or [], [encoder.name for encoder in encoders])
    if from_results and (missing := lacking(exhibits[0], encoders, out, datasets)):
        lack = "no predictions to compare" if exhibits[0].own_sets else "no results for it"
        raise InputError(_unmeasured(names[0], models or [], out, f"{lack} of {missing[0].name}"))
    with resumable():
        written = make_exhibits(
            exhibits, [] if from_results else encoders, setting, out, datasets=datasets, announce=announce
        )
    for _, shown in written.shown:
        if not shown.tables:
            print(shown.title)
        for table in shown.tables:
            show(to_rich(table))
    print_skipped(written.skipped)
    if models and not from_results and not written.num_results:
        if not all(row.absent for row in written.skipped):
            raise InputError(
                f"nothing could be measured, for the reasons above; {written.page} shows the paper's numbers"
            )
        announce("none of the sets is there: the page shows no number of these models")
    print(f"the page: {written.page}")


def _unmeasured(name: str, models: list[str], out: Path, lack: str) -> str:
    command = shlex.join(["diptych", "paper", name, *models, "--out", str(out), "--data-root"])
    return (
        f"{out} holds {lack}: {command} FOLDER measures on the evaluation sets in FOLDER (diptych data check lists "
        "what is there); without models the pages are made from the results in --out"
    )
