"""Exhibit: a table or figure of the paper, made from measured Results and the paper's own numbers."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from diptych.records import Result
from diptych.report.shown import Shown


@dataclasses.dataclass(frozen=True)
class Exhibit:
    """A table or figure of the paper.

    Attributes:
        name: "table11", "figure7", ...; also the name of its command.
        about: one-sentence description.
        needs: (task, card names) pairs that must be measured for it. Cells of missing sets stay empty.
        build: makes the contents from the Results of any number of models; without Results, from the paper's numbers.
        own_sets: whether user-defined sets are measured for it too.
        look: makes the contents from Results, the folder of their per-sample Predictions and the folder of sets, if
            known. It returns None if such files are missing, and `build` is used instead.
    """

    name: str
    about: str
    needs: Sequence[tuple[str, Sequence[str]]]
    build: Callable[[Sequence[Result]], Shown]
    own_sets: bool = False
    look: Callable[[Sequence[Result], Path, Path | None], Shown | None] | None = None
