"""An encoder that knows every answer has the perfect number in every task, on the archive of every card.

`painted.py` makes the archives: miniatures in their layouts, whose pictures say what they show.
"""

import pytest
from oracle import shown_by, write_copy
from painted import paint

from diptych.evalsets.cards import CARDS
from diptych.evalsets.imagenet_classes import wordnet_ids
from diptych.evalsets.opening import open_card
from diptych.evaluate.suite import run_suite
from diptych.evaluate.tasks.registry import TASKS
from diptych.evaluate.tasks.task import Setting

VIDEOS = ("UCF101", "Kinetics700", "RareAct")
ALONE = (
    *("Food101", "Birdsnap", "SUN397", "OxfordPets", "RESISC45", "CLEVRCounts", "HatefulMemes"),
    *("CIFAR10", "CIFAR100", "STL10", "SVHN-Numbers"),
)
"""Whose miniatures have one picture of a class to learn from, and no validation split: none can be held out."""


def labels_of(name, root, split):
    source = open_card(CARDS[name], root, split).source
    return {one.label for index in range(len(source.shards)) for one in source.read(index)}


def is_perfect(result) -> bool:
    """Whether it is the best number that there can be: of a class without a training picture nothing can be learned."""
    unlearned = result.run["settings"].get("classes", {}).get("unlearned", 0) if "settings" in result.run else 0
    if result.metric == "median_error_km":
        return result.value == 0
    return result.value == 1 or (unlearned > 0 and result.value == pytest.approx(1 - unlearned / result.n))


LARGE = ("Caltech101", "Birdsnap")


EVERY = [pytest.param(one, id=one.name, marks=[pytest.mark.long] * (one.name in LARGE)) for one in CARDS.values()]


@pytest.mark.parametrize("card", EVERY)
def test_every_task_on_the_archive(card, tmp_path):
    if card.name in VIDEOS:
        pytest.importorskip("av")
    root = tmp_path / "sets"
    oracle = paint(card.name, root / card.name)
    if card.group == "shift":  # probes learn on ImageNet, of which a copy lies beside
        wanted = sorted({shown_by(card, label) for label in labels_of(card.name, root, "test")} | {0, 1})
        ids = dict(enumerate(wordnet_ids()))
        write_copy(root / "ImageNet", CARDS["ImageNet"], {"train": 2 * wanted}, ids, list(range(1000)))
    tasks = [task for task in TASKS.values() if task.applies(card) and task.name != "shifts"]
    found = run_suite(oracle, tasks, [card], Setting(root, partial=True), tmp_path / "out")
    left_out = {one.task: one.reason for one in found.skipped}
    alone = {"linear_probe", "projected_probe"} if card.name in ALONE else set()
    assert left_out.keys() == alone and all("has only one row" in one for one in left_out.values())
    assert {one.task for one in found.results} >= {task.name for task in tasks} - alone
    assert [one for one in found.results if not is_perfect(one)] == []
