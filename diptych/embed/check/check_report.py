"""A check as a table for people and as an object for programs."""

import math
from typing import Any

from diptych.embed.check.differences import Row
from diptych.embed.check.run_check import Check
from diptych.embed.check.tolerances import DECODED, FEATURES, IMAGES, PIXELS, PROBABILITIES, TEXTS, TOKENS
from diptych.report.table import NumberTable

_MAX_NAMES = 4
_COLUMNS = ("stage", "items", "largest", "relative", "worst cosine", "tolerance", "result")
_ADVICE = {
    DECODED: "the two read other pixels from the same files",
    PIXELS: "resizing, cropping, mean or standard deviation differ: compare the two preprocessing configurations",
    TOKENS: "the tokenizers differ: vocabulary, lower-casing, cleaning, padding or truncation",
    FEATURES: "the image towers compute otherwise from equal pixels: most often the activation (quick_gelu or gelu) or "
    "the number of heads, else the weights",
    IMAGES: "the features are equal and their projections are not: the image projection differs",
    TEXTS: "the text towers compute otherwise from equal tokens: activation, mask, pooling, projection or weights",
    PROBABILITIES: "the logit scale, the bias or the kind of loss differ",
}


def verdict(check: Check) -> str:
    """The result in one sentence."""
    stage = check.first_difference
    if stage is not None:
        where = "" if any(not row.is_equal for row in check.rows) else ", when each model reads the files by itself"
        return f"different: the first difference is in {stage}{where}: {_ADVICE[stage]}"
    num_stages = sum(not row.not_compared for row in check.rows)
    missing = [row.stage for row in check.rows if row.not_compared]
    but = f"; not compared: {', '.join(missing)}" if missing else ""
    apart = "; apart from differences that are made on purpose" if check.known else ""
    return f"equal: {num_stages} stages agree within the tolerance of {check.precision}{apart}{but}"


def check_table(check: Check) -> NumberTable:
    """The stages as a table, with the items that differ and the known differences as notes."""
    rows = [(row.stage, _cells(row)) for row in check.rows]
    rows += [(f"{row.stage}, whole path", _cells(row)) for row in check.whole_path]
    return NumberTable(f"{check.model} against {check.reference}", _COLUMNS, rows, _notes(check))


def to_json(check: Check) -> dict[str, Any]:
    """The whole check as values that JSON can represent."""
    return {
        "model": check.model,
        "reference": check.reference,
        "precision": check.precision,
        "equal": check.is_equal,
        "first_difference": check.first_difference,
        "verdict": verdict(check),
        "stages": [row.to_dict() for row in check.rows],
        "whole_path": [row.to_dict() for row in check.whole_path],
        "known": {trait: known.sentence for trait, known in check.known.items()},
        "notes": list(check.notes),
    }


def _cells(row: Row) -> list[str]:
    if row.not_compared:
        return ["0", "", "", "", "", "not compared"]
    exact = not row.limit.relative
    largest = "shapes differ" if math.isinf(row.largest) else f"{row.largest:.3g}"
    relative = "" if exact or math.isinf(row.relative) else f"{row.relative:.1e}"
    cosine = "" if row.worst_cosine is None or exact else f"{row.worst_cosine:.7f}"
    num_explained = sum(map(len, row.explained.values()))
    result = f"{len(row.differing)} differ" if row.differing else "equal"
    result += f", {num_explained} on purpose" if num_explained else ""
    return [str(row.num_compared), largest, relative, cosine, str(row.limit), result]


def _notes(check: Check) -> list[str]:
    notes = list(check.notes)
    for suffix, rows in (("", check.rows), (", whole path", check.whole_path)):
        for row in rows:
            if row.not_compared:
                notes.append(f"{row.stage}{suffix} not compared: {row.not_compared}.")
            if row.differing:
                more = f" and {len(row.differing) - _MAX_NAMES} more" if len(row.differing) > _MAX_NAMES else ""
                notes.append(f"{row.stage}{suffix}: {', '.join(row.differing[:_MAX_NAMES])}{more} differ.")
    return notes + [f"On purpose ({trait}): {known.sentence}." for trait, known in check.known.items()]
