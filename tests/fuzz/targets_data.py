"""Pictures, shards, tables, lists of evaluation sets."""

import functools
import gzip
import io
import itertools
import json
import random
import tarfile
from pathlib import Path

import numpy as np
import pictures
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.io
from hostile import jpeg_of_scans, jpeg_of_segments, netpbm, plain_netpbm, png_without_pixels, strip
from pictures import encoded
from PIL import Image
from target import Seed, Target
from tars import tar_of

from diptych.data.content import content_fingerprint, files_state
from diptych.data.decoding import decode_image, picture_errors
from diptych.data.open_source import open_source
from diptych.data.parquet_process import describe
from diptych.data.transforms import Augmentation, Preprocessing, evaluation_pixels, training_pixels
from diptych.errors import DataError
from diptych.evalsets.archives.hdf5 import read_array
from diptych.evalsets.archives.listed_files import load_mat
from diptych.records import Broken, Sample

PREPROCESSING = Preprocessing(32)
AUGMENTATION = Augmentation(rescale=(0.5, 1.0), flip=0.5)


def noise(width: int = 40, height: int = 30, mode: str = "RGB") -> Image.Image:
    """A picture of random pixels."""
    return pictures.noise(width, height, width).convert(mode)


# ---- pictures


def picture_seeds(folder: Path) -> list[Seed]:
    """Every format; and what once took too much time or memory."""
    exif = Image.Exif()
    exif[0x0112], exif[0x011A] = 6, (72, 1)
    sound = [
        *(encoded(noise(), form) for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")),
        encoded(noise(), "JPEG", progressive=True, exif=exif),
        encoded(noise(mode="P"), "PNG", transparency=3),
        encoded(noise(mode="RGBA"), "PNG"),
        encoded(noise(mode="CMYK"), "JPEG"),
        encoded(Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40)), "PNG"),
        encoded(noise(), "TIFF", compression="tiff_lzw"),
        encoded(noise(), "GIF", save_all=True, append_images=[noise(41)]),
        *(strip(700_000, 1), strip(1, 700_000), plain_netpbm(300), netpbm(20, 30, 17), netpbm(9, 9, 1000, "P5")),
    ]
    hostile = [
        *(
            jpeg_of_scans(1500, side=500),
            jpeg_of_segments(2000),
            png_without_pixels(0, 5),
            png_without_pixels(9000, 9000),
        ),
        *(b"", b"\xff\xd8\xff", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"GIF89a" + b"\xff" * 20),
    ]
    return [Seed("picture", data) for data in sound] + [Seed("picture", data, sound=False) for data in hostile]


def check_picture(path: Path) -> None:
    """Decoded as in evaluation and as in training."""
    data = path.read_bytes()
    with picture_errors():
        pixels = evaluation_pixels(decode_image(data), PREPROCESSING)
        assert pixels.shape == (3, 32, 32) and pixels.dtype.is_floating_point is False
        pixels = training_pixels(decode_image(data, target=32), PREPROCESSING, AUGMENTATION, np.random.default_rng(0))
        assert pixels.shape == (3, 32, 32)


# ---- shards and tables


def check_source(path: Path) -> None:
    """Everything that a source yields is a Sample with texts or a Broken with its reason."""
    source, found = open_source(path), False
    assert all(map(len, (source.fingerprint, content_fingerprint(source), files_state(source))))
    source.survey()  # `data check`
    for index in range(min(len(source.shards), 20)):
        for item in itertools.islice(source.read(index), 2000):
            if isinstance(item, Broken):
                assert item.reason and isinstance(item.key, str) and json.dumps([item.key, item.reason])
                continue
            assert isinstance(item, Sample) and isinstance(item.image, bytes | np.ndarray)
            found = True
            for text in item.texts:
                assert isinstance(text, str) and text.encode()  # no half of a surrogate pair
    if not found:
        raise DataError("no sample in it")


