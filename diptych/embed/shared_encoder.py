"""The encoder behind an estimator's `model`, a name or a loaded encoder: loaded once, and shared by all clones."""

import copy
import os
import threading
from pathlib import Path
from typing import Any, Self

from diptych.embed.encoder import Encoder


class SharedEncoder:
    """Loads a model by name when it is first used, and keeps it until another name is used.

    Copies of a SharedEncoder are the same object, so that clones of an estimator do not load or copy weights. A pickle
    of it holds no weights: another process loads the model by its name.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: tuple[str | Path, Encoder] | None = None

    def get(self, model: Any) -> Encoder:
        """The encoder of `model`.

        Args:
            model: a name, in any form that `diptych.load` takes; or an object with `encode_images`.
        Raises:
            WeightsError, ConfigError: there is no such model, as in `load`.
            InputError: it is neither a name nor an encoder.
        """
        from diptych.embed.resolver import as_encoder, load  # imported here: the resolver imports every kind of model

        if not is_name(model):
            return as_encoder(model)
        with self._lock:
            if self._loaded is None or self._loaded[0] != model:
                self._loaded = (model, load(model))
            return self._loaded[1]

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()


def is_name(model: Any) -> bool:
    """Whether an estimator's `model` is a name, and not an encoder."""
    return isinstance(model, str | os.PathLike)


def deep_copy_but_model(estimator: Any, memo: dict[int, Any]) -> Any:
    """A deep copy of an estimator whose encoder is the same object: weights are not copied."""
    if not is_name(estimator.model):
        memo[id(estimator.model)] = estimator.model
    new = object.__new__(type(estimator))
    memo[id(estimator)] = new
    vars(new).update(copy.deepcopy(vars(estimator), memo))
    return new
