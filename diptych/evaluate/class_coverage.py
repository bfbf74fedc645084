"""Count the classes that a set's images show: a score over some classes is not comparable with one over all classes.

A copy of a set may lack a class, or all images of a class. Every Result of such a set records this in
`run["settings"]["classes"]`: {"tested": [9, 10]} if the test images show 9 of 10 classes, {"learned": [9, 10]} if the
training images do, {"unlearned": 1} if one tested class has no training image. An error is raised if a set of the paper
shows less than LEAST of its classes, or if any set tests an unlearned class, unless `Setting.partial` is set.

A split with all images of its authors counts as whole, even if it lacks classes: no test image of SVHN shows 1999.
"""

import logging
from collections.abc import Mapping, Set
from typing import Any

from diptych.errors import DataError
from diptych.evalsets.benchmark import Benchmark
from diptych.evalsets.card import Card
from diptych.evalsets.cards import is_paper_set
from diptych.evaluate.encoded_set import Encoded
from diptych.evaluate.tasks.task import Setting
from diptych.records import Result

LEAST = 0.9
"""The smallest share of a set's classes that must be shown; the rule for bold scores uses it for test images, too."""

_log = logging.getLogger(__name__)

_NEVERTHELESS = (
    "complete the set, or rename its folder to measure it as a set of your own; --partial (Setting(partial=True)) "
    "measures it nevertheless and notes it in each Result"
)


def open_tested(card: Card, setting: Setting, split: str = "test", fold: int | None = None) -> Benchmark:
    """Open a split that is measured on; a class list that is too short is refused before any image is read.

    Raises:
        DataError: the class list is too short (see the module), or as for `open_card`.
    """
    benchmark = setting.open(card, split, fold)
    num_classes = _num_classes(benchmark)
    if benchmark.absent:
        _refuse_few(benchmark, "tested", num_classes - len(benchmark.absent), num_classes, setting.partial)
    return benchmark


def classes_shown(encoded: Encoded) -> frozenset[int]:
    """The classes that the images show; an image with several labels counts for each of them."""
    label_lists = [facts["labels"] for facts in encoded.metadata if "labels" in facts]
    if len(label_lists) == len(encoded.labels):
        return frozenset(label for labels in label_lists for label in labels)
    return frozenset(encoded.labels.tolist()).union(*label_lists)


def note_tested(
    benchmark: Benchmark, encoded: Encoded, setting: Setting, num_images: int | None = None
) -> dict[str, Any]:
    """The note for a Result's settings about classes without test images; empty if every class has some.

    Args:
        num_images: number of images in the split, if it differs from the number encoded (frames of clips).
    Raises:
        DataError: too few classes have test images; see the module.
    """
    num_images = len(encoded.keys) + encoded.num_broken if num_images is None else num_images
    return note(benchmark, "tested", classes_shown(encoded), num_images, setting.partial)


def note(benchmark: Benchmark, what: str, shown: Set[int], num_images: int, partial: bool) -> dict[str, Any]:
    """The note for a Result's settings about the classes that a split shows; empty if it shows all.

    Args:
        what: "tested" or "learned".
        shown: the classes that the split shows.
        num_images: number of images in the split, broken ones included.
        partial: whether too few classes are accepted.
    """
    num_classes = _num_classes(benchmark)
    if len(shown) >= num_classes or is_whole(benchmark, num_images):
        return {}
    _refuse_few(benchmark, what, len(shown), num_classes, partial)
    return {"classes": {what: [len(shown), num_classes]}}


def note_unlearned(benchmark: Benchmark, unlearned: frozenset[int], whole: bool, setting: Setting) -> dict[str, Any]:
    """The note for a Result's settings about classes that test images show but no training image does.

    Args:
        benchmark: the test split.
        unlearned: those classes.
        whole: whether the training split has all images of its authors; then the set itself is like that.
    Raises:
        DataError: there are such classes, `whole` is False and `setting.partial` is not set.
    """
    if not unlearned or whole:
        return {}
    names = ", ".join(benchmark.class_names[label] for label in sorted(unlearned))[:200]
    count = len(unlearned)
    if not setting.partial:
        raise DataError(
            f"{benchmark.name}/{benchmark.split} shows {count} of its {len(benchmark.class_names)} classes that no "
            f"training image shows, so they cannot be learned: {names}; {_NEVERTHELESS}"
        )
    return {"classes": {"unlearned": count}}


def joined(*notes: Mapping[str, Any]) -> dict[str, Any]:
    """Merge several such notes into one."""
    classes = {name: value for note in notes for name, value in note.get("classes", {}).items()}
    return {"classes": classes} if classes else {}


def is_whole(benchmark: Benchmark, num_images: int) -> bool:
    """Whether a split is marked as whole, or has as many images as its authors' split and lists all classes."""
    if benchmark.whole and not (benchmark.card and is_paper_set(benchmark.card.name)):
        return True  # the mark does not count for a copy of a paper's set
    expected = benchmark.card.splits.get(benchmark.split, 0) if benchmark.card else 0
    return 0 < expected <= num_images and not benchmark.absent


def classes_in_words(result: Result) -> str:
    """ "9 of 10 classes" for a Result over some of its set's classes; "" for other Results."""
    pairs, unlearned = _noted(result)
    counts = {name: f"{shown:,} of {total:,}" for name, (shown, total) in pairs.items()}
    if len(set(counts.values())) == 1:
        words = [f"{next(iter(counts.values()))} classes{'' if 'tested' in counts else ' learned'}"]
    else:
        words = [f"{count} classes {name}" for name, count in counts.items()]
    return ", ".join([*words, *([f"{unlearned:,} tested but not learned"] if unlearned else [])])


def had_to_be_asked_for(result: Result) -> bool:
    """Whether a Result of a paper's set could only be measured with `Setting.partial`."""
    pairs, unlearned = _noted(result)
    return is_paper_set(result.dataset) and (
        unlearned > 0 or any(shown < LEAST * total for shown, total in pairs.values())
    )


def _noted(result: Result) -> tuple[dict[str, tuple[int, int]], int]:
    """The class counts that a Result's settings record; malformed entries (files from elsewhere) are ignored."""
    settings = result.run.get("settings")
    classes = settings.get("classes") if isinstance(settings, Mapping) else None
    if not isinstance(classes, Mapping):
        return {}, 0
    pairs = {}
    for name in ("tested", "learned"):
        match classes.get(name):
            case [int(shown), int(total)]:
                pairs[name] = (shown, total)
    unlearned = classes.get("unlearned")
    return pairs, unlearned if isinstance(unlearned, int) else 0


def _num_classes(benchmark: Benchmark) -> int:
    return (benchmark.card.num_classes if benchmark.card else 0) or len(benchmark.class_names)


def _refuse_few(benchmark: Benchmark, what: str, count: int, num_classes: int, partial: bool) -> None:
    images = "training" if what == "learned" else benchmark.split
    summary = f"{benchmark.name}: its {images} images show {count:,} of {num_classes:,} classes"
    of_paper = benchmark.card is not None and is_paper_set(benchmark.card.name)
    if not of_paper or count >= LEAST * num_classes or partial:
        _log.warning("%s; this is noted in each Result", summary)
        return
    raise DataError(
        f"{summary}. A score over less than {LEAST:.0%} of the classes is not comparable with the paper's: "
        f"{_NEVERTHELESS}"
    )
