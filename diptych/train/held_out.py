"""Held-out training pairs: for the validation loss of a run, and for choices that must not use a test set."""

import dataclasses
import hashlib
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diptych.data.copies import CopyAugmentation, copy_image
from diptych.data.source import Source
from diptych.data.transforms import decode_image
from diptych.errors import ConfigError, DataError, ImageError
from diptych.files import read_object
from diptych.objective import contrastive_loss
from diptych.objective.objectives import OBJECTIVES, HeldOutLoss
from diptych.records import Broken, Result, Sample
from diptych.train.config import TrainConfig

logger = logging.getLogger(__name__)

HELD_OUT_PAIRS = 1000  # at most; one pass over them takes seconds
USUAL_SHARE = 0.01  # what `diptych train` holds out
_FEWEST = 20  # a validation loss over fewer pairs says little, and a small set needs them for training
_SHARDS_READ = 16
_AT_A_TIME = 250


@dataclasses.dataclass(frozen=True)
class Part(Source):
    """One side of a split of a source's pairs by their keys; it does not depend on the reading order.

    Attributes:
        source: all pairs.
        share: of the pairs that are held out, above 0 and below 1.
        held_out: whether this is the held-out side.
    """

    source: Source
    share: float
    held_out: bool

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ConfigError(f"the share held out is {self.share}; it must lie between 0 and 1")

    @property
    def shards(self) -> Sequence[str]:
        """All of the source's shards, in its order."""
        return self.source.shards

    @property
    def fingerprint(self) -> str:
        """Differs from those of the whole source and of the other part."""
        return hashlib.sha256(f"{self.source.fingerprint} {self.share!r} {self.held_out}".encode()).hexdigest()

    def files(self, limit: int | None = None) -> Iterator[Path]:
        """All files of the source."""
        return self.source.files(limit)

    def read(self, index: int) -> Iterator[Sample | Broken]:
        """The samples of shard `index` in this part; broken ones belong to the training part."""
        for item in self.source.read(index):
            inside = isinstance(item, Sample) and _place(item.key) < self.share
            if inside == self.held_out:
                yield item


def _place(key: str) -> float:
    """A pseudo-random number from 0 to 1, determined by the key."""
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=7).digest(), "big") / 2**56


