"""Tables of numbers, as plain data, and their output in a terminal, as HTML, as Markdown and as LaTeX."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from markupsafe import Markup
from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderResult
from rich.table import Table
from rich.text import Text

from diptych.errors import ShapeError
from diptych.report.display import NOTHING, readable

_MANY_COLUMNS = 12  # with more columns, the column names are vertical
_MANY_ROWS = 30  # with more rows, a page shows them in a scrolling region under the column names
_LONGEST_TEXT = 24  # characters of text in a terminal's cell; longer text is wrapped
_PARTIAL = "‡"
_GAP = 2  # characters between columns in a terminal
_LEGEND = {
    "published": "the paper's, or computed from the paper's numbers alone",
    "bold": "inside the 99.5 % interval of the best of its column",
    "partial": "of some of the set's classes or samples alone, which is not the paper's protocol",
    "chance": "its interval reaches down to what guessing scores",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """One number.

    Attributes:
        value: the number to show, in percent if the table says so; None for an empty cell.
        low, high: interval, shown if the output format has room.
        bold: the value is as good as the best of its column.
        published: the value is the paper's own; it is marked.
        digits: decimal places.
        partial: images of some classes are missing, or the recall is among fewer items; the value is marked.
        chance: the value is not distinguishable from guessing; it is marked.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    bold: bool = False
    published: bool = False
    digits: int = 1
    partial: bool = False
    chance: bool = False


@dataclasses.dataclass(frozen=True)
class NumberTable:
    """A table whose rows have a name and cells.

    Attributes:
        title: title of the table.
        columns: names of all columns, including the column of row names.
        rows: name and cells of each row; a cell may be text.
        notes: one or two sentences each, shown under the table.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell | str]]]
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name, cells in self.rows:
            if len(cells) != len(self.columns) - 1:
                raise ShapeError(f"{self.title}: {name} has {len(cells)} cells for {len(self.columns) - 1} columns")


def to_markdown(table: NumberTable) -> str:
    """A title and a pipe table: intervals in parentheses, the paper's numbers in italics, the best ones in bold."""
    rows = [[_markdown(name), *(_markdown_cell(cell) for cell in cells)] for name, cells in table.rows]
    lines = [
        f"**{_markdown(table.title)}**",
        "",
        _pipe_row([_markdown(column) for column in table.columns]),
        _pipe_row(["---", *["---:"] * (len(table.columns) - 1)]),
        *map(_pipe_row, rows),
    ]
    marks = {"published": "*italic*: {}", "bold": "**bold**: {}"}
    marks |= {"partial": f"{_PARTIAL}: {{}}", "chance": "° at chance: {}"}
    under = [*(marks[kind].format(_LEGEND[kind]) for kind in _kinds(table)), *map(_markdown, table.notes)]
    return "\n".join([*lines, *(part for note in under for part in ("", note))]) + "\n"


def to_latex(table: NumberTable) -> str:
    """A LaTeX table that needs booktabs (and graphicx, if its column names are vertical).

    Intervals follow the numbers in small print, except in wide tables.
    """
    upright = len(table.columns) > _MANY_COLUMNS
    names = [_latex(column) for column in table.columns]
    if upright:
        names = [names[0], *(f"\\rotatebox{{90}}{{{name}}}" for name in names[1:])]
    marks = {
        "published": "\\textit{{italic}}: {}",
        "bold": "\\textbf{{bold}}: {}",
        "partial": f"{_LATEX[_PARTIAL]}: {{}}",
        "chance": "$^\\circ$ at chance: {}",
    }
    under = [*(marks[kind].format(_latex(_LEGEND[kind])) for kind in _kinds(table)), *map(_latex, table.notes)]
    return "\n".join(
        [
            "% \\usepackage{booktabs}" + (" \\usepackage{graphicx}" if upright else ""),
            "\\begin{table}",
            "\\centering",
            f"\\caption{{{_latex(table.title)}}}",
            f"\\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
            "\\toprule",
            " & ".join(names) + " \\\\",
            "\\midrule",
            *(
                " & ".join([_latex(name), *(_latex_cell(cell, not upright) for cell in cells)]) + " \\\\"
                for name, cells in table.rows
            ),
            "\\bottomrule",
            "\\end{tabular}",
            *(f"\\par\\smallskip {note}" for note in under),
            "\\end{table}",
            "",
        ]
    )


