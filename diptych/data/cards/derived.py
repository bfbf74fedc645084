"""The rules by which derived sets are drawn from their sources, the same whatever the order of files.

The paper does not say how it drew its own; here a sample's rank is the SHA-256 of the seed and its name.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from diptych.data.cards.prompts import get_prompts
from diptych.data.samples import MAX_TEXT_BYTES, read_file
from diptych.errors import DataError

_IMAGE_NAMES = (".jpg", ".jpeg", ".png", ".tif")

# Pictures of each class, and below of all.
EUROSAT_SIZES = {"train": 1000, "test": 500}
RESISC45_SIZES = {"train": 70, "test": 560}
CLEVR_SIZES = {"train": 2000, "test": 500}
KITTI_TEST_SIZE = 711
EUROSAT_FOLDERS = {
    "Forest": "forest",
    "PermanentCrop": "permanent crop land",
    "Residential": "residential buildings or homes or apartments",
    "River": "river",
    "Pasture": "pasture land",
    "SeaLake": "lake or sea",
    "HerbaceousVegetation": "brushland or shrubland",
    "AnnualCrop": "annual crop land",
    "Industrial": "industrial buildings or commercial buildings",
    "Highway": "highway or road",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Draft:
    """What is to be written of a set.

    Attributes:
        class_names: by class index.
        splits: of each split the samples as (name in the source, class index), in the order of writing.
        load: from a sample's name to its picture, as encoded bytes or uint8 (height, width, 3).
        remarks: for the manifest: what was left out, and why.
    """

    class_names: tuple[str, ...]
    splits: Mapping[str, Sequence[tuple[str, int]]]
    load: Callable[[str], bytes | np.ndarray]
    remarks: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def rank(name: str, seed: int) -> bytes:
    """A sample's place in the order of drawing."""
    return hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogatepass")).digest()


def draw(names: Iterable[str], sizes: Mapping[str, int], seed: int, what: str) -> dict[str, list[str]]:
    """Split names into parts of given sizes; those that are left are in none.

    Raises:
        DataError: there are too few.
    """
    ranked = sorted(names, key=lambda name: rank(name, seed))
    if len(ranked) < sum(sizes.values()):
        raise DataError(f"{what} has {len(ranked):,} pictures, and {sum(sizes.values()):,} are needed")
    parts, first = {}, 0
    for split, size in sizes.items():
        parts[split] = sorted(ranked[first : first + size])
        first += size
    return parts


def class_folders(
    base: Path, folders: Mapping[str, int], sizes: Mapping[str, int], names: Sequence[str], seed: int
) -> Draft:
    """A subset with as many pictures of each class.

    Args:
        base: holds a folder per class.
        folders: class index by the folder's name.
        sizes: pictures per class of each split.
        names: of the classes.
    Raises:
        DataError: a folder is missing, or has too few pictures.
    """
    splits: dict[str, list[tuple[str, int]]] = {split: [] for split in sizes}
    for folder, label in sorted(folders.items()):
        if not (base / folder).is_dir():
            raise DataError(f"{base} has no folder {folder}; unpack the whole archive there")
        files = (f"{folder}/{path.name}" for path in (base / folder).iterdir() if path.suffix.lower() in _IMAGE_NAMES)
        for split, drawn in draw(files, sizes, seed, str(base / folder)).items():
            splits[split] += [(file, label) for file in drawn]
    return Draft(tuple(names), splits, lambda name: read_file(base / name))


def eurosat(source: Path, seed: int) -> Draft:
    """1,000 + 500 pictures of each of the 10 classes of EuroSAT's RGB archive (the folder 2750, or above it)."""
    names = [names[0] for names in get_prompts("EuroSAT").class_names]
    folders = {folder: names.index(name) for folder, name in EUROSAT_FOLDERS.items()}
    base = _inner(source, "AnnualCrop", "2750", "EuroSAT/2750", "EuroSAT_RGB")
    return class_folders(base, folders, EUROSAT_SIZES, names, seed)


def resisc45(source: Path, seed: int) -> Draft:
    """70 + 560 pictures of each of the 45 classes of NWPU-RESISC45."""
    names = [names[0] for names in get_prompts("RESISC45").class_names]
    folders = {name.replace(" ", "_"): label for label, name in enumerate(names)}
    return class_folders(_inner(source, "circular_farmland", "NWPU-RESISC45"), folders, RESISC45_SIZES, names, seed)


def clevr_counts(source: Path, seed: int) -> Draft:
    """2,000 training and 500 test pictures of CLEVR_v1.0, from its own training and validation scenes.

    Raises:
        DataError: a list of scenes is missing or broken, or a scene has not 3 to 10 objects.
    """
    base = _inner(source, "scenes", "CLEVR_v1.0")
    names = [names[0] for names in get_prompts("CLEVRCounts").class_names]
    splits: dict[str, list[tuple[str, int]]] = {}
    for split, theirs in (("train", "train"), ("test", "val")):
        path = base / "scenes" / f"CLEVR_{theirs}_scenes.json"
        labels: dict[str, int] = {}
        for scene in _scenes(path):
            file, objects = scene.get("image_filename"), scene.get("objects")
            if not isinstance(file, str) or not isinstance(objects, list) or str(len(objects)) not in names:
                raise DataError(f"{path}: the scene of {file!r:.80} has not 3 to 10 objects")
            labels[f"images/{theirs}/{inside(file, path)}"] = names.index(str(len(objects)))
        drawn = draw(labels, {split: CLEVR_SIZES[split]}, seed, str(path))[split]
        splits[split] = [(name, labels[name]) for name in drawn]
    return Draft(tuple(names), splits, lambda name: read_file(base / name))


