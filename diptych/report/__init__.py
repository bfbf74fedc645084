"""Results, logs and pictures as one self-contained HTML page."""

from diptych.report.contents import Confusion, Match, Pair, QuickstartReport, Retrieval, Similarity
from diptych.report.page import render_report, write_report

__all__ = [
    "Confusion",
    "Match",
    "Pair",
    "QuickstartReport",
    "Retrieval",
    "Similarity",
    "render_report",
    "write_report",
]
