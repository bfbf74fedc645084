"""Code that commands share: the app, checks before the work starts, and printing."""

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

from diptych.errors import InputError
from diptych.files import replaceable

if TYPE_CHECKING:
    from diptych.evaluate.suite import Skipped
    from diptych.evaluate.tasks.task import Setting
    from diptych.train import Run

# torch takes seconds to import. Each command imports what it needs, so that --help answers at once.
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
    """Train, measure and use CLIP models: learn from (image, text) pairs, classify images by labels in words."""


def examples(*lines: str) -> str:
    """Text with the examples below a command's help, one line each."""
    return "[bold]Examples[/bold]\n\n" + "\n\n".join(f"$ {line}" for line in lines)


def is_main() -> bool:
    """Whether this process prints: it is the only process, or rank 0 of torchrun."""
    return os.environ.get("RANK", "0") == "0"


def exit_if_stopped(run: "Run") -> None:
    """If Ctrl-C or SIGTERM stopped the run, print the command that resumes it and exit with status 0."""
    if not run.finished:
        if os.environ.get("RANK", "0") == "0":
            print(f"stopped after step {run.step}; resume with: {_resuming(sys.argv)}", file=sys.stderr)
        raise typer.Exit(0)


def _resuming(argv: list[str]) -> str:
    """The shell command that resumes this run."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return "the same torchrun command with --resume"  # its workers do not know its command line
    program, *arguments = argv
    if Path(program).name == "__main__.py":
        command = [sys.executable, "-m", "diptych"]
    else:
        command = ["diptych" if program in ("-c", shutil.which("diptych")) else program]
    # --resume cannot go at the end: after "--", every argument is a path.
    return shlex.join([*command, arguments[0], *([] if "--resume" in arguments else ["--resume"]), *arguments[1:]])


def refuse_unwritable(out: Path) -> None:
    """Raise an InputError before the work starts if its results cannot be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replaceable(out).open("a"):
            pass
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}; choose another file (--out)") from error


def refuse_unwritable_folder(out: Path) -> None:
    """Like `refuse_unwritable`, for a folder."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except FileExistsError:
        raise InputError(f"{out} is a file, but a folder is needed; choose another (--out)") from None
    except OSError as error:
        raise InputError(f"cannot write into {out}: {error.strerror}; choose another folder (--out)") from error


def show(table: Any) -> None:
    """Print a table: as wide as the terminal, or 120 columns wide in a file, without trailing blanks."""
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
    """Wrap work that can be resumed: after Ctrl-C, print that the same command resumes it."""
    try:
        yield
    except KeyboardInterrupt:
        announce("stopped; all finished measurements are kept: run the same command again to resume")
        raise


def announce(line: str) -> None:
    """Print progress on stderr; stdout is for results."""
    print(line, file=sys.stderr, flush=True)


def suite_setting(
    models: Sequence[str] | None,
    data_root: Path | None,
    out: Path,
    cache: Path | None,
    workers: int | None,
    partial: bool = False,
) -> "Setting":
    """The folders that the suite reads from and writes to. Without models, no folder of sets is needed."""
    from diptych.evaluate.tasks.task import Setting

    if models and data_root is None:
        raise InputError(
            "name the folder of evaluation sets: --data-root FOLDER (diptych data check lists what is there); "
            "without a model the pages are made from the results in --out"
        )
    if data_root is not None and not data_root.is_dir():
        raise InputError(f"there is no folder {data_root} of evaluation sets (--data-root)")
    return Setting(data_root or Path(), cache or out / "cache", out / "predictions", workers or 0, partial=partial)


def refuse_equal_names(models: Sequence[str], names: Sequence[str]) -> None:
    """Refuse two models with the same name, because the second one's results would replace the first one's.

    Args:
        models: names as given on the command line.
        names: the name of each model in results.
    Raises:
        InputError: two models have the same name.
    """
    for index, name in enumerate(names):
        if name in names[:index]:
            first = models[names.index(name)]
            raise InputError(
                f"{first} and {models[index]} are both called {name!r}, so their results could not be told apart: "
                "measure them into two folders (--out), or rename one"
            )


def print_skipped(skipped: "Sequence[Skipped]") -> None:
    """Print on stderr what was not measured: missing sets on one line, then other cases with their reasons."""
    absent = dict.fromkeys(row.dataset for row in skipped if row.absent)
    if absent:
        print(f"not there: {', '.join(absent)} (diptych data check says where to get them)", file=sys.stderr)
    for row in skipped:
        if not row.absent:
            print(f"not measured: {row.task} on {row.dataset}: {row.reason}", file=sys.stderr)
