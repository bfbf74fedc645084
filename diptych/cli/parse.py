"""Names of files and folders on the command line: one parser for each form of such a value.

Every option and argument that names a file uses one of these as its `parser`. A shell expands ~ only at the beginning
of a word, so `--out=~/runs`, `--labels=@~/labels.txt` and `hf:~/model` arrive here unexpanded.
"""

import os
import re
from pathlib import Path

from diptych.errors import DiptychError, InputError
from diptych.files import expanded

_BEFORE_A_FOLDER = re.compile(r"hf:|onnx:|open_clip:(?:local-dir:|[^@~]+@)?", re.DOTALL)


def path(value: str | Path) -> str:
    """A file, a folder, or a pattern for several files. A leading ~ or ~user becomes that user's home folder."""
    try:
        return _expanded(os.fspath(value))
    except InputError as error:
        raise DiptychError(str(error)) from error  # typer replaces the message of a ValueError by its own


def model(value: str | Path) -> str:
    """The name of a model in any form, including hf:~/folder and open_clip:NAME@~/file; or a path."""
    prefix = _BEFORE_A_FOLDER.match(name := os.fspath(value))
    end = prefix.end() if prefix else 0
    return name[:end] + path(name[end:])


def text_or_file(value: str) -> str:
    """@FILE, whose name may begin with ~. Any other text is returned unchanged."""
    return "@" + path(value[1:]) if value.startswith("@") else value


def _expanded(value: str) -> str:
    """Expand a leading ~. Other text is returned unchanged: it may be a pattern, or a name that is not a path."""
    return str(expanded(value)) if value.startswith(("~", "./~")) else value
