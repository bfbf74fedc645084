"""All tasks of the suite, by name."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from diptych.errors import ConfigError
from diptych.evaluate.task import Task
from diptych.evaluate.zero_shot_task import ZERO_SHOT

TASKS: Mapping[str, Task] = MappingProxyType({task.name: task for task in (ZERO_SHOT,)})


def get_tasks(names: Sequence[str]) -> list[Task]:
    """Tasks by their names.

    Raises:
        ConfigError: there is no such task; the message lists all.
    """
    if unknown := [name for name in names if name not in TASKS]:
        raise ConfigError(f"there is no task {unknown[0]!r}; there are {', '.join(TASKS)}")
    return [TASKS[name] for name in dict.fromkeys(names)]
