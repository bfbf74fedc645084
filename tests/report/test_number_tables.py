"""One table in four forms: the same numbers in each, and nothing of its text becomes markup."""

import io
import re

import pytest
from rich.console import Console

from diptych.errors import ShapeError
from diptych.report.table import Cell, NumberTable, to_html, to_latex, to_markdown, to_rich

TABLE = NumberTable(
    "Accuracy, %",
    ["model", "Food101", "DTD", "remark"],
    [
        ("ours & theirs_1", [Cell(45.64, 44.2, 47.04, bold=True), Cell(-3.05, digits=2), "50 % of $1"]),
        ("CLIP RN50", [Cell(81.1, published=True), Cell(90.0, bold=True, published=True), ""]),
        ("absent", [Cell(None, published=True), Cell(0), "–"]),
    ],
    ["Measured on *one* machine."],
)


def test_markdown():
    assert to_markdown(TABLE).split("\n") == [
        "**Accuracy, %**",
        "",
        "| model | Food101 | DTD | remark |",
        "| --- | ---: | ---: | ---: |",
        r"| ours & theirs\_1 | **45.6** (44.2–47.0) | −3.05 | 50 % of \$1 |",
        "| CLIP RN50 | *81.1* | ***90.0*** |  |",
        "| absent |  | 0.0 | – |",
        "",
        "*italic*: the paper's, or computed from the paper's numbers alone",
        "",
        "**bold**: inside the 99.5 % interval of the best of its column",
        "",
        r"Measured on \*one\* machine.",
        "",
    ]


def test_a_pipe_or_a_line_break_in_a_name_opens_no_new_cell():
    hostile = NumberTable("t", ["a", "b|c"], [("x|y\n| z", ["<b>`k`"])])
    rows = [line for line in to_markdown(hostile).split("\n") if line.startswith("|")]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [3, 3, 3] and "<b>" not in rows[2].replace(
        "\\<b\\>", ""
    )


def test_chance_is_marked_in_every_form():
    guessed = NumberTable("t", ["set", "a"], [("MNIST", [Cell(9.8, 8.9, 10.7, chance=True)])])
    assert "| MNIST | 9.8° (8.9–10.7) |" in to_markdown(guessed) and "° at chance: its interval" in to_markdown(guessed)
    assert r"9.8$^\circ$ {\scriptsize (8.9--10.7)}" in to_latex(guessed) and r"$^\circ$ at chance" in to_latex(guessed)
    html = to_html(guessed)
    assert '9.8<small>8.9–10.7</small><small class="chance">at chance</small>' in html
    assert "what guessing scores" in html
    console = Console(file=io.StringIO(), width=80)
    console.print(to_rich(guessed))
    assert "9.8°" in console.file.getvalue() and "at chance" in console.file.getvalue()
    assert not any("chance" in form(TABLE) for form in (to_markdown, to_latex, to_html))


def test_a_page_breaks_a_name_after_an_underscore():
    assert "a_<wbr>&lt;b&gt;</th>" in to_html(NumberTable("t", ["a", "b"], [("a_<b>", [Cell(1)])]))


def test_latex():
    text = to_latex(TABLE)
    assert r"ours \& theirs\_1 & \textbf{45.6} {\scriptsize (44.2--47.0)} & $-$3.05 & 50 \% of \$1 \\" in text
    assert r"CLIP RN50 & \textit{81.1} & \textbf{\textit{90.0}} &  \\" in text
    assert text.index("\\toprule") < text.index("\\midrule") < text.index("\\bottomrule") and "{lrrr}" in text
    assert "rotatebox" not in text and r"\textit{italic}: the paper's, or computed" in text
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    wide = NumberTable("t", ["model", *"abcdefghijklm"], [("x", [Cell(1)] * 13)])
    assert to_latex(wide).count("\\rotatebox{90}") == 13 and "graphicx" in to_latex(wide)
    assert "scriptsize" not in to_latex(NumberTable("t", ["model", *"abcdefghijklm"], [("x", [Cell(1, 0, 2)] * 13)]))
    below = to_latex(NumberTable("t", ["model", "a"], [("x", [Cell(0.1, -1, 2)])]))
    assert r"0.1 {\scriptsize ($-$1.0 to 2.0)}" in below
    hostile = to_latex(NumberTable("\\input{x} ~^#", ["a"], []))
    assert r"\caption{\textbackslash{}input\{x\} \textasciitilde{}\textasciicircum{}\#}" in hostile


def test_html_marks_what_is_the_papers_and_says_so():
    html = str(to_html(TABLE))
    assert '<td class="best">45.6<small>44.2–47.0</small></td>' in html
    assert '<td class="published">81.1</td>' in html and '<td class="published best">90.0</td>' in html
    assert "ours &amp; theirs_<wbr>1" in html and "the paper&#39;s, or computed" in html
    assert re.findall(r'<th scope="row">([^<]*)', html) == ["ours &amp; theirs_", "CLIP RN50", "absent"]  # given order
    assert "published" not in to_html(NumberTable("t", ["a", "b"], [("x", [Cell(1)])]))
    hostile = to_html(NumberTable("<script>", ["<script>"] * 2, [("<script>", ["<script>"])], ["<script>"]))
    assert "<script" not in hostile and "upright" not in hostile


def test_a_terminal_shows_every_number():
    console = Console(file=io.StringIO(), width=100)
    console.print(to_rich(TABLE))
    shown = console.file.getvalue()
    for words in (
        "ours & theirs_1",
        "45.6",
        "−3.05",
        "81.1†",
        "90.0†",
        "†: the paper's, or computed",
        "Measured on *one*",
    ):
        assert words in shown
    markup = NumberTable("[bold]t", ["[red]a", "b"], [("[link=x]y", ["[/]"])])
    console.print(to_rich(markup))
    assert "[link=x]y" in console.file.getvalue() and "[red]a" in console.file.getvalue()


def test_a_row_of_other_length_is_refused():
    with pytest.raises(ShapeError, match="t: x has 2 cells for 1 columns"):
        NumberTable("t", ["a", "b"], [("x", [Cell(1), Cell(2)])])
