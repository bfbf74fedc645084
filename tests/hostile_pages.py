"""Texts that attack a page, pages with these texts in every place, and a parser that sees a page as a browser does."""

import dataclasses
from html.parser import HTMLParser

import numpy as np
from example_report import example, picture

from diptych.report import Confusion, Match, Pair, Retrieval, RunReport, Similarity

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</svg></style></title><iframe src=//evil.example>",
    "{{7*7}} {% raw %} ${7*7} %s {0}",
    "$x_1^2$ \\frac{1}{2}",
    "javascript:alert(1) https://evil.example/a.png",
    "\u202eevil\u202c \u2066a\u2069 zero\u200bwidth\ufeff",
    "مرحبا بالعالم שלום",
    "红色的圆 😀👩‍🚀",
    "\x00\x07\x1b[31m\ud800\r\n\t tail",
    "&lt;b&gt; &amp;amp; <!-- ]]>",
    "word " * 2000,
    "w" * 10_000,
]


class Page(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def with_texts(text: str) -> RunReport:
    """The example report with the same text in every place that holds a text."""
    report = example()
    rng = np.random.default_rng(0)
    pixels = picture("red", "star", rng)
    return dataclasses.replace(
        report,
        title=text,
        headline=text,
        results=[
            dataclasses.replace(r, dataset=text, model=text, interval=text, run={"command": text})
            for r in report.results
        ],
        chance={text: 0.1},
        similarity=Similarity(report.similarity.images, [text] * 12, np.linspace(0, 1, 144).reshape(12, 12)),
        captions_of_pictures=[Retrieval(pixels, [Match(text, 0.5, True), Match(text, 0.4, False)])],
        pictures_of_captions=[Retrieval(text, [Match(pixels, 0.5, True), Match(pixels, 0.4, False)])],
        confusion=Confusion(text, [text] * 10, report.confusion.counts),
        training_pairs=[Pair(pixels, text)],
        facts={text: text, "command": text, "seconds": text, "cores": text, "parameters": text},
        next_steps=[(text, text)],
    )
