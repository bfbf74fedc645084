"""Which class of a card each class of a set is: by what the classes are called, never by the places they stand in.

Hub copies, class folders and parquet files bring class lists of their own: in another order, with a synonym here, a
WordNet id there, or a class fewer. A name counts for a class of the card where the prompts table, the set's own archive
or WordNet call that class so, whatever the case, the spaces, the punctuation and the article.
"""

import functools
import re
from collections.abc import Mapping, Sequence

from diptych.evalsets.cards import CARDS, has_shifts
from diptych.evalsets.imagenet_classes import shift_classes, synonyms, wordnet_ids
from diptych.evalsets.prompts import get_prompts, plain_name

_ARTICLE = re.compile(r"^\W*(a|an|the)[\W_]+", re.IGNORECASE)
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
# A row of the prompts table is that of the card of its name; cards of the same classes share it.


def match_classes(row: str, names: Sequence[str]) -> tuple[int | None, ...]:
    """The class in a row of the prompts table of each class of a set; None for one that is none of them.

    A name that may mean several classes (crane, missile) means the one that no other name of the set means. Where more
    than one is left, it means the one between its neighbours, if all others stand in the order of the card.

    Args:
        row: the card's `prompts`.
        names: of the set's classes, by its own indices.
    Returns:
        no class twice: of two names for one class both are None.
    """
    if (numbered := _by_number(row, names)) is not None:
        return numbered
    may = [set(meant(row, name)) for name in names]
    found = _settle(may)
    known = [one for one in found if one is not None]
    if 2 * len(known) > len(names) and known == sorted(known):
        _fill_gaps(found, may)
    return tuple(found)


def match_alike(
    row: str, names: Sequence[str], found: Sequence[int | None]
) -> tuple[tuple[int | None, ...], tuple[tuple[int, int], ...]]:
    """The same with classes that the card itself calls by one name (ImageNet's two missiles), in the order of the set.

    Which of them is which, the names do not say. Texts do not care; what needs to know finds them in the second part.

    Args:
        row, names: as above.
        found: what `match_classes` found.
    Returns:
        the classes, and those that might be exchanged: (class, its place in the set) each.
    """
    matched, unsure = list(found), []
    called = get_prompts(row).class_names
    groups: dict[frozenset[int], list[int]] = {}
    for place, name in enumerate(names):
        if found[place] is None:
            groups.setdefault(meant(row, name).difference(one for one in found if one is not None), []).append(place)
    for classes, places in groups.items():
        if len(classes) == len(places) and len({called[one] for one in classes}) == 1:
            pairs = list(zip(sorted(classes), places, strict=True))
            unsure += pairs
            for label, place in pairs:
                matched[place] = label
    return tuple(matched), tuple(sorted(unsure))


def labels_are_the_cards(row: str) -> bool:
    """Whether labels without names can only mean the card's own order.

    Its authors number the classes so, or the order is that of the alphabet, which copies without a list use.
    """
    names = [several[0] for several in get_prompts(row).class_names]
    if CARDS[row].is_numbered:
        return True
    written = [name.lower().replace(" ", "_") for name in names]
    return written == sorted(written) and not any(name.isdigit() for name in names)


def _by_number(row: str, names: Sequence[str]) -> tuple[int | None, ...] | None:
    """Classes of a list of numbers ("00000", "1", ...), where the set's authors number the classes."""
    if not CARDS[row].is_numbered or not all(name.isascii() and name.isdigit() and len(name) < 8 for name in names):
        return None
    count, numbers = len(get_prompts(row).class_names), [int(name) for name in names]
    if len(set(numbers)) < len(numbers):
        return (None,) * len(numbers)
    return tuple(number if number < count else None for number in numbers)


def meant(row: str, name: str) -> frozenset[int]:
    """The classes that a name may mean."""
    known = _known(row)
    for one in (name, _ARTICLE.sub("", name)):
        if found := known.get(plain_name(one)):
            return found
    parts = [known.get(plain, frozenset()) for part in name.split(",") if (plain := plain_name(part))]
    if len(parts) < 2 or not all(parts):
        return frozenset()
    return frozenset.intersection(*parts)


def _settle(may: Sequence[set[int]]) -> list[int | None]:
    """One class for each name that can mean only one, taking away from each what others mean alone."""
    found: list[int | None] = [None] * len(may)
    left = [set(some) for some in may]
    while True:
        sole = [(place, min(some)) for place, some in enumerate(left) if len(some) == 1]
        if not sole:
            break
        classes = [one for _, one in sole]
        for place, one in sole:
            found[place] = one if classes.count(one) == 1 and one not in found else None
            left[place] = set()
        taken = set(classes)
        left = [some - taken for some in left]
    return found


def _fill_gaps(found: list[int | None], may: Sequence[set[int]]) -> None:
    """The classes of names in a row that have none yet, where just as many of those that they may mean lie between."""
    place = 0
    while place < len(found):
        end = place
        while end < len(found) and found[end] is None:
            end += 1
        first = -1 if place == 0 else found[place - 1]
        last = max(map(max, filter(None, may)), default=0) + 1 if end == len(found) else found[end]
        if end > place and first is not None and last is not None:
            between = sorted(one for one in set().union(*may[place:end]) if first < one < last)
            if len(between) == end - place and all(one in may[place + n] for n, one in enumerate(between)):
                found[place:end] = between
        place = end + 1


@functools.cache
def _known(row: str) -> Mapping[str, frozenset[int]]:
    """What the classes of a row of the prompts table are called, in plain form, and which of them a name may mean."""
    several = get_prompts(row).class_names
    called = [list(names) for names in several]
    first = {plain_name(names[0]): label for label, names in enumerate(several)}
    for archive, name in CARDS[row].archive_names.items():
        called[first[plain_name(name)]].append(archive)
    for label, code in enumerate(CARDS[row].class_codes):
        called[label].append(code)
    for names in called:
        if names[0].isdigit() and int(names[0]) < len(_NUMBERS):
            names.append(_NUMBERS[int(names[0])])
    for label, index in enumerate(_of_imagenet(row)):
        whole, wordnet_id = synonyms()[index], wordnet_ids()[index]
        called[label] += [wordnet_id, whole, f"{wordnet_id} {whole}", *whole.split(",")]
    found: dict[str, set[int]] = {}
    for label, names in enumerate(called):
        for name in names:
            found.setdefault(plain_name(name), set()).add(label)
    return {name: frozenset(labels) for name, labels in found.items()}


def _of_imagenet(row: str) -> Sequence[int]:
    """Of each class of a row the one of ImageNet's 1,000 that it is; nothing where the classes are others."""
    card = CARDS[row]
    if has_shifts(card):
        return range(card.num_classes)
    return [index for (index,) in shift_classes(row)] if card.is_subset and not card.has_own_names else ()
