"""ImageNet, and the natural shifts with a folder per WordNet id or class index."""

import functools
import re
from pathlib import Path

from diptych.data.source import Source
from diptych.errors import DataError
from diptych.evalsets.archive_registry import Layout, register
from diptych.evalsets.archives.reading import (
    below,
    choose_split,
    class_folders,
    find_file,
    folders_of,
    lines,
    load_mat,
    table,
)
from diptych.evalsets.imagenet_classes import shift_classes, wordnet_index
from diptych.evalsets.set_sources import Entry, ListedSource

_GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
_DEVKITS = ("", "data/", "ILSVRC2012_devkit_t12/data/", "devkit/data/")


def _imagenet(images: str, folder: Path, split: str) -> Source:
    """ImageNet: {train,val}/<WordNet id>/*.JPEG, or val/*.JPEG with the labels of the development kit or of Kaggle.

    Args:
        images: the path of the folder with train and val, relative to the set's folder.
        folder: the set's folder.
        split: "train", or "test" for val.
    """
    base = folder / images / choose_split("ImageNet", split, {"train": "train", "test": "val"})
    if any(re.fullmatch("n[0-9]{8}", name) for name in folders_of(base)):
        return class_folders(base, wordnet_index().get, 1000)
    if split == "train":
        raise DataError(f"{base} has no folders like n01440764; unpack the 1,000 archives of ILSVRC2012_img_train.tar")
    labels = _kaggle_labels(folder / "LOC_val_solution.csv") or _devkit_labels(folder)
    prefix = base.relative_to(folder).as_posix()
    return ListedSource(folder, tuple(Entry(f"{prefix}/{name}.JPEG", label) for name, label in sorted(labels.items())))


def _kaggle_labels(path: Path) -> dict[str, int]:
    """Class by image, from LOC_val_solution.csv: "n01440764 1 2 3 4" and more boxes; empty if it is missing."""
    if not path.exists():
        return {}
    labels = {}
    for where, row in table(path, ("ImageId", "PredictionString")):
        labels[_validation_name(row["ImageId"], where)] = _label(row["PredictionString"].split(" ")[0], where)
    return labels


def _validation_name(name: str, where: str) -> str:
    if not re.fullmatch("ILSVRC2012_val_[0-9]{8}", name):
        raise DataError(f"{where}: {name!r:.60} is not a validation image")
    return name


def _devkit_labels(folder: Path) -> dict[str, int]:
    """Class by image. The kit numbers the classes 1 to 1,000 in another order than the WordNet ids."""
    truth = find_file(folder, *(f"{place}{_GROUND_TRUTH}" for place in _DEVKITS))
    ids = _devkit_ids(truth.parent)
    labels = {}
    for image, (where, line) in enumerate(lines(truth), start=1):
        if not line.isdigit() or int(line) not in ids:
            raise DataError(f"{where}: {line[:40]!r} is not a class from 1 to {len(ids)}")
        labels[f"ILSVRC2012_val_{image:08d}"] = ids[int(line)]
    if not labels:
        raise DataError(f"{truth} is empty")
    return labels


def _devkit_ids(folder: Path) -> dict[int, int]:
    """Class index by the development kit's number, from meta.mat, or map_clsloc.txt ("n02119789 1 kit_fox")."""
    path = find_file(folder, "meta.mat", "map_clsloc.txt")
    if path.suffix == ".txt":
        pairs = [[*line.split(), "", ""][:2] for _, line in lines(path)]
    else:
        [rows] = load_mat(path, "synsets")
        try:
            pairs = [[str(row["WNID"]), str(row["ILSVRC2012_ID"])] for row in rows]
        except (TypeError, KeyError, IndexError) as error:
            raise DataError(f"{path} cannot be read as the development kit's table: {error!r:.200}") from None
    ids = {}
    for wordnet_id, number in pairs:
        if not number.isdigit():
            raise DataError(f"{path}: {number!r:.40} is not the number of a class")
        if int(number) <= 1000:  # larger numbers are groups of classes
            ids[int(number)] = _label(wordnet_id, str(path))
    return ids


def _label(wordnet_id: str, where: str) -> int:
    label = wordnet_index().get(wordnet_id)
    if label is None:
        raise DataError(f"{where}: {wordnet_id!r:.40} is not the WordNet id of one of ImageNet's 1,000 classes")
    return label


def _version_2(folder: Path, split: str) -> Source:
    """ImageNetV2: folders 0 to 999. Their names are the class indices and must not be sorted as text."""
    choose_split("ImageNetV2", split, {"test": "all"})
    return class_folders(folder, {str(index): index for index in range(1000)}.get, 1000)


def _shift(name: str, folder: Path, split: str) -> Source:
    """A set with a folder per WordNet id. Labels are the shift's own class indices."""
    choose_split(name, split, {"test": "all"})
    classes = shift_classes(name)
    label_of = {index: label for label, (index,) in enumerate(classes)}
    labels = {wordnet_id: label_of[index] for wordnet_id, index in wordnet_index().items() if index in label_of}
    return class_folders(folder, labels.get, len(classes))


def _layouts(name: str, *inner: str) -> tuple[Layout, ...]:
    return below(functools.partial(_shift, name), ["n[0-9]*/*"], inner)


register(
    {
        "ImageNet": tuple(
            Layout(functools.partial(_imagenet, place), (f"{prefix}{part}",))
            for place, prefix in (("", ""), ("ILSVRC/Data/CLS-LOC", "ILSVRC/Data/CLS-LOC/"))
            for part in ("val", "train/n[0-9]*")
        ),
        "ImageNetV2": below(_version_2, ["[0-9]*/*"], ["[Ii]mage[Nn]et[Vv]2-matched-frequency*"]),
        "ImageNet-Sketch": _layouts("ImageNet-Sketch", "sketch"),
        "ImageNet-A": _layouts("ImageNet-A", "imagenet-a"),
        "ImageNet-R": _layouts("ImageNet-R", "imagenet-r"),
    }
)
