"""Small copies of the original archives in their real layout, with all classes and one or two images of each.

`build(name, folder)` makes one and returns the expected content: for each split (key, label) in order, if the labels
are known without the package's own mapping. `picture(key)` is the content of the file with that key.
"""

import gzip
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import scipy.io
from miniature_files import Expected, arrays, names, planes, write, write_list
from miniatures_text import iiit5k, svhn


def _words(text: str) -> list[str]:
    return text.split()


CALTECH101 = _words("""BACKGROUND_Google Faces Faces_easy Leopards Motorbikes accordion airplanes anchor ant barrel
bass beaver binocular bonsai brain brontosaurus buddha butterfly camera cannon car_side ceiling_fan cellphone chair
chandelier cougar_body cougar_face crab crayfish crocodile crocodile_head cup dalmatian dollar_bill dolphin dragonfly
electric_guitar elephant emu euphonium ewer ferry flamingo flamingo_head garfield gerenuk gramophone grand_piano
hawksbill headphone hedgehog helicopter ibis inline_skate joshua_tree kangaroo ketch lamp laptop llama lobster lotus
mandolin mayfly menorah metronome minaret nautilus octopus okapi pagoda panda pigeon pizza platypus pyramid revolver
rhino rooster saxophone schooner scissors scorpion sea_horse snoopy soccer_ball stapler starfish stegosaurus stop_sign
strawberry sunflower tick trilobite umbrella watch water_lilly wheelchair wild_cat windsor_chair wrench
yin_yang""")  # in the order of the prompts table, which is ASCII order
EUROSAT = _words(
    "Forest PermanentCrop Residential River Pasture SeaLake HerbaceousVegetation AnnualCrop Industrial Highway"
)  # in the order of the prompts table
SUN397_BELOW = _words("""bakery/shop balcony/exterior balcony/interior atrium/public canal/natural canal/urban
car_interior/backseat car_interior/frontseat covered_bridge/exterior cubicle/office desert/sand desert/vegetation
dinette/home dinette/vehicle elevator/door elevator/interior field/cultivated field/wild forest/broadleaf
forest/needleleaf gazebo/exterior lake/natural moat/water poolroom/establishment poolroom/home stadium/baseball
stadium/football subway_station/platform temple/east_asia temple/south_asia theater/indoor_procenium
theater/indoor_seats train_station/platform underwater/coral_reef waterfall/block waterfall/fan waterfall/plunge
wine_cellar/barrel_storage wine_cellar/bottle_storage""")


def build(name: str, folder: Path) -> Expected:
    """Make the archive of a set in a folder, which is created if necessary."""
    folder.mkdir(parents=True, exist_ok=True)
    return MINIATURES[name](folder)


def food101(folder: Path) -> Expected:
    expected: Expected = {}
    classes = [name.replace(" ", "_") for name in names("Food101")]
    write_list(folder / "meta/classes.txt", classes)
    for split, first in (("train", 1000), ("test", 2000)):
        listed = [f"{name}/{first + label}" for label, name in enumerate(classes)]
        write_list(folder / f"meta/{split}.txt", listed)
        expected[split] = [(f"images/{row}.jpg", label) for label, row in enumerate(listed)]
        write(folder, [key for key, _ in expected[split]])
    return expected


def birdsnap(folder: Path) -> Expected:
    """The species are numbered backwards here; two training images are missing."""
    folders = [name.replace(" ", "_") for name in names("Birdsnap")]
    rows = [f"{500 - label}\t{name.replace('_', '-')}'s\tAvis avis\t{name}" for label, name in enumerate(folders)]
    write_list(folder / "species.txt", ["id\tcommon\tscientific\tdir", *reversed(rows)])
    listed, expected = [], Expected(train=[], test=[])
    for label, name in enumerate(folders):
        for number, split in ((1, "train"), (2, "test")):
            listed.append(f"http://x/{name}/{number}\tmd5\t{name}/{number}.jpg\t{500 - label}\t1\t2\t3\t4")
            if (name, number) not in ((folders[3], 1), (folders[499], 1)):
                expected[split].append((f"images/{name}/{number}.jpg", label))
    write_list(folder / "images.txt", ["url\tmd5\tpath\tspecies_id\tbb_x1\tbb_y1\tbb_x2\tbb_y2", *listed])
    write_list(folder / "test_images.txt", ["path", *(f"{name}/2.jpg" for name in folders)])
    write(folder, [key for split in expected.values() for key, _ in split])
    return expected


