"""Miniatures of archives whose images encode their class in their colors.

The expected labels do not come from the readers under test. They are read from the archive's own files by short
independent code, or returned by `miniatures.build`.
"""

import csv
import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path

import miniatures
import numpy as np
import pytest
import scipy.io
from miniatures_other import MINIATURES as OTHERS
from miniatures_other import video, write
from oracle import Oracle, in_colour, picture, shown_by
from PIL import Image

from diptych.evalsets.cards import CARDS
from diptych.evalsets.imagenet_classes import object_net_names, shift_classes, wordnet_ids
from diptych.evalsets.prompts import get_prompts, plain_name

COUNTRIES = {"AD": "Andorra", "AE": "United Arab Emirates", "US": "United States", "ZW": "Zimbabwe"}
GREY = 20  # halfway between the gray values of neighboring numbers, since a codec may change them slightly


def first_names(row: str) -> list[str]:
    return [several[0] for several in get_prompts(row).class_names]


def index_of(row: str, name: str) -> int:
    return [plain_name(one) for one in first_names(row)].index(plain_name(name))


def red(pixels: np.ndarray) -> int:
    return int(pixels[0, 0, 0])


def grey(pixels: np.ndarray) -> int:
    return round(float(pixels.mean()) / GREY)


def repaint(files, shown: Callable[[Path], int | None]) -> int:
    """Rewrite image files so that each encodes its class; returns their number."""
    count = 0
    for path in files:
        if (number := shown(path)) is not None:
            path.write_bytes(picture(number, count % 251))
            count += 1
    return count


def pictures_in(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".ppm")]


# ------------------------------------------------------------------ images in files, by their folders or lists


def by_folder(name: str) -> Callable[[Path], int]:
    """From an image's path to its class, for sets whose folders or file names give it."""
    names = first_names(CARDS[name].prompts)
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
        return lambda path: index_of(name, path.stem.rpartition("_")[0].replace("jetski", "jet ski"))
    folders = {"Caltech101": miniatures.CALTECH101, "EuroSAT": miniatures.EUROSAT}.get(name, names)
    return lambda path: [folder.replace(" ", "_") for folder in folders].index(path.parent.name)


def files(name: str, folder: Path) -> Oracle:
    """A set of image files, listed in the result of `miniatures.build`, or in folders by class."""
    card, others = CARDS[name], OTHERS
    expected = None if name in others else miniatures.build(name, folder)
    if name in others:
        others[name](folder)
    known = {key: label for split in (expected or {}).values() for key, label in split if key}
    class_of = None if known else by_folder(name)

    def label(path: Path) -> int | None:
        if class_of is not None:
            return shown_by(card, class_of(path))
        found = {label for key, label in known.items() if path.as_posix().endswith(f"/{key}")}
        return shown_by(card, found.pop()) if len(found) == 1 else None

    assert repaint(pictures_in(folder), label)
    return Oracle(card)


def imagenet(name: str, folder: Path) -> Oracle:
    """With two images of each class in each split, so that one of them can be held out."""
    OTHERS[name](folder)
    for path in pictures_in(folder / "train"):
        path.with_name(f"again_{path.name}").write_bytes(b"")
    assert repaint(pictures_in(folder), by_folder(name)) > 6
    return Oracle(CARDS[name])


def voc(name: str, folder: Path) -> Oracle:
    """Image n of a split has the classes n and n + 1; the last one has none."""
    miniatures.build(name, folder)
    assert repaint(pictures_in(folder), lambda path: 100 + int(path.stem) % 1000) == 63
    shows = {number: (number, (number + 1) % 20) for number in range(19)} | {19: (19, 0), 20: (99,)}
    return Oracle(CARDS[name], read=lambda pixels: shows[in_colour(pixels) - 100])


def clevr(name: str, folder: Path) -> Oracle:
    OTHERS[name](folder)
    counts = {}
    for path in folder.rglob("*_scenes.json"):
        counts |= {one["image_filename"]: len(one["objects"]) for one in json.loads(path.read_text())["scenes"]}
    repaint(pictures_in(folder), lambda path: first_names(name).index(str(counts[path.name])))
    return Oracle(CARDS[name])


def memes(name: str, folder: Path) -> Oracle:
    OTHERS[name](folder)
    rows = [json.loads(line) for file in folder.glob("*.jsonl") for line in file.read_text().splitlines()]
    labels = {row["img"].rpartition("/")[2]: row["label"] for row in rows if "label" in row}
    repaint(pictures_in(folder), lambda path: labels.get(path.name))
    return Oracle(CARDS[name])


