"""A table or figure of the paper, made from measured Results and the paper's own numbers."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from diptych.records import Result
from diptych.report.shown import Shown


@dataclasses.dataclass(frozen=True)
class Exhibit:
    """A table or figure of the paper.

    Attributes:
        name: "table11", "figure7": its command, too.
        about: one sentence for --help.
        needs: (task, card names) pairs that must be measured for it; sets that are missing leave their cells empty.
        build: from the Results of any number of models to what is shown; with no Results it shows the paper's numbers.
        own_sets: whether sets of one's own are measured for it, too.
        look: the same from Results, the folder of their per-sample Predictions and that of the sets, if it is known;
            None where there are no such files. It goes before `build`.
    """

    name: str
    about: str
    needs: Sequence[tuple[str, Sequence[str]]]
    build: Callable[[Sequence[Result]], Shown]
    own_sets: bool = False
    look: Callable[[Sequence[Result], Path, Path | None], Shown | None] | None = None