def sun397(folder: Path) -> Expected:
    below = {path.replace("/", " ").replace("_", " "): path for path in SUN397_BELOW}
    paths = []
    for name in names("SUN397"):
        first, _, last = name.rpartition(" ")
        plain = f"{first.replace(' ', '_')}/{last}" if last in ("indoor", "outdoor") else name.replace(" ", "_")
        paths.append(f"/{name[0]}/{below.get(name, plain)}")
    expected: Expected = {}
    write_list(folder / "SUN397/ClassName.txt", sorted(paths))
    for split, title in (("train", "Training"), ("test", "Testing")):
        listed = sorted(f"{path}/sun_{split}.jpg" for path in paths)
        write_list(folder / f"Partitions/{title}_01.txt", listed)
        labels = {path: label for label, path in enumerate(paths)}
        expected[split] = [(row[1:], labels[row.rpartition("/")[0]]) for row in listed]
        write(folder / "SUN397", [key for key, _ in expected[split]])
    return expected


def stanford_cars(folder: Path) -> Expected:
    """The classes' order in the devkit is that of the prompts table; one name has a slash."""
    expected: Expected = {}
    cells = np.empty((1, 196), object)
    cells[0] = names("StanfordCars")
    (folder / "devkit").mkdir()
    scipy.io.savemat(folder / "devkit/cars_meta.mat", {"class_names": cells})
    for split, listed in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        rows = [(f"{number + 1:05}.jpg", (number * 7) % 196) for number in range(196)]
        fields = np.zeros((1, len(rows)), [("bbox_x1", object), ("class", object), ("fname", object)])
        for place, (name, label) in enumerate(rows):
            fields[0, place] = (np.uint8(3), np.uint8(label + 1), name)
        scipy.io.savemat(folder / listed, {"annotations": fields})
        expected[split] = [(f"cars_{split}/{name}", label) for name, label in rows]
        write(folder, [key for key, _ in expected[split]])
    return expected


def fgvc_aircraft(folder: Path) -> Expected:
    expected: Expected = {}
    data = folder / "fgvc-aircraft-2013b/data"
    variants = names("FGVCAircraft")
    write_list(data / "variants.txt", variants)
    for place, split in enumerate(("train", "val", "test")):
        rows = [(f"{place}{label:06}", label) for label in range(100)]
        write_list(data / f"images_variant_{split}.txt", [f"{name} {variants[label]}" for name, label in rows])
        expected[split] = [(f"images/{name}.jpg", label) for name, label in rows]
        write(data, [key for key, _ in expected[split]])
    return expected


def voc2007(folder: Path) -> Expected:
    """Image n of a split has the classes n and n + 1, and a difficult n + 2; the last image has no class."""
    base, expected = folder / "VOCdevkit/VOC2007", Expected()
    for place, split in enumerate(("train", "val", "test")):
        keys = [f"{place * 1000 + number:06}" for number in range(21)]
        for label, name in enumerate(names("VOC2007")):
            signs = [-1 if number == 20 else {0: 1, 1: 1, 2: 0}.get((label - number) % 20, -1) for number in range(21)]
            rows = [f"{key} {sign:2d}" for key, sign in zip(keys, signs, strict=True)]
            write_list(base / f"ImageSets/Main/{name}_{split}.txt", rows)
        first = [*range(19), 0, 0]
        expected[split] = [(f"JPEGImages/{key}.jpg", label) for key, label in zip(keys, first, strict=True)]
        write(base, [key for key, _ in expected[split]])
    return expected


def dtd(folder: Path) -> Expected:
    expected: Expected = {}
    for number, split in enumerate(("train", "val", "test")):
        rows = [(f"{name}/{name}_{number:04}.jpg", label) for label, name in enumerate(names("DTD"))]
        write_list(folder / f"dtd/labels/{split}1.txt", [row for row, _ in rows])
        expected[split] = [(f"images/{row}", label) for row, label in rows]
        write(folder / "dtd", [key for key, _ in expected[split]])
    return expected


