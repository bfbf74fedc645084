"""Tables of numbers: one description, shown in a terminal, on a page, as Markdown and as LaTeX."""

import dataclasses
from collections.abc import Sequence

from markupsafe import Markup
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from diptych.errors import ShapeError
from diptych.report.formats import NOTHING, readable

_MANY_COLUMNS = 12  # with more, the names of the columns are set upright
_MANY_ROWS = 30  # with more, a page shows them in a window of their own, under the names of the columns
_LEGEND = {
    "published": "the paper's, or computed from the paper's numbers alone",
    "bold": "inside the 99.5 % interval of the best of its column",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """One number.

    Attributes:
        value: as shown, percent where the table says so; None shows an empty cell.
        low, high: its interval, shown where the form has room.
        bold: it is as good as the best of its column.
        published: it is the paper's own, and marked as such.
        digits: after the point.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    bold: bool = False
    published: bool = False
    digits: int = 1


@dataclasses.dataclass(frozen=True)
class NumberTable:
    """Rows of numbers with a name each.

    Attributes:
        title: what it shows.
        columns: names of all columns, the first being that of the rows' names.
        rows: name and cells; a cell may be words.
        notes: under it, a sentence or two each.
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
    """A pipe table under its title: intervals in brackets, the paper's numbers in italics, the best in bold."""
    rows = [[_markdown(name), *(_markdown_cell(cell) for cell in cells)] for name, cells in table.rows]
    lines = [
        f"**{_markdown(table.title)}**",
        "",
        _piped([_markdown(column) for column in table.columns]),
        _piped(["---", *["---:"] * (len(table.columns) - 1)]),
        *map(_piped, rows),
    ]
    marks = {"published": "*italic*: {}", "bold": "**bold**: {}"}
    under = [*(marks[kind].format(_LEGEND[kind]) for kind in _kinds(table)), *map(_markdown, table.notes)]
    return "\n".join([*lines, *(part for note in under for part in ("", note))]) + "\n"


def to_latex(table: NumberTable) -> str:
    """A tabular of booktabs (and of graphicx, where upright names of columns need it), without intervals."""
    upright = len(table.columns) > _MANY_COLUMNS
    names = [_latex(column) for column in table.columns]
    if upright:
        names = [names[0], *(f"\\rotatebox{{90}}{{{name}}}" for name in names[1:])]
    marks = {"published": "\\textit{{italic}}: {}", "bold": "\\textbf{{bold}}: {}"}
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
            *(" & ".join([_latex(name), *map(_latex_cell, cells)]) + " \\\\" for name, cells in table.rows),
            "\\bottomrule",
            "\\end{tabular}",
            *(f"\\par\\smallskip {note}" for note in under),
            "\\end{table}",
            "",
        ]
    )


def to_html(table: NumberTable) -> Markup:
    """A figure of the class "table": the title, the table in a region that scrolls, a legend and the notes.

    The paper's numbers are of the class "published", the best of each column of the class "best"; the page's style must
    include templates/tables.css.
    """
    head = Markup("").join(
        Markup('<th scope="col"><span>{}</span></th>').format(readable(column, 60)) for column in table.columns
    )
    body = Markup("").join(
        Markup('<tr><th scope="row">{}</th>{}</tr>\n').format(
            readable(name, 80), Markup("").join(map(_html_cell, cells))
        )
        for name, cells in table.rows
    )
    marks = {"published": Markup('<i class="published">italic</i>'), "bold": Markup('<b class="best">bold</b>')}
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


def to_rich(table: NumberTable, most_columns: int = 9) -> Group:
    """A table for a terminal, without intervals; the paper's numbers are in italics and have a dagger.

    One with more columns than `most_columns` is cut into several, under each other.
    """
    columns, step = table.columns[1:], max(1, most_columns - 1)
    if len(columns) <= step:
        return Group(_rich_table(table))
    parts = []
    for start in range(0, len(columns), step):
        rows = [(name, cells[start : start + step]) for name, cells in table.rows]
        last = start + step >= len(columns)
        parts.append(
            NumberTable(
                table.title if not start else "",
                [table.columns[0], *columns[start : start + step]],
                rows,
                table.notes if last else (),
            )
        )
    return Group(*map(_rich_table, parts))


