"""Names of files and folders on the command line: one parser for each form that such a value has.

Every option and argument that names a file takes one of these as its `parser`. A shell replaces ~ only at the beginning
of a word, so that `--out=~/runs`, `--labels=@~/labels.txt` and `hf:~/model` come here as they were typed.
"""

import os
import re
from pathlib import Path

from diptych.errors import DiptychError, InputError
from diptych.files import expanded

_BEFORE_A_FOLDER = re.compile(r"hf:|open_clip:(?:local-dir:|[^@~]+@)?", re.DOTALL)


def path(value: str | Path) -> str:
    """A file, a folder, or a pattern for several: ~ and ~user at its beginning become that user's home folder."""
    try:
        return _expanded(os.fspath(value))
    except InputError as error:
        raise DiptychError(str(error)) from error  # typer would put words of its own in the place of a ValueError's


def model(value: str | Path) -> str:
    """The name of a model in any of its forms, hf:~/folder and open_clip:NAME@~/file among them; or a path."""
    prefix = _BEFORE_A_FOLDER.match(name := os.fspath(value))
    end = prefix.end() if prefix else 0
    return name[:end] + path(name[end:])


def text_or_file(value: str) -> str:
    """@FILE, whose name may begin with ~; any other text is left as it is."""
    return "@" + path(value[1:]) if value.startswith("@") else value


def _expanded(value: str) -> str:
    """The same text where it does not begin with a ~: it may be a pattern, or a name that is no path."""
    return str(expanded(value)) if value.startswith(("~", "./~")) else value
