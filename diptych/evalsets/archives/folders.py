"""Archives with a folder per class that are split by a seeded rule: Caltech101, EuroSAT, RESISC45.

The paper does not say how it sampled its images, so these are different images; the numbers per class are the paper's.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from diptych.data.image_files import PassedOver, walk_images
from diptych.data.source import Source
from diptych.errors import DataError
from diptych.evalsets.archive_class_names import CALTECH101_NAMES, EUROSAT_NAMES
from diptych.evalsets.archive_registry import register
from diptych.evalsets.archives.reading import ClassIndex, check_split, either, folders_of, inner, shuffled
from diptych.evalsets.set_sources import Entry, ListedSource

logger = logging.getLogger(__name__)

_STRAY = "tmp"


def read_caltech101(folder: Path, split: str) -> Source:
    """101_ObjectCategories with its 102 folders: 30 images of each class for training, the others for test.

    BACKGROUND_Google is one of the paper's classes. Its 468th image, named "tmp" without a suffix, is included: the
    paper's 6,085 test images require it.

    Raises:
        DataError: a class has at most 30 images, so none is left for test.
    """
    check_split("Caltech-101", split, "train", "test")
    base = inner(folder, "101_ObjectCategories", "caltech-101/101_ObjectCategories", "caltech101/101_ObjectCategories")

    def divide(name: str, num_images: int) -> tuple[int, int]:
        if num_images <= 30:
            raise DataError(f"{base / name} has {num_images} images; 30 are for training, and test needs at least one")
        return 30, num_images - 30

    return _divided(base, split, ClassIndex("Caltech101", CALTECH101_NAMES), divide)


def read_eurosat(folder: Path, split: str) -> Source:
    """2750 (the RGB archive): 1,000 images of each class for training, 500 others for test."""
    check_split("EuroSAT", split, "train", "test")
    base = inner(folder, "2750", "EuroSAT/2750", "EuroSAT_RGB")
    return _divided(base, split, ClassIndex("EuroSAT", EUROSAT_NAMES), _shares("EuroSAT", 1000, 500), 1500)


def read_resisc45(folder: Path, split: str) -> Source:
    """NWPU-RESISC45: 70 images of each class for training, 560 others for test; 70 of each stay unused."""
    check_split("RESISC45", split, "train", "test")
    base = inner(folder, "NWPU-RESISC45")
    return _divided(base, split, ClassIndex("RESISC45"), _shares("RESISC45", 70, 560), 630)


def _shares(title: str, train: int, test: int) -> Callable[[str, int], tuple[int, int]]:
    """A rule that gives the sizes of a class: `train` and `test`, or all images of a smaller class in that ratio."""

    def divide(name: str, num_images: int) -> tuple[int, int]:
        if num_images >= train + test:
            return train, test
        if num_images < 2:
            raise DataError(f"{title}: the class {name} has {num_images or 'no'} image; it needs {train + test}")
        num_train = min(max(1, num_images * train // (train + test)), num_images - 1)
        return num_train, num_images - num_train

    return divide


def _divided(
    base: Path,
    split: str,
    classes: ClassIndex,
    divide: Callable[[str, int], tuple[int, int]],
    complete: int = 0,
) -> Source:
    """The images of a split. In the seeded order of a class, the first images are for training, the next for test."""
    names = folders_of(base)
    labels = classes.order(names, str(base))
    entries, short, passed_over = [], [], PassedOver(images_only=True)
    for name, label in zip(names, labels, strict=True):
        stray = [_STRAY] if name == "BACKGROUND_Google" and _is_jpeg(base / name / _STRAY) else []
        files = shuffled(f"{name}/{image}" for image in [*walk_images(base / name, passed_over), *stray])
        train, test = divide(name, len(files))
        chosen = files[:train] if split == "train" else files[train : train + test]
        entries += [Entry(file, label) for file in sorted(chosen)]
        short += [name] if len(files) < complete else []
    passed_over.log(base)
    if short:
        logger.warning(
            "%s is incomplete: %d classes have fewer than the %d images that the rule needs, the first is %s",
            base,
            len(short),
            complete,
            short[0],
        )
    return ListedSource(base, entries)


def _is_jpeg(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(2) == b"\xff\xd8"
    except OSError:
        return False


register(
    {
        "Caltech101": either(
            read_caltech101,
            "101_ObjectCategories",
            "caltech-101/101_ObjectCategories",
            "caltech101/101_ObjectCategories",
            "BACKGROUND_Google",
        ),
        "EuroSAT": either(read_eurosat, "2750", "EuroSAT/2750", "EuroSAT_RGB", "AnnualCrop"),
        "RESISC45": either(read_resisc45, "NWPU-RESISC45", "circular_farmland"),
    }
)
