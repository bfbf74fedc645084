"""A benchmark card: everything that the protocol fixes about one evaluation set, independent of its file format."""

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
    """One evaluation set: everything that the protocol fixes about it, as one row of a table.

    Attributes:
        name: its name in results, and the usual name of its folder ("Food101").
        title: its name in the paper's tables ("Food-101").
        task: one of TASKS.
        num_classes: the number of classes in the data, which may differ from the number that the paper prints; 0 for
            sets without classes.
        splits: number of images (or clips) of each split in the original archive, e.g. {"train": 75750, "test": 25250}.
            "val" is present only if the authors provide it. If the paper uses a subset, this is the subset's size.
        metric: the metric that the paper reports, one of METRICS.
        paper_sizes: (train, test) in the paper's table 9; None for sets outside of it.
        prompts: the row of the prompts table with its class names and templates; None if there is none.
        folders: other names that its folder may have, e.g. ("food-101", "wds_food101").
        homepage: where the original archive is published.
        hub: a data set on the Hugging Face hub in a supported form, or None.
        split_rule: how the training, validation and test images are divided, in words.
        traps: known pitfalls of this set, one sentence each.
        folds: number of published train/test divisions if the paper's score is the mean over them; else 0.
        shift_of: the name of the set of which this one is a natural shift; None for all others.
        is_subset: a shift that has only some of the classes of `shift_of`. Scores are pooled into its classes, and the
            images of `shift_of` that show these classes are measured separately.
        has_own_names: a shift whose class names differ from those of `shift_of` and so give another classifier.
        has_frames: a shift whose images are video frames. A frame counts as correct only together with its neighbors
            (pm-k), and may show several classes.
        has_border: the images of the archive have a red border, which is cut off.
        has_lexicons: each image has its own list of candidate words.
        has_human_study: humans labeled its test images for the paper (section 4).
        max_captions: only this many captions of an image count, the first ones; None for all.
        is_numbered: its authors number the classes from 0 in the order of the prompts table, so a number identifies a
            class.
        archive_names: name in the archive -> name in the prompts table, for the classes where the two differ.
        class_codes: the archive's codes for the classes, by class index; empty if it has no codes.
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
