"""Counts broken samples: the log names each one, and too many of them stop the run."""

import collections
import dataclasses
import itertools
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from diptych.data.source import Source
from diptych.data.stream import NoSampleError, enough_epochs
from diptych.errors import DataError
from diptych.records import Broken

logger = logging.getLogger(__name__)

_MAX_LOGGED = 50  # logged one by one; further ones appear only in the summary at the end of each epoch
_MAX_REASONS = 100
_MAX_EXAMPLES = 3
_ENOUGH_SEEN = 1000  # minimum number of samples for a meaningful share
_EPOCHS_KEPT = 8  # epochs that one lane may be ahead of another in the count of shards that broke off


@dataclasses.dataclass
class _Count:
    """The counts of one lane; a checkpoint stores exactly these fields.

    Attributes:
        reasons: reason -> number of broken samples.
        good: number of good samples.
        epochs: number of complete epochs.
        good_in_epoch: number of good samples in the current epoch.
        barren_epochs: number of consecutive complete epochs without a good sample.
        lost: epoch -> number of shards that broke off in it, for the last few epochs.
    """

    reasons: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    good: int = 0
    epochs: int = 0
    good_in_epoch: int = 0
    barren_epochs: int = 0
    lost: dict[int, int] = dataclasses.field(default_factory=dict)


