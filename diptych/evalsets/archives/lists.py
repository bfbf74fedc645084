"""Archives with lists of images: Food101, Birdsnap, SUN397, FGVCAircraft, VOC2007, DTD, OxfordPets, GTSRB."""

import logging
from pathlib import Path

from diptych.data.source import Source
from diptych.errors import DataError
from diptych.evalsets.archive_registry import register
from diptych.evalsets.archives.reading import (
    ClassIndex,
    check_split,
    corrupt,
    either,
    find_file,
    inner,
    inside,
    lines,
    number,
    table,
)
from diptych.evalsets.prompts import get_prompts
from diptych.evalsets.set_sources import Entry, ListedSource

logger = logging.getLogger(__name__)


def read_food101(folder: Path, split: str) -> Source:
    """food-101: meta/train.txt and meta/test.txt list "apple_pie/1005649", without the .jpg; no validation set."""
    check_split("Food-101", split, "train", "test")
    folder, classes = inner(folder, "food-101"), ClassIndex("Food101")
    entries = []
    for where, line in lines(find_file(folder, f"meta/{split}.txt")):
        name = inside(line, where)
        if name.count("/") != 1:
            raise corrupt(where, line)
        entries.append(Entry(f"images/{name}.jpg", classes.label(name.split("/")[0], where)))
    return ListedSource(folder, entries)


def read_birdsnap(folder: Path, split: str) -> Source:
    """Birdsnap 1.1: species.txt, images.txt and test_images.txt, and the images that could be downloaded.

    The authors publish URLs only. Missing images are skipped, and the log states how many are present. The species are
    numbered in taxonomic order, so they are matched by name.
    """
    check_split("Birdsnap", split, "train", "test")
    folder, classes = inner(folder, "birdsnap"), ClassIndex("Birdsnap")
    species = [row for _, row in table(find_file(folder, "species.txt"), ("id", "dir"), "\t")]
    order = classes.order((row["dir"] for row in species), str(folder / "species.txt"))
    labels = {row["id"]: label for row, label in zip(species, order, strict=True)}
    listed = table(find_file(folder, "test_images.txt"), ("path",), "\t")
    test = {inside(row["path"], where) for where, row in listed}
    base = "images" if (folder / "images").is_dir() else "download/images"
    expected = []
    for where, row in table(find_file(folder, "images.txt"), ("path", "species_id"), "\t"):
        path, species_id = inside(row["path"], where), row["species_id"]
        if species_id not in labels:
            raise corrupt(where, f"{path} of species {species_id}")
        if (path in test) == (split == "test"):
            expected.append(Entry(f"{base}/{path}", labels[species_id]))
    entries = [entry for entry in expected if (folder / entry.file).is_file()]
    if not entries:
        raise DataError(f"{folder / base} has none of the {len(expected)} images that images.txt lists for {split}")
    if len(entries) < len(expected):
        logger.warning("Birdsnap: of %d listed images of %s, %d are there", len(expected), split, len(entries))
    return ListedSource(folder, entries)


def read_sun397(folder: Path, split: str) -> Source:
    """SUN397 with the first of its ten partitions, Training_01.txt and Testing_01.txt: 50 + 50 images per class.

    "/a/apse/indoor" is the class "apse indoor". The paper does not say which of the ten partitions it uses.
    """
    check_split("SUN397", split, "train", "test")
    classes, prefixes = ClassIndex("SUN397"), ("", "Partitions/", "SUN397/", "SUN397/Partitions/")
    listed = find_file(folder, *(f"{prefix}ClassName.txt" for prefix in prefixes))
    classes.order((line[3:] for _, line in lines(listed)), str(listed))
    name = {"train": "Training_01.txt", "test": "Testing_01.txt"}[split]
    base = "SUN397/" if (folder / "SUN397").is_dir() else ""
    entries = []
    for where, line in lines(find_file(folder, *(f"{prefix}{name}" for prefix in prefixes))):
        path = inside(line.lstrip("/"), where)
        if path.count("/") < 2:
            raise corrupt(where, line)
        entries.append(Entry(f"{base}{path}", classes.label(path[2:].rsplit("/", 1)[0], where), key=path))
    return ListedSource(folder, entries)


def read_fgvc_aircraft(folder: Path, split: str) -> Source:
    """fgvc-aircraft-2013b: the 100 variants; images_variant_train.txt (val, test) list "1025794 707-320"."""
    check_split("FGVC Aircraft", split, "train", "val", "test")
    folder = inner(folder, "fgvc-aircraft-2013b/data", "data")
    variants = find_file(folder, "variants.txt")
    classes = ClassIndex("FGVCAircraft")
    classes.order((line for _, line in lines(variants)), str(variants))
    entries = []
    for where, line in lines(find_file(folder, f"images_variant_{split}.txt")):
        image, _, variant = line.partition(" ")
        entries.append(Entry(f"images/{inside(image, where)}.jpg", classes.label(variant, where)))
    return ListedSource(folder, entries)


