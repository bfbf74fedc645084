"""Exhibits as a page and as files: all of their parts are there, nothing is loaded, and hostile text stays text."""

import dataclasses
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from browser_checks import CONTRAST, LAYOUT

from diptych.errors import ConfigError
from diptych.paper.exhibit_table import EXHIBITS
from diptych.report.bars import BarChart
from diptych.report.curves import Chart, Series
from diptych.report.example_images import Example
from diptych.report.exhibit_page import FORMS, exhibit_label, render_exhibits, write_exhibit, write_exhibits
from diptych.report.shown import Shown
from diptych.report.table import Cell, NumberTable

HOSTILE = '<script>alert(1)</script>"&\u202e'


def shown(text="harmless", rows=3):
    """Everything that an exhibit can have, each with the text in it."""
    many = [
        (f"{text}{row}", [Cell(90.0 - row, 80, 95, bold=not row), Cell(0, published=True), text]) for row in range(rows)
    ]
    picture = np.full((200, 100, 3), 90, np.uint8)
    return Shown(
        f"{text} is found",
        f"{text} in more words",
        [NumberTable(text, [text, "ours", "paper", "words"], many, [text])],
        [
            BarChart(text, text, [(text, 3.0), ("b", -1)], [2.0, None]),
            Chart(text, text, text, [Series(text, [1, 2], [3, 4])]),
        ],
        [f"{text} was measured"],
        [
            Example(text, text, 2, [("other", 0.6), (text, 0.3)], 1, 5, picture),
            Example(text, text, None, [("other", 0.6)], None, 5),
        ],
    )


