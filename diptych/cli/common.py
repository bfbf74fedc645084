"""What the commands share: the app, their common options, and printing."""

import contextlib
import importlib.metadata
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli import paths
from diptych.embed.stated import state
from diptych.errors import DiptychError, InputError
from diptych.files import replaceable

if TYPE_CHECKING:
    from diptych.evaluate.suite import Skipped
    from diptych.evaluate.tasks.task import Setting
    from diptych.train import Run

# torch takes seconds to import; each command imports what it needs, so that --help answers at once.
app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"diptych {importlib.metadata.version('diptych')}")
        raise typer.Exit


@app.callback()
def diptych(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Train, measure and use CLIP models: learn from (image, text) pairs, classify with words."""


def examples(*lines: str) -> str:
    """The examples under a command's help; one line each."""
    return "[bold]Examples[/bold]\n\n" + "\n\n".join(f"$ {line}" for line in lines)


def device(name: str) -> str:
    """Find a misspelled device before torch is imported; whether a known one is there, only torch can say."""
    kind, _, number = name.partition(":")
    plug_ins = importlib.metadata.entry_points(group="torch.backends")  # they name devices of their own
    if not plug_ins and (kind not in _DEVICES or (number and not number.isdecimal())):
        raise DiptychError(f"there is no device {name!r}: try auto, cpu, cuda or cuda:1")
    return name


Option = typer.Option
Device = Annotated[str, Option(parser=device, help="auto (the GPU where there is one), cpu, cuda, cuda:1, ...")]
Seed = Annotated[int, Option(help="Seed of the weights and of the data's order.")]
Workers = Annotated[int | None, Option(min=0, help="Processes that decode pictures; changes no number.")]
Resume = Annotated[bool, Option("--resume", help="Go on from the newest checkpoint.")]
ModelOption = Annotated[
    str | None, Option(parser=paths.model, help="Model folder, weight file, or default, which comes with Diptych.")
]
# Of bare weight files, in every command that takes one. The resolver asks diptych.embed.stated: nobody passes them on.
Activation = Annotated[
    str | None,
    Option(
        help="Of a weight file, which does not say it: quick_gelu or gelu.",
        callback=lambda value: state("activation", value),
    ),
]
Heads = Annotated[
    str | None,
    Option(
        help="Of a weight file, which does not say them: heads of the image and the text tower, such as 16,12.",
        callback=lambda value: state("heads", value),
    ),
]
Partial = Annotated[
    bool,
    Option("--partial", help="Measure also sets that lack many of the paper's classes; each number says so."),
]
Number = int | None
Fraction = float | None

_DEVICES = ("auto", "cpu", "cuda", "mps", "xpu", "hpu", "mtia", "xla", "meta")

PAIRS_HELP = "Pairs: tar shards, parquet, CSV/TSV, a folder with .txt files, or playground:NUM."
SETS_HELP = "MODEL (unless --model is given), then evaluation sets: clip-benchmark/wds layout or a folder per class."


def is_main() -> bool:
    """Whether this is the process that talks: the only one, or torchrun's first."""
    return os.environ.get("RANK", "0") == "0"


def exit_if_stopped(run: "Run") -> None:
    """After Ctrl-C or SIGTERM: all is saved, so say how to go on, and leave with status 0."""
    if not run.finished:
        if os.environ.get("RANK", "0") == "0":
            print(f"stopped after step {run.step}; go on with: {_resuming(sys.argv)}", file=sys.stderr)
        raise typer.Exit(0)


def _resuming(argv: list[str]) -> str:
    """The command line that goes on with the run of this one, for a shell."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return "the same torchrun command with --resume"  # its workers cannot know how it was called
    program, *words = argv
    if Path(program).name == "__main__.py":
        command = [sys.executable, "-m", "diptych"]
    else:
        command = ["diptych" if program in ("-c", shutil.which("diptych")) else program]
    # Not at the end: all words after a "--" are paths.
    return shlex.join([*command, words[0], *([] if "--resume" in words else ["--resume"]), *words[1:]])


def refuse_unwritable(out: Path) -> None:
    """Find out before the work, not after it, that its results cannot be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replaceable(out).open("a"):
            pass
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}; choose another file (--out)") from error


def refuse_unwritable_folder(out: Path) -> None:
    """The same of a folder."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except FileExistsError:
        raise InputError(f"{out} is a file, but a folder is needed; choose another (--out)") from None
    except OSError as error:
        raise InputError(f"cannot write into {out}: {error.strerror}; choose another folder (--out)") from error


def show(table: Any) -> None:
    """A table on stdout: as wide as the terminal, or 120 columns in a file, without blanks at the ends of lines."""
    from rich.console import Console

    if sys.stdout.isatty():
        Console().print(table)
        return
    console = Console(width=120)
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


@contextlib.contextmanager
def resumable() -> Iterator[None]:
    """Around work that the same command goes on with: says so after Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        announce("stopped; what was measured is kept, and the same command goes on")
        raise


def announce(line: str) -> None:
    """What is being done, on stderr: stdout is for what was found."""
    print(line, file=sys.stderr, flush=True)


def suite_setting(
    models: Sequence[str] | None,
    data_root: Path | None,
    out: Path,
    cache: Path | None,
    workers: int | None,
    partial: bool = False,
) -> "Setting":
    """Where the suite finds its sets and keeps what it computes; without models nothing is read."""
    from diptych.evaluate.tasks.task import Setting

    if models and data_root is None:
        raise InputError(
            "name the folder of evaluation sets: --data-root FOLDER (diptych data check says what is there); "
            "without a model the pages are made from what --out holds"
        )
    if data_root is not None and not data_root.is_dir():
        raise InputError(f"there is no folder {data_root} of evaluation sets (--data-root)")
    return Setting(data_root or Path(), cache or out / "cache", out / "predictions", workers or 0, partial=partial)


def refuse_equal_names(models: Sequence[str], names: Sequence[str]) -> None:
    """Models by what results call them: of two with one name the second would take the first one's place.

    Args:
        models: as they were given on the command line.
        names: of each.
    Raises:
        InputError: two have one name.
    """
    for place, name in enumerate(names):
        if name in names[:place]:
            other = models[names.index(name)]
            raise InputError(
                f"{other} and {models[place]} are both called {name!r}, and results would mix them up: measure them "
                "into two folders (--out), or rename one"
            )


def print_skipped(skipped: "Sequence[Skipped]") -> None:
    """What was not measured, on stderr: missing sets in one line, the others with their reasons."""
    absent = dict.fromkeys(one.dataset for one in skipped if one.absent)
    if absent:
        print(f"not there: {', '.join(absent)} (diptych data check says where to get them)", file=sys.stderr)
    for one in skipped:
        if not one.absent:
            print(f"not measured: {one.task} on {one.dataset}: {one.reason}", file=sys.stderr)