def object_net(name: str, folder: Path) -> Oracle:
    """The red border remains; the pixels inside encode the class."""
    OTHERS[name](folder)
    names = [plain_name(one) for one in object_net_names()]
    for path in pictures_in(folder):
        if (label := plain_name(path.parent.name)) in names:
            shown = shown_by(CARDS[name], names.index(label))
            framed = Image.new("RGB", (12, 10), (255, 0, 0))
            framed.paste((shown // 256, shown % 256, 0), (2, 2, 10, 8))
            framed.save(path)
    return Oracle(CARDS[name])


def sun(name: str, folder: Path) -> Oracle:
    """723 classes in folders with the classes' names; two of them are rooms of one place."""
    OTHERS[name](folder)
    rooms = {"indoor": 721, "outdoor": 722}
    numbers = {f"class_{number:03d}": number for number in range(721)} | rooms
    assert repaint(pictures_in(folder), lambda path: numbers[path.parent.name]) == 723

    def understand(text: str) -> int:
        found = re.search(r"(?:class|apse) (\w+)", text).group(1)
        return rooms[found] if found in rooms else int(found)

    return Oracle(CARDS[name], understand=understand)


# ------------------------------------------------------------------ images in arrays


def cifar(name: str, folder: Path) -> Oracle:
    """Records of labels, the last of which is the class, and 3,072 bytes of pixels."""
    miniatures.build(name, folder)
    head = 1 if name == "CIFAR10" else 2
    for path in folder.rglob("*.bin"):
        rows = np.fromfile(path, np.uint8).reshape(-1, head + 3072)
        rows[:, head:] = rows[:, head - 1 : head]
        rows.tofile(path)
    return Oracle(CARDS[name], read=red)


def cifar10_1(name: str, folder: Path) -> Oracle:
    miniatures.build(name, folder)
    pixels, labels = (np.load(folder / f"cifar10.1_v6_{part}.npy") for part in ("data", "labels"))
    np.save(folder / "cifar10.1_v6_data.npy", np.zeros_like(pixels) + labels.astype(np.uint8)[:, None, None, None])
    return Oracle(CARDS[name], read=red)


def mnist(name: str, folder: Path) -> Oracle:
    miniatures.build(name, folder)
    for path in folder.glob("*-images-*"):
        packed = path.suffix == ".gz"
        beside = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
        content, labels = ((gzip.decompress if packed else bytes)(one.read_bytes()) for one in (path, beside))
        painted = content[:16] + b"".join(bytes([label]) * 784 for label in labels[8:])
        path.write_bytes(gzip.compress(painted) if packed else painted)
    return Oracle(CARDS[name], read=red)


def stl10(name: str, folder: Path) -> Oracle:
    """Its labels count from 1."""
    miniatures.build(name, folder)
    for path in folder.rglob("*_X.bin"):
        labels = path.with_name(path.name.replace("_X", "_y")).read_bytes()
        path.write_bytes(b"".join(bytes([label - 1]) * (3 * 96 * 96) for label in labels))
    return Oracle(CARDS[name], read=red)


def fer2013(name: str, folder: Path) -> Oracle:
    miniatures.build(name, folder)
    rows = list(csv.DictReader((folder / "fer2013.csv").open()))
    for row in rows:
        row["pixels"] = " ".join([row["emotion"]] * 48 * 48)
    with (folder / "fer2013.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return Oracle(CARDS[name], read=red)


def svhn(name: str, folder: Path) -> Oracle:
    """Label ten means zero."""
    miniatures.build(name, folder)
    for path in folder.glob("*.mat"):
        digits = scipy.io.loadmat(path)["y"]
        pixels = np.zeros((32, 32, 3, len(digits)), np.uint8) + (digits.ravel() % 10).astype(np.uint8)
        scipy.io.savemat(path, {"X": pixels, "y": digits})
    return Oracle(CARDS[name], read=red)


def pcam(name: str, folder: Path) -> Oracle:
    """Image n has the gray value n and the class n % 2."""
    OTHERS[name](folder)
    return Oracle(CARDS[name], read=lambda pixels: red(pixels) % 2)


# ------------------------------------------------------------------ videos


def clips(folder: Path, paths: dict[str, int]) -> Callable[[np.ndarray], int]:
    """A clip of three frames for each path, which encode its class; returns how to read them."""
    classes = sorted(set(paths.values()))
    for path, label in paths.items():
        video(folder / path, [GREY * classes.index(label)] * 3)
    return lambda pixels: classes[grey(pixels)]


def ucf101(name: str, folder: Path) -> Oracle:
    """Three classes with six clips each, divided in three ways into four for training and two for test."""
    classes = ("ApplyEyeMakeup", "HandstandPushups", "YoYo")
    groups = [[f"{one}/v_{one}_g0{group}_c01.avi" for one in classes] for group in range(1, 7)]
    paths = {path: index_of(name, path.partition("/")[0]) for group in groups for path in group}
    for fold in range(3):
        tested = {path for group in groups[2 * fold : 2 * fold + 2] for path in group}
        lists = folder / "ucfTrainTestlist"
        write(lists / f"testlist0{fold + 1}.txt", sorted(tested))
        write(
            lists / f"trainlist0{fold + 1}.txt",
            [f"{path} {label + 1}" for path, label in paths.items() if path not in tested],
        )
    return Oracle(CARDS[name], read=clips(folder / "UCF-101", paths))


def kinetics(name: str, folder: Path) -> Oracle:
    classes = ("abseiling", "zumba", "massaging person's head", "backflip (human)")
    paths = {
        f"{split}/{one}/{number}_00000{number}_000011.mp4": index_of(name, one)
        for split, numbers in (("train", (1, 2)), ("val", (3,)))
        for one in classes
        for number in numbers
    }
    return Oracle(CARDS[name], read=clips(folder, paths))


def rare_act(name: str, folder: Path) -> Oracle:
    """The dark half shows one action, the light half the other."""
    OTHERS[name](folder)
    return Oracle(
        CARDS[name],
        read=lambda pixels: int(pixels.mean() > 100),
        understand=lambda text: ("cut phone" in text, "wash door" in text).index(True),
    )


def imagenet_vid(name: str, folder: Path) -> Oracle:
    OTHERS[name](folder)
    labels = json.loads((folder / "metadata/labels.json").read_text())
    valid = {path: one[0] for path, one in labels.items()}
    repaint(pictures_in(folder), lambda path: shown_by(CARDS[name], valid[path.relative_to(folder).as_posix()]))
    return Oracle(CARDS[name])


def youtube_bb(name: str, folder: Path) -> Oracle:
    """One of the anchors is good: that of a car."""
    OTHERS[name](folder)
    shown = shown_by(CARDS[name], index_of(name, "car"))
    assert repaint(pictures_in(folder), lambda path: shown if "car_1000" in path.parts else None) == 3
    return Oracle(CARDS[name])


# ------------------------------------------------------------------ captions, words and places


def captions(name: str, folder: Path) -> Oracle:
    """Captions end with the number of their image; the lists are in another order."""
    OTHERS[name](folder)
    for path in folder.glob("*.json"):
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "images": content["images"][::-1]}))
    if (path := folder / "results_20130124.token").exists():
        write(path, reversed(path.read_text().splitlines()))
    repaint(pictures_in(folder), lambda path: int(re.search(r"(\d+)$", path.stem).group(1)) % 1000)
    return Oracle(CARDS[name], understand=lambda text: int(re.search(r"of (\d+)$", text).group(1)))


