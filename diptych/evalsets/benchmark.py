"""Evaluation sets: images with one label each, class names, and prompt templates.

Three layouts are read. The layout of the clip-benchmark/wds_* sets:

    classnames.txt  zeroshot_classification_templates.txt  {split}/nshards.txt  {split}/{0,1,...}.tar or .tar.gz

Parquet files with images and labels as on the Hugging Face hub, such as data/{split}-00000-of-00001.parquet.
A folder of images per class: {split}/{class}/*.jpg or, without splits, {class}/*.jpg.
"""

import dataclasses
import hashlib
import itertools
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from diptych.data.image_files import PassedOver, list_class_folders, walk_images
from diptych.data.samples import decode_text, read_file
from diptych.data.shards import TAR_SUFFIXES, TarSource
from diptych.data.source import Source, WrappedSource
from diptych.data.tables import FolderSource
from diptych.errors import DataError, InputError
from diptych.evalsets.borders import BorderlessSource, is_object_net
from diptych.evalsets.card import Card
from diptych.evalsets.codes import are_codes, spoken_names
from diptych.evalsets.parquet_sets import is_parquet_set, open_parquet
from diptych.evalsets.prompts import DEFAULT_TEMPLATES, published_single
from diptych.evalsets.splits import SHARD_COUNT_FILE, SPLITS, split_folder
from diptych.files import expanded, looking_for, shown
from diptych.records import Broken, Sample

CLASS_NAMES_FILE = "classnames.txt"
WHOLE_FILE = "whole.txt"  # its presence says that the splits are generated, so no image can be missing
TEMPLATES_FILE = "zeroshot_classification_templates.txt"
_TYPE_FILE = "dataset_type.txt"

logger = logging.getLogger(__name__)

_MAX_LIST_BYTES, _MAX_SHARDS = 16 << 20, 1_000_000
_USUAL_SPLITS = {"train", "val", "valid", "validation", "test"}


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """An evaluation set.

    Attributes:
        name: the folder's name.
        split: "test", "train", ...
        class_names: C names, by class index.
        templates: T prompts; {c} stands for the class name.
        source: samples whose label is in [0, C); samples without such a label are Broken.
        fingerprint: SHA-256 over names, templates, and the source's shards.
        names: all names of each class; empty if no class has more than the name in `class_names`.
        single: the template for use without an ensemble; None for the first.
        card: the card of a set of the paper; None for other sets.
        names_in_files: the class names as the set's files spell them, if `class_names` differ from these.
        differs: a sentence on how the classes differ from the card's; empty if they are equal or there is no card.
        absent: the card's classes that the set does not have.
        ambiguous: classes to which the card gives the same name, so the set's names cannot identify them. Each entry is
            (class, its position in the set's own list).
        whole: the split is complete even if it does not show every class: it is generated, not collected.
        folder: the folder that `open_benchmark` read, with links resolved; None for sets from other sources.
    """

    name: str
    split: str
    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    source: Source
    fingerprint: str
    names: tuple[tuple[str, ...], ...] = ()
    single: str | None = None
    card: Card | None = None
    names_in_files: tuple[str, ...] = ()
    differs: str = ""
    absent: tuple[str, ...] = ()
    ambiguous: tuple[tuple[int, int], ...] = ()
    whole: bool = False
    folder: Path | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.source, Source):
            raise InputError(
                f"{self.name}: its source is {shown(self.source)}; inherit from diptych.data.source.Source, which "
                "requires shards, fingerprint and read(index)"
            )

    def __repr__(self) -> str:
        """Name, split and sizes; the lists of names and files would be too long."""
        parts = {"classes": self.class_names, "templates": self.templates, "shards": self.source.shards}
        counts = ", ".join(f"{len(items)} {kind}" for kind, items in parts.items())
        return f"Benchmark({self.name!r}, {self.split!r}, {counts})"