def oxford_pets(folder: Path) -> Expected:
    """The archive numbers the breeds in alphabetical order, ignoring case."""
    breeds = [(name.replace(" ", "_"), label) for label, name in enumerate(names("OxfordPets"))]
    expected: Expected = {}
    for split, listed, number in (("train", "trainval", 1), ("test", "test", 2)):
        rows = [
            (f"{name}_{number}", place, label)
            for place, (name, label) in enumerate(sorted(breeds, key=lambda breed: breed[0].lower()), 1)
        ]
        write_list(folder / f"annotations/{listed}.txt", [f"{name} {place} 1 1" for name, place, _ in rows])
        expected[split] = [(f"images/{name}.jpg", label) for name, _, label in rows]
        write(folder, [key for key, _ in expected[split]])
    return expected


def flowers102(folder: Path) -> Expected:
    """Image n has class n % 102: 102 images each for training, validation and test."""
    scipy.io.savemat(folder / "imagelabels.mat", {"labels": (np.arange(306) % 102 + 1)[None].astype(np.uint8)})
    chosen = {"test": range(1, 103), "train": range(103, 205), "val": range(205, 307)}
    ids = {"trnid": chosen["train"], "valid": chosen["val"], "tstid": chosen["test"]}
    scipy.io.savemat(folder / "setid.mat", {name: np.array([*of], np.uint16)[None] for name, of in ids.items()})
    write(folder, [f"jpg/image_{number:05}.jpg" for number in range(1, 307)])
    return {split: [(f"jpg/image_{n:05}.jpg", (n - 1) % 102) for n in of] for split, of in chosen.items()}


def gtsrb(folder: Path) -> Expected:
    base, header = folder / "GTSRB", "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2"
    expected: Expected = {"train": [], "test": [(f"Final_Test/Images/{n:05}.ppm", 42 - n) for n in range(43)]}
    for label in range(43):
        own = [f"{track:05}_00000.ppm" for track in range(2)]
        rows = [f"{name};29;30;5;6;24;25;{label}" for name in own]
        write_list(base / f"Training/{label:05}/GT-{label:05}.csv", [f"{header};ClassId", *rows])
        expected["train"] += [(f"Training/{label:05}/{name}", label) for name in own]
    rows = [f"{Path(key).name};29;30;5;6;24;25;{label}" for key, label in expected["test"]]
    write_list(folder / "GT-final_test.csv", [f"{header};ClassId", *rows])
    write_list(base / "Final_Test/Images/GT-final_test.test.csv", [header, *(row.rpartition(";")[0] for row in rows)])
    write(base, [key for split in expected.values() for key, _ in split])
    return expected


def caltech101(folder: Path) -> Expected:
    """31 images of each class, so one is left for test; the reader's rule determines which one."""
    base = folder / "101_ObjectCategories"
    write(base, [f"{name}/image_{number:04}.jpg" for name in CALTECH101 for number in range(1, 32)])
    return {"train": [("", label) for label in range(102) for _ in range(30)], "test": [("", n) for n in range(102)]}


def eurosat(folder: Path) -> Expected:
    """Three images of each class; the rule takes two for training and one for test."""
    write(folder / "2750", [f"{name}/{name}_{number}.jpg" for name in EUROSAT for number in (1, 2, 10)])
    order = sorted(range(10), key=EUROSAT.__getitem__)
    return {"train": [("", label) for label in order for _ in range(2)], "test": [("", label) for label in order]}


def resisc45(folder: Path) -> Expected:
    """Nine images of each class: one for training, eight for test."""
    classes = [name.replace(" ", "_") for name in names("RESISC45")]
    write(folder / "NWPU-RESISC45", [f"{name}/{name}_{number:03}.jpg" for name in classes for number in range(1, 10)])
    return {"train": [("", n) for n in range(45)], "test": [("", n) for n in range(45) for _ in range(8)]}


def _cifar(folder: Path, files: Sequence[str], classes: int, coarse: bytes) -> list[int]:
    """One image of each class over all files, the last class first. The number of the image is its blue value."""
    labels = [classes - 1 - number for number in range(classes)]
    part = classes // len(files)
    for place, name in enumerate(files):
        own = range(place * part, (place + 1) * part)
        (folder / name).write_bytes(b"".join(coarse + bytes([labels[n]]) + planes(n, 32, 32).tobytes() for n in own))
    return labels


