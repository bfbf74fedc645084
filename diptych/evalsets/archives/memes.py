"""Hateful Memes: images listed in JSON lines; the development set is the paper's test set."""

import json
from pathlib import Path

from diptych.data.source import Source
from diptych.errors import DataError
from diptych.evalsets.archive_registry import register
from diptych.evalsets.archives.reading import below, choose_split, field, find_file, find_folder, inside, lines
from diptych.evalsets.set_sources import Entry, ListedSource


def _read(folder: Path, split: str) -> Source:
    part = choose_split("Hateful Memes", split, {"train": "train", "test": "dev"})
    # Later releases name the 500 memes of the first release "seen".
    path = find_file(folder, f"{part}.jsonl", f"{part}_seen.jsonl")
    find_folder(folder, "img")
    entries = []
    for where, line in lines(path):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise DataError(f"{where} is not JSON: {line[:80]!r}") from None
        label = field(row, "label", int, where)
        if label not in (0, 1):
            raise DataError(f"{where}: the label is {label}; it should be 0 or 1")
        entries.append(Entry(inside(field(row, "img", str, where), where), label))
    if not entries:
        raise DataError(f"{path} is empty")
    return ListedSource(folder, tuple(entries))


register({"HatefulMemes": below(_read, ["*.jsonl"], ["hateful_memes", "data"])})
