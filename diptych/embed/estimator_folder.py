"""Folders of saved estimators: estimator.json, and arrays in estimator.safetensors. Nothing in them is executed.

A model is saved as its name and fingerprints, not as weights. `load` refuses another model of the same name.
"""

import dataclasses
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from diptych.embed.about import about
from diptych.embed.encoder import Encoder
from diptych.embed.model_names import PYTHON
from diptych.embed.shared_encoder import SharedEncoder, is_name
from diptych.errors import DataError, InputError, WeightsError
from diptych.files import absence, expanded, new_folder, read_object, shown, writing

FORMAT_VERSION = 1
DESCRIPTION, ARRAYS = "estimator.json", "estimator.safetensors"
_FORMAT = "diptych estimator"
_MOST_JSON_BYTES = 64 * 2**20
_MOST_HEADER_BYTES = 2**20
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Saved:
    """The content of a saved estimator.

    Attributes:
        parameters: arguments of the constructor, without the model.
        model: {"name", "image_fingerprint", "text_fingerprint"}; None for an estimator without a model.
        fitted: what `fit` learned, apart from the arrays; None for an estimator that is not fitted.
        arrays: arrays by name.
    """

    parameters: dict[str, Any]
    model: dict[str, Any] | None = None
    fitted: dict[str, Any] | None = None
    arrays: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