def open_benchmark(path: str | Path, split: str = "test") -> Benchmark:
    """Open an evaluation set in the wds layout, as parquet files, or with a folder per class.

    Parquet files contain the class names, or classnames.txt next to them does. With class folders, the classes are the
    sorted folders or links to folders; a class without images remains a class and is named in the log. In both forms
    underscores in names become spaces, and the template is "a photo of a {c}." unless a file gives others. WordNet ids
    become names if they are ImageNet's or words.txt in the set's folder lists them; other codes cause a warning. A
    file whole.txt says that the splits are complete even if they do not show every class. The folder or files of a
    split may use a synonym (validation, valid, dev, training, testing; see `splits.py`).

    Raises:
        DataError: a file or a shard is missing, there are fewer than two classes, a template has no {c}, or a list is
            not UTF-8. The message names the file.
    """
    path, argument = expanded(path), path
    with looking_for(path):
        is_folder = path.is_dir()
    if argument == "" or not is_folder:
        raise DataError(f"there is no folder {argument or repr('')} to evaluate on")
    if not isinstance(split, str):
        raise DataError(f"{path}: the split must be a string, such as test, not {shown(split)}")
    if (path / SHARD_COUNT_FILE).exists():
        raise DataError(f"{path} is one split of a set; give the set, {path.parent}, and the split, {path.name}")
    wds_files = [path / CLASS_NAMES_FILE, path / TEMPLATES_FILE, _folder_of(path, split) / SHARD_COUNT_FILE]
    if is_parquet_set(path, split):
        written, templates, source = _open_parquet(path, split)
    elif any(file.exists() for file in wds_files):
        written, templates, source = _open_wds(path, split)
    else:
        written, templates, source = _open_class_folders(path, split)
    spoken = spoken_names(written, path)
    source = BorderlessSource(source) if is_object_net(spoken) else source
    real = path.resolve()
    checked = check_benchmark(real.name, split, spoken, templates, source, (), published_single(templates))
    return dataclasses.replace(checked, names_in_files=tuple(written), whole=(path / WHOLE_FILE).is_file(), folder=real)


def warn_of_codes(benchmark: Benchmark) -> None:
    """Log a warning if class names are codes or numbers, which mean nothing to a text encoder."""
    has_templates = set(benchmark.templates) != set(DEFAULT_TEMPLATES)
    # Custom templates for numbers show that the classes really are numbers.
    numbers_intended = has_templates and all(name.isdigit() for name in benchmark.class_names)
    if are_codes(benchmark.class_names) and not numbers_intended:
        logger.warning(
            "%s: its class names look like codes, such as %r, which no text encoder knows: a zero-shot result means "
            "little; rename the class folders, or write names into %s",
            benchmark.name,
            benchmark.class_names[0],
            CLASS_NAMES_FILE,
        )


def check_benchmark(
    name: str,
    split: str,
    class_names: Sequence[str],
    templates: Sequence[str],
    source: Source,
    names: Sequence[Sequence[str]] = (),
    single: str | None = None,
    card: Card | None = None,
) -> Benchmark:
    """Check names and templates, and make a Benchmark of them and a labeled source.

    A set whose card has no classes has no names and no templates.

    Raises:
        DataError: there are fewer than two different classes, a class has no name, there is no template, or a template
            has no {c}.
    """
    if card is not None and not card.num_classes:
        return Benchmark(name, split, (), (), source, source.fingerprint, card=card)
    first: dict[str, int] = {}
    for index, class_name in enumerate(class_names):
        if not class_name.strip():
            raise DataError(f"{name}: class {index} has no name (line {index + 1} of {CLASS_NAMES_FILE} is empty)")
        if (other := first.setdefault(class_name.strip().lower(), index)) != index:
            # ImageNet's own list has such pairs ("missile", "sunglasses"), so this is no error.
            logger.warning(
                '%s: "%s" names class %d and class %d%s; texts cannot distinguish them, so the first is predicted',
                name,
                class_name.strip(),
                other,
                index,
                "" if class_names[other].strip() == class_name.strip() else ", for tokenizers that ignore case",
            )
    if len({class_name.strip() for class_name in class_names}) < 2:
        raise DataError(f"{name} has {len(first) or 'no'} class; a classifier needs two or more")
    if not templates:
        raise DataError(f"{name}: {TEMPLATES_FILE} has no template; write one per line, such as: a photo of a {{c}}.")
    for template in templates:
        if "{c}" not in template:
            raise DataError(f'{name}: the template "{template}" has no {{c}} where the class\'s name goes')
    synonyms = tuple(map(tuple, names)) if any(len(of_class) > 1 for of_class in names) else ()
    content: list[object] = [split, list(class_names), list(templates), source.fingerprint]
    content += [synonyms, single] if synonyms or single else []
    digest = hashlib.sha256(json.dumps(content).encode("utf-8", "surrogatepass")).hexdigest()
    source = LabelledSource(source, len(class_names))
    return Benchmark(name, split, tuple(class_names), tuple(templates), source, digest, synonyms, single, card)


@dataclasses.dataclass(frozen=True)
class LabelledSource(WrappedSource):
    """A source that keeps only samples with a label in [0, num_classes)."""

    source: Source
    num_classes: int

    def change(self, item: Sample | Broken, shard: str) -> Sample | Broken:
        """The item; a sample without a usable label becomes Broken."""
        if isinstance(item, Broken):
            has_neither = item.reason.startswith("no caption")  # its reader accepts a caption or a label
            return dataclasses.replace(item, reason=f"no label and {item.reason}") if has_neither else item
        if item.label is None:
            return Broken(item.key, shard, "no label")
        if not 0 <= item.label < self.num_classes:
            reason = f"label {item.label}, but the classes go from 0 to {self.num_classes - 1}"
            return Broken(item.key, shard, reason)
        return item