def held_out_pairs(source: Source, share: float, limit: int = HELD_OUT_PAIRS, *, captions: bool = True) -> list[Sample]:
    """Up to `limit` of the held-out pairs, from 16 evenly spaced shards, and from more if those hold too few.

    Args:
        captions: leave out samples without a caption.
    Raises:
        DataError: there are fewer than two.
    """
    part = Part(source, share, held_out=True)
    shards = len(part.shards)
    spread = [index * shards // min(shards, _SHARDS_READ) for index in range(min(shards, _SHARDS_READ))]
    per_shard = -(-limit // len(spread))
    chosen: list[Sample] = []
    rest: list[Sample] = []
    for index in dict.fromkeys([*spread, *range(shards)]):
        if len(chosen) >= limit:
            break
        samples = [item for item in part.read(index) if isinstance(item, Sample) and (item.texts or not captions)]
        chosen += samples[:per_shard]
        rest += samples[per_shard : per_shard + limit]
        del rest[limit:]
    chosen = (chosen + rest)[:limit]
    if len(chosen) < 2:
        raise DataError(
            f"{len(chosen)} pairs are held out (a share of {share}): hold out a larger share (--held-out) of more data"
        )
    return chosen


def hold_out(source: Source, config: TrainConfig) -> "tuple[Source, HeldOutPairs | HeldOutCopies | None]":
    """The pairs to train on, and the pairs of the validation loss; None if nothing is held out.

    Args:
        config: the run's. `held_out` is the share of the pairs, chosen by their keys; None or 0 for none. If it is
            below 20 pairs, nothing is held out. The validation loss is that of the objective's row, and uses batches of
            the run's size, so that both losses are comparable.
    """
    share, batch_size = config.held_out, config.global_batch_size
    if not share:
        return source, None
    try:
        samples = held_out_pairs(source, share, captions=config.copies is None)
    except DataError:
        samples = []
    if len(samples) < _FEWEST:
        logger.info(
            "no validation loss: a share of %g of the data is only %d pairs; see --held-out", share, len(samples)
        )
        return source, None
    rest = Part(source, share, held_out=False)
    if config.copies is not None:
        return rest, HeldOutCopies(samples, config.copies, at_a_time=batch_size, seed=config.loader.seed)
    return rest, HeldOutPairs(samples, at_a_time=batch_size, loss=OBJECTIVES[config.objective].held_out)


def held_out_share(given: float | None, folder: Path, resume: bool) -> float | None:
    """The share that a run holds out: the given one, that of the resumed run, or the default."""
    if given is None and resume:
        path = folder / "config.json"
        share = read_object(path).get("held_out") if path.exists() else None
        if isinstance(share, float | int | None) and not isinstance(share, bool):
            return share
        raise DataError(f"{path} is damaged: held_out is {share!r:.40}; restore a copy, or give --held-out")
    return USUAL_SHARE if given is None else given


class HeldOutPairs:
    """An Evaluator that measures how well a model matches pairs that it has not seen.

    Args:
        samples: the pairs; only the first caption of each is used.
        at_a_time: pairs per batch; the training batch size makes the loss comparable with training's.
        loss: see Objective.held_out.
    """

    def __init__(
        self, samples: Sequence[Sample], at_a_time: int = _AT_A_TIME, loss: HeldOutLoss = contrastive_loss
    ) -> None:
        self._loss = loss
        self.at_a_time = min(at_a_time, len(samples))
        samples = samples[: len(samples) // self.at_a_time * self.at_a_time] if at_a_time != _AT_A_TIME else samples
        self.pictures = [sample.image for sample in samples]
        self.captions = [sample.texts[0] for sample in samples]

    def __len__(self) -> int:
        return len(self.captions)

    @property
    def chance_loss(self) -> float:
        """The loss of a model that gives all pairs the same score, in nats."""
        return math.log(self.at_a_time)

    def __call__(self, encoder: Any) -> list[Result]:
        """The loss, and the fraction of images and captions that find their match, among `at_a_time` pairs.

        Args:
            encoder: a `Model`. Images that it cannot decode are left out.
        """
        images = encoder.encode_images(self.pictures, on_error=lambda *_: None)
        texts = encoder.encode_texts(self.captions, truncate=True)
        sound = ~images.isnan().any(dim=1)
        return _matching(encoder, images[sound], texts[sound], self.at_a_time, self._loss)


class HeldOutCopies:
    """An Evaluator that measures how well a copy detector finds copies of images that it has not seen.

    This is the proxy task of the CLIP paper, appendix C, whose detector reached nearly 100 % of its training's batches.

    Args:
        samples: the images.
        copies: how they are changed, as in training.
        at_a_time: images per batch.
        seed: of the changes.
    """

    def __init__(
        self, samples: Sequence[Sample], copies: CopyAugmentation, at_a_time: int = _AT_A_TIME, seed: int = 0
    ) -> None:
        self.at_a_time = min(at_a_time, len(samples))
        samples = samples[: len(samples) // self.at_a_time * self.at_a_time]
        self._samples, self._copies, self._seed = samples, copies, seed

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def chance_loss(self) -> float:
        """The loss of a model that gives all pairs the same score, in nats."""
        return math.log(self.at_a_time)

    def __call__(self, encoder: Any) -> list[Result]:
        """The loss, and the fraction of copies that find their image among `at_a_time`, and the reverse."""
        images, copies = [], []
        for number, sample in enumerate(self._samples):
            rng = np.random.Generator(np.random.Philox(key=[self._seed, number]))
            try:
                image = decode_image(sample.image)
                copy = copy_image(image, self._copies, rng)
            except ImageError:
                continue
            images.append(image)
            copies.append(copy)
        return _matching(encoder, encoder.encode_images(images), encoder.encode_images(copies), self.at_a_time)


def _matching(
    encoder: Any, images: torch.Tensor, others: torch.Tensor, at_a_time: int, loss: HeldOutLoss = contrastive_loss
) -> list[Result]:
    """Loss and recall of matching two sides (N, E) of pairs, `at_a_time` pairs at a time."""
    losses, hits = [], 0.0
    for rows in torch.arange(len(images)).split(at_a_time):
        logits = encoder.logit_scale * images[rows] @ others[rows].T
        losses += [len(rows) * loss(images[rows], others[rows], encoder.logit_scale).item()]
        matches = torch.arange(len(rows))
        hits += ((logits.argmax(1) == matches).sum() + (logits.argmax(0) == matches).sum()).item() / 2
    total, name = len(images), encoder.name
    values = {"loss_nats": sum(losses) / total, "recall_at_1": hits / total}
    return [
        Result("held_out_pairs", "training data", "held-out", metric, value, total, None, None, None, "single", name)
        for metric, value in values.items()
    ]