def words(name: str, folder: Path) -> Oracle:
    """Image n shows word n of its list; each has a lexicon of four."""
    miniatures.build(name, folder)
    repaint(pictures_in(folder), lambda path: int(path.stem.partition("_")[0]) + 1)
    lexicon = ["EXIT", "PRIVATE", "PARKING", "12"]
    return Oracle(CARDS[name], understand=lambda text: lexicon.index(text.split('"')[1]))


def places(name: str, folder: Path) -> Oracle:
    """For each place, the reference set has one photograph, in another order and taken at another time."""
    known = {"a": (-33.86, 151.2), "b": (48.8584, 2.2945), "c": (40.0, -75.5), "d": (-33.86, -151.2)}
    for base, rows in ((folder, list(known)[:3]), (folder / "reference", list(known)[::-1])):
        lines = [f"{'r' if base != folder else ''}{one}.jpg,{known[one][0]},{known[one][1]}" for one in rows]
        write(base / "places.csv", ["image,latitude,longitude", *lines])
        for one in rows:
            path = base / "images" / f"{'r' if base != folder else ''}{one}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(list(known).index(one), 1 if base == folder else 2))
    return Oracle(CARDS[name])


PAINTERS: dict[str, Callable[[str, Path], Oracle]] = {
    **dict.fromkeys(("CIFAR10", "CIFAR100"), cifar),
    **dict.fromkeys(("Flickr30k", "MSCOCO"), captions),
    "CIFAR10.1": cifar10_1,
    "MNIST": mnist,
    "STL10": stl10,
    "FER2013": fer2013,
    "SVHN": svhn,
    "PCam": pcam,
    "VOC2007": voc,
    "CLEVRCounts": clevr,
    "HatefulMemes": memes,
    "ImageNet": imagenet,
    "ObjectNet": object_net,
    "SUN": sun,
    "UCF101": ucf101,
    "Kinetics700": kinetics,
    "RareAct": rare_act,
    "ImageNet-Vid": imagenet_vid,
    "Youtube-BB": youtube_bb,
    "IIIT5K": words,
    "IM2GPS": places,
}


def paint(name: str, folder: Path) -> Oracle:
    """Make the archive of a set in a folder, and an oracle that knows what its images encode."""
    folder.mkdir(parents=True, exist_ok=True)
    if name == "SVHN-Numbers":
        pytest.importorskip("h5py")
        from miniatures_text import svhn_numbers

        expected = {key: label for split in svhn_numbers(folder).values() for key, label in split}
        repaint(pictures_in(folder), lambda path: expected[path.relative_to(folder).as_posix()])
        return Oracle(CARDS[name])
    return PAINTERS.get(name, files)(name, folder)
