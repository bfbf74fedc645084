"""Miniatures of the archives of text in images."""

from pathlib import Path

import numpy as np
import scipy.io
from miniature_files import Expected, arrays, planes, write


def svhn(folder: Path) -> Expected:
    """The cropped digits: images along the last axis of a MATLAB array; zeros have the label ten."""
    for split in ("train", "test"):
        pixels = np.stack([planes(n, 32, 32).transpose(1, 2, 0) for n in range(20)], axis=3)
        digits = np.array([[n % 10 or 10] for n in range(20)], np.uint8)
        scipy.io.savemat(folder / f"{split}_32x32.mat", {"X": pixels, "y": digits}, do_compression=True)
    return {split: arrays(split, [n % 10 for n in range(20)]) for split in ("train", "test")}


def svhn_numbers(folder: Path) -> Expected:
    """The house numbers in uncropped images."""
    import h5py

    numbers, expected = ["5", "210", "03"], Expected()
    for split in ("train", "test"):
        (folder / split).mkdir()
        with h5py.File(folder / split / "digitStruct.mat", "w") as file:
            held = file.create_group("#refs#")
            table = file.create_group("digitStruct")
            for column in ("name", "bbox"):
                table.create_dataset(column, (len(numbers), 1), h5py.ref_dtype)
            for n, digits in enumerate(numbers):
                title = np.frombuffer(f"{n + 1}.png".encode(), np.uint8).astype(np.uint16)[:, None]
                held[f"name{n}"] = title
                box = held.create_group(f"box{n}")
                values = [float(int(digit) or 10) for digit in digits]
                if len(values) == 1:
                    box["label"] = np.array([values])
                else:
                    for place, value in enumerate(values):
                        held[f"digit{n}_{place}"] = np.array([[value]])
                    places = [[held[f"digit{n}_{place}"].ref] for place in range(len(values))]
                    box.create_dataset("label", data=np.array(places, h5py.ref_dtype), dtype=h5py.ref_dtype)
                table["name"][n, 0], table["bbox"][n, 0] = held[f"name{n}"].ref, box.ref
        expected[split] = [(f"{split}/{n + 1}.png", int(digits)) for n, digits in enumerate(numbers)]
        write(folder, [key for key, _ in expected[split]])
    return expected


def iiit5k(folder: Path) -> Expected:
    base, expected = folder / "IIIT5K", Expected()
    base.mkdir()
    for split in ("train", "test"):
        words = ["PRIVATE", "parking", "12"]
        fields = np.zeros((1, 3), [(name, object) for name in ("ImgName", "GroundTruth", "smallLexi", "mediumLexi")])
        for place, word in enumerate(words):
            lexicon = np.empty((1, 4), object)
            lexicon[0] = ["EXIT", "PRIVATE", "PARKING", "12"]
            fields[0, place] = (f"{split}/{place}_1.png", word, lexicon[:, :2], lexicon)
        scipy.io.savemat(base / f"{split}data.mat", {f"{split}data": fields})
        expected[split] = [(f"{split}/{place}_1.png", place + 1) for place in range(3)]
        write(base, [key for key, _ in expected[split]])
    return expected
