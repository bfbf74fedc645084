"""The paper's models by family, as series of charts; each family has a color and a marker."""

from collections.abc import Mapping

from diptych.paper.numbers.compute import paper_gflops
from diptych.paper.numbers.measured import PAPER_27, Scores, mean
from diptych.report.curves import Chart, Series

MEASURED = 1
"""The color of measured models; the paper's models have the other colors."""

_COMPUTE_FAMILIES = {
    "CLIP, ResNets": ("CLIP RN", 0),
    "CLIP, ViTs": ("CLIP ViT", 2),
    "EfficientNet Noisy Student": ("EfficientNet Noisy", 3),
    "ResNet": ("ResNet-", 4),
}
_TRAINING_FAMILIES = (("CLIP", 0), ("with labels", 2), ("without labels", 3), ("with captions, others", 4))


def family(row: str) -> tuple[str, int]:
    """Family and color of a row of table 10, by its kind of training data."""
    clip, labels, self_supervised, others = _TRAINING_FAMILIES
    if row.startswith("CLIP"):
        return clip
    if row.startswith(("SimCLR", "BYOL", "MoCo")):
        return self_supervised
    return others if row.startswith(("VirTex", "LM RN50")) else labels


def family_series(coordinates: Mapping[str, tuple[float, float | None]]) -> list[Series]:
    """Points of table 10's models with their names, one series per family."""
    groups: dict[tuple[str, int], list[tuple[str, float, float]]] = {key: [] for key in _TRAINING_FAMILIES}
    for row, (x, y) in coordinates.items():
        if y is not None:
            groups[family(row)].append((row, x, y))
    return [
        Series(
            label,
            [x for _, x, _ in points],
            [y for *_, y in points],
            colour=colour,
            form="markers",
            names=[n for n, *_ in points],
        )
        for (label, colour), points in groups.items()
        if points
    ]


def compute_series(scores: Mapping[str, float | None], *, labels: bool = True, names: bool = True) -> list[Series]:
    """Scores against GFLOPs, one line per family, in order of compute."""
    gflops, series = paper_gflops(), []
    for label, (start, colour) in _COMPUTE_FAMILIES.items():
        rows = [row for row in scores if row.startswith(start) and row in gflops]
        points = sorted((gflops[row], score, row) for row in rows if (score := scores[row]) is not None)
        if points:
            x, y, rows = map(list, zip(*points, strict=True))
            shown = [row.replace("EfficientNet Noisy Student ", "").replace("CLIP ", "") for row in rows]
            series.append(Series(label if labels else "", x, y, colour=colour, names=shown if names else ()))
    return series


def measured_points(
    scores: Mapping[str, float | None], compute: Mapping[str, float], *, label: str = "measured", names: bool = True
) -> list[Series]:
    """Scores of measured models against their GFLOPs, for models with both numbers."""
    points = [
        (compute[model], score, model) for model, score in scores.items() if score is not None and model in compute
    ]
    if not points:
        return []
    x, y, models = zip(*points, strict=True)
    return [Series(label, x, y, colour=MEASURED, form="markers", names=models if names else ())]


def set_charts(
    y_label: str, paper: Mapping[str, Scores], own: Mapping[str, Scores], compute: Mapping[str, float]
) -> list[Chart]:
    """Charts of scores against compute: one for the mean over the 27 sets, with the legend, and one for each set."""
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