def cifar10(folder: Path) -> Expected:
    base = folder / "cifar-10-batches-bin"
    write_list(base / "batches.meta.txt", [*names("CIFAR10"), ""])
    train = _cifar(base, [f"data_batch_{n}.bin" for n in range(1, 6)], 10, b"")
    return {"train": arrays("train", train), "test": arrays("test", _cifar(base, ["test_batch.bin"], 10, b""))}


def cifar100(folder: Path) -> Expected:
    base = folder / "cifar-100-binary"
    write_list(base / "fine_label_names.txt", [name.replace(" ", "_") for name in names("CIFAR100")])
    return {split: arrays(split, _cifar(base, [f"{split}.bin"], 100, b"\x07")) for split in ("train", "test")}


def cifar10_1(folder: Path) -> Expected:
    pixels = np.stack([planes(number, 32, 32).transpose(1, 2, 0) for number in range(20)])
    np.save(folder / "cifar10.1_v6_data.npy", pixels)
    np.save(folder / "cifar10.1_v6_labels.npy", np.arange(20, dtype=np.int32) % 10)
    return {"test": arrays("cifar10.1_v6_data", [n % 10 for n in range(20)])}


def mnist(folder: Path) -> Expected:
    """The training files are compressed, the test files are not."""
    expected = {}
    for split, first, count, end in (("train", "train", 20, ".gz"), ("test", "t10k", 10, "")):
        pixels = b"".join(planes(0, 28, 28, 2)[n % 2].tobytes() for n in range(count))
        head = bytes([0, 0, 8, 3]) + b"".join(side.to_bytes(4, "big") for side in (count, 28, 28))
        labels = bytes(n % 10 for n in range(count))
        for kind, data in (
            ("images-idx3", head + pixels),
            ("labels-idx1", bytes([0, 0, 8, 1]) + count.to_bytes(4, "big") + labels),
        ):
            (folder / f"{first}-{kind}-ubyte{end}").write_bytes(gzip.compress(data) if end else data)
        expected[split] = arrays(split, list(labels))
    return expected


def stl10(folder: Path) -> Expected:
    """Ten images for training, two in each of ten overlapping folds, and ten for test; by columns, labels from 1."""
    base, expected = folder / "stl10_binary", Expected()
    write_list(base / "class_names.txt", names("STL10"))
    write_list(base / "fold_indices.txt", [f"{n} {(n + 1) % 10} " for n in range(10)])
    for split in ("train", "test"):
        pictures = [planes(n, 96, 96).transpose(0, 2, 1).tobytes() for n in range(10)]
        (base / f"{split}_X.bin").write_bytes(b"".join(pictures))
        (base / f"{split}_y.bin").write_bytes(bytes(n + 1 for n in range(10)))
        expected[split] = arrays(split, range(10))
    return expected


def fer2013(folder: Path, header: str = "emotion,pixels,Usage") -> Expected:
    """Columns as in the header; face n of a split is the image of its columns, with n in its corner."""
    order = [name.strip() for name in header.split(",")]
    rows, expected = [], Expected()
    for usage, split in (("Training", "train"), ("PublicTest", "val"), ("PrivateTest", "test")):
        for n in range(7):
            face = planes(0, 48, 48)[0].ravel()
            face[0] = n
            row = {"emotion": str(6 - n), "pixels": " ".join(map(str, face)), "Usage": usage}
            rows.append(",".join(row[name] for name in order))
        expected[split] = arrays(split, [6 - n for n in range(7)])
    write_list(folder / ("fer2013.csv" if order[1] == "pixels" else "icml_face_data.csv"), [header, *rows])
    return expected


MINIATURES: Mapping[str, Callable[[Path], Expected]] = {
    "Food101": food101,
    "CIFAR10": cifar10,
    "CIFAR100": cifar100,
    "Birdsnap": birdsnap,
    "SUN397": sun397,
    "StanfordCars": stanford_cars,
    "FGVCAircraft": fgvc_aircraft,
    "VOC2007": voc2007,
    "DTD": dtd,
    "OxfordPets": oxford_pets,
    "Caltech101": caltech101,
    "Flowers102": flowers102,
    "MNIST": mnist,
    "FER2013": fer2013,
    "STL10": stl10,
    "EuroSAT": eurosat,
    "RESISC45": resisc45,
    "GTSRB": gtsrb,
    "CIFAR10.1": cifar10_1,
    "SVHN": svhn,
    "IIIT5K": iiit5k,
}