def kitti(source: Path, seed: int) -> Draft:
    """The labelled pictures of KITTI's object detection set by the distance of the nearest vehicle: 6,770 and 711.

    With the development kit's mapping/ beside training/ the test pictures are those of TensorFlow Datasets, a tenth of
    the drives; without it they are drawn one by one, so that drives have pictures in both.

    Raises:
        DataError: a label file is broken, or there are too few pictures.
    """
    labels_folder = source / "training" / "label_2"
    labels = {path.stem: vehicle_distance(path) for path in sorted(labels_folder.glob("*.txt"))}
    names = [names[0] for names in get_prompts("KITTI").class_names]
    test = _test_drives(source / "mapping", list(labels))
    by = "drives" if test else "pictures"
    test = test or set(draw(labels, {"test": KITTI_TEST_SIZE}, seed, str(labels_folder))["test"])
    splits = {
        split: [(f"training/image_2/{name}.png", label) for name, label in labels.items() if (name in test) == is_test]
        for split, is_test in (("train", False), ("test", True))
    }
    return Draft(tuple(names), splits, lambda name: read_file(source / name), {"divided by": by})


def vehicle_distance(path: Path) -> int:
    """The class of a label file: 0 up to 8 m, 1 up to 20 m, 2 further, 3 without a vehicle.

    The distance is the smallest z of a car, van or truck: field 14 of its line, along the camera's axis, in metres.
    Source: VTAB's closest-vehicle task, whose four bins fit the four prompts; the paper does not state its own.
    """
    nearest = None
    for number, line in enumerate(read_file(path, MAX_TEXT_BYTES).decode("utf-8", "replace").splitlines(), 1):
        kind, *values = line.split() or [""]
        try:
            if kind in ("Car", "Van", "Truck"):
                nearest = min(float(values[12]), np.inf if nearest is None else nearest)
        except (IndexError, ValueError):
            raise DataError(f"{path}, line {number} is no label of KITTI's: {line[:80]!r}") from None
    return 3 if nearest is None else 0 if nearest <= 8 else 1 if nearest <= 20 else 2


def _test_drives(mapping: Path, names: Sequence[str]) -> set[str]:
    """The names of the pictures in the test drives; none without the mapping."""
    files = (mapping / "train_rand.txt", mapping / "train_mapping.txt")
    if not all(path.exists() for path in files):
        return set()
    order, drives = (read_file(path, MAX_TEXT_BYTES).decode("utf-8", "replace") for path in files)
    try:
        lines = [int(number) - 1 for number in order.replace(",", " ").split()]
        of_line = [line.split()[1] for line in drives.splitlines() if line.strip()]
        if min(lines) < 0:
            raise ValueError("a line 0")
        drive_of = {name: of_line[lines[int(name)]] for name in names}
        every = sorted({of_line[line] for line in lines})
    except (ValueError, IndexError) as error:
        raise DataError(f"{mapping} does not belong to the pictures: {error}") from None
    # NumPy keeps the numbers of this old generator as they are, whatever its version.
    test = set(np.random.RandomState(123).choice(every, max(1, len(every) // 10), replace=False).tolist())
    return {name for name in names if drive_of[name] in test}


def _scenes(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file's list "scenes", one by one: the list of CLEVR's 70,000 would fill memory."""
    decoder, buffer, started = json.JSONDecoder(), "", False
    try:
        with path.open(encoding="utf-8") as file:
            while block := file.read(1 << 20):
                buffer += block
                if not started:
                    _, found, rest = buffer.partition('"scenes"')
                    _, opened, rest = rest.partition("[")
                    if not (found and opened):
                        continue
                    buffer, started = rest, True
                while True:
                    buffer = buffer.lstrip(" \t\r\n,")
                    if buffer.startswith("]"):
                        return
                    try:
                        scene, end = decoder.raw_decode(buffer)
                    except ValueError:
                        break  # the rest of it is in the next block
                    yield scene if isinstance(scene, dict) else {}
                    buffer = buffer[end:]
                if len(buffer) > 64 << 20:
                    raise DataError(f"{path} is no list of scenes")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    raise DataError(f"{path} breaks off" if started else f'{path} has no list "scenes"')


def inside(name: str, where: Path) -> str:
    """A file's name from a list; DataError for one that would leave the list's folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
        raise DataError(f"{where} names the file {name!r:.80}, which is outside of its folder")
    return path.as_posix()


def _inner(source: Path, sign: str, *names: str) -> Path:
    """The folder that holds what `sign` names: the source, or one of these folders in it."""
    for folder in (source, *(source / name for name in names)):
        if (folder / sign).exists():
            return folder
    raise DataError(f"{source} has no {sign}, nor have {', '.join(names)} in it; unpack the archive there")
