"""Check that a run learns: its loss must fall below that of guessing."""

import logging
import math
from collections import deque

from diptych.objective.objectives import OBJECTIVES
from diptych.train.config import TrainConfig

logger = logging.getLogger(__name__)

_FIRST_STEP = 100  # no run is judged before it
_SHARE = 0.1  # of the run; warm-up is over by then
_NEAR = 0.02  # of the loss of guessing
_ROWS = 5


class ChanceWatch:
    """Warns once if the loss is still that of guessing after a tenth of the run, for objectives that define it."""

    def __init__(self, config: TrainConfig) -> None:
        chance = OBJECTIVES[config.objective].chance
        self._chance = chance.loss(config.global_batch_size) if chance else 0.0
        self._words = chance.words if chance else ""
        self._first_step = max(_FIRST_STEP, config.schedule.warmup_steps, math.ceil(_SHARE * config.num_steps))
        self._losses: deque[float] = deque(maxlen=_ROWS)
        self.warned = False

    def add(self, step: int, loss: float) -> None:
        """Add the loss of an update that has a row in the log."""
        self._losses.append(loss)
        mean = sum(self._losses) / len(self._losses)
        if self.warned or step < self._first_step or len(self._losses) < _ROWS or not self._chance:
            return
        if abs(mean - self._chance) <= _NEAR * self._chance:
            self.warned = True
            logger.warning(
                "after %d updates the loss is %.3f, about that of guessing (%s is %.3f): the model has not "
                "learned to tell pairs apart. Check that captions belong to their images (diptych check), then try "
                "another learning rate (--learning-rate) or a longer warm-up (--warmup-steps)",
                step,
                mean,
                self._words,
                self._chance,
            )
