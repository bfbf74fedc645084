"""Rows of results files from before `condition`: their protocol carried shots, classifier and subset in words.

They are told by the missing field `condition`. Their task is that of the measurement's kind, not always its own name:
robustness and made shifts were rows of "zero_shot", the probes of "linear_probe", both few-shot tasks of "few_shot".
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
    """Rows in the form of today; what is of that form already, or is no row at all, stays as it is.

    Args:
        rows: parsed JSON, in the order of their file.
        task: the task that measured them, where the file tells; without it two things are told from the rows around:
            a set as it is, which the task shifts measures first, and a probe on embeddings of a model with features.
    """
    new = [_new_row(row) if _is_old(row) else row for row in rows]
    changed = [row for before, row in zip(rows, new, strict=True) if before is not row]
    if task is None:
        _tell_projected_probes(changed)
        _tell_sets_as_they_are(new, changed)
        return new
    for before, row in zip(rows, new, strict=True):
        if before is not row and task in _SAME_KIND.get(str(before.get("task")), ()):
            row["task"] = task
    return new


def _tell_projected_probes(changed: Sequence[dict[str, Any]]) -> None:
    """A model with a probe on features has the one on embeddings of the task projected_probe."""
    with_features = {str(row.get("model")) for row in changed if _is_probe(row, "features")}
    for row in changed:
        if _is_probe(row, "projected") and str(row.get("model")) in with_features:
            row["task"] = "projected_probe"


def _tell_sets_as_they_are(rows: Sequence[Any], changed: Sequence[dict[str, Any]]) -> None:
    """Zero-shot's rows right before those of the same set's shifts are the task's own."""
    of_before, following = set(map(id, changed)), None
    for row in reversed(rows):
        where = _where(row) if id(row) in of_before else None
        if where is not None and _is_as_it_is(row) and where == following:
            row["task"] = "shifts"
        following = where if where is not None and row.get("task") == "shifts" else None


def _is_old(row: Any) -> bool:
    return isinstance(row, dict) and "condition" not in row


def _is_probe(row: Mapping[str, Any], protocol: str) -> bool:
    return (row.get("task"), row.get("protocol")) == ("linear_probe", protocol)


def _where(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (row.get("model"), row.get("dataset"), row.get("split"))


def _is_as_it_is(row: Mapping[str, Any]) -> bool:
    return (row.get("task"), row.get("protocol"), row.get("condition")) == ("zero_shot", "ensemble", {})


def _new_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its own task and condition; those of the row alone."""
    new = {name: value for name, value in row.items() if name != "paper"}
    if not isinstance(row.get("paper"), Mapping | None):  # it was never set: null, or an object
        new["paper"] = row["paper"]
    task, protocol = row.get("task"), row.get("protocol")
    changes: dict[str, Any] = {"condition": {}}
    if not isinstance(task, str) or not isinstance(protocol, str):
        pass
    elif task == "few_shot" and (found := _FEW_SHOT.fullmatch(protocol)):
        changes = _few_shot(found)
    elif task in ("zero_shot", "linear_probe") and (found := _SUBSET.fullmatch(protocol)):
        changes = _of_imagenet(task, {"subset": found[1]})
    elif (task, protocol) == ("linear_probe", "adapted to ImageNet"):
        changes = _of_imagenet(task, {})
    elif task == "zero_shot" and protocol in ("static", "adaptive"):
        changes = {"task": "robustness", "protocol": "ensemble", "condition": {"classifier": protocol}}
    elif (task, protocol) == ("zero_shot", "ensemble"):
        changes = _shifted(row) or changes
    elif task in ("video", "lexicon", "geolocation"):
        changes["protocol"] = _TWO_WORDS.get(protocol, protocol)
    return {**new, **changes}


def _few_shot(found: re.Match[str]) -> dict[str, Any]:
    shots = found["shots"] if found["shots"] == "full" else int(found["shots"])
    condition = {"classifier": found["classifier"], "shots": shots}
    condition |= {} if found["subset"] is None else {"subset": found["subset"]}
    task = "few_shot" if found["classifier"] == _PROBE else "few_shot_from_texts"
    return {"task": task, "protocol": "draws", "condition": condition}


def _of_imagenet(task: str, condition: Mapping[str, Any]) -> dict[str, Any]:
    """A classifier of ImageNet's classes on a shift, or on a part of ImageNet."""
    if task == "zero_shot":
        return {"task": "robustness", "protocol": "ensemble", "condition": {"classifier": "static", **condition}}
    return {"task": "imagenet_probe", "protocol": "adapted", "condition": dict(condition)}


def _shifted(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Of a made shift, whose name and severity stood in the settings and in the name of the set."""
    run = row.get("run")
    settings = run.get("settings") if isinstance(run, Mapping) else None
    if not isinstance(settings, Mapping):
        return None
    shift, of, severity = (settings.get(name) for name in ("shift", "of", "severity"))
    if not (isinstance(shift, str) and isinstance(of, str) and isinstance(severity, int) and is_number(severity)):
        return None
    rest = {name: value for name, value in settings.items() if name not in ("shift", "of", "severity")}
    condition = {"shift": shift, "severity": severity}
    return {"task": "shifts", "dataset": of, "condition": condition, "run": {**dict(run or {}), "settings": rest}}