def to_html(table: NumberTable) -> Markup:
    """A figure of the class "table": the title, the table in a scrolling region, a legend and the notes.

    The paper's numbers have the class "published", the best of each column the class "best". The page's style must
    include templates/tables.css.
    """
    head = Markup("").join(
        Markup('<th scope="col"{}><span>{}</span></th>').format(
            Markup(' class="words"') if place and _in_words(table, place) else "", readable(column, 60)
        )
        for place, column in enumerate(table.columns)
    )
    body = Markup("").join(
        Markup('<tr><th scope="row">{}</th>{}</tr>\n').format(
            _breakable(readable(name, 80)), Markup("").join(map(_html_cell, cells))
        )
        for name, cells in table.rows
    )
    marks = {
        "published": Markup('<i class="published">italic</i>'),
        "bold": Markup('<b class="best">bold</b>'),
        "partial": Markup(_PARTIAL),
        "chance": Markup('<span class="chance">at chance</span>'),
    }
    under = [Markup("{}: {}").format(marks[kind], _LEGEND[kind]) for kind in _kinds(table)]
    under += [Markup("{}").format(readable(note, 600)) for note in table.notes]
    return Markup(
        '<figure class="table"><figcaption>{0}</figcaption>\n'
        '<div class="scroll{1}" tabindex="0" role="region" aria-label="{0}"><table class="numbers-table{2}">\n'
        "<thead><tr>{3}</tr></thead>\n<tbody>\n{4}</tbody></table></div>\n{5}</figure>"
    ).format(
        readable(table.title, 240),
        " tall" if len(table.rows) > _MANY_ROWS else "",
        " upright" if len(table.columns) > _MANY_COLUMNS else "",
        head,
        body,
        Markup("").join(Markup('<p class="note">{}</p>\n').format(note) for note in under),
    )


def to_rich(table: NumberTable) -> ConsoleRenderable:
    """A table for a terminal, without intervals; the paper's numbers are in italics and have a dagger.

    Column names wrap between words. If the terminal is too narrow for all columns, the table is split into several
    tables, one below the other. Numbers are never truncated.
    """
    return _FittedTable(table)


