"""The count of broken samples: each is named in the log, and too many of them stop the run."""

import collections
import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any

from diptych.errors import DataError
from diptych.records import Broken

logger = logging.getLogger(__name__)

_MAX_LOGGED = 50  # one by one; then the summary at each epoch's end must do
_MAX_REASONS = 100
_MAX_EXAMPLES = 3
_ENOUGH_SEEN = 1000  # samples before a share means anything


class Tally:
    """How many samples were good and broken, and why.

    Args:
        max_broken: share of broken samples, over at least 1,000 seen or a whole epoch, above which `add` raises; and of
            shards that broke in the middle, whose loss no count of samples can tell.
        num_shards: shards of an epoch.
    Attributes:
        reasons: reason -> count. Digits in reasons are written as N, so that equal causes count as one.
    """

    def __init__(self, max_broken: float, num_shards: int) -> None:
        self.max_broken, self.num_shards = max_broken, num_shards
        self.reasons: collections.Counter[str] = collections.Counter()
        self._examples: dict[str, list[str]] = {}
        self._logged: set[tuple[str, str]] = set()
        self._good, self._good_in_epoch, self._lost_in_epoch = 0, 0, 0

    def state_dict(self) -> dict[str, Any]:
        """Plain ints and strings."""
        return {
            "reasons": dict(self.reasons),
            "good": self._good,
            "good_in_epoch": self._good_in_epoch,
            "lost_in_epoch": self._lost_in_epoch,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of state_dict; examples and what is already logged start anew."""
        self.reasons = collections.Counter(state["reasons"])
        self._good, self._good_in_epoch = state["good"], state["good_in_epoch"]
        self._lost_in_epoch = state["lost_in_epoch"]

    def add(self, good: int, broken: Iterable[Broken], epoch: int, epoch_ends: bool) -> None:
        """Count one chunk.

        Raises:
            DataError: too many samples or shards are broken, or a whole epoch had no usable sample.
        """
        self._good += good
        self._good_in_epoch += good
        for sample in broken:
            self._add_broken(sample)
        num_broken = self.reasons.total()
        seen = self._good + num_broken
        if (seen >= _ENOUGH_SEEN or epoch_ends or epoch > 0) and num_broken > self.max_broken * seen:
            raise DataError(
                f"{num_broken} of {seen} samples are broken, more than the allowed share of {self.max_broken:g} "
                f"(max_broken):\n{self.summary()}"
            )
        if self._lost_in_epoch > self.max_broken * self.num_shards:
            raise DataError(
                f"{self._lost_in_epoch} of {self.num_shards} shards break off in the middle, more than the allowed "
                f"share of {self.max_broken:g} (max_broken); fetch them again:\n{self.summary()}"
            )
        if epoch_ends:
            if self._good_in_epoch == 0:
                raise DataError(f"epoch {epoch} had no usable sample:\n{self.summary()}")
            if num_broken:
                logger.warning(
                    "epoch %d ends: %d of %d samples were broken\n%s", epoch, num_broken, seen, self.summary()
                )
            self._good_in_epoch, self._lost_in_epoch = 0, 0

    def summary(self) -> str:
        """The most frequent reasons with examples, one line each."""
        return "\n".join(
            f"  {count} x {reason}" + (f" (e.g. {', '.join(names)})" if (names := self._examples.get(reason)) else "")
            for reason, count in self.reasons.most_common(5)
        )

    def _add_broken(self, sample: Broken) -> None:
        reason = re.sub(r"\d+", "N", sample.reason)[:200]
        if reason not in self.reasons and len(self.reasons) >= _MAX_REASONS:
            reason = "other reasons"
        self.reasons[reason] += 1
        self._lost_in_epoch += sample.rest_lost
        examples = self._examples.setdefault(reason, [])
        if len(examples) < _MAX_EXAMPLES:
            examples.append(f"{sample.key} in {sample.shard}")
        # The same ones come back in every epoch: each is logged once.
        if len(self._logged) < _MAX_LOGGED and (sample.shard, sample.key) not in self._logged:
            self._logged.add((sample.shard, sample.key))
            logger.warning("skipped %s in %s: %s", sample.key, sample.shard, sample.reason)
            if len(self._logged) == _MAX_LOGGED:
                logger.warning("further broken samples are counted and named in summaries only")
