"""Cards of one's own sets: whatever folder `open_benchmark` reads can be measured by every task of the suite."""

import logging
from pathlib import Path

from diptych.data.benchmarks import open_benchmark
from diptych.data.cards.card import Card
from diptych.data.cards.opening import find_folder
from diptych.data.cards.table import CARDS
from diptych.errors import DataError

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")


def own_cards(root: str | Path) -> list[Card]:
    """A card for each folder below root that holds an evaluation set and belongs to no card of the paper.

    Raises:
        DataError: there is no such folder.
    """
    known = {folder for card in CARDS.values() if (folder := find_folder(card, root)) is not None}
    found = []
    for folder in sorted(Path(root).expanduser().iterdir()):
        if not folder.is_dir() or folder.name.startswith(".") or folder in known:
            continue
        try:
            found.append(own_card(folder))
        except DataError as error:
            logger.info("%s is no evaluation set: %s", folder, error)
    return found


def own_card(folder: str | Path) -> Card:
    """The card of a set in the clip-benchmark/wds layout, in parquet files or with a folder per class.

    Its metric is accuracy, its words are those that lie beside it; sizes of splits are not known (0).

    Raises:
        DataError: it holds no test split that can be read.
    """
    folder = Path(folder)
    test = open_benchmark(folder, "test")
    splits = {split: 0 for split in SPLITS if split == "test" or _has(folder, split)}
    return Card(
        name=folder.name,
        title=folder.name,
        task="classification",
        num_classes=len(test.class_names),
        splits=splits,
        metric="accuracy",
        paper_sizes=None,
        prompts=None,
        folders=(),
        homepage=str(folder),
        hub=None,
        split_rule="as its folder has them",
        group="other",
    )


def _has(folder: Path, split: str) -> bool:
    try:
        open_benchmark(folder, split)
    except DataError:
        return False
    # Class folders without splits open under any name, and would be trained on what they are tested on.
    return (folder / split).is_dir()
