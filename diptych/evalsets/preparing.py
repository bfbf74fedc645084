"""Makes the paper's derived sets from their sources, by seeded rules, in the clip-benchmark/wds layout."""

import dataclasses
import itertools
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from PIL import __version__ as pillow_version
from rich.console import Console
from rich.progress import track

from diptych.data.shards import write_shards
from diptych.errors import DataError, InputError
from diptych.evalsets import countries, derived, rendering
from diptych.evalsets.archives.reading import SEED
from diptych.evalsets.benchmark import CLASS_NAMES_FILE, TEMPLATES_FILE
from diptych.evalsets.cards import CARDS
from diptych.evalsets.derived import Draft
from diptych.evalsets.prompts import get_prompts
from diptych.files import expanded, new_folder, writing
from diptych.records import Sample

MANIFEST = "prepared.json"

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Preparation:
    """How a derived set is made.

    Attributes:
        source: describes the source.
        rule: describes which images the set gets.
        draft: maps the source and the seed to the content of the set.
    """

    source: str
    rule: str
    draft: Callable[[Path, int], Draft]


PREPARED: Mapping[str, Preparation] = MappingProxyType(
    {
        "Country211": Preparation(
            "a .csv or .parquet of geotagged photos with the columns path, latitude, longitude and country (ISO 3166)",
            "150 training, 50 validation and 100 test photos of each country with 300 photos or more",
            countries.country211,
        ),
        "RenderedSST2": Preparation(
            "a folder with train.tsv, dev.tsv and test.tsv of SST-2: per line a sentence and its label, 0 or 1",
            "each sentence as an image, black on white, 448 x 448 pixels",
            rendering.rendered_sst2,
        ),
        "CLEVRCounts": Preparation(
            "the folder CLEVR_v1.0, unpacked",
            "2,000 of the training images and 500 of the validation images, by their number of objects",
            derived.clevr_counts,
        ),
        "KITTI": Preparation(
            "the folder that holds training/image_2 and training/label_2 of the object detection set, and mapping/",
            "classes by the nearest vehicle: up to 8 m, up to 20 m, further, none; test by drives, or 711 images",
            derived.kitti,
        ),
        "EuroSAT": Preparation(
            "the folder 2750 of EuroSAT's RGB archive",
            "1,000 training and 500 test images of each class",
            derived.eurosat,
        ),
        "RESISC45": Preparation(
            "the folder NWPU-RESISC45",
            "70 training and 560 test images of each class",
            derived.resisc45,
        ),
    }
)
"""By card name."""


def prepare(name: str, source: str | Path, out: str | Path, *, seed: int = SEED) -> Path:
    """Make a derived set of the paper, in the wds layout, with a manifest that records how it was made.

    The same source and seed give the same bytes. The folder appears complete or not at all.

    Args:
        name: one of PREPARED.
        source: the source of the set; see PREPARED.
        out: the set's new folder. If it is named like the card, it is found in the folder of sets.
        seed: of the sampling. With the default, EuroSAT, RESISC45, CLEVRCounts and KITTI get the same images as their
            archives do when they are read directly.
    Returns:
        The folder.
    Raises:
        InputError: there is no such derived set.
        DataError: the folder exists already, the source is incomplete or broken, or the disk is full. The message
            names the file.
    """
    if name not in PREPARED:
        raise InputError(f"{name!r} is not a derived set; the derived sets are: {', '.join(PREPARED)}")
    source, out = expanded(source), expanded(out)
    if out.exists():
        raise DataError(f"{out} exists already: choose another folder, or delete it first")
    if not source.exists():
        raise DataError(f"there is no {source}; {name} is made from {PREPARED[name].source}")
    draft = PREPARED[name].draft(source, seed)
    expected = CARDS[name].num_classes
    if len(draft.class_names) != expected:
        text = "%s: %d classes, the paper has %d: results are not comparable with the paper's"
        logger.warning(text, name, len(draft.class_names), expected)
    with writing(out), new_folder(out) as unfinished:
        _write(name, draft, unfinished, seed)
    return out


def _write(name: str, draft: Draft, folder: Path, seed: int) -> None:
    templates = get_prompts(name).templates
    (folder / CLASS_NAMES_FILE).write_text("\n".join(draft.class_names) + "\n", encoding="utf-8")
    (folder / TEMPLATES_FILE).write_text("\n".join(templates) + "\n", encoding="utf-8")
    numbers = itertools.count()
    per_class = {}
    for split, entries in draft.splits.items():
        labels = [label for _, label in entries]
        if len(set(labels)) < 2:
            raise DataError(f"{name}: all {len(labels)} {split} images are of one class; is the source complete?")
        per_class[split] = [labels.count(label) for label in range(len(draft.class_names))]
        write_shards(_with_bar(_samples(draft, split, numbers), f"{name} {split}", len(entries)), folder / split)
    manifest = {
        "set": name,
        "rule": PREPARED[name].rule,
        "seed": seed,
        "sizes": {split: len(entries) for split, entries in draft.splits.items()},
        "paper_sizes": CARDS[name].paper_sizes,
        "per_class": per_class,
        **draft.remarks,
        "pillow": pillow_version,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _samples(draft: Draft, split: str, numbers: Iterator[int]) -> Iterator[Sample]:
    for name, label in draft.splits[split]:
        yield Sample(f"{next(numbers):07d}", draft.load(name), (), label, {"file": name})


def _with_bar(samples: Iterator[Sample], description: str, total: int) -> Iterator[Sample]:
    console = Console(stderr=True)
    yield from track(samples, description, total, console=console, transient=True, disable=not sys.stderr.isatty())
