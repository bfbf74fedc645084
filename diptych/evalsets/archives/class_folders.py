"""Sets with a folder of images per class: Country211, Rendered SST2, SUN and aYahoo."""

from pathlib import Path

from diptych.data.image_files import PassedOver, walk_images
from diptych.data.source import Source
from diptych.errors import DataError
from diptych.evalsets.archive_class_names import COUNTRY_CODES
from diptych.evalsets.archive_registry import Layout, register
from diptych.evalsets.archives.reading import ClassIndex, below, choose_split, class_folders, field, inside, lines
from diptych.evalsets.prompts import Prompts, plain_name
from diptych.evalsets.set_sources import Entry, ListedSource

_SPLITS = {"train": "train", "val": "valid", "test": "test"}

_YAHOO = "bag building carriage centaur donkey goat jetski monkey mug statue wolf zebra"
_YAHOO_FOLDER = "ayahoo_test_images"
_SUN_CLASSES = 723


def _country(folder: Path, split: str) -> Source:
    codes = {code: index for index, code in enumerate(COUNTRY_CODES)}
    return class_folders(folder / choose_split("Country211", split, _SPLITS), codes.get, len(codes))


def _review(folder: Path, split: str) -> Source:
    index = ClassIndex("RenderedSST2")
    return class_folders(folder / choose_split("Rendered SST2", split, _SPLITS), index.get, 2)


def _sun(folder: Path, split: str) -> Source:
    """The 723-class set of Visual N-Grams. The list of these classes is not published, so the folders define them."""
    choose_split("SUN", split, {"test": "all"})
    passed_over = PassedOver(images_only=True)
    files = sorted(walk_images(folder, passed_over))
    passed_over.log(folder)
    names = {path: _sun_name(path) for path in {file.rpartition("/")[0] for file in files}}
    labels = {name: index for index, name in enumerate(sorted(set(names.values())))}
    if not len(labels) == len(names) == _SUN_CLASSES:
        raise DataError(f"{folder} has {len(names)} folders with images, the paper's SUN has {_SUN_CLASSES} classes")
    return ListedSource(folder, tuple(Entry(file, labels[names[file.rpartition("/")[0]]]) for file in files))


def _sun_words(folder: Path) -> Prompts:
    names = sorted({_sun_name(file.rpartition("/")[0]) for file in walk_images(folder)})
    return Prompts(tuple((name,) for name in names), ("a photo of a {c}.", "a photo of the {c}."), "a photo of a {c}.")


def _sun_name(folder: str) -> str:
    """The class name of a folder: a/apse/indoor is "apse indoor"."""
    parts = folder.split("/")
    return " ".join(parts[1:] if len(parts[0]) == 1 else parts).replace("_", " ")


def _yahoo(folder: Path, split: str) -> Source:
    """aYahoo: a list gives each image's class; without it the file names give it ("bag_227.jpg")."""
    choose_split("aYahoo", split, {"test": "all"})
    prefix = "" if any(folder.glob("bag_*")) else f"{_YAHOO_FOLDER}/"
    listed = folder / "attribute_data" / "ayahoo_test.txt"
    classes: dict[str, str] = {}
    if listed.exists():
        for where, line in lines(listed):
            image, name = [*line.split(), ""][:2]
            if classes.setdefault(inside(image, where), name) != name:
                raise DataError(f"{where} gives {image} two classes, {classes[image]} and {name}")
    else:
        classes = {name: name.rpartition("_")[0] for name in walk_images(folder / prefix)}
    index = {name: label for label, name in enumerate(_YAHOO.split())}
    entries = []
    for image, name in sorted(classes.items()):
        label = field(index, plain_name(name), int, f"aYahoo's {image}, of class {name!r:.40}")
        entries.append(Entry(f"{prefix}{image}", label))
    if not entries:
        raise DataError(f"{folder / prefix} has no images")
    return ListedSource(folder, tuple(entries))


register(
    {
        "Country211": below(_country, ["*/[A-Z][A-Z]"], ["country211"]),
        "RenderedSST2": below(_review, ["*/negative", "*/positive"], ["rendered-sst2"]),
        "SUN": below(_sun, ["[a-z]/*/*"], ["images", "SUN*"], _sun_words),
        "aYahoo": (Layout(_yahoo, (_YAHOO_FOLDER,)), Layout(_yahoo, ("bag_*",))),
    }
)