class Tally:
    """The number of good samples, and of broken ones by reason, in each lane of a process.

    Args:
        max_broken: `add` raises if the share of broken samples exceeds this, over at least 1,000 samples or a whole
            epoch of all lanes. The same limit applies to the share of shards that break off in the middle, because the
            number of samples lost in them is unknown.
        num_shards: number of shards per epoch in these lanes.
        lanes: the lanes of this process.
        num_lanes: the number of lanes of all processes.
    """

    def __init__(self, max_broken: float, num_shards: int, lanes: Sequence[int] = (0,), num_lanes: int = 1) -> None:
        self.max_broken, self.num_shards, self.num_lanes = max_broken, num_shards, num_lanes
        self._counts = {lane: _Count() for lane in lanes}
        self._examples: dict[str, list[str]] = {}
        self._logged: set[tuple[str, str]] = set()

    @property
    def reasons(self) -> collections.Counter[str]:
        """Reason -> number of broken samples, over all lanes; digits are replaced by N to merge equal causes."""
        return sum((count.reasons for count in self._counts.values()), collections.Counter())

    def state_dict(self, lane: int) -> dict[str, Any]:
        """A lane's counts, as plain ints, strings and lists."""
        count = self._counts[lane]
        lost = [list(pair) for pair in count.lost.items()]
        return {**dataclasses.asdict(count), "reasons": dict(count.reasons), "lost": lost}

    def load_state_dict(self, lane: int, state: Mapping[str, Any]) -> None:
        """The inverse of state_dict; examples, and the record of logged samples, do not change."""
        reasons, lost = collections.Counter(state["reasons"]), dict(state["lost"])
        self._counts[lane] = _Count(**{**state, "reasons": reasons, "lost": lost})

    def add(self, good: int, broken: Iterable[Broken], epoch: int, epoch_ends: bool, lane: int = 0) -> None:
        """Count one chunk of a lane.

        Raises:
            DataError: too many samples or shards are broken, or a whole epoch had no usable sample.
        """
        count = self._counts[lane]
        complete = self._complete_epochs()
        count.good += good
        count.good_in_epoch += good
        for sample in broken:
            self._add_broken(count, sample, epoch)
        if epoch_ends:
            count.epochs = epoch + 1
            count.barren_epochs = 0 if count.good_in_epoch else count.barren_epochs + 1
            count.good_in_epoch = 0
            count.lost = {past: lost for past, lost in count.lost.items() if past > epoch - _EPOCHS_KEPT}
        self._check(epoch)
        if count.barren_epochs >= enough_epochs(self.num_lanes):
            which = f" in lane {lane}, nor had the {count.barren_epochs - 1} before it" if self.num_lanes > 1 else ""
            raise NoSampleError(f"epoch {epoch} had no usable sample{which}:\n{self.summary()}")
        if self._complete_epochs() > complete and (num_broken := self.reasons.total()):
            logger.warning(
                "epoch %d ends: %d of %d samples were broken\n%s", complete, num_broken, self._seen(), self.summary()
            )

    def _complete_epochs(self) -> int:
        """The number of epochs that all lanes have completed."""
        return min(count.epochs for count in self._counts.values())

    def _seen(self) -> int:
        return sum(count.good + count.reasons.total() for count in self._counts.values())

    def _check(self, epoch: int) -> None:
        """Raise DataError if too many samples or shards are broken."""
        seen, num_broken = self._seen(), sum(count.reasons.total() for count in self._counts.values())
        if (seen >= _ENOUGH_SEEN or self._complete_epochs() > 0) and num_broken > self.max_broken * seen:
            raise DataError(
                f"{num_broken} of {seen} samples are broken, more than the allowed share of {self.max_broken:g} "
                f"(max_broken):\n{self.summary()}"
            )
        # Lanes may be in different epochs at the same time; in each epoch, a shard belongs to exactly one lane.
        lost = sum(count.lost.get(epoch, 0) for count in self._counts.values())
        if lost > self.max_broken * self.num_shards:
            raise DataError(
                f"{lost} of {self.num_shards} shards break off in the middle, more than the allowed "
                f"share of {self.max_broken:g} (max_broken); fetch them again:\n{self.summary()}"
            )

    def summary(self) -> str:
        """The most frequent reasons with examples, one line each."""
        return "\n".join(
            f"  {count} x {reason}" + (f" (e.g. {', '.join(names)})" if (names := self._examples.get(reason)) else "")
            for reason, count in self.reasons.most_common(5)
        )

    def _add_broken(self, count: _Count, sample: Broken, epoch: int) -> None:
        reason = _folded(sample.reason)
        if sample.instead_of is not None:
            before = _folded(sample.instead_of)
            count.reasons[before if before in count.reasons else "other reasons"] -= 1
            count.reasons = +count.reasons  # drops reasons whose count is 0
        if reason not in count.reasons and len(count.reasons) >= _MAX_REASONS:
            reason = "other reasons"
        count.reasons[reason] += 1
        if sample.rest_lost:
            count.lost[epoch] = count.lost.get(epoch, 0) + 1
        examples = self._examples.setdefault(reason, [])
        if len(examples) < _MAX_EXAMPLES:
            examples.append(f"{sample.key} in {sample.shard}")
        # The same samples are broken in every epoch: each is logged once.
        if len(self._logged) < _MAX_LOGGED and (sample.shard, sample.key) not in self._logged:
            self._logged.add((sample.shard, sample.key))
            logger.warning("skipped %s in %s: %s", sample.key, sample.shard, sample.reason)
            if len(self._logged) == _MAX_LOGGED:
                logger.warning("further broken samples are only counted, and named in summaries")


def why_unusable(source: Source, limit: int = 1000) -> str:
    """What is wrong with a source's first samples: the most frequent reasons first, with an example of each."""
    counts: collections.Counter[str] = collections.Counter()
    examples: dict[str, str] = {}
    items = (item for index in range(len(source.shards)) for item in source.read(index))
    for item in itertools.islice(items, limit):
        reason = item.reason if isinstance(item, Broken) else "it has a label and no caption"
        if isinstance(item, Broken) and item.instead_of is not None:
            counts[_folded(item.instead_of)] -= 1
        counts[_folded(reason)] += 1
        examples.setdefault(_folded(reason), f"{item.key}: {reason}")
    lines = [f"  {count} x {reason} (e.g. {examples[reason]})" for reason, count in (+counts).most_common(5)]
    return "\n".join(lines) or "  it has no samples at all"


def _folded(reason: str) -> str:
    """A reason with numbers and paths replaced, so that equal causes are counted together."""
    return re.sub(r"(?<!UTF-)\d+", "N", re.sub(r"(?<=cannot read ).*(?=: )", "its file", reason))[:200]
