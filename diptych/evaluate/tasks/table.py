"""All tasks of the suite, by name."""

import difflib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from diptych.errors import ConfigError
from diptych.evaluate.probe.few_shot_task import FEW_SHOT, FEW_SHOT_FROM_TEXTS
from diptych.evaluate.probe.task import IMAGENET_PROBE, LINEAR_PROBE, PROJECTED_PROBE
from diptych.evaluate.tasks.geolocation import GEOLOCATION
from diptych.evaluate.tasks.human import HUMAN
from diptych.evaluate.tasks.lexicon import LEXICON
from diptych.evaluate.tasks.retrieval import RETRIEVAL
from diptych.evaluate.tasks.robustness import ROBUSTNESS
from diptych.evaluate.tasks.shifted import SHIFTS_TASK
from diptych.evaluate.tasks.task import Task
from diptych.evaluate.tasks.video import VIDEO
from diptych.evaluate.tasks.zero_shot import ZERO_SHOT

_ALL = (
    *(ZERO_SHOT, LINEAR_PROBE, FEW_SHOT, FEW_SHOT_FROM_TEXTS, RETRIEVAL),
    *(VIDEO, LEXICON, GEOLOCATION, HUMAN, ROBUSTNESS, IMAGENET_PROBE),
)
_ASKED_FOR = (PROJECTED_PROBE, SHIFTS_TASK)
TASKS: Mapping[str, Task] = MappingProxyType({task.name: task for task in (*_ALL, *_ASKED_FOR)})
USUAL = tuple(task.name for task in _ALL)
"""What the suite measures unless it is told: all of the paper's; made shifts encode a set forty times."""


def get_tasks(names: Sequence[str]) -> list[Task]:
    """Tasks by their names.

    Raises:
        ConfigError: there is no such task; the message lists all.
    """
    if unknown := [name for name in names if name not in TASKS]:
        near = difflib.get_close_matches(unknown[0].lower().replace("-", "_"), TASKS, 2, 0.7)
        meant = f"did you mean {' or '.join(near)}? " if near else ""
        raise ConfigError(f"there is no task {unknown[0]!r}; {meant}there are {', '.join(TASKS)}")
    return [TASKS[name] for name in dict.fromkeys(names)]
