"""Training pairs kept apart, so that choices are made on them and not on a test set."""

import dataclasses
import hashlib
import math
from collections.abc import Iterator, Sequence

import torch

from diptych.data.sources import Source
from diptych.embed import Model
from diptych.errors import ConfigError, DataError
from diptych.objective import contrastive_loss
from diptych.records import Broken, Result, Sample

HELD_OUT_PAIRS = 1000  # at most; one pass over them takes seconds
_AT_A_TIME = 250


@dataclasses.dataclass(frozen=True)
class Part:
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
    """Up to `limit` of the held-out pairs, as many from each shard as it takes.

    Raises:
        DataError: there are fewer than two.
    """
    part = Part(source, share, held_out=True)
    wanted = -(-limit // len(part.shards))
    found: list[Sample] = []
    rest: list[Sample] = []
    for index in range(len(part.shards)):
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


class HeldOutPairs:
    """An Evaluator: how well a model matches pairs that it has not seen.

    Args:
        samples: the pairs; the first caption of each is taken.
    """

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._pictures = [sample.image for sample in samples]
        self._captions = [sample.texts[0] for sample in samples]

    @property
    def chance_loss(self) -> float:
        """The loss of a model that says the same about all pairs, in nats."""
        return math.log(min(len(self._captions), _AT_A_TIME))

    def __call__(self, encoder: Model) -> list[Result]:
        """The contrastive loss among 250 pairs at a time, and how many pictures and captions find the other there."""
        images = encoder.encode_images(self._pictures)
        texts = encoder.encode_texts(self._captions, truncate=True)
        losses, found = [], 0.0
        for rows in torch.arange(len(images)).split(_AT_A_TIME):
            logits = encoder.logit_scale * images[rows] @ texts[rows].T
            losses += [len(rows) * contrastive_loss(images[rows], texts[rows], encoder.logit_scale).item()]
            best = torch.arange(len(rows))
            found += ((logits.argmax(1) == best).sum() + (logits.argmax(0) == best).sum()).item() / 2
        total, name = len(images), encoder.name
        values = {"loss_nats": sum(losses) / total, "recall_at_1": found / total}
        return [
            Result("held_out_pairs", "training data", "held-out", metric, one, total, None, None, None, "single", name)
            for metric, one in values.items()
        ]
