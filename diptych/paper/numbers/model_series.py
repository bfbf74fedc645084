"""The paper's models by families, each with a colour and a marker, as series of charts."""

from collections.abc import Mapping

from diptych.paper.numbers.compute import paper_gflops
from diptych.paper.numbers.measured import PAPER_27, Scores, mean
from diptych.report.curves import Chart, Series

MEASURED = 1
"""The colour of measured models; the paper's have the others."""

_COMPUTE_FAMILIES = {
    "CLIP, ResNets": ("CLIP RN", 0),
    "CLIP, ViTs": ("CLIP ViT", 2),
    "EfficientNet Noisy Student": ("EfficientNet Noisy", 3),
    "ResNet": ("ResNet-", 4),
}
_KINDS = (("CLIP", 0), ("with labels", 2), ("without labels", 3), ("with captions, others", 4))


def family(row: str) -> tuple[str, int]:
    """Family and colour of a row of table 10, by what it learned from."""
    clip, labels, alone, others = _KINDS
    if row.startswith("CLIP"):
        return clip
    if row.startswith(("SimCLR", "BYOL", "MoCo")):
        return alone
    return others if row.startswith(("VirTex", "LM RN50")) else labels


def family_series(spots: Mapping[str, tuple[float, float | None]]) -> list[Series]:
    """Points of table 10's models, a series per family, with the models' names."""
    groups: dict[tuple[str, int], list[tuple[str, float, float]]] = {key: [] for key in _KINDS}
    for row, (x, y) in spots.items():
        if y is not None:
            groups[family(row)].append((row, x, y))
    return [
        Series(
            label,
            [x for _, x, _ in some],
            [y for *_, y in some],
            colour=colour,
            form="markers",
            names=[n for n, *_ in some],
        )
        for (label, colour), some in groups.items()
        if some
    ]


def compute_series(scores: Mapping[str, float | None], *, labels: bool = True, names: bool = True) -> list[Series]:
    """Scores against GFLOPs, a joined series per family, by growing compute."""
    known, found = paper_gflops(), []
    for label, (start, colour) in _COMPUTE_FAMILIES.items():
        rows = [row for row in scores if row.startswith(start) and row in known]
        spots = sorted((known[row], score, row) for row in rows if (score := scores[row]) is not None)
        if spots:
            x, y, rows = map(list, zip(*spots, strict=True))
            shown = [row.replace("EfficientNet Noisy Student ", "").replace("CLIP ", "") for row in rows]
            found.append(Series(label if labels else "", x, y, colour=colour, names=shown if names else ()))
    return found


def measured_points(
    scores: Mapping[str, float | None], compute: Mapping[str, float], *, label: str = "measured", names: bool = True
) -> list[Series]:
    """Measured models' scores against their GFLOPs: those of which both are known."""
    spots = [
        (compute[model], score, model) for model, score in scores.items() if score is not None and model in compute
    ]
    if not spots:
        return []
    x, y, models = zip(*spots, strict=True)
    return [Series(label, x, y, colour=MEASURED, form="markers", names=models if names else ())]


def set_charts(
    y_label: str, paper: Mapping[str, Scores], own: Mapping[str, Scores], compute: Mapping[str, float]
) -> list[Chart]:
    """A chart of scores against compute for the mean over the 27 sets, which has the legend, and for each of them."""
    charts = []
    for name in ("mean of 27", *PAPER_27):
        sets = PAPER_27 if name == "mean of 27" else (name,)
        first = name == "mean of 27"
        series = compute_series({row: mean(cells, sets) for row, cells in paper.items()}, labels=first, names=False)
        means = {model: mean(cells, sets) for model, cells in own.items()}
        label = "measured" if first else ""
        series += measured_points(means, compute, label=label, names=False)
        charts.append(Chart(name, "GFLOPs", y_label, series, 10, y_from_zero=first, legend="bottom right"))
    return charts
