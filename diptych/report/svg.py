"""The parts that every chart is drawn of, and charts as one element or as a file: coordinates in, markup out."""

import dataclasses
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup

# Light and dark schemes; curves are told apart by lightness too, and by their markers.
STYLE = (Path(__file__).parent / "templates" / "chart.css").read_text(encoding="utf-8")


@dataclasses.dataclass(frozen=True)
class Drawing:
    """Content for a viewBox from (0, 0) to (width, height), pixels at its natural size, and what it is about."""

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


_LETTER, _LINE, _MARGIN = 6.5, 17.0, 12.0  # of notes: a letter's mean width, a line's height, what is left free


def svg_file(drawings: Sequence[Drawing], columns: int, notes: Sequence[str] = ()) -> str:
    """Drawings in rows of so many, as the text of an SVG file that follows the light and the dark scheme.

    Args:
        notes: sentences under the drawings, broken into lines.
    """
    wide = max((one.width for one in drawings), default=0.0)
    parts, top = [], 0.0
    for first in range(0, len(drawings), columns):
        row = drawings[first : first + columns]
        for place, one in enumerate(row):
            shift = f"{rounded(place * wide)} {rounded(top)}"
            parts.append(Markup('<g transform="translate({})">{}</g>').format(shift, one.content))
        top += max(one.height for one in row)
    width = wide * min(columns, len(drawings))
    letters = max(20, int((width - 2 * _MARGIN) / _LETTER))
    for words in (words for note in notes for words in textwrap.wrap(note, letters)):
        top += _LINE
        parts.append(text(_MARGIN, top, words, "name"))
    top += _MARGIN if notes else 0
    paper = Markup('<rect width="100%" height="100%" fill="var(--chart-paper)"/>')
    style = Markup("<style>{}</style>").format(Markup(STYLE))
    title = "; ".join(one.title for one in drawings)
    whole = Drawing(style + paper + Markup("").join(parts), width, top, title)
    return str(element(whole)) + "\n"


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """A straight line of a class of the style."""
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(kind, *map(rounded, (x1, y1, x2, y2)))


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> Markup:
    """Words, whose base line starts, has its middle or ends at (x, y)."""
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        kind, rounded(x), rounded(y), anchor, words
    )


def upright(x: float, y: float, words: str) -> Markup:
    """Words from below to above with their middle at (x, y)."""
    return Markup('<text class="soft" transform="translate({} {}) rotate(-90)" text-anchor="middle">{}</text>').format(
        rounded(x), rounded(y), words
    )


def marker(x: float, y: float, colour: int, name: str = "") -> Markup:
    """A disc, a square, a diamond, a triangle, or a square on its side: forms differ where colours cannot be told.

    A pointer that rests on it is told its name.
    """
    shapes: dict[int, list[tuple[float, float]]] = {
        1: [(-4, -4), (4, -4), (4, 4), (-4, 4)],
        2: [(0, -6), (6, 0), (0, 6), (-6, 0)],
        3: [(0, -6), (5.5, 4), (-5.5, 4)],
        4: [(0, 6), (5.5, -4), (-5.5, -4)],
    }
    title = Markup("<title>{}</title>").format(name) if name else Markup("")
    if colour not in shapes:
        return _closed(
            Markup('<circle class="f{}" cx="{}" cy="{}" r="4.5"').format(colour, *map(rounded, (x, y))), title
        )
    corners = points([(x + a, y + b) for a, b in shapes[colour]])
    return _closed(Markup('<polygon class="f{}" points="{}"').format(colour, corners), title)


def _closed(start: Markup, content: Markup) -> Markup:
    return start + Markup(">") + content + Markup(f"</{start[1:].split()[0]}>") if content else start + Markup("/>")


def points(places: Sequence[tuple[float, float]]) -> str:
    """Corners of a line or an area."""
    return " ".join(f"{rounded(a)},{rounded(b)}" for a, b in places)


def rounded(value: float) -> str:
    """A coordinate with two digits after the point at most."""
    return f"{np.round(value, 2):.8g}"
