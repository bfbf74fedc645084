"""Losses, rates and waiting times of a run."""

import math
import time

import torch

from diptych.errors import NonFiniteLossError
from diptych.train.checkpoint import Checkpoints
from diptych.train.config import TrainConfig
from diptych.train.learning_check import ChanceWatch
from diptych.train.log import TrainLog
from diptych.train.state import Training


class Meter:
    """Losses, rates and waiting times of the steps since the last row; refuses losses that are NaN or infinite."""

    def __init__(self, training: Training, config: TrainConfig, checkpoints: Checkpoints, log: TrainLog) -> None:
        self._training, self._config, self._checkpoints, self._log = training, config, checkpoints, log
        self._losses: list[torch.Tensor] = []
        self._norms: list[torch.Tensor] = []
        self._rate, self._skipped = 0.0, 0
        self._watch = ChanceWatch(config)
        self.num_updates = 0
        self.go_on()

    def go_on(self) -> None:
        """Start a new window: the time until now was not training, or is in a row already."""
        self._window = self._clock = time.monotonic()
        self._waited = self._training.loader.seconds_waited
        self._pairs = 0

    def pause(self) -> None:
        """Count the time until now as training."""
        now = time.monotonic()
        self._training.seconds += now - self._clock
        self._clock = now

    def add(self, loss: torch.Tensor, norm: torch.Tensor, rate: float) -> None:
        """Add an update: its loss (), the norm of its gradient (), and the learning rate."""
        self._losses.append(loss)
        self._norms.append(norm)
        self._rate = rate
        self._count()

    def add_skipped(self) -> None:
        """Add an update that the guard skipped."""
        self._skipped += 1
        self._count()

    def _count(self) -> None:
        self._pairs += self._config.global_batch_size
        self.num_updates += 1
        self.pause()
        self._log.step(self._training.step + 1)

    def check_finite(self) -> tuple[float, float]:
        """Newest loss and gradient norm; checks all since the last call together, to avoid frequent GPU syncs.

        A gradient that is not finite has already damaged the weights, although the loss of that step was finite.
        """
        if not self._losses:
            return math.nan, math.nan
        losses, norms = (torch.stack(values).tolist() for values in (self._losses, self._norms))
        self._losses, self._norms = self._losses[-1:], self._norms[-1:]
        for index, (loss, norm) in enumerate(zip(losses, norms, strict=True)):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                step = self._training.step - len(losses) + index + 1
                what = f"the gradient's norm became {norm}" if math.isfinite(loss) else f"the loss became {loss}"
                raise NonFiniteLossError(
                    f"{what} at step {step}; {self._checkpoints.last_good()}. "
                    "Try a lower learning rate, a longer warm-up or fp32, in a new folder"
                )
        return losses[-1], norms[-1]

    def write_row(self) -> None:
        """One row of the log, about the steps since the last one."""
        step, now = self._training.step, time.monotonic()
        loss, norm = self.check_finite()
        elapsed = max(now - self._window, 1e-9)
        waited = self._training.loader.seconds_waited - self._waited
        row = {
            "step": step,
            "pairs": step * self._config.global_batch_size,
            "loss": loss,
            "lr": self._rate,
            "scale": _scale(self._training.network),
            "gradient_norm": norm,
            "pairs_per_second": self._pairs / elapsed,
            "share_waiting": min(1.0, waited / elapsed),
            "seconds": self._training.seconds,
        }
        if self._skipped:
            row["skipped"] = self._skipped
        self._log.row(row)
        self._watch.add(step, loss)
        self._skipped = 0
        self.go_on()


def _scale(network: torch.nn.Module) -> float:
    """exp(t); NaN for a model without a temperature."""
    logit_scale = getattr(network, "logit_scale", None)
    return math.nan if logit_scale is None else logit_scale.detach().exp().item()