def _rich_table(table: NumberTable) -> Table:
    marks = {"published": "†: {}", "bold": "bold: {}"}
    under = [*(marks[kind].format(_LEGEND[kind]) for kind in _kinds(table)), *table.notes]
    shown = Table(
        title=Text(readable(table.title, 240)),
        caption=Text("\n".join(readable(note, 600) for note in under)) if under else None,
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for place, column in enumerate(table.columns):
        shown.add_column(Text(readable(column, 60)), justify="right" if place else "left", no_wrap=True)
    for name, cells in table.rows:
        shown.add_row(Text(readable(name, 80)), *map(_rich_cell, cells))
    return shown


def _kinds(table: NumberTable) -> list[str]:
    """Which marks occur, in the legend's order."""
    cells = [cell for _, cells in table.rows for cell in cells if isinstance(cell, Cell) and cell.value is not None]
    return [kind for kind in _LEGEND if any(getattr(cell, kind) for cell in cells)]


def _number(value: float | None, digits: int) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}".replace("-", "−")


def _interval(cell: Cell) -> str:
    if cell.value is None or cell.low is None or cell.high is None:
        return ""
    return f"{_number(cell.low, cell.digits)}–{_number(cell.high, cell.digits)}"


def _piped(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown(words: str) -> str:
    line = readable(words, 600)
    for sign in "\\`*_|[]<>~$":
        line = line.replace(sign, f"\\{sign}")
    return line


def _markdown_cell(cell: Cell | str) -> str:
    if isinstance(cell, str):
        return _markdown(cell)
    if cell.value is None:
        return ""
    mark = "*" * (cell.published + 2 * cell.bold)
    interval = _interval(cell)
    return f"{mark}{_number(cell.value, cell.digits)}{mark}{f' ({interval})' if interval else ''}"


_LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"},
    **{"−": "$-$", "–": "--", "·": "$\\cdot$", "±": "$\\pm$", "≥": "$\\geq$", "≤": "$\\leq$", "×": "$\\times$"},
    **{"<": "$<$", ">": "$>$", "λ": "$\\lambda$", "→": "$\\to$", "…": "\\ldots{}"},
}


def _latex(words: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in readable(words, 600))


def _latex_cell(cell: Cell | str) -> str:
    if isinstance(cell, str):
        return _latex(cell)
    if cell.value is None:
        return ""
    shown = _latex(_number(cell.value, cell.digits))
    shown = f"\\textit{{{shown}}}" if cell.published else shown
    return f"\\textbf{{{shown}}}" if cell.bold else shown


def _html_cell(cell: Cell | str) -> Markup:
    if isinstance(cell, str):
        return Markup('<td class="words">{}</td>').format(readable(cell, 400))
    if cell.value is None:
        return Markup("<td></td>")
    kinds = " ".join(name for name, given in (("published", cell.published), ("best", cell.bold)) if given)
    interval = _interval(cell)
    small = Markup("<small>{}</small>").format(interval) if interval else ""
    return Markup("<td{}>{}{}</td>").format(
        Markup(' class="{}"').format(kinds) if kinds else "", _number(cell.value, cell.digits), small
    )


def _rich_cell(cell: Cell | str) -> Text:
    if isinstance(cell, str):
        return Text(readable(cell, 200))
    if cell.value is None:
        return Text("")
    style = " ".join(name for name, given in (("bold", cell.bold), ("italic", cell.published)) if given)
    return Text(_number(cell.value, cell.digits) + ("†" if cell.published else ""), style=style)
