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


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One evaluation set: all that the protocol fixes about it, in one row of a table.

    Attributes:
        name: what results call it, and its folder's usual name ("Food101").
        title: as the paper's tables print it ("Food-101").
        task: one of TASKS.
        num_classes: of the data, which is not always what the paper prints; 0 where there are none.
        splits: images (clips, ...) of each split in its original archive, e.g. {"train": 75750, "test": 25250}. "val"
            is there only where the authors of the set provide one; what the paper subsets has the subset's size.
        metric: the one that the paper reports, one of METRICS.
        paper_sizes: (train, test) of the paper's table 9; None for sets outside of it.
        prompts: the row of the prompts table with its class names and templates; None where there is none.
        folders: other names under which its folder is looked for, e.g. ("food-101", "wds_food101").
        homepage: where the original archive is published.
        hub: a data set on the Hugging Face hub in a form that is read here, or None.
        split_rule: how training, validation and test images are told apart, in words.
        traps: what goes wrong with this set, one sentence each.
        folds: published divisions into training and test images over which the paper's score is the mean; 0 for one
            division alone.
        shift_of: the set of which this one is a natural shift, by name; None for all others.
        is_subset: a shift that has some of the classes of `shift_of` alone: scores are pooled into its classes, and the
            images of `shift_of` that show these classes are measured on their own.
        has_own_names: a shift whose classes are not called as those of `shift_of`: its names give another classifier.
        has_frames: a shift whose images are frames of videos, which are right together with their neighbors (pm-k) and
            may show several classes.
        has_border: the images of the archive have a red border, which is cut off.
        has_lexicons: each image has its own list of words, from which its word is chosen.
        has_human_study: people named the classes of its test images for the paper (section 4).
        max_captions: captions of an image that count, the first ones; None for all.
        is_numbered: its authors number the classes from 0 in the order of the prompts table, so that a number names a
            class.
        archive_names: the names of classes in the archive that differ from the prompts table, each with the latter's.
        class_codes: what the archive calls the classes, by class index; empty where it has no codes.
    """

    name: str
    title: str
    task: str = "classification"
    num_classes: int
    splits: Mapping[str, int]
    metric: str = "accuracy"
    paper_sizes: tuple[int, int] | None = None
    prompts: str | None = None
    folders: tuple[str, ...] = ()
    homepage: str
    hub: str | None = None
    split_rule: str
    traps: tuple[str, ...] = ()
    folds: int = 0
    shift_of: str | None = None
    is_subset: bool = False
    has_own_names: bool = False
    has_frames: bool = False
    has_border: bool = False
    has_lexicons: bool = False
    has_human_study: bool = False
    max_captions: int | None = None
    is_numbered: bool = False
    archive_names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    class_codes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.task not in TASKS or self.metric not in METRICS:
            raise ConfigError(f"card {self.name}: there is no task {self.task} or no metric {self.metric}")
        if self.shift_of is None and (self.is_subset or self.has_own_names or self.has_frames):
            raise ConfigError(f"card {self.name}: only a natural shift has a subset of classes, own names or frames")

    @property
    def group(self) -> str:
        """ "paper27" (table 9), "shift" (a natural shift of another set) or "other"."""
        if self.shift_of is not None:
            return "shift"
        return "other" if self.paper_sizes is None else "paper27"
