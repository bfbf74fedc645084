"""The command line: parse, call one function, print.

Each command or group of commands has its own file. `docs/make_cli_page.py` makes `docs/cli.md` from them.
"""

import contextlib
import errno
import io
import logging
import os
import re
import select
import sys
from typing import NoReturn

from typer.models import CommandInfo

from diptych.cli import (  # noqa: F401  (importing them adds their commands to the app)
    benchmark,
    check,
    classify,
    convert,
    data,
    embed,
    evaluate,
    interpolate,
    models,
    overlap,
    paper,
    paper_exhibits,
    paper_figures,
    push,
    quickstart,
    recipes,
    suite,
    train,
    tune,
)
from diptych.cli.common import app, is_main
from diptych.embed.hub import forget_offline
from diptych.embed.weight_file_options import forget
from diptych.errors import DiptychError
from diptych.lazy import uncollected_imports

__all__ = ["app", "main"]

_FIRST = (
    "quickstart",
    "train",
    "classify",
    "embed",
    "evaluate",
    "suite",
    "models",
    "recipes",
)  # the order in --help for a new user
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT) if hasattr(errno, "EDQUOT") else (errno.ENOSPC,)
_CLOSED_PIPE = 141  # 128 plus the number of SIGPIPE, as in shells


def _name(command: CommandInfo) -> str:
    return str(command.name or getattr(command.callback, "__name__", ""))


def _order_for_new_users(command: CommandInfo) -> int:
    return _FIRST.index(_name(command)) if _name(command) in _FIRST else len(_FIRST)


def _order_in_paper(command: CommandInfo) -> tuple[str, int, str]:
    kind, number, rest = re.fullmatch(r"(\D*)(\d*)(.*)", _name(command)).groups()  # type: ignore[union-attr]  # it always matches
    return {"table": "1", "figure": "2"}.get(kind, "3"), int(number or 0), rest


app.registered_commands.sort(key=_order_for_new_users)
paper.paper_app.registered_commands.sort(key=_order_in_paper)


class _LogHandler(logging.StreamHandler):
    """Log lines on stderr. A progress bar replaces sys.stderr while it runs, so each line looks up sys.stderr again."""

    def emit(self, record: logging.LogRecord) -> None:
        self.setStream(sys.stderr)
        super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        return level + _printable(super().format(record))


def _printable(text: str) -> str:
    """The text without terminal control codes, because it may quote names from untrusted files."""
    return "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)


def _one_line(error: Exception) -> str:
    text = str(error)
    if isinstance(error, OSError):
        location = error.filename or ("standard output, or a temporary file" if error.errno in _DISK_FULL else "")
        text = f"{location}: {error.strerror}" if location else text
    return _printable(" ".join(text.split("\n")))


def _indented_lines(error: Exception) -> str:
    """The lines of a Diptych error, indented after the first one. Any other error becomes one line."""
    if not isinstance(error, DiptychError):
        return _one_line(error)
    lines = [line.strip() for line in _printable(str(error)).split("\n")]
    return "\n  ".join(line for line in lines if line)


def main() -> None:
    """Entry point. Diptych's own errors are printed without a traceback, unless DIPTYCH_DEBUG=1 is set."""
    _escape_unprintable()
    try:
        _run()
    except SystemExit as exit_request:
        if _is_output_closed(exit_request):
            _exit_quietly()
        _flush()
        if "diptych.distributed" in sys.modules:
            from diptych import distributed

            distributed.leave(exit_request.code)
        raise
    except BrokenPipeError as error:
        if not _is_output_closed(error):
            raise
        _exit_quietly()


def _escape_unprintable() -> None:
    """Print characters that the terminal's encoding lacks as \\x and \\u escapes, in file names too."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _is_output_closed(error: BaseException) -> bool:
    """Whether the reader of the output closed it (`| head`). The pipe of a worker process breaks for other reasons."""
    cause = error if isinstance(error, BrokenPipeError) else error.__context__  # typer exits on a broken pipe
    if not isinstance(cause, BrokenPipeError):
        return False
    if hasattr(select, "poll"):
        poll = select.poll()
        for stream in (sys.__stdout__, sys.__stderr__):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                poll.register(stream.fileno(), 0)  # type: ignore[union-attr]  # a closed stream has none
        return any(state & select.POLLERR for _, state in poll.poll(0))
    return True


def _flush() -> None:
    """Flush the output before exit. If that fails (`>` to a full disk), print an error."""
    if sys.stdout is None:  # closed by `>&-`
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _exit_quietly()
    except OSError as error:
        print(f"error: cannot write the printed output: {error.strerror}; it is lost", file=sys.stderr)
        _exit_quietly(1)


def _exit_quietly(status: int = _CLOSED_PIPE) -> NoReturn:
    """Exit like a program that a closed pipe ends: discard the buffered output and print no message."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(devnull, stream.fileno())  # type: ignore[union-attr]
    os._exit(status)


def _run() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[_LogHandler()])
    logging.getLogger("diptych").setLevel(logging.INFO if is_main() else logging.ERROR)
    try:
        with uncollected_imports():
            app()
    except (DiptychError, OSError) as error:
        if os.environ.get("DIPTYCH_DEBUG"):
            raise
        print(f"error: {_indented_lines(error)}", file=sys.stderr)
        sys.exit(1)
    # torch raises a RuntimeError when memory runs out, on the CPU and on a GPU. Any other RuntimeError is a bug.
    except (MemoryError, RuntimeError) as error:
        if os.environ.get("DIPTYCH_DEBUG") or not (isinstance(error, MemoryError) or "memory" in str(error)):
            raise
        print(f"error: out of memory ({_one_line(error)}): try a smaller batch or model", file=sys.stderr)
        sys.exit(1)
    finally:
        forget()
        forget_offline()
