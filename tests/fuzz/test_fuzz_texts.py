"""Captions and class names of any kind in a page: they are text there, and nothing else."""

import hypothesis
import pytest
from hostile_pages import HOSTILE, Page, with_texts
from hypothesis import strategies as st

from diptych.report import render_report
from diptych.report.display import as_number

PIECES = (
    "<",
    ">",
    "</",
    "<script>",
    "&",
    '"',
    "'",
    "`",
    "=",
    "on",
    "javascript:",
    "{{",
    "%}",
    "]]>",
    "-->",
    "\0",
    "\ud800",
)
TEXTS = st.lists(st.one_of(st.sampled_from((*PIECES, *HOSTILE)), st.text(max_size=20)), max_size=12).map("".join)
HARMLESS = Page(render_report(with_texts("harmless")))


def check_page(text: str) -> None:
    hypothesis.assume(as_number(text) is None)  # a number among the facts is shown large
    page = Page(render_report(with_texts(text or "x")))
    assert page.tags == HARMLESS.tags
    assert not [one for one in page.attributes if one[1].startswith("on") or one[2].startswith("javascript:")]


@hypothesis.settings(max_examples=20, deadline=None, derandomize=True)
@hypothesis.given(TEXTS)
def test_no_text_changes_a_page(text):
    check_page(text)


@pytest.mark.long
@hypothesis.settings(max_examples=1500, deadline=None)
@hypothesis.given(TEXTS)
def test_no_text_of_very_many_changes_a_page(text):
    check_page(text)