class Tags(HTMLParser):
    """The elements of a page, checked for being closed in order."""

    def __init__(self, html):
        super().__init__()
        self.found, self.open, self.addresses, self.anchors = [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)
        names = dict(attrs)
        self.addresses += [names[name] for name in ("src", "href") if name in names]
        self.anchors += [names["id"]] if "id" in names else []
        if tag not in ("meta", "link", "img", "br", "rect", "line", "circle", "polygon", "polyline", "path"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()
        elif tag in self.open:
            raise AssertionError(f"</{tag}> closes {self.open[-1]}")


def test_a_page_has_contents_that_lead_to_every_exhibit_and_loads_nothing():
    html = render_exhibits([("table11", shown()), ("figure9-paper", shown())], {"commit": "abc"})
    tags = Tags(html)
    assert tags.open == [] and not {"script", "iframe"} & set(tags.found)
    assert {"#table11", "#figure9-paper"} <= set(tags.addresses) and {"table11", "figure9-paper", "top"} <= set(
        tags.anchors
    )
    assert all(address.startswith(("#", "data:")) for address in tags.addresses) and "url(" not in html
    assert tags.found.count("table") == 2 and tags.found.count("svg") == 1 + 4 and tags.found.count("img") == 2
    for words in ("Table 11", "Figure 9, paper", "harmless was measured", "ranked 2", "ranked below 5", "60.0", "abc"):
        assert words in html
    alone = Tags(render_exhibits([("table11", shown())], {}))
    assert "nav" not in alone.found  # one exhibit needs no contents


def test_hostile_text_changes_no_tag():
    pages = [render_exhibits([("table1", shown(text))], {text: text}, text) for text in ("harmless", HOSTILE)]
    assert Tags(pages[0]).found == Tags(pages[1]).found and "<script" not in pages[1]
    prose = re.sub(r"<svg.*?</svg>", "", pages[1], flags=re.DOTALL)
    assert "\u202e" not in re.sub(r'aria-label="[^"]*"', "", prose)


def test_notes_stand_in_every_form_whole(tmp_path):
    note = "Of 27 sets " + " ".join(f"set{number}" for number in range(90)) + " are whole."
    found = dataclasses.replace(shown(), notes=[note, "And this."])
    for path in write_exhibit("figure5", found, tmp_path, FORMS):
        words = path.read_text()
        if path.suffix == ".svg":
            lines = [one for one in ElementTree.fromstring(words).iter() if one.get("class") == "name"]
            width, height = (float(ElementTree.fromstring(words).get(side)) for side in ("width", "height"))
            assert all(0 < float(one.get("y")) < height for one in lines)
            assert max(len(one.text) for one in lines) * 6.2 < width  # a letter of 12 pixels is 6 wide on the mean
            words = " ".join(one.text for one in lines)
        assert note in words and "And this." in words, path.name


def test_a_long_table_scrolls_in_its_own_window_and_many_charts_are_small():
    assert 'class="scroll tall"' in render_exhibits([("t", shown(rows=40))], {})
    assert 'class="scroll tall"' not in render_exhibits([("t", shown(rows=10))], {})
    crowd = dataclasses.replace(shown(), charts=[shown().charts[1]] * 8)
    html = render_exhibits([("t", crowd)], {})
    assert 'class="charts many"' in html and html.count('viewBox="0 0 340 270"') == 8


def test_files_of_all_forms(tmp_path):
    written = write_exhibit("table3", shown(), tmp_path / "new", facts={"commit": "abc"})
    assert [path.name for path in written] == [f"table3.{form}" for form in FORMS] and all(p.is_file() for p in written)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(path.name for path in written)
    text = {path.suffix: path.read_text() for path in written}
    assert (
        "## Table 3: harmless is found" in text[".md"] and "| harmless0 | **90.0** (80.0–95.0) | *0.0* |" in text[".md"]
    )
    assert "](table3.svg)" in text[".md"] and "\\toprule" in text[".tex"]
    assert ElementTree.fromstring(text[".svg"]).tag.endswith("svg")
    numbers = json.loads(text[".json"])
    assert numbers["tables"][0]["rows"][0][1][:2] == [
        {"value": 90.0, "low": 80, "high": 95, "bold": True, "digits": 1},
        {"value": 0, "published": True, "digits": 1},
    ]
    assert numbers["name"] == "table3" and numbers["facts"] == {"commit": "abc"} and "picture" not in text[".json"]


def test_forms_that_have_nothing_to_show_are_left_out_and_unknown_ones_refused(tmp_path):
    bare = Shown("nothing but words")
    assert [path.suffix for path in write_exhibit("x", bare, tmp_path)] == [".html", ".md", ".json"]
    with pytest.raises(ConfigError, match="pdf"):
        write_exhibit("x", bare, tmp_path, forms=("pdf",))


def test_labels():
    assert [exhibit_label(name) for name in ("table10", "figure9-paper", "figure-7", "suite")] == [
        "Table 10",
        "Figure 9, paper",
        "Figure 7",
        "Suite",
    ]


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not Path("/usr/bin/chromium").exists():
        pytest.skip("/usr/bin/chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        yield chromium
        chromium.close()


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1440, "light")])
def test_the_papers_exhibits_in_a_browser(browser, tmp_path, width, scheme):
    every = [(name, exhibit.build([])) for name, exhibit in EXHIBITS.items()] + [("extra", shown("w" * 400))]
    address = write_exhibits(every, tmp_path / "page.html", {"commit": "abc"}).as_uri()
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    assert [url for url in asked if not url.startswith("data:")] == [address] and not said
    layout = page.evaluate(LAYOUT)
    assert layout["outside"] == [] and layout["scroll"] <= 0 and layout["images"] == 0
    assert layout["headings"][0] == 1 and layout["headings"].count(1) == 1
    assert [text for text in page.evaluate(CONTRAST) if text[0] < 4.5 or text[1] < 12] == []
    narrow = "() => [...document.querySelectorAll('.numbers-table tbody th')].filter(n => n.offsetWidth < 45).length"
    assert page.evaluate(narrow) == 0  # names of rows stay words, not columns of letters
    context.close()
