"""The quickstart (train and test on generated pairs in one command), and the report page of every training run."""

from typing import TYPE_CHECKING

from diptych.lazy import lazy_names

if TYPE_CHECKING:
    from diptych.quickstart.job import Quickstart, run_quickstart
    from diptych.quickstart.run_page import write_run_page

__all__ = ["Quickstart", "run_quickstart", "write_run_page"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "diptych.quickstart.job": ("Quickstart", "run_quickstart"),
        "diptych.quickstart.run_page": ("write_run_page",),
    },
)
