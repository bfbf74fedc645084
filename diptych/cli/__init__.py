"""The command line: parse, call one function, print.

One file per command or group of commands. `docs/cli.md` is made from them.
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

from diptych.cli import (  # noqa: F401  (to import them adds their commands to the app)
    benchmark,
    classify,
    data,
    evaluate,
    exhibits,
    figures,
    interpolate,
    paper,
    quickstart,
    recipes,
    suite,
    train,
    tune,
)
from diptych.cli.common import app, is_main
from diptych.embed.stated import forget
from diptych.errors import DiptychError
from diptych.lazy import uncollected_imports

__all__ = ["app", "main"]

_FIRST = ("quickstart", "train", "classify", "evaluate", "suite", "recipes")  # the order in --help for a new user
_FULL = (errno.ENOSPC, errno.EDQUOT) if hasattr(errno, "EDQUOT") else (errno.ENOSPC,)
_CLOSED_PIPE = 141  # 128 plus the number of SIGPIPE, as in shells


def _name(command: CommandInfo) -> str:
    return str(command.name or getattr(command.callback, "__name__", ""))


def _in_a_new_users_order(command: CommandInfo) -> int:
    return _FIRST.index(_name(command)) if _name(command) in _FIRST else len(_FIRST)


def _in_the_papers_order(command: CommandInfo) -> tuple[str, int, str]:
    kind, number, rest = re.fullmatch(r"(\D*)(\d*)(.*)", _name(command)).groups()  # type: ignore[union-attr]  # it always fits
    return {"table": "1", "figure": "2"}.get(kind, "3"), int(number or 0), rest


app.registered_commands.sort(key=_in_a_new_users_order)
paper.paper_app.registered_commands.sort(key=_in_the_papers_order)


class _LogHandler(logging.StreamHandler):
    """Log lines on stderr. A progress bar replaces sys.stderr while it is shown, so it is looked up for each line."""

    def emit(self, record: logging.LogRecord) -> None:
        self.setStream(sys.stderr)
        super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        return level + _printable(super().format(record))


def _printable(text: str) -> str:
    """The text without control codes of a terminal: it may quote names from untrusted files."""
    return "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)


def _one_line(error: Exception) -> str:
    text = str(error)
    if isinstance(error, OSError):
        where = error.filename or ("standard output, or a temporary file" if error.errno in _FULL else "")
        text = f"{where}: {error.strerror}" if where else text
    return _printable(" ".join(text.split("\n")))


def _in_lines(error: Exception) -> str:
    """The lines of one of Diptych's own errors; all after the first are indented, whatever names they quote."""
    if not isinstance(error, DiptychError):
        return _one_line(error)
    lines = [line.strip() for line in _printable(str(error)).split("\n")]
    return "\n  ".join(line for line in lines if line)


def main() -> None:
    """Entry point. Diptych's own errors are printed without a traceback, unless DIPTYCH_DEBUG=1 asks for it."""
    _print_anything()
    try:
        _run()
    except SystemExit as end:
        if _is_output_closed(end):
            _end_quietly()
        _flush()
        if "diptych.distributed" in sys.modules:
            from diptych import distributed

            distributed.leave(end.code)
        raise
    except BrokenPipeError as error:
        if not _is_output_closed(error):
            raise
        _end_quietly()


def _print_anything() -> None:
    """Print characters that the terminal's encoding lacks as \\x and \\u escapes, also in file names."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _is_output_closed(end: BaseException) -> bool:
    """Whether the reader of the output has closed it (`| head`); the pipe of a worker can break for other reasons."""
    cause = end if isinstance(end, BrokenPipeError) else end.__context__  # typer exits on a broken pipe
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
    """Flush the output before the exit; if it cannot be written (a full disk behind `>`), print an error."""
    if sys.stdout is None:  # closed by `>&-`
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _end_quietly()
    except OSError as error:
        print(f"error: cannot write the printed output: {error.strerror}; it is lost", file=sys.stderr)
        _end_quietly(1)


def _end_quietly(status: int = _CLOSED_PIPE) -> NoReturn:
    """Exit as a program that a closed pipe ends: discard the buffered output without a message."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(nowhere, stream.fileno())  # type: ignore[union-attr]
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
        print(f"error: {_in_lines(error)}", file=sys.stderr)
        sys.exit(1)
    # torch raises a RuntimeError when memory runs out, on the CPU and on a GPU; any other RuntimeError is a bug.
    except (MemoryError, RuntimeError) as error:
        if os.environ.get("DIPTYCH_DEBUG") or not (isinstance(error, MemoryError) or "memory" in str(error)):
            raise
        print(f"error: out of memory ({_one_line(error)}): try a smaller batch or model", file=sys.stderr)
        sys.exit(1)
    finally:
        forget()
