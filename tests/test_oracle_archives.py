"""An encoder that knows every answer has the perfect number on the original archives' miniatures, too.

The truth is not the readers': `miniatures.build` says the class of each file, and of others their folders' names do.
"""

import miniatures
import pytest
from miniatures_other import MINIATURES as OTHERS
from oracle import Oracle, picture, shown_by

from diptych.data.cards.imagenet import shift_classes, wordnet_ids
from diptych.data.cards.prompts import get_prompts
from diptych.data.cards.table import CARDS
from diptych.evaluate.suite import run_suite
from diptych.evaluate.tasks.table import TASKS
from diptych.evaluate.tasks.task import Setting

LISTED = (
    *("Food101", "Birdsnap", "SUN397", "StanfordCars", "FGVCAircraft", "DTD", "OxfordPets", "Flowers102", "GTSRB"),
    *("Caltech101", "EuroSAT", "RESISC45"),
)
COUNTRIES = {"AD": "Andorra", "AE": "United Arab Emirates", "US": "United States", "ZW": "Zimbabwe"}


def by_folder(name):
    """From a picture's path to its class, for sets whose folders or file names say it."""
    names = [several[0] for several in get_prompts(CARDS[name].prompts).class_names]
    if name == "Country211":
        return lambda path: names.index(COUNTRIES[path.parent.name])
    if name == "ImageNetV2":
        return lambda path: int(path.parent.name)
    if CARDS[name].prompts == "ImageNet":
        return lambda path: wordnet_ids().index(path.parent.name)
    if name in ("ImageNet-A", "ImageNet-R"):
        ids = [wordnet_ids()[index] for (index,) in shift_classes(name)]
        return lambda path: ids.index(path.parent.name)
    if name == "KITTI":
        return lambda path: int(path.stem) % 4  # a vehicle beside me, nearby, in the distance, none
    if name == "aYahoo":
        return lambda path: names.index(path.stem.rpartition("_")[0].replace("jetski", "jet ski"))
    folders = {"Caltech101": miniatures.CALTECH101, "EuroSAT": miniatures.EUROSAT}.get(name, names)
    return lambda path: [folder.replace(" ", "_") for folder in folders].index(path.parent.name)


def say_what_they_show(name, folder, expected) -> int:
    """Write each picture of a miniature anew, so that it says its class; how many there are."""
    files = [path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".ppm")]
    known = {key: label for split in (expected or {}).values() for key, label in split if key}
    class_of = None if known else by_folder(name)
    for path in files:
        if known:
            found = {label for key, label in known.items() if path.as_posix().endswith(f"/{key}")}
            if len(found) != 1:
                continue
            label = found.pop()
        else:
            label = class_of(path)
        path.write_bytes(picture(shown_by(CARDS[name], label)))
    return len(files)


OTHER = ("Country211", "RenderedSST2", "KITTI", "aYahoo")
IMAGENETS = ("ImageNet", "ImageNetV2", "ImageNet-Sketch", "ImageNet-A", "ImageNet-R")


@pytest.mark.parametrize("name", [*LISTED, *OTHER, *IMAGENETS])
def test_archives(name, tmp_path):
    card, folder = CARDS[name], tmp_path / "sets" / name
    expected = OTHERS[name](folder) if name in OTHERS else miniatures.build(name, folder)
    assert say_what_they_show(name, folder, expected)
    tasks = [task for task in (TASKS["zero_shot"], TASKS["robustness"], TASKS["human"]) if task.applies(card)]
    found = run_suite(Oracle(card), tasks, [card], Setting(tmp_path / "sets"), tmp_path / "out")
    assert not found.skipped and found.results
    assert all(one.value == 1 for one in found.results), [(one.metric, one.value) for one in found.results]
