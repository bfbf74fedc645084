"""Archives of raw pixels: CIFAR10, CIFAR100, CIFAR10.1, MNIST, STL10. Slices are read on demand."""

import dataclasses
import functools
import gzip
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from diptych.data.samples import fingerprint
from diptych.data.source import Source
from diptych.errors import DataError
from diptych.evalsets.archive_registry import Layout, register
from diptych.evalsets.archives.reading import ClassIndex, check_split, either, find_file, inner, lines, number
from diptych.evalsets.set_sources import ArraySource


@dataclasses.dataclass(frozen=True)
class Records:
    """Images of one size in files of consecutive records of equal length.

    Attributes:
        files: the files, in order.
        counts: the number of records in each file.
        skip: number of bytes before the pixels in each record.
        shape: (planes, height, width) of a record's pixels.
        columns: the pixels of a plane are stored column by column.
    """

    files: tuple[Path, ...]
    counts: tuple[int, ...]
    skip: int
    shape: tuple[int, int, int]
    columns: bool = False

    def __call__(self, first: int, last: int) -> np.ndarray:
        """Images `first` to `last` (exclusive), uint8 (n, height, width, 3).

        Raises:
            DataError: a file has become shorter or no longer exists.
        """
        planes, height, width = self.shape
        length, parts, start = self.skip + planes * height * width, [], 0
        for file, count in zip(self.files, self.counts, strict=True):
            begin, end = max(first - start, 0), min(last - start, count)
            if begin < end:
                try:
                    part = np.fromfile(file, np.uint8, (end - begin) * length, offset=begin * length)
                    parts.append(part.reshape(end - begin, length)[:, self.skip :])
                except (OSError, ValueError) as error:
                    raise DataError(f"cannot read images {begin} to {end - 1} of {file}: {error}") from None
            start += count
        pixels = np.concatenate(parts) if parts else np.empty((0, planes * height * width), np.uint8)
        if self.columns:
            return np.ascontiguousarray(pixels.reshape(-1, planes, width, height).transpose(0, 3, 2, 1))
        return np.ascontiguousarray(pixels.reshape(-1, planes, height, width).transpose(0, 2, 3, 1))

    def leading(self) -> np.ndarray:
        """The bytes before the pixels of each record, uint8 (N, skip)."""
        planes, height, width = self.shape
        parts = []
        for file in self.files:
            table = np.memmap(file, np.uint8, "r").reshape(-1, self.skip + planes * height * width)
            parts.append(np.array(table[:, : self.skip]))
        return np.concatenate(parts)


def records(files: Sequence[Path], skip: int, shape: tuple[int, int, int], *, columns: bool = False) -> Records:
    """Records of these files; their sizes are checked.

    Raises:
        DataError: a file is empty, or its size is not a multiple of the record length.
    """
    length, counts = skip + shape[0] * shape[1] * shape[2], []
    for file in files:
        count, rest = divmod(file.stat().st_size, length)
        if rest or not count:
            raise DataError(f"{file} does not consist of whole records of {length} bytes: download it again")
        counts.append(count)
    return Records(tuple(files), tuple(counts), skip, shape, columns)


def read_cifar10(folder: Path, split: str) -> Source:
    """cifar-10-batches-bin: data_batch_1.bin to data_batch_5.bin, test_batch.bin, batches.meta.txt."""
    check_split("CIFAR-10", split, "train", "test")
    folder = inner(folder, "cifar-10-batches-bin")
    names = [f"data_batch_{part}.bin" for part in range(1, 6)] if split == "train" else ["test_batch.bin"]
    return _cifar(folder, split, names, 1, ClassIndex("CIFAR10"), "batches.meta.txt")


def read_cifar100(folder: Path, split: str) -> Source:
    """cifar-100-binary: train.bin, test.bin, fine_label_names.txt. The fine label, a record's second one, is used."""
    check_split("CIFAR-100", split, "train", "test")
    folder = inner(folder, "cifar-100-binary")
    return _cifar(folder, split, [f"{split}.bin"], 2, ClassIndex("CIFAR100"), "fine_label_names.txt")


def _cifar(folder: Path, split: str, names: list[str], skip: int, classes: ClassIndex, listed: str) -> Source:
    order = classes.order((line for _, line in lines(find_file(folder, listed))), str(folder / listed))
    files = [find_file(folder, name) for name in names]
    pixels = records(files, skip, (3, 32, 32))
    labels = _labels(pixels.leading()[:, -1], order, 0, str(files[0]))
    return ArraySource(split, pixels, labels, fingerprint(files, names), tuple(files))