def tar_seeds(folder: Path) -> list[Seed]:
    """The layouts of webdataset, and keys that several pictures share."""
    png = encoded(noise(8, 8), "PNG")
    pairs = [(f"{n:04d}.{kind}", data) for n in range(4) for kind, data in (("png", png), ("txt", b"a photo"))]
    array = io.BytesIO()
    np.save(array, np.zeros((4, 4, 3), np.uint8))
    more = [
        ("a.npy", array.getvalue()),
        ("a.json", b'{"caption": "a dog", "label": 3}'),
        ("b.jpg", png),
        ("b.cls", b"7"),
    ]
    plain, long_names = (
        tar_of(pairs + more),
        tar_of([(f"{'d' * 150}/{name}", data) for name, data in pairs], tarfile.PAX_FORMAT),
    )
    shared = tar_of([(f"dog.v2.{n:03d}.png", png) for n in range(5)])
    return [
        *(Seed("a.tar", plain), Seed("a.tar", long_names), Seed("a.tar.gz", gzip.compress(plain, 1))),
        *(Seed("a.tar", shared, sound=False), Seed("a.tar", plain[:-1500], sound=False)),
        Seed("a.tar.gz", gzip.compress(bytes(50 << 20)), sound=False),
    ]


def random_tar(rng: random.Random) -> Seed:
    """Samples in any order under names of all kinds."""
    parts = ["a", "b", "..", ".", "", "dog.v2", "é", "\u202e", "x" * 300, "_", " ", "a/b", "-1", "\\", "c:"]
    ends = ["png", "txt", "json", "cls", "npy", "JPG", "", "txt.txt", "jpg.png", "html", "avif"]
    bodies = [
        *(b"", b"a", b"\xff", b"7", b"9" * 400, b"{}", b"[[]]", b"null", b'{"caption": [1]}', b'{"label": 1e400}'),
        *(b"[" * 100_000, encoded(noise(4, 4), "PNG"), b"\x93NUMPY\x01\0v\0{'descr': '|O', 'shape': (9,), }"),
    ]
    members = []
    for _ in range(rng.randrange(1, 12)):
        members.append(
            (f"{'/'.join(rng.choices(parts, k=rng.choice([1, 1, 2])))}.{rng.choice(ends)}", rng.choice(bodies))
        )
    return Seed("a.tar", tar_of(members, rng.choice([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])), sound=False)


def parquet_file(table: pa.Table, **options: object) -> bytes:
    """A table as a file."""
    stream = io.BytesIO()
    pq.write_table(table, stream, **options)
    return stream.getvalue()


def parquet_seeds(folder: Path) -> list[Seed]:
    """Tables with pictures; bombs by a dictionary and by run lengths; a footer over which PyArrow ends the process."""
    png = encoded(noise(8, 8), "PNG")
    plain = pa.table({"image": [png] * 4, "text": ["a", "b", "c", "d"], "label": [1, 2, 3, 4]})
    nested = pa.table({"image": [{"bytes": png, "path": "a.png"}] * 4, "captions": [["a", "b"], ["c"]] * 2})
    value = pa.DictionaryArray.from_arrays(pa.array([0] * 64, pa.int32()), pa.array(["y" * (1 << 20)]))
    wide = pa.table({"image": [png] * 64, "text": ["a"] * 64, **{f"c{n}": value for n in range(40)}})
    many = pa.DictionaryArray.from_arrays(pa.array(memoryview(bytes(4 * 5_000_000)).cast("i")), pa.array(["x" * 60]))
    words = pa.ListArray.from_arrays(pa.array([0, 5_000_000], pa.int32()), many)
    bombs = [wide, pa.table({"image": [png], "captions": words})]
    sound = [parquet_file(plain), parquet_file(plain, row_group_size=2, compression="gzip"), parquet_file(nested)]
    lost = [aborting(folder), *(parquet_file(bomb, compression="zstd", store_schema=False) for bomb in bombs)]
    return [Seed("a.parquet", data) for data in sound] + [Seed("a.parquet", data, sound=False) for data in lost]


