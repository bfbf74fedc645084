"""Codes in the place of class names: WordNet ids, for which names are known, and others, for which none are."""

import re
from collections.abc import Sequence
from pathlib import Path

from diptych.data.samples import decode_text, read_file
from diptych.errors import DataError
from diptych.evalsets.imagenet_classes import wordnet_index
from diptych.evalsets.prompts import get_prompts
from diptych.files import utf8

_WORDNET_ID = re.compile("n[0-9]{8}")
_CODE = re.compile(
    r"[a-z]?[ _-]?[0-9]+|(class|category|cat|label|id|cls|folder|group|type)[ ._-]*[0-9]+|[0-9]+[ ._-].*|[0-9a-f]{8,}",
    re.IGNORECASE,
)
_LISTS = ("words.txt", "LOC_synset_mapping.txt")
"""Lists that lie beside sets with WordNet ids: "n01440764<tab>tench, Tinca tinca", or with a space (Kaggle's)."""
_MAX_LIST_BYTES = 16 << 20


def are_codes(names: Sequence[str]) -> bool:
    """Whether half of the names or more look like numbers and ids, which no text encoder knows."""
    return 2 * sum(_CODE.fullmatch(name.strip()) is not None for name in names) >= len(names)


def spoken_names(names: Sequence[str], folder: Path) -> list[str]:
    """Class names as a prompt says them: spaces for underscores, and names for WordNet ids.

    Args:
        names: as folders or files have them.
        folder: the set's, where a list of the ids' names may lie; ImageNet's 1,000 are known without.
    """
    ids = {name for name in names if _WORDNET_ID.fullmatch(name)}
    known = {one: get_prompts("ImageNet").class_names[wordnet_index()[one]][0] for one in ids & wordnet_index().keys()}
    if ids - known.keys():
        known = _listed(folder) | known
    return [known.get(name, utf8(name).replace("_", " ")) for name in names]


def _listed(folder: Path) -> dict[str, str]:
    """The first name of each WordNet id in a list beside the set; nothing where there is none."""
    path = next((folder / name for name in _LISTS if (folder / name).is_file()), None)
    if path is None:
        return {}
    rows = (line.split(maxsplit=1) for line in decode_text(read_file(path, _MAX_LIST_BYTES), str(path)).splitlines())
    found = {row[0]: row[1].split(",")[0].strip() for row in rows if len(row) == 2 and _WORDNET_ID.fullmatch(row[0])}
    if not found:
        raise DataError(f'{path} should hold a WordNet id and its names in each line: "n01440764 tench, Tinca tinca"')
    return found
