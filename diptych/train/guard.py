"""A guard against losses that leap: the update is left out, or the run stops.

    guard = SpikeGuard(config.guard)
    if guard.judge(loss, step) == "fine":    # the loss over all ranks, before the optimizer moves
        optimizer.step()

The verdict hangs on the losses alone, so all ranks reach the same, and a resumed run the same again.
"""

import collections
import math
import statistics
from typing import Any

from diptych.errors import LossSpikeError
from diptych.train.config import GuardConfig

# A plateau has next to no deviation; a loss within so large a share of the mean is no leap on it.
_SMALLEST_DEVIATION = 1e-3


class SpikeGuard:
    """Compares each loss with the mean and the standard deviation of the last good ones.

    Attributes:
        num_skipped: updates left out in the whole run.
    """

    def __init__(self, config: GuardConfig) -> None:
        self.config = config
        self.num_skipped = 0
        self._in_a_row = 0
        self._good: collections.deque[float] = collections.deque(maxlen=config.window_steps)

    @property
    def active(self) -> bool:
        """Whether `judge` is worth its price: on a GPU, reading the loss at every step waits for it."""
        return self.config.spike != "off"

    def judge(self, loss: float, step: int) -> str:
        """What to do with an update, before it is made.

        Args:
            loss: the loss of the whole batch, the same in all ranks. A caller that finds the gradient not finite hands
                in NaN.
            step: number of the update, for the message.
        Returns:
            "fine", or "skip" for an update to leave out: the optimizer does not move, the data goes on.
        Raises:
            LossSpikeError: a spike in mode "stop", or in mode "skip" one after `max_skipped` in a row.
        """
        if not self._is_spike(loss):
            if self.active and math.isfinite(loss):
                self._good.append(loss)
            self._in_a_row = 0
            return "fine"
        if self.config.spike == "stop":
            raise LossSpikeError(
                f"the loss leapt to {loss:.4g} at step {step}{self._usual()}. Try a lower learning rate or a longer "
                'warm-up, or leave such updates out (guard.spike "skip")'
            )
        if self._in_a_row == self.config.max_skipped:
            raise LossSpikeError(
                f"the loss is {loss:.4g} at step {step}{self._usual()}, and the {self._in_a_row} updates before it "
                "were left out for the same reason: this is no single bad batch. Try a lower learning rate or a longer "
                "warm-up"
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
        """Of the window, summed exactly: the same however often the run was resumed."""
        mean = statistics.fmean(self._good)
        variance = math.fsum((loss - mean) ** 2 for loss in self._good) / (len(self._good) - 1)
        return mean, max(math.sqrt(variance), _SMALLEST_DEVIATION * abs(mean))

    def _usual(self) -> str:
        if len(self._good) < 2:
            return ""
        mean, deviation = self._mean_and_deviation()
        return f", from a mean of {mean:.4g} with a standard deviation of {deviation:.2g}"
