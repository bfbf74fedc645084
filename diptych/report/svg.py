"""Elements that charts are drawn from, and charts as one SVG element or as an SVG file."""

import dataclasses
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup

# Light and dark color schemes. Curves also differ in lightness and in their markers.
STYLE = (Path(__file__).parent / "templates" / "chart.css").read_text(encoding="utf-8")


@dataclasses.dataclass(frozen=True)
class Drawing:
    """SVG content for a viewBox from (0, 0) to (width, height), in pixels at its natural size, and its title."""

    content: Markup
    width: float
    height: float
    title: str


def element(drawing: Drawing) -> Markup:
    """A drawing as one SVG element of the class "chart"; the page's style must include STYLE."""
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 {0} {1}" width="{0}" height="{1}" '
        'role="img" aria-label="{2}">{3}</svg>'
    ).format(rounded(drawing.width), rounded(drawing.height), drawing.title, drawing.content)


_LETTER, _LINE, _MARGIN = 6.5, 17.0, 12.0  # of notes: mean width of a letter, height of a line, margin


def svg_file(drawings: Sequence[Drawing], columns: int, notes: Sequence[str] = ()) -> str:
    """Drawings in a grid, as the text of an SVG file with a light and a dark color scheme.

    Args:
        drawings: the drawings, row by row.
        columns: drawings per row.
        notes: sentences under the drawings, broken into lines.
    """
    column_width = max((drawing.width for drawing in drawings), default=0.0)
    parts, top = [], 0.0
    for first in range(0, len(drawings), columns):
        row = drawings[first : first + columns]
        for place, drawing in enumerate(row):
            shift = f"{rounded(place * column_width)} {rounded(top)}"
            parts.append(Markup('<g transform="translate({})">{}</g>').format(shift, drawing.content))
        top += max(drawing.height for drawing in row)
    width = column_width * min(columns, len(drawings))
    letters_per_line = max(20, int((width - 2 * _MARGIN) / _LETTER))
    for note_line in (note_line for note in notes for note_line in textwrap.wrap(note, letters_per_line)):
        top += _LINE
        parts.append(text(_MARGIN, top, note_line, "name"))
    top += _MARGIN if notes else 0
    background = Markup('<rect width="100%" height="100%" fill="var(--chart-paper)"/>')
    style = Markup("<style>{}</style>").format(Markup(STYLE))
    title = "; ".join(drawing.title for drawing in drawings)
    combined = Drawing(style + background + Markup("").join(parts), width, top, title)
    return str(element(combined)) + "\n"


def line(x1: float, y1: float, x2: float, y2: float, css_class: str) -> Markup:
    """A straight line with a class of the style."""
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
        css_class, *map(rounded, (x1, y1, x2, y2))
    )


def text(x: float, y: float, content: str, css_class: str = "", anchor: str = "start") -> Markup:
    """Text whose base line starts, is centered or ends at (x, y), as `anchor` says."""
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        css_class, rounded(x), rounded(y), anchor, content
    )


def upright(x: float, y: float, content: str) -> Markup:
    """Vertical text that reads upward, centered at (x, y)."""
    return Markup('<text class="soft" transform="translate({} {}) rotate(-90)" text-anchor="middle">{}</text>').format(
        rounded(x), rounded(y), content
    )


def marker(x: float, y: float, colour: int, name: str = "", outlined: bool = False) -> Markup:
    """A marker: disc, square, diamond or triangle, up or down. Shapes help readers who cannot distinguish the colors.

    `name` becomes the tooltip. `outlined` draws the outline alone.
    """
    shapes: dict[int, list[tuple[float, float]]] = {
        1: [(-4, -4), (4, -4), (4, 4), (-4, 4)],
        2: [(0, -6), (6, 0), (0, 6), (-6, 0)],
        3: [(0, -6), (5.5, 4), (-5.5, 4)],
        4: [(0, 6), (5.5, -4), (-5.5, -4)],
    }
    title = Markup("<title>{}</title>").format(name) if name else Markup("")
    css_class = f"outline s{colour}" if outlined else f"f{colour}"
    if colour not in shapes:
        return _closed(
            Markup('<circle class="{}" cx="{}" cy="{}" r="4.5"').format(css_class, *map(rounded, (x, y))), title
        )
    corners = points([(x + a, y + b) for a, b in shapes[colour]])
    return _closed(Markup('<polygon class="{}" points="{}"').format(css_class, corners), title)


def _closed(start: Markup, content: Markup) -> Markup:
    return start + Markup(">") + content + Markup(f"</{start[1:].split()[0]}>") if content else start + Markup("/>")


def points(places: Sequence[tuple[float, float]]) -> str:
    """The points attribute of a polyline or polygon."""
    return " ".join(f"{rounded(a)},{rounded(b)}" for a, b in places)


def rounded(value: float) -> str:
    """A coordinate with at most two decimal places."""
    return f"{np.round(value, 2):.8g}"