@dataclasses.dataclass(frozen=True)
class _FittedTable:
    """A table that is fitted to the width of the terminal when it is printed."""

    table: NumberTable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table, start = self.table, 0
        names = max((len(name) for name, _ in table.rows), default=0)
        names = max(len(table.columns[0]), min(names, options.max_width * 2 // 5))
        widths = [_column_width(table, place) for place in range(1, len(table.columns))]
        while True:
            end, used = start, names + _GAP
            while end < len(widths) and (end == start or used + widths[end] + _GAP <= options.max_width - 2):
                used += widths[end] + _GAP
                end += 1
            rows = [(name, cells[start:end]) for name, cells in table.rows]
            columns = [table.columns[0], *table.columns[1:][start:end]]
            last = end >= len(widths)
            part = NumberTable(table.title if not start else "", columns, rows)
            yield _rich_table(part, [names, *widths[start:end]])
            if last:
                break
            start = end
        marks = {"published": "†: {}", "bold": "bold: {}", "partial": f"{_PARTIAL}: {{}}", "chance": "° at chance: {}"}
        under = [*(marks[kind].format(_LEGEND[kind]) for kind in _kinds(table)), *table.notes]
        yield from (Text(readable(note, 600), style="dim") for note in under)
        yield Text("")


def _column_width(table: NumberTable, place: int) -> int:
    """The width of a column: its longest number or the longest word of its name; text in cells may wrap."""
    cells = [row[place - 1] for _, row in table.rows]
    shown = [min(len(cell), _LONGEST_TEXT) if isinstance(cell, str) else len(_rich_cell(cell)) for cell in cells]
    return max([*shown, *map(len, readable(table.columns[place], 60).split())], default=1)


def _rich_table(table: NumberTable, widths: Sequence[int]) -> Table:
    shown = Table(
        title=Text(readable(table.title, 240), style="bold") if table.title else None,
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for place, (column, width) in enumerate(zip(table.columns, widths, strict=True)):
        justify: Literal["left", "right"] = "right" if place else "left"
        shown.add_column(
            Text(readable(column, 60)), justify=justify, vertical="bottom", min_width=width, max_width=width
        )
    for name, cells in table.rows:
        shown.add_row(Text(readable(name, 80)), *map(_rich_cell, cells))
    return shown


def _kinds(table: NumberTable) -> list[str]:
    """The kinds of marks that occur in the table, in the order of the legend."""
    cells = [cell for _, cells in table.rows for cell in cells if isinstance(cell, Cell) and cell.value is not None]
    return [kind for kind in _LEGEND if any(getattr(cell, kind) for cell in cells)]


def _in_words(table: NumberTable, place: int) -> bool:
    """Whether all cells of a column are text."""
    return bool(table.rows) and all(isinstance(cells[place - 1], str) for _, cells in table.rows)


def _number(value: float | None, digits: int) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}".replace("-", "−")


def _interval(cell: Cell) -> str:
    if cell.value is None or cell.low is None or cell.high is None:
        return ""
    dash = " to " if cell.low < 0 else "–"  # a dash before a minus sign would be hard to read
    return f"{_number(cell.low, cell.digits)}{dash}{_number(cell.high, cell.digits)}"


def _pipe_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown(text: str) -> str:
    line = readable(text, 600)
    for character in "\\`*_|[]<>~$":
        line = line.replace(character, f"\\{character}")
    return line


def _markdown_cell(cell: Cell | str) -> str:
    if isinstance(cell, str):
        return _markdown(cell)
    if cell.value is None:
        return ""
    emphasis = "*" * (cell.published + 2 * cell.bold)
    interval = _interval(cell)
    shown = f"{emphasis}{_number(cell.value, cell.digits)}{emphasis}{_PARTIAL * cell.partial}{'°' * cell.chance}"
    return f"{shown}{f' ({interval})' if interval else ''}"


_LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"},
    **{"−": "$-$", "–": "--", "·": "$\\cdot$", "±": "$\\pm$", "≥": "$\\geq$", "≤": "$\\leq$", "×": "$\\times$"},
    **{_PARTIAL: "$\\ddagger$"},
    **{"<": "$<$", ">": "$>$", "λ": "$\\lambda$", "→": "$\\to$", "…": "\\ldots{}"},
}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in readable(text, 800))


def _latex_cell(cell: Cell | str, with_interval: bool) -> str:
    if isinstance(cell, str):
        return _latex(cell)
    if cell.value is None:
        return ""
    shown = _latex(_number(cell.value, cell.digits))
    shown = f"\\textit{{{shown}}}" if cell.published else shown
    shown = f"\\textbf{{{shown}}}" if cell.bold else shown
    shown += _LATEX[_PARTIAL] * cell.partial
    shown += "$^\\circ$" if cell.chance else ""
    interval = _interval(cell) if with_interval else ""
    return f"{shown} {{\\scriptsize ({_latex(interval)})}}" if interval else shown


def _breakable(name: str) -> Markup:
    """A name that may wrap after underscores, not within words."""
    return Markup("_<wbr>").join(name.split("_"))


def _html_cell(cell: Cell | str) -> Markup:
    if isinstance(cell, str):
        return Markup('<td class="words">{}</td>').format(readable(cell, 400))
    if cell.value is None:
        return Markup("<td></td>")
    kinds = " ".join(name for name, applies in (("published", cell.published), ("best", cell.bold)) if applies)
    interval = _interval(cell)
    small = Markup("<small>{}</small>").format(interval) if interval else Markup("")
    small += Markup('<small class="chance">at chance</small>') if cell.chance else ""
    return Markup("<td{}>{}{}</td>").format(
        Markup(' class="{}"').format(kinds) if kinds else "",
        _number(cell.value, cell.digits) + _PARTIAL * cell.partial,
        small,
    )


def _rich_cell(cell: Cell | str) -> Text:
    if isinstance(cell, str):
        return Text(readable(cell, 200))
    if cell.value is None:
        return Text("")
    style = " ".join(name for name, applies in (("bold", cell.bold), ("italic", cell.published)) if applies)
    signs = "†" * cell.published + _PARTIAL * cell.partial + "°" * cell.chance
    return Text(_number(cell.value, cell.digits) + signs, style=style)
