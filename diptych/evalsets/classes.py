"""Matches the classes of a set to the classes of a card by name, never by position.

Hub copies, class folders and parquet files have their own class lists: in another order, with synonyms or WordNet ids,
or with a class missing. A name matches a class of the card if the prompts table, the set's archive or WordNet gives the
class that name. Case, spaces, punctuation and articles are ignored.
"""

import functools
import re
from collections.abc import Mapping, Sequence

from diptych.evalsets.cards import CARDS, has_shifts
from diptych.evalsets.imagenet_classes import shift_classes, synonyms, wordnet_ids
from diptych.evalsets.prompts import get_prompts, plain_name

_ARTICLE = re.compile(r"^\W*(a|an|the)[\W_]+", re.IGNORECASE)
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
# Each row of the prompts table has the name of a card; cards with the same classes share a row.


def match_classes(row: str, names: Sequence[str]) -> tuple[int | None, ...]:
    """For each class of a set, its class index in a row of the prompts table; None if it matches no class.

    An ambiguous name (crane, missile) gets the class that no other name of the set takes. If several classes remain and
    all other names follow the card's order, it gets the class between those of its neighbors.

    Args:
        row: the card's `prompts`.
        names: the set's class names, by its own indices.
    Returns:
        One entry per name. No class occurs twice: if two names match one class, both are None.
    """
    if (numbered := _by_number(row, names)) is not None:
        return numbered
    candidates = [set(meant(row, name)) for name in names]
    matched = _settle(candidates)
    known = [label for label in matched if label is not None]
    if 2 * len(known) > len(names) and known == sorted(known):
        _fill_gaps(matched, candidates)
    return tuple(matched)


def match_alike(
    row: str, names: Sequence[str], matched: Sequence[int | None]
) -> tuple[tuple[int | None, ...], tuple[tuple[int, int], ...]]:
    """Also match classes that share one name in the card (ImageNet's two missiles), in the order of the set.

    The names cannot tell these classes apart. Prompts are not affected; code that depends on the identity of a class
    checks the second return value.

    Args:
        row, names: as for `match_classes`.
        matched: the result of `match_classes`.
    Returns:
        The classes, and those that may be swapped: (class, its position in the set) each.
    """
    completed, ambiguous = list(matched), []
    card_names = get_prompts(row).class_names
    groups: dict[frozenset[int], list[int]] = {}
    for position, name in enumerate(names):
        if matched[position] is None:
            free = meant(row, name).difference(label for label in matched if label is not None)
            groups.setdefault(free, []).append(position)
    for labels, positions in groups.items():
        if len(labels) == len(positions) and len({card_names[label] for label in labels}) == 1:
            pairs = list(zip(sorted(labels), positions, strict=True))
            ambiguous += pairs
            for label, position in pairs:
                completed[position] = label
    return tuple(completed), tuple(sorted(ambiguous))


def labels_are_the_cards(row: str) -> bool:
    """Whether labels without names must follow the card's order.

    This holds if the authors number the classes in that order, or if the order is alphabetical: copies without a class
    list use the alphabetical order.
    """
    names = [synonyms_of_class[0] for synonyms_of_class in get_prompts(row).class_names]
    if CARDS[row].is_numbered:
        return True
    written = [name.lower().replace(" ", "_") for name in names]
    return written == sorted(written) and not any(name.isdigit() for name in names)


def _by_number(row: str, names: Sequence[str]) -> tuple[int | None, ...] | None:
    """Classes for a list of numbers ("00000", "1", ...), if the set's authors number the classes; else None."""
    if not CARDS[row].is_numbered or not all(name.isascii() and name.isdigit() and len(name) < 8 for name in names):
        return None
    count, numbers = len(get_prompts(row).class_names), [int(name) for name in names]
    if len(set(numbers)) < len(numbers):
        return (None,) * len(numbers)
    return tuple(number if number < count else None for number in numbers)


def meant(row: str, name: str) -> frozenset[int]:
    """The classes that a name may mean."""
    known = _known(row)
    for variant in (name, _ARTICLE.sub("", name)):
        if labels := known.get(plain_name(variant)):
            return labels
    parts = [known.get(plain, frozenset()) for part in name.split(",") if (plain := plain_name(part))]
    if len(parts) < 2 or not all(parts):
        return frozenset()
    return frozenset.intersection(*parts)


def _settle(candidates: Sequence[set[int]]) -> list[int | None]:
    """Assign a class to each name with a single candidate, then remove assigned classes from the other candidates."""
    assigned: list[int | None] = [None] * len(candidates)
    remaining = [set(labels) for labels in candidates]
    while True:
        single = [(position, min(labels)) for position, labels in enumerate(remaining) if len(labels) == 1]
        if not single:
            break
        single_labels = [label for _, label in single]
        for position, label in single:
            assigned[position] = label if single_labels.count(label) == 1 and label not in assigned else None
            remaining[position] = set()
        taken = set(single_labels)
        remaining = [labels - taken for labels in remaining]
    return assigned


def _fill_gaps(assigned: list[int | None], candidates: Sequence[set[int]]) -> None:
    """Fill each run of unassigned names, if exactly as many of its candidates lie between the classes around it."""
    start = 0
    while start < len(assigned):
        end = start
        while end < len(assigned) and assigned[end] is None:
            end += 1
        first = -1 if start == 0 else assigned[start - 1]
        last = max(map(max, filter(None, candidates)), default=0) + 1 if end == len(assigned) else assigned[end]
        if end > start and first is not None and last is not None:
            between = sorted(label for label in set().union(*candidates[start:end]) if first < label < last)
            if len(between) == end - start and all(label in candidates[start + n] for n, label in enumerate(between)):
                assigned[start:end] = between
        start = end + 1


@functools.cache
def _known(row: str) -> Mapping[str, frozenset[int]]:
    """For a row of the prompts table: every known name of its classes, in plain form -> the classes it may mean."""
    class_names = get_prompts(row).class_names
    known_names = [list(names) for names in class_names]
    first = {plain_name(names[0]): label for label, names in enumerate(class_names)}
    for archive_name, name in CARDS[row].archive_names.items():
        known_names[first[plain_name(name)]].append(archive_name)
    for label, code in enumerate(CARDS[row].class_codes):
        known_names[label].append(code)
    for names in known_names:
        if names[0].isdigit() and int(names[0]) < len(_NUMBERS):
            names.append(_NUMBERS[int(names[0])])
    for label, index in enumerate(_imagenet_indices(row)):
        synset, wordnet_id = synonyms()[index], wordnet_ids()[index]
        known_names[label] += [wordnet_id, synset, f"{wordnet_id} {synset}", *synset.split(",")]
    labels_by_name: dict[str, set[int]] = {}
    for label, names in enumerate(known_names):
        for name in names:
            labels_by_name.setdefault(plain_name(name), set()).add(label)
    return {name: frozenset(labels) for name, labels in labels_by_name.items()}


def _imagenet_indices(row: str) -> Sequence[int]:
    """The ImageNet class index of each class of a row; empty if the classes are not ImageNet's."""
    card = CARDS[row]
    if has_shifts(card):
        return range(card.num_classes)
    return [index for (index,) in shift_classes(row)] if card.is_subset and not card.has_own_names else ()
