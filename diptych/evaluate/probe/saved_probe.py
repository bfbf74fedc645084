"""A LinearProbe in a folder, and back: JSON and safetensors, no pickle."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diptych.embed.estimator_folder import DESCRIPTION, Saved, read_estimator, write_estimator
from diptych.errors import DataError, InputError
from diptych.evaluate.probe.logistic import Fitted
from diptych.evaluate.probe.penalty_search import Search, Trial

_ARRAYS = {"weights": np.float64, "bias": np.float64}
_NUMBERS = ("penalty", "objective", "excess", "iterations", "converged")  # of a Fitted
_KINDS = {"b": "bool", "i": "int64", "u": "uint64", "f": "float64", "U": "str", "O": "object"}  # of labels


def write_probe(folder: str | Path, probe: Any) -> None:
    """Write a LinearProbe, fitted or not; see `LinearProbe.save`."""
    parameters = probe.get_params()
    if not hasattr(probe, "coef_"):
        write_estimator(folder, probe, Saved(parameters))
        return
    labels = probe.classes_.tolist()
    if probe.classes_.dtype.kind not in _KINDS or not all(isinstance(label, str | int | float) for label in labels):
        raise InputError(f"classes of type {probe.classes_.dtype} cannot be saved; use texts or numbers as labels")
    solution, search = probe.fitted_, probe.search_
    fitted = {
        "classes": {"type": _KINDS[probe.classes_.dtype.kind], "values": labels},
        "label_type": str(probe._label_type) if probe._several else None,
        "solution": {name: getattr(solution, name) for name in _NUMBERS},
        "search": None if search is None else [dataclasses.asdict(trial) for trial in search.trials],
        "best": None if search is None else search.trials.index(search.best),
        "feature_names": None if not hasattr(probe, "feature_names_in_") else probe.feature_names_in_.tolist(),
    }
    arrays = {"weights": np.ascontiguousarray(solution.weights), "bias": np.ascontiguousarray(solution.bias)}
    write_estimator(folder, probe, Saved(parameters, fitted=fitted, arrays=arrays))


def read_probe(folder: str | Path, empty: Any) -> Any:
    """Fill a LinearProbe with what `write_probe` has written; see `LinearProbe.load`.

    Args:
        empty: a LinearProbe of default parameters.
    """
    saved = read_estimator(folder, type(empty), set(empty.get_params()), _ARRAYS)
    probe = empty.set_params(**saved.parameters)
    if saved.fitted is None:
        return probe
    try:
        _fill(probe, saved.fitted, saved.arrays)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise DataError(f"{Path(folder) / DESCRIPTION} is damaged: {type(error).__name__}: {error}") from error
    return probe


def _fill(probe: Any, fitted: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    weights, bias = arrays["weights"], arrays["bias"]
    kind, labels = fitted["classes"]["type"], list(fitted["classes"]["values"])
    if kind not in _KINDS.values() or not all(isinstance(label, str | int | float) for label in labels):
        raise ValueError(f"labels of the type {kind}")
    probe.classes_ = np.array(labels, dtype=kind)
    probe._several = fitted["label_type"] is not None
    num_outputs = len(labels) if probe._several or len(labels) > 2 else 1
    if weights.ndim != 2 or weights.shape[0] != num_outputs or bias.shape != (num_outputs,) or not labels:
        raise ValueError(f"weights {weights.shape} and bias {bias.shape} of {len(labels)} classes")
    probe._label_type = np.dtype(_label_type(fitted["label_type"])) if probe._several else probe.classes_.dtype
    numbers = fitted["solution"]
    probe.fitted_ = Fitted(
        weights,
        bias,
        penalty=float(numbers["penalty"]),
        objective=float(numbers["objective"]),
        excess=float(numbers["excess"]),
        iterations=int(numbers["iterations"]),
        converged=bool(numbers["converged"]),
    )
    probe.search_ = None
    if fitted["search"] is not None:
        trials = tuple(
            Trial(*(float(trial[name]) for name in ("penalty", "score", "loss"))) for trial in fitted["search"]
        )
        probe.search_ = Search(trials[fitted["best"]], trials)
    probe.lambda_, probe.coef_, probe.intercept_ = probe.fitted_.penalty, weights, bias
    probe.n_features_in_ = weights.shape[1]
    probe.n_iter_ = np.array([probe.fitted_.iterations], np.int32)
    if (names := fitted["feature_names"]) is not None:
        probe.feature_names_in_ = np.array([str(name) for name in names], dtype=object)


def _label_type(name: str) -> str:
    """The type of multi-label predictions: bool, or a number of a fixed size."""
    if np.dtype(name).kind not in "biuf":
        raise ValueError(f"predictions of the type {name!r}")
    return name