def read_voc2007(folder: Path, split: str) -> Source:
    """VOCdevkit/VOC2007: files such as ImageSets/Main/cat_test.txt say 1, -1, or 0 for a difficult object.

    Each sample's metadata has "labels", the classes marked 1, and "ignored", the classes marked 0. The sample's label
    is the first of "labels", or 0.
    """
    check_split("Pascal VOC 2007", split, "train", "val", "test")
    folder = inner(folder, "VOCdevkit/VOC2007", "VOC2007")
    marked: dict[str, tuple[list[int], list[int]]] = {}
    for label, (name, *_) in enumerate(get_prompts("VOC2007").class_names):
        path = find_file(folder, f"ImageSets/Main/{name}_{split}.txt")
        listed = list(lines(path))
        for where, line in listed:
            parts = line.split()
            if len(parts) != 2 or (label and parts[0] not in marked):
                raise corrupt(where, line)
            labels, ignored = marked.setdefault(inside(parts[0], where), ([], []))
            if (sign := number(parts[1], where, -1, 1)) >= 0:
                (labels if sign else ignored).append(label)
        if len(listed) != len(marked):
            raise DataError(f"{path} lists {len(listed)} images; the lists of the previous classes have {len(marked)}")
    return ListedSource(
        folder,
        [
            Entry(
                f"JPEGImages/{name}.jpg",
                labels[0] if labels else 0,
                metadata={"labels": tuple(labels), "ignored": tuple(ignored)},
            )
            for name, (labels, ignored) in marked.items()
        ],
    )


def read_dtd(folder: Path, split: str) -> Source:
    """dtd: labels/train1.txt, val1.txt and test1.txt, the first of ten splits, list "banded/banded_0002.jpg"."""
    check_split("DTD", split, "train", "val", "test")
    folder, classes = inner(folder, "dtd"), ClassIndex("DTD")
    entries = []
    for where, line in lines(find_file(folder, f"labels/{split}1.txt")):
        name = inside(line, where)
        entries.append(Entry(f"images/{name}", classes.label(name.split("/")[0], where)))
    return ListedSource(folder, entries)


def read_oxford_pets(folder: Path, split: str) -> Source:
    """oxford-iiit-pet: annotations/trainval.txt (not divided further) and test.txt, with lines "Abyssinian_100 1 1 1".

    The class is the breed: the file's name without its number. The lists number the classes in another order; these
    numbers must be consistent with the breeds.
    """
    check_split("Oxford-IIIT Pets", split, "train", "test")
    folder, classes = inner(folder, "oxford-iiit-pet"), ClassIndex("OxfordPets")
    entries, numbered = [], dict[str, int]()
    for where, line in lines(find_file(folder, f"annotations/{'trainval' if split == 'train' else 'test'}.txt")):
        if line.startswith("#"):
            continue
        parts = line.split()
        if len(parts) != 4 or "_" not in parts[0]:
            raise corrupt(where, line)
        label = classes.label(parts[0].rpartition("_")[0], where)
        if numbered.setdefault(parts[1], label) != label:
            raise DataError(f"{where}: class {parts[1]} was another breed in an earlier line: {line[:80]!r}")
        entries.append(Entry(f"images/{inside(parts[0], where)}.jpg", label))
    return ListedSource(folder, entries)


def read_gtsrb(folder: Path, split: str) -> Source:
    """GTSRB: Training (or Final_Training/Images) with a list per class, Final_Test/Images with GT-final_test.csv.

    The paper's 26,640 training images are those of the first phase, GTSRB-Training_fixed.zip; Final_Training has
    39,209. The classes are numbered from 0, in the order of the prompts table. The margin around each sign is kept.
    """
    check_split("GTSRB", split, "train", "test")
    outside, folder = folder, inner(folder, "GTSRB")
    last = len(get_prompts("GTSRB").class_names) - 1
    base = "Final_Test/Images" if split == "test" else "Training"
    if split == "test":
        names = ("GT-final_test.csv", "Final_Test/GT-final_test.csv", "Final_Test/Images/GT-final_test.csv")
        tables = [(base, find_file(outside, *names, *(f"GTSRB/{name}" for name in names)))]
    else:
        if not (folder / base).is_dir():
            base = "Final_Training/Images"
            logger.warning("GTSRB: the paper trained on GTSRB-Training_fixed.zip; this is the later training set")
        tables = [(f"{base}/{c:05}", find_file(folder, f"{base}/{c:05}/GT-{c:05}.csv")) for c in range(last + 1)]
    entries = []
    for prefix, path in tables:
        for where, row in table(path, ("Filename", "ClassId"), ";"):
            entries.append(Entry(f"{prefix}/{inside(row['Filename'], where)}", number(row["ClassId"], where, 0, last)))
    return ListedSource(folder, entries)


register(
    {
        "Food101": either(read_food101, "meta/train.txt", "meta/test.txt", "food-101/meta"),
        "Birdsnap": either(read_birdsnap, "species.txt", "birdsnap/species.txt"),
        "SUN397": either(
            read_sun397, "ClassName.txt", "Partitions/ClassName.txt", "SUN397/ClassName.txt", "SUN397/Partitions"
        ),
        "FGVCAircraft": either(read_fgvc_aircraft, "variants.txt", "data/variants.txt", "fgvc-aircraft-2013b/data"),
        "VOC2007": either(read_voc2007, "ImageSets/Main", "VOC2007/ImageSets/Main", "VOCdevkit/VOC2007"),
        "DTD": either(read_dtd, "labels/test1.txt", "labels/train1.txt", "dtd/labels"),
        "OxfordPets": either(read_oxford_pets, "annotations/test.txt", "annotations/trainval.txt", "oxford-iiit-pet"),
        "GTSRB": either(read_gtsrb, "Training", "Final_Test", "Final_Training", "GTSRB"),
    }
)