def _folder_of(path: Path, split: str) -> Path:
    """The folder of a split, whether it exists or not."""
    return split_folder(path, split) or path / split


def _open_wds(path: Path, split: str) -> tuple[list[str], list[str], Source]:
    folder = _folder_of(path, split)
    needed = [path / CLASS_NAMES_FILE, path / TEMPLATES_FILE, folder / SHARD_COUNT_FILE]
    if missing := [str(file.relative_to(path)) for file in needed if not file.exists()]:
        splits = ", ".join(sorted(file.parent.name for file in path.glob(f"*/{SHARD_COUNT_FILE}")))
        problem = f"{path} lacks {', '.join(missing)}; its splits are: {splits or 'none'}"
        if (path / _TYPE_FILE).is_file() and _read_lines(path / _TYPE_FILE) == ["retrieval"]:
            problem += ". It has captions instead of classes: diptych suite --task retrieval measures it"
        raise DataError(problem)
    class_names = _read_lines(needed[0])
    templates = [line for line in _read_lines(needed[1]) if line]
    return class_names, templates, open_shards(path, folder.name)


def open_shards(path: Path, split: str) -> Source:
    """The shards of a split in the wds layout, as many as nshards.txt says. A truncated shard counts as damaged.

    Raises:
        DataError: nshards.txt holds no valid number, or a shard is missing.
    """
    listed = path / split / SHARD_COUNT_FILE
    count = " ".join(_read_lines(listed))
    if not (count.isascii() and count.isdigit() and 0 < int(count[:9]) <= _MAX_SHARDS):
        raise DataError(f"{listed} should hold the number of shards; it says: {count[:80]}")
    shards = [_shard(path / split, number, count) for number in range(int(count))]
    return TarSource(tuple(shards), strict=True)


def _shard(folder: Path, number: int, count: str) -> Path:
    for suffix in TAR_SUFFIXES:
        if (shard := folder / f"{number}{suffix}").exists():
            return shard
    raise DataError(
        f"{folder / SHARD_COUNT_FILE} says {count} shards, but {folder / str(number)}.tar (or .tar.gz) is missing"
    )


def _read_lines(path: Path) -> list[str]:
    """The stripped lines, without trailing empty ones."""
    text = decode_text(read_file(path, _MAX_LIST_BYTES), str(path)).removeprefix("\ufeff")
    return [line.strip() for line in text.rstrip().split("\n")]


def _open_parquet(path: Path, split: str) -> tuple[list[str], list[str], Source]:
    names, source = open_parquet(path, split)
    if names is None and not (path / CLASS_NAMES_FILE).exists():
        raise DataError(f"{path}: its parquet files do not name their classes; write the names into {CLASS_NAMES_FILE}")
    class_names = _read_lines(path / CLASS_NAMES_FILE) if names is None else list(names)
    templates = _read_lines(path / TEMPLATES_FILE) if (path / TEMPLATES_FILE).exists() else DEFAULT_TEMPLATES
    return class_names, [line for line in templates if line], source


def _open_class_folders(path: Path, split: str) -> tuple[list[str], list[str], Source]:
    base = split_folder(path, split) or path
    passed_over = PassedOver()
    names = list_class_folders(base, passed_over)
    if base == path and (_USUAL_SPLITS.intersection(names) or any(split_folder(path, usual) for usual in SPLITS)):
        raise DataError(f"{path} has no split {split}; it has: {', '.join(names)}")
    if base == path and split != "test":
        raise DataError(
            f"{path} has no split {split}; a folder per class, without folders train and test, is a test split"
        )
    images = {name: sorted(f"{name}/{image}" for image in walk_images(base / name, passed_over)) for name in names}
    if not any(images.values()):
        raise DataError(
            f"{path} holds no evaluation set: neither {CLASS_NAMES_FILE}, {TEMPLATES_FILE} and "
            f"{split}/{SHARD_COUNT_FILE} nor images in a folder per class ({split}/cat/1.jpg, {split}/dog/1.jpg)"
            f"{passed_over.notice(before='; ')}"
        )
    passed_over.log(base)
    if empty := [name for name in names if not images[name]]:
        logger.warning("%s has classes without images: %s", base, ", ".join(empty)[:500])
    in_order = tuple(sorted(itertools.chain.from_iterable(images.values())))
    source = FolderSource(base, in_order, {name: index for index, name in enumerate(names)})
    return names, list(DEFAULT_TEMPLATES), source