def python_version(folder: Path, split: str) -> Source:
    """Always raises DataError: the "python version" of CIFAR consists of pickles, which can run any code."""
    raise DataError(
        f"{folder} has the Python version of CIFAR, which is pickled; get the binary version, cifar-10-binary.tar.gz "
        "or cifar-100-binary.tar.gz, from the same page and unpack it there"
    )


def read_cifar10_1(folder: Path, split: str) -> Source:
    """CIFAR-10.1, test set only: cifar10.1_v6_data.npy (2,000 images), or else v4 (2,021), and its _labels.npy."""
    check_split("CIFAR-10.1", split, "test")
    folder = inner(folder, "datasets")
    path = find_file(folder, "cifar10.1_v6_data.npy", "cifar10.1_v4_data.npy")
    labeled = find_file(folder, path.name.replace("_data", "_labels"))
    pixels, labels = _npy(path), _npy(labeled)
    if pixels.ndim != 4 or pixels.shape[1:] != (32, 32, 3) or pixels.dtype != np.uint8:
        raise DataError(f"{path} has {pixels.dtype} {pixels.shape}, not uint8 (N, 32, 32, 3)")
    if labels.shape != pixels.shape[:1] or labels.dtype.kind not in "iu":
        raise DataError(f"{labeled} has {labels.dtype} {labels.shape} for {len(pixels)} images")
    checked = _labels(labels, tuple(range(10)), 0, str(labeled))
    files = (path, labeled)
    return ArraySource(path.stem, _Slices(path), checked, fingerprint(files, [file.name for file in files]), files)


def read_mnist(folder: Path, split: str) -> Source:
    """The idx files train-images-idx3-ubyte, train-labels-idx1-ubyte and t10k-..., plain or .gz."""
    check_split("MNIST", split, "train", "test")
    folder, prefix = inner(folder, "MNIST/raw", "raw"), {"train": "train", "test": "t10k"}[split]
    images, labels = (
        find_file(folder, *(f"{prefix}-{what}{dash}{kind}-ubyte{end}" for dash in "-." for end in ("", ".gz")))
        for what, kind in (("images", "idx3"), ("labels", "idx1"))
    )
    pixels, classes = _idx(images, 3), _idx(labels, 1)
    if len(pixels) != len(classes):
        raise DataError(f"{images} has {len(pixels)} images, {labels} has {len(classes)} labels")
    digest = fingerprint([images, labels], [images.name, labels.name])
    return ArraySource(
        split, _Digits(images), _labels(classes, tuple(range(10)), 0, str(labels)), digest, (images, labels)
    )


def read_stl10(folder: Path, split: str) -> Source:
    """stl10_binary: train_X.bin, train_y.bin, test_X.bin, test_y.bin, class_names.txt.

    "train" is all 5,000 labeled images. The paper trains on each of the ten folds of 1,000; see `stl10_folds`.
    """
    check_split("STL-10", split, "train", "test")
    folder = inner(folder, "stl10_binary")
    order = ClassIndex("STL10").order(
        (line for _, line in lines(find_file(folder, "class_names.txt"))), str(folder / "class_names.txt")
    )
    images, labels = find_file(folder, f"{split}_X.bin"), find_file(folder, f"{split}_y.bin")
    pixels, classes = records([images], 0, (3, 96, 96), columns=True), np.fromfile(labels, np.uint8)
    if sum(pixels.counts) != len(classes):
        raise DataError(f"{images} has {sum(pixels.counts)} images, {labels} has {len(classes)} labels")
    digest = fingerprint([images, labels], [images.name, labels.name])
    return ArraySource(split, pixels, _labels(classes, order, 1, str(labels)), digest, (images, labels))


def read_stl10_fold(folder: Path, split: str, fold: int) -> Source:
    """As `read_stl10`, but with the training images of one fold (1 to 10). All folds share the test set.

    Raises:
        DataError: as for `read_stl10`, or there is no such fold.
    """
    whole = read_stl10(folder, split)
    folds = stl10_folds(folder)
    if not 1 <= fold <= len(folds):
        raise DataError(f"STL-10 has the folds 1 to {len(folds)}, not {fold}")
    if split == "test" or not isinstance(whole, ArraySource):
        return whole
    chosen = folds[fold - 1]
    pixels = _Chosen(whole.pixels, tuple(chosen.tolist()))
    digest = f"{whole.digest} {chosen.tolist()}"
    return ArraySource(f"{split}-fold-{fold}", pixels, whole.labels[chosen], digest, whole.paths)