def aborting(folder: Path) -> bytes:
    """A footer whose level histograms lie: the first change of one byte that ends the process, if any does."""
    texts = [["a", "b"], ["c"]] * 2
    data = parquet_file(pa.table({"image": [encoded(noise(8, 8), "PNG")] * 4, "captions": texts}))
    start, path = len(data) - 8 - int.from_bytes(data[-8:-4], "little"), folder / "abort.parquet"
    for place in range(start, len(data) - 8):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        path.write_bytes(changed)
        try:
            describe(path)
        except DataError as error:
            if "ends the process" in str(error):
                return changed
    return data


def table_seeds(folder: Path) -> list[Seed]:
    """Tables of paths and captions, one with a stray quotation mark."""
    (folder / "p.png").write_bytes(encoded(noise(8, 8), "PNG"))
    csv = "filepath,caption\n" + "".join(f'p.png,"a photo, {n}"\n' for n in range(20))
    tsv = "image\ttitle\n" + "".join(f"p.png\ta photo {n}\n" for n in range(20))
    lines = "".join(json.dumps({"file_name": "p.png", "text": f"a photo {n}"}) + "\n" for n in range(5))
    stray = csv.replace('"a photo, 3"', '"a photo, 3')
    sound = [("a.csv", csv), ("a.tsv", tsv), ("metadata.jsonl", lines), ("a.csv", f"\ufeff{csv}".replace("\n", "\r\n"))]
    odd = [
        "filepath,caption\n",
        stray,
        f"{csv}p.png,{'x' * 200_000}\n",
        f'{csv}"',
        csv.replace("p.png", "../../../etc/passwd"),
    ]
    return [Seed(name, text.encode()) for name, text in sound] + [
        Seed("a.csv", text.encode(), sound=False) for text in odd
    ]


def random_table(rng: random.Random) -> Seed:
    """Delimiters, quotation marks and line ends in any order under a sound header."""
    parts = [
        "p.png",
        ",",
        ",",
        '"',
        "\n",
        "\n",
        "\r",
        "\t",
        ";",
        "a cat",
        "é",
        "\0",
        "\ud800",
        "/dev/zero",
        "\u2028",
        '""',
    ]
    body = "".join(rng.choices(parts, k=rng.randrange(1, 200)))
    header, name = rng.choice(
        [("filepath,caption\n", "a.csv"), ("image\ttitle\n", "a.tsv"), ("image;title\n", "a.csv")]
    )
    return Seed(name, (header + body).encode("utf-8", "surrogatepass"), sound=False)


# ---- archives of evaluation sets


def matlab_seeds(folder: Path) -> list[Seed]:
    """Arrays, cells and structs, as the archives have them."""
    stream, packed = io.BytesIO(), io.BytesIO()
    content = {"labels": np.arange(9), "names": np.array(["a", "bc"], object), "rows": {"class": 3, "fname": "a.jpg"}}
    scipy.io.savemat(stream, content)
    scipy.io.savemat(packed, content, do_compression=True)
    return [Seed("a.mat", stream.getvalue()), Seed("a.mat", packed.getvalue())]


def check_matlab(path: Path) -> None:
    """All variables of it."""
    assert len(load_mat(path, "labels", "names", "rows")) == 3


def hdf5_seeds(folder: Path) -> list[Seed]:
    """Pictures in one array, whole and in packed chunks."""
    import h5py

    seeds = []
    for options in ({}, {"chunks": (2, 8, 8, 3), "compression": "gzip"}):
        with h5py.File(folder / "made.h5", "w") as file:
            file.create_dataset("x", data=np.zeros((6, 8, 8, 3), np.uint8), **options)
        seeds.append(Seed("a.h5", (folder / "made.h5").read_bytes()))
    return seeds


def check_hdf5(path: Path) -> None:
    """Its pictures, as PCam is read."""
    assert read_array(path, "x", 0, 6).dtype.kind in "iu"


read_any = functools.partial(Target, check=check_source)
DATA = (
    Target("pictures", picture_seeds, check_picture),
    read_any(name="shards", seeds=tar_seeds, make=random_tar),
    read_any(name="parquet", seeds=parquet_seeds),
    read_any(name="tables", seeds=table_seeds, make=random_table),
    Target("matlab", matlab_seeds, check_matlab),
    Target("hdf5", hdf5_seeds, check_hdf5),
)
