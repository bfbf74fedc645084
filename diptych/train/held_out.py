"""Training pairs kept apart: the validation loss of a run, and choices that are not made on a test set."""

import dataclasses
import hashlib
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from diptych.data.source import Source
from diptych.errors import ConfigError, DataError
from diptych.files import read_object
from diptych.objective import contrastive_loss
from diptych.objective.objectives import OBJECTIVES, HeldOutLoss
from diptych.records import Broken, Result, Sample

logger = logging.getLogger(__name__)

HELD_OUT_PAIRS = 1000  # at most; one pass over them takes seconds
USUAL_SHARE = 0.01  # what `diptych train` holds out
_FEWEST = 20  # a validation loss of fewer pairs says little, and they are dear to so small a set
_SHARDS_READ = 16
_AT_A_TIME = 250


@dataclasses.dataclass(frozen=True)
class Part(Source):
    """A source's pairs on one side of a cut by their keys: the same pairs whatever the order of reading.

    Attributes:
        source: all pairs.
        share: of the pairs that are held out, above 0 and below 1.
        held_out: which side this is.
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
        """Another one than the whole source's, and than the other part's."""
        return hashlib.sha256(f"{self.source.fingerprint} {self.share!r} {self.held_out}".encode()).hexdigest()

    def files(self, limit: int | None = None) -> Iterator[Path]:
        """All of the source's."""
        return self.source.files(limit)

    def read(self, index: int) -> Iterator[Sample | Broken]:
        """The samples of shard `index` that belong here; broken ones count where the training would meet them."""
        for item in self.source.read(index):
            inside = isinstance(item, Sample) and _place(item.key) < self.share
            if inside == self.held_out:
                yield item


def _place(key: str) -> float:
    """A number from 0 to 1 that belongs to a key."""
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=7).digest(), "big") / 2**56


def held_out_pairs(source: Source, share: float, limit: int = HELD_OUT_PAIRS) -> list[Sample]:
    """Up to `limit` of the held-out pairs, from 16 shards spread evenly over all; from more where those hold too few.

    Raises:
        DataError: there are fewer than two.
    """
    part = Part(source, share, held_out=True)
    shards = len(part.shards)
    spread = [index * shards // min(shards, _SHARDS_READ) for index in range(min(shards, _SHARDS_READ))]
    wanted = -(-limit // len(spread))
    found: list[Sample] = []
    rest: list[Sample] = []
    for index in dict.fromkeys([*spread, *range(shards)]):
        if len(found) >= limit:
            break
        samples = [item for item in part.read(index) if isinstance(item, Sample) and item.texts]
        found += samples[:wanted]
        rest += samples[wanted : wanted + limit]
        del rest[limit:]
    found = (found + rest)[:limit]
    if len(found) < 2:
        raise DataError(
            f"{len(found)} pairs are held out (a share of {share}): hold out a larger share (--held-out) of more data"
        )
    return found


def hold_out(
    source: Source, share: float | None, batch_size: int, objective: str = "contrastive"
) -> tuple[Source, "HeldOutPairs | None"]:
    """What a run trains on, and what its validation loss is measured on; None where nothing is held out.

    Args:
        share: of the pairs, chosen by their keys; None or 0 for none. Nothing is held out where that is under 20 pairs.
        batch_size: of the run; so many pairs are matched with each other, so that both losses compare.
        objective: of the run; its row says which loss validates it.
    """
    if not share:
        return source, None
    try:
        samples = held_out_pairs(source, share)
    except DataError:
        samples = []
    if len(samples) < _FEWEST:
        logger.info("no validation loss: a share of %g of the data is %d pairs; see --held-out", share, len(samples))
        return source, None
    pairs = HeldOutPairs(samples, at_a_time=batch_size, loss=OBJECTIVES[objective].held_out)
    return Part(source, share, held_out=False), pairs


def held_out_share(given: float | None, folder: Path, resume: bool) -> float | None:
    """The share that a run holds out: the one given, that of the run which is resumed, or the usual one."""
    if given is None and resume:
        path = folder / "config.json"
        share = read_object(path).get("held_out") if path.exists() else None
        if isinstance(share, float | int | None) and not isinstance(share, bool):
            return share
        raise DataError(f"{path} is damaged: held_out is {share!r:.40}; put back a copy, or give --held-out")
    return USUAL_SHARE if given is None else given


class HeldOutPairs:
    """An Evaluator: how well a model matches pairs that it has not seen.

    Args:
        samples: the pairs; the first caption of each is taken.
        at_a_time: pairs that are matched with each other; the batch size makes the loss comparable with training's.
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

    @property
    def chance_loss(self) -> float:
        """The loss of a model that says the same about all pairs, in nats."""
        return math.log(self.at_a_time)

    def __call__(self, encoder: Any) -> list[Result]:
        """The loss, and how many pictures and captions find the other, among `at_a_time` pairs.

        Args:
            encoder: a `Model`. Pictures that it cannot decode are passed over.
        """
        images = encoder.encode_images(self.pictures, on_error=lambda *_: None)
        texts = encoder.encode_texts(self.captions, truncate=True)
        sound = ~images.isnan().any(dim=1)
        images, texts = images[sound], texts[sound]
        losses, found = [], 0.0
        for rows in torch.arange(len(images)).split(self.at_a_time):
            logits = encoder.logit_scale * images[rows] @ texts[rows].T
            losses += [len(rows) * self._loss(images[rows], texts[rows], encoder.logit_scale).item()]
            best = torch.arange(len(rows))
            found += ((logits.argmax(1) == best).sum() + (logits.argmax(0) == best).sum()).item() / 2
        total, name = len(images), encoder.name
        values = {"loss_nats": sum(losses) / total, "recall_at_1": found / total}
        return [
            Result("held_out_pairs", "training data", "held-out", metric, one, total, None, None, None, "single", name)
            for metric, one in values.items()
        ]
