"""Detects codes that stand in for class names, and replaces WordNet ids by names."""

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
"""Lists of WordNet ids in a set's folder: "n01440764<tab>tench, Tinca tinca"; Kaggle's list has a space, no tab."""
_MAX_LIST_BYTES = 16 << 20


def are_codes(names: Sequence[str]) -> bool:
    """Whether at least half of the names look like numbers or ids, which mean nothing to a text encoder."""
    return 2 * sum(_CODE.fullmatch(name.strip()) is not None for name in names) >= len(names)


def spoken_names(names: Sequence[str], folder: Path) -> list[str]:
    """Class names for use in prompts: underscores become spaces, and WordNet ids become names.

    Args:
        names: as in the set's folders or files.
        folder: the set's folder, which may hold a list of ids and names. ImageNet's 1,000 ids need no list.
    """
    ids = {name for name in names if _WORDNET_ID.fullmatch(name)}
    class_names, index = get_prompts("ImageNet").class_names, wordnet_index()
    known = {wordnet_id: class_names[index[wordnet_id]][0] for wordnet_id in ids & index.keys()}
    if ids - known.keys():
        known = _listed_names(folder) | known
    return [known.get(name, utf8(name).replace("_", " ")) for name in names]


def _listed_names(folder: Path) -> dict[str, str]:
    """The first name of each WordNet id in the list in the set's folder; empty if there is no list."""
    path = next((folder / name for name in _LISTS if (folder / name).is_file()), None)
    if path is None:
        return {}
    rows = (line.split(maxsplit=1) for line in decode_text(read_file(path, _MAX_LIST_BYTES), str(path)).splitlines())
    names = {row[0]: row[1].split(",")[0].strip() for row in rows if len(row) == 2 and _WORDNET_ID.fullmatch(row[0])}
    if not names:
        raise DataError(f'{path} should hold a WordNet id and its names in each line: "n01440764 tench, Tinca tinca"')
    return names
