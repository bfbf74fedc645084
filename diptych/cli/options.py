"""Options and arguments that several commands share. Each has one name, one meaning and one help text."""

import importlib.metadata
from pathlib import Path
from typing import Annotated

import typer

from diptych.cli import parse
from diptych.cli.common import announce
from diptych.embed.hub import state_offline
from diptych.embed.weight_file_options import state
from diptych.errors import DiptychError

Option = typer.Option
Number = int | None
Fraction = float | None

_DEVICES = ("auto", "cpu", "cuda", "mps", "xpu", "hpu", "mtia", "xla", "meta")


def device(name: str) -> str:
    """Refuse a misspelled device before torch is imported. Only torch can tell whether a device exists."""
    kind, _, number = name.partition(":")
    plug_ins = importlib.metadata.entry_points(group="torch.backends")  # plug-ins add device names
    if not plug_ins and (kind not in _DEVICES or (number and not number.isdecimal())):
        raise DiptychError(f"there is no device {name!r}: try auto, cpu, cuda or cuda:1")
    return name


def _old_datasets(names: list[str] | None) -> list[str] | None:
    if names:
        announce("notice: --set names a field of the configuration in other commands; name data sets by --dataset")
    return names


# ------------------------------------------------------------------ models

MODEL_FORMS = (
    "a folder, a weight file, default, ViT-B/32 (diptych models), hf-hub:ID, hf:ID, open_clip:NAME@TAG or python:X:Y"
)
ModelOption = Annotated[str | None, Option(parser=parse.model, help=f"Model: {MODEL_FORMS}.")]
Models = Annotated[list[str] | None, typer.Argument(parser=parse.model, help=f"Models: {MODEL_FORMS}.")]
ModelsOption = Annotated[
    list[str] | None, Option("--model", parser=parse.model, help="A model, as in MODELS; may be repeated.")
]
# For weight files, in every command that takes one. The resolver reads them from diptych.embed.weight_file_options.
Activation = Annotated[
    str | None,
    Option(
        help="Activation of a weight file, which does not name it: quick_gelu, gelu or gelu_tanh.",
        callback=lambda value: state("activation", value),
    ),
]
Heads = Annotated[
    str | None,
    Option(
        help="Attention heads of the image and the text tower of a weight file, which does not name them: 16,12.",
        callback=lambda value: state("heads", value),
    ),
]
Offline = Annotated[
    bool,
    Option(
        "--offline",
        help="Use only models that are on this machine; never the network.",
        callback=lambda asked: state_offline(bool(asked)),
    ),
]
Device = Annotated[str, Option(parser=device, help="auto (a GPU if there is one), cpu, cuda, cuda:1, ...")]
Precision = Annotated[
    str, Option(help="fp32 (exact), bf16, int8 (backend onnx), or auto (bf16 if the processor has it, else fp32).")
]
Backend = Annotated[
    str,
    Option(
        help="torch, onnx, openvino, or auto (the fastest on this machine). The others are compiled at the first use "
        "and tested against torch. By default torch; classify takes onnx for small models, if it is installed.",
        callback=lambda value: state("backend", value),
    ),
]
Workers = Annotated[int | None, Option(min=0, help="Processes that decode images; the results stay the same.")]

# ------------------------------------------------------------------ evaluation sets

DataRoot = Annotated[
    Path | None,
    Option("--data-root", parser=parse.path, help="Folder of evaluation sets; diptych data check lists them."),
]
Datasets = Annotated[list[str] | None, Option("--dataset", help="Only this data set; may be repeated.")]
OldDatasets = Annotated[list[str] | None, Option("--set", hidden=True, callback=_old_datasets)]
Tasks = Annotated[list[str] | None, Option("--task", help="Only this task; may be repeated. A wrong name lists all.")]
TaskModules = Annotated[
    list[str] | None,
    Option("--tasks", help="A Python module of yours that registers more tasks; may be repeated."),
]
Partial = Annotated[
    bool,
    Option(
        "--partial",
        help="Also measure sets that lack many of their classes; the results then state how many are present.",
    ),
]

# ------------------------------------------------------------------ training

PAIRS_HELP = "Pairs: tar shards, parquet, CSV/TSV, a folder with .txt files, or playground:NUM."
Recipe = Annotated[str, Option(help="Model and hyper-parameters; a wrong name lists all.")]
Settings = Annotated[
    list[str] | None,
    Option("--set", help="NAME=VALUE, any field of the configuration by its dotted name; may be repeated."),
]
Seed = Annotated[int, Option(help="Seed of the weights and of the order of the data.")]
Resume = Annotated[bool, Option("--resume", help="Continue from the newest checkpoint.")]
Init = Annotated[
    str | None, Option(parser=parse.model, help="Model to start from: a folder, a weight file or default.")
]
# Separate from the two above: these are saved in the run's configuration, so that the run can be resumed.
InitActivation = Annotated[
    str | None, Option(help="Activation of --init FILE, which does not name it: quick_gelu, gelu or gelu_tanh.")
]
InitHeads = Annotated[
    str | None,
    Option(help="Attention heads of the image and the text tower of --init FILE, which does not name them: 16,12."),
]
ImageColumn = Annotated[
    str | None, Option(help="Column of a table that holds the paths of the images, or the images (parquet).")
]
CaptionColumn = Annotated[str | None, Option(help="Column of a table that holds the captions.")]


def datasets(named: list[str] | None, old: list[str] | None) -> list[str] | None:
    """The data sets of --dataset and of its old spelling --set; None if neither is given."""
    return [*(named or ()), *(old or ())] or None
