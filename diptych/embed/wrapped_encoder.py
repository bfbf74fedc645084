"""Wrap a user-defined encoder: the arrays that its methods return become checked tensors.

Unchecked, a bad array would become a wrong result later, or an error that does not name the model.
"""

import itertools
import logging
import traceback
import uuid
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from diptych.data.decoding import decode_image
from diptych.embed.about import About, about_object
from diptych.embed.encoder import ImageInput
from diptych.embed.image_batches import (
    OnError,
    blank_picture,
    encode_apart,
    error_reporter,
    in_batches,
    in_short,
    scattered,
)
from diptych.errors import DiptychError, ImageError, InputError, ShapeError

_UNIT_NORM_METHODS = ("encode_images", "encode_texts", "encode_pixels", "project_features")
_FEATURE_METHODS = ("image_features", "pixel_features")
_NORM_TOLERANCE = 1e-3  # half precision stays within it

_TOKENS: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
_log = logging.getLogger(__name__)


class WrappedEncoder:
    """Wraps an object with `encode_images` and, optionally, other methods of an Encoder.

    The object may return arrays, lists or tensors of any device and precision. The wrapper returns float32 tensors on
    the CPU, one row per item, of unit norm. Other attributes (`fingerprint`, `logit_scale`, ...) are passed through.

    Attributes:
        own: the wrapped object.
        name: name of the model in results.
        token: identifies the object within this process; it marks the results of an object without a fingerprint.
    """

    def __init__(self, own: Any, name: str | None = None) -> None:
        """Wrap an object.

        Args:
            own: the object.
            name: used if the object has no name.
        Raises:
            InputError: the object has no `encode_images`, or its `logit_scale` is not a number above 0.
        """
        if not callable(getattr(own, "encode_images", None)):
            raise InputError(f"{name or own!r} is a {type(own).__name__} without encode_images(images)")
        self.own, self.token = own, _token(own)
        self.name = str(getattr(own, "name", None) or name or type(own).__name__)
        self._has_warned = False
        getattr(self, "logit_scale", None)  # raises now if it is wrong, not after hours of encoding
        # Set as attributes, because isinstance with a runtime-checkable protocol does not call __getattr__.
        for method in (*_UNIT_NORM_METHODS, *_FEATURE_METHODS):
            if callable(function := getattr(own, method, None)):
                checked = self._checked(function, method)
                setattr(self, method, self._with_on_error(checked) if method == "encode_images" else checked)
        if hasattr(own, "preprocessing"):
            self.preprocessing = own.preprocessing

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {type(self.own).__name__})"

    @property
    def about(self) -> About:
        """The object's own record; if it has none, one made from its attributes."""
        stated = getattr(self.own, "about", None)
        return stated if isinstance(stated, About) else about_object(self)

    def __getattr__(self, attribute: str) -> Any:
        if attribute == "own" or attribute in (
            *_UNIT_NORM_METHODS,
            *_FEATURE_METHODS,
        ):  # `own` is missing while copy() builds the object
            raise AttributeError(attribute)
        value = getattr(self.own, attribute)
        return _scale(value, self.name) if attribute == "logit_scale" else value

    def _checked(self, function: Callable[..., Any], method: str) -> Callable[..., torch.Tensor]:
        def checked(items: Sequence[ImageInput] | Sequence[str] | torch.Tensor, /, **options: Any) -> torch.Tensor:
            try:
                vectors = function(items, **options)
            except DiptychError:
                raise
            except Exception as error:  # user code can raise anything; an InputError does not stop other data sets
                frame = traceback.extract_tb(error.__traceback__)[-1]
                raise InputError(
                    f"{self.name}: {method} of {len(items)} failed with {type(error).__name__}: {error} "
                    f"({frame.filename}, line {frame.lineno})"
                ) from error
            vectors = _tensor(vectors, f"{self.name}: {method}", len(items))
            return self._unit(vectors, method) if method in _UNIT_NORM_METHODS else vectors

        return checked

    def _with_on_error(self, encode: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        """encode_images with Diptych's on_error, which the object need not implement."""

        def encode_images(
            images: Iterable[ImageInput], /, *, on_error: OnError = "raise", **options: Any
        ) -> torch.Tensor:
            if on_error == "raise":
                return encode(images, **options)
            report, decoded, count = error_reporter(on_error), {}, 0
            for count, image in enumerate(itertools.chain.from_iterable(in_batches(images, 1)), start=1):
                try:
                    decoded[count - 1] = decode_image(image)
                except ImageError as error:
                    report(count - 1, error)
            rows, indices = None, list(decoded)
            if decoded:
                rows, failed = encode_apart(lambda batch: encode(batch, **options), list(decoded.values()))
                for row, problem in failed.items():
                    report(indices[row], ImageError(in_short(problem)))
                indices = [index for row, index in enumerate(indices) if row not in failed]
            if rows is None:  # a blank image gives the width of a row, or raises if no image can be encoded
                rows = encode([blank_picture()], **options)[:0]
            return scattered(rows, indices, count)

        return encode_images

    def _unit(self, vectors: torch.Tensor, method: str) -> torch.Tensor:
        """Scale rows to unit norm. NaN is kept: the caller detects it and knows the sample's name."""
        norms = vectors.double().norm(dim=1, keepdim=True)
        if zeros := int((norms == 0).sum()):
            raise InputError(f"{self.name}: {method} gave {zeros} of {len(vectors)} vectors that are zero")
        deviations = (norms - 1).abs()
        if not bool((deviations > _NORM_TOLERANCE).any()):
            return vectors
        if not self._has_warned:
            worst = float(norms[deviations.nan_to_num().argmax()])
            _log.warning("%s: %s gave vectors of norm %.3g; they are scaled to 1 here", self.name, method, worst)
            self._has_warned = True
        return (vectors / norms).float()


def _token(own: Any) -> str:
    """A random token: one per object, unique across processes."""
    try:
        return _TOKENS.setdefault(own, uuid.uuid4().hex)
    except TypeError:  # the object has no hash or no weak references
        return uuid.uuid4().hex


def _scale(value: Any, name: str) -> float:
    """The logit scale exp(t) as a float."""
    try:
        scale = float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name}: its logit_scale is no number, but {value!r:.60}: exp(t) is needed") from error
    if not 0 < scale < float("inf"):
        raise InputError(f"{name}: its logit_scale is {scale:g}; it multiplies cosines, so it must be above 0: exp(t)")
    return scale


def _tensor(values: Any, source: str, count: int) -> torch.Tensor:
    try:
        vectors = _numbers(values).detach().float().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{source} gave a {type(values).__name__} that is no array of numbers: {error}") from error
    if vectors.ndim != 2 or len(vectors) != count or not vectors.shape[1]:
        raise ShapeError(f"{source} gave an array of shape {tuple(vectors.shape)} for {count}; it must be ({count}, E)")
    return vectors


def _numbers(values: Any) -> torch.Tensor:
    """Convert any container of real numbers to a tensor; sparse and masked arrays are refused."""
    if isinstance(values, list | tuple) and values and all(isinstance(row, torch.Tensor) for row in values):
        values = torch.stack(list(values))
    if isinstance(values, torch.Tensor):
        if values.layout != torch.strided or values.is_complex():
            raise TypeError(f"it is {values.dtype}, {values.layout}")
        return values
    array = np.asanyarray(values)
    if array.dtype.kind not in "fiub" or isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"it is a {type(array).__name__} of {array.dtype}")
    return torch.from_numpy(np.array(array, np.float32))  # of any byte order and any strides
