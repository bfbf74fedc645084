"""Conversion of old rows of results files, whose `protocol` held shots, classifier and subset as text.

Old rows have no field `condition`. Their `task` is the kind of the measurement, not always the task's own name:
robustness and made shifts were rows of "zero_shot", all probes of "linear_probe", both few-shot tasks of "few_shot".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from diptych.records.result import is_number

_FEW_SHOT = re.compile(r"(?P<classifier>\S+) (?P<shots>0|[1-9][0-9]{0,8}|full)-shot(?: on (?P<subset>\S+))?")
_SUBSET = re.compile(r"on (\S+)")
_TWO_WORDS = {
    "frames averaged": "frames_averaged",
    "own lexicon": "own_lexicon",
    "nearest neighbour": "nearest_neighbour",
}
_PROBE = "probe"
_SAME_KIND = {
    "zero_shot": ("zero_shot", "robustness", "shifts"),
    "linear_probe": ("linear_probe", "projected_probe", "imagenet_probe"),
    "few_shot": ("few_shot", "few_shot_from_texts"),
}


def as_new_rows(rows: Sequence[Any], task: str | None = None) -> list[Any]:
    """Convert old rows to the current form. Current rows, and values that are not rows, are returned unchanged.

    Args:
        rows: parsed JSON, in the order of their file.
        task: the task that measured the rows, if known. Without it, neighboring rows decide two cases: the clean set
            that the task "shifts" measures first, and the probe on embeddings of a model that also has features.
    """
    new = [_new_row(row) if _is_old(row) else row for row in rows]
    changed = [row for before, row in zip(rows, new, strict=True) if before is not row]
    if task is None:
        _mark_projected_probes(changed)
        _mark_clean_sets(new, changed)
        return new
    for before, row in zip(rows, new, strict=True):
        if before is not row and task in _SAME_KIND.get(str(before.get("task")), ()):
            row["task"] = task
    return new


def _mark_projected_probes(changed: Sequence[dict[str, Any]]) -> None:
    """If a model has a probe on features, its probe on embeddings belongs to the task projected_probe."""
    with_features = {str(row.get("model")) for row in changed if _is_probe(row, "features")}
    for row in changed:
        if _is_probe(row, "projected") and str(row.get("model")) in with_features:
            row["task"] = "projected_probe"


def _mark_clean_sets(rows: Sequence[Any], changed: Sequence[dict[str, Any]]) -> None:
    """A zero-shot row directly before shift rows of the same set belongs to the task shifts."""
    changed_ids, following = set(map(id, changed)), None
    for row in reversed(rows):
        place = _place(row) if id(row) in changed_ids else None
        if place is not None and _is_clean(row) and place == following:
            row["task"] = "shifts"
        following = place if place is not None and row.get("task") == "shifts" else None


def _is_old(row: Any) -> bool:
    return isinstance(row, dict) and "condition" not in row


def _is_probe(row: Mapping[str, Any], protocol: str) -> bool:
    return (row.get("task"), row.get("protocol")) == ("linear_probe", protocol)


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (row.get("model"), row.get("dataset"), row.get("split"))


def _is_clean(row: Mapping[str, Any]) -> bool:
    return (row.get("task"), row.get("protocol"), row.get("condition")) == ("zero_shot", "ensemble", {})


def _new_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its task and condition, as far as the row alone shows them."""
    new = {name: value for name, value in row.items() if name != "paper"}
    if not isinstance(row.get("paper"), Mapping | None):  # the field was never used: null or an object
        new["paper"] = row["paper"]
    task, protocol = row.get("task"), row.get("protocol")
    changes: dict[str, Any] = {"condition": {}}
    if not isinstance(task, str) or not isinstance(protocol, str):
        pass
    elif task == "few_shot" and (match := _FEW_SHOT.fullmatch(protocol)):
        changes = _few_shot_changes(match)
    elif task in ("zero_shot", "linear_probe") and (match := _SUBSET.fullmatch(protocol)):
        changes = _imagenet_changes(task, {"subset": match[1]})
    elif (task, protocol) == ("linear_probe", "adapted to ImageNet"):
        changes = _imagenet_changes(task, {})
    elif task == "zero_shot" and protocol in ("static", "adaptive"):
        changes = {"task": "robustness", "protocol": "ensemble", "condition": {"classifier": protocol}}
    elif (task, protocol) == ("zero_shot", "ensemble"):
        changes = _shift_changes(row) or changes
    elif task in ("video", "lexicon", "geolocation"):
        changes["protocol"] = _TWO_WORDS.get(protocol, protocol)
    return {**new, **changes}


def _few_shot_changes(match: re.Match[str]) -> dict[str, Any]:
    shots = match["shots"] if match["shots"] == "full" else int(match["shots"])
    condition = {"classifier": match["classifier"], "shots": shots}
    condition |= {} if match["subset"] is None else {"subset": match["subset"]}
    task = "few_shot" if match["classifier"] == _PROBE else "few_shot_from_texts"
    return {"task": task, "protocol": "draws", "condition": condition}


def _imagenet_changes(task: str, condition: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a classifier of ImageNet's classes, measured on a shift or on a part of ImageNet."""
    if task == "zero_shot":
        return {"task": "robustness", "protocol": "ensemble", "condition": {"classifier": "static", **condition}}
    return {"task": "imagenet_probe", "protocol": "adapted", "condition": dict(condition)}


def _shift_changes(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Fields of a made shift, whose name and severity were in the settings and in the name of the set."""
    run = row.get("run")
    settings = run.get("settings") if isinstance(run, Mapping) else None
    if not isinstance(settings, Mapping):
        return None
    shift, dataset, severity = (settings.get(name) for name in ("shift", "of", "severity"))
    if not (isinstance(shift, str) and isinstance(dataset, str) and isinstance(severity, int) and is_number(severity)):
        return None
    other_settings = {name: value for name, value in settings.items() if name not in ("shift", "of", "severity")}
    condition = {"shift": shift, "severity": severity}
    return {
        "task": "shifts",
        "dataset": dataset,
        "condition": condition,
        "run": {**dict(run or {}), "settings": other_settings},
    }
