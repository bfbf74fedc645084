"""A guard against loss spikes: it skips the update, or stops the run.

    guard = SpikeGuard(config.guard)
    if guard.judge(loss, step) == "fine":    # the loss over all ranks, before the optimizer's step
        optimizer.step()

The decision depends only on the losses, so all ranks make the same one, and so does a resumed run.
"""

import collections
import math
import statistics
from typing import Any

from diptych.errors import LossSpikeError
from diptych.train.config import GuardConfig

# On a plateau the deviation is almost 0; a loss within this share of the mean is not a spike.
_SMALLEST_DEVIATION = 1e-3


class SpikeGuard:
    """Compares each loss with the mean and the standard deviation of the last good ones.

    Attributes:
        num_skipped: updates skipped in the whole run.
    """

    def __init__(self, config: GuardConfig) -> None:
        self.config = config
        self.num_skipped = 0
        self._in_a_row = 0
        self._good: collections.deque[float] = collections.deque(maxlen=config.window_steps)

    @property
    def active(self) -> bool:
        """Whether `judge` has to be called: reading the loss in every step costs a GPU sync."""
        return self.config.spike != "off"

    def judge(self, loss: float, step: int) -> str:
        """Decide what to do with an update, before it is made.

        Args:
            loss: the loss of the global batch, the same in all ranks; NaN if the gradient is not finite.
            step: number of the update, for the message.
        Returns:
            "fine", or "skip" for an update to skip: the optimizer makes no step, but the batch is consumed.
        Raises:
            LossSpikeError: a spike in mode "stop", or a spike after `max_skipped` consecutive ones in mode "skip".
        """
        if not self._is_spike(loss):
            if self.active and math.isfinite(loss):
                self._good.append(loss)
            self._in_a_row = 0
            return "fine"
        if self.config.spike == "stop":
            raise LossSpikeError(
                f"the loss jumped to {loss:.4g} at step {step}{self._usual()}. Try a lower learning rate or a longer "
                'warm-up, or skip such updates (guard.spike "skip")'
            )
        if self._in_a_row == self.config.max_skipped:
            raise LossSpikeError(
                f"the loss is {loss:.4g} at step {step}{self._usual()}, and the {self._in_a_row} updates before it "
                "were skipped for the same reason: this is not a single bad batch. Try a lower learning rate or a "
                "longer warm-up"
            )
        self._in_a_row += 1
        self.num_skipped += 1
        return "skip"

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, for a checkpoint."""
        return {"good": list(self._good), "in_a_row": self._in_a_row, "num_skipped": self.num_skipped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of state_dict."""
        self._good.clear()
        self._good.extend(state["good"])
        self._in_a_row, self.num_skipped = state["in_a_row"], state["num_skipped"]

    def _is_spike(self, loss: float) -> bool:
        if not self.active:
            return False
        if not math.isfinite(loss):
            return self.config.spike == "skip"  # otherwise the check for NonFiniteLossError ends the run
        if len(self._good) < self.config.window_steps:
            return False
        mean, deviation = self._mean_and_deviation()
        return loss > mean + self.config.factor * deviation

    def _mean_and_deviation(self) -> tuple[float, float]:
        """Mean and deviation of the window, summed exactly, so that they do not depend on resumes."""
        mean = statistics.fmean(self._good)
        variance = math.fsum((loss - mean) ** 2 for loss in self._good) / (len(self._good) - 1)
        return mean, max(math.sqrt(variance), _SMALLEST_DEVIATION * abs(mean))

    def _usual(self) -> str:
        if len(self._good) < 2:
            return ""
        mean, deviation = self._mean_and_deviation()
        return f", from a mean of {mean:.4g} with a standard deviation of {deviation:.2g}"
