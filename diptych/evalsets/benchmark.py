"""Evaluation sets: pictures with one label each, the classes' names and the templates of their prompts.

Three layouts are read: that of the clip-benchmark/wds_* sets,

    classnames.txt  zeroshot_classification_templates.txt  {split}/nshards.txt  {split}/{0,1,...}.tar or .tar.gz

parquet files with pictures and labels, data/{split}-00000-of-00001.parquet and the like, as on the Hugging Face hub,
and a folder of pictures per class, {split}/{class}/*.jpg or, without splits, {class}/*.jpg.
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
from diptych.files import expanded, shown
from diptych.records import Broken, Sample

CLASS_NAMES_FILE = "classnames.txt"
WHOLE_FILE = "whole.txt"  # beside it: the splits are drawn, not collected, so that no picture can be missing
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
        templates: T prompts, with {c} where a class's name goes.
        source: samples whose label is in [0, C); those without are Broken.
        fingerprint: SHA-256 over names, templates, and the source's shards.
        names: all names of each class; empty where each class has the one in `class_names` alone.
        single: the template to use alone; None for the first.
        card: of a set of the paper; None for others.
        written: the class names as the set's files have them, where `class_names` say them in other words.
        differs: how the classes differ from the card's, in words; empty where they are the card's, or there is no card.
        absent: the card's classes that the set does not have.
        unsure: classes that the card calls by one name, so that the set's names do not tell which is which: (class, its
            place in the set's own list) each.
        whole: the split has all its pictures, whatever classes they show: it is drawn, not collected.
        folder: where `open_benchmark` found it, links followed; None of others.
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
    written: tuple[str, ...] = ()
    differs: str = ""
    absent: tuple[str, ...] = ()
    unsure: tuple[tuple[int, int], ...] = ()
    whole: bool = False
    folder: Path | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.source, Source):
            raise InputError(
                f"{self.name}: its source is {shown(self.source)}; inherit from diptych.data.source.Source, which asks "
                "for shards, fingerprint and read(index)"
            )

    def __repr__(self) -> str:
        """What it is and how large, not all of its names and files."""
        parts = {"classes": self.class_names, "templates": self.templates, "shards": self.source.shards}
        counts = ", ".join(f"{len(of)} {what}" for what, of in parts.items())
        return f"Benchmark({self.name!r}, {self.split!r}, {counts})"


def open_benchmark(path: str | Path, split: str = "test") -> Benchmark:
    """Open an evaluation set in the wds layout, as parquet files, or with a folder per class.

    Parquet files name their classes themselves, or classnames.txt beside them does. In class folders the classes are
    the folders, sorted, or links to folders; a class without pictures stays a class and is named in the log. In both
    underscores in names become spaces, and the template is "a photo of a {c}." where no file gives others. WordNet ids
    of ImageNet's classes, and those that words.txt beside them names, become names; other codes are warned of. A file
    whole.txt says that the splits have all their pictures, whatever classes they show. A split's folder or files may
    have another word for it (validation, valid, dev, training, testing; `cards/splits.py`).

    Raises:
        DataError: a file or a shard is missing, there are fewer than two classes, a template has no {c}, or a list is
            not UTF-8; the message names the file.
    """
    path, given = expanded(path), path
    if given == "" or not path.is_dir():
        raise DataError(f"there is no folder {given or repr('')} to evaluate on")
    if not isinstance(split, str):
        raise DataError(f"{path}: a split is named by a text, such as test, not by {shown(split)}")
    if (path / SHARD_COUNT_FILE).exists():
        raise DataError(f"{path} is one split of a set; name the set, {path.parent}, and the split, {path.name}")
    named = [path / CLASS_NAMES_FILE, path / TEMPLATES_FILE, _folder_of(path, split) / SHARD_COUNT_FILE]
    if is_parquet_set(path, split):
        written, templates, source = _open_parquet(path, split)
    elif any(file.exists() for file in named):
        written, templates, source = _open_wds(path, split)
    else:
        written, templates, source = _open_class_folders(path, split)
    spoken = spoken_names(written, path)
    source = BorderlessSource(source) if is_object_net(spoken) else source
    real = path.resolve()
    found = check_benchmark(real.name, split, spoken, templates, source, (), published_single(templates))
    return dataclasses.replace(found, written=tuple(written), whole=(path / WHOLE_FILE).is_file(), folder=real)


def warn_of_codes(benchmark: Benchmark) -> None:
    """Say so where class names are codes or numbers, of which a text encoder knows nothing."""
    meant = set(benchmark.templates) != set(DEFAULT_TEMPLATES) and all(name.isdigit() for name in benchmark.class_names)
    if are_codes(benchmark.class_names) and not meant:  # templates of one's own for numbers: numbers are meant
        logger.warning(
            "%s: its class names look like codes, such as %r, which no text encoder knows: a zero-shot number means "
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
    """Check names and templates, and join them with a labelled source. Sets whose card has no classes have neither.

    Raises:
        DataError: fewer than two different classes, one without a name, no template, or one without {c}.
    """
    if card is not None and not card.num_classes:
        return Benchmark(name, split, (), (), source, source.fingerprint, card=card)
    first: dict[str, int] = {}
    for index, class_name in enumerate(class_names):
        if not class_name.strip():
            raise DataError(f"{name}: class {index} has no name (line {index + 1} of {CLASS_NAMES_FILE} is empty)")
        if (other := first.setdefault(class_name.strip().lower(), index)) != index:
            # ImageNet's own list has such pairs ("missile", "sunglasses"): measurable, though never told apart.
            logger.warning(
                '%s: "%s" names class %d and class %d%s; texts cannot tell them apart: the first is predicted',
                name,
                class_name.strip(),
                other,
                index,
                "" if class_names[other].strip() == class_name.strip() else ", for tokenizers that see no capitals",
            )
    if len({class_name.strip() for class_name in class_names}) < 2:
        raise DataError(f"{name} has {len(first) or 'no'} class; a classifier needs two or more")
    if not templates:
        raise DataError(f"{name}: {TEMPLATES_FILE} has no template; write one per line, such as: a photo of a {{c}}.")
    for template in templates:
        if "{c}" not in template:
            raise DataError(f'{name}: the template "{template}" has no {{c}} where the class\'s name goes')
    several = tuple(map(tuple, names)) if any(len(one) > 1 for one in names) else ()
    content: list[object] = [split, list(class_names), list(templates), source.fingerprint]
    content += [several, single] if several or single else []
    digest = hashlib.sha256(json.dumps(content).encode("utf-8", "surrogatepass")).hexdigest()
    source = LabelledSource(source, len(class_names))
    return Benchmark(name, split, tuple(class_names), tuple(templates), source, digest, several, single, card)


@dataclasses.dataclass(frozen=True)
class LabelledSource(WrappedSource):
    """A source of which only samples with a label in [0, num_classes) are used."""

    source: Source
    num_classes: int

    def change(self, item: Sample | Broken, shard: str) -> Sample | Broken:
        """The item; a sample without a usable label becomes Broken."""
        if isinstance(item, Broken):
            lacks = item.reason.startswith("no caption")  # its reader would have taken either
            return dataclasses.replace(item, reason=f"no label and {item.reason}") if lacks else item
        if item.label is None:
            return Broken(item.key, shard, "no label")
        if not 0 <= item.label < self.num_classes:
            reason = f"label {item.label}, but the classes go from 0 to {self.num_classes - 1}"
            return Broken(item.key, shard, reason)
        return item


def _folder_of(path: Path, split: str) -> Path:
    """Where a split lies, or would lie."""
    return split_folder(path, split) or path / split


def _open_wds(path: Path, split: str) -> tuple[list[str], list[str], Source]:
    folder = _folder_of(path, split)
    named = [path / CLASS_NAMES_FILE, path / TEMPLATES_FILE, folder / SHARD_COUNT_FILE]
    if missing := [str(file.relative_to(path)) for file in named if not file.exists()]:
        splits = ", ".join(sorted(file.parent.name for file in path.glob(f"*/{SHARD_COUNT_FILE}")))
        lacks = f"{path} lacks {', '.join(missing)}; its splits are: {splits or 'none'}"
        if (path / _TYPE_FILE).is_file() and _read_lines(path / _TYPE_FILE) == ["retrieval"]:
            lacks += ". It has captions instead of classes: diptych suite --task retrieval measures it"
        raise DataError(lacks)
    class_names = _read_lines(named[0])
    templates = [line for line in _read_lines(named[1]) if line]
    return class_names, templates, open_shards(path, folder.name)


def open_shards(path: Path, split: str) -> Source:
    """The shards of a split in the wds layout, as many as nshards.txt says; every sample of them counts.

    Raises:
        DataError: the number is none, or a shard is missing.
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
    """The stripped lines, without empty ones at the end."""
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
    pictures = {name: sorted(f"{name}/{image}" for image in walk_images(base / name, passed_over)) for name in names}
    if not any(pictures.values()):
        raise DataError(
            f"{path} holds no evaluation set: neither {CLASS_NAMES_FILE}, {TEMPLATES_FILE} and "
            f"{split}/{SHARD_COUNT_FILE} nor pictures in a folder per class ({split}/cat/1.jpg, {split}/dog/1.jpg)"
            f"{passed_over.notice(before='; ')}"
        )
    passed_over.log(base)
    if empty := [name for name in names if not pictures[name]]:
        logger.warning("%s has classes without pictures: %s", base, ", ".join(empty)[:500])
    in_order = tuple(sorted(itertools.chain.from_iterable(pictures.values())))
    source = FolderSource(base, in_order, {name: index for index, name in enumerate(names)})
    return names, list(DEFAULT_TEMPLATES), source
