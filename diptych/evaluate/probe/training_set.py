"""What a probe learns from: the training split of a set, and its own validation split where it has one.

Source: CLIP paper, appendix A.3, and table 9, whose training sizes count both.
"""

import dataclasses
import hashlib
import logging
from typing import Any

import numpy as np

from diptych.data.cards.card import Card
from diptych.data.cards.opening import open_card
from diptych.embed.encoder import Encoder
from diptych.errors import DataError
from diptych.evaluate.encoded import Encoded, encode_set
from diptych.evaluate.probe.rows import Joined
from diptych.evaluate.tasks.task import Setting, with_classes_of

HELD_OUT = "a fifth of train"
"""What stands in a Result's settings where no validation split was there."""

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """The encoded images of one set.

    Attributes:
        card: which set.
        num_classes: C.
        train: the training split.
        val: the set's own validation split; None where there is none.
    """

    card: Card
    num_classes: int
    train: Encoded
    val: Encoded | None

    def __len__(self) -> int:
        return len(self.train.labels) + (0 if self.val is None else len(self.val.labels))

    def joined(self) -> Encoded:
        """Both splits as one; keys of validation images begin with "val/"."""
        if self.val is None:
            return self.train
        marks = f"{self.train.fingerprint} and {self.val.fingerprint}"
        return Encoded(
            keys=(*self.train.keys, *(f"val/{key}" for key in self.val.keys)),
            labels=np.concatenate([self.train.labels, self.val.labels]),
            vectors=Joined(self.train.vectors, self.val.vectors),  # type: ignore[arg-type]  # neither is read yet
            texts=(*self.train.texts, *self.val.texts),
            metadata=(*self.train.metadata, *self.val.metadata),
            num_broken=self.train.num_broken + self.val.num_broken,
            fingerprint=hashlib.sha256(marks.encode()).hexdigest(),
        )

    def deviations(self) -> list[str]:
        """In words, how these images differ from those that the paper learned from."""
        return deviations(self.card, len(self), self.val is not None)


def open_training_set(
    encoder: Encoder, card: Card, setting: Setting, kind: str, fold: int | None = None
) -> TrainingSet:
    """Encode a set's training split and its validation split.

    Args:
        encoder: gives the vectors.
        card: which set.
        setting: where the sets and the cache are.
        kind: "features" or "embeddings".
        fold: of a set that has several.
    Raises:
        DataError: the training split is not there, or the classes of the two differ.
    """
    options: dict[str, Any] = {"cache": setting.cache, "num_workers": setting.num_workers}
    benchmark = open_card(card, setting.data, "train", fold=fold)
    train, val = encode_set(encoder, benchmark, kind, **options), None
    if "val" in card.splits:
        try:
            other = open_card(card, setting.data, "val", fold=fold)
        except DataError as error:
            _log.info("%s has no validation split here: %s", card.title, error)
        else:
            val = encode_set(encoder, with_classes_of(benchmark, other), kind, **options)
    return TrainingSet(card, len(benchmark.class_names), train, val)


def deviations(card: Card, num_learned: int, has_validation: bool) -> list[str]:
    """In words, how the images that were learned from differ from the paper's.

    Args:
        card: the set.
        num_learned: training and validation images together.
        has_validation: whether a validation split of the set's own was among them.
    """
    found = []
    if card.paper_sizes is not None and card.paper_sizes[0] != num_learned:
        found.append(f"learned from {num_learned:,} images, the paper from {card.paper_sizes[0]:,}")
    if not has_validation and "val" in card.splits:
        found.append(
            f"validation images were taken from the training split; the set has {card.splits['val']:,} of its own"
        )
    return found