def write_estimator(folder: str | Path, estimator: object, saved: Saved) -> None:
    """Write an estimator's folder completely or not at all; an older estimator of that name is replaced.

    Raises:
        DataError: the folder holds other files, or cannot be written.
        InputError: a parameter is not a text, a number, a list of these, or None.
    """
    place = expanded(folder)
    _check_place(place, folder)
    description = {"format": _FORMAT, "format_version": FORMAT_VERSION, "estimator": type(estimator).__name__}
    description |= {
        "parameters": {name: _plain(value, name) for name, value in saved.parameters.items()},
        "model": saved.model,
        "fitted": saved.fitted,
    }
    with writing(place), new_folder(place, replace=True) as unfinished:
        (unfinished / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
        if saved.arrays:
            (unfinished / ARRAYS).write_bytes(safetensors.numpy.save(dict(saved.arrays)))


def read_estimator(folder: str | Path, estimator: type, known: set[str], arrays: Mapping[str, type] = {}) -> Saved:
    """Read the folder of an estimator of this class.

    Args:
        known: the parameters that may be in it.
        arrays: the arrays that a fitted one has, and their types; all are finite numbers.
    Raises:
        DataError: the folder is missing, damaged, of another class, or from a newer version of Diptych.
    """
    place = expanded(folder)
    path = place / DESCRIPTION
    if not path.is_file():
        raise DataError(f"{absence(path)}; {estimator.__name__}.load reads a folder that its save has written")
    if path.stat().st_size > _MOST_JSON_BYTES:
        raise DataError(f"{path} has {path.stat().st_size:,} bytes, too many for an estimator")
    values = read_object(path)
    if values.get("format") != _FORMAT or values.get("estimator") != estimator.__name__:
        raise DataError(f"{path} holds {values.get('estimator')!r}, not a {estimator.__name__}")
    if values.get("format_version") != FORMAT_VERSION:
        raise DataError(
            f"{path} has format version {values.get('format_version')!r}, this version of Diptych reads "
            f"{FORMAT_VERSION}"
        )
    parameters, model, fitted = (values.get(name) for name in ("parameters", "model", "fitted"))
    if not isinstance(parameters, dict) or not isinstance(model, dict | None) or not isinstance(fitted, dict | None):
        raise DataError(f"{path} is damaged: parameters, model and fitted must be objects")
    if unknown := sorted(set(parameters) - known):
        raise DataError(f"{path} has parameters that {estimator.__name__} does not take: {', '.join(unknown[:5])}")
    return Saved(parameters, model, fitted, _read_arrays(place / ARRAYS, arrays) if fitted is not None else {})


def describe_model(encoder: Encoder, model: Any, *, texts: bool) -> dict[str, Any]:
    """The `model` of a Saved: how it is named, and the fingerprints of its weights.

    Args:
        encoder: the loaded model.
        model: the estimator's argument, a name or the encoder.
        texts: whether the estimator depends on the model's text side, too.
    """
    record = about(encoder)
    return {
        "name": str(model) if is_name(model) else str(encoder.name),
        "image_fingerprint": record.image_fingerprint,
        "text_fingerprint": record.text_fingerprint if texts else None,
    }


def open_model(saved: Saved, folder: str | Path, model: Any, shared: SharedEncoder) -> Any:
    """The model of a saved estimator, after a check that it is the one that was saved.

    Args:
        model: a name or an encoder; None takes the name in the folder.
        shared: loads it.
    Returns:
        The `model` for the constructor: a name, or the given encoder.
    Raises:
        WeightsError: there is no such model, or its weights, tokenizer or preprocessing differ from the saved one's.
        InputError: the folder names a python: object. A file must not choose the code that runs.
    """
    described = saved.model or {}
    name = described.get("name")
    if model is None:
        if not isinstance(name, str) or not name:
            raise DataError(f"{expanded(folder) / DESCRIPTION} names no model; give load(folder, model=...)")
        if name.partition(":")[0] == PYTHON:
            raise InputError(
                f"{folder} names the model {name}, which is code; if you trust it, load it yourself and give "
                "load(folder, model=...)"
            )
        model = name
    try:
        record = about(shared.get(model))
    except WeightsError as error:
        raise WeightsError(
            f"{folder} was saved with the model {name!r}; give load(folder, model=...): {error}"
        ) from error
    for kind in ("image_fingerprint", "text_fingerprint"):
        before, now = described.get(kind), getattr(record, kind)
        if before is not None and before != now:
            raise WeightsError(
                f"{folder} was saved with another model than {name if is_name(model) else model!r}: the {kind} "
                f"was {str(before)[:12]}, now it is {str(now)[:12]} (weights, preprocessing, tokenizer or precision "
                "differ)"
            )
    if described.get("image_fingerprint") is None:
        _log.warning("the model %s states no fingerprint: whether %s was saved with it cannot be checked", name, folder)
    return model


def _check_place(place: Path, folder: str | Path) -> None:
    if not place.name:  # "", "." and "/"
        raise DataError(f"an estimator is saved in a folder with a name of its own, not in {str(folder)!r}")
    if place.exists() and not place.is_dir():
        raise DataError(f"{place} is a file; an estimator is saved in a folder")
    if place.is_dir() and (others := sorted({path.name for path in place.iterdir()} - {DESCRIPTION, ARRAYS})):
        raise DataError(
            f"{place} holds other files than an estimator's ({', '.join(others[:5])}); move them away, or choose "
            "another folder"
        )


def _plain(value: Any, name: str) -> Any:
    """A parameter as JSON holds it."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item, name) for item in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise InputError(
        f"the parameter {name} is {shown(value)}, which cannot be saved without pickle; set_params({name}=...) to a "
        "text, a number or None first"
    )


def _read_arrays(path: Path, wanted: Mapping[str, type]) -> dict[str, np.ndarray]:
    """The arrays of a file, each of its type and finite; the file's size limits theirs."""
    try:
        with path.open("rb") as file:
            if int.from_bytes(file.read(8), "little") > _MOST_HEADER_BYTES:
                raise ValueError("its header is too large")
        with safetensors.safe_open(path, "numpy") as opened:
            arrays = {name: opened.get_tensor(name) for name in wanted}
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise DataError(f"{path} is missing or damaged: {error}; save the estimator again") from error
    for name, array in arrays.items():
        if array.dtype != np.dtype(wanted[name]) or not np.isfinite(array).all():
            raise DataError(f"{path} is damaged: {name} must hold finite numbers of type {np.dtype(wanted[name])}")
    return arrays
