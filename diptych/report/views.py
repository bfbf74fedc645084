"""The values that the run page's template prints: the contents of a report, formatted and truncated."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diptych.records import Result
from diptych.report import display, figures
from diptych.report.contents import Confusion, Pair, Retrieval, RunReport, Similarity

HEAT_LEVELS = 10
_MAX_TASKS, _MAX_PICTURES, _MAX_QUERIES, _MAX_MATCHES, _MAX_LABELS, _MAX_PAIRS = 60, 12, 6, 5, 20, 24
_INTERVALS = {"clopper-pearson 99.5%": "99.5\u202f% Clopper–Pearson interval"}

View = dict[str, Any]


def page_view(report: RunReport) -> View:
    """Every part of the page; a part without contents is None or empty."""
    tasks = _accuracies(report.results)
    return {
        "title": display.readable(report.title, 240),
        "lead": _lead(report, tasks),
        "tiles": _tiles(report, tasks),
        "similarity": _similarity(report.similarity),
        "zero_shot": _zero_shot(tasks, report.chance),
        "captions_of_pictures": [_retrieval(item) for item in report.captions_of_pictures[:_MAX_QUERIES]],
        "pictures_of_captions": [_retrieval(item) for item in report.pictures_of_captions[:_MAX_QUERIES]],
        "prompts": _prompts(tasks, report.gains),
        "confusion": _confusion(report.confusion),
        "training": _training(report.log, report.validation),
        "pairs": [_pair(pair) for pair in report.training_pairs[:_MAX_PAIRS]],
        "facts": _facts(report.facts),
        "command": display.readable(report.facts.get("command", ""), 400),
        "next_steps": [
            (display.readable(command, 200), display.readable(purpose)) for command, purpose in report.next_steps
        ],
        "heat_levels": HEAT_LEVELS,
    }


def _accuracies(results: Sequence[Result]) -> dict[str, dict[str, Result]]:
    """Accuracy by dataset and protocol; only finite values."""
    tasks: dict[str, dict[str, Result]] = {}
    for result in results:
        if result.metric == "accuracy" and math.isfinite(result.value):
            tasks.setdefault(result.dataset, {})[result.protocol] = result
    return dict(list(tasks.items())[:_MAX_TASKS])


def _best_protocol(task: Mapping[str, Result]) -> Result:
    return task.get("ensemble") or next(iter(task.values()))


def _lead(report: RunReport, tasks: Mapping[str, Mapping[str, Result]]) -> View | None:
    """The number at the top of the page."""
    task = tasks.get(report.headline)
    if task is None:
        return None
    result = _best_protocol(task)
    return {
        "value": display.percent(result.value),
        "name": display.humanised(report.headline),
        "interval": _interval(result),
        "chance": _chance(report.chance, report.headline),
        "count": display.number(result.n),
    }


def _tiles(report: RunReport, tasks: Mapping[str, Mapping[str, Result]]) -> list[tuple[str, str]]:
    """(number, description) of each known headline number."""
    tiles = []
    if tasks:
        mean = sum(_best_protocol(task).value for task in tasks.values()) / len(tasks)
        tiles.append((display.percent(mean), f"mean accuracy of {len(tasks)} {'task' if len(tasks) == 1 else 'tasks'}"))
    pairs, rate = _pairs_and_rate(report.log)
    if pairs:
        tiles.append((display.short_number(float(f"{pairs:.3g}")), "pairs seen"))
    if rate:
        tiles.append((display.number(float(f"{rate:.3g}")), "pairs per second"))
    seconds, cores = (
        display.as_number(report.facts.get("seconds")),
        display.as_number(report.facts.get("cores")),
    )
    if seconds is not None and seconds >= 0:
        tiles.append((display.duration(seconds), "of training"))
    if cores is not None and cores > 0:
        tiles.append((display.number(cores), "processor core" if cores == 1 else "processor cores"))
    parameters = display.as_number(report.facts.get("parameters"))
    if parameters is not None:
        tiles.append((display.short_number(float(f"{parameters:.3g}")), "parameters"))
    return tiles


def _pairs_and_rate(log: Sequence[Mapping[str, float]]) -> tuple[float | None, float | None]:
    """Pairs seen, and the mean rate of the whole log in pairs per second, from the logged rates."""
    rows = [(row.get("pairs") or math.nan, row.get("pairs_per_second") or math.nan) for row in log]
    pairs = np.array([row[0] for row in rows if math.isfinite(row[0])])
    timed = np.array([row for row in rows if math.isfinite(row[0] + row[1]) and row[1] > 0]).reshape(-1, 2)
    seen = float(pairs.max()) if len(pairs) else None
    spent = float((np.diff(timed[:, 0], prepend=0.0) / timed[:, 1]).sum()) if len(timed) else 0.0
    return seen, float(timed[-1, 0]) / spent if spent > 0 else None


def _similarity(similarity: Similarity | None) -> View | None:
    if similarity is None or not len(similarity.images) or not len(similarity.captions):
        return None
    square = len(similarity.images) == len(similarity.captions)
    cosines = np.asarray(similarity.cosines, dtype=float)
    nearest = int((cosines.argmax(axis=1) == np.arange(len(cosines))).sum()) if square else 0
    total = len(cosines)
    cosines = cosines[:_MAX_PICTURES, :_MAX_PICTURES]
    finite = cosines[np.isfinite(cosines)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    negative = low < 0 < high  # the size of a negative cosine says little, so it has the color of zero
    low = 0.0 if negative else low
    return {
        "pictures": [display.data_uri(image) for image in similarity.images[:_MAX_PICTURES]],
        "captions": [display.readable(caption, 90) for caption in similarity.captions[:_MAX_PICTURES]],
        "rows": [
            [(display.cosine(value), _heat(value, low, high), square and i == j) for i, value in enumerate(row)]
            for j, row in enumerate(cosines.T)
        ],
        "low": f"{'≤ ' if negative else ''}{display.cosine(low)}",
        "high": display.cosine(high),
        "summary": f"For {nearest} of {total} pictures, the nearest caption is their own." if square else "",
    }


def _heat(value: float, low: float, high: float) -> int:
    if not math.isfinite(value) or high <= low:
        return 0
    return round(HEAT_LEVELS * max(0.0, min(1.0, (value - low) / (high - low))))


def _zero_shot(tasks: Mapping[str, Mapping[str, Result]], chances: Mapping[str, float]) -> View | None:
    if not tasks:
        return None
    rows = []
    for name, task in tasks.items():
        result, chance = _best_protocol(task), chances.get(name)
        rows.append(
            {
                "name": display.humanised(name),
                "plot": figures.accuracy_plot(result.value, result.low, result.high, chance),
                "value": display.percent(result.value),
                "interval": _interval(result),
                "chance": _chance(chances, name),
                "count": display.number(result.n),
            }
        )
    shown = [_best_protocol(task) for task in tasks.values()]
    intervals = sorted({result.interval for result in shown if result.interval})
    return {
        "rows": rows,
        "intervals": [_INTERVALS.get(name, display.readable(name, 60)) for name in intervals],
        "models": sorted({display.readable(result.model, 60) for result in shown}),
    }


def _interval(result: Result) -> str:
    """The interval as "95.1 – 98.6 %"; "" without interval."""
    if result.low is None or result.high is None or not math.isfinite(result.low + result.high):
        return ""
    return f"{100 * result.low:.1f} – {display.percent(result.high)}"


def _chance(chances: Mapping[str, float], name: str) -> str:
    chance = chances.get(name)
    return display.percent(chance) if chance is not None and math.isfinite(chance) else ""


def _prompts(tasks: Mapping[str, Mapping[str, Result]], intervals: Mapping[str, tuple[float, float]]) -> View | None:
    """Single template compared with ensemble, for the tasks that have both."""
    with_both = [
        (name, task["single"], task["ensemble"]) for name, task in tasks.items() if {"single", "ensemble"} <= {*task}
    ]
    if not with_both:
        return None
    gains = [ensemble.value - single.value for _, single, ensemble in with_both]
    gain_intervals = [intervals.get(name) for name, _, _ in with_both]
    span = max(0.01, *(abs(end) for end in (*gains, *(end for ends in gain_intervals if ends for end in ends))))
    rows = [
        {
            "name": display.humanised(name),
            "plot": figures.gain_plot(gain, span, ends),
            "gain": display.points(gain),
            "interval": f"{display.points(ends[0])} to {display.points(ends[1])}" if ends else "",
            "single": f"{100 * single.value:.1f}",
            "ensemble": display.percent(ensemble.value),
        }
        for (name, single, ensemble), gain, ends in zip(with_both, gains, gain_intervals, strict=True)
    ]
    return {
        "rows": rows,
        "mean": display.points(sum(gains) / len(gains)),
        "count": len(rows),
        "with_intervals": any(gain_intervals),
    }


def _retrieval(retrieval: Retrieval) -> View:
    return {
        "query": _text_or_uri(retrieval.query),
        "matches": [
            {
                "item": _text_or_uri(match.item),
                "score": display.cosine(match.score),
                "right": match.right,
            }
            for match in retrieval.matches[:_MAX_MATCHES]
        ],
    }


def _text_or_uri(item: str | np.ndarray) -> str:
    return display.readable(item, 110) if isinstance(item, str) else display.data_uri(item)


def _confusion(confusion: Confusion | None) -> View | None:
    """Rows with shares as heat levels; of many labels, only those with the most errors."""
    if confusion is None or not len(confusion.labels):
        return None
    counts = np.asarray(confusion.counts)
    wrong = counts * (1 - np.eye(len(counts), dtype=counts.dtype))
    order = np.arange(len(counts))
    if len(counts) > _MAX_LABELS:
        order = np.sort(np.argsort(-(wrong.sum(axis=0) + wrong.sum(axis=1)), kind="stable")[:_MAX_LABELS])
    labels = [display.readable(label, 24) for label in confusion.labels]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    row, column = np.unravel_index(int(wrong.argmax()), wrong.shape)
    return {
        "task": display.humanised(confusion.task),
        "labels": [labels[i] for i in order],
        "long": max(len(label) for label in labels) > 3,
        "rows": [
            (
                labels[i],
                [(display.number(int(counts[i, j])), _heat(shares[i, j], 0.0, 1.0), i == j) for j in order],
            )
            for i in order
        ],
        "right": display.number(int(np.trace(counts))),
        "total": display.number(int(counts.sum())),
        "left_out": len(counts) - len(order),
        "worst": (labels[row], labels[column], display.number(int(wrong[row, column]))) if wrong.any() else None,
    }


def _training(log: Sequence[Mapping[str, float]], validation: Sequence[tuple[float, float]]) -> View | None:
    curve = figures.loss_curve(log, validation)
    if not curve:
        return None
    sparks = []
    for key, name, top, describe in (
        ("lr", "Learning rate", None, lambda values: f"peak {values.max():.2g}"),
        (
            "pairs_per_second",
            "Pairs per second",
            None,
            lambda values: f"median {display.number(np.median(values))}",
        ),
        (
            "share_waiting",
            "Share of time waiting for data",
            1.0,
            lambda values: f"mean {display.percent(values.mean())}",
        ),
    ):
        values = np.array([row[key] for row in log if row.get(key) is not None], dtype=float)
        values = values[np.isfinite(values)]
        if len(values) > 1:
            figure = describe(values)
            sparks.append((name, figure, figures.sparkline(log, key, f"{name}: {figure}", top)))
    return {"curve": curve, "sparks": sparks, "validated": bool(validation)}


def _pair(pair: Pair) -> tuple[str, str]:
    return display.data_uri(pair.image), display.readable(pair.caption, 110)


def _facts(facts: Mapping[str, str]) -> list[tuple[str, str]]:
    """(name, value) of each fact in the given order. Known facts get units; the core time of the run is added."""
    shown: list[tuple[str, str]] = []
    cores = display.as_number(facts.get("cores"))
    for key, text in facts.items():
        value = display.as_number(text)
        if key == "command":
            continue
        if key == "seconds" and value is not None:
            shown.append(("Training time", display.duration(value)))
            if cores is not None and cores > 0:
                shown.append(("Core time", display.duration(value * cores)))
        elif key == "parameters" and value is not None:
            shown.append(("Parameters", display.number(value)))
        else:
            shown.append((display.humanised(key), display.readable(text, 240)))
    return shown
