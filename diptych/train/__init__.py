"""One training entry for every recipe."""

from typing import TYPE_CHECKING

from diptych.lazy import lazy_names

if TYPE_CHECKING:
    from diptych.train.config import CheckpointConfig, TrainConfig
    from diptych.train.log import read_log
    from diptych.train.loop import Run, fit
    from diptych.train.optimizer import OptimizerConfig, ScheduleConfig

__all__ = ["CheckpointConfig", "OptimizerConfig", "Run", "ScheduleConfig", "TrainConfig", "fit", "read_log"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "diptych.train.config": (
            "CheckpointConfig",
            "TrainConfig",
        ),
        "diptych.train.log": ("read_log",),
        "diptych.train.loop": (
            "Run",
            "fit",
        ),
        "diptych.train.optimizer": (
            "OptimizerConfig",
            "ScheduleConfig",
        ),
    },
)
