"""One training entry for every recipe."""

from diptych.train.config import CheckpointConfig, TrainConfig
from diptych.train.log import read_log
from diptych.train.loop import Run, fit
from diptych.train.optimizer import OptimizerConfig, ScheduleConfig

__all__ = ["CheckpointConfig", "OptimizerConfig", "Run", "ScheduleConfig", "TrainConfig", "fit", "read_log"]
