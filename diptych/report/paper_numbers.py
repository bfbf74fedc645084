"""The paper's own numbers, as printed or as read off its plots.

Source: CLIP paper (arXiv 2103.00020), the table or figure that each row of assets/published.csv names; percent unless
the column says otherwise. The last digit of numbers marked "read off the plot" is uncertain.
"""

import csv
import functools
from pathlib import Path

_TABLE = Path(__file__).parents[1] / "assets" / "published.csv"
READ_OFF = "read off the plot"
LAST_DIGIT = "The paper's values are read off its plot; the last digit is not sure."


@functools.cache
def _places() -> dict[str, dict[str, dict[str, tuple[float, str]]]]:
    places: dict[str, dict[str, dict[str, tuple[float, str]]]] = {}
    with _TABLE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            rows = places.setdefault(row["place"], {})
            rows.setdefault(row["row"], {})[row["column"]] = (float(row["value"]), row["how"])
    return places


def published(place: str) -> dict[str, dict[str, float]]:
    """The numbers of a table or figure, by row and column name; percent unless the column says otherwise.

    Args:
        place: "table 11", "figure 7", ...
    Raises:
        KeyError: unknown place.
    """
    rows = _places()[place]
    return {row: {column: value for column, (value, _) in cells.items()} for row, cells in rows.items()}
