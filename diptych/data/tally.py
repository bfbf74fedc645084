"""The count of broken samples: each is named in the log, and too many of them stop the run."""

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

_MAX_LOGGED = 50  # one by one; then the summary at each epoch's end must do
_MAX_REASONS = 100
_MAX_EXAMPLES = 3
_ENOUGH_SEEN = 1000  # samples before a share means anything
_EPOCHS_KEPT = 8  # by which one lane may be ahead of another for the count of shards that broke off


@dataclasses.dataclass
class _Count:
    """Of one lane; a checkpoint holds exactly this.

    Attributes:
        reasons: reason -> broken samples.
        good: samples.
        epochs: that are complete.
        good_in_epoch: good samples of the current one.
        barren_epochs: complete ones without a good sample, in a row.
        lost: epoch -> shards that broke off in it; of the last few epochs.
    """

    reasons: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    good: int = 0
    epochs: int = 0
    good_in_epoch: int = 0
    barren_epochs: int = 0
    lost: dict[int, int] = dataclasses.field(default_factory=dict)


class Tally:
    """How many samples were good and broken, and why, in each lane of a process.

    Args:
        max_broken: share of broken samples, over at least 1,000 seen or a whole epoch of all lanes, above which `add`
            raises; and of shards that broke in the middle, whose loss no count of samples can tell.
        num_shards: shards of an epoch, in these lanes.
        lanes: of this process.
        num_lanes: of all processes.
    """

    def __init__(self, max_broken: float, num_shards: int, lanes: Sequence[int] = (0,), num_lanes: int = 1) -> None:
        self.max_broken, self.num_shards, self.num_lanes = max_broken, num_shards, num_lanes
        self._counts = {lane: _Count() for lane in lanes}
        self._examples: dict[str, list[str]] = {}
        self._logged: set[tuple[str, str]] = set()

    @property
    def reasons(self) -> collections.Counter[str]:
        """Reason -> number of broken samples, over all lanes; digits stand as N, so that equal causes count as one."""
        return sum((count.reasons for count in self._counts.values()), collections.Counter())

    def state_dict(self, lane: int) -> dict[str, Any]:
        """A lane's counts, as plain ints, strings and lists."""
        count = self._counts[lane]
        lost = [list(pair) for pair in count.lost.items()]
        return {**dataclasses.asdict(count), "reasons": dict(count.reasons), "lost": lost}

    def load_state_dict(self, lane: int, state: Mapping[str, Any]) -> None:
        """The inverse of state_dict; examples, and what is logged already, stay as they are."""
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
            which = f" in lane {lane}, and none of {count.barren_epochs - 1} before it" if self.num_lanes > 1 else ""
            raise NoSampleError(f"epoch {epoch} had no usable sample{which}:\n{self.summary()}")
        if self._complete_epochs() > complete and (num_broken := self.reasons.total()):
            logger.warning(
                "epoch %d ends: %d of %d samples were broken\n%s", complete, num_broken, self._seen(), self.summary()
            )

    def _complete_epochs(self) -> int:
        """Epochs that all lanes have behind them."""
        return min(count.epochs for count in self._counts.values())

    def _seen(self) -> int:
        return sum(count.good + count.reasons.total() for count in self._counts.values())

    def _check(self, epoch: int) -> None:
        """Whether too much is broken."""
        seen, num_broken = self._seen(), sum(count.reasons.total() for count in self._counts.values())
        if (seen >= _ENOUGH_SEEN or self._complete_epochs() > 0) and num_broken > self.max_broken * seen:
            raise DataError(
                f"{num_broken} of {seen} samples are broken, more than the allowed share of {self.max_broken:g} "
                f"(max_broken):\n{self.summary()}"
            )
        # Lanes are not in the same epoch at the same time; in each epoch, a shard belongs to one of them.
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
            count.reasons = +count.reasons  # without those that none is left of
        if reason not in count.reasons and len(count.reasons) >= _MAX_REASONS:
            reason = "other reasons"
        count.reasons[reason] += 1
        if sample.rest_lost:
            count.lost[epoch] = count.lost.get(epoch, 0) + 1
        examples = self._examples.setdefault(reason, [])
        if len(examples) < _MAX_EXAMPLES:
            examples.append(f"{sample.key} in {sample.shard}")
        # The same ones come back in every epoch: each is logged once.
        if len(self._logged) < _MAX_LOGGED and (sample.shard, sample.key) not in self._logged:
            self._logged.add((sample.shard, sample.key))
            logger.warning("skipped %s in %s: %s", sample.key, sample.shard, sample.reason)
            if len(self._logged) == _MAX_LOGGED:
                logger.warning("further broken samples are counted and named in summaries only")


def why_unusable(source: Source, limit: int = 1000) -> str:
    """What is wrong with a source's first samples, the most frequent reason first, with an example of each."""
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
    """A reason without numbers and paths, so that equal causes count as one."""
    return re.sub(r"(?<!UTF-)\d+", "N", re.sub(r"(?<=cannot read ).*(?=: )", "its file", reason))[:200]
