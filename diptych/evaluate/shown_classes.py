"""Which of its classes a set shows: a number over some of them is not the number over all of them.

A copy may lack a class, and a class may have lost its images. Every Result of such a set says so, by
`run["settings"]["classes"]`: {"tested": [9, 10]} where test images show 9 of 10 classes, {"learned": [9, 10]} where
training images do, {"unlearned": 1} where a class is tested that no training image shows. On sets of the paper less
than LEAST of the classes, and anywhere an unlearned class, are an error, unless `Setting.partial` asks for the number.

A split that has all images of its authors' is whole, whatever it shows: no test image of SVHN has the number 1999.
"""

import logging
from collections.abc import Mapping, Set
from typing import Any

from diptych.errors import DataError
from diptych.evalsets.benchmark import Benchmark
from diptych.evalsets.card import Card
from diptych.evalsets.cards import is_paper_set
from diptych.evalsets.opening import open_card
from diptych.evaluate.encoded import Encoded
from diptych.evaluate.tasks.task import Setting
from diptych.records import Result

LEAST = 0.9
"""Share of a set's classes that must be shown, as of the paper's test images for a say in which scores are bold."""

_log = logging.getLogger(__name__)

_NEVERTHELESS = (
    "complete the set, or rename its folder to measure it as a set of your own; --partial (Setting(partial=True)) "
    "measures it nevertheless and says so beside each number"
)


def open_tested(card: Card, setting: Setting, split: str = "test", fold: int | None = None) -> Benchmark:
    """`open_card` for a split that is measured on; a class list that is too short is refused before any image is read.

    Raises:
        DataError: see the module; or as `open_card`.
    """
    found = open_card(card, setting.data, split, fold=fold)
    of = _num_classes(found)
    if found.absent:
        _refuse_few(found, "tested", of - len(found.absent), of, setting.partial)
    return found


def classes_shown(encoded: Encoded) -> frozenset[int]:
    """The classes of the images; of those that name several classes each, all of them."""
    several = [known["labels"] for known in encoded.metadata if "labels" in known]
    if len(several) == len(encoded.labels):
        return frozenset(label for labels in several for label in labels)
    return frozenset(encoded.labels.tolist()).union(*several)


def note_tested(
    benchmark: Benchmark, encoded: Encoded, setting: Setting, num_images: int | None = None
) -> dict[str, Any]:
    """What a Result's settings say of classes without test images: nothing where all have some.

    Args:
        num_images: of the split, where it is not the number of those that were encoded (frames of clips).
    Raises:
        DataError: too few have any; see the module.
    """
    num_images = len(encoded.keys) + encoded.num_broken if num_images is None else num_images
    return note(benchmark, "tested", classes_shown(encoded), num_images, setting.partial)


def note(benchmark: Benchmark, what: str, shown: Set[int], num_images: int, partial: bool) -> dict[str, Any]:
    """The same of classes that are known to be shown.

    Args:
        what: "tested" or "learned".
        shown: the classes.
        num_images: of the split, broken ones included.
        partial: whether few classes will do.
    """
    of = _num_classes(benchmark)
    if len(shown) >= of or is_whole(benchmark, num_images):
        return {}
    _refuse_few(benchmark, what, len(shown), of, partial)
    return {"classes": {what: [len(shown), of]}}


def note_unlearned(benchmark: Benchmark, unlearned: frozenset[int], whole: bool, setting: Setting) -> dict[str, Any]:
    """What a Result's settings say of classes that test images show and no training image does.

    Args:
        benchmark: the test split.
        unlearned: those classes.
        whole: the training split has all of its authors' images, so that the set itself is so.
    Raises:
        DataError: there are some.
    """
    if not unlearned or whole:
        return {}
    names = ", ".join(benchmark.class_names[label] for label in sorted(unlearned))[:200]
    count = len(unlearned)
    if not setting.partial:
        raise DataError(
            f"{benchmark.name}/{benchmark.split} shows {count} of its {len(benchmark.class_names)} classes that no "
            f"training image shows, so that they cannot be learned: {names}; {_NEVERTHELESS}"
        )
    return {"classes": {"unlearned": count}}


def joined(*notes: Mapping[str, Any]) -> dict[str, Any]:
    """Several of these notes as one."""
    classes = {name: value for note in notes for name, value in note.get("classes", {}).items()}
    return {"classes": classes} if classes else {}


def is_whole(benchmark: Benchmark, num_images: int) -> bool:
    """Whether a split is drawn, or has as many images as its authors' and all classes in its list."""
    if benchmark.whole and not (benchmark.card and is_paper_set(benchmark.card.name)):
        return True  # a copy of a paper's set cannot say so of itself
    wanted = benchmark.card.splits.get(benchmark.split, 0) if benchmark.card else 0
    return 0 < wanted <= num_images and not benchmark.absent


def classes_in_words(result: Result) -> str:
    """ "9 of 10 classes" of a Result over some of its set's classes; "" of all others."""
    pairs, unlearned = _noted(result)
    counts = {name: f"{shown:,} of {of:,}" for name, (shown, of) in pairs.items()}
    if len(set(counts.values())) == 1:
        words = [f"{next(iter(counts.values()))} classes{'' if 'tested' in counts else ' learned'}"]
    else:
        words = [f"{count} classes {name}" for name, count in counts.items()]
    return ", ".join([*words, *([f"{unlearned:,} tested but not learned"] if unlearned else [])])


def had_to_be_asked_for(result: Result) -> bool:
    """Whether a Result of a paper's set is one that `Setting.partial` alone gives."""
    pairs, unlearned = _noted(result)
    return is_paper_set(result.dataset) and (unlearned > 0 or any(shown < LEAST * of for shown, of in pairs.values()))


def _noted(result: Result) -> tuple[dict[str, tuple[int, int]], int]:
    """What a Result says of classes; what is none of it, in a file from elsewhere, says nothing."""
    settings = result.run.get("settings")
    classes = settings.get("classes") if isinstance(settings, Mapping) else None
    if not isinstance(classes, Mapping):
        return {}, 0
    pairs = {}
    for name in ("tested", "learned"):
        match classes.get(name):
            case [int(shown), int(of)]:
                pairs[name] = (shown, of)
    unlearned = classes.get("unlearned")
    return pairs, unlearned if isinstance(unlearned, int) else 0


def _num_classes(benchmark: Benchmark) -> int:
    return (benchmark.card.num_classes if benchmark.card else 0) or len(benchmark.class_names)


def _refuse_few(benchmark: Benchmark, what: str, count: int, of: int, partial: bool) -> None:
    images = "training" if what == "learned" else benchmark.split
    said = f"{benchmark.name}: its {images} images show {count:,} of {of:,} classes"
    of_paper = benchmark.card is not None and is_paper_set(benchmark.card.name)
    if not of_paper or count >= LEAST * of or partial:
        _log.warning("%s; each number says so", said)
        return
    raise DataError(
        f"{said}. A number over less than {LEAST:.0%} of the classes cannot stand beside the paper's: {_NEVERTHELESS}"
    )
