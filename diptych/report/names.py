"""Names beside the points of a chart, placed so that they cover neither each other nor a point."""

from collections.abc import Sequence

from markupsafe import Markup

from diptych.report.svg import text

Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a rectangle."""

_LETTER, _LINE = 6.6, 12.0  # width and height of a letter of the class "name", generously
_POINT = 6.0  # half of what a marker covers
# Where a name may start, from its point: beside it first, then above and below, then farther off.
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


def place_names(places: Sequence[tuple[float, float]], names: Sequence[str], inside: Box, taken: list[Box]) -> Markup:
    """Names near their points; one that fits nowhere is left out, for two over each other can be read by nobody.

    Args:
        places: of the points, one per name; "" names nothing.
        inside: the plot area.
        taken: boxes that must stay free, to which those of the names are added.
    """
    parts = []
    for (x, y), name in zip(places, names, strict=True):
        if not name:
            continue
        for right, down, anchor in _SPOTS:
            box = _box(x + right, y + down, name, anchor)
            fits = inside[0] <= box[0] and box[2] <= inside[2] and inside[1] <= box[1] and box[3] <= inside[3]
            if fits and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                parts.append(text(x + right, y + down, name, "name", anchor))
                break
    return Markup("").join(parts)


def point_boxes(places: Sequence[tuple[float, float]]) -> list[Box]:
    """What markers at these places cover."""
    return [(x - _POINT, y - _POINT, x + _POINT, y + _POINT) for x, y in places]


def _box(x: float, y: float, name: str, anchor: str) -> Box:
    width = _LETTER * len(name)
    left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
    return left, y - _LINE + 2, left + width, y + 2


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
