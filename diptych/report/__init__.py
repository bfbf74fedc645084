"""Tables, charts and pages, made from plain data and written as self-contained files."""

from typing import TYPE_CHECKING

from diptych.lazy import lazy_names

if TYPE_CHECKING:
    from diptych.report.contents import Confusion, Match, Pair, Retrieval, RunReport, Similarity
    from diptych.report.page import render_report, write_report

__all__ = [
    "Confusion",
    "Match",
    "Pair",
    "Retrieval",
    "RunReport",
    "Similarity",
    "render_report",
    "write_report",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "diptych.report.contents": (
            "Confusion",
            "Match",
            "Pair",
            "RunReport",
            "Retrieval",
            "Similarity",
        ),
        "diptych.report.page": (
            "render_report",
            "write_report",
        ),
    },
)
