"""A benchmark card: what the protocol fixes about one evaluation set, whatever form its files come in."""

import dataclasses
from collections.abc import Mapping

from diptych.errors import ConfigError

TASKS = ("classification", "multi_label", "video", "retrieval", "geolocation")
METRICS = (
    "accuracy",
    "mean_per_class_accuracy",
    "mean_average_precision_11_point",
    "roc_auc",
    "mean_of_top_1_and_5",
    "recall_at_1",
    "within_25_km",
    "mean_weighted_average_precision",
)


@dataclasses.dataclass(frozen=True, slots=True)
class Card:
    """One evaluation set of the paper.

    Attributes:
        name: what results call it, and its folder's usual name ("Food101").
        title: as the paper's tables print it ("Food-101").
        task: one of TASKS.
        num_classes: of the data, which is not always what the paper prints; 0 where there are none.
        splits: pictures (clips, ...) of each split in its original archive, e.g. {"train": 75750, "test": 25250}. "val"
            is there only where the authors of the set provide one; what the paper subsets has the subset's size.
        metric: the one that the paper reports, one of METRICS.
        paper_sizes: (train, test) of the paper's table 9; None for sets outside of it.
        prompts: the row of the prompts table with its class names and templates; None where there is none.
        folders: other names under which its folder is looked for, e.g. ("food-101", "wds_food101").
        homepage: where the original archive is to be had.
        hub: a data set on the Hugging Face hub in a form that is read here, or None.
        split_rule: how training, validation and test pictures are told apart, in words.
        traps: what goes wrong with this set, one sentence each.
        group: "paper27" (table 9), "shift" (the natural shifts of ImageNet), or "other".
    """

    name: str
    title: str
    task: str
    num_classes: int
    splits: Mapping[str, int]
    metric: str
    paper_sizes: tuple[int, int] | None
    prompts: str | None
    folders: tuple[str, ...]
    homepage: str
    hub: str | None
    split_rule: str
    traps: tuple[str, ...] = ()
    group: str = "paper27"

    def __post_init__(self) -> None:
        if self.task not in TASKS or self.metric not in METRICS or self.group not in ("paper27", "shift", "other"):
            raise ConfigError(f"card {self.name}: task {self.task}, metric {self.metric} or group {self.group}")
