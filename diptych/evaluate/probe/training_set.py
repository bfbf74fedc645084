"""The data that a probe learns from: the training split of a set, and its own validation split if it has one.

Source: CLIP paper, appendix A.3, and table 9, whose training sizes count both.
"""

import dataclasses
import hashlib
import logging
from collections.abc import Mapping, Set
from typing import Any

import numpy as np

from diptych.embed.encoder import Encoder
from diptych.errors import DataError
from diptych.evalsets.benchmark import Benchmark
from diptych.evalsets.card import Card
from diptych.evaluate.class_coverage import classes_shown, is_whole, joined, note, note_unlearned, open_tested
from diptych.evaluate.encoded_set import Encoded, encode_set
from diptych.evaluate.probe.feature_tables import Joined
from diptych.evaluate.tasks.robustness import pooling
from diptych.evaluate.tasks.task import Setting, with_classes_of

HELD_OUT = "a fifth of train"
"""The entry in a Result's settings if the set has no validation split."""

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """The encoded training and validation images of one set.

    Attributes:
        card: the card of the set.
        num_classes: C.
        train: the training split.
        val: the set's own validation split; None if there is none.
        classes: the note for Results about classes without images; see `shown_classes.py`.
        is_whole: whether the training split has all images of its authors.
    """

    card: Card
    num_classes: int
    train: Encoded
    val: Encoded | None
    classes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    is_whole: bool = False

    def __len__(self) -> int:
        return len(self.train.labels) + (0 if self.val is None else len(self.val.labels))

    def joined(self) -> Encoded:
        """Both splits as one; the keys of validation images get the prefix "val/"."""
        if self.val is None:
            return self.train
        both = f"{self.train.fingerprint} and {self.val.fingerprint}"
        return Encoded(
            keys=(*self.train.keys, *(f"val/{key}" for key in self.val.keys)),
            labels=np.concatenate([self.train.labels, self.val.labels]),
            vectors=Joined(self.train.vectors, self.val.vectors),  # type: ignore[arg-type]  # neither is read yet
            texts=(*self.train.texts, *self.val.texts),
            metadata=(*self.train.metadata, *self.val.metadata),
            num_broken=self.train.num_broken + self.val.num_broken,
            fingerprint=hashlib.sha256(both.encode()).hexdigest(),
        )

    @property
    def shown(self) -> frozenset[int]:
        """The classes of the images."""
        return classes_shown(self.train) | (frozenset() if self.val is None else classes_shown(self.val))

    def deviations(self) -> list[str]:
        """Describe how these images differ from those that the paper learned from."""
        return deviations(self.card, len(self), self.val is not None)


def open_training_set(
    encoder: Encoder, card: Card, setting: Setting, kind: str, fold: int | None = None
) -> TrainingSet:
    """Encode a set's training split and its validation split.

    Args:
        encoder: encodes the images.
        card: the card of the set.
        setting: the folders of the sets and of the cache.
        kind: "features" or "embeddings".
        fold: number of the fold, for sets with several folds.
    Raises:
        DataError: the training split is missing, the classes of the splits differ, or too few classes have images.
    """
    options: dict[str, Any] = {"cache": setting.cache, "num_workers": setting.num_workers}
    benchmark = open_tested(card, setting, "train", fold)
    train, val = encode_set(encoder, benchmark, kind, **options), None
    if "val" in card.splits:
        try:
            val_benchmark = setting.open(card, "val", fold)
        except DataError as error:
            _log.info("%s has no validation split here: %s", card.title, error)
        else:
            val = encode_set(encoder, with_classes_of(benchmark, val_benchmark), kind, **options)
    images = TrainingSet(card, len(benchmark.class_names), train, val)
    num_images = len(train.keys) + train.num_broken
    classes = note(benchmark, "learned", images.shown, num_images, setting.partial)
    return dataclasses.replace(images, classes=classes, is_whole=is_whole(benchmark, num_images))


def note_learned(images: TrainingSet, test: Benchmark, tested: Set[int], setting: Setting) -> dict[str, Any]:
    """The note for a Result's settings about tested classes without training images.

    Args:
        images: the training images; those of ImageNet if the test split is a natural shift of it.
        test: the test split.
        tested: the classes that its images show.
    Raises:
        DataError: a tested class has no training image; see `shown_classes.py`.
    """
    pooled = pooling(test.card)
    sources = {label: {label} if pooled is None else set(pooled[label]) for label in tested}
    unlearned = frozenset(label for label, source_labels in sources.items() if not source_labels & images.shown)
    return joined(images.classes, note_unlearned(test, unlearned, images.is_whole, setting))


def deviations(card: Card, num_learned: int, has_validation: bool) -> list[str]:
    """Describe how the training images differ from the paper's.

    Args:
        card: the card of the set.
        num_learned: number of training and validation images together.
        has_validation: whether they include the set's own validation split.
    """
    texts = []
    if card.paper_sizes is not None and card.paper_sizes[0] != num_learned:
        texts.append(f"learned from {num_learned:,} images, the paper from {card.paper_sizes[0]:,}")
    if not has_validation and "val" in card.splits:
        texts.append(
            f"validation images were taken from the training split; the set has {card.splits['val']:,} of its own"
        )
    return texts
