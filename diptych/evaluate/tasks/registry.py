"""The table of tasks: the measurements of the suite, `diptych.evaluate` and training, by name.

A user's module can add tasks: it calls `register(Task(...))`, and `--tasks my_module` imports it.
"""

import difflib
import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from diptych.errors import ConfigError
from diptych.evaluate.tasks.few_shot_tasks import FEW_SHOT, FEW_SHOT_FROM_TEXTS
from diptych.evaluate.tasks.geolocation import GEOLOCATION
from diptych.evaluate.tasks.human import HUMAN
from diptych.evaluate.tasks.lexicon import LEXICON
from diptych.evaluate.tasks.probe_tasks import IMAGENET_PROBE, LINEAR_PROBE, PROJECTED_PROBE
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
_registered: dict[str, Task] = {task.name: task for task in (*_ALL, *_ASKED_FOR)}

TASKS: Mapping[str, Task] = MappingProxyType(_registered)
"""All tasks by name, including registered ones."""
USUAL = tuple(task.name for task in _ALL)
"""The default tasks of the suite: those of the paper. The task "shifts" is left out: it encodes a set forty times."""


def register(task: Task) -> Task:
    """Add a task to the table; returns it.

    Raises:
        ConfigError: it is not a Task, its name is not usable in file names, or another task has that name.
    """
    if not isinstance(task, Task):
        raise ConfigError(f"register takes a Task, not {task!r:.80}")
    if not task.name.replace("_", "").isalnum():
        raise ConfigError(f"a task's name consists of letters, digits and _, not {task.name!r}")
    if _registered.get(task.name, task) is not task:
        raise ConfigError(f"there is already a task {task.name!r}; choose another name")
    _registered[task.name] = task
    return task


def load_task_module(name: str) -> list[str]:
    """Import a module that registers tasks, from the installed packages or the working directory.

    Args:
        name: name of the module, such as "my_tasks" or "my_package.tasks".
    Returns:
        The names of the tasks that the module registered.
    Raises:
        ConfigError: the module cannot be imported, or registers no task.
    """
    before = set(_registered)
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        importlib.import_module(name)
    except ConfigError:
        raise
    except Exception as error:  # a user's module can raise any error
        raise ConfigError(f"--tasks {name}: the module cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        if added:
            sys.path.remove(here)
    registered = [task for task in _registered if task not in before]
    registered = registered or _modules.get(name, [])
    if not registered:
        raise ConfigError(f"--tasks {name}: the module registers no task; it must call diptych.evaluate.register(Task)")
    _modules[name] = registered
    return registered


_modules: dict[str, list[str]] = {}  # the tasks of imported modules: a second import registers nothing


def get_tasks(names: Sequence[str]) -> list[Task]:
    """Tasks by their names.

    Raises:
        ConfigError: a task does not exist; the message lists all tasks.
    """
    if unknown := [name for name in names if name not in TASKS]:
        similar = difflib.get_close_matches(unknown[0].lower().replace("-", "_"), TASKS, 2, 0.7)
        hint = f"did you mean {' or '.join(similar)}? " if similar else ""
        raise ConfigError(f"there is no task {unknown[0]!r}; {hint}there are {', '.join(TASKS)}")
    return [TASKS[name] for name in dict.fromkeys(names)]
