"""Write docs/cli.md, the page of every command and option, from the commands' own signatures and help.

python docs/make_cli_page.py
"""

import inspect
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import typer
from typer.models import ArgumentInfo, CommandInfo

from diptych.cli import app

PAGE = Path(__file__).parent / "cli.md"
_HEAD = """# Command line

Made by `python docs/make_cli_page.py` from what `diptych COMMAND --help` shows.

An option has the same meaning in all commands: `--set` is a field of the configuration, `--dataset` a data set,
`--model` a model. A command whose first argument is MODEL or MODELS takes `--model` in its place, too.

An error is one line on stderr, `error: ...`, with exit status 1. Wrong usage has exit status 2, an interrupted run 130.
`DIPTYCH_DEBUG=1` prints the traceback of an error.

`~` and `~user` at the start of a path mean a home folder, also where a shell does not expand them: `--out=~/runs`,
`--labels=@~/labels.txt`, `hf:~/model`. To name a file that starts with `~`, write `./~name`.
"""
_KINDS = {bool: "", str: "text", int: "whole number", float: "number", Path: "path"}


class _Parameter(NamedTuple):
    name: str
    takes: str
    default: str  # empty where it must be given
    text: str


def page() -> str:
    """The whole page."""
    lines = [line for command in app.registered_commands for line in _section(command)]
    for group in app.registered_groups:
        assert group.typer_instance is not None
        commands = group.typer_instance.registered_commands
        own = group.typer_instance.registered_callback
        if own is not None and own.callback is not None and own.invoke_without_command is True:  # a command, too
            epilog = own.epilog if isinstance(own.epilog, str) else None
            lines += _section(CommandInfo(group.name, callback=own.callback, epilog=epilog))
        lines += [line for command in commands for line in _section(command, f"{group.name} ")]
    return "\n".join([_HEAD, *lines])


def _section(command: CommandInfo, group: str = "") -> Iterator[str]:
    function = command.callback
    assert function is not None
    name = group + (command.name or function.__name__.replace("_", "-"))
    rows = list(_parameters(function))
    arguments = [row.name for row in rows if not row.name.startswith("-")]
    required = [f"{row.name} {row.takes.upper()}" for row in rows if row.name.startswith("-") and not row.default]
    yield f"## diptych {name}\n"
    yield inspect.getdoc(function) or ""
    yield f"\n```\ndiptych {' '.join([name, *arguments, *required, '[OPTIONS]'])}\n```\n"
    yield "| argument or option | takes | default | what |\n| --- | --- | --- | --- |"
    for row in rows:
        yield f"| `{row.name}` | {row.takes} | {row.default or 'required'} | {row.text} |"
    examples = [line.removeprefix("$ ") for line in (command.epilog or "").split("\n") if line.startswith("$ ")]
    yield "\n```sh\n" + "\n".join(examples) + "\n```\n"


def _parameters(function: Callable[..., Any]) -> Iterator[_Parameter]:
    hints = typing.get_type_hints(function, include_extras=True)
    for parameter in inspect.signature(function).parameters.values():
        if hints[parameter.name] is typer.Context:
            continue
        annotation, info = typing.get_args(hints[parameter.name])
        if info.hidden:  # an old spelling
            continue
        if isinstance(info, ArgumentInfo):
            name = info.metavar or f"{parameter.name.upper()}..."
        else:  # in Annotated, typer takes a name of its own from the place of the default
            own = (value for value in (info.default, *(info.param_decls or ())) if str(value).startswith("--"))
            name = next(own, "--" + parameter.name.replace("_", "-"))
        default = "" if parameter.default is inspect.Parameter.empty else _default(parameter.default)
        yield _Parameter(name, _takes(annotation), default, (info.help or "").replace("|", "\\|"))


def _takes(annotation: Any) -> str:
    """What a user writes after the name; nothing after a flag."""
    inner = typing.get_args(annotation)
    if isinstance(annotation, types.UnionType):  # ... | None
        return _takes(inner[0])
    return f"{_takes(inner[0])}, several" if typing.get_origin(annotation) is list else _KINDS[annotation]


def _default(value: Any) -> str:
    if value is None or value is False:
        return "-" if value is None else "off"
    return f"`{value}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
