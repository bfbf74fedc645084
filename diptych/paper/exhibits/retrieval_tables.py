"""Tables 13 and 17: retrieval of captions and images, and geolocation by the nearest photograph.

Source: CLIP paper, appendices E.1 and E.4.
"""

from collections.abc import Mapping, Sequence

from diptych.evaluate.metrics.geography import RADII_KM
from diptych.evaluate.tasks.retrieval import KS
from diptych.paper.exhibit import Exhibit
from diptych.paper.numbers.measured import measured_cell, size_notes
from diptych.paper.numbers.paper_rows import Row, Wanted, beside_paper, compared, pick
from diptych.records import Result
from diptych.report.paper_numbers import published
from diptych.report.shown import Shown
from diptych.report.table import Cell, NumberTable

_SETS = ("Flickr30k", "MSCOCO")
_PLACE = "IM2GPS"
_PROTOCOLS = {"prefixed": "", "bare": ", bare captions"}
_MEDIAN = "median error, km"


def _table_13(results: Sequence[Result]) -> Shown:
    columns = list(published("table 13")["CLIP (zero-shot)"])
    results_by_protocol = {protocol: pick(results, _recalls(_SETS, protocol)) for protocol in _PROTOCOLS}
    rows: list[Row] = [
        (f"{model} (zero-shot{suffix})", own[model])
        for model in dict.fromkeys(model for own in results_by_protocol.values() for model in own)
        for (_, suffix), own in zip(_PROTOCOLS.items(), results_by_protocol.values(), strict=True)
        if model in own
    ]
    tables = [beside_paper("Retrieval, %", "table 13", columns, rows)]
    if others := _other_sets(results):
        tables.append(others)
    return Shown(
        _headline(rows, others),
        "Text retrieval: a picture finds one of its captions among all of the set. Image retrieval: a caption finds "
        "its picture. R@k: among the first k.",
        tables,
        notes=(
            'Each caption has "a photo of" before it; rows of bare captions go without.',
            "Ranked by cosine; of equal scores the earlier item is better. The paper states neither of the two, nor "
            "Flickr30k's split; here it is the card's.",
            "Intervals: Clopper-Pearson, 99.5 %, over queries as if they were independent.",
            *size_notes(rows),
        ),
    )


def _headline(rows: Sequence[Row], others: NumberTable | None) -> str:
    """The title: the first number measured on the paper's sets, otherwise on another set."""
    if rows or others is None:
        return compared(rows, "table 13", "CLIP (zero-shot)", "at")
    name, cells = others.rows[0]
    column, first = next((place, cell) for place, cell in enumerate(cells, 1) if isinstance(cell, Cell))
    return f"{name}: {first.value:.1f} % at {others.columns[column]}"


def _recalls(sets: Sequence[str], protocol: str) -> dict[str, Wanted]:
    return {
        f"{name} {side} R@{k}": [("retrieval", name, f"{side}_recall_at_{k}", protocol)]
        for side in ("text", "image")
        for name in sets
        for k in KS
    }


def _other_sets(results: Sequence[Result]) -> NumberTable | None:
    """A table of retrieval on sets that are not in the paper; None without such sets."""
    names = dict.fromkeys(
        result.dataset for result in results if result.task == "retrieval" and result.dataset not in _SETS
    )
    columns = [f"{side} R@{k}" for side in ("text", "image") for k in KS]
    rows: list[tuple[str, Sequence[Cell | str]]] = []
    for name in names:
        for protocol, suffix in _PROTOCOLS.items():
            columns_of_set = _recalls([name], protocol)
            for model, own in pick(results, columns_of_set).items():
                sizes = {side: own[f"{name} {side} R@1"].n for side in ("text", "image")}
                cells: list[Cell | str] = [measured_cell(own.get(f"{name} {column}")) for column in columns]
                rows.append((f"{model}: {name}{suffix}", [f"{sizes['text']:,}", f"{sizes['image']:,}", *cells]))
    if not rows:
        return None
    return NumberTable("Retrieval on other sets, %", ["model and set", "pictures", "captions", *columns], rows)


def _table_17(results: Sequence[Result]) -> Shown:
    columns = {f"{radius} km": f"within_{radius}_km" for radius in RADII_KM}
    metrics = columns | {_MEDIAN: "median_error_km"}
    wanted_results = {column: [("geolocation", _PLACE, name, "nearest_neighbour")] for column, name in metrics.items()}
    rows = list(pick(results, wanted_results).items())
    table = beside_paper("Photographs placed within a distance, %", "table 17", list(columns), rows)
    with_median: list[tuple[str, Sequence[Cell | str]]] = []
    for place, (name, cells) in enumerate(table.rows):
        median = rows[place][1].get(_MEDIAN) if place < len(rows) else None
        error = Cell(median.value, median.low, median.high, digits=0) if median else Cell(None)
        with_median.append((name, [*cells, error]))
    sizes = [f"{name}: {_reference(own)} reference photographs." for name, own in rows]
    return Shown(
        compared(rows, "table 17", "CLIP", "of photographs placed within"),
        "Each photograph of IM2GPS is given the place of its nearest neighbour in a reference set; nothing is trained.",
        [NumberTable(table.title, ["model", *columns, _MEDIAN], with_median)],
        notes=(
            "The paper has a million reference photographs that it does not name: a smaller set has fewer neighbours "
            "to find, so that the numbers cannot be compared before the sets can.",
            "Nearest by cosine, exactly; great-circle distance. The paper states neither.",
            *sizes,
        ),
    )


def _reference(own: Mapping[str, Result]) -> str:
    sizes = {result.setting("reference", int) for result in own.values()}
    return ", ".join(f"{size:,}" for size in sorted(size for size in sizes if size)) or "unknown"


TABLE_13 = Exhibit(
    "table13", "Retrieval of captions and images on Flickr30k and MSCOCO.", (("retrieval", _SETS),), _table_13
)
TABLE_17 = Exhibit(
    "table17", "Geolocation of IM2GPS photographs by their nearest neighbor.", (("geolocation", (_PLACE,)),), _table_17
)
