"""Names next to the points of a chart, placed so that they cover neither each other nor a point."""

from collections.abc import Sequence

from markupsafe import Markup

from diptych.report.svg import text

Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a rectangle."""

_LETTER, _LINE = 6.6, 12.0  # width and height of a letter of the class "name", rounded up
_POINT = 6.0  # half the width of a marker
# Positions of a name relative to its point: left and right first, then above and below, then farther away.
_SPOTS = (
    *((9, 4, "start"), (-9, 4, "end"), (0, -9, "middle"), (0, 17, "middle")),
    *((8, -6, "start"), (8, 14, "start"), (-8, -6, "end"), (-8, 14, "end")),
    *(
        (12, -14, "start"),
        (12, 22, "start"),
        (-12, -14, "end"),
        (-12, 22, "end"),
        (0, -21, "middle"),
        (0, 29, "middle"),
    ),
)


def place_names(
    places: Sequence[tuple[float, float]], names: Sequence[str], plot_area: Box, occupied: list[Box]
) -> Markup:
    """Names near their points. A name that fits nowhere is omitted, because overlapping names are unreadable.

    Args:
        places: coordinates of the points.
        names: one name for each point; "" for no name.
        plot_area: the box in which names must lie.
        occupied: boxes that names must not overlap; the boxes of the placed names are appended.
    """
    parts = []
    for (x, y), name in zip(places, names, strict=True):
        if not name:
            continue
        for dx, dy, anchor in _SPOTS:
            box = _box(x + dx, y + dy, name, anchor)
            fits = (
                plot_area[0] <= box[0] and box[2] <= plot_area[2] and plot_area[1] <= box[1] and box[3] <= plot_area[3]
            )
            if fits and not any(_overlap(box, other) for other in occupied):
                occupied.append(box)
                parts.append(text(x + dx, y + dy, name, "name", anchor))
                break
    return Markup("").join(parts)


def point_boxes(places: Sequence[tuple[float, float]]) -> list[Box]:
    """The boxes that markers at these places cover."""
    return [(x - _POINT, y - _POINT, x + _POINT, y + _POINT) for x, y in places]


def _box(x: float, y: float, name: str, anchor: str) -> Box:
    width = _LETTER * len(name)
    left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
    return left, y - _LINE + 2, left + width, y + 2


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
