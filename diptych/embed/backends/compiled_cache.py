"""Where compiled models are kept, and how a later process finds one without reading the model's weights.

    $XDG_CACHE_HOME/diptych/compiled/GRAPHS/     a compiled model; the name is a digest of what its numbers depend on
    $XDG_CACHE_HOME/diptych/compiled/sources/    for each model file or folder: its files' sizes and times, and what was
                                                 compiled from it

A changed size or modification time of a model's file makes its entry void.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from diptych import processor
from diptych.embed.backends.compiled_model import RECORD
from diptych.embed.backends.runtimes import library_version
from diptych.files import cache_folder, write_whole

FORMAT = 3  # raised when the graphs of an older version must not be used
_SETTINGS, _WEIGHTS = (".json", ".txt"), (".safetensors", ".bin")
_MAX_ENTRY_BYTES = 1 << 20


def compiled_folder() -> Path | None:
    """The folder of all compiled models; None for a user without a home folder."""
    caches = cache_folder()
    return None if caches is None else caches / "diptych" / "compiled"


def graph_key(
    fingerprints: Sequence[str | None], backend: str, precision: str, name: str, notices: Sequence[str]
) -> str:
    """The name of a compiled model's folder: a digest of model, back end, its version and the processor.

    A copy of a model under another name is compiled on its own, because the record holds the name and the notices.
    """
    made_by = [backend, precision, library_version(backend), processor.kind()]
    parts = [FORMAT, *fingerprints, *made_by, name, list(notices)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def read_entry(source: Path, options: str) -> dict[str, Any]:
    """What earlier processes recorded about a model, by names of their choice; {} if it changed since.

    Args:
        source: the model's file or folder.
        options: what else the model depends on, such as a stated activation.
    """
    path = _entry_path(source, options)
    try:
        if path is None or path.stat().st_size > _MAX_ENTRY_BYTES:
            return {}
        entry = json.loads(path.read_bytes())
        return dict(entry["values"]) if entry["stamp"] == _stamp(source) else {}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def add_to_entry(source: Path, options: str, values: Mapping[str, Any]) -> None:
    """Record values about a model, beside those that are there; a full disk or a read-only one records nothing."""
    path = _entry_path(source, options)
    if path is None:
        return
    entry = {"source": str(source), "stamp": _stamp(source), "values": read_entry(source, options) | dict(values)}
    try:
        write_whole(path, (json.dumps(entry, indent=1) + "\n").encode())
    except OSError:
        return


def find_compiled(source: Path, options: str, backend: str, precision: str) -> Path | None:
    """The folder of a model compiled earlier, on this machine and with this version; None if there is none."""
    key = read_entry(source, options).get(f"{backend} {precision} {library_version(backend)} {processor.kind()}")
    folders = compiled_folder()
    if not isinstance(key, str) or folders is None or not (folders / key / RECORD).is_file():
        return None
    return folders / key


def remember_compiled(source: Path, options: str, backend: str, precision: str, folder: Path) -> None:
    """Record where a model was compiled to, for find_compiled."""
    name = f"{backend} {precision} {library_version(backend)} {processor.kind()}"
    add_to_entry(source, options, {name: folder.name})


def _entry_path(source: Path, options: str) -> Path | None:
    folders = compiled_folder()
    if folders is None:
        return None
    name = hashlib.sha256(f"{os.path.realpath(source)}\n{options}".encode("utf-8", "surrogateescape")).hexdigest()
    return folders / "sources" / f"{name[:32]}.json"


def _stamp(source: Path) -> list[list[Any]]:
    """Name, size and modification time of every file that the model is read from.

    A weight file also depends on the configuration and the tokenizer beside it, and an index on its shards.
    """
    source = Path(os.path.realpath(source))
    if source.is_dir():
        names = [entry.name for entry in os.scandir(source) if entry.is_file()]
        return _stats(source, names)
    kinds = _SETTINGS + (_WEIGHTS if source.name.endswith(".index.json") else ())
    names = [entry.name for entry in os.scandir(source.parent) if entry.name.endswith(kinds) and entry.is_file()]
    return _stats(source.parent, {source.name, *names})


def _stats(folder: Path, names: Iterable[str]) -> list[list[Any]]:
    stats = [(name, (folder / name).stat()) for name in sorted(names)]
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]