def stl10_folds(folder: str | Path) -> list[np.ndarray]:
    """The ten predefined folds of STL-10's training images.

    Args:
        folder: the set's folder, as for `read_stl10`.
    Returns:
        Ten int64 arrays of indices into the split "train"; each has 1,000 in the complete archive.
    Raises:
        DataError: fold_indices.txt is missing, does not have ten lines, or has an index without an image.
    """
    folder = inner(Path(folder), "stl10_binary")
    total = find_file(folder, "train_y.bin").stat().st_size
    path = find_file(folder, "fold_indices.txt")
    folds = [np.array([number(text, where, 0, total - 1) for text in line.split()]) for where, line in lines(path)]
    if len(folds) != 10:
        raise DataError(f"{path} has {len(folds)} lines; it should have ten, one per fold")
    return folds


def _labels(numbers: np.ndarray, order: tuple[int, ...], first: int, where: str) -> np.ndarray:
    """Convert the archive's class numbers, which start at `first`, to class indices."""
    positions = np.asarray(numbers, np.int64) - first
    if len(wrong := np.flatnonzero((positions < 0) | (positions >= len(order)))):
        raise DataError(f"{where}: image {wrong[0]} has class {positions[wrong[0]] + first}, not one of {len(order)}")
    return np.array(order, np.int64)[positions]


@dataclasses.dataclass(frozen=True)
class _Chosen:
    """Slices of a subset of images."""

    read: Callable[[int, int], np.ndarray]
    indices: tuple[int, ...]

    def __call__(self, first: int, last: int) -> np.ndarray:
        return np.concatenate([self.read(index, index + 1) for index in self.indices[first:last]])


@dataclasses.dataclass(frozen=True)
class _Slices:
    """Slices of an .npy file."""

    path: Path

    def __call__(self, first: int, last: int) -> np.ndarray:
        return np.array(_npy(self.path)[first:last])


@dataclasses.dataclass(frozen=True)
class _Digits:
    """Slices of grayscale images, as three equal channels."""

    path: Path

    def __call__(self, first: int, last: int) -> np.ndarray:
        return np.repeat(_idx(self.path, 3)[first:last, :, :, None], 3, axis=3)


def _npy(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r")  # NumPy rejects pickled objects by default
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read as an .npy file: {error}") from None


def _idx(path: Path, dimensions: int) -> np.ndarray:
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    return _read_idx(path, dimensions, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _read_idx(path: Path, dimensions: int, *_version: int) -> np.ndarray:
    """An idx file of bytes. It is cached (at most 47 MB in MNIST), since .gz has no random access."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(4 + 4 * dimensions)
            shape = [int.from_bytes(header[start : start + 4], "big") for start in range(4, len(header), 4)]
            size = int(np.prod([float(side) for side in shape])) if len(header) == 4 + 4 * dimensions else 0
            if header[:4] != bytes([0, 0, 8, dimensions]) or not 0 < size <= 1 << 30:
                raise ValueError(f"its header is {header[:16].hex()}")
            data = file.read(size + 1)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read as an idx file of {dimensions} dimensions: {error}") from None
    if len(data) != size:
        raise DataError(
            f"{path} should have {size} bytes after its header; it has {'fewer' if len(data) < size else 'more'}"
        )
    return np.frombuffer(data, np.uint8).reshape(shape)


register(
    {
        "CIFAR10": (
            *either(read_cifar10, "batches.meta.txt", "test_batch.bin", "cifar-10-batches-bin"),
            *either(python_version, "cifar-10-batches-py", "data_batch_1"),
        ),
        "CIFAR100": (
            *either(read_cifar100, "fine_label_names.txt", "test.bin", "cifar-100-binary"),
            *either(python_version, "cifar-100-python", "meta"),
        ),
        "CIFAR10.1": tuple(
            Layout(read_cifar10_1, (need,))
            for need in ("cifar10.1_v*_data.npy", "cifar10.1_v*_labels.npy", "datasets/cifar10.1_v*_data.npy")
        ),
        "MNIST": either(
            read_mnist,
            "t10k-images*",
            "train-images*",
            "t10k-labels*",
            "train-labels*",
            "MNIST/raw/*ubyte*",
            "raw/*ubyte*",
        ),
        "STL10": tuple(
            Layout(read_stl10, (need,), read_fold=read_stl10_fold)
            for need in ("class_names.txt", "test_X.bin", "train_X.bin", "stl10_binary")
        ),
    }
)
