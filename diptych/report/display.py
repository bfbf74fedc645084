"""Formatting of texts, numbers and images for pages."""

import base64
import io
import math
import unicodedata

import numpy as np
from PIL import Image

MAX_SIDE = 96
NOTHING = "–"
_JOINERS = {"\u200c", "\u200d", "\u200e", "\u200f"}  # Persian, emoji and right-to-left texts need them


def readable(text: object, limit: int = 140) -> str:
    """One line of at most `limit` characters without control characters. Truncated text ends with an ellipsis.

    Invisible characters that change the layout (controls, direction overrides, zero-width spaces, lone surrogates)
    become U+FFFD. The template does the escaping.
    """
    line = " ".join(str(text)[: 4 * limit].split())
    line = "".join("\ufffd" if unicodedata.category(c)[0] == "C" and c not in _JOINERS else c for c in line)
    if len(line) <= limit and len(str(text)) <= 4 * limit:
        return line
    kept = line[: limit - 1]
    while kept and (kept[-1] in _JOINERS or unicodedata.combining(kept[-1]) or kept[-1].isspace()):
        kept = kept[:-1]
    return kept + "…"


def humanised(name: str) -> str:
    """The name of a task or fact as text: "held_out_colour_shape" becomes "Held-out colour shape"."""
    text = readable(name.replace("held_out", "held-out").replace("_", " "), 48)
    return text[:1].upper() + text[1:]


def percent(fraction: float | None, digits: int = 1) -> str:
    """0.9731 as "97.3 %", with a narrow no-break space."""
    if fraction is None or not math.isfinite(fraction):
        return NOTHING
    return f"{100 * fraction:.{digits}f}\u202f%"


def points(difference: float) -> str:
    """A difference of two fractions in percentage points, with its sign."""
    if not math.isfinite(difference):
        return NOTHING
    rounded = round(100 * difference, 1)
    return f"{'+' if rounded > 0 else '−' if rounded < 0 else '±'}{abs(rounded):.1f}"


def counted(number: int, noun: str) -> str:
    """ "1 set", "27 sets"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def number(value: float | None) -> str:
    """A count with thousands separated, or three significant digits below 100."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value != int(value) and abs(value) < 100:
        return f"{value:.3g}".replace("-", "−")
    return f"{value:,.0f}".replace(",", "\u202f").replace("-", "−")


def short_number(value: float) -> str:
    """A number as an axis label: 0, 800, 50 k, 1.5 M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}\u202f{unit}"
    return f"{value:.4g}"


def cosine(value: float) -> str:
    """Two decimals with a true minus."""
    if not math.isfinite(value):
        return NOTHING
    return f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")


def duration(seconds: float) -> str:
    """252.7 as "4 min 13 s"."""
    if not math.isfinite(seconds) or seconds < 0:
        return NOTHING
    if seconds < 10:
        return f"{seconds:.1f}\u202fs"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (rest, "s")]
    shown = [f"{value}\u202f{unit}" for value, unit in parts if value]
    return " ".join(shown[:2])


def as_number(text: str | None) -> float | None:
    """The text of a fact as a number; None if it is not a number or not below 1e15."""
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if abs(value) < 1e15 else None


def data_uri(image: np.ndarray) -> str:
    """An image, uint8 (height, width, 3), as a data: URI of a PNG with at most MAX_SIDE pixels per side."""
    thumbnail = Image.fromarray(np.ascontiguousarray(image))
    thumbnail.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    thumbnail.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
